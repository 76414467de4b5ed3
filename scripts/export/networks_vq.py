"""VQModel as Kandinsky uses it (MoVQ): between pixels and latents, past the codebook."""

from typing import Any

from diffusers import VQModel
from torch import Tensor, nn

from networks import Entry, Inputs, Network, build_on_meta, require_config
from networks_autoencoder import latents, pixels


def vq_model(config: dict[str, Any]) -> Network:
    require_config(config, "down_block_types", {"DownEncoderBlock2D", "AttnDownEncoderBlock2D"})
    require_config(config, "up_block_types", {"UpDecoderBlock2D", "AttnUpDecoderBlock2D"})
    require_config(config, "norm_type", {None, "group", "spatial"})
    require_config(config, "lookup_from_codebook", {None, False})
    factor = 2 ** (len(config["block_out_channels"]) - 1)

    encode = Entry(
        name="encode",
        inputs=("sample",),
        outputs=("latents",),
        run=lambda model, tensors: model.quant_conv(model.encoder(tensors["sample"])),
        eager=lambda model, tensors: model.encode(tensors["sample"], return_dict=False),
        make=pixels(config["in_channels"], factor),
        example_case={"batch": 2, "height": 5, "width": 3},
        cases=(
            {"batch": 1, "height": 8, "width": 8},
            {"batch": 2, "height": 9, "width": 7},
            {"batch": 3, "height": 3, "width": 6},
        ),
        reference="sample",
        prefixes=("encoder.", "quant_conv."),
    )
    decode = Entry(
        name="decode",
        inputs=("latents",),
        outputs=("sample",),
        run=_decode,
        eager=lambda model, tensors: model.decode(
            tensors["latents"], force_not_quantize=True, return_dict=False
        )[:1],
        make=latents(config.get("vq_embed_dim") or config["latent_channels"]),
        example_case=encode.example_case,
        cases=encode.cases,
        reference="latents",
        prefixes=("decoder.", "post_quant_conv."),
    )
    return Network(lambda: build_on_meta(lambda: VQModel(**config)), (encode, decode))


def _decode(model: nn.Module, tensors: Inputs) -> Tensor:
    given = tensors["latents"]
    spatial = model.config.norm_type == "spatial"
    return model.decoder(model.post_quant_conv(given), given if spatial else None)

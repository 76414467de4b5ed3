"""AutoencoderKL: pixels to the mean and spread of their latents, and latents to pixels.

AutoencoderTiny: pixels to latents and back.
"""

from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor, nn

from networks import Entry, Inputs, MakeInputs, Network, build_on_meta, require_config


def autoencoder_kl(config: dict[str, Any]) -> Network:
    require_config(config, "down_block_types", {"DownEncoderBlock2D"})
    require_config(config, "up_block_types", {"UpDecoderBlock2D"})
    factor = 2 ** (len(config["block_out_channels"]) - 1)

    encode = Entry(
        name="encode",
        inputs=("sample",),
        outputs=("mean", "std"),
        run=_encode,
        eager=_eager_encode,
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
        eager=lambda model, tensors: model.decode(tensors["latents"], return_dict=False),
        make=latents(config["latent_channels"]),
        example_case=encode.example_case,
        cases=encode.cases,
        reference="latents",
        prefixes=("decoder.", "post_quant_conv."),
    )
    return Network(lambda: build_on_meta(lambda: AutoencoderKL(**config)), (encode, decode))


def autoencoder_tiny(config: dict[str, Any]) -> Network:
    require_config(config, "upsample_fn", {None, "nearest"})
    encode = Entry(
        name="encode",
        inputs=("sample",),
        outputs=("latents",),
        run=lambda model, tensors: model.encoder(tensors["sample"]),
        eager=lambda model, tensors: model.encode(tensors["sample"], return_dict=False),
        make=pixels(config["in_channels"], 2 ** (len(config["num_encoder_blocks"]) - 1)),
        example_case={"batch": 2, "height": 5, "width": 3},
        cases=(
            {"batch": 1, "height": 8, "width": 8},
            {"batch": 2, "height": 9, "width": 7},
            {"batch": 3, "height": 3, "width": 6},
        ),
        reference="sample",
        prefixes=("encoder.",),
    )
    decode = Entry(
        name="decode",
        inputs=("latents",),
        outputs=("sample",),
        run=lambda model, tensors: model.decoder(tensors["latents"]),
        eager=lambda model, tensors: model.decode(tensors["latents"], return_dict=False),
        make=latents(config["latent_channels"]),
        example_case=encode.example_case,
        cases=encode.cases,
        reference="latents",
        prefixes=("decoder.",),
    )
    return Network(lambda: build_on_meta(lambda: AutoencoderTiny(**config)), (encode, decode))


def _encode(model: nn.Module, tensors: Inputs) -> tuple[Tensor, Tensor]:
    moments = model.encoder(tensors["sample"])
    if model.quant_conv is not None:
        moments = model.quant_conv(moments)
    mean, log_variance = moments.chunk(2, dim=1)
    return mean, torch.exp(0.5 * log_variance.clamp(-30.0, 20.0))


def _eager_encode(model: nn.Module, tensors: Inputs) -> tuple[Tensor, ...]:
    distribution = model.encode(tensors["sample"], return_dict=False)[0]
    return distribution.mean, distribution.std


def _decode(model: nn.Module, tensors: Inputs) -> Tensor:
    latents = tensors["latents"]
    if model.post_quant_conv is not None:
        latents = model.post_quant_conv(latents)
    return model.decoder(latents)


def pixels(channels: int, factor: int) -> MakeInputs:
    def make(case: dict[str, int], generator: torch.Generator) -> Inputs:
        size = (case["height"] * factor, case["width"] * factor)
        return {"sample": torch.rand(case["batch"], channels, *size, generator=generator) * 2 - 1}

    return make


def latents(channels: int) -> MakeInputs:
    def make(case: dict[str, int], generator: torch.Generator) -> Inputs:
        shape = (case["batch"], channels, case["height"], case["width"])
        return {"latents": torch.randn(shape, generator=generator)}

    return make

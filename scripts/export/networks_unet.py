"""UNet2DConditionModel."""

from collections.abc import Iterator
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from networks import Entry, Inputs, Network, build_on_meta, require_config

_DOWN_BLOCKS = {"DownBlock2D", "CrossAttnDownBlock2D"}
_UP_BLOCKS = {"UpBlock2D", "CrossAttnUpBlock2D"}
_MID_BLOCKS = {None, "UNetMidBlock2D", "UNetMidBlock2DCrossAttn"}

_SKIP = "down_block_additional_residuals"


def unet_2d_condition(config: dict[str, Any]) -> Network:
    require_config(config, "down_block_types", _DOWN_BLOCKS)
    require_config(config, "up_block_types", _UP_BLOCKS)
    require_config(config, "mid_block_type", _MID_BLOCKS)
    require_config(config, "addition_embed_type", {None, "text_time"})
    require_config(config, "encoder_hid_dim_type", {None, "text_proj"})
    require_config(
        config, "class_embed_type", {None, "timestep", "projection", "simple_projection"}
    )
    require_config(config, "attention_type", {None, "default"})
    require_config(config, "dual_cross_attention", {None, False})
    require_config(config, "time_embedding_type", {None, "positional"})

    inputs = ["sample", "timestep", "encoder_hidden_states"]
    dtypes = {"timestep": "float32"}
    sinusoids = 1
    if config.get("time_cond_proj_dim") is not None:
        inputs.append("timestep_cond")
    class_type, classes = config.get("class_embed_type"), config.get("num_class_embeds")
    if class_type is not None or classes is not None:
        inputs.append("class_labels")
        if class_type is None:
            dtypes["class_labels"] = "int64"
        elif class_type == "timestep":
            dtypes["class_labels"] = "float32"
            sinusoids += 1
    if config.get("addition_embed_type") == "text_time":
        inputs += ["text_embeds", "time_ids"]
        sinusoids += 1
    skips = [f"{_SKIP}.{index}" for index, _ in enumerate(skip_shapes(config, 1, 1))]
    residuals = (*skips, "mid_block_additional_residual")

    def make(case: dict[str, int], generator: torch.Generator) -> Inputs:
        tensors = {name: _random_input(name, config, case, generator) for name in inputs}
        if case["residuals"]:
            shapes = list(skip_shapes(config, case["height"], case["width"]))
            for name, shape in zip(residuals, [*shapes, shapes[-1]], strict=True):
                tensors[name] = torch.randn(case["batch"], *shape, generator=generator)
        return tensors

    entry = Entry(
        name="forward",
        inputs=(*inputs, *residuals),
        outputs=("sample",),
        run=lambda model, tensors: _call(model, tensors)[0],
        eager=_call,
        make=make,
        # No multiple of the down-scale, so that up-sampling follows the skip connections.
        example_case=_case(2, 9, 7, length=5, residuals=1),
        cases=(
            _case(1, 16, 16, length=77, residuals=0),
            _case(2, 12, 20, length=13, timesteps=2, residuals=1),
            _case(3, 9, 7, length=154, residuals=0),
        ),
        reference="sample",
        float_casts=sinusoids,
        dtypes=dtypes,
        optional=residuals,
    )
    return Network(lambda: build_on_meta(lambda: UNet2DConditionModel(**config)), (entry,))


def skip_shapes(config: dict[str, Any], height: int, width: int) -> Iterator[tuple[int, ...]]:
    """Channels and sizes of the skip connections; the last one's are the middle block's too."""
    channels, layers = config["block_out_channels"], config["layers_per_block"]
    padding = config.get("downsample_padding", 1)
    # Without padding on both sides a row and a column are added at the ends.
    border = 2 * padding if padding > 0 else 1
    yield channels[0], height, width
    for level, count in enumerate(channels):
        for _ in range(layers[level] if isinstance(layers, list) else layers):
            yield count, height, width
        if level < len(channels) - 1:
            height, width = ((size + border - 3) // 2 + 1 for size in (height, width))
            yield count, height, width


def _case(
    batch: int, height: int, width: int, *, length: int, residuals: int, timesteps: int = 1
) -> dict[str, int]:
    sizes = {"batch": batch, "height": height, "width": width, "length": length}
    return {**sizes, "timesteps": timesteps, "residuals": residuals}


def _call(model: nn.Module, tensors: Inputs) -> tuple[Tensor, ...]:
    skips = [tensor for name, tensor in tensors.items() if name.startswith(_SKIP)]
    added = {name: tensors[name] for name in ("text_embeds", "time_ids") if name in tensors}
    return model(
        tensors["sample"],
        tensors["timestep"],
        tensors["encoder_hidden_states"],
        class_labels=tensors.get("class_labels"),
        timestep_cond=tensors.get("timestep_cond"),
        added_cond_kwargs=added or None,
        down_block_additional_residuals=skips or None,
        mid_block_additional_residual=tensors.get("mid_block_additional_residual"),
        return_dict=False,
    )


def _random_input(
    name: str, config: dict[str, Any], case: dict[str, int], generator: torch.Generator
) -> Tensor:
    batch = case["batch"]
    if name == "sample":
        shape = (batch, config["in_channels"], case["height"], case["width"])
        return torch.randn(shape, generator=generator)
    if name == "timestep":
        return torch.rand(case["timesteps"], generator=generator) * 999
    if name == "encoder_hidden_states":
        width = config.get("encoder_hid_dim") or _last(config["cross_attention_dim"])
        return torch.randn(batch, case["length"], width, generator=generator)
    if name == "timestep_cond":
        return torch.randn(batch, config["time_cond_proj_dim"], generator=generator)
    if name == "class_labels":
        if config.get("class_embed_type") is None:
            return torch.randint(config["num_class_embeds"], (batch,), generator=generator)
        if config["class_embed_type"] == "timestep":
            return torch.rand(batch, generator=generator) * 999
        width = config["projection_class_embeddings_input_dim"]
        return torch.randn(batch, width, generator=generator)
    # The pooled text and the embedded sizes in pixels fill the projection's width together. How
    # they share it is up to the pipeline: six numbers in SDXL, five or six in its refiner.
    embedded, total = (
        config["addition_time_embed_dim"],
        config["projection_class_embeddings_input_dim"],
    )
    ids = 6 if total > 6 * embedded else 1
    width = total - ids * embedded
    if name == "text_embeds":
        return torch.randn(batch, width, generator=generator)
    return torch.randint(64, 1024, (batch, ids), generator=generator).float()


def _last(value: Any) -> int:
    return value[-1] if isinstance(value, list) else value

"""UNet2DConditionModel."""

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from errors import unsupported
from networks import Entry, Inputs, Network, build_on_meta, require_config
from unet_inputs import (
    Case,
    comparison_cases,
    conditions,
    example_case,
    random_inputs,
    skip_shapes,
    takes_any_size,
)

_DOWN_BLOCKS = {
    "DownBlock2D",
    "CrossAttnDownBlock2D",
    "ResnetDownsampleBlock2D",
    "SimpleCrossAttnDownBlock2D",
    "KDownBlock2D",
    "KCrossAttnDownBlock2D",
}
_UP_BLOCKS = {name.replace("Down", "Up") for name in _DOWN_BLOCKS}
_MID_BLOCKS = {
    None,
    "UNetMidBlock2D",
    "UNetMidBlock2DCrossAttn",
    "UNetMidBlock2DSimpleCrossAttn",
}

_SKIP = "down_block_additional_residuals"
_MID = "mid_block_additional_residual"


def unet_2d_condition(config: dict[str, Any]) -> Network:
    _check(config)
    taken = conditions(config)
    inputs = ("sample", *taken.names)
    residuals = _residuals(config)

    def make(case: Case, generator: torch.Generator) -> Inputs:
        tensors = random_inputs(config, inputs, case, generator)
        if case.get("residuals") == 1:
            shapes = list(skip_shapes(config, case["height"], case["width"]))
            for name, shape in zip(residuals, [*shapes, shapes[-1]], strict=True):
                tensors[name] = torch.randn(case["batch"], *shape, generator=generator)
        return tensors

    def with_residuals(case: Case, given: int) -> Case:
        return {**case, "residuals": given} if residuals else case

    entry = Entry(
        name="forward",
        inputs=(*inputs, *residuals),
        outputs=("sample",),
        run=lambda model, tensors: _call(model, tensors)[0],
        eager=_call,
        make=make,
        example_case=with_residuals(example_case(config), 1),
        cases=tuple(
            with_residuals(case, index % 2) for index, case in enumerate(comparison_cases(config))
        ),
        reference="sample",
        float_casts=taken.sinusoids,
        dtypes=taken.dtypes,
        optional=residuals,
    )
    return Network(lambda: build_on_meta(lambda: UNet2DConditionModel(**config)), (entry,))


def _check(config: dict[str, Any]) -> None:
    require_config(config, "down_block_types", _DOWN_BLOCKS)
    require_config(config, "up_block_types", _UP_BLOCKS)
    require_config(config, "mid_block_type", _MID_BLOCKS)
    require_config(config, "addition_embed_type", {None, "text_time", "image"})
    require_config(config, "encoder_hid_dim_type", {None, "text_proj", "image_proj"})
    require_config(
        config, "class_embed_type", {None, "timestep", "projection", "simple_projection"}
    )
    require_config(config, "attention_type", {None, "default"})
    require_config(config, "dual_cross_attention", {None, False})
    require_config(config, "time_embedding_type", {None, "positional", "fourier"})
    by_image = config.get("encoder_hid_dim_type") == "image_proj"
    if by_image != (config.get("addition_embed_type") == "image"):
        raise unsupported("The exporter supports images as a condition only in place of text.")


def _residuals(config: dict[str, Any]) -> tuple[str, ...]:
    """What a ControlNet adds. There is none for UNets with other blocks than Stable Diffusion's."""
    if not takes_any_size(config):
        return ()
    return (*(f"{_SKIP}.{index}" for index, _ in enumerate(skip_shapes(config, 1, 1))), _MID)


def _call(model: nn.Module, tensors: Inputs) -> tuple[Tensor, ...]:
    skips = [tensor for name, tensor in tensors.items() if name.startswith(_SKIP)]
    added_names = ("text_embeds", "time_ids", "image_embeds")
    added = {name: tensors[name] for name in added_names if name in tensors}
    return model(
        tensors["sample"],
        tensors["timestep"],
        tensors.get("encoder_hidden_states"),
        class_labels=tensors.get("class_labels"),
        timestep_cond=tensors.get("timestep_cond"),
        added_cond_kwargs=added or None,
        down_block_additional_residuals=skips or None,
        mid_block_additional_residual=tensors.get(_MID),
        return_dict=False,
    )

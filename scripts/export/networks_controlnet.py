"""ControlNetModel: what it adds to a UNet's skip connections, before any scale."""

from typing import Any

import torch
from diffusers import ControlNetModel
from torch import Tensor, nn

from networks import Entry, Inputs, Network, build_on_meta, require_config
from unet_inputs import (
    Case,
    comparison_cases,
    conditions,
    example_case,
    random_inputs,
    skip_shapes,
)


def controlnet(config: dict[str, Any]) -> Network:
    require_config(config, "down_block_types", {"DownBlock2D", "CrossAttnDownBlock2D"})
    require_config(config, "mid_block_type", {"UNetMidBlock2D", "UNetMidBlock2DCrossAttn"})
    require_config(config, "addition_embed_type", {None, "text_time"})
    require_config(config, "class_embed_type", {None, "timestep", "projection"})
    # The library makes a projection for these and does not use it.
    require_config(config, "encoder_hid_dim_type", {None})
    taken = conditions(config)
    usual = ("sample", *taken.names)
    # The picture is larger than the latents by as much as its embedding shrinks it.
    factor = 2 ** (len(config["conditioning_embedding_out_channels"]) - 1)

    def make(case: Case, generator: torch.Generator) -> Inputs:
        tensors = random_inputs(config, usual, case, generator)
        size = (case["height"] * factor, case["width"] * factor)
        shape = (case["batch"], config["conditioning_channels"], *size)
        return {**tensors, "controlnet_cond": torch.rand(shape, generator=generator)}

    skips = len(list(skip_shapes(config, 1, 1)))
    entry = Entry(
        name="forward",
        inputs=(*usual, "controlnet_cond"),
        outputs=(
            *(f"down_block_res_samples.{index}" for index in range(skips)),
            "mid_block_res_sample",
        ),
        run=_call,
        eager=_call,
        make=make,
        example_case=example_case(config),
        cases=comparison_cases(config),
        reference="sample",
        float_casts=taken.sinusoids,
        dtypes=taken.dtypes,
    )
    return Network(lambda: build_on_meta(lambda: ControlNetModel(**config)), (entry,))


def _call(model: nn.Module, tensors: Inputs) -> tuple[Tensor, ...]:
    added = {name: tensors[name] for name in ("text_embeds", "time_ids") if name in tensors}
    down, mid = model(
        tensors["sample"],
        tensors["timestep"],
        tensors["encoder_hidden_states"],
        controlnet_cond=tensors["controlnet_cond"],
        class_labels=tensors.get("class_labels"),
        added_cond_kwargs=added or None,
        return_dict=False,
    )
    return (*down, mid)

"""CLIPVisionModelWithProjection, and StableDiffusionSafetyChecker, which judges by it."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPVisionConfig, CLIPVisionModelWithProjection

from networks import Entry, Inputs, MakeInputs, Network, build_on_meta
from networks_clip import attention


def clip_vision(config: dict[str, Any]) -> Network:
    states = range(config["num_hidden_layers"] + 1)
    entry = Entry(
        name="forward",
        inputs=("pixel_values",),
        outputs=(
            "image_embeds",
            "last_hidden_state",
            *(f"hidden_states.{index}" for index in states),
        ),
        run=_encode,
        eager=_eager_encode,
        make=_make_pixels(config),
        example_case={"batch": 2},
        cases=({"batch": 1}, {"batch": 3}, {"batch": 2}),
        reference="pixel_values",
    )

    def create() -> nn.Module:
        return CLIPVisionModelWithProjection(CLIPVisionConfig(**config))

    return Network(lambda: build_on_meta(create), (entry,))


def safety_checker(config: dict[str, Any]) -> Network:
    entry = Entry(
        name="forward",
        inputs=("pixel_values",),
        outputs=("special_scores", "concept_scores"),
        run=_scores,
        eager=_eager_scores,
        make=_make_pixels(config),
        example_case={"batch": 2},
        cases=({"batch": 1}, {"batch": 3}, {"batch": 2}),
        reference="pixel_values",
        # Two similarities and two thresholds: what is decided by is float32 in every dtype.
        float_casts=4,
    )

    def create() -> nn.Module:
        from diffusers.pipelines.stable_diffusion.safety_checker import (
            StableDiffusionSafetyChecker,
        )

        vision = {name: value for name, value in config.items() if name != "projection_dim"}
        return StableDiffusionSafetyChecker(
            CLIPConfig(vision_config=vision, projection_dim=config["projection_dim"])
        )

    return Network(lambda: build_on_meta(create), (entry,))


def _encode(model: nn.Module, tensors: Inputs) -> tuple[Tensor, ...]:
    states = _hidden_states(model.vision_model, tensors["pixel_values"])
    return (_project(model, states[-1]), states[-1], *states)


def _hidden_states(vision: nn.Module, pixels: Tensor) -> list[Tensor]:
    embeddings = vision.embeddings
    patches = embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)
    first = embeddings.class_embedding.expand(pixels.shape[0], 1, -1)
    hidden = torch.cat([first, patches], dim=1) + embeddings.position_embedding.weight
    hidden = vision.pre_layrnorm(hidden)
    states = [hidden]
    for layer in vision.encoder.layers:
        hidden = hidden + attention(layer.self_attn, layer.layer_norm1(hidden))
        hidden = hidden + layer.mlp(layer.layer_norm2(hidden))
        states.append(hidden)
    return states


def _project(model: nn.Module, hidden: Tensor) -> Tensor:
    return model.visual_projection(model.vision_model.post_layernorm(hidden[:, 0]))


def _eager_encode(model: nn.Module, tensors: Inputs) -> tuple[Tensor, ...]:
    output = model(tensors["pixel_values"], output_hidden_states=True)
    return (output.image_embeds, output.last_hidden_state, *output.hidden_states)


def _scores(model: nn.Module, tensors: Inputs) -> tuple[Tensor, Tensor]:
    """How far the picture is beyond each threshold; positive is too close to the concept."""
    states = _hidden_states(model.vision_model, tensors["pixel_values"])
    picture = F.normalize(_project(model, states[-1]))
    return (
        _beyond(picture, model.special_care_embeds, model.special_care_embeds_weights),
        _beyond(picture, model.concept_embeds, model.concept_embeds_weights),
    )


def _beyond(picture: Tensor, concepts: Tensor, thresholds: Tensor) -> Tensor:
    similarity = torch.mm(picture, F.normalize(concepts).t())
    return similarity.float() - thresholds.float()


def _eager_scores(model: nn.Module, tensors: Inputs) -> tuple[Tensor, ...]:
    from diffusers.pipelines.stable_diffusion.safety_checker import cosine_distance

    pooled = model.vision_model(tensors["pixel_values"])[1]
    picture = model.visual_projection(pooled)
    kinds = (
        (model.special_care_embeds, model.special_care_embeds_weights),
        (model.concept_embeds, model.concept_embeds_weights),
    )
    return tuple(
        cosine_distance(picture, concepts).float() - thresholds.float()
        for concepts, thresholds in kinds
    )


def _make_pixels(config: dict[str, Any]) -> MakeInputs:
    side = config["image_size"]

    def make(case: dict[str, int], generator: torch.Generator) -> Inputs:
        shape = (case["batch"], config["num_channels"], side, side)
        return {"pixel_values": torch.randn(shape, generator=generator)}

    return make

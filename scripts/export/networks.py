"""The networks that can be exported: how they are built, called and compared."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from errors import unsupported

Inputs = dict[str, Tensor]
# Random inputs for a case, which is a dictionary of sizes.
MakeInputs = Callable[[dict[str, int], torch.Generator], Inputs]


@dataclass(frozen=True)
class Entry:
    """One function of a network, with tensors in and out."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    # Called while tracing, with the functions of forwards.py in place.
    run: Callable[[nn.Module, Inputs], Any]
    # Called for the comparison, on the library's unpatched module.
    eager: Callable[[nn.Module, Inputs], tuple[Tensor, ...]]
    make: MakeInputs
    # The sizes to trace at and those to compare at.
    example_case: dict[str, int]
    cases: tuple[dict[str, int], ...]
    # The input that has the model's dtype and device at run time.
    reference: str
    # The parameters that belong to the entry; all of them when empty.
    prefixes: tuple[str, ...] = ()
    float_casts: int = 0
    # Inputs whose dtype is not the model's.
    dtypes: dict[str, str] = field(default_factory=dict)
    # Inputs that a run may leave out: each is only added to something, which then stays as it is.
    optional: tuple[str, ...] = ()

    def example(self) -> Inputs:
        return self.make(self.example_case, torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class Network:
    build: Callable[[], nn.Module]
    entries: tuple[Entry, ...]
    # From the library's parameter names to the program's.
    rename: Callable[[str], str] = lambda name: name

    def parameters(self, model: nn.Module) -> dict[str, nn.Parameter]:
        return {self.rename(name): parameter for name, parameter in model.named_parameters()}


def network(class_name: str, config: dict[str, Any]) -> Network:
    """The network of a canonical architecture (lib/networks/architecture.ts)."""
    # The families import what they need, so that a missing library is only missed by its users.
    if class_name == "UNet2DConditionModel":
        from networks_unet import unet_2d_condition

        return unet_2d_condition(config)
    if class_name == "ControlNetModel":
        from networks_controlnet import controlnet

        return controlnet(config)
    if class_name == "AutoencoderKL":
        from networks_autoencoder import autoencoder_kl

        return autoencoder_kl(config)
    if class_name in ("CLIPTextModel", "CLIPTextModelWithProjection"):
        from networks_clip import clip_text

        return clip_text(class_name, config)
    if class_name == "AutoencoderTiny":
        from networks_autoencoder import autoencoder_tiny

        return autoencoder_tiny(config)
    if class_name == "VQModel":
        from networks_vq import vq_model

        return vq_model(config)
    if class_name == "PriorTransformer":
        from networks_prior import prior_transformer

        return prior_transformer(config)
    if class_name == "CLIPVisionModelWithProjection":
        from networks_vision import clip_vision

        return clip_vision(config)
    if class_name == "StableDiffusionSafetyChecker":
        from networks_vision import safety_checker

        return safety_checker(config)
    raise unsupported(f"The exporter does not support the class {class_name}.")


def build_on_meta(create: Callable[[], nn.Module]) -> nn.Module:
    """Builds a module without memory for its weights."""
    try:
        with torch.device("meta"):
            return create().eval()
    except (TypeError, ValueError, NotImplementedError) as error:
        raise unsupported(f"The library cannot build this architecture: {error}") from error


def require_config(config: dict[str, Any], name: str, allowed: set[Any]) -> None:
    value = config.get(name)
    values = value if isinstance(value, list) else [value]
    for item in values:
        if item not in allowed:
            raise unsupported(f"The exporter does not support {name}: {item!r}.")

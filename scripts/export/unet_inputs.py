"""What UNets and ControlNets take, by their configs: names, dtypes, sizes and random values."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from networks import Inputs

Case = dict[str, int]

# Blocks whose up-sampling follows the size of the skip connection.
_ANY_SIZE = {"DownBlock2D", "CrossAttnDownBlock2D"}


@dataclass(frozen=True)
class Conditions:
    """The inputs besides the sample, in order."""

    names: tuple[str, ...]
    dtypes: dict[str, str]
    # How many embeddings by sines and cosines there are, each computed in float32.
    sinusoids: int


def conditions(config: dict[str, Any]) -> Conditions:
    names = ["timestep"]
    dtypes = {"timestep": "float32"}
    # Fourier features multiply with weights of the model's dtype and cast nothing.
    sinusoid = 0 if config.get("time_embedding_type") == "fourier" else 1
    sinusoids = sinusoid
    if config.get("encoder_hid_dim_type") != "image_proj":
        names.append("encoder_hidden_states")
    if config.get("time_cond_proj_dim") is not None:
        names.append("timestep_cond")
    class_type, classes = config.get("class_embed_type"), config.get("num_class_embeds")
    if class_type is not None or classes is not None:
        names.append("class_labels")
        if class_type is None:
            dtypes["class_labels"] = "int64"
        elif class_type == "timestep":
            dtypes["class_labels"] = "float32"
            sinusoids += sinusoid
    if config.get("addition_embed_type") == "text_time":
        names += ["text_embeds", "time_ids"]
        sinusoids += 1
    if config.get("addition_embed_type") == "image":
        names.append("image_embeds")
    return Conditions(tuple(names), dtypes, sinusoids)


def takes_any_size(config: dict[str, Any]) -> bool:
    return set(config["down_block_types"]) <= _ANY_SIZE


def example_case(config: dict[str, Any]) -> Case:
    if not takes_any_size(config):
        factor = _factor(config)
        return _case(2, 3 * factor, 2 * factor, length=5)
    # No multiple of the down-scale, so that up-sampling always follows the skip connections.
    return _case(2, 9, 7, length=5)


def comparison_cases(config: dict[str, Any]) -> tuple[Case, ...]:
    if not takes_any_size(config):
        factor = _factor(config)
        return (
            _case(1, 2 * factor, 2 * factor, length=77),
            _case(2, 2 * factor, 3 * factor, length=13, timesteps=2),
            _case(3, 3 * factor, 2 * factor, length=154),
        )
    return (
        _case(1, 16, 16, length=77),
        _case(2, 12, 20, length=13, timesteps=2),
        _case(3, 9, 7, length=154),
    )


def _factor(config: dict[str, Any]) -> int:
    return 2 ** (len(config["down_block_types"]) - 1)


def _case(batch: int, height: int, width: int, *, length: int, timesteps: int = 1) -> Case:
    sizes = {"batch": batch, "height": height, "width": width}
    return {**sizes, "length": length, "timesteps": timesteps}


def random_inputs(
    config: dict[str, Any], names: tuple[str, ...], case: Case, generator: torch.Generator
) -> Inputs:
    return {name: _random_input(name, config, case, generator) for name in names}


def _random_input(
    name: str, config: dict[str, Any], case: Case, generator: torch.Generator
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
    if name == "image_embeds":
        return torch.randn(batch, config["encoder_hid_dim"], generator=generator)
    if name == "class_labels":
        return _class_labels(config, batch, generator)
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


def _class_labels(config: dict[str, Any], batch: int, generator: torch.Generator) -> Tensor:
    if config.get("class_embed_type") is None:
        return torch.randint(config["num_class_embeds"], (batch,), generator=generator)
    if config["class_embed_type"] == "timestep":
        return torch.rand(batch, generator=generator) * 999
    width = config["projection_class_embeddings_input_dim"]
    return torch.randn(batch, width, generator=generator)


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


def _last(value: Any) -> int:
    return value[-1] if isinstance(value, list) else value

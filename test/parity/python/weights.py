"""Random values for the parameters of a checkpoint: one rule for the tiny and the full-size ones."""

from __future__ import annotations

import math
import zlib

import torch


def random_values(name: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Values for one parameter, float32; the same name, shape and seed give the same values,
    whatever was made before.

    The spread keeps activations near one through any depth. Norms get weights and biases of their
    own, so that a swapped pair of norms is noticed. Attention to the text is sharp, so that prompts
    change the picture, but adds little to the rest: as in trained networks the predictions with and
    without a prompt are alike. Otherwise guidance would amplify rounding errors tenfold a step.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + zlib.crc32(name.encode()))
    values = torch.randn(shape, generator=generator)
    if name.endswith(("token_embedding.weight", "position_embedding.weight")):
        return values.mul_(0.5)
    if len(shape) >= 2:
        return values.mul_(gain_of(name) / math.sqrt(math.prod(shape[1:])))
    if name.endswith("weight"):
        return values.mul_(0.2).add_(1)
    return values.mul_(0.1)


def gain_of(name: str) -> float:
    if ".attn2.to_out." in name:
        return 0.2
    if ".attn2." in name or ".self_attn." in name:
        return 2.0
    return 0.8

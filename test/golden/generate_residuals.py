"""Writes test/golden/residuals.json: the embedded UNet with and without ControlNet residuals.

    python test/golden/generate_residuals.py

Inputs come from `pattern`, which test/networks.test.ts has too.
"""

import json
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

REPOSITORY = Path(__file__).parents[2]
HEIGHT, WIDTH = 4, 6
SKIPS = ((80, 4, 6), (80, 4, 6), (80, 2, 3), (128, 2, 3))


def pattern(seed: int, *shape: int) -> Tensor:
    """Numbers from -0.5 to 0.5 that any language computes alike."""
    count = torch.Size(shape).numel()
    values = [(seed + index * 37) % 101 / 101 - 0.5 for index in range(count)]
    return torch.tensor(values).reshape(shape)


def main() -> None:
    unet = UNet2DConditionModel.from_pretrained(REPOSITORY / "models" / "demo" / "unet").eval()
    inputs = (pattern(1, 2, 4, HEIGHT, WIDTH), 321.5, pattern(2, 2, 5, 128))
    down = [pattern(10 + index, 2, *shape) for index, shape in enumerate(SKIPS)]
    mid = pattern(20, 2, *SKIPS[-1])
    with torch.no_grad():
        plain = unet(*inputs).sample
        added = unet(
            *inputs, down_block_additional_residuals=down, mid_block_additional_residual=mid
        ).sample
    values = {"plain": plain.flatten().tolist(), "added": added.flatten().tolist()}
    file = REPOSITORY / "test" / "golden" / "residuals.json"
    file.write_text(json.dumps(values) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

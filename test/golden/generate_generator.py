"""Writes generator.json: numbers that torch.Generator draws, for test/generator.test.ts."""

import json
from pathlib import Path

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
# Below and above 16 elements torch takes different paths.
SHAPES = [[5], [16], [2, 3, 4]]


def draw() -> list[dict]:
    cases = []
    for seed in (0, 7, 2**40 + 1, 2**64 - 1):
        for name, dtype in DTYPES.items():
            generator = torch.Generator().manual_seed(seed)
            draws = [torch.randn(shape, generator=generator, dtype=dtype) for shape in SHAPES]
            numbers = [value.double().flatten().tolist() for value in draws]
            cases.append({"seed": str(seed), "dtype": name, "shapes": SHAPES, "draws": numbers})
    return cases


if __name__ == "__main__":
    target = Path(__file__).with_name("generator.json")
    target.write_text(json.dumps(draw()) + "\n")

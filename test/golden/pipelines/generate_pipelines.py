"""Makes the tiny checkpoint of test/pipelines-golden.test.ts and what diffusers draws from it.

    python generate_pipelines.py

Writes checkpoint/, init.png, odd.png and expected.json beside cases.json. The programs of the
checkpoint's networks are made by

    TORCHBRUSH_PROGRAMS=test/golden/pipelines/programs npx tsx lib/cli/main.ts export \\
        test/golden/pipelines/checkpoint
"""

from __future__ import annotations

import base64
import json
import math
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "parity" / "python"))

from run_diffusers import Runner  # noqa: E402  (sets up threads before torch is imported)

import diffusers  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from checkpoint import build  # noqa: E402
from PIL import Image  # noqa: E402
from presets import PRESETS  # noqa: E402
from published import entries_of, half, padded_length, wide_first  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from safetensors_file import write  # noqa: E402

SEED = 20


def make_checkpoint(folder: Path) -> None:
    """The preset "golden" with its weights in half precision, for the repository's sake."""
    shutil.rmtree(folder, ignore_errors=True)
    build(folder, PRESETS["golden"], SEED)
    for file in folder.rglob("*.safetensors"):
        entries = wide_first(entries_of(half(load_file(file))))
        write(file, entries, padded_length(entries))


def picture(width: int, height: int) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    disc = np.hypot(x - width / 2, y - height / 2) < min(width, height) / 3
    waves = 128 + 100 * np.sin(x / 2) * np.cos(y / 3)
    channels = [255 * x / width, np.where(disc, 230, 255 * y / height), waves]
    return Image.fromarray(np.stack(channels, -1).round().astype(np.uint8))


def snake(key: str) -> str:
    return re.sub("[A-Z]", lambda letter: f"_{letter.group().lower()}", key)


def snake_keys(value: dict[str, Any]) -> dict[str, Any]:
    return {snake(key): entry for key, entry in value.items()}


def python_case(case: dict[str, Any]) -> dict[str, Any]:
    scheduler = case.get("scheduler")
    if scheduler is not None:
        config = snake_keys(scheduler.get("config", {}))
        scheduler = {"class": scheduler["class"], "config": config}
    image = case.get("image")
    if image is not None:
        image = {"files": [str(HERE / file) for file in image["files"]]}
    return {
        **case,
        "checkpoint": str(HERE / "checkpoint"),
        "scheduler": scheduler,
        "options": snake_keys(case["options"]),
        "image": image,
    }


def packed(values: np.ndarray) -> str:
    """Values in 0..1 as 16-bit integers: an error of 8e-6 for half the bytes."""
    levels = np.rint(values.astype(np.float64) * 65535).astype("<u2")
    return base64.b64encode(levels.tobytes()).decode()


def main() -> None:
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    diffusers.utils.logging.set_verbosity_error()
    make_checkpoint(HERE / "checkpoint")
    picture(16, 24).save(HERE / "init.png")
    picture(27, 21).save(HERE / "odd.png")

    expected: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(Path(folder))
        for case in json.loads((HERE / "cases.json").read_text())["cases"]:
            result = runner.run(python_case(case))
            tensor = result["tensors"]["picture"]
            values = np.fromfile(tensor["file"], dtype="<f4")
            if result["saturated"] > 0.2 or math.isnan(result["spread"]):
                raise ValueError(f"{case['name']}: the picture says nothing")
            expected[case["name"]] = {
                "timesteps": result["timesteps"],
                "shape": tensor["shape"],
                "picture": packed(values),
            }
            print(f"{case['name']}: spread {result['spread']}, clipped {result['saturated']}")
    text = json.dumps({"diffusers": diffusers.__version__, "expected": expected}, indent=1)
    (HERE / "expected.json").write_text(text + "\n")


if __name__ == "__main__":
    main()

"""Runs diffusers' pipelines in a row, for the comparison in Node.

Input, a JSON file: {"chains": {name: [stage, …], …}}, each stage with
  pipeline    class name
  checkpoint  folder
  prior       folder of the prior's checkpoint, or null
  options     arguments of the call that JSON can hold
  image       path of the first stage's picture, or null
  seed        a number
  output      "latent", or "tensor" for pixels in 0..1

What a stage draws is the next one's image. The x4 upscaler takes no latents: they are decoded for it.

Output, a folder: results.json and a little-endian float32 file for each chain's picture.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import diffusers
import torch
from PIL import Image

Stage = dict[str, Any]


def pipeline(class_name: str, folder: str) -> Any:
    chosen = getattr(diffusers, class_name)
    return chosen.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True)


def load(stage: Stage) -> Any:
    if stage["prior"] is None:
        return pipeline(stage["pipeline"], stage["checkpoint"])
    prior = pipeline("KandinskyV22PriorPipeline", stage["prior"]).components
    decoder = pipeline("KandinskyV22Pipeline", stage["checkpoint"]).components
    parts = {f"prior_{name}": part for name, part in prior.items()}
    return getattr(diffusers, stage["pipeline"])(**decoder, **parts)


def decoded(latents: torch.Tensor, vae: Any) -> torch.Tensor:
    pixels = vae.decode(latents / vae.config.scaling_factor).sample
    return (pixels / 2 + 0.5).clamp(0, 1)


def run(stage: Stage, image: Any) -> tuple[torch.Tensor, Any]:
    """What the stage draws, and its pipeline."""
    pipe = load(stage)
    arguments = dict(stage["options"])
    if image is not None:
        arguments["image"] = image
    arguments["generator"] = torch.Generator().manual_seed(stage["seed"])
    if stage["output"] == "latent":
        return pipe(**arguments, output_type="latent").images, pipe
    # As an array, for Kandinsky's text-to-image leaves tensors in -1..1.
    picture = pipe(**arguments, output_type="np").images
    return torch.from_numpy(picture).permute(0, 3, 1, 2), pipe


def run_chain(stages: list[Stage]) -> torch.Tensor:
    first = stages[0]["image"]
    drawn = None if first is None else Image.open(first).convert("RGB")
    maker = None
    for before, stage in zip([None, *stages], stages, strict=False):
        is_latent = before is not None and before["output"] == "latent"
        if is_latent and stage["pipeline"] == "StableDiffusionUpscalePipeline":
            drawn = decoded(drawn, maker.vae)
        drawn, maker = run(stage, drawn)
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chains", type=Path, help="the JSON file with the chains")
    parser.add_argument("--output", type=Path, required=True, help="an empty folder")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    arguments.output.mkdir(parents=True, exist_ok=True)

    results: dict[str, Any] = {}
    for name, stages in json.loads(arguments.chains.read_text())["chains"].items():
        picture = run_chain(stages)
        path = arguments.output / f"{len(results)}.f32"
        picture.contiguous().numpy().astype("<f4").tofile(path)
        results[name] = {"file": str(path), "shape": list(picture.shape)}
    (arguments.output / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()

"""Runs diffusers' Kandinsky 2.2 pipelines on a list of cases, for the comparison in Node.

Input, a JSON file: {"cases": [case, …]}, each case with
  name         names the result
  prior        folder of the prior's checkpoint
  decoder      folder of the decoder's checkpoint
  pipeline     class name, or "interpolate" for that method of the prior's pipeline
  scheduler    null for the checkpoint's own, or {"class": name, "config": {overrides}}, the decoder's
  options      arguments of the call that JSON can hold
  tensors      arguments that are float32 arrays: {argument: {"file": path, "shape": […]}}
  images       null, or paths (a list if there are several)
  ingredients  null, or what interpolate mixes: {"text": …}, {"file": path} or {"tensor": …}
  seeds        null, one number for one generator, or a list for a list of generators

Output, a folder: results.json and one little-endian float32 file for each tensor: embeddings, or the
picture [B,3,H,W] in 0..1 and the latents after each step of the decoder.
"""

from __future__ import annotations

import argparse
import json
import os
import traceback
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import diffusers
import numpy as np
import torch
from PIL import Image

Case = dict[str, Any]
PRIOR = "KandinskyV22PriorPipeline"


def read_tensor(entry: dict[str, Any]) -> torch.Tensor:
    values = np.fromfile(entry["file"], dtype="<f4").reshape(entry["shape"])
    return torch.from_numpy(values.copy())


def read_image(path: str) -> Image.Image:
    return Image.open(path).convert("RGB")


class Runner:
    def __init__(self, output: Path) -> None:
        self.output = output
        self.loaded: dict[str, Any] = {}
        self.count = 0

    def load(self, class_name: str, folder: str) -> Any:
        if folder not in self.loaded:
            pipe = getattr(diffusers, class_name).from_pretrained(
                folder, torch_dtype=torch.float32, local_files_only=True
            )
            self.loaded[folder] = pipe
        return self.loaded[folder]

    def pipeline(self, case: Case) -> Any:
        """Pipelines are made afresh for each case, with schedulers that have run nothing."""
        prior = dict(self.load(PRIOR, case["prior"]).components)
        prior["scheduler"] = diffusers.UnCLIPScheduler.from_config(prior["scheduler"].config)
        class_name = case["pipeline"]
        if class_name in (PRIOR, "interpolate"):
            return diffusers.KandinskyV22PriorPipeline(**prior)
        parts = dict(self.load("KandinskyV22Pipeline", case["decoder"]).components)
        wanted = case["scheduler"] or {"class": "DDPMScheduler"}
        chosen = getattr(diffusers, wanted["class"])
        parts["scheduler"] = chosen.from_config(parts["scheduler"].config, **wanted.get("config", {}))
        if "Combined" in class_name:
            parts |= {f"prior_{name}": part for name, part in prior.items()}
        return getattr(diffusers, class_name)(**parts)

    def arguments(self, case: Case) -> dict[str, Any]:
        arguments = dict(case["options"])
        for name, entry in case["tensors"].items():
            arguments[name] = read_tensor(entry)
        seeds = case["seeds"]
        if isinstance(seeds, list):
            arguments["generator"] = [torch.Generator().manual_seed(seed) for seed in seeds]
        elif seeds is not None:
            arguments["generator"] = torch.Generator().manual_seed(seeds)
        if case["images"] is not None:
            images = [read_image(path) for path in case["images"]]
            arguments["image"] = images[0] if len(images) == 1 else images
        if "Img2Img" in case["pipeline"] and {"height", "width"} & arguments.keys():
            # diffusers hands its height to the image processor as the width and the other way
            # round. Given the wrong way round they come out right.
            height, width = arguments.pop("height", 512), arguments.pop("width", 512)
            arguments |= {"height": width, "width": height}
        return arguments

    def run(self, case: Case) -> dict[str, Any]:
        pipe, arguments = self.pipeline(case), self.arguments(case)
        if case["pipeline"] == "interpolate":
            mixed = [self.ingredient(item) for item in case["ingredients"]]
            result = pipe.interpolate(mixed, **arguments)
        elif case["pipeline"] == PRIOR:
            result = pipe(**arguments)
        else:
            return self.draw(pipe, arguments)
        embeddings = {
            "image_embeds": result.image_embeds,
            "negative_image_embeds": result.negative_image_embeds,
        }
        return {name: self.write(value) for name, value in embeddings.items()}

    def draw(self, pipe: Any, arguments: dict[str, Any]) -> dict[str, Any]:
        steps: list[torch.Tensor] = []

        def on_step(_pipe: Any, _i: int, _t: Any, values: dict[str, Any]) -> dict[str, Any]:
            steps.append(values["latents"].clone())
            return values

        # As arrays, for text-to-image leaves tensors in -1..1.
        picture = pipe(**arguments, output_type="np", callback_on_step_end=on_step).images
        return {
            "picture": self.write(torch.from_numpy(picture).permute(0, 3, 1, 2)),
            "steps": self.write(torch.stack(steps)),
        }

    def ingredient(self, item: dict[str, Any]) -> Any:
        if "text" in item:
            return item["text"]
        return read_image(item["file"]) if "file" in item else read_tensor(item["tensor"])

    def write(self, tensor: torch.Tensor) -> dict[str, Any]:
        path = self.output / f"{self.count:05d}.f32"
        self.count += 1
        array = tensor.detach().to(torch.float32).contiguous().numpy()
        array.astype("<f4").tofile(path)
        return {"file": str(path), "shape": list(array.shape)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", type=Path, help="the JSON file with the cases")
    parser.add_argument("--output", type=Path, required=True, help="an empty folder")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    # The progress bars of pipelines are switched off one by one.
    diffusers.DiffusionPipeline.progress_bar = lambda _self, iterable=None, total=None: iterable
    arguments.output.mkdir(parents=True, exist_ok=True)

    runner = Runner(arguments.output)
    results: dict[str, Any] = {}
    for case in json.loads(arguments.cases.read_text())["cases"]:
        try:
            results[case["name"]] = runner.run(case)
        except Exception:  # a case that diffusers refuses is a result too
            results[case["name"]] = {"error": traceback.format_exc(limit=-3)}
    (arguments.output / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()

"""Runs diffusers on a list of cases and writes what it draws, for the comparison in Node.

Input, a JSON file: {"cases": [case, …]}, each case with
  name         names the result; later cases may refer to it
  checkpoint   folder
  variant      "fp16" or null; the weights are converted to float32 either way
  pipeline     class name
  scheduler    null for the checkpoint's own, or {"class": name, "config": {overrides}}
  options      arguments of the call that JSON can hold
  tensors      arguments that are float32 arrays: {argument: {"file": path, "shape": […]}}
  controlnet   null, a ControlNet's folder, or a list of folders
  vae          null, or the folder of a tiny autoencoder to use instead of the checkpoint's
  images       arguments that are pictures: {argument: picture or list of pictures}, each
               {"files": [paths]} (a list if there are several), {"tensor": …} or
               {"latents_of": name of an earlier case}
  seeds        null, one number for one generator, or a list for a list of generators

Output, a folder: results.json and one little-endian float32 file for each tensor: the decoded
pictures [B,3,H,W] in 0..1, the final latents, and the latents after each step.
"""

from __future__ import annotations

import argparse
import copy
import functools
import inspect
import json
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Threads that spin at barriers stand still for seconds on a machine with other work; libgomp reads
# these when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import diffusers
import numpy as np
import torch
from PIL import Image

Case = dict[str, Any]


def read_tensor(entry: dict[str, Any]) -> torch.Tensor:
    values = np.fromfile(entry["file"], dtype="<f4").reshape(entry["shape"])
    return torch.from_numpy(values.copy())


def load_controlnet(folders: str | list[str], variant: str | None) -> Any:
    if isinstance(folders, list):
        return [load_controlnet(folder, variant) for folder in folders]
    return diffusers.ControlNetModel.from_pretrained(
        folders, variant=variant, torch_dtype=torch.float32
    )


def with_exact_roots(set_timesteps: Callable[..., None]) -> Callable[..., None]:
    """Takes square roots that are the same on every processor.

    torch takes them from a vendor library that is off by a last bit on some. KDPM2Ancestral's levels
    are small differences of such roots, and the network is told the timesteps that belong to them.
    """
    power = torch.Tensor.__pow__

    def exact_power(tensor: torch.Tensor, exponent: Any) -> torch.Tensor:
        if exponent != 0.5:
            return power(tensor, exponent)
        return torch.from_numpy(np.asarray(np.sqrt(tensor.double().numpy()))).to(tensor.dtype)

    @functools.wraps(set_timesteps)
    def exact(*args: Any, **kwargs: Any) -> None:
        torch.Tensor.__pow__ = exact_power
        try:
            set_timesteps(*args, **kwargs)
        finally:
            torch.Tensor.__pow__ = power

    return exact


class Runner:
    def __init__(self, output: Path) -> None:
        self.output = output
        self.pipelines: dict[str, Any] = {}
        self.schedulers: dict[str, Any] = {}
        self.latents: dict[str, torch.Tensor] = {}
        self.count = 0

    def pipeline(self, case: Case) -> Any:
        """The pipeline with a scheduler that has run nothing yet."""
        parts = ("checkpoint", "variant", "pipeline", "controlnet", "vae")
        key = json.dumps([case.get(part) for part in parts])
        if key not in self.pipelines:
            self.pipelines.clear()  # one checkpoint at a time: they may be large
            self.schedulers.clear()
            chosen = getattr(diffusers, case["pipeline"])
            more = {}
            if case.get("controlnet") is not None:
                more["controlnet"] = load_controlnet(case["controlnet"], case.get("variant"))
            if case.get("vae") is not None:
                more["vae"] = diffusers.AutoencoderTiny.from_pretrained(case["vae"])
            if "requires_safety_checker" in inspect.signature(chosen.__init__).parameters:
                more["requires_safety_checker"] = False
            pipe = chosen.from_pretrained(
                case["checkpoint"],
                variant=case.get("variant"),
                torch_dtype=torch.float32,
                local_files_only=True,
                **more,
            )
            pipe.set_progress_bar_config(disable=True)
            if pipe.text_encoder is not None and not hasattr(pipe.text_encoder, "text_model"):
                # clip_skip reads text_encoder.text_model.final_layer_norm, which transformers 5
                # has moved up by one level. Not a submodule: modules must not contain themselves.
                object.__setattr__(pipe.text_encoder, "text_model", pipe.text_encoder)
            self.pipelines[key] = pipe
            self.schedulers[key] = pipe.scheduler
        pipe = self.pipelines[key]
        own = self.schedulers[key]
        wanted = case.get("scheduler")
        if wanted is None:
            # Not by from_config, which would forget what the pipeline's constructor has mended.
            pipe.scheduler = copy.deepcopy(own)
        else:
            chosen = getattr(diffusers, wanted["class"])
            pipe.scheduler = chosen.from_config(own.config, **wanted.get("config", {}))
            pipe.scheduler.set_timesteps = with_exact_roots(pipe.scheduler.set_timesteps)
        return pipe

    def image(self, source: dict[str, Any] | list[dict[str, Any]]) -> Any:
        if isinstance(source, list):
            return [self.image(entry) for entry in source]
        if "files" in source:
            images = [Image.open(path).convert("RGB") for path in source["files"]]
            return images[0] if len(images) == 1 else images
        if "tensor" in source:
            return read_tensor(source["tensor"])
        return self.latents[source["latents_of"]]

    def run(self, case: Case) -> dict[str, Any]:
        pipe = self.pipeline(case)
        arguments = dict(case["options"])
        for name, value in arguments.items():
            if name.endswith(("_size", "_top_left")):
                arguments[name] = tuple(value)
            if name == "controlnet_conditioning_scale" and not isinstance(value, list):
                arguments[name] = float(value)  # refused as an integer
        for name, entry in case.get("tensors", {}).items():
            arguments[name] = read_tensor(entry)
        for name, source in case.get("images", {}).items():
            arguments[name] = self.image(source)
        seeds = case.get("seeds")
        if isinstance(seeds, list):
            arguments["generator"] = [torch.Generator().manual_seed(seed) for seed in seeds]
        elif seeds is not None:
            arguments["generator"] = torch.Generator().manual_seed(seeds)

        steps: list[torch.Tensor] = []
        timesteps: list[float] = []

        def keep(latents: torch.Tensor, t: Any) -> None:
            steps.append(latents.clone())
            timesteps.append(float(t))

        def on_step(_pipe: Any, _index: int, t: Any, values: dict[str, Any]) -> dict[str, Any]:
            keep(values["latents"], t)
            return values

        # The upscalers know the older kind of callback only.
        if "callback_on_step_end" in inspect.signature(pipe.__call__).parameters:
            arguments["callback_on_step_end"] = on_step
        else:
            arguments["callback"] = lambda _index, t, latents: keep(latents, t)

        start = time.perf_counter()
        picture = pipe(**arguments, output_type="pt").images
        seconds = time.perf_counter() - start
        self.latents[case["name"]] = steps[-1]
        tensors = {
            "picture": picture,
            "latents": steps[-1],
            "steps": torch.stack(steps),
        }
        edge = ((picture == 0) | (picture == 1)).float().mean().item()
        return {
            "seconds": round(seconds, 3),
            "timesteps": timesteps,
            "spread": round(picture.std().item(), 4),
            "saturated": round(edge, 4),
            "tensors": {name: self.write(value) for name, value in tensors.items()},
        }

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
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    torch.set_grad_enabled(False)
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    arguments.output.mkdir(parents=True, exist_ok=True)

    runner = Runner(arguments.output)
    results: dict[str, Any] = {}
    for case in json.loads(arguments.cases.read_text())["cases"]:
        try:
            results[case["name"]] = runner.run(case)
        except Exception:  # a case that diffusers refuses is a result too
            results[case["name"]] = {"error": traceback.format_exc(limit=-3)}
    text = json.dumps({"diffusers": diffusers.__version__, "results": results})
    (arguments.output / "results.json").write_text(text)


if __name__ == "__main__":
    main()

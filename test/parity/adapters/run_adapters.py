"""Runs diffusers with adapters on a list of cases: those of run_diffusers.py, each also with

  adapters     [{"file": path, "name": name}, …], loaded in this order
  set          null, or [names, weights] for set_adapters
  fuse         null, or the lora_scale to fuse with
  inversions   [{"file": path, "token": token or null}, …]
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "python"))

from run_diffusers import Case, Runner  # noqa: I001  sets the environment before torch
import diffusers
import torch
from safetensors.torch import load_file


class AdapterRunner(Runner):
    def pipeline(self, case: Case) -> Any:
        pipe = super().pipeline(case)
        if "text_model" in vars(pipe.text_encoder):
            # The loader looks for this attribute to tell old encoders from new ones.
            object.__delattr__(pipe.text_encoder, "text_model")
        is_xl = hasattr(pipe, "text_encoder_2")
        options = {} if is_xl else {"unet_config": pipe.unet.config}
        for adapter in case["adapters"]:
            pipe.load_lora_weights(adapter["file"], adapter_name=adapter["name"], **options)
        if case["set"] is not None:
            pipe.set_adapters(*case["set"])
        if case["fuse"] is not None:
            pipe.fuse_lora(lora_scale=case["fuse"])
        for inversion in case["inversions"]:
            if is_xl:
                load_pair(pipe, inversion)
            else:
                pipe.load_textual_inversion(inversion["file"], token=inversion["token"])
        return pipe

    def run(self, case: Case) -> dict[str, Any]:
        result = super().run(case)
        if case["fuse"] is not None or case["inversions"]:
            self.pipelines.clear()  # these leave something behind
        else:
            (pipe,) = self.pipelines.values()
            pipe.unload_lora_weights()
        return result


def load_pair(pipe: Any, inversion: dict[str, str]) -> None:
    """As diffusers' guide does it: each encoder by itself."""
    vectors = load_file(inversion["file"])
    for name, suffix in (("clip_l", ""), ("clip_g", "_2")):
        pipe.load_textual_inversion(
            vectors[name],
            token=inversion["token"],
            text_encoder=getattr(pipe, f"text_encoder{suffix}"),
            tokenizer=getattr(pipe, f"tokenizer{suffix}"),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", type=Path, help="the JSON file with the cases")
    parser.add_argument("--output", type=Path, required=True, help="an empty folder")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    arguments.output.mkdir(parents=True, exist_ok=True)
    runner = AdapterRunner(arguments.output)
    results: dict[str, Any] = {}
    for case in json.loads(arguments.cases.read_text())["cases"]:
        try:
            results[case["name"]] = runner.run(case)
        except Exception:  # a case that diffusers refuses is a result too
            results[case["name"]] = {"error": traceback.format_exc(limit=-3)}
    (arguments.output / "results.json").write_text(json.dumps({"results": results}))


if __name__ == "__main__":
    main()

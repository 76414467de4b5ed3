"""Write the checkpoint folder in diffusers' layout, fp16, one file at a time.

    python export.py --vae vae --state unet.pt --out models/demo

Every file is written under a temporary name and renamed, so that a reader
never sees half of one.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel

from models import build_scheduler, build_text_encoder, build_unet, load_tokenizer

MODEL_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.42.1",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def move_files(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        if path.is_dir():
            move_files(path, target / path.name)
        else:
            path.chmod(0o644)
            os.replace(path, target / path.name)


def clean_config(path: Path) -> None:
    """Take out what only says how the file was made.

    The text encoder's number type too: transformers would load the model in it
    and diffusers would load the rest in fp32. fp32 for all is the plain default.
    """
    config = json.loads(path.read_text())
    for key in ("_name_or_path", "transformers_version"):
        config.pop(key, None)
    if "dtype" in config:
        config["dtype"] = "float32"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def write_checkpoint(out: Path, vae: AutoencoderKL, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as folder:
        part = Path(folder)
        vae.to(torch.float16).save_pretrained(part / "vae")
        unet.to(torch.float16).save_pretrained(part / "unet")
        text_encoder.to(torch.float16).save_pretrained(part / "text_encoder")
        build_scheduler().save_pretrained(part / "scheduler")
        for config in part.glob("*/*config.json"):
            clean_config(config)
        (part / "model_index.json").write_text(json.dumps(MODEL_INDEX, indent=2) + "\n")
        move_files(part, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vae", type=Path, required=True, help="folder written by train_vae.py")
    parser.add_argument("--state", type=Path, required=True, help="checkpoint of train_unet.py")
    parser.add_argument("--out", type=Path, required=True, help="holds tokenizer/ already")
    arguments = parser.parse_args()
    state = torch.load(arguments.state, map_location="cpu", weights_only=True)
    unet = build_unet()
    text_encoder = build_text_encoder(len(load_tokenizer(arguments.out / "tokenizer")))
    unet.load_state_dict(state["unet"])
    text_encoder.load_state_dict(state["text_encoder"])
    for module, average in ((unet, state["unet_average"]), (text_encoder, state["text_average"])):
        with torch.no_grad():
            for name, value in module.named_parameters():
                value.copy_(average[name])
    vae = AutoencoderKL.from_pretrained(arguments.vae, torch_dtype=torch.float32)
    write_checkpoint(arguments.out, vae, unet, text_encoder)
    total = sum(path.stat().st_size for path in arguments.out.rglob("*") if path.is_file())
    print(f"step {state['step']}: {total / 1e6:.2f} MB in {arguments.out}")


if __name__ == "__main__":
    main()

"""What diffusers makes of checkpoints in one file: names and shapes, full size, without weights.

  generate_single_files.py --configs CONFIGS

CONFIGS is a folder of published configurations, one folder for each checkpoint. Writes
single-files.json.gz beside this program: for each architecture the tensors of its file, what
diffusers' own conversion makes of them, and the configurations it was built with.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import original_layout as original
import torch
import transformers
from diffusers.loaders import single_file_utils as conversion

Config = dict[str, Any]
Tensors = dict[str, torch.Tensor]

# The layer that Stable Diffusion 2 leaves out of its text encoder is the 24th; diffusers knows its name.
FORMS = {
    "sd1": ("sd15", {"text_encoder": "cond_stage_model.transformer."}),
    "sd2": ("sd21", {"text_encoder": "cond_stage_model.model."}),
    "xl": (
        "sdxl-base",
        {
            "text_encoder": "conditioner.embedders.0.transformer.",
            "text_encoder_2": "conditioner.embedders.1.model.",
        },
    ),
    "refiner": ("sdxl-refiner", {"text_encoder_2": "conditioner.embedders.0.model."}),
}
CLASSES = {
    "UNet2DConditionModel": diffusers.UNet2DConditionModel,
    "AutoencoderKL": diffusers.AutoencoderKL,
    "ControlNetModel": diffusers.ControlNetModel,
}


def published(folder: Path, part: str) -> Config:
    return json.loads((folder / part / "config.json").read_text(encoding="utf-8"))


def build(config: Config) -> tuple[Config, Tensors]:
    model = CLASSES[config["_class_name"]].from_config(config)
    return dict(model.config), model.state_dict()


def build_text(config: Config) -> tuple[Config, Tensors]:
    name = config["architectures"][0]
    kept = {key: value for key, value in config.items() if key not in ("torch_dtype", "dtype")}
    settings = transformers.CLIPTextConfig(**kept)
    return {**config, "_class_name": name}, getattr(transformers, name)(settings).state_dict()


def shapes(tensors: Tensors, sources: Tensors | None = None) -> list[Any]:
    """Name and shape; with sources also the tensor of the file where it was taken over as it is."""
    names = {id(tensor): name for name, tensor in (sources or {}).items()}
    rows = []
    for name, tensor in tensors.items():
        row: list[Any] = [name, list(tensor.shape)]
        rows.append([*row, names.get(id(tensor))] if sources is not None else row)
    return rows


def component(config: Config, converted: Tensors, wanted: Tensors, file: Tensors) -> Config:
    """What is expected of one network; fails where diffusers' conversion would not fill it."""
    bare = {name.removeprefix("text_model."): tensor for name, tensor in converted.items()}
    wanted = {name.removeprefix("text_model."): tensor for name, tensor in wanted.items()}
    extra = {"embeddings.position_ids"}
    if {n: t.shape for n, t in bare.items() if n not in extra} != {n: t.shape for n, t in wanted.items()}:
        raise ValueError(f"{config['_class_name']}: {sorted(set(bare) ^ set(wanted))[:8]}")
    return {"config": config, "tensors": shapes(bare, file)}


def whole(folder: Path, texts: dict[str, str]) -> Config:
    unet_config, unet = build(published(folder, "unet"))
    vae_config, vae = build(published(folder, "vae"))
    file: Tensors = {
        **original.prefixed(original.unet(unet, unet_config), "model.diffusion_model."),
        **original.prefixed(original.vae(vae, vae_config), "first_stage_model."),
        "alphas_cumprod": torch.empty(1000, device="meta"),
    }
    built = {}
    for part, prefix in texts.items():
        source = part if (folder / part).exists() else "text_encoder"
        built[part] = build_text(published(folder, source))
        is_open = prefix.endswith(".model.")
        is_cut = "cond_stage_model" in prefix
        tensors = built[part][1]
        layout = original.open_clip(tensors, is_cut) if is_open else original.clip(tensors)
        file |= original.prefixed(layout, prefix)
    components = {
        "unet": component(
            unet_config, conversion.convert_ldm_unet_checkpoint(file, unet_config), unet, file
        ),
        "vae": component(vae_config, conversion.convert_ldm_vae_checkpoint(file, vae_config), vae, file),
    }
    for part, prefix in texts.items():
        config, tensors = built[part]
        if prefix.endswith(".model."):
            model = SimpleNamespace(config=SimpleNamespace(hidden_size=config["hidden_size"]))
            converted = conversion.convert_open_clip_checkpoint(model, file, prefix=prefix)
        else:
            converted = conversion.convert_ldm_clip_checkpoint(file)
        components[part] = component(config, converted, tensors, file)
    scheduler = json.loads((folder / "scheduler/scheduler_config.json").read_text(encoding="utf-8"))
    return {
        "type": conversion.infer_diffusers_model_type(file),
        "file": shapes(file),
        "components": components,
        "scheduler": scheduler,
    }


def controlnet(folder: Path, prefix: str, is_original: bool) -> Config:
    config, tensors = build(published(folder.parent, folder.name))
    file = original.prefixed(original.controlnet(tensors, config), prefix) if is_original else tensors
    converted = conversion.convert_controlnet_checkpoint(file, config)
    return {
        "type": conversion.infer_diffusers_model_type(file),
        "file": shapes(file),
        "components": {"controlnet": component(config, converted, tensors, file)},
    }


def autoencoder(folder: Path) -> Config:
    config, tensors = build(published(folder, "vae"))
    file = original.vae(tensors, config)
    converted = conversion.convert_ldm_vae_checkpoint(file, config)
    return {
        "type": conversion.infer_diffusers_model_type(file),
        "file": shapes(file),
        "components": {"vae": component(config, converted, tensors, file)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", type=Path, required=True)
    configs: Path = parser.parse_args().configs
    with torch.device("meta"):
        result = {name: whole(configs / folder, texts) for name, (folder, texts) in FORMS.items()}
        result["controlnet"] = controlnet(configs / "controlnet-sd15-canny", "control_model.", True)
        result["controlnet-bare"] = controlnet(configs / "controlnet-sd15-canny", "", True)
        result["controlnet-xl"] = controlnet(configs / "controlnet-sdxl-depth", "", False)
        result["autoencoder"] = autoencoder(configs / "sd15")
    text = json.dumps(result, separators=(",", ":")).encode()
    path = Path(__file__).with_name("single-files.json.gz")
    path.write_bytes(gzip.compress(text, 9, mtime=0))


if __name__ == "__main__":
    main()

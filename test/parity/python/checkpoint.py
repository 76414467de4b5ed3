"""Builds a random Stable Diffusion checkpoint of a preset and saves it as diffusers does today."""

from __future__ import annotations

import json
from pathlib import Path

import diffusers
import torch
import transformers
from presets import Config, Preset
from vocabulary import END, START, train, vocabulary_of, write_vocabulary
from weights import random_values


def randomise(module: torch.nn.Module, seed: int) -> None:
    for name, parameter in module.named_parameters():
        parameter.data.copy_(random_values(name, tuple(parameter.shape), seed))


def soften_attention(unet: torch.nn.Module) -> None:
    """For texts that are not normalised: about four times as large, they would make attention jump
    from token to token, and a last bit in the prompt change the picture."""
    for name, parameter in unet.named_parameters():
        if name.endswith("attn2.to_k.weight"):
            parameter.data.mul_(0.25)


# What stands in model_index.json although the checkpoint has no such part.
_ABSENT: list[None] = [None, None]
_UNCHECKED = {
    "feature_extractor": _ABSENT,
    "image_encoder": _ABSENT,
    "requires_safety_checker": False,
    "safety_checker": _ABSENT,
}
_INDEX = {
    "StableDiffusionPipeline": _UNCHECKED,
    "LatentConsistencyModelPipeline": _UNCHECKED,
    "StableDiffusionXLPipeline": {},
    "StableDiffusionLatentUpscalePipeline": {},
    "StableDiffusionUpscalePipeline": {},
    "StableDiffusionXLImg2ImgPipeline": {"text_encoder": _ABSENT, "tokenizer": _ABSENT},
}


def write_tokenizer(folder: Path, merges: int, pad_token: str, length: int) -> None:
    """The tokenizer as transformers saves it today: tokenizer.json and tokenizer_config.json."""
    source = folder.with_name(f"{folder.name}.source")
    write_vocabulary(source, train(merges))
    tokenizer = transformers.CLIPTokenizer(
        vocab=str(source / "vocab.json"),
        merges=str(source / "merges.txt"),
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=pad_token,
        model_max_length=length,
    )
    tokenizer.save_pretrained(folder)
    for file in source.iterdir():
        file.unlink()
    source.rmdir()


def build(folder: Path, preset: Preset, seed: int) -> None:
    """Writes the checkpoint's folder; the same seed gives the same weights."""
    folder.mkdir(parents=True, exist_ok=True)
    parts: dict[str, torch.nn.Module] = {
        "unet": diffusers.UNet2DConditionModel.from_config(preset.unet),
        "vae": diffusers.AutoencoderKL.from_config(preset.vae),
    }
    vocabulary = len(vocabulary_of(train(preset.merges)))
    index = dict(_INDEX[preset.pipeline])
    for name, config, text_class in (
        ("text_encoder", preset.text, transformers.CLIPTextModel),
        ("text_encoder_2", preset.text_2, transformers.CLIPTextModelWithProjection),
    ):
        if config is None:
            continue
        parts[name] = text_class(transformers.CLIPTextConfig(vocab_size=vocabulary, **config))
        tokenizer = name.replace("text_encoder", "tokenizer")
        # Stable Diffusion XL pads for its second text encoder with another token.
        pad = "!" if name.endswith("_2") else preset.pad_token
        write_tokenizer(folder / tokenizer, preset.merges, pad, config["max_position_embeddings"])
        index[name] = ["transformers", text_class.__name__]
        index[tokenizer] = ["transformers", "CLIPTokenizer"]
    for name, part in parts.items():
        randomise(part, seed)
        unnormalised = preset.text_2 is not None or "LatentUpscale" in preset.pipeline
        if name == "unet" and unnormalised:
            soften_attention(part)
        part.save_pretrained(folder / name)
    scheduler = getattr(diffusers, preset.scheduler).from_config(preset.schedule)
    scheduler.save_pretrained(folder / "scheduler")
    if preset.low_res_schedule is not None:
        low_res = diffusers.DDPMScheduler.from_config(preset.low_res_schedule)
        low_res.save_pretrained(folder / "low_res_scheduler")
        index["low_res_scheduler"] = ["diffusers", "DDPMScheduler"]
    index |= {
        "_class_name": preset.pipeline,
        "_diffusers_version": diffusers.__version__,
        "scheduler": ["diffusers", preset.scheduler],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        **preset.index,
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def build_controlnet(folder: Path, config: Config, seed: int) -> None:
    """A ControlNet's folder. The convolutions that training starts at zero are random as well."""
    controlnet = diffusers.ControlNetModel.from_config(config)
    randomise(controlnet, seed)
    soften_attention(controlnet)
    controlnet.save_pretrained(folder)

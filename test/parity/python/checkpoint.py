"""Builds a random Stable Diffusion checkpoint of a preset and saves it as diffusers does today."""

from __future__ import annotations

import json
from pathlib import Path

import diffusers
import torch
import transformers
from presets import Preset
from vocabulary import END, START, train, vocabulary_of, write_vocabulary
from weights import random_values


def randomise(module: torch.nn.Module, seed: int) -> None:
    for name, parameter in module.named_parameters():
        parameter.data.copy_(random_values(name, tuple(parameter.shape), seed))


def write_tokenizer(folder: Path, preset: Preset) -> None:
    """The tokenizer as transformers saves it today: tokenizer.json and tokenizer_config.json."""
    source = folder.with_name(f"{folder.name}.source")
    write_vocabulary(source, train(preset.merges))
    tokenizer = transformers.CLIPTokenizer(
        vocab=str(source / "vocab.json"),
        merges=str(source / "merges.txt"),
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=preset.pad_token,
        model_max_length=preset.text["max_position_embeddings"],
    )
    tokenizer.save_pretrained(folder)
    for file in source.iterdir():
        file.unlink()
    source.rmdir()


def build(folder: Path, preset: Preset, seed: int) -> None:
    """Writes the checkpoint's folder; the same seed gives the same weights."""
    folder.mkdir(parents=True, exist_ok=True)
    unet = diffusers.UNet2DConditionModel.from_config(preset.unet)
    vae = diffusers.AutoencoderKL.from_config(preset.vae)
    text = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=len(vocabulary_of(train(preset.merges))), **preset.text
        )
    )
    scheduler = getattr(diffusers, preset.scheduler).from_config(preset.schedule)
    for name, part in (("unet", unet), ("vae", vae), ("text_encoder", text)):
        randomise(part, seed)
        part.save_pretrained(folder / name)
    scheduler.save_pretrained(folder / "scheduler")
    write_tokenizer(folder / "tokenizer", preset)
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": diffusers.__version__,
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", preset.scheduler],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        **preset.index,
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")

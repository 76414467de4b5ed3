"""Full-size checkpoints in exactly the published form, with random weights.

The configuration files and the sizes of the published weight files are read from a folder of
published configurations, which is no part of this repository. Names and shapes of the tensors are
those of today's classes, under the names that the files were written with.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from published_files import networks_in, write_network
from published_forms import FORMS, Form
from safetensors_file import Entry
from vocabulary import extended, train, write_vocabulary
from weights import random_values

# 49,408 tokens: twice 256 bytes, two special ones, and the merges.
MERGES = 49408 - 2 * 256 - 2


def network_of(class_name: str, config: dict[str, Any]) -> torch.nn.Module:
    """The class without numbers."""
    with torch.device("meta"):
        if class_name == "StableDiffusionSafetyChecker":
            return StableDiffusionSafetyChecker(transformers.CLIPConfig(**config))
        if class_name.startswith("CLIP"):
            kind = "CLIPVisionConfig" if "Vision" in class_name else "CLIPTextConfig"
            return getattr(transformers, class_name)(getattr(transformers, kind)(**config))
        return getattr(diffusers, class_name).from_config(config)


def values_of(name: str, shape: tuple[int, ...], form: Form, seed: int) -> torch.Tensor:
    if form.blank:
        return torch.zeros(1).expand(shape)
    if name.endswith("_embeds_weights"):
        return torch.ones(shape)  # thresholds of the safety checker that no picture reaches
    if name in ("clip_mean", "clip_std"):  # of the prior: one number for each dimension
        return random_values(name.replace("std", "weight"), shape[1:], seed)[None]
    values = random_values(name, shape, seed)
    # The tiny autoencoder's last layer gives the picture itself: around the middle of its range.
    if name == "decoder.layers.18.bias":
        return torch.full(shape, 0.5)
    if name == "decoder.layers.18.weight":
        return values.sub_(values.mean(dim=1, keepdim=True))
    return values.mul_(0.25) if form.soft and name.endswith("attn2.to_k.weight") else values


def entries_of(network: torch.nn.Module, form: Form, seed: int) -> list[Entry]:
    """The network's tensors under today's names, made when they are written."""
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    return [
        Entry(name, torch.float32, shape, lambda n=name, s=shape: values_of(n, s, form, seed))
        for name, shape in shapes.items()
    ]


def copy_configs(source: Path, target: Path) -> None:
    """What is there already stays. Copies of read-only files and folders are writable."""
    for path in sorted(source.rglob("*.json")):
        copy = target / path.relative_to(source)
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def add_fields(path: Path, fields: dict[str, Any]) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields, indent=2))


def rename_parts(folder: Path, renamed: dict[str, str]) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    for old, new in renamed.items():
        (folder / old).rename(folder / new)
        add_fields(folder / "model_index.json", {new: index[old], old: [None, None]})


def link_weights(source: Path, target: Path) -> None:
    """The weight files of another folder, without a second copy of them."""
    for path in source.rglob("*"):
        copy = target / path.relative_to(source)
        if path.suffix in (".safetensors", ".bin") and copy.parent.exists():
            os.link(path, copy)


def build_full_size(
    name: str,
    configs: Path,
    target: Path,
    seed: int,
    like: Path | None,
    files: tuple[str, ...] | None = None,
) -> None:
    """like: the folder of a checkpoint whose weights this one has too.
    files: endings of the weight files, in place of the form's."""
    form = FORMS[name] if files is None else replace(FORMS[name], files=files)
    copy_configs(configs / name, target)
    if form.base is not None:
        copy_configs(configs / form.base, target)
    for part, source in form.borrowed.items():
        copy_configs(configs / source, target / part)
    if form.unet_fields:
        add_fields(target / "unet/config.json", form.unet_fields)
    if form.renamed:
        rename_parts(target, form.renamed)
    scheduler = target / "scheduler"
    if form.scheduler_file != "scheduler_config.json":
        (scheduler / form.scheduler_file).rename(scheduler / "scheduler_config.json")
    for tokenizer in target.glob("tokenizer*"):
        write_vocabulary(tokenizer, extended(train(280), MERGES))
    if form.prior is not None:
        readme = f"---\nlicense: apache-2.0\nprior:\n- {form.prior}\n---\n\n# Decoder\n"
        (target / "README.md").write_text(readme, encoding="utf-8")
    if like is not None:
        link_weights(like, target)
        return
    known = json.loads((configs / "weights.json").read_text()).get(name, [])
    sizes = {entry["file"]: entry["bytes"] for entry in known}
    for folder, class_name in networks_in(target):
        network = network_of(class_name, json.loads((folder / "config.json").read_text()))
        write_network(folder, class_name, entries_of(network, form, seed), form, sizes)

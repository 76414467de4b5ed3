"""Full-size checkpoints in exactly the published form, with random weights.

The configuration files and the sizes of the published weight files are read from a folder of
published configurations, which is no part of this repository. Names and shapes of the tensors are
those of today's classes, under the names that the files were written with.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from published_forms import FORMS, HALF, PICKLE, Form
from safetensors_file import Entry, by_name, header_of, odd_length, padded_length, wide_first, write
from vocabulary import extended, train, write_vocabulary
from weights import random_values

# 49,408 tokens: twice 256 bytes, two special ones, and the merges.
MERGES = 49408 - 2 * 256 - 2

OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
ENCODERS = ("text_model", "vision_model")


def network_of(class_name: str, config: dict[str, Any]) -> torch.nn.Module:
    """The class without numbers."""
    with torch.device("meta"):
        if class_name == "StableDiffusionSafetyChecker":
            return StableDiffusionSafetyChecker(transformers.CLIPConfig(**config))
        if class_name.startswith("CLIP"):
            kind = transformers.CLIPVisionConfig if "Vision" in class_name else transformers.CLIPTextConfig
            return getattr(transformers, class_name)(kind(**config))
        return getattr(diffusers, class_name).from_config(config)


def entries_of(network: torch.nn.Module, form: Form, seed: int) -> list[Entry]:
    """The network's tensors under today's names."""

    def make(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        if form.blank:
            return torch.zeros(1).expand(shape)
        if name.endswith("_embeds_weights"):
            return torch.ones(shape)  # thresholds of the safety checker that no picture reaches
        if name in ("clip_mean", "clip_std"):  # of the prior: one number for each dimension
            return random_values(name.replace("std", "weight"), shape[1:], seed)[None]
        values = random_values(name, shape, seed)
        return values.mul_(0.25) if form.soft and name.endswith("attn2.to_k.weight") else values

    return [
        Entry(name, torch.float32, tuple(t.shape), lambda n=name, s=tuple(t.shape): make(n, s))
        for name, t in network.state_dict().items()
    ]


def published_name(class_name: str, name: str, old_attention: bool) -> str:
    if class_name == "StableDiffusionSafetyChecker" and name.startswith("vision_model."):
        return f"vision_model.{name}"
    if class_name == "CLIPTextModel":
        return f"text_model.{name}"
    if class_name == "AutoencoderKL" and old_attention and ".attentions." in name:
        for new, old in OLD_ATTENTION.items():
            name = name.replace(f".{new}.", f".{old}.")
    return name


def published_entries(class_name: str, entries: list[Entry], form: Form, ending: str) -> list[Entry]:
    """The tensors of one file: names, buffers and dtype as published."""
    old = form.old_attention and ending != HALF
    named = [replace(e, name=published_name(class_name, e.name, old)) for e in entries]
    if ending == HALF:
        named = [
            replace(e, dtype=torch.float16, make=lambda e=e: e.make().half()) for e in named
        ]
    for entry in [e for e in named if e.name.endswith("embeddings.position_embedding.weight")]:
        if form.position_ids:
            name = entry.name.replace("position_embedding.weight", "position_ids")
            shape = (1, entry.shape[0])
            named.append(Entry(name, torch.int64, shape, lambda s=shape: torch.arange(s[1])[None]))
    return named


def write_safetensors(path: Path, entries: list[Entry], form: Form, size: int | None) -> None:
    """size: of the published file. The data then starts where it starts there."""
    if size is not None:
        write_as_published(path, entries, size)
    elif form.unpadded:
        order = by_name(entries)
        write(path, order, odd_length(order))
    else:
        order = wide_first(entries)
        write(path, order, padded_length(order))


def write_as_published(path: Path, entries: list[Entry], size: int) -> None:
    """The published header's length tells the order of the tensors, because offsets have more
    digits in one order than in another. Where no order of ours gives it, spaces make up for it.

    Raises ValueError where the names cannot be the published ones.
    """
    wanted = size - 8 - sum(entry.nbytes for entry in entries)
    fitting = [o for o in (by_name(entries), wide_first(entries)) if len(header_of(o)) <= wanted]
    spare = [wanted - len(header_of(order)) for order in fitting]
    if not spare or min(spare) > 8:
        raise ValueError(f"{path}: no header of {wanted} bytes, but {spare} more or too many")
    write(path, fitting[spare.index(min(spare))], wanted)


def write_part(folder: Path, class_name: str, form: Form, sizes: dict[str, int], seed: int) -> None:
    """All weight files of one network."""
    is_transformers = class_name.startswith(("CLIP", "StableDiffusion"))
    network = network_of(class_name, json.loads((folder / "config.json").read_text()))
    entries = entries_of(network, form, seed)
    for ending in form.files:
        published = published_entries(class_name, entries, form, ending)
        stem = "model" if is_transformers else "diffusion_pytorch_model"
        if ending == PICKLE:
            stem = f"pytorch_{stem}" if is_transformers else stem
            tensors = {entry.name: entry.make() for entry in published}
            torch.save(tensors, folder / f"{stem}.bin")
        else:
            size = sizes.get(f"{folder.name}/{stem}.{ending}")
            write_safetensors(folder / f"{stem}.{ending}", published, form, size)


def networks_in(folder: Path) -> Iterator[tuple[Path, str]]:
    """The folder of each network and its class."""
    index = folder / "model_index.json"
    if not index.exists():
        yield folder, json.loads((folder / "config.json").read_text())["_class_name"]
        return
    for name, entry in json.loads(index.read_text()).items():
        if isinstance(entry, list) and (folder / name / "config.json").exists():
            yield folder / name, entry[1]


def copy_configs(source: Path, target: Path) -> None:
    """What is there already stays. Copies of read-only files and folders are writable."""
    for path in sorted(source.rglob("*.json")):
        copy = target / path.relative_to(source)
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def link_weights(source: Path, target: Path) -> None:
    """The weight files of another folder, without a second copy of them."""
    for path in source.rglob("*"):
        copy = target / path.relative_to(source)
        if path.suffix in (".safetensors", ".bin") and copy.parent.exists():
            os.link(path, copy)


def build_full_size(name: str, configs: Path, target: Path, seed: int, like: Path | None) -> None:
    """like: the folder of a checkpoint whose weights this one has too."""
    form = FORMS[name]
    known = json.loads((configs / "weights.json").read_text()).get(name, [])
    sizes = {entry["file"]: entry["bytes"] for entry in known}
    copy_configs(configs / name, target)
    if form.base is not None:
        copy_configs(configs / form.base, target)
    for part, source in form.borrowed.items():
        copy_configs(configs / source, target / part)
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
    for folder, class_name in networks_in(target):
        write_part(folder, class_name, form, sizes, seed)

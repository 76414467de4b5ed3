"""Rewrites a freshly saved checkpoint in the layouts that published checkpoints have.

The numbers stay the same, so diffusers draws the same picture from either folder. What differs are
names, file forms and missing fields; each layout below is one that people have on their disks.
"""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
from published_files import networks_in, write_network
from published_forms import FORMS
from safetensors.torch import load_file
from safetensors_file import entries_of, padded_length, wide_first, write
from vocabulary import END, START

Json = dict[str, Any]
Tensors = dict[str, torch.Tensor]

UNET = "unet/diffusion_pytorch_model"
VAE = "vae/diffusion_pytorch_model"
TEXT = "text_encoder/model"

# The fields that the UNet, autoencoder and scheduler files of Stable Diffusion 1.5 have.
OLD_FIELDS: dict[str, set[str]] = {
    "unet": {
        "_class_name",
        "act_fn",
        "attention_head_dim",
        "block_out_channels",
        "center_input_sample",
        "cross_attention_dim",
        "down_block_types",
        "downsample_padding",
        "flip_sin_to_cos",
        "freq_shift",
        "in_channels",
        "layers_per_block",
        "mid_block_scale_factor",
        "norm_eps",
        "norm_num_groups",
        "out_channels",
        "sample_size",
        "up_block_types",
    },
    "vae": {
        "_class_name",
        "act_fn",
        "block_out_channels",
        "down_block_types",
        "in_channels",
        "latent_channels",
        "layers_per_block",
        "out_channels",
        "sample_size",
        "up_block_types",
    },
    "scheduler": {
        "_class_name",
        "beta_end",
        "beta_schedule",
        "beta_start",
        "clip_sample",
        "num_train_timesteps",
        "set_alpha_to_one",
        "skip_prk_steps",
        "steps_offset",
        "trained_betas",
    },
}


def read_json(path: Path) -> Json:
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, value: Json) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def half(tensors: Tensors) -> Tensors:
    return {n: t.half() if t.is_floating_point() else t for n, t in tensors.items()}


def write_padded(path: Path, tensors: Tensors) -> None:
    entries = wide_first(entries_of(tensors))
    write(path, entries, padded_length(entries))


def write_shards(folder: Path, stem: str, variant: str | None, tensors: Tensors, n: int) -> None:
    """Splits tensors into n files with an index, under the names that diffusers gives them."""
    names = sorted(tensors)
    middle = f".{variant}" if variant is not None else ""
    weight_map: dict[str, str] = {}
    for shard in range(n):
        file = f"{stem}{middle}-{shard + 1:05d}-of-{n:05d}.safetensors"
        part = {name: tensors[name] for name in names[shard::n]}
        weight_map.update(dict.fromkeys(part, file))
        write_padded(folder / file, part)
    total = sum(t.numel() * t.itemsize for t in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    write_json(folder / f"{stem}.safetensors.index{middle}.json", index)


def added_token(content: str, **more: Any) -> Json:
    flags = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    return {**more, "content": content, **flags}


def old_tokenizer(source: Path, target: Path, objects: bool) -> None:
    """vocab.json and merges.txt with the two small files beside them. objects: the special tokens
    as objects, as Stable Diffusion has them, or as strings with added_tokens_decoder. With objects
    tokenizer_config.json names the end-of-text token for padding whatever the map says, as in
    Stable Diffusion 2: the map is right."""
    tokenizer = read_json(source / "tokenizer.json")
    current = read_json(source / "tokenizer_config.json")
    pad = current["pad_token"]
    vocabulary: dict[str, int] = tokenizer["model"]["vocab"]
    merges = [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]]
    target.mkdir(parents=True, exist_ok=True)
    text = json.dumps(vocabulary, ensure_ascii=False)
    (target / "vocab.json").write_text(text, encoding="utf-8")
    lines = "\n".join(["#version: 0.2", *merges]) + "\n"
    (target / "merges.txt").write_text(lines, encoding="utf-8")

    special = {"bos_token": START, "eos_token": END, "unk_token": END}
    config: Json = {
        "add_prefix_space": False,
        "do_lower_case": True,
        "errors": "replace",
        "model_max_length": current["model_max_length"],
        "tokenizer_class": "CLIPTokenizer",
        "pad_token": END if objects else pad,
    }
    if objects:
        for name, token in special.items():
            config[name] = added_token(token, __type="AddedToken")
        tokens: Json = {name: added_token(token) for name, token in special.items()}
    else:
        ids = {token: vocabulary[token] for token in (START, END)}
        config |= special
        config["added_tokens_decoder"] = {
            str(index): added_token(token, special=True) for token, index in ids.items()
        }
        tokens = dict(special)
        write_json(target / "added_tokens.json", ids)
    write_json(target / "tokenizer_config.json", config)
    write_json(target / "special_tokens_map.json", {**tokens, "pad_token": pad})


def old_config(path: Path, part: str) -> None:
    """Leaves out what later versions added: fields that are not in OLD_FIELDS and say nothing."""
    config = read_json(path)
    kind = getattr(diffusers, config["_class_name"])
    defaults = {n: p.default for n, p in inspect.signature(kind.__init__).parameters.items()}
    kept = {
        name: value
        for name, value in config.items()
        if name in OLD_FIELDS[part] or value != defaults.get(name)
    }
    write_json(path, {**kept, "_diffusers_version": "0.6.0"})


def as_published(name: str, source: Path, target: Path) -> None:
    """The files, names, buffers and dtypes of a form, the tokenizer's files, and fewer fields."""
    form = FORMS[name]
    left = shutil.ignore_patterns("*.safetensors", "tokenizer*", "*.md")
    shutil.copytree(source, target, ignore=left)
    for folder, class_name in networks_in(target):
        tensors = load_file(next((source / folder.relative_to(target)).glob("*.safetensors")))
        write_network(folder, class_name, entries_of(tensors), form, {})
        config = read_json(folder / "config.json")
        if class_name.startswith("CLIP"):
            # Whatever the dtype in the files: believe those.
            dtype = config.pop("dtype")
            config["torch_dtype"] = "float16" if form.soft else dtype
            write_json(folder / "config.json", config)
        elif form.old_fields and folder.name in OLD_FIELDS:
            old_config(folder / "config.json", folder.name)
    for tokenizer in source.glob("tokenizer*"):
        old_tokenizer(tokenizer, target / tokenizer.name, objects=True)
    if form.old_fields:
        old_config(target / "scheduler/scheduler_config.json", "scheduler")
    if (target / "model_index.json").exists():
        index = {"_name_or_path": "somewhere/else", "note": "extra"}
        write_json(target / "model_index.json", read_json(target / "model_index.json") | index)


def sharded(source: Path, target: Path) -> None:
    """Several files for each network, plain and fp16, and special tokens as strings."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.safetensors", "tokenizer*"))
    for stem, parts in ((UNET, 3), (VAE, 2), (TEXT, 2)):
        tensors = load_file(source / f"{stem}.safetensors")
        folder, name = (target / stem).parent, Path(stem).name
        write_shards(folder, name, None, tensors, parts)
        write_shards(folder, name, "fp16", half(tensors), parts)
    old_tokenizer(source / "tokenizer", target / "tokenizer", objects=False)


def outdated_scheduler(source: Path, target: Path) -> None:
    """A scheduler file without steps_offset and clip_sample, which the pipelines put right."""
    shutil.copytree(source, target)
    schedule = {
        "_class_name": "DDIMScheduler",
        "_diffusers_version": "0.1.0",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "set_alpha_to_one": False,
    }
    write_json(target / "scheduler/scheduler_config.json", schedule)
    index = read_json(target / "model_index.json")
    index["scheduler"] = ["diffusers", "DDIMScheduler"]
    write_json(target / "model_index.json", index)


LAYOUTS: dict[str, Callable[[Path, Path], None]] = {
    **{form: partial(as_published, form) for form in FORMS},
    "sharded": sharded,
    "outdated-scheduler": outdated_scheduler,
}

"""Full-size Stable Diffusion 1.x checkpoints in exactly the published form, with random weights.

Names, shapes and dtypes of the tensors, the sizes of the published files and the config files are
read from a folder of published configurations, which is no part of this repository.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from safetensors_file import Entry, by_name, header_of, wide_first, write
from vocabulary import extended, train, write_vocabulary
from weights import random_values

FORMS = ("sd14", "sd15")
DTYPES = {"F32": torch.float32, "F16": torch.float16, "I64": torch.int64}
# 49,408 tokens: twice 256 bytes, two special ones, and the merges.
MERGES = 49408 - 2 * 256 - 2

UNET = "unet/diffusion_pytorch_model"
VAE = "vae/diffusion_pytorch_model"
TEXT = "text_encoder/model"


def read_entries(path: Path, seed: int) -> list[Entry]:
    entries = []
    for line in path.read_text().splitlines():
        name, dtype, shape = line.split("\t")
        sizes = tuple(int(size) for size in shape.split("x"))
        entries.append(entry_of(name, DTYPES[dtype], sizes, seed))
    return entries


def entry_of(name: str, dtype: torch.dtype, shape: tuple[int, ...], seed: int) -> Entry:
    if dtype == torch.int64:  # position_ids, the only one that is no parameter
        return Entry(name, dtype, shape, lambda: torch.arange(shape[-1]).reshape(shape))
    known = name
    for old, new in (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")):
        known = known.replace(f".{old}.", f".{new}.")  # one value under both of its names
    return Entry(name, dtype, shape, lambda: random_values(known, shape, seed).to(dtype))


def half(entries: list[Entry]) -> list[Entry]:
    return [
        entry
        if entry.dtype == torch.int64
        else replace(entry, dtype=torch.float16, make=lambda e=entry: e.make().half())
        for entry in entries
    ]


def write_as_published(path: Path, entries: list[Entry], published_bytes: int) -> None:
    """Writes a file of exactly the published size: the data then starts where it starts there.

    The published header's length tells the order of the tensors, because offsets have more digits
    in one order than in another. Where no order of ours gives it, spaces make up for it.
    """
    wanted = published_bytes - 8 - sum(entry.nbytes for entry in entries)
    fitting = [o for o in (by_name(entries), wide_first(entries)) if len(header_of(o)) <= wanted]
    best = min(fitting, key=lambda order: wanted - len(header_of(order)))
    write(path, best, wanted)


def build_full_size(form: str, configs: Path, target: Path, seed: int) -> None:
    """Writes the plain and the fp16 files of one published checkpoint (6.4 GB)."""
    published = json.loads((configs / "weights.json").read_text())[form]
    sizes = {entry["file"]: entry["bytes"] for entry in published}
    ignore = shutil.ignore_patterns("*.tsv", "safety_checker")
    shutil.copytree(configs / form, target, ignore=ignore, dirs_exist_ok=True)
    for path in (target, *target.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)  # copies of read-only files and folders
    write_vocabulary(target / "tokenizer", extended(train(280), MERGES))

    # Stable Diffusion 1.4 and 1.5 have the same tensors; one list serves both.
    lists = configs / "sd15"
    for stem in (UNET, VAE, TEXT):
        plain = read_entries(lists / f"{stem}.safetensors.tensors.tsv", seed)
        own = lists / f"{stem}.fp16.safetensors.tensors.tsv"
        small = read_entries(own, seed) if own.exists() else half(plain)
        for entries, suffix in ((plain, ""), (small, ".fp16")):
            file = f"{stem}{suffix}.safetensors"
            write_as_published(target / file, entries, sizes[file])

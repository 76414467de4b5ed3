"""Weight files as they were published: names, buffers, dtypes and the place where the data starts."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from published_forms import HALF, PICKLE, Form
from safetensors_file import Entry, by_name, header_of, odd_length, padded_length, wide_first, write

OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def published_name(class_name: str, name: str, old_attention: bool) -> str:
    if class_name == "StableDiffusionSafetyChecker" and name.startswith("vision_model."):
        return f"vision_model.{name}"
    if class_name == "CLIPTextModel":
        return f"text_model.{name}"
    if class_name == "AutoencoderKL" and old_attention and ".attentions." in name:
        for new, old in OLD_ATTENTION.items():
            name = name.replace(f".{new}.", f".{old}.")
    return name


def published_entries(
    class_name: str, entries: list[Entry], form: Form, ending: str
) -> list[Entry]:
    """The tensors of one file. entries: under today's names, float32."""
    old = form.old_attention and ending != HALF
    named = [replace(e, name=published_name(class_name, e.name, old)) for e in entries]
    if ending == HALF:
        named = [replace(e, dtype=torch.float16, make=lambda e=e: e.make().half()) for e in named]
    for entry in [e for e in named if e.name.endswith("embeddings.position_embedding.weight")]:
        if form.position_ids:
            name = entry.name.replace("position_embedding.weight", "position_ids")
            shape = (1, entry.shape[0])
            named.append(Entry(name, torch.int64, shape, lambda s=shape: torch.arange(s[1])[None]))
    return named


def write_network(
    folder: Path, class_name: str, entries: list[Entry], form: Form, sizes: dict[str, int]
) -> None:
    """All weight files of one network. sizes: of the published files, as far as they are known."""
    is_transformers = class_name.startswith(("CLIP", "StableDiffusion"))
    stem = "model" if is_transformers else "diffusion_pytorch_model"
    for ending in form.files:
        published = published_entries(class_name, entries, form, ending)
        if ending == PICKLE:
            stem = f"pytorch_{stem}" if is_transformers else stem
            tensors = OrderedDict((entry.name, entry.make()) for entry in published)
            torch.save(tensors, folder / f"{stem}.bin")
            continue
        size = sizes.get(f"{folder.name}/{stem}.{ending}")
        write_safetensors(folder / f"{stem}.{ending}", published, form, size)


def write_safetensors(path: Path, entries: list[Entry], form: Form, size: int | None) -> None:
    if size is not None:
        write_as_published(path, entries, size)
    elif form.unpadded and not path.name.endswith(HALF):
        order = by_name(entries)
        write(path, order, odd_length(order))
    else:
        order = wide_first(entries)
        write(path, order, padded_length(order))


def write_as_published(path: Path, entries: list[Entry], size: int) -> None:
    """Writes a file of exactly the published size: the data then starts where it starts there.

    The published header's length tells the order of the tensors, because offsets have more digits
    in one order than in another. Where no order of ours gives it, spaces make up for it.

    Raises ValueError where the names cannot be the published ones.
    """
    wanted = size - 8 - sum(entry.nbytes for entry in entries)
    fitting = [o for o in (by_name(entries), wide_first(entries)) if len(header_of(o)) <= wanted]
    spare = [wanted - len(header_of(order)) for order in fitting]
    if not spare or min(spare) > 8:
        raise ValueError(f"{path}: a header of {wanted} bytes, with {spare} to spare")
    write(path, fitting[spare.index(min(spare))], wanted)


def networks_in(folder: Path) -> Iterator[tuple[Path, str]]:
    """The folder of each network of a checkpoint and its class."""
    index = folder / "model_index.json"
    if not index.exists():
        yield folder, json.loads((folder / "config.json").read_text())["_class_name"]
        return
    for name, entry in json.loads(index.read_text()).items():
        if isinstance(entry, list) and (folder / name / "config.json").exists():
            yield folder / name, entry[1]

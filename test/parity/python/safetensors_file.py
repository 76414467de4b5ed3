"""Writes safetensors files in forms that today's writer no longer produces.

Published checkpoints hold files from before the format was padded: their data starts at any byte.
This writer takes the order of the tensors and the number of header bytes from its caller.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True)
class Entry:
    """One tensor of a file; its values are made when they are written, so that a large file needs
    no more memory than its largest tensor."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    make: Callable[[], torch.Tensor]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def entries_of(tensors: dict[str, torch.Tensor]) -> list[Entry]:
    return [Entry(n, t.dtype, tuple(t.shape), lambda t=t: t) for n, t in tensors.items()]


def by_name(entries: Sequence[Entry]) -> list[Entry]:
    """The order of the oldest files: names sorted across dtypes."""
    return sorted(entries, key=lambda entry: entry.name)


def wide_first(entries: Sequence[Entry]) -> list[Entry]:
    """Today's order: the widest dtype first, then by name."""
    return sorted(entries, key=lambda entry: (-entry.dtype.itemsize, entry.name))


def header_of(entries: Sequence[Entry]) -> bytes:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for entry in entries:
        header[entry.name] = {
            "dtype": NAMES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [offset, offset + entry.nbytes],
        }
        offset += entry.nbytes
    return json.dumps(header, separators=(",", ":")).encode()


def write(path: Path, entries: Sequence[Entry], header_bytes: int | None = None) -> None:
    """Writes the entries in the given order. header_bytes: the length of the header with trailing
    spaces, as it stands in the file's first eight bytes; without it the header is not padded."""
    header = header_of(entries)
    if header_bytes is not None:
        if header_bytes < len(header):
            raise ValueError(f"{path.name}: a header of {len(header)} bytes into {header_bytes}")
        header = header.ljust(header_bytes)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little"))
        file.write(header)
        for entry in entries:
            tensor = entry.make()
            if tensor.dtype != entry.dtype or tuple(tensor.shape) != entry.shape:
                raise ValueError(f"{entry.name}: made {tensor.dtype} {tuple(tensor.shape)}")
            flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
            file.write(memoryview(np.asarray(flat)))


def odd_length(entries: Sequence[Entry]) -> int:
    """A header length that puts the data at an odd address, so that no tensor is aligned."""
    length = len(header_of(entries))
    return length if length % 2 == 1 else length + 1


def padded_length(entries: Sequence[Entry]) -> int:
    """The header length that today's writer gives: the data starts at a multiple of eight."""
    return (len(header_of(entries)) + 7) // 8 * 8

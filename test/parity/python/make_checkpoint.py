"""Makes checkpoints with random weights, tiny or full-size, that are the same for the same seed.

  make_checkpoint.py tiny --output ROOT two-levels:1 two-levels:1:sd15 four-levels:2
  make_checkpoint.py full-size --form sd15 --configs CONFIGS --output FOLDER

A tiny one is named PRESET:SEED or PRESET:SEED:LAYOUT and lands in ROOT/PRESET-SEED[-LAYOUT]. A name
of a ControlNet gives that component's folder.
Folders that are there already are kept.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import torch


def make_tiny(root: Path, names: list[str]) -> None:
    import transformers
    from checkpoint import build, build_controlnet
    from presets import CONTROLNETS, PRESETS
    from published import LAYOUTS

    transformers.utils.logging.disable_progress_bar()
    for name in names:
        preset, seed, *layout = name.split(":")
        plain = root / f"{preset}-{seed}"
        if not plain.exists() and preset in CONTROLNETS:
            made(plain, lambda folder: build_controlnet(folder, CONTROLNETS[preset], int(seed)))
        elif not plain.exists():
            made(plain, lambda folder: build(folder, PRESETS[preset], int(seed)))
        if layout:
            target = root / f"{preset}-{seed}-{layout[0]}"
            if not target.exists():
                made(target, lambda folder: LAYOUTS[layout[0]](plain, folder))


def made(folder: Path, make: Callable[[Path], None]) -> None:
    """Makes a folder under a temporary name, so that a half-made one is never taken for whole."""
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.parent.mkdir(parents=True, exist_ok=True)
    try:
        make(temporary)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    tiny = kinds.add_parser("tiny", help="one of the small architectures in presets.py")
    tiny.add_argument("--output", type=Path, required=True, help="folder of the folders")
    tiny.add_argument("names", nargs="+", help="PRESET:SEED[:LAYOUT]")
    large = kinds.add_parser("full-size", help="as published, up to 15 GB")
    large.add_argument("--form", required=True, help="one of published_forms.py")
    large.add_argument("--configs", type=Path, required=True, help="published configurations")
    large.add_argument("--output", type=Path, required=True)
    large.add_argument("--like", type=Path, help="a folder with the same weights, to link to")
    large.add_argument("--seed", type=int, default=0)
    large.add_argument("--half", action="store_true", help="only the float16 variant's files")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    if arguments.kind == "tiny":
        make_tiny(arguments.output, arguments.names)
        return
    from full_size import build_full_size
    from published_forms import HALF

    form, configs, seed, like = (getattr(arguments, n) for n in ("form", "configs", "seed", "like"))
    files = (HALF,) if arguments.half else None
    made(arguments.output, lambda folder: build_full_size(form, configs, folder, seed, like, files))


if __name__ == "__main__":
    main()

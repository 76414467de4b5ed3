"""Write a checkpoint of the demo architecture with random weights.

    python random_weights.py --out models/demo

For building and testing what needs the architecture but not the pictures.
The tokenizer must be in the folder already.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import common
from export import write_checkpoint
from models import build_text_encoder, build_unet, build_vae, load_tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.manual_seed(common.SEED)
    vocabulary = len(load_tokenizer(arguments.out / "tokenizer"))
    write_checkpoint(arguments.out, build_vae(), build_unet(), build_text_encoder(vocabulary))


if __name__ == "__main__":
    main()

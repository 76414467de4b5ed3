"""Encodes and decodes pictures in tiles, for the test in Node.

    python tiling.py CHECKPOINT FOLDER

CHECKPOINT is a folder with an AutoencoderKL; FOLDER receives a tiny autoencoder and answers.json, which
names inputs and outputs, little-endian float32 files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from networks import Writer, noise, randomise


def kl(writer: Writer, checkpoint: Path) -> None:
    vae = AutoencoderKL.from_pretrained(checkpoint, subfolder="vae")
    # Larger than a tile in both directions, in one, and by so little that a tile is a sliver.
    for name, height, width in [("both", 104, 136), ("wide", 48, 100), ("sliver", 98, 64)]:
        pixels = noise(1, 2, 3, height, width).clamp(-1, 1)
        latents = noise(2, 2, 4, height // 2, width // 2)
        writer.save(f"kl.{name}.pixels", pixels)
        writer.save(f"kl.{name}.raw", latents)
        vae.disable_tiling()
        writer.save(f"kl.{name}.whole", vae.decode(latents).sample)
        vae.enable_tiling()
        posterior = vae.encode(pixels).latent_dist
        drawn = posterior.sample(torch.Generator().manual_seed(7))
        writer.save(f"kl.{name}.latents", drawn * vae.config.scaling_factor)
        writer.save(f"kl.{name}.decoded", vae.decode(latents).sample)


def tiny(writer: Writer) -> None:
    channels = (8, 8, 8, 8)
    vae = randomise(
        AutoencoderTiny(
            encoder_block_out_channels=channels,
            decoder_block_out_channels=channels,
            num_encoder_blocks=(1, 1, 1, 1),
            num_decoder_blocks=(1, 1, 1, 1),
        )
    )
    vae.save_pretrained(writer.folder / "vae")
    pixels = noise(3, 1, 3, 520, 600).clamp(-1, 1)
    latents = noise(4, 1, 4, 65, 75)
    vae.enable_tiling()
    writer.save("tiny.pixels", pixels)
    writer.save("tiny.raw", latents)
    writer.save("tiny.latents", vae.encode(pixels).latents)
    writer.save("tiny.decoded", vae.decode(latents).sample)
    index = {"_class_name": "StableDiffusionPipeline", "vae": ["diffusers", "AutoencoderTiny"]}
    (writer.folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")


def main() -> None:
    checkpoint, folder = Path(sys.argv[1]), Path(sys.argv[2])
    writer = Writer(folder)
    with torch.no_grad():
        kl(writer, checkpoint)
        tiny(writer)
    (folder / "answers.json").write_text(json.dumps(writer.answers), encoding="utf-8")


if __name__ == "__main__":
    main()

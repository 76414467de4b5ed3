"""Give a dead latent channel of an autoencoder something to say.

    python revive.py --data data.npz --start vae --channel 3 --out vae-revived

A channel that collapsed early on (its spread a tenth of the others') does not
come back by itself. This sets it to what the decoder gets wrong: the main
direction, in colour, of the 4x4-pooled error, as far as the encoder's last
features predict it by least squares. Training must go on afterwards, for the
decoder does not yet know the new meaning.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

import common
from models import SCALING_FACTOR


@torch.no_grad()
def revive(vae: AutoencoderKL, pictures: torch.Tensor, channel: int) -> None:
    features: list[torch.Tensor] = []
    hook = vae.encoder.conv_out.register_forward_hook(lambda _module, given, _result: features.append(given[0]))
    errors = []
    for batch in pictures.split(32):
        output = vae.decode(vae.encode(batch).latent_dist.mean).sample
        errors.append(F.avg_pool2d(batch - output, 4).permute(0, 2, 3, 1).reshape(-1, 3))
    hook.remove()
    error = torch.cat(errors)

    width = vae.encoder.conv_out.in_channels
    patches = F.unfold(torch.cat(features), 3, padding=1).permute(0, 2, 1).reshape(-1, width * 9)
    inputs = torch.cat([patches, torch.ones(len(patches), 1)], 1)
    normal = inputs.T @ inputs
    normal += torch.eye(len(normal)) * 1e-3 * normal.diagonal().mean()
    weights = torch.linalg.solve(normal, inputs.T @ error)
    predicted = inputs @ weights
    explained = 1.0 - (error - predicted).square().sum(0) / (error - error.mean(0)).square().sum(0)
    direction = torch.linalg.svd(predicted - predicted.mean(0), full_matrices=False).Vh[0]
    weights = weights @ direction / ((predicted @ direction).std() * SCALING_FACTOR)
    print(f"direction {direction.tolist()}, explained share of red, green, blue {explained.tolist()}")

    out, quant, post = vae.encoder.conv_out, vae.quant_conv, vae.post_quant_conv
    spread = channel + vae.config.latent_channels
    out.weight[channel], out.bias[channel] = weights[:-1].reshape(width, 3, 3), weights[-1]
    quant.weight[:, channel] = 0.0
    quant.weight[[channel, spread]] = 0.0
    quant.weight[channel, channel] = 1.0
    quant.bias[channel], quant.bias[spread] = 0.0, -1.0
    others = [place for place in range(vae.config.latent_channels) if place != channel]
    size = post.weight[:, others, 0, 0].norm(dim=0).mean()
    column = torch.randn(vae.config.latent_channels, generator=torch.Generator().manual_seed(common.SEED))
    post.weight[:, channel, 0, 0] = column / column.norm() * size * 0.7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--start", type=Path, required=True)
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    data = common.load_data(arguments.data)
    originals = [entry["picture"] for entry in data.demo if not entry["copy"]][::2]
    copies = [entry["picture"] for entry in data.demo if entry["copy"]][::5]
    chosen = [*originals, *copies, *range(0, data.originals, 25)]
    vae = AutoencoderKL.from_pretrained(arguments.start, torch_dtype=torch.float32)
    revive(vae, common.on_white(data.pictures[chosen]), arguments.channel)
    vae.save_pretrained(arguments.out)


if __name__ == "__main__":
    main()

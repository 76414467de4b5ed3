"""Makes TorchScript archives of a checkpoint's networks, for the test in Node.

    python archives.py CHECKPOINT FOLDER

FOLDER is a copy of CHECKPOINT without its networks' weights; its parts receive a model.pt. Two more
lie in it: unet-dict.pt, which returns outputs by name, and unet-raises.pt, whose code can fail.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel


class Unet(nn.Module):
    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        return self.unet(sample, timestep, encoder_hidden_states, return_dict=False)[0]


class Vae(nn.Module):
    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae = vae

    def encode(self, sample: Tensor) -> tuple[Tensor, Tensor]:
        posterior = self.vae.encode(sample).latent_dist
        return posterior.mean, posterior.std

    def decode(self, latents: Tensor) -> Tensor:
        return self.vae.decode(latents, return_dict=False)[0]


class Text(nn.Module):
    def __init__(self, text: nn.Module) -> None:
        super().__init__()
        self.text = text

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.text(input_ids)[0]


class Checked(nn.Module):
    """Control flow around a traced network, which tracing alone would not keep."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        if bool(timestep.max() < 0):
            raise ValueError("time does not run backwards")
        return self.unet(sample, timestep, encoder_hidden_states)


class Named(nn.Module):
    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor
    ) -> dict[str, Tensor]:
        out = self.unet(sample, timestep, encoder_hidden_states)
        return {"other": sample, "sample": out}


def main() -> None:
    checkpoint, folder = Path(sys.argv[1]), Path(sys.argv[2])
    unet = UNet2DConditionModel.from_pretrained(checkpoint, subfolder="unet").eval()
    vae = AutoencoderKL.from_pretrained(checkpoint, subfolder="vae").eval()
    text = CLIPTextModel.from_pretrained(checkpoint, subfolder="text_encoder").eval()
    length = text.config.max_position_embeddings
    with torch.no_grad():
        example = (
            torch.randn(2, 4, 16, 16),
            torch.tensor([500.0]),
            torch.randn(2, length, unet.config.cross_attention_dim),
        )
        traced = torch.jit.trace(Unet(unet), example)
        traced.save(folder / "unet" / "model.pt")
        torch.jit.script(Checked(traced)).save(folder / "unet-raises.pt")
        torch.jit.script(Named(traced)).save(folder / "unet-dict.pt")
        methods = {"encode": (torch.randn(1, 3, 32, 32),), "decode": (torch.randn(1, 4, 16, 16),)}
        torch.jit.trace_module(Vae(vae), methods).save(folder / "vae" / "model.pt")
        ids = torch.ones(1, length, dtype=torch.int64)
        traced = torch.jit.trace(Text(text), (ids, torch.ones(1, length, dtype=torch.bool)))
        traced.save(folder / "text_encoder" / "model.pt")


if __name__ == "__main__":
    main()

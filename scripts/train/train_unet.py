"""Train the demo model's UNet and text encoder on latents of a finished autoencoder.

    python train_unet.py --data data.npz --vae vae --tokenizer models/demo/tokenizer \\
        --checkpoint unet.pt --seconds 4500

With --workers 2 two processes share every batch. On a busy machine that is
faster than two threads, which wait for each other in every operation.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

import common
from captions import random_caption
from concepts import chosen_nouns
from models import SCALING_FACTOR, TEXT_LENGTH, build_scheduler, build_text_encoder, build_unet, load_tokenizer


@torch.no_grad()
def encode_all(vae_folder: Path, data: common.Data, device: str) -> torch.Tensor:
    """Scaled latents (the posterior's mean) of every picture of the demo set."""
    vae = AutoencoderKL.from_pretrained(vae_folder, torch_dtype=torch.float32).to(device).eval()
    pictures = [entry["picture"] for entry in data.demo]
    latents = []
    for start in range(0, len(pictures), 32):
        target = common.on_white(data.pictures[pictures[start : start + 32]]).to(device)
        latents.append(vae.encode(target).latent_dist.mean * SCALING_FACTOR)
    return torch.cat(latents)


def draw_batch(
    data: common.Data, originals: np.ndarray, copies: np.ndarray, size: int, step: int, copy_share: float
) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Pictures, captions and timesteps, the timesteps spread evenly over the noise levels."""
    random = common.step_random(step, stream=2)
    chosen = np.where(
        random.random(size) < copy_share,
        copies[random.integers(len(copies), size=size)],
        originals[random.integers(len(originals), size=size)],
    )
    captions = [random_caption(data.demo[place], random) for place in chosen]
    timesteps = ((np.arange(size) + random.random(size)) / size * 1000).astype(np.int64)
    return chosen, captions, timesteps


def train(rank: int, arguments: argparse.Namespace, meeting: str) -> None:
    common.set_up(arguments, first=rank == 0)
    stop = common.StopSignal()
    device = arguments.device
    team = common.Team(rank, arguments.workers, meeting)

    data = common.load_data(arguments.data)
    nouns = chosen_nouns(arguments.concepts)
    data.demo = [entry for entry in data.demo if entry["noun"] in nouns]
    latents = encode_all(arguments.vae, data, device)
    originals = np.array([place for place, entry in enumerate(data.demo) if not entry["copy"]])
    copies = np.array([place for place, entry in enumerate(data.demo) if entry["copy"]])
    tokenizer = load_tokenizer(arguments.tokenizer)
    unet = build_unet().to(device, memory_format=torch.channels_last)
    text_encoder = build_text_encoder(len(tokenizer)).to(device)
    unet.train()
    text_encoder.train()
    alphas = build_scheduler().alphas_cumprod.to(device)
    trained = [*unet.parameters(), *text_encoder.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=arguments.rate, betas=(0.9, 0.99), weight_decay=1e-3, foreach=True)
    unet_average = common.Average(unet, arguments.average)
    text_average = common.Average(text_encoder, arguments.average)
    scaler = torch.amp.GradScaler(torch.device(device).type, enabled=arguments.precision == "fp16")
    clock = common.Clock(arguments.steps, arguments.seconds)
    step = 0
    if arguments.checkpoint.exists():
        state = torch.load(arguments.checkpoint, map_location=device, weights_only=True)
        unet.load_state_dict(state["unet"])
        text_encoder.load_state_dict(state["text_encoder"])
        optimizer.load_state_dict(state["optimizer"])
        unet_average.values, text_average.values = state["unet_average"], state["text_average"]
        step, clock.before = state["step"], state["elapsed"]
    team.wait()  # nobody writes the checkpoint while another still reads it

    def save() -> None:
        if rank != 0:
            return
        common.save_checkpoint(
            arguments.checkpoint,
            {
                "unet": unet.state_dict(),
                "text_encoder": text_encoder.state_dict(),
                "optimizer": optimizer.state_dict(),
                "unet_average": unet_average.values,
                "text_average": text_average.values,
                "step": step,
                "elapsed": clock.elapsed(),
            },
        )

    saved, running, running_plain, counted = time.time(), 0.0, 0.0, 0
    while True:
        progress, ended = team.decide(clock.progress(step), stop.raised)
        if progress >= 1.0 or ended:
            break
        first = arguments.first_batch is not None and progress < 0.5
        size = arguments.first_batch if first else arguments.batch
        chosen, captions, timesteps = draw_batch(data, originals, copies, size, step, arguments.copies)
        generator = torch.Generator().manual_seed(common.SEED + step)
        noise = torch.randn((size, *latents.shape[1:]), generator=generator)
        share = slice(rank, None, team.size)  # this process's part of the batch
        tokens = tokenizer(
            captions[share], padding="max_length", truncation=True, max_length=TEXT_LENGTH, return_tensors="pt"
        ).input_ids.to(device)
        clean = latents[torch.from_numpy(chosen[share]).to(device)]
        noise = noise[share].to(device)
        times = torch.from_numpy(timesteps[share]).to(device)
        alpha = alphas[times][:, None, None, None]
        noisy = (alpha.sqrt() * clean + (1.0 - alpha).sqrt() * noise).to(memory_format=torch.channels_last)
        rate = common.cosine_rate(arguments.rate, progress, arguments.flat) * min(1.0, (step + 1) / 100)
        with common.autocast(arguments):
            hidden = text_encoder(tokens).last_hidden_state
            predicted = unet(noisy, times, hidden).sample
        error = (predicted.float() - noise).square().mean((1, 2, 3))
        ratio = (alpha / (1.0 - alpha)).flatten()
        loss = (error * (arguments.gamma / ratio).clamp(max=1.0)).mean()
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        team.average_gradients(trained)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = rate
        scaler.step(optimizer)
        scaler.update()
        if rank == 0:
            unet_average.update(unet, step)
            text_average.update(text_encoder, step)
        step += 1
        running += float(loss.detach())
        running_plain += float(error.detach().mean())
        counted += 1
        if rank == 0 and step % 50 == 0:
            print(
                f"step {step} loss {running / counted:.4f} mse {running_plain / counted:.4f} rate {rate:.2e} "
                f"progress {progress:.3f} seconds {clock.elapsed():.0f}",
                flush=True,
            )
            running, running_plain, counted = 0.0, 0.0, 0
        if time.time() - saved > arguments.save_every:
            save()
            saved = time.time()
    save()
    team.part()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common.add_training_arguments(parser)
    parser.add_argument("--vae", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--first-batch", type=int, help="batch size of the first half of training")
    parser.add_argument("--rate", type=float, default=6e-4)
    parser.add_argument("--flat", type=float, default=0.4, help="part of training at the full rate")
    parser.add_argument("--average", type=float, default=0.998, help="decay of the weight average")
    parser.add_argument("--concepts", choices=("core", "wide", "all"), default="all")
    parser.add_argument("--copies", type=float, default=0.25, help="share of recoloured copies")
    parser.add_argument("--gamma", type=float, default=5.0, help="min-SNR weighting")
    arguments = parser.parse_args()
    common.run_team(train, arguments)


if __name__ == "__main__":
    main()

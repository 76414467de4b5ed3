"""Train the demo model's autoencoder.

    python train_vae.py --data data.npz --checkpoint vae.pt --out vae --seconds 1500
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

import common
from models import SCALING_FACTOR, build_vae


def edges(pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return pictures[..., 1:] - pictures[..., :-1], pictures[..., 1:, :] - pictures[..., :-1, :]


def reconstruction_loss(output: torch.Tensor, target: torch.Tensor, ramp: float) -> torch.Tensor:
    difference = output - target
    loss = difference.abs().mean() + difference.square().mean()
    loss = loss + 0.3 * F.avg_pool2d(difference, 4).abs().mean()
    across, down = edges(difference)
    return loss + 0.5 * ramp * (across.abs().mean() + down.abs().mean())


def draw_batch(
    data: common.Data, demo: np.ndarray, copies: np.ndarray, size: int, step: int, tint: float
) -> torch.Tensor:
    """Three in four from the demo concepts (one in four of those recoloured), one in four any picture."""
    random = common.step_random(step, stream=1)
    chosen = []
    for slot in range(size):
        if slot % 4 != 3:
            pool = copies if random.random() < 0.25 else demo
            chosen.append(int(pool[random.integers(len(pool))]))
        else:
            chosen.append(int(random.integers(data.originals)))
    pictures = data.pictures[chosen]
    for slot in range(size):
        if random.random() < 0.5:
            pictures[slot] = pictures[slot, :, ::-1]
        if slot % 4 == 3 and random.random() < 0.3:
            pictures[slot, ..., :3] = pictures[slot][..., random.permutation(3)]
    tinted = (random.random(size) < tint)[:, None]
    background = np.where(tinted, random.random((size, 3)), 1.0)
    return common.on_white(pictures, background)


@torch.no_grad()
def psnr_by_style(vae: AutoencoderKL, data: common.Data, device: str) -> dict[str, float]:
    """PSNR of the posterior's mean, averaged over pictures, on the demo originals."""
    scores: dict[str, list[float]] = {}
    originals = [entry for entry in data.demo if not entry["copy"]]
    for start in range(0, len(originals), 32):
        group = originals[start : start + 32]
        target = common.on_white(data.pictures[[entry["picture"] for entry in group]]).to(device)
        output = vae.decode(vae.encode(target).latent_dist.mean).sample.clamp(-1.0, 1.0)
        error = ((output - target) / 2.0).square().mean((1, 2, 3))
        for entry, value in zip(group, error.tolist(), strict=True):
            scores.setdefault(entry["style"], []).append(-10.0 * np.log10(value))
    result = {style: float(np.mean(values)) for style, values in sorted(scores.items())}
    result["all"] = float(np.mean([value for values in scores.values() for value in values]))
    return result


@torch.no_grad()
def fold_statistics(vae: AutoencoderKL, data: common.Data, device: str) -> dict[str, list[float]]:
    """Make the latents zero-mean and of spread 1/scaling_factor, channel by channel.

    The change is folded into the 1x1 convolutions on both sides of the latents,
    so pictures do not change and `scaling_factor` keeps its usual value.
    """
    latents = []
    pictures = [entry["picture"] for entry in data.demo if not entry["copy"]]
    for start in range(0, len(pictures), 32):
        target = common.on_white(data.pictures[pictures[start : start + 32]]).to(device)
        latents.append(vae.encode(target).latent_dist.mean)
    values = torch.cat(latents)
    mean, spread = values.mean((0, 2, 3)), values.std((0, 2, 3))
    factor = spread * SCALING_FACTOR
    channels = mean.numel()
    weight, bias = vae.quant_conv.weight, vae.quant_conv.bias
    bias[:channels] -= mean
    bias[:channels] /= factor
    weight[:channels] /= factor[:, None, None, None]
    bias[channels:] -= 2.0 * factor.log()
    vae.post_quant_conv.bias += (vae.post_quant_conv.weight * mean[None, :, None, None]).sum((1, 2, 3))
    vae.post_quant_conv.weight *= factor[None, :, None, None]
    return {"mean": mean.tolist(), "spread": spread.tolist()}


def train(rank: int, arguments: argparse.Namespace, meeting: str) -> None:
    common.set_up(arguments, first=rank == 0)
    stop = common.StopSignal()
    team = common.Team(rank, arguments.workers, meeting)
    device = arguments.device

    data = common.load_data(arguments.data)
    demo = np.array([entry["picture"] for entry in data.demo if not entry["copy"]])
    copies = np.array([entry["picture"] for entry in data.demo if entry["copy"]])
    if arguments.start is not None:
        vae = AutoencoderKL.from_pretrained(arguments.start, torch_dtype=torch.float32)
    else:
        vae = build_vae()
        with torch.no_grad():
            vae.quant_conv.bias[vae.config.latent_channels :] = -6.0
    vae.to(device, memory_format=torch.channels_last)
    if arguments.decoder_only:
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
    trained = [value for value in vae.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=arguments.rate, betas=(0.9, 0.99), weight_decay=1e-4, foreach=True)
    average = common.Average(vae, 0.998)
    scaler = torch.amp.GradScaler(torch.device(device).type, enabled=arguments.precision == "fp16")
    clock = common.Clock(arguments.steps, arguments.seconds)
    step = 0
    if arguments.checkpoint.exists():
        state = torch.load(arguments.checkpoint, map_location=device, weights_only=True)
        vae.load_state_dict(state["vae"])
        optimizer.load_state_dict(state["optimizer"])
        average.values = state["average"]
        step, clock.before = state["step"], state["elapsed"]

    team.wait()  # nobody writes the checkpoint while another still reads it

    def save() -> None:
        if rank != 0:
            return
        common.save_checkpoint(
            arguments.checkpoint,
            {
                "vae": vae.state_dict(),
                "optimizer": optimizer.state_dict(),
                "average": average.values,
                "step": step,
                "elapsed": clock.elapsed(),
            },
        )

    saved, running, counted = time.time(), 0.0, 0
    while True:
        progress, ended = team.decide(clock.progress(step), stop.raised)
        if progress >= 1.0 or ended:
            break
        first = arguments.first_batch is not None and progress < 0.5
        size = arguments.first_batch if first else arguments.batch
        tint = arguments.tint if progress > 0.3 else 0.0
        target = draw_batch(data, demo, copies, size, step, tint)
        share = slice(rank, None, team.size)  # this process's part of the batch
        target = target[share].to(device, memory_format=torch.channels_last)
        rate = common.cosine_rate(arguments.rate, progress, 0.1) * min(1.0, (step + 1) / 100)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with common.autocast(arguments):
            with torch.set_grad_enabled(not arguments.decoder_only):
                posterior = vae.encode(target).latent_dist
            generator = torch.Generator().manual_seed(common.SEED + step)
            noise = torch.randn((size, *posterior.mean.shape[1:]), generator=generator)[share].to(device)
            output = vae.decode(posterior.mean + posterior.std * noise).sample
        ramp = min(1.0, progress / 0.3)
        loss = reconstruction_loss(output.float(), target, ramp)
        if not arguments.decoder_only:
            loss = loss + arguments.kl * ramp * posterior.kl().mean() / posterior.mean[0].numel()
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        team.average_gradients(trained)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        scaler.step(optimizer)
        scaler.update()
        if rank == 0:
            average.update(vae, step)
        step += 1
        running += float(loss.detach())
        counted += 1
        if rank == 0 and step % 100 == 0:
            print(
                f"step {step} loss {running / counted:.4f} rate {rate:.2e} "
                f"progress {progress:.3f} seconds {clock.elapsed():.0f}",
                flush=True,
            )
            running, counted = 0.0, 0
        if time.time() - saved > arguments.save_every:
            save()
            saved = time.time()
    save()
    team.part()
    if ended or rank != 0:
        return

    finished = copy.deepcopy(vae)
    average.copy_to(finished)
    finished.eval()
    print("psnr", psnr_by_style(finished, data, device), flush=True)
    if not arguments.decoder_only:
        print("latents", fold_statistics(finished, data, device), flush=True)
    finished.to("cpu", memory_format=torch.contiguous_format).save_pretrained(arguments.out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common.add_training_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder for the finished autoencoder")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--first-batch", type=int, help="batch size of the first half of training")
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--kl", type=float, default=1e-4, help="1e-3 lets a latent channel die")
    parser.add_argument("--tint", type=float, default=0.0, help="share on a coloured ground, after 30 %% of training")
    parser.add_argument("--decoder-only", action="store_true", help="keep the encoder, and so all latents, as they are")
    parser.add_argument("--start", type=Path, help="folder of an autoencoder to start from")
    arguments = parser.parse_args()
    common.run_team(train, arguments)


if __name__ == "__main__":
    main()

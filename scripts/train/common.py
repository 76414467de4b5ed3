"""What both trainers share: data, schedule, averaging, checkpoints, devices."""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

SEED = 20240607


@dataclass
class Data:
    pictures: np.ndarray  # uint8 [count, size, size, 4]
    originals: int  # the first so many are drawn by the artists, the rest are copies
    demo: list[dict[str, Any]]
    words: list[str]


def load_data(path: Path) -> Data:
    with np.load(path) as file:
        return Data(
            pictures=file["pictures"],
            originals=int(file["originals"]),
            demo=json.loads(str(file["demo"])),
            words=json.loads(str(file["words"])),
        )


def on_white(pictures: np.ndarray, background: np.ndarray | None = None) -> torch.Tensor:
    """RGBA bytes to RGB in -1..1, [count, 3, size, size], on white or on given colours."""
    rgba = torch.from_numpy(pictures).float().div(255.0).permute(0, 3, 1, 2)
    colour, alpha = rgba[:, :3], rgba[:, 3:]
    behind = torch.ones(1) if background is None else torch.from_numpy(background).float()[:, :, None, None]
    return (colour * alpha + behind * (1.0 - alpha)) * 2.0 - 1.0


def step_random(step: int, stream: int) -> np.random.Generator:
    """Randomness of one step: the same however often training was resumed."""
    return np.random.default_rng((SEED, stream, step))


class Clock:
    """Progress from 0 to 1, by steps or by seconds of wall clock.

    Seconds spent stopped (SIGSTOP) count: the point of a time budget is that
    the rate has decayed when the time is over, on however busy a machine.
    """

    def __init__(self, steps: int | None, seconds: float | None) -> None:
        if (steps is None) == (seconds is None):
            raise ValueError("give either a number of steps or a number of seconds")
        self.steps, self.seconds = steps, seconds
        self.before = 0.0
        self.started = time.time()

    def elapsed(self) -> float:
        return self.before + time.time() - self.started

    def progress(self, step: int) -> float:
        part = step / self.steps if self.steps is not None else self.elapsed() / float(self.seconds or 1)
        return min(1.0, part)


def cosine_rate(peak: float, progress: float, flat: float) -> float:
    """`peak` for the first `flat` of training, then a cosine to zero."""
    if progress <= flat:
        return peak
    return peak * 0.5 * (1.0 + math.cos(math.pi * (progress - flat) / (1.0 - flat)))


class Average:
    """Exponential moving average of a module's parameters, with a warm-up."""

    def __init__(self, module: torch.nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: value.detach().clone() for name, value in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: torch.nn.Module, step: int) -> None:
        decay = min(self.decay, (1.0 + step) / (10.0 + step))
        names = list(self.values)
        parameters = dict(module.named_parameters())
        torch._foreach_lerp_([self.values[n] for n in names], [parameters[n].detach() for n in names], 1.0 - decay)

    @torch.no_grad()
    def copy_to(self, module: torch.nn.Module) -> None:
        for name, value in module.named_parameters():
            value.copy_(self.values[name])


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="file written by prepare.py")
    parser.add_argument("--checkpoint", type=Path, required=True, help="resumed from when it exists")
    parser.add_argument("--steps", type=int, help="length of training in steps")
    parser.add_argument("--seconds", type=float, help="length of training in seconds, instead of --steps")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1, help="processes that share every batch (CPU)")
    parser.add_argument("--save-every", type=float, default=180.0, help="seconds between checkpoints")
    parser.add_argument("--pid-file", type=Path)


def set_up(arguments: argparse.Namespace, first: bool = True) -> None:
    torch.manual_seed(SEED)
    torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    if arguments.device != "cpu":
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
    if first and arguments.pid_file is not None:
        arguments.pid_file.write_text(f"{os.getpid()}\n")


def autocast(arguments: argparse.Namespace) -> AbstractContextManager[object]:
    if arguments.precision == "fp32":
        return nullcontext()
    kind = torch.bfloat16 if arguments.precision == "bf16" else torch.float16
    return torch.autocast(torch.device(arguments.device).type, kind)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write beside and rename, so that a killed run leaves the previous checkpoint."""
    beside = path.with_name(path.name + ".part")
    torch.save(state, beside)
    os.replace(beside, path)


class StopSignal:
    """Set by SIGTERM or SIGINT: the loop then saves a checkpoint and ends."""

    def __init__(self) -> None:
        self.raised = False
        for kind in (signal.SIGTERM, signal.SIGINT):
            signal.signal(kind, self._on_signal)

    def _on_signal(self, *_: object) -> None:
        self.raised = True


class Team:
    """The processes that share a training; one process is a team too."""

    def __init__(self, rank: int, size: int, meeting: str) -> None:
        self.rank, self.size = rank, size
        if size > 1:
            # A long limit: a stopped process (SIGSTOP) must not end the others.
            dist.init_process_group("gloo", f"file://{meeting}", timedelta(hours=12), size, rank)

    def wait(self) -> None:
        if self.size > 1:
            dist.barrier()

    def part(self) -> None:
        if self.size > 1:
            dist.destroy_process_group()

    def add(self, values: torch.Tensor) -> None:
        if self.size > 1:
            dist.all_reduce(values)

    def decide(self, progress: float, stop: bool) -> tuple[float, bool]:
        """What the first process says, for all."""
        if self.size == 1:
            return progress, stop
        message = torch.tensor([progress, float(stop)], dtype=torch.float64)
        dist.broadcast(message, 0)
        return float(message[0]), bool(message[1])

    def average_gradients(self, parameters: list[torch.nn.Parameter]) -> None:
        if self.size == 1:
            return
        flat = torch.cat([value.grad.flatten() for value in parameters])
        dist.all_reduce(flat)
        flat /= self.size
        for value, part in zip(parameters, flat.split([value.numel() for value in parameters]), strict=True):
            value.grad.copy_(part.view(value.shape))


def run_team(train: Callable[[int, argparse.Namespace, str], None], arguments: argparse.Namespace) -> None:
    """Run `train` here as the first process, and beside it the other workers."""
    if arguments.workers > 1 and (arguments.device != "cpu" or arguments.precision == "fp16"):
        raise ValueError("several workers are for fp32 or bf16 on the CPU")
    with tempfile.TemporaryDirectory() as folder:
        meeting = str(Path(folder) / "meeting")
        context = multiprocessing.get_context("spawn")
        others = [
            context.Process(target=train, args=(rank, arguments, meeting), daemon=True)
            for rank in range(1, arguments.workers)
        ]
        for process in others:
            process.start()
        train(0, arguments, meeting)
        for process in others:
            process.join()

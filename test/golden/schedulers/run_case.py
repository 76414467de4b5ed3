"""The counterpart of run-case.ts: runs one case with diffusers."""

from __future__ import annotations

import copy
import functools
import inspect
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import diffusers
import numpy as np
import torch

SHAPE = (2, 3, 2, 2)
FLOAT32 = torch.float32
DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


@functools.lru_cache(maxsize=1000)
def pattern(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Numbers between -1 and 1 that any language makes alike."""
    values = [((k * 37 + seed * 101 + 13) % 97 - 48) / 48 for k in range(math.prod(shape))]
    return torch.tensor(np.array(values, dtype=np.float32)).reshape(shape)


def model_output(sample: torch.Tensor, index: int) -> torch.Tensor:
    return 0.25 * sample + 0.5 * pattern(index, tuple(sample.shape)).to(sample.dtype)


def make_scheduler(case: dict[str, Any]) -> Any:
    config = {key: value for key, value in case["config"].items()}
    if config.get("lambda_min_clipped", 0) is None:
        config["lambda_min_clipped"] = -float("inf")
    via = case.get("via")
    if via is not None:
        config = construct(via, config).config
    return construct(case["className"], config, **case.get("overrides", {}))


def construct(name: str, config: dict[str, Any], **overrides: Any) -> Any:
    """Makes a scheduler without the thousand steps that some constructors begin with.

    They take the better part of a second, and `set_timesteps` replaces all they leave behind.
    """
    scheduler_class = getattr(diffusers, name)
    whole = scheduler_class.set_timesteps
    scheduler_class.set_timesteps = lambda self, count, *rest: whole(self, min(count, 2), *rest)
    try:
        return scheduler_class.from_config(config, **overrides)
    finally:
        scheduler_class.set_timesteps = whole


def set_timesteps(scheduler: Any, start: dict[str, Any]) -> tuple[torch.Tensor, int]:
    """As the image-to-image pipelines do: retrieve_timesteps, then get_timesteps."""
    extra = {"mu": start["mu"]} if "mu" in start else {}
    if "timesteps" in start:
        scheduler.set_timesteps(timesteps=start["timesteps"])
    elif "sigmas" in start:
        # UniPC computes with them as they come, which a list cannot stand.
        is_unipc = isinstance(scheduler, diffusers.UniPCMultistepScheduler)
        sigmas = np.array(start["sigmas"]) if is_unipc else start["sigmas"]
        scheduler.set_timesteps(sigmas=sigmas, **extra)
    else:
        scheduler.set_timesteps(start["numInferenceSteps"], **extra)
    count = start.get("numInferenceSteps", len(scheduler.timesteps))
    if "strength" not in start:
        return scheduler.timesteps, count
    kept = min(int(count * start["strength"]), count)
    begin = max(count - kept, 0)
    order = getattr(scheduler, "order", 1)  # UnCLIP's has none
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(begin * order)
    return scheduler.timesteps[begin * order :], count - begin


def step_options(scheduler: Any, case: dict[str, Any], generator: torch.Generator) -> dict[str, Any]:
    names = {
        "eta": "eta",
        "useClippedModelOutput": "use_clipped_model_output",
        "sChurn": "s_churn",
        "sTmin": "s_tmin",
        "sTmax": "s_tmax",
        "sNoise": "s_noise",
    }
    options = {names[key]: value for key, value in case.get("step", {}).items()}
    options["generator"] = generator
    accepted = scheduler.step.__code__.co_varnames[: scheduler.step.__code__.co_argcount]
    return {key: value for key, value in options.items() if key in accepted}


class Float32(torch.Tensor):
    """A float64 number that stands for a float32 one: what it leaves to another is rounded."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __rsub__(self, other: float) -> torch.Tensor:
        return super().__rsub__(other).float().double().as_subclass(Float32)


class AlphasCumprod(torch.Tensor):
    """A float64 table for UnCLIP, with float32 quotients: of 1 - (1 - alpha) little else is left."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __getitem__(self, index: Any) -> torch.Tensor:
        return super().__getitem__(index).as_subclass(AlphasCumprod)

    def __truediv__(self, other: torch.Tensor) -> torch.Tensor:
        quotient = super().__truediv__(other)
        if not isinstance(other, AlphasCumprod):
            return quotient
        return quotient.float().double().as_subclass(Float32)


@contextmanager
def in_float64(scheduler: Any, noise_dtype: torch.dtype) -> Iterator[None]:
    """Lets a scheduler compute in float64 from its float32 tables.

    Its own float32 arithmetic can be far off where a formula cancels. In float64 both sides agree
    to many digits, so that what is left can only be a different formula. Fresh noise is drawn in
    `noise_dtype`, which decides what a seed gives.
    """
    tables = ("alphas", "alphas_cumprod", "betas", "final_alpha_cumprod")
    levels = ("sigmas", "sigmas_down", "sigmas_interpol", "sigmas_up")
    for name in tables + levels:
        if hasattr(scheduler, name):
            setattr(scheduler, name, getattr(scheduler, name).double())
    if isinstance(scheduler, diffusers.UnCLIPScheduler):
        scheduler.alphas_cumprod = scheduler.alphas_cumprod.as_subclass(AlphasCumprod)
    module = sys.modules[type(scheduler).__module__]
    float32, draw = torch.float32, getattr(module, "randn_tensor", None)
    if isinstance(scheduler, diffusers.DPMSolverMultistepScheduler):
        noise_dtype = float32

    def draw_noise(*args: Any, dtype: torch.dtype, **kwargs: Any) -> torch.Tensor:
        return draw(*args, dtype=noise_dtype, **kwargs).double()

    if draw is not None:
        module.randn_tensor = draw_noise
    torch.float32 = torch.float64
    # What LCM computes from a timestep is float32 otherwise. TCD rounds it to another timestep.
    if isinstance(scheduler, diffusers.LCMScheduler):
        torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.float32 = float32
        torch.set_default_dtype(float32)
        if draw is not None:
            module.randn_tensor = draw


class BrownianPath:
    """A noise sampler that another language can draw alike.

    It gives what BrownianTreeNoiseSampler gives, but draws the path downwards, piece by piece: the
    first call of a step asks for the piece from sigma to the midpoint, the second for the whole.
    """

    def __init__(self, shape: tuple[int, ...], generator: torch.Generator) -> None:
        self.shape, self.generator = shape, generator
        self.start = self.end = self.moved = None

    def __call__(self, sigma: torch.Tensor, sigma_next: torch.Tensor) -> torch.Tensor:
        if self.start is None or self.start != sigma:
            self.start, self.end, self.moved = sigma, sigma, 0
        drawn = torch.randn(self.shape, generator=self.generator, dtype=FLOAT32).to(sigma.dtype)
        self.moved = self.moved + drawn * (self.end - sigma_next).sqrt()
        self.end = sigma_next
        return self.moved / (sigma - sigma_next).sqrt()


def finite(value: Any) -> Any:
    """JSON has no infinities: they become null."""
    if isinstance(value, list):
        numbers = all(isinstance(one, float) and math.isfinite(one) for one in value)
        return value if numbers else [finite(one) for one in value]
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def run_case(case: dict[str, Any]) -> dict[str, Any]:
    """Timesteps, sigmas and samples of one case, or the error that diffusers raises."""
    [result] = run_case_in(case, [case.get("dtype", "float32")])
    return result


def run_case_in(case: dict[str, Any], modes: list[str]) -> list[dict[str, Any]]:
    """The same in several dtypes.

    "exact float32" computes each step in float64, and rounds to float32 what is kept as tensors:
    samples, model outputs and thresholded images.
    """
    try:
        scheduler = make_scheduler(case)
        return [finite(play(copy.copy(scheduler), case, mode)) for mode in modes]
    except Exception as error:  # what diffusers raises is part of the comparison
        return [{"error": f"{type(error).__name__}: {error}"}] * len(modes)


def play(scheduler: Any, case: dict[str, Any], mode: str) -> dict[str, Any]:
    dtype = DTYPES[mode.removeprefix("exact ")]
    is_exact = mode.startswith("exact ") or dtype == torch.float64
    timesteps, count = set_timesteps(scheduler, case["start"])
    shape = tuple(case.get("shape", SHAPE))
    generator = torch.Generator("cpu").manual_seed(case.get("seed", 0))
    options = step_options(scheduler, case, generator)
    if isinstance(scheduler, diffusers.DPMSolverSDEScheduler):
        scheduler.noise_sampler = BrownianPath(shape, generator)
    noise = pattern(1000, shape).to(dtype)
    init_noise_sigma = float(scheduler.init_noise_sigma)
    sample = noise * scheduler.init_noise_sigma
    result: dict[str, Any] = {
        "timesteps": timesteps.tolist(),
        "sigmas": scheduler.sigmas.tolist() if hasattr(scheduler, "sigmas") else [],
        "initNoiseSigma": init_noise_sigma,
        "numInferenceSteps": count,
    }
    is_img2img = "strength" in case["start"]
    if is_img2img:
        clean = pattern(2000, shape).to(dtype)
        sample = scheduler.add_noise(clean, noise, timesteps[:1])
        result["noisy"] = sample.double().flatten().tolist()
    samples = []
    with in_float64(scheduler, dtype) if is_exact else nullcontext():
        wide = torch.float64 if is_exact else dtype
        threshold = getattr(scheduler, "_threshold_sample", None)
        if is_exact and threshold is not None:
            scheduler._threshold_sample = lambda image: threshold(image.to(dtype)).to(wide)
        for i, t in enumerate(timesteps[: case.get("steps")]):
            scaled = scheduler.scale_model_input(sample.to(wide), t)
            output = model_output(scaled.to(dtype), i)
            extra = case.get("extraChannels", 0)
            if extra:
                output = torch.cat([output, output[:, :extra].abs()], dim=1)
            if isinstance(scheduler, diffusers.UnCLIPScheduler):  # as the prior pipelines do
                options["prev_timestep"] = timesteps[i + 1] if i + 1 < len(timesteps) else None
            step = scheduler.step(output.to(wide), t, sample.to(wide), **options)
            sample = step.prev_sample.to(dtype) if is_exact else step.prev_sample
            samples.append(sample.double().flatten().tolist())
            if i == 0 and is_img2img and len(timesteps) > 1:
                again = scheduler.add_noise(clean, noise, timesteps[1:2])
                result["noisyAgain"] = again.double().flatten().tolist()
    result["samples"] = samples
    return result


def exactly(function: Callable[[Any], Any]) -> Callable[[torch.Tensor], torch.Tensor]:
    def exact(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dim() == 0:
            return torch.tensor(function(tensor.item()), dtype=tensor.dtype)
        return torch.from_numpy(np.asarray(function(tensor.double().numpy()))).to(tensor.dtype)

    return exact


def prepare() -> None:
    """No warnings, one thread, and square roots and the like that are the same on every processor.

    torch takes them from vendor libraries that are off by a last bit on some processors.
    """
    # diffusers asks for the same few signatures in every construction: a fifth of the time.
    inspect.signature = functools.lru_cache(maxsize=None)(inspect.signature)
    power, exact_sqrt = torch.Tensor.__pow__, exactly(np.sqrt)

    def exact_power(tensor: torch.Tensor, exponent: Any) -> torch.Tensor:
        return exact_sqrt(tensor) if exponent == 0.5 else power(tensor, exponent)

    torch.Tensor.exp, torch.Tensor.log = exactly(np.exp), exactly(np.log)
    torch.sigmoid = lambda x: 1 / (1 + (-x).exp())
    torch.sqrt = exact_sqrt
    torch.Tensor.sqrt = exact_sqrt
    torch.Tensor.__pow__ = exact_power
    warnings.filterwarnings("ignore")
    np.seterr(all="ignore")
    diffusers.logging.set_verbosity_error()
    torch.set_num_threads(1)

"""The counterpart of run-case.ts: runs one case with diffusers."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import diffusers
import numpy as np
import torch

SHAPE = (2, 3, 2, 2)
DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


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
        config = getattr(diffusers, via).from_config(config).config
    return getattr(diffusers, case["className"]).from_config(config, **case.get("overrides", {}))


def set_timesteps(scheduler: Any, start: dict[str, Any]) -> tuple[torch.Tensor, int]:
    """As the image-to-image pipelines do: retrieve_timesteps, then get_timesteps."""
    if "timesteps" in start:
        scheduler.set_timesteps(timesteps=start["timesteps"])
    elif "sigmas" in start:
        scheduler.set_timesteps(sigmas=start["sigmas"])
    elif "mu" in start:
        scheduler.set_timesteps(start["numInferenceSteps"], mu=start["mu"])
    else:
        scheduler.set_timesteps(start["numInferenceSteps"])
    count = start.get("numInferenceSteps", len(scheduler.timesteps))
    if "strength" not in start:
        return scheduler.timesteps, count
    kept = min(int(count * start["strength"]), count)
    begin = max(count - kept, 0)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(begin * scheduler.order)
    return scheduler.timesteps[begin * scheduler.order :], count - begin


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


@contextmanager
def in_float64(scheduler: Any) -> Iterator[None]:
    """Lets a scheduler compute in float64 from its float32 tables.

    Its own float32 arithmetic can be far off where a formula cancels. In float64 both sides agree
    to many digits, so that what is left can only be a different formula.
    """
    for name in ("alphas_cumprod", "final_alpha_cumprod", "sigmas"):
        if hasattr(scheduler, name):
            setattr(scheduler, name, getattr(scheduler, name).double())
    module = sys.modules[type(scheduler).__module__]
    float32, draw = torch.float32, getattr(module, "randn_tensor", None)

    def draw_float32(*args: Any, dtype: torch.dtype, **kwargs: Any) -> torch.Tensor:
        return draw(*args, dtype=float32, **kwargs).double()

    torch.float32 = torch.float64
    if isinstance(scheduler, diffusers.DPMSolverMultistepScheduler):
        module.randn_tensor = draw_float32
    try:
        yield
    finally:
        torch.float32 = float32
        if draw is not None:
            module.randn_tensor = draw


def finite(value: Any) -> Any:
    """JSON has no infinities: they become null."""
    if isinstance(value, list):
        return [finite(one) for one in value]
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def run_case(case: dict[str, Any]) -> dict[str, Any]:
    """Timesteps, sigmas and samples of one case, or the error that diffusers raises."""
    try:
        scheduler = make_scheduler(case)
        timesteps, count = set_timesteps(scheduler, case["start"])
        dtype = DTYPES[case.get("dtype", "float32")]
        shape = tuple(case.get("shape", SHAPE))
        generator = torch.Generator("cpu").manual_seed(case.get("seed", 0))
        options = step_options(scheduler, case, generator)
        noise = pattern(1000, shape).to(dtype)
        init_noise_sigma = float(scheduler.init_noise_sigma)
        sample = noise * scheduler.init_noise_sigma
        result: dict[str, Any] = {
            "timesteps": timesteps.tolist(),
            "sigmas": scheduler.sigmas.tolist() if hasattr(scheduler, "sigmas") else [],
            "initNoiseSigma": init_noise_sigma,
            "numInferenceSteps": count,
        }
        if "strength" in case["start"]:
            clean = pattern(2000, shape).to(dtype)
            sample = scheduler.add_noise(clean, noise, timesteps[:1])
            result["noisy"] = sample.double().flatten().tolist()
        samples = []
        for i, t in enumerate(timesteps):
            with in_float64(scheduler) if dtype == torch.float64 else nullcontext():
                output = model_output(scheduler.scale_model_input(sample, t), i)
                extra = case.get("extraChannels", 0)
                if extra:
                    output = torch.cat([output, output[:, :extra]], dim=1)
                sample = scheduler.step(output, t, sample, **options).prev_sample
            samples.append(sample.double().flatten().tolist())
            if i == 0 and "strength" in case["start"] and len(timesteps) > 1:
                again = scheduler.add_noise(clean, noise, timesteps[1:2])
                result["noisyAgain"] = again.double().flatten().tolist()
        result["samples"] = samples
        return finite(result)
    except Exception as error:  # what diffusers raises is part of the comparison
        return {"error": f"{type(error).__name__}: {error}"}


def exact_sqrt(tensor: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.asarray(np.sqrt(tensor.double().numpy()))).to(tensor.dtype)


def prepare() -> None:
    """No warnings, one thread, and square roots that are the same on every processor.

    torch takes square roots from a vendor library that is off by a last bit on some processors.
    """
    power = torch.Tensor.__pow__

    def exact_power(tensor: torch.Tensor, exponent: Any) -> torch.Tensor:
        return exact_sqrt(tensor) if exponent == 0.5 else power(tensor, exponent)

    torch.sqrt = exact_sqrt
    torch.Tensor.sqrt = exact_sqrt
    torch.Tensor.__pow__ = exact_power
    warnings.filterwarnings("ignore")
    np.seterr(all="ignore")
    diffusers.logging.set_verbosity_error()
    torch.set_num_threads(1)

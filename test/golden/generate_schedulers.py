"""Golden values of the schedulers, from diffusers.

    python test/golden/generate_schedulers.py          writes test/golden/schedulers/*.json
    python test/golden/generate_schedulers.py --check  compares instead

Each case is a configuration, a schedule and a short loop over a stand-in for the network: a linear
function of its input and of fixed numbers, so that both sides compute the same.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch

FOLDER = Path(__file__).parent / "schedulers"
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


MODEL = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
STABLE_DIFFUSION = {**MODEL, "skip_prk_steps": True, "set_alpha_to_one": False, "steps_offset": 1, "clip_sample": False}
PIXELS = {"beta_schedule": "linear", "steps_offset": 0}
COSINE = {"beta_schedule": "squaredcos_cap_v2"}
SHORT = {"num_train_timesteps": 40, "trained_betas": [0.001 + 0.001 * i for i in range(40)]}
ZERO_SNR = {**MODEL, "rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}

# Class, what the configuration is about, configuration, options of step.
CONFIGS: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("PNDMScheduler", "Stable Diffusion 1.5", STABLE_DIFFUSION, {}),
    ("PNDMScheduler", "v-prediction", {**STABLE_DIFFUSION, "prediction_type": "v_prediction"}, {}),
    ("PNDMScheduler", "trailing, alpha one", {**STABLE_DIFFUSION, "timestep_spacing": "trailing", "set_alpha_to_one": True}, {}),
    ("PNDMScheduler", "linspace", {**STABLE_DIFFUSION, "timestep_spacing": "linspace"}, {}),
    ("PNDMScheduler", "Runge-Kutta start", PIXELS, {}),
    ("DDIMScheduler", "Stable Diffusion 1.5", STABLE_DIFFUSION, {}),
    ("DDIMScheduler", "Stable Diffusion 2.1, eta 1", {**STABLE_DIFFUSION, "prediction_type": "v_prediction"}, {"eta": 1.0}),
    ("DDIMScheduler", "clipped, eta 0.5", PIXELS, {"eta": 0.5}),
    ("DDIMScheduler", "clipped model output", {**PIXELS, "timestep_spacing": "linspace"}, {"useClippedModelOutput": True}),
    ("DDIMScheduler", "thresholding of samples", {**PIXELS, "prediction_type": "sample", "thresholding": True, "dynamic_thresholding_ratio": 0.8, "sample_max_value": 3.0}, {}),
    ("DDIMScheduler", "zero terminal SNR", {**ZERO_SNR, "clip_sample": False}, {}),
    ("EulerDiscreteScheduler", "SDXL", {**MODEL, "timestep_spacing": "leading", "steps_offset": 1}, {}),
    ("EulerDiscreteScheduler", "SD turbo", {**MODEL, "timestep_spacing": "trailing"}, {}),
    ("EulerDiscreteScheduler", "latent upscaler", {**MODEL, "interpolation_type": "log_linear", "prediction_type": "original_sample"}, {}),
    ("EulerDiscreteScheduler", "Karras", {**MODEL, "use_karras_sigmas": True}, {}),
    ("EulerDiscreteScheduler", "exponential with ends", {**MODEL, "use_exponential_sigmas": True, "sigma_min": 0.02, "sigma_max": 12.0}, {}),
    ("EulerDiscreteScheduler", "beta", {**MODEL, "use_beta_sigmas": True, "final_sigmas_type": "sigma_min"}, {}),
    ("EulerDiscreteScheduler", "continuous v-prediction", {**MODEL, "timestep_type": "continuous", "prediction_type": "v_prediction"}, {}),
    ("EulerDiscreteScheduler", "churned", MODEL, {"sChurn": 8.0, "sTmin": 0.1, "sTmax": 12.0, "sNoise": 1.003}),
    ("EulerDiscreteScheduler", "zero terminal SNR", ZERO_SNR, {}),
    ("EulerAncestralDiscreteScheduler", "SDXL turbo", {**MODEL, "timestep_spacing": "trailing", "steps_offset": 1}, {}),
    ("EulerAncestralDiscreteScheduler", "linspace v-prediction", {**MODEL, "prediction_type": "v_prediction"}, {}),
    ("EulerAncestralDiscreteScheduler", "leading", {**MODEL, "timestep_spacing": "leading", "steps_offset": 1}, {}),
    ("DPMSolverMultistepScheduler", "DPM++ 2M", MODEL, {}),
    ("DPMSolverMultistepScheduler", "DPM++ 2M Karras", {**MODEL, "use_karras_sigmas": True}, {}),
    ("DPMSolverMultistepScheduler", "DPM++ 2M SDE Karras", {**MODEL, "use_karras_sigmas": True, "algorithm_type": "sde-dpmsolver++"}, {}),
    ("DPMSolverMultistepScheduler", "third order", {**MODEL, "solver_order": 3}, {}),
    ("DPMSolverMultistepScheduler", "third order SDE", {**MODEL, "solver_order": 3, "algorithm_type": "sde-dpmsolver++", "euler_at_final": True, "final_sigmas_type": "sigma_min"}, {}),
    ("DPMSolverMultistepScheduler", "Heun, v-prediction, leading", {**MODEL, "solver_type": "heun", "prediction_type": "v_prediction", "timestep_spacing": "leading", "steps_offset": 1}, {}),
    ("DPMSolverMultistepScheduler", "DPM-Solver", {**MODEL, "algorithm_type": "dpmsolver", "solver_order": 3, "final_sigmas_type": "sigma_min", "lower_order_final": False}, {}),
    ("DPMSolverMultistepScheduler", "DPM-Solver SDE, Heun", {**MODEL, "algorithm_type": "sde-dpmsolver", "solver_type": "heun", "final_sigmas_type": "sigma_min"}, {}),
    ("DPMSolverMultistepScheduler", "exponential", {**MODEL, "use_exponential_sigmas": True}, {}),
    ("DPMSolverMultistepScheduler", "beta", {**MODEL, "use_beta_sigmas": True}, {}),
    ("DPMSolverMultistepScheduler", "Lu", {**MODEL, "use_lu_lambdas": True}, {}),
    ("DPMSolverMultistepScheduler", "flow", {**MODEL, "use_flow_sigmas": True, "flow_shift": 3.0, "prediction_type": "flow_prediction"}, {}),
    ("DPMSolverMultistepScheduler", "clipped cosine, trailing", {**COSINE, "lambda_min_clipped": -5.1, "timestep_spacing": "trailing"}, {}),
    ("DPMSolverMultistepScheduler", "thresholded samples", {**PIXELS, "thresholding": True, "dynamic_thresholding_ratio": 0.8, "sample_max_value": 2.0, "prediction_type": "sample"}, {}),
    ("DPMSolverMultistepScheduler", "trained betas", SHORT, {}),
]
SCHEDULES: list[dict[str, Any]] = [
    {"numInferenceSteps": 1},
    {"numInferenceSteps": 2},
    {"numInferenceSteps": 7},
    {"numInferenceSteps": 10, "strength": 0.8},
    {"numInferenceSteps": 25, "strength": 0.3},
    {"numInferenceSteps": 50},
]
OTHER: list[dict[str, Any]] = [
    {"name": "Stable Diffusion 1.5 at 50 steps and strength 0.8", "className": "PNDMScheduler", "config": STABLE_DIFFUSION, "start": {"numInferenceSteps": 50, "strength": 0.8}},
    {"name": "a strength whose product is truncated", "className": "DDIMScheduler", "config": STABLE_DIFFUSION, "start": {"numInferenceSteps": 50, "strength": 0.58}},
    {"name": "custom timesteps", "className": "EulerDiscreteScheduler", "config": MODEL, "start": {"timesteps": [999, 845, 730, 587, 443, 310, 193, 116, 53, 13], "strength": 0.5}},
    {"name": "custom sigmas", "className": "EulerDiscreteScheduler", "config": MODEL, "start": {"sigmas": [14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.0]}},
    {"name": "custom sigmas and strength", "className": "EulerDiscreteScheduler", "config": MODEL, "start": {"sigmas": [14.615, 6.315, 3.771, 2.181, 1.342, 0.0], "strength": 0.6}},
    {"name": "custom timesteps with one twice", "className": "EulerDiscreteScheduler", "config": MODEL, "start": {"timesteps": [999, 850, 736, 736, 455, 343, 24], "strength": 0.75}},
    {"name": "learned variance", "className": "DPMSolverMultistepScheduler", "config": {**PIXELS, "variance_type": "learned_range"}, "start": {"numInferenceSteps": 5}, "extraChannels": 3, "shape": [1, 3, 2, 2]},
    {"name": "dynamic flow shift", "className": "DPMSolverMultistepScheduler", "config": {**MODEL, "use_flow_sigmas": True, "prediction_type": "flow_prediction", "use_dynamic_shifting": True}, "start": {"numInferenceSteps": 6, "mu": 0.7}},
    {"name": "49 trailing steps that are 50", "className": "DDIMScheduler", "config": {**MODEL, "timestep_spacing": "trailing"}, "start": {"numInferenceSteps": 49}},
]


def cases() -> list[dict[str, Any]]:
    made = []
    for class_name, about, config, step in CONFIGS:
        for start in SCHEDULES:
            if class_name == "PNDMScheduler" and not config.get("skip_prk_steps") and start["numInferenceSteps"] < 4:
                continue
            if config is SHORT and start["numInferenceSteps"] > 40:
                continue
            if config.get("use_beta_sigmas") and start == {"numInferenceSteps": 50}:
                continue  # rounds the first two timesteps alike, and then runs out of sigmas
            name = f"{about}, {start['numInferenceSteps']} steps" + (f", strength {start['strength']}" if "strength" in start else "")
            case = {"name": name, "className": class_name, "config": config, "start": start, "shape": [1, 2, 2, 2], "seed": 7}
            made.append({**case, "step": step} if step else case)
    for one in OTHER:
        made.append({"shape": [1, 2, 2, 2], "seed": 7, **one})
    # In half precision the noise level itself is rounded.
    for class_name, config in (
        ("DDIMScheduler", STABLE_DIFFUSION),
        ("PNDMScheduler", STABLE_DIFFUSION),
        ("EulerDiscreteScheduler", MODEL),
        ("DPMSolverMultistepScheduler", MODEL),
        ("DPMSolverMultistepScheduler", {**MODEL, "use_flow_sigmas": True}),
    ):
        for dtype in ("float16", "bfloat16"):
            start = {"numInferenceSteps": 10, "strength": 0.6}
            made.append({"name": f"noise level in {dtype}", "className": class_name, "config": config, "start": start, "dtype": dtype, "shape": [1, 2, 2, 2], "seed": 7})
    return made


def compact(numbers: list[float]) -> list[float]:
    """As few digits as tell float32 numbers apart."""
    return [value if isinstance(value, int) or value is None else float(str(np.float32(value))) for value in numbers]


def golden(case: dict[str, Any]) -> dict[str, Any]:
    result = run_case(case)
    if "error" in result:
        raise RuntimeError(f"{case}: {result['error']}")
    if any(x is None for sample in result["samples"] for x in sample):
        raise RuntimeError(f"{case}: not finite")
    kept = {key: result[key] for key in ("timesteps", "sigmas", "initNoiseSigma", "numInferenceSteps")}
    kept["timesteps"] = [int(t) if float(t).is_integer() else t for t in kept["timesteps"]]
    kept["initNoiseSigma"] = compact([kept["initNoiseSigma"]])[0]
    kept = {key: compact(value) if isinstance(value, list) else value for key, value in kept.items()}
    for key in ("noisy", "noisyAgain"):
        if key in result:
            kept[key] = compact(result[key])
    kept["last"] = compact(result["samples"][-1])
    kept["magnitude"] = max(abs(x) for sample in result["samples"][-2:] for x in sample)
    return {"case": case, "expected": kept}


def numerics() -> dict[str, Any]:
    """Functions whose rounding decides timesteps."""
    import scipy.stats

    rng = np.random.default_rng(0)
    positive = np.exp(rng.uniform(-9, 10, 200)).astype(np.float32)
    betas = {
        "0.00085-0.012 scaled": torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float32) ** 2,
        "0.0001-0.02": torch.linspace(0.0001, 0.02, 1000, dtype=torch.float32),
    }
    shares = [0.0, 1e-9, 0.001, 0.02, 0.1, 0.25, 0.37, 0.5, 0.61, 0.75, 0.9, 0.98, 0.999, 1.0]
    return {
        "log": {"of": positive.tolist(), "is": np.log(positive).tolist()},
        "alphasCumprod": {
            name: torch.cumprod(1.0 - beta, dim=0)[::37].tolist() for name, beta in betas.items()
        },
        "linspace": [np.linspace(0, 999, n).tolist() for n in (1, 2, 3, 7, 12)],
        "arange": {str(n): np.arange(1000, 0, -1000 / n).tolist() for n in (3, 7, 12)},
        "arangeLengths": {str(n): len(np.arange(1000, 0, -1000 / n)) for n in range(1, 400)},
        "round": {"of": [0.5, 1.5, 2.5, 499.5, 500.5, -0.5, 2.4999, 7.0], "is": np.round([0.5, 1.5, 2.5, 499.5, 500.5, -0.5, 2.4999, 7.0]).tolist()},
        "betaQuantile": {"of": shares, "is": [float(scipy.stats.beta.ppf(p, 0.6, 0.6)) for p in shares]},
    }


def configurations() -> list[dict[str, Any]]:
    """What a configuration becomes on its way from class to class."""
    names = ["PNDMScheduler", "DDIMScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "DPMSolverMultistepScheduler"]
    made = []
    for first in names:
        for second in names:
            start = getattr(diffusers, first).from_config({"_class_name": first, **STABLE_DIFFUSION, "sigma_min": 0.03})
            end = getattr(diffusers, second).from_config(start.config, timestep_spacing="trailing") if first != second else start
            config = {key: value for key, value in end.config.items() if key != "_use_default_values"}
            unset = sorted(end.config.get("_use_default_values", []))
            made.append({"from": first, "to": second, "config": finite(config), "unset": unset})
    return made


def write(path: Path, content: Any, check: bool) -> None:
    text = "[\n" + ",\n".join(json.dumps(one) for one in content) + "\n]\n" if isinstance(content, list) else json.dumps(content) + "\n"
    if check:
        if path.read_text() != text:
            raise SystemExit(f"{path} is not what diffusers {diffusers.__version__} gives")
    else:
        path.write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the files instead of writing them")
    check = parser.parse_args().check
    prepare()
    write(FOLDER / "cases.json", [golden(case) for case in cases()], check)
    write(FOLDER / "numerics.json", numerics(), check)
    write(FOLDER / "configurations.json", configurations(), check)


if __name__ == "__main__":
    main()

"""Golden values of the schedulers, from diffusers.

    python test/golden/generate_schedulers.py          writes test/golden/schedulers/*.json
    python test/golden/generate_schedulers.py --check  compares instead

Each case is a configuration, a schedule and a short loop over a stand-in for the network: a linear
function of its input and of fixed numbers, so that both sides compute the same. Where diffusers'
float32 arithmetic is coarse, "exact" has what its formulas give in float64.
Needs scipy besides the packages of scripts/python/requirements.txt.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import scipy.stats
import torch

FOLDER = Path(__file__).parent / "schedulers"
sys.path.insert(0, str(FOLDER))

from cases import CONFIGS, STABLE_DIFFUSION, cases  # noqa: E402
from run_case import construct, finite, prepare, run_case, run_case_in  # noqa: E402


# Beyond this share, diffusers' float32 arithmetic is too coarse to compare with.
COARSE = 5e-6


def compact(numbers: list[float]) -> list[float]:
    """As few digits as tell float32 numbers apart."""
    return [
        value if isinstance(value, int) or value is None else float(str(np.float32(value)))
        for value in numbers
    ]


def compact_timestep(value: float) -> float:
    """The same for what may be a float64 number, and as a whole number if it is one."""
    if float(value).is_integer():
        return int(value)
    return value if value != float(np.float32(value)) else float(str(np.float32(value)))


def golden(case: dict[str, Any]) -> dict[str, Any]:
    result = run_case(case)
    if "error" in result:
        raise RuntimeError(f"{case}: {result['error']}")
    if any(x is None for sample in result["samples"] for x in sample):
        raise RuntimeError(f"{case}: not finite")
    kept = {key: result[key] for key in ("timesteps", "sigmas", "initNoiseSigma", "numInferenceSteps")}
    kept["timesteps"] = [compact_timestep(t) for t in kept["timesteps"]]
    kept["sigmas"] = compact(kept["sigmas"])
    kept["initNoiseSigma"] = compact([kept["initNoiseSigma"]])[0]
    for key in ("noisy", "noisyAgain"):
        if key in result:
            kept[key] = compact(result[key])
    kept["last"] = compact(result["samples"][-1])
    kept["magnitude"] = max(abs(x) for sample in result["samples"][-2:] for x in sample)
    if case.get("dtype", "float32") == "float32":
        [exact] = run_case_in(case, ["exact float32"])
        exact_last = exact["samples"][-1]
        error = max(abs(a - b) for a, b in zip(exact_last, result["samples"][-1], strict=True))
        if error > COARSE * kept["magnitude"]:
            kept["exact"] = compact(exact_last)
    return {"case": case, "expected": kept}


def numerics() -> dict[str, Any]:
    """Functions whose rounding decides timesteps."""
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
        "round": {
            "of": [0.5, 1.5, 2.5, 499.5, 500.5, -0.5, 2.4999, 7.0],
            "is": np.round([0.5, 1.5, 2.5, 499.5, 500.5, -0.5, 2.4999, 7.0]).tolist(),
        },
        "betaQuantile": {"of": shares, "is": [float(scipy.stats.beta.ppf(p, 0.6, 0.6)) for p in shares]},
    }


def configurations() -> list[dict[str, Any]]:
    """What a configuration becomes on its way from class to class."""
    names = list(CONFIGS)
    made = []
    for first in names:
        for second in names:
            given = {**STABLE_DIFFUSION, "sigma_min": 0.03}
            if "UnCLIPScheduler" in (first, second):  # which knows no other
                given["beta_schedule"] = "squaredcos_cap_v2"
            start = construct(first, {"_class_name": first, **given})
            changed = {"timestep_spacing": "trailing"}
            end = construct(second, start.config, **changed) if first != second else start
            config = {key: value for key, value in end.config.items() if key != "_use_default_values"}
            unset = sorted(end.config.get("_use_default_values", []))
            config = finite(config)
            made.append({"from": first, "to": second, "given": given, "config": config, "unset": unset})
    return made


def write(path: Path, content: Any, check: bool) -> None:
    text = (
        "[\n" + ",\n".join(json.dumps(one) for one in content) + "\n]\n"
        if isinstance(content, list)
        else json.dumps(content) + "\n"
    )
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

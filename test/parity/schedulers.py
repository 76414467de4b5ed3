"""Runs cases that come as JSON lines on standard input through diffusers.

A line is {"case": …, "modes": ["float32", …]}; back comes one JSON line with a result per mode.
What takes diffusers most of its time is done in another way here, with the same bits in the end.
"""

import functools
import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers

sys.path.insert(0, str(Path(__file__).parent.parent / "golden" / "schedulers"))

from run_case import prepare, run_case_in  # noqa: E402


def with_numpy_sigmas(method: Callable[..., float]) -> Callable[..., float]:
    """LMS integrates over single numbers of the table, on which torch takes ten times as long."""

    def run(scheduler: Any, *arguments: int) -> float:
        sigmas = scheduler.sigmas
        scheduler.sigmas = sigmas.numpy()
        try:
            return method(scheduler, *arguments)
        finally:
            scheduler.sigmas = sigmas

    return run


def remember_compatible_classes() -> None:
    """Otherwise every construction imports the whole library by name again."""
    for name in dir(diffusers):
        if name.endswith("Scheduler") and isinstance(getattr(diffusers, name), type):
            scheduler = getattr(diffusers, name)
            if hasattr(scheduler, "_get_compatibles"):
                scheduler._get_compatibles = functools.cache(scheduler._get_compatibles)


if __name__ == "__main__":
    prepare()
    # Collected by counting references alone.
    gc.disable()
    lms = diffusers.LMSDiscreteScheduler
    lms.get_lms_coefficient = with_numpy_sigmas(lms.get_lms_coefficient)
    remember_compatible_classes()
    for line in sys.stdin:
        print(json.dumps(run_case_in(**json.loads(line))), flush=True)

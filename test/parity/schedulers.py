"""Runs cases that come as JSON lines on standard input through diffusers.

A line is {"case": …, "modes": ["float32", …]}; back comes one JSON line with a result per mode.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "golden" / "schedulers"))

from run_case import prepare, run_case_in  # noqa: E402

if __name__ == "__main__":
    prepare()
    for line in sys.stdin:
        print(json.dumps(run_case_in(**json.loads(line))), flush=True)

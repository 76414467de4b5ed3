"""Runs cases that come as JSON on standard input through diffusers; one JSON line back per case."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "golden" / "schedulers"))

from run_case import prepare, run_case  # noqa: E402

if __name__ == "__main__":
    prepare()
    for line in sys.stdin:
        print(json.dumps(run_case(json.loads(line))), flush=True)

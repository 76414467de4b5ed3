"""Makes TorchScript programs without weights for the architectures of a request.

    python export.py --request request.json --out DIR

The request is {"programs": [{"name", "className", "config", "key"}]} with canonical configs
(lib/networks/architecture.ts). DIR receives NAME.pt or NAME.ENTRY.pt and a manifest.json. The same
request gives the same bytes. On failure the last line on standard error is {"kind", "message"}.
"""

import argparse
import json
import sys
import traceback
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

REQUIRED = ("torch", "diffusers", "transformers")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--request", type=Path, required=True, help="JSON file with the architectures"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the programs")
    parser.add_argument("--no-compare", action="store_true", help="skip the comparison with eager")
    arguments = parser.parse_args()
    try:
        _check_environment()
        _export(arguments.request, arguments.out, not arguments.no_compare)
    except Exception as error:
        kind = getattr(error, "kind", None)
        if kind is None:
            traceback.print_exc()
        text = str(error) or type(error).__name__
        print(json.dumps({"kind": kind or "failed", "message": text}), file=sys.stderr)
        return 1
    return 0


def _check_environment() -> None:
    from importlib.util import find_spec

    from errors import ExportError

    missing = [name for name in REQUIRED if find_spec(name) is None]
    if missing:
        raise ExportError("packages", f"{sys.executable} lacks {', '.join(missing)}.")


def _silence_libraries() -> None:
    """Advice for people who load and train models; failures still raise."""
    for name in ("diffusers", "transformers"):
        if name in sys.modules:
            sys.modules[name].logging.set_verbosity_error()


def _export(request: Path, out: Path, with_comparison: bool) -> None:
    programs = json.loads(request.read_text(encoding="utf-8"))["programs"]
    out.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, Any]] = []
    for program in programs:
        entries += _export_network(program, out, with_comparison)
    manifest = {"version": 1, "programs": entries}
    text = json.dumps(manifest, indent=2, ensure_ascii=False)
    (out / "manifest.json").write_text(text + "\n", encoding="utf-8")


def _export_network(
    program: dict[str, Any], out: Path, with_comparison: bool
) -> list[dict[str, Any]]:
    name = program["name"]
    from networks import network

    # Refuses what it does not know, before the slow imports where it can.
    described = network(program["className"], program["config"])
    _silence_libraries()
    from compare import compare
    from tracing import strip, trace

    _say(f"{name}: building {program['className']}")
    model = described.build()
    strip(model)
    traced = {}
    for entry in described.entries:
        _say(f"{name}: tracing {entry.name}")
        traced[entry.name] = trace(described, model, entry, f"{program['key']}_{entry.name}")
        _say(f"{name}: {entry.name} has {json.dumps(traced[entry.name].operators)}")
    compared: dict[str, list[dict[str, Any]]] = {}
    if with_comparison:
        _say(f"{name}: comparing with eager")
        compared = compare(described, {key: value.data for key, value in traced.items()})

    results = []
    for entry in described.entries:
        made = traced[entry.name]
        file = f"{name}.pt" if len(described.entries) == 1 else f"{name}.{entry.name}.pt"
        (out / file).write_bytes(made.data)
        _say(f"{name}: wrote {file}, {len(made.data)} bytes")
        results.append(
            {
                "name": name,
                "className": program["className"],
                "key": program["key"],
                "config": program["config"],
                "entry": entry.name,
                "file": file,
                "sha256": sha256(made.data).hexdigest(),
                "bytes": len(made.data),
                "inputs": list(entry.inputs),
                "optionalInputs": list(entry.optional),
                "inputDtypes": entry.dtypes,
                "outputs": list(entry.outputs),
                "exporter": {package: version(package).split("+")[0] for package in REQUIRED},
                "lint": made.lint,
                "compared": compared.get(entry.name, []),
            }
        )
    return results


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""Gives small architectures random weights and writes what the library's modules compute.

    python run_networks.py --request request.json --out DIR

The request is that of the exporter, with the stem of each weight file besides. DIR receives a
component folder NAME for every program, and in it ENTRY.CASE.safetensors with the inputs and, after
"out:", the outputs of the exporter's own first cases.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[3] / "scripts" / "export"))

from compare import with_random_weights
from networks import network

CASES = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--request", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    for program in json.loads(arguments.request.read_text(encoding="utf-8")):
        write(program, arguments.out / program["name"])


def write(program: dict[str, Any], folder: Path) -> None:
    described = network(program["className"], program["config"])
    model = with_random_weights(described.build())
    folder.mkdir()
    config = {"_class_name": program["className"], **program["config"]}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    weights = {
        name: parameter.detach() for name, parameter in described.parameters(model).items()
    }
    save_file(weights, folder / f"{program['fileStem']}.safetensors")
    for entry in described.entries:
        for index, case in enumerate(entry.cases[:CASES]):
            inputs = entry.make(case, torch.Generator().manual_seed(1))
            with torch.no_grad():
                outputs = entry.eager(model, inputs)
            names = (f"out:{name}" for name in entry.outputs)
            values = {**inputs, **dict(zip(names, outputs, strict=True))}
            # Outputs may share memory, which the format has no word for.
            copies = {name: value.contiguous().clone() for name, value in values.items()}
            save_file(copies, folder / f"{entry.name}.{index}.safetensors")


if __name__ == "__main__":
    main()

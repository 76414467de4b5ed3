"""Compiles a network to an AOTInductor package, with its weights outside.

    python aoti.py --request request.json --case '{"batch": 2, "height": 64, "width": 64, "length": 77}' \\
        --out unet/model.pt2 [--dtype float32] [--device cpu]

The request is one of export.py's with a single program, {"programs": [{"className", "config"}]}. The
code takes inputs of these sizes only. It holds no weights: they are those in the folder it is put into.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compare import with_random_weights
from networks import Entry, Network, network

# Weights of up to eight numbers would become part of the code unless told otherwise.
OPTIONS = {
    "aot_inductor.package": True,
    "aot_inductor.package_constants_in_so": False,
    "always_keep_tensor_constants": True,
}


class Called(nn.Module):
    """One function of a network, with tensors in a row."""

    def __init__(self, model: nn.Module, entry: Entry, names: list[str]) -> None:
        super().__init__()
        self.model = model
        self.entry = entry
        self.names = names

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return self.entry.eager(self.model, dict(zip(self.names, tensors, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--request", type=Path, required=True)
    parser.add_argument("--case", type=json.loads, required=True, help="sizes of the inputs, JSON")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    arguments = parser.parse_args()
    (program,) = json.loads(arguments.request.read_text(encoding="utf-8"))["programs"]
    described = network(program["className"], program["config"])
    dtype = getattr(torch, arguments.dtype)
    model = with_random_weights(described.build()).to(arguments.device, dtype)
    files = {
        entry.name: compile_entry(described, model, entry, arguments) for entry in described.entries
    }
    from torch._inductor.package import package_aoti

    package_aoti(str(arguments.out), files)


def compile_entry(
    described: Network, model: nn.Module, entry: Entry, arguments: argparse.Namespace
) -> list[Any]:
    made = entry.make({"timesteps": 1, **arguments.case}, torch.Generator().manual_seed(0))
    inputs = {name: place(name, value, entry, arguments) for name, value in made.items()}
    constants = {
        f"model.{original}": {"parameter": described.rename(original), "shape": list(value.shape)}
        for original, value in model.named_parameters()
    }
    record = {
        "inputs": [
            {"name": name, "shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
            for name, value in inputs.items()
        ],
        "outputs": list(entry.outputs),
        "dtype": arguments.dtype,
        "device": arguments.device,
        "constants": constants,
    }
    called = Called(model, entry, list(inputs))
    example = tuple(inputs.values())
    with torch.no_grad():
        exported = torch.export.export(called, example, strict=False)
        options = {**OPTIONS, "aot_inductor.metadata": {"torchbrush": json.dumps(record)}}
        return torch._inductor.aot_compile(exported.module(), example, options=options)


def place(name: str, value: Tensor, entry: Entry, arguments: argparse.Namespace) -> Tensor:
    own = entry.dtypes.get(name, arguments.dtype)
    moved = value.to(arguments.device)
    return moved.to(getattr(torch, own)) if moved.is_floating_point() else moved


if __name__ == "__main__":
    main()

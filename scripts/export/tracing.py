"""Traces an entry of a network into a weightless TorchScript module."""

import io
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from archive import archive_bytes
from errors import lint_failure
from forwards import traced_forwards
from graph import clean, lint, operator_counts
from networks import Entry, Network

# Said by library code about sizes that are looked at but not used.
_HARMLESS_WARNINGS = ("Converting a tensor to a Python boolean",)


@dataclass(frozen=True)
class Program:
    data: bytes
    lint: dict[str, int]
    operators: dict[str, int]


def strip(model: nn.Module) -> None:
    """Shrinks every parameter to one shared element with stride 0 and drops the buffers."""
    element = torch.zeros(1)
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            stripped = nn.Parameter(element.expand(parameter.shape), requires_grad=False)
            setattr(module, name, stripped)
        for name, _ in list(module.named_buffers(recurse=False)):
            delattr(module, name)


def trace(network: Network, model: nn.Module, entry: Entry, label: str) -> Program:
    """Records an entry of a stripped model, with the parameters that belong to it.

    `label` must differ between the traces of one process: it goes into the type names, which
    TorchScript would otherwise number by what was traced before.
    """
    inputs = entry.example()
    names = list(entry.inputs)
    recorded: list[warnings.WarningMessage]
    with torch.no_grad(), traced_forwards(model, inputs[entry.reference]):
        script = torch.jit.script(_skeleton(network.parameters(model), entry.prefixes, label))
        with warnings.catch_warnings(record=True) as recorded:
            warnings.simplefilter("always", torch.jit.TracerWarning)
            script._c._create_method_from_trace(
                "forward",
                lambda *tensors: entry.run(model, dict(zip(names, tensors, strict=True))),
                tuple(inputs[name] for name in names),
                lambda value: "",
                True,  # strict: no containers made of what the function returns
                False,  # in-place operators are recorded as they are
                names,
                False,  # the example inputs are not stored
            )
    _check_warnings(recorded)
    graph = script._c._get_method("forward").graph
    clean(graph)
    counts = lint(graph, len(list(script.parameters())), entry.float_casts)
    return Program(archive_bytes(script), counts, operator_counts(graph))


def load(data: bytes) -> torch.jit.ScriptModule:
    return torch.jit.load(io.BytesIO(data))


def fill(script: torch.jit.ScriptModule, weights: dict[str, Tensor]) -> None:
    """Gives every parameter of a program its weight, as the run time does."""
    for name, parameter in list(script.named_parameters()):
        owner = script
        *path, leaf = name.split(".")
        for part in path:
            owner = getattr(owner, part)
        if weights[name].shape != parameter.shape:
            raise lint_failure(f"{name} has the shape {tuple(parameter.shape)} in the program.")
        owner._c.setattr(leaf, weights[name])


def _skeleton(
    parameters: dict[str, nn.Parameter], prefixes: tuple[str, ...], label: str
) -> nn.Module:
    """Bare modules that hold the parameters under their names, without the library's classes."""
    tree: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if prefixes and not name.startswith(prefixes):
            continue
        *path, leaf = name.split(".")
        scope = tree
        for part in path:
            scope = scope.setdefault(part, {})
        scope[leaf] = parameter
    return _module(tree, label, {}).eval()


def _module(tree: dict[str, Any], label: str, classes: dict[tuple, type]) -> nn.Module:
    """One class for each shape of scope keeps the archive small: most scopes look alike."""
    members = {
        name: _module(value, label, classes) if isinstance(value, dict) else value
        for name, value in tree.items()
    }
    shape = tuple((name, type(value)) for name, value in members.items())
    if shape not in classes:
        name = f"Scope{len(classes)}"
        classes[shape] = type(name, (nn.Module,), {"__module__": f"program_{label}"})
    module = classes[shape]()
    for name, value in members.items():
        setattr(module, name, value)
    return module


def _check_warnings(recorded: list[warnings.WarningMessage]) -> None:
    for warning in recorded:
        text = str(warning.message)
        if issubclass(warning.category, torch.jit.TracerWarning) and not text.startswith(
            _HARMLESS_WARNINGS
        ):
            raise lint_failure(f"Tracing warned: {text}")

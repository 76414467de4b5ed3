"""Runs a program beside the library's own module, at other sizes and dtypes than when tracing."""

import gc
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.downsampling import KDownsample2D
from diffusers.models.upsampling import KUpsample2D
from torch import Tensor, nn

from errors import comparison_failure
from networks import Entry, Network
from tracing import fill, load

# Largest difference relative to the largest value. The bits are usually equal; this leaves room for
# another grouping of the same sums, not for another computation.
_TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}
# Half precision runs at about 1 GFLOP/s on CPUs: only small networks are worth the wait.
_LARGEST_IN_FLOAT16 = 20_000_000
# Many CPUs emulate it.
_LARGEST_IN_BFLOAT16 = 200_000_000


@dataclass(frozen=True)
class Comparison:
    sizes: dict[str, int]
    dtype: str
    max_abs_diff: float
    bit_equal: bool

    def to_json(self) -> dict[str, Any]:
        return {
            **self.sizes,
            "dtype": self.dtype,
            "maxAbsDiff": self.max_abs_diff,
            "bitEqual": self.bit_equal,
        }


def compare(network: Network, programs: dict[str, bytes]) -> dict[str, list[dict[str, Any]]]:
    """For every entry's name the comparisons made; raises where a program differs from eager."""
    model = with_random_weights(network.build())
    results: dict[str, list[dict[str, Any]]] = {entry.name: [] for entry in network.entries}
    for dtype, skipped in _dtypes(model):
        name = str(dtype).removeprefix("torch.")
        if skipped is not None:
            for found in results.values():
                found.append({"dtype": name, "skipped": skipped})
            continue
        model = model.to(dtype)
        for entry in network.entries:
            script = load(programs[entry.name])
            fill(script, network.parameters(model))
            # The largest case is enough for the narrow dtypes: sizes were checked in float32.
            cases = entry.cases if dtype == torch.float32 else entry.cases[1:2]
            for case in cases:
                results[entry.name].append(
                    _compare_case(entry, model, script, case, dtype).to_json()
                )
            del script
            gc.collect()
    return results


def _compare_case(
    entry: Entry, model: nn.Module, script: Any, case: dict[str, int], dtype: torch.dtype
) -> Comparison:
    inputs = entry.make(case, torch.Generator().manual_seed(1))
    for name, tensor in inputs.items():
        if tensor.is_floating_point() and name not in entry.dtypes:
            inputs[name] = tensor.to(dtype)
    # To a trace, an absent summand is a zero; the run time leaves the addition out.
    absent = {name: torch.zeros(1, dtype=dtype) for name in entry.optional}
    with torch.no_grad():
        expected = entry.eager(model, inputs)
        actual = script(*({**absent, **inputs}[name] for name in entry.inputs))
    actual = actual if isinstance(actual, tuple) else (actual,)
    return _judge(entry, case, dtype, expected, actual)


def _judge(
    entry: Entry,
    case: dict[str, int],
    dtype: torch.dtype,
    expected: tuple[Tensor, ...],
    actual: tuple[Tensor, ...],
) -> Comparison:
    if len(expected) != len(actual) or len(actual) != len(entry.outputs):
        raise comparison_failure(f"{entry.name} has {len(actual)} outputs, not {len(expected)}.")
    largest, equal = 0.0, True
    for name, wanted, got in zip(entry.outputs, expected, actual, strict=True):
        where = f"{name} of {entry.name} at {case} in {dtype}"
        if wanted.shape != got.shape or wanted.dtype != got.dtype:
            found, needed = f"{got.dtype} {[*got.shape]}", f"{wanted.dtype} {[*wanted.shape]}"
            raise comparison_failure(f"{where} is {found}, not {needed}.")
        if not bool(wanted.isfinite().all()):
            raise comparison_failure(f"{where}: the library's own result is not finite.")
        difference = (wanted.double() - got.double()).abs().max().item()
        bound = _TOLERANCES[dtype] * wanted.double().abs().max().item()
        if math.isnan(difference) or difference > bound:
            raise comparison_failure(f"{where} differs by {difference:g}, more than {bound:g}.")
        largest = max(largest, difference)
        equal = equal and torch.equal(wanted, got)
    return Comparison(case, str(dtype).removeprefix("torch."), largest, equal)


def _dtypes(model: nn.Module) -> Iterator[tuple[torch.dtype, str | None]]:
    size = sum(parameter.numel() for parameter in model.parameters())
    yield torch.float32, None
    # float16 first: going through bfloat16 would leave weights that both can hold.
    yield torch.float16, _too_large(size, _LARGEST_IN_FLOAT16)
    yield torch.bfloat16, _too_large(size, _LARGEST_IN_BFLOAT16)


def _too_large(size: int, largest: int) -> str | None:
    return f"{size} parameters are too many for it on a CPU" if size > largest else None


def _buffer(owner: nn.Module, name: str, buffer: Tensor) -> Tensor:
    """The value that the library gives a buffer, lost when a model is built on `meta`."""
    if name == "position_ids":
        return torch.arange(buffer.shape[-1]).expand(buffer.shape)
    if name == "causal_attention_mask":
        return torch.full_like(buffer, -10000.0).triu_(1)
    if isinstance(owner, KDownsample2D | KUpsample2D):
        return type(owner)().kernel
    raise comparison_failure(f"No value is known for the buffer {name}.")


def with_random_weights(model: nn.Module) -> nn.Module:
    """Weights under which signals keep their size, the same ones in every run."""
    generator = torch.Generator().manual_seed(0)
    model = model.to_empty(device="cpu")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                bound = math.sqrt(3 / parameter[0].numel())
                parameter.uniform_(-bound, bound, generator=generator)
            elif name.endswith("weight"):
                parameter.uniform_(0.8, 1.2, generator=generator)
            else:
                parameter.uniform_(-0.1, 0.1, generator=generator)
        for owner in model.modules():
            for name, buffer in owner.named_buffers(recurse=False):
                buffer.copy_(_buffer(owner, name, buffer))
    return model

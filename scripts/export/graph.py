"""Cleaning and judging a traced graph."""

from collections import Counter
from collections.abc import Iterator

import torch

from errors import lint_failure

_FLOATS = {torch.float16, torch.float32, torch.float64, torch.bfloat16}
# What TorchScript writes for a dtype argument.
_DTYPE_NUMBERS = {5: torch.float16, 6: torch.float32, 7: torch.float64, 15: torch.bfloat16}
_ALLOWED_PRIMS = {
    "prim::Constant",
    "prim::GetAttr",
    "prim::ListConstruct",
    "prim::ListUnpack",
    "prim::TupleConstruct",
    "prim::TupleUnpack",
}


def clean(graph: torch._C.Graph) -> None:
    """Removes what tracing adds and inference does not need; the numbers stay the same bits."""
    fetched: dict[tuple[str, str], torch._C.Value] = {}
    for node in list(graph.nodes()):
        kind = node.kind()
        if kind == "prim::GetAttr":
            # CSE leaves these alone where the outputs may alias each other.
            place = (node.inputsAt(0).debugName(), node.s("name"))
            if place in fetched:
                _replace(node, fetched[place])
            else:
                fetched[place] = node.output()
        elif kind == "aten::dropout":
            _replace(node, node.inputsAt(0))
        elif kind == "aten::mul" and _is_by_one(node):
            _replace(node, node.inputsAt(0))
        elif kind == "aten::_convolution":
            _simplify_convolution(graph, node)
        elif kind == "aten::Int" and node.inputsAt(0).node().kind() == "prim::NumToTensor":
            _replace(node, node.inputsAt(0).node().inputsAt(0))
        elif kind == "aten::slice" and _is_whole_slice(node):
            _replace(node, node.inputsAt(0))
        elif kind == "prim::Constant":
            _make_scalar(graph, node)
    torch._C._jit_pass_dce(graph)
    torch._C._jit_pass_constant_pooling(graph)
    torch._C._jit_pass_cse(graph)
    torch._C._jit_pass_dce(graph)
    torch._C._jit_pass_erase_shape_information(graph)
    torch._C._jit_pass_lint(graph)


def lint(graph: torch._C.Graph, parameters: int, float_casts: int) -> dict[str, int]:
    """Counts what may bind a program to a machine; raises where the rules are broken.

    Every one of the `parameters` must be read, or a checkpoint would seem to have too many.
    `float_casts` is how many casts to a named float dtype the architecture needs: one for each
    embedding of timesteps, which is computed in float32.
    """
    counts: Counter[str] = Counter(
        nodes=0,
        operators=0,
        parameters=0,
        deviceConstants=0,
        floatCasts=0,
        tensorConstants=0,
        blocks=0,
    )
    faults: list[str] = []
    for node in graph.nodes():
        kind = node.kind()
        counts["nodes"] += 1
        counts["operators"] += kind.startswith("aten::")
        counts["parameters"] += kind == "prim::GetAttr" and _is_tensor(node.output())
        counts["blocks"] += len(list(node.blocks()))
        if not kind.startswith("aten::") and kind not in _ALLOWED_PRIMS:
            faults.append(f"the operator {kind}")
        if kind == "prim::Constant":
            counts["deviceConstants"] += _is_device(node)
            counts["tensorConstants"] += _is_tensor_constant(node)
        counts["floatCasts"] += _is_float_cast(node)
    faults += [
        f"{counts[n]} {n}" for n in ("deviceConstants", "tensorConstants", "blocks") if counts[n]
    ]
    if counts["parameters"] != parameters:
        faults.append(f"{counts['parameters']} parameters of {parameters}")
    if counts["floatCasts"] != float_casts:
        faults.append(
            f"{counts['floatCasts']} casts to a float dtype where {float_casts} were expected"
        )
    if faults:
        raise lint_failure(f"The traced graph has {', '.join(faults)}.")
    return dict(counts)


def operator_counts(graph: torch._C.Graph) -> dict[str, int]:
    kinds = Counter(node.kind() for node in graph.nodes() if node.kind() != "prim::Constant")
    return dict(sorted(kinds.items(), key=lambda item: (-item[1], item[0])))


def _simplify_convolution(graph: torch._C.Graph, node: torch._C.Node) -> None:
    """`_convolution` carries the cuDNN settings of the tracing process; these do not."""
    inputs = list(node.inputs())
    data, weight, bias, stride, padding, dilation, transposed, out_padding, groups = inputs[:9]
    arguments = [data, weight, bias, stride, padding, dilation, groups]
    name = "aten::conv2d"
    if transposed.toIValue():
        arguments = [data, weight, bias, stride, padding, out_padding, groups, dilation]
        name = "aten::conv_transpose2d"
    plain = graph.create(name, arguments, 1)
    plain.insertBefore(node)
    plain.output().setType(node.output().type())
    _replace(node, plain.output())


def _make_scalar(graph: torch._C.Graph, node: torch._C.Node) -> None:
    """Python numbers that met a tensor were recorded as 0-d tensors; scalars give the same."""
    if not _is_tensor_constant(node):
        return
    value = node.t("value")
    if value.dim() != 0:
        return
    graph.setInsertPoint(node)
    _replace(node, graph.insertConstant(value.item()))


def _replace(node: torch._C.Node, value: torch._C.Value) -> None:
    node.output().replaceAllUsesWith(value)
    node.destroy()


def _constants(node: torch._C.Node) -> Iterator[object]:
    for value in node.inputs():
        yield value.toIValue() if value.node().kind() == "prim::Constant" else ...


def _is_tensor(value: torch._C.Value) -> bool:
    return value.type().isSubtypeOf(torch._C.TensorType.get())


def _is_whole_slice(node: torch._C.Node) -> bool:
    _, _, start, end, step = _constants(node)
    return start in (0, None) and end in (None, 2**63 - 1) and step == 1


def _is_by_one(node: torch._C.Node) -> bool:
    """Whether floating-point numbers are multiplied by 1."""
    kind = node.inputsAt(0).type()
    is_float = isinstance(kind, torch._C.TensorType) and kind.dtype() in _FLOATS
    return is_float and list(_constants(node))[1] == 1


def _is_tensor_constant(node: torch._C.Node) -> bool:
    return node.hasAttribute("value") and node.kindOf("value") in ("t", "ts")


def _is_device(node: torch._C.Node) -> bool:
    return str(node.output().type()) == "Device"


def _is_float_cast(node: torch._C.Node) -> bool:
    if node.kind() not in (
        "aten::to",
        "aten::_to_copy",
        "aten::new_ones",
        "aten::cumsum",
        "aten::softmax",
    ):
        return False
    return any(
        isinstance(value, int)
        and not isinstance(value, bool)
        and _DTYPE_NUMBERS.get(value) in _FLOATS
        for name, value in zip(_argument_names(node), _constants(node), strict=True)
        if name == "dtype"
    )


def _argument_names(node: torch._C.Node) -> list[str]:
    schema = torch._C.parse_schema(node.schema())
    return [argument.name for argument in schema.arguments]

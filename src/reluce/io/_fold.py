"""Constants that the file computes instead of storing: only what is exact is followed."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, TensorProto, helper

from reluce.errors import ModelError
from reluce.io._infer import evaluated
from reluce.io._proto import FLOATS, PLAIN, attributes, decode
from reluce.io._read_select import MOVES
from reluce.io._scope import BATCH, TRIALS, NotModelled, Scope, Value, operand
from reluce.network import Array

# Without rounding in any format.
EXACT = MOVES | frozenset(
    [
        "Identity",
        "ConstantOfShape",
        "Neg",
        "Abs",
        "Relu",
        "Min",
        "Max",
        "Where",
        "Floor",
        "Ceil",
        "Sign",
        "Pad",
        "ScatterND",
        "ScatterElements",
        "Equal",
        "Less",
        "Greater",
        "LessOrEqual",
        "GreaterOrEqual",
        "Not",
        "And",
        "Or",
        "Xor",
        "Cast",
        "NonZero",
    ]
)
# Without rounding on integers.
INTEGER = frozenset(
    [
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Mod",
        "Range",
        "ReduceProd",
        "ReduceSum",
        "ReduceMin",
        "ReduceMax",
        "CumSum",
        "OneHot",
    ]
)

# Of these, the ones that treat every size of the batch alike.
STEADY = MOVES | frozenset(
    ["Identity", "ConstantOfShape", "Neg", "Cast", "Add", "Sub", "Mul", "ReduceProd", "ReduceSum"]
)


def folded(scope: Scope, node: NodeProto) -> list[Value] | None:
    """The constants that a node computes, or ``None`` where it computes none or they cannot be followed."""
    try:
        if node.op_type == "Constant":
            return [_stored(node)]
        if node.op_type in ("Shape", "Size"):
            return [_measured(scope, node)]
        names = [name for name in node.input if name]
        if node.op_type not in EXACT | INTEGER or any(scope.values[name].constant is None for name in names):
            return None
        return _computed(scope, node, names)
    except ModelError:
        raise
    except (NotModelled, ArithmeticError, LookupError, TypeError, ValueError):
        return None


def _stored(node: NodeProto) -> Value:
    """The value of a Constant node."""
    entry = node.attribute[0] if len(node.attribute) == 1 else None
    if entry is None or node.input:
        raise ModelError(f"node {node.name or node.output[0]!r} (Constant) does not hold exactly one value")
    if entry.name == "value":
        return tensor_value(entry.t, node.output[0])
    kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    if entry.name not in kinds:
        return Value(0, None, None, True)
    return array_value(np.asarray(helper.get_attribute_value(entry), kinds[entry.name]))


def tensor_value(tensor: TensorProto, owner: str = "") -> Value:
    """What a stored tensor is worth."""
    array = decode(tensor, owner)
    return Value(tensor.data_type, tuple(tensor.dims), None if array is None else (array,), True)


def array_value(*arrays: Array) -> Value:
    """A constant, given once or at each trial batch size."""
    first = arrays[0]
    if all(np.array_equal(array, first) and array.dtype == first.dtype for array in arrays):
        arrays = arrays[:1]
    for array in arrays:
        array.setflags(write=False)
    elem = helper.np_dtype_to_tensor_dtype(first.dtype)
    if all(array.shape == first.shape for array in arrays):
        return Value(elem, first.shape, arrays, True)
    same = len({array.ndim for array in arrays}) == 1
    dims = tuple(a if a == b else None for a, b in zip(first.shape, arrays[-1].shape, strict=True)) if same else None
    if dims and all(len(array) == size for array, size in zip(arrays, TRIALS, strict=True)):
        dims = (BATCH, *dims[1:])
    return Value(elem, dims, arrays, True)


def _measured(scope: Scope, node: NodeProto) -> Value:
    """Shape or Size of a tensor, where all its axes are known."""
    value = scope.values[operand(node, 0)]
    if value.dims is None or None in value.dims:
        raise NotModelled("a shape that is not known")
    found = []
    for size in TRIALS if BATCH in value.dims else TRIALS[:1]:
        dims = np.array([size if dim == BATCH else dim for dim in value.dims], np.int64)
        flags = attributes(node)
        part = dims[flags.get("start", 0) : flags.get("end", len(dims))]
        found.append(part.copy() if node.op_type == "Shape" else np.array(dims.prod(), np.int64))
    return array_value(*found)


def _computed(scope: Scope, node: NodeProto, names: list[str]) -> list[Value]:
    trials = range(max((len(scope.values[name].constant or ()) for name in names), default=1))
    if len(trials) > 1:
        _check_steady(scope, node)
    columns: list[list[Array]] = [[] for name in node.output if name]
    for trial in trials:
        arrays = {name: scope.at(name, trial) for name in names}
        scope.charge(sum(array.size for array in arrays.values()))
        results = evaluated(scope, node, arrays)
        for column, result in zip(columns, results, strict=True):
            _check_exact(node, list(arrays.values()), result)
            scope.charge(result.size)
            column.append(result)
    found = iter(columns)
    return [array_value(*next(found)) if name else Value(0, None) for name in node.output]


def _check_steady(scope: Scope, node: NodeProto) -> None:
    """Refuse what may behave in another way once the batch is larger than in any trial."""
    if node.op_type not in STEADY:
        raise NotModelled("may depend on the size of the batch in any way")
    if node.op_type == "Slice":
        shapes = {array.shape for array in scope.values[node.input[0]].constant or ()}
        if len(shapes) > 1 or any(len(scope.values[name].constant or ()) > 1 for name in node.input[1:] if name):
            raise NotModelled("cuts the batch axis")


def _check_exact(node: NodeProto, arrays: list[Array], result: Array) -> None:
    if helper.np_dtype_to_tensor_dtype(result.dtype) not in PLAIN:
        raise NotModelled("a format that is not modelled")
    if node.op_type in INTEGER and result.dtype.kind not in "iub" and not _exact_sum(node, arrays):
        raise NotModelled("may round")
    if node.op_type in ("Div", "Mod") and any((array < 0).any() for array in arrays):
        raise NotModelled("rounding of negative quotients")  # towards zero or down: implementations differ
    to_float = node.op_type == "Cast" and helper.np_dtype_to_tensor_dtype(result.dtype) in FLOATS
    if to_float and not np.array_equal(result.astype(arrays[0].dtype), arrays[0]):
        raise NotModelled("may round")


def _exact_sum(node: NodeProto, arrays: list[Array]) -> bool:
    """True where no element of a float sum or difference rounds (the error term of Knuth's TwoSum is zero)."""
    if node.op_type not in ("Add", "Sub") or len(arrays) != 2:
        return False
    a, b = arrays[0], arrays[1] if node.op_type == "Add" else -arrays[1]
    with np.errstate(all="ignore"):
        total = a + b
        part = total - a
        return bool(np.all((a - (total - part)) + (b - part) == 0))

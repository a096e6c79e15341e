"""Shapes and formats behind nodes that are not modelled: only what the standard fixes, from shapes that are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from reluce_checker._graph import Shape
from reluce_checker._read_call import FAILURES, FORMATS, Call, NotModelled, Value, axis_of, bounded
from reluce_checker._read_movement import MOVES, moved


def outputs(call: Call) -> list[Value]:
    """What is known of each output of an Opaque node."""
    blank = [Value("", None) for _ in call.outputs]
    first = call.value(0)
    if first is None or call.kind not in SHAPES:
        return blank
    try:
        shapes = SHAPES[call.kind](call)
        form = FORMATS[call.flag("to", 0)].name if call.kind == "Cast" else first.format
    except FAILURES:
        return blank
    if len(shapes) != len(blank) or min(map(min, filter(None, shapes)), default=0) < (-1 if call.kind in OPEN else 0):
        return blank
    if call.kind in ALIKE and len({value.format for value in call.values if value is not None}) > 1:
        form = ""
    return [Value(form, shape) for shape in shapes]


def _shape(call: Call, position: int) -> Shape:
    value = call.value(position)
    if value is None or value.shape is None or (-1 in value.shape and call.kind not in OPEN):
        raise NotModelled("an operand is missing, or of unknown shape")
    return value.shape


def _together(call: Call) -> list[Shape]:
    """Operands that broadcast, as they all do since operator set 8."""
    shapes = [_shape(call, k) for k in range(len(call.inputs))]
    if call.opset < 8 and len(set(shapes)) > 1:
        raise NotModelled("broadcasting as in old operator sets")
    return [np.broadcast_shapes(*shapes)]


def _same(call: Call) -> list[Shape]:
    return [_shape(call, 0)]


def _matmul(call: Call) -> list[Shape]:
    a, b = _shape(call, 0), _shape(call, 1)
    if a[-1] != b[max(0, len(b) - 2)]:
        raise NotModelled("the widths do not fit")
    return [(*np.broadcast_shapes(a[:-2], b[:-2]), *a[-2:-1], *(b[-1:] if len(b) > 1 else ()))]


def _recurrent(call: Call) -> list[Shape]:
    (length, batch, _), (directions, _, hidden) = _shape(call, 0), _shape(call, 2)
    if call.flag("layout", 0):
        raise NotModelled("the batch comes first")
    return [(length, directions, batch, hidden), *[(directions, batch, hidden)] * (len(call.outputs) - 1)]


def _padded(call: Call) -> list[Shape]:
    shape, pads = _shape(call, 0), call.whole("pads", 1, 11) or []
    if call.value(3) is not None:
        raise NotModelled("along some axes only")
    return [tuple(n + a + b for n, a, b in zip(shape, pads[: len(shape)], pads[len(shape) :], strict=True))]


def _reduced(call: Call) -> list[Shape]:
    shape = _shape(call, 0)
    axes = call.whole("axes", 1, 13 if call.kind == "ReduceSum" else 18)
    if not axes and call.flag("noop_with_empty_axes", 0):
        return [shape]
    gone = {axis_of(axis, len(shape)) for axis in axes or range(len(shape))}
    keep = call.flag("keepdims", 1)
    return [tuple(1 if k in gone else n for k, n in enumerate(shape) if keep or k not in gone)]


AUTOMATIC = (b"NOTSET", b"VALID", b"SAME_UPPER", b"SAME_LOWER")


def _windows(call: Call, sizes: Shape, kernel: Shape) -> list[int]:
    """How often a window fits along each axis."""
    count = len(sizes)
    strides, dilations = (call.flag(name, [1] * count) for name in ("strides", "dilations"))
    pads, mode = call.flag("pads", [0] * 2 * count), call.flag("auto_pad", b"NOTSET")
    if min(*strides, *dilations, *kernel, 1) < 1 or len(pads) != 2 * count or mode not in AUTOMATIC:
        raise NotModelled("not as the standard has it")
    if mode != b"NOTSET":
        pads = [0] * 2 * count
    found = []
    for k, (size, width, stride, dilation) in enumerate(zip(sizes, kernel, strides, dilations, strict=True)):
        room = size + pads[k] + pads[k + count] - (dilation * (width - 1) + 1)
        if mode.startswith(b"SAME"):
            found.append(-(-size // stride))
        elif room < 0 or (call.flag("ceil_mode", 0) and room % stride):
            raise NotModelled("the last window is cut off")
        else:
            found.append(room // stride + 1)
    return found


def _conv(call: Call) -> list[Shape]:
    (count, channels, *sizes), (filters, width, *kernel) = _shape(call, 0), _shape(call, 1)
    if width * call.flag("group", 1) != channels:
        raise NotModelled("the channels do not fit")
    return [(count, filters, *_windows(call, tuple(sizes), tuple(kernel)))]


def _pool(call: Call) -> list[Shape]:
    count, channels, *sizes = _shape(call, 0)
    return [(count, channels, *_windows(call, tuple(sizes), tuple(call.flag("kernel_shape", [0]))))]


def _conv_transpose(call: Call) -> list[Shape]:
    (count, channels, *sizes), (filters, width, *kernel) = _shape(call, 0), _shape(call, 1)
    if filters != channels or "output_shape" in call.flags or call.flag("auto_pad", b"NOTSET") != b"NOTSET":
        raise NotModelled("another form")
    ones, zeros = [1] * len(sizes), [0] * len(sizes)
    strides, dilations = call.flag("strides", ones), call.flag("dilations", ones)
    pads, extra = call.flag("pads", zeros * 2), call.flag("output_padding", zeros)
    ends = [a + b for a, b in zip(pads[: len(sizes)], pads[len(sizes) :], strict=True)]
    parts = zip(sizes, kernel, strides, dilations, ends, extra, strict=True)
    spread = [stride * (n - 1) + more + (k - 1) * d + 1 - end for n, k, stride, d, end, more in parts]
    return [(count, width * call.flag("group", 1), *spread)]


def _moved(call: Call) -> list[Shape]:
    """Movement of a single number through all of the shape, which takes no memory."""
    shapes = [_shape(call, k) for k in range(len(call.inputs) if call.kind == "Concat" else 1)]
    if -1 in shapes[0] and call.kind == "Squeeze" and call.whole("axes", 1, 13) is None:
        raise NotModelled("an unknown length may be 1")
    lengths = [[UNKNOWN if n == -1 else n for n in bounded([abs(n) for n in shape]) and shape] for shape in shapes]
    results = moved(call, [np.broadcast_to(np.int8(0), part) for part in lengths])
    return [tuple(-1 if n == UNKNOWN else n for n in result.shape) for result in results]


UNKNOWN = 7919  # stands for an unknown length (-1) while a tensor is moved; what really has this length gets unknown
OPEN = frozenset(["Transpose", "Squeeze", "Relu", "RNN", "GRU", "LSTM"])  # what keeps unknown lengths as they are
ALIKE = frozenset(["Add", "Sub", "Mul", "Div", "Min", "Max", "MatMul", "Concat"])
SHAPES: Mapping[str, Callable[[Call], list[Shape]]] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Min", "Max", "Pow"), _together),
    **dict.fromkeys(("Abs", "Sin", "Cos", "Exp", "Erf", "Sqrt", "Floor", "Sign", "Relu", "Cast"), _same),
    **dict.fromkeys(("ReduceSum", "ReduceMean"), _reduced),
    "MatMul": _matmul,
    "Pad": _padded,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    **dict.fromkeys(("MaxPool", "AveragePool"), _pool),
    **dict.fromkeys(("RNN", "GRU", "LSTM"), _recurrent),
    **dict.fromkeys(MOVES, _moved),
}

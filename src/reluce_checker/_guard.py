"""The guard: an output of the compressed network, true of a sample only where it lies in the certificate's domain.

Recognised is one form, node by node; whatever else is there proves nothing. For each graph input, as a matrix x with
one row for each sample, and constants l, u of its format,

    since operator set 12      b = And(GreaterOrEqual(x, l), LessOrEqual(x, u))
    before                     b = And(Not(Or(Less(x, l), Greater(x, u))), Or(Less(x, 1), Greater(x, 0)))
    row by row                 m = ReduceMin(Cast(b, float32), axis 1)
    over all inputs            guard = Cast(Min(m of the first input, m of the second, ...), bool)

Comparisons with NaN are false. In the first form that makes b false. In the second the last Or is false for NaN,
whatever the two constants in it are, and for a number ``not x < l`` is ``x >= l``. So b_k holds only where x_k is a
number with l_k <= x_k <= u_k; l and u are finite, so that x_k is. It lies in the domain where l_k and u_k do; where
l_k > u_k, b_k never holds. The cast of b has 0 and 1, the least of these is 1 only where all are, and rows do not mix:
x has one row for each sample, and l and u have one number, or one for each column. So the batch may have any length.

The nodes are taken out of the model then. No other node and no output reads them, so the rest computes what it did.
"""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

from reluce_checker._domain import Domain
from reluce_checker._errors import NotProved
from reluce_checker._graph import Array
from reluce_checker._read import batch_is_free
from reluce_checker._read_call import FORMATS, Value
from reluce_checker._read_proto import STANDARD, attributes, inside, opset, parse

FORMS = ("float16", "float32", "float64", "int32", "int64")
OLDEST, WHOLE_NUMBERS, OR_EQUAL, AXES_AS_INPUT = 7, 9, 12, 18
FIELDS = {"input", "output", "name", "op_type", "attribute", "doc_string"}
"""Of a node; what else a message may have might say something about its meaning."""


def unguarded(data: bytes, guard: str, domain: Domain) -> bytes:
    """The same network without its guard, once that is known to be one.

    Parameters
    ----------
    data
        The bytes of an ONNX file.
    guard
        The output that is the guard.
    domain
        Where it may be true: ends of all graph inputs.

    Raises
    ------
    NotProved
        When it is not a guard of this form, or may be true elsewhere.
    """
    model = parse(data)
    found = _Guard(model, guard)
    found.follow(domain)
    found.demand_unread()
    for number in sorted(found.nodes, reverse=True):
        del model.graph.node[number]
    del model.graph.output[[info.name for info in model.graph.output].index(guard)]
    return bytes(model.SerializeToString(deterministic=True))


class _Guard:
    """The nodes of a guard, followed from the output to the inputs."""

    def __init__(self, model: ModelProto, guard: str) -> None:
        graph = model.graph
        self.graph, self.guard, self.opset = graph, guard, opset(model)
        self.nodes: set[int] = set()
        self.functions = {entry.name for entry in model.functions if entry.domain in STANDARD}
        stored = Counter(tensor.name for tensor in graph.initializer)
        self.inputs = [info for info in graph.input if info.name not in stored]
        outputs = [name for node in graph.node for name in node.output]
        self.written = stored + Counter([*(info.name for info in graph.input), *outputs])
        self.place = {name: number for number, node in enumerate(graph.node) for name in node.output}

    def wrong(self, why: str) -> NotProved:
        """The error for whatever is not as expected."""
        return NotProved(f"output {self.guard!r} is not known to be a guard: {why}")

    def follow(self, domain: Domain) -> None:
        """Demand the form from the output to the inputs, and constants within the domain."""
        self._demand_declared()
        if set(domain) != {info.name for info in self.inputs} or not domain:
            raise self.wrong("the certificate's domain is not one of the graph's inputs")
        (inside,) = self._step(self.guard, "Cast", 1, {"to": TensorProto.BOOL})
        each = [inside]
        if len(self.inputs) > 1:
            each = self._step(inside, "Min", len(self.inputs), {})
        for info, name in zip(self.inputs, each, strict=True):
            self._input(info, name, domain[info.name])

    def demand_unread(self) -> None:
        """Nothing but the guard reads what it writes, and nothing else writes that."""
        mine = {name for number in self.nodes for name in self.graph.node[number].output}
        twice = sorted(name for name in mine if self.written[name] > 1)
        if twice:
            raise self.wrong(f"tensor {twice[0]!r} is written twice")
        others = [node for number, node in enumerate(self.graph.node) if number not in self.nodes]
        read = {name for node in others for name in (*node.input, *inside(node)[0])}
        read |= {info.name for info in self.graph.output if info.name != self.guard}
        shared = sorted(mine & read)
        if shared:
            raise self.wrong(f"the network reads tensor {shared[0]!r} of it")

    def _demand_declared(self) -> None:
        """Truth values, one for each sample; either all inputs leave the number of samples open, or none does."""
        if self.opset < OLDEST:
            raise self.wrong(f"operator set {self.opset} is too old")
        declared = [info for info in self.graph.output if info.name == self.guard]
        if len(declared) != 1:
            raise self.wrong(f"the network has {len(declared)} outputs of this name")
        kind = declared[0].type.tensor_type
        if kind.elem_type != TensorProto.BOOL or len(kind.shape.dim) != 1:
            raise self.wrong("it is not declared as truth values along one axis")
        if len({batch_is_free(info) for info in self.inputs}) > 1:
            raise self.wrong("some inputs have a batch axis and others have none")

    def _input(self, info: ValueInfoProto, name: str, ends: tuple[Array, Array]) -> None:
        """The nodes from the number of one input that is 1 for samples inside, to that input."""
        form = FORMATS[info.type.tensor_type.elem_type].name if info.type.tensor_type.elem_type in FORMATS else ""
        if form not in FORMS or (form.startswith("int") and self.opset < WHOLE_NUMBERS):
            raise self.wrong(f"input {info.name!r} is of a format that it does not compare")
        if self.opset >= AXES_AS_INPUT:
            one, axes = self._step(name, "ReduceMin", 2, {"keepdims": 0})
            if self._constant(axes, "int64").tolist() != [1]:
                raise self.wrong(f"{name!r} is not reduced along axis 1")
        else:
            (one,) = self._step(name, "ReduceMin", 1, {"axes": [1], "keepdims": 0})
        (between,) = self._step(one, "Cast", 1, {"to": TensorProto.FLOAT})
        x, low, high = self._compared(between, form)
        if x != info.name or not _is_matrix(info):
            (source,) = self._step(x, "Flatten", 1, {"axis": 1 if batch_is_free(info) else 0})
            if source != info.name:
                raise self.wrong(f"it compares {source!r} where input {info.name!r} is due")
        self._demand_within(info.name, low, high, ends)

    def _compared(self, between: str, form: str) -> tuple[str, Array, Array]:
        """What is compared, and with which constants."""
        if self.opset >= OR_EQUAL:
            left, right = self._step(between, "And", 2, {})
            x, low = self._step(left, "GreaterOrEqual", 2, {})
            others = self._step(right, "LessOrEqual", 2, {})
        else:
            inner, number = self._step(between, "And", 2, {})
            (outside,) = self._step(inner, "Not", 1, {})
            left, right = self._step(outside, "Or", 2, {})
            x, low = self._step(left, "Less", 2, {})
            others = self._step(right, "Greater", 2, {})
            below, above = self._step(number, "Or", 2, {})
            for name, kind in ((below, "Less"), (above, "Greater")):
                again, bound = self._step(name, kind, 2, {})
                if again != x or self._constant(bound, form).size != 1:
                    raise self.wrong(f"{name!r} does not tell that {x!r} is a number")
        again, high = others
        if again != x:
            raise self.wrong(f"it compares {x!r} with one end and {again!r} with the other")
        return x, self._constant(low, form), self._constant(high, form)

    def _demand_within(self, name: str, low: Array, high: Array, ends: tuple[Array, Array]) -> None:
        least, most = ends
        if not {low.size, high.size} <= {1, len(least)}:
            raise self.wrong(f"it does not compare input {name!r} coordinate by coordinate")
        lows, highs = ([Fraction(x) for x in end.tolist()] for end in (low, high))
        lows, highs = (end * len(least) if len(end) == 1 else end for end in (lows, highs))
        for k, (bottom, top) in enumerate(zip(lows, highs, strict=True)):
            if bottom <= top and (bottom < least[k] or top > most[k]):
                raise self.wrong(f"it is true outside of the domain, along coordinate {k} of input {name!r}")

    def _step(self, name: str, kind: str, count: int, flags: dict[str, object]) -> list[str]:
        """What the node that writes a tensor reads, once it is of a kind and has these attributes and no others."""
        node = self._node(name, kind)
        found = attributes(node)
        if repr(sorted(found.items())) != repr(sorted(flags.items())):
            raise self.wrong(f"{name!r} ({kind}) has other attributes than {flags}")
        if len(node.input) != count or not all(node.input):
            raise self.wrong(f"{name!r} ({kind}) does not read {count} tensors")
        return list(node.input)

    def _constant(self, name: str, form: str) -> Array:
        """The finite numbers of a Constant node, along one axis: nobody can replace them when the network runs."""
        node = self._node(name, "Constant")
        found = attributes(node)
        value = found.get("value")
        if len(found) != 1 or node.input or not isinstance(value, Value) or value.constant is None:
            raise self.wrong(f"{name!r} does not hold a constant")
        if value.format != form or value.constant.ndim != 1 or not np.isfinite(value.constant).all():
            raise self.wrong(f"{name!r} does not hold finite numbers of format {form} along one axis")
        return value.constant

    def _node(self, name: str, kind: str) -> NodeProto:
        """The one node that writes a tensor, once it is a standard operator of a kind."""
        if name not in self.place:
            raise self.wrong(f"no node writes {name!r} ({kind})")
        node: NodeProto = self.graph.node[self.place[name]]
        plain = {field.name for field, _ in node.ListFields()} <= FIELDS
        if not plain or node.op_type != kind or len(node.output) != 1 or kind in self.functions:
            raise self.wrong(f"{name!r} is not written by the standard operator {kind}")
        self.nodes.add(self.place[name])
        return node


def _is_matrix(info: ValueInfoProto) -> bool:
    """Whether an input has one row for each sample as it is."""
    dims = info.type.tensor_type.shape.dim
    return len(dims) == 2 and (batch_is_free(info) or dims[0].dim_value == 1)

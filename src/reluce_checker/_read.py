"""ONNX bytes to a :class:`Graph`: one walk over the nodes, each by the rule of its operator."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from math import prod

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

from reluce_checker._errors import Unreadable
from reluce_checker._graph import Constant, Graph, Node, Opaque
from reluce_checker._read_call import FAILURES, FORMATS, MOST_ELEMENTS, Call, Value, known
from reluce_checker._read_constants import computed
from reluce_checker._read_dense import fused
from reluce_checker._read_ops import RULES
from reluce_checker._read_proto import (
    STANDARD,
    attributes,
    content,
    decode,
    every_name,
    inside,
    opset,
    parse,
    stored,
)
from reluce_checker._read_scope import FLOATS, Made, Scope
from reluce_checker._read_shapes import outputs as outputs_of

MOST_NODES = 100_000
"""Nodes of a network."""


def read_graph(data: bytes, batch: int = 1) -> Graph:
    """Read a network.

    Parameters
    ----------
    data
        The uncompressed bytes of an ONNX file.
    batch
        The length of axis 0 of a graph input that leaves it free.

    Returns
    -------
    Graph
        What is not understood exactly is an Opaque node in it.

    Raises
    ------
    Unreadable
        When the file cannot be relied upon; says what and where.
    """
    model = parse(data)
    graph = model.graph
    if len(graph.node) > MOST_NODES:
        raise Unreadable(f"the network has {len(graph.node)} nodes; at most {MOST_NODES} are read")
    readers = _readers(graph)
    values = _initialisers(graph, readers)
    inputs = [info for info in graph.input if info.name not in values]
    batched = any(batch_is_free(info) for info in inputs)
    scope = Scope(opset(model), batched, every_name(graph), readers, values)
    for info in inputs:
        if info.name in values or not info.name:
            raise Unreadable(f"two graph inputs are called {info.name!r}")
        values[info.name] = _declared(info, batch)
    walk = _Walk(scope, model)
    for node in graph.node:
        walk.node(node)
    for info in graph.output:
        walk.output(info.name)
    names = [info.name for info in inputs]
    tensors = names + [name for node in scope.nodes for name in node.outputs]
    return Graph(
        tuple(names),
        tuple(info.name for info in graph.output),
        tuple(scope.nodes),
        {name: None if -1 in (values[name].shape or ()) else values[name].shape for name in tensors},
        {name: values[name].format for name in tensors},
    )


def _readers(graph: GraphProto) -> Counter[str]:
    """How often each tensor is read; being a graph output counts, and so does a name in a subgraph."""
    counts = Counter(info.name for info in graph.output)
    for node in graph.node:
        counts.update(filter(None, node.input))
        counts.update(inside(node)[0])
    return counts


def _initialisers(graph: GraphProto, readers: Mapping[str, int]) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for tensor in graph.initializer:
        if tensor.name in values or not tensor.name:
            raise Unreadable(f"two initialisers are called {tensor.name!r}")
        values[tensor.name] = value = decode(tensor, tensor.name)
        if value.format not in FLOATS or value.constant is None or not readers.get(tensor.name):
            continue
        # An infinite number may stand alone, as the open end of a range.
        lone = value.constant.size == 1 and not np.isnan(value.constant).any()
        if not lone and not np.isfinite(value.constant).all():
            raise Unreadable(f"initialiser {tensor.name!r} holds numbers that are not finite")
    return values


def batch_is_free(info: ValueInfoProto) -> bool:
    """Whether axis 0 of a graph input has no fixed length."""
    dims = info.type.tensor_type.shape.dim
    return len(dims) > 0 and dims[0].dim_value <= 0


def _declared(info: ValueInfoProto, batch: int) -> Value:
    kind = info.type.tensor_type
    form = FORMATS[kind.elem_type].name if kind.elem_type in FORMATS else f"type {kind.elem_type}"
    if not info.type.HasField("tensor_type"):
        form = info.type.SerializeToString(deterministic=True).hex()
    if not info.type.HasField("tensor_type") or not kind.HasField("shape"):
        return Value(form, None)
    dims = [dim.dim_value if dim.dim_value > 0 else -1 for dim in kind.shape.dim]
    return Value(form, (batch, *dims[1:]) if batch_is_free(info) else tuple(dims))


class _Walk:
    """The nodes of the file, one after the other."""

    def __init__(self, scope: Scope, model: ModelProto) -> None:
        self.scope = scope
        self.functions = {(_domain(entry.domain), entry.name) for entry in model.functions}
        # What decides the meaning of an operator besides the node itself.
        imports = sorted((_domain(entry.domain), entry.version) for entry in model.opset_import)
        functions = sorted(entry.SerializeToString(deterministic=True) for entry in model.functions)
        self.context = hashlib.sha256(_joined([repr(imports).encode(), *functions])).digest()
        self.left = MOST_ELEMENTS

    def node(self, node: NodeProto) -> None:
        """Read one node."""
        scope, where = self.scope, f"node {node.name or node.op_type!r}"
        inner, own = inside(node)
        for name in (*filter(None, node.input), *(name for name in inner if name not in own)):
            if name not in scope.values:
                raise Unreadable(f"{where} reads tensor {name!r}, which nothing before it writes")
        written = [name for name in node.output if name]
        for name in written:
            if name in scope.values or written.count(name) > 1:
                raise Unreadable(f"{where} writes tensor {name!r}, which is written already")
        values = [scope.values[name] if name else None for name in node.input]
        call = Call(node.op_type, scope.opset, attributes(node), list(node.input), values, list(node.output))
        standard = node.domain in STANDARD and ("", node.op_type) not in self.functions and not node.overload
        if standard and node.op_type == "Constant":
            scope.values[node.output[0]] = stored(node, call.flags)
        elif not standard or not (self._constants(call) or fused(scope, call) or self._modelled(call)):
            # A name that a subgraph also defines itself counts as captured: better once too often.
            self._opaque(node, call, [name for name in inner if name in scope.values], standard)
        for name in written:  # an output that nobody reads, such as a mask
            scope.values.setdefault(name, Value("", None))

    def _constants(self, call: Call) -> bool:
        try:
            results = computed(call)
        except FAILURES:
            return False
        if results is None or len(results) != len(call.outputs) or not self._affords(map(np.size, results)):
            return False
        self.scope.values.update(
            (name, known(array)) for name, array in zip(call.outputs, results, strict=True) if name
        )
        return True

    def _modelled(self, call: Call) -> bool:
        rule, since, understood = RULES.get(call.kind, (None, 0, ""))
        if rule is None or call.opset < since or not any(call.outputs):
            return False
        if call.kind != "Split" and (not call.outputs[0] or (any(call.outputs[1:]) and call.kind != "Dropout")):
            return False
        if call.inputs and all(map(self.scope.fixed, filter(None, call.inputs))):
            self._unfold(call.inputs[0])
        try:
            call.demand(understood)
            made = list(rule(self.scope, call))
        except FAILURES:
            return False
        if not self._affords(prod(entry.shape) for entry in made):
            return False
        for entry in made:
            self.scope.add(entry)
        if call.kind == "MatMul" and len(made) == 1:
            self.scope.products[call.outputs[0]] = len(self.scope.nodes) - 1
        return True

    def _affords(self, sizes: Iterable[int]) -> bool:
        """Whether so many elements more can be followed: a node of few bytes can ask for many."""
        needed = sum(sizes)
        if needed > self.left:
            return False
        self.left -= needed
        return True

    def _unfold(self, name: str) -> None:
        """Turn a constant into a node, so that an operation on constants alone, which rounds, is modelled."""
        value = self.scope.values.get(name)
        array = None if value is None else value.constant
        if array is not None and array.dtype.name in FLOATS and np.isfinite(array).all():
            self.scope.add(Made(Constant(array), (), name, array.shape, array.dtype.name))

    def _opaque(self, node: NodeProto, call: Call, inner: list[str], standard: bool) -> None:
        scope = self.scope
        parts = [self.context, _domain(node.domain).encode(), node.op_type.encode(), node.overload.encode()]
        for entry in sorted(node.attribute, key=lambda entry: entry.name):
            parts += [entry.name.encode(), content(entry)]
        parts.append(b"operands")
        for name in call.inputs:
            parts.append(scope.values[name].digest if name else b"left out")
        parts.append(b"captured")
        for name in inner:
            parts += [name.encode(), scope.values[name].digest]
        parts.append(bytes(map(bool, call.outputs)))
        inputs = tuple(name for name in (*call.inputs, *inner) if name and not scope.fixed(name))
        found = outputs_of(call) if standard else [Value("", None) for _ in call.outputs]
        scope.values.update((name, value) for name, value in zip(call.outputs, found, strict=True) if name)
        scope.nodes.append(Node(Opaque(node.op_type, _joined(parts)), inputs, tuple(filter(None, call.outputs))))

    def output(self, name: str) -> None:
        """Check a graph output, and make a node of it where it is a constant."""
        value = self.scope.values.get(name)
        if value is None:
            raise Unreadable(f"graph output {name!r} is written by no node")
        self._unfold(name)
        if self.scope.fixed(name):
            self.scope.nodes.append(Node(Opaque("Constant", value.digest), (), (name,)))
            self.scope.values[name] = Value(value.format, value.shape)


def _domain(name: str) -> str:
    return "" if name in STANDARD else name


def _joined(parts: list[bytes]) -> bytes:
    """Parts one after the other, each behind its length: different parts never look the same."""
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)

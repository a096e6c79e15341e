"""ONNX to Network: walks the nodes once and asks the rule of each operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np
from onnx import ModelProto, NodeProto

from reluce.errors import ModelError
from reluce.io._fold import folded
from reluce.io._infer import inferred
from reluce.io._limits import SAMPLE, TENSOR
from reluce.io._loaded import Group
from reluce.io._names import Names
from reluce.io._proto import DEFAULT_DOMAINS, FLOATS, reads
from reluce.io._read_dense import gemm, matmul
from reluce.io._read_elementwise import (
    ACTIVATIONS,
    activation,
    batch_normalization,
    binary,
    negative,
    relu,
    softmax,
    total,
)
from reluce.io._read_select import MOVES, cast, identity, move
from reluce.io._schema import unknown_attributes
from reluce.io._scope import Made, NotModelled, Scope, Value, sample_shape
from reluce.network import (
    Activation,
    Add,
    Affine,
    BatchNorm,
    Constant,
    Dense,
    Network,
    Node,
    Op,
    Opaque,
    Relu,
    Tensor,
    readonly,
)

Rule = Callable[[Scope, NodeProto], tuple[Made, ...]]
RULES: Mapping[str, Rule] = {
    "Gemm": gemm,
    "MatMul": matmul,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), binary),
    "Neg": negative,
    "Sum": total,
    "BatchNormalization": batch_normalization,
    "Relu": relu,
    **dict.fromkeys(ACTIVATIONS, activation),
    **dict.fromkeys(("Softmax", "LogSoftmax"), softmax),
    **dict.fromkeys(MOVES, move),
    "Identity": identity,
    "Dropout": identity,
    "Cast": cast,
}
# Operators whose outputs have channels on ONNX axis 1, each computed by its own filter.
CHANNELLED = frozenset(
    [
        "Conv",
        "ConvTranspose",
        "ConvInteger",
        "QLinearConv",
        "MaxPool",
        "AveragePool",
        "LpPool",
        "GlobalMaxPool",
        "GlobalAveragePool",
        "GlobalLpPool",
    ]
)


@dataclass(eq=False)
class Reader:
    """The network while it grows."""

    scope: Scope
    functions: frozenset[tuple[str, str]]
    nodes: list[Node] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    names: Names = field(default_factory=Names)
    places: dict[str, int] = field(default_factory=dict)  # where in `nodes` each one is, by name
    size: int = 0  # numbers in one sample of all tensors
    matmuls: dict[str, int] = field(default_factory=dict)  # output of a MatMul that is one Dense -> its group

    def read(self, model: ModelProto, readers: Mapping[str, int]) -> None:
        """Read all nodes; ``readers`` counts how often each tensor is read, graph outputs included."""
        for index, node in enumerate(model.graph.node):
            self._check_inputs(node)
            strange = self._strange(node)
            if strange:
                self._opaque(index, node, strange)
            elif not self._fused(index, node, readers):
                self._node(index, node)

    def _check_inputs(self, node: NodeProto) -> None:
        for name in reads(node):
            if name not in self.scope.values:
                raise ModelError(
                    f"node {node.name or node.op_type!r} reads tensor {name!r}, which nothing before it writes "
                    "(the nodes form a cycle, or are not in topological order)"
                )
        for name in filter(None, node.output):
            if name in self.scope.values:
                raise ModelError(f"tensor {name!r} is written twice (again by node {node.name or node.op_type!r})")

    def _strange(self, node: NodeProto) -> str:
        """Why a node is none that the standard describes; empty if it is."""
        if node.domain not in DEFAULT_DOMAINS or (node.domain, node.op_type) in self.functions:
            return f"not a standard operator (domain {node.domain!r})"
        if not node.output or not node.output[0]:
            return "its first output is left out"
        return unknown_attributes(node, self.scope.opset)

    def _node(self, index: int, node: NodeProto) -> None:
        constants = folded(self.scope, node)
        if constants is not None:
            self.scope.values.update((n, v) for n, v in zip(node.output, constants, strict=False) if n)
            self.groups.append(Group((index,), ()))
            return
        try:
            if node.op_type not in RULES:
                raise NotModelled("not modelled")
            if node.input and node.input[0] and all(self.scope.is_fixed(name) for name in reads(node)):
                self._unfold(node.input[0])
            made = RULES[node.op_type](self.scope, node)
            if any(prod(entry.shape) > TENSOR for entry in made):
                raise NotModelled("its result is too large to follow")
        except NotModelled as reason:
            self._opaque(index, node, str(reason))
            return
        except ModelError:
            raise
        except (ArithmeticError, LookupError, TypeError, ValueError):
            # A rule takes a node to be what the standard says: an input is missing, or an attribute is of another type.
            self._opaque(index, node, "not as the standard has it")
            return
        self._made(index, node, made)

    def _unfold(self, name: str) -> None:
        """Turn a constant into a node, so that an operation on constants alone, which rounds, is modelled."""
        scope, value = self.scope, self.scope.values[name]
        array = scope.constant(name)
        repeats = len(value.constant or ()) > 1
        if array is None or value.elem not in FLOATS or scope.batched != repeats or not np.isfinite(array).all():
            return
        shape = array.shape[1:] if scope.batched else array.shape
        inputs = (scope.batch_source(),) if scope.batched else ()
        op = Constant(readonly(array[0] if scope.batched else array))
        scope.values[name] = Value(value.elem, scope.dims(shape))
        self.declare(name, shape)
        self.groups.append(Group((), (self.add(name, op, inputs, (name,)),)))

    def _made(self, index: int, node: NodeProto, made: tuple[Made, ...]) -> None:
        names = self.place(made, node.name)
        for name in filter(None, node.output):  # an output that nobody may read, such as a mask
            self.scope.values.setdefault(name, Value(0, None))
        if node.op_type == "MatMul" and len(made) == 1:
            self.matmuls[node.output[0]] = len(self.groups)
        self.groups.append(Group((index,), names))

    def place(self, made: tuple[Made, ...], base: str) -> tuple[str, ...]:
        """Add the nodes that a rule wants; ``base`` names the last. Returns their names."""
        names = []
        for entry in made:
            self._tensor(entry)
            names.append(
                self.add((base if entry is made[-1] else "") or entry.output, entry.op, entry.inputs, (entry.output,))
            )
        return tuple(names)

    def _tensor(self, made: Made) -> None:
        values = self.scope.values
        elem = made.elem or values[made.inputs[0]].elem
        channels = None
        if isinstance(made.op, Affine | BatchNorm | Relu | Activation | Add):
            found = {values[name].channels for name in made.inputs}
            channels = found.pop() if len(found) == 1 else None
        values[made.output] = Value(elem, self.scope.dims(made.shape), channels=channels)
        self.declare(made.output, made.shape)

    def declare(self, name: str, shape: tuple[int, ...] | None) -> None:
        """Add a tensor, whose value the scope knows.

        Raises
        ------
        ModelError
            When all tensors together are too large.
        """
        self.tensors[name] = tensor = Tensor(name, shape, self.scope.values[name].dtype)
        self.size += tensor.size
        if self.size > SAMPLE:
            raise ModelError(
                f"one sample of all tensors up to {name!r} holds {self.size:,} numbers; the limit is {SAMPLE:,}"
            )

    def _opaque(self, index: int, node: NodeProto, why: str) -> None:
        scope = self.scope
        values = {name: scope.values[name] for name in reads(node)}
        outputs = []
        for name, value in zip(node.output, inferred(scope, node, values), strict=True):
            if not name:
                continue
            if node.op_type in CHANNELLED and value.dims is not None and len(value.dims) >= 3:
                value = replace(value, channels=0 if scope.batched else 1)
            if value.dims is not None and prod(dim for dim in value.dims if dim is not None and dim > 0) > TENSOR:
                value = Value(value.elem, None)  # nothing of that size is followed
            scope.values[name] = value
            self.declare(name, scope.sample(name))
            outputs.append(name)
        inputs = tuple(name for name in values if not scope.is_fixed(name))
        base = node.name or (outputs[0] if outputs else node.op_type)
        name = self.add(base, Opaque(node.op_type, why), inputs, tuple(outputs))
        self.groups.append(Group((index,), (name,)))

    def add(self, base: str, op: Op, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> str:
        name = self.names.fresh(base)
        self.places[name] = len(self.nodes)
        self.nodes.append(Node(name, op, inputs, outputs))
        return name

    def _fused(self, index: int, node: NodeProto, readers: Mapping[str, int]) -> bool:
        """Make MatMul and the Add of a constant behind it one Dense, where only that Add reads the product."""
        if node.op_type != "Add" or len(node.input) != 2 or self.scope.opset < 7:
            return False
        for product, name in (tuple(node.input), tuple(reversed(node.input))):
            if product in self.matmuls and readers[product] == 1 and self.scope.is_fixed(name):
                return self._fuse(index, node, product, name)
        return False

    def _fuse(self, index: int, node: NodeProto, product: str, name: str) -> bool:
        scope, shape = self.scope, self.scope.sample(product)
        assert shape is not None
        try:
            array = scope.weights(name, product)
        except NotModelled:
            return False
        rank = len(scope.dims(shape))
        if not shape or array.ndim > rank or array.size not in (1, shape[-1]):
            return False
        if array.size > 1 and array.shape[-1] != array.size:
            return False
        group = self.matmuls[product]
        place = self.places[self.groups[group].made[0]]
        old = self.nodes[place]
        assert isinstance(old.op, Dense)
        bias = array if array.shape == shape[-1:] else readonly(np.broadcast_to(array.reshape(-1), shape[-1:]))
        self.nodes[place] = Node(old.name, Dense(old.op.weight, bias), old.inputs, (node.output[0],))
        self.groups[group] = Group((*self.groups[group].nodes, index), self.groups[group].made)
        self.size -= self.tensors.pop(product).size
        scope.values[node.output[0]] = scope.values[product]
        self.declare(node.output[0], shape)
        return True


def finished(reader: Reader, outputs: tuple[str, ...]) -> Network:
    """The network, with a node for each graph output that is a constant."""
    scope = reader.scope
    for output in outputs:
        if output not in scope.values:
            raise ModelError(f"graph output {output!r} is written by no node")
        if output not in reader.tensors:
            _constant_output(reader, output)
    return Network(tuple(scope.inputs), outputs, tuple(reader.nodes), reader.tensors, scope.batched)


def _constant_output(reader: Reader, output: str) -> None:
    scope, value = reader.scope, reader.scope.values[output]
    array = scope.constant(output)
    op: Op = Opaque("Constant", "a constant graph output")
    inputs: tuple[str, ...] = ()
    shape = None if scope.batched else sample_shape(value.dims, False)
    if array is not None and value.elem in FLOATS and (not scope.batched or len(value.constant or ()) > 1):
        op = Constant(readonly(array[0] if scope.batched else array))
        inputs = (scope.batch_source(),) if scope.batched else ()
        shape = array.shape[1:] if scope.batched else array.shape
    reader.declare(output, shape)
    reader.groups.append(Group((), (reader.add(output, op, inputs, (output,)),)))

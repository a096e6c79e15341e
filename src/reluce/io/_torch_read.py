"""A traced module to a network: walks the operations once and asks the rule of each."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import torch
from torch import fx

from reluce.errors import ModelError
from reluce.io._load import check_finite
from reluce.io._loaded import Group
from reluce.io._reader import Reader, finished
from reluce.io._scope import BATCH, Made, NotModelled, Scope, Value
from reluce.io._torch_call import ELEMENTS, Call
from reluce.io._torch_program import Program, describe, operation, owner
from reluce.io._torch_rules import rule_of
from reluce.network import Network, Opaque, Select, Tensor, readonly, validate

OPSET = 18  # of the ONNX operators in whose words the rules speak


@dataclass(frozen=True, eq=False)
class Leaf:
    """A call of a module of ``torch.nn`` without submodules, from one tensor to one tensor: ``path`` is its name."""

    path: str
    source: fx.Node
    result: fx.Node


@dataclass(frozen=True, eq=False)
class Read:
    """What a traced module was read as.

    Parameters
    ----------
    network
        What it computes.
    groups
        Which operations (indices into ``program.calls``) became which nodes of ``network``.
    names
        The tensors of ``network`` (and stored tensors by their paths) that the graph's nodes give.
    constants
        The graph's nodes that depend on stored tensors alone.
    leaves
        For each group that is a call of a module of ``torch.nn`` as a whole, by its index in ``groups``.
    passed
        The graph's nodes that give what they read, with the call of a module that they are, if any (dropout).
    notes
        What the user should know, one line each.
    """

    network: Network
    groups: tuple[Group, ...]
    names: Mapping[fx.Node, str]
    constants: frozenset[fx.Node]
    leaves: Mapping[int, Leaf]
    passed: Mapping[fx.Node, Leaf | None]
    notes: tuple[str, ...]


def read_program(program: Program) -> Read:
    """Read a traced module.

    Raises
    ------
    ModelError
        When a weight is not finite, or an input is no tensor.
    """
    scope = Scope(OPSET, {}, bool(program.batch), [])
    reader = _Reader(program, scope, Reader(scope, frozenset()))
    reader.inputs()
    for unit in _units(program):
        reader.unit(unit)
    outputs = tuple(dict.fromkeys(reader.names[value] for value in program.outputs if _is_tensor(value)))
    network = validate(finished(reader.reader, outputs))
    groups, notes, constants = tuple(reader.reader.groups), tuple(reader.notes), frozenset(reader.constants)
    return Read(network, groups, reader.names, constants, reader.leaves, reader.passed, notes)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, fx.Node) and isinstance(value.meta.get("val"), torch.Tensor)


def _units(program: Program) -> list[tuple[list[fx.Node], Leaf | None]]:
    """The operations in order, those that belong together as one: a call of a leaf module; a tuple and its elements."""
    members: dict[tuple[str, int], list[fx.Node]] = {}
    for node in program.calls:
        members.setdefault(_call(node), []).append(node)
    units: list[tuple[list[fx.Node], Leaf | None]] = []
    done: set[fx.Node] = set()
    for node in program.calls:
        if node in done:
            continue
        together = members[_call(node)]
        leaf = _leaf(program, together) if together[0] is node else None
        if leaf is None:
            together = [node, *(user for user in node.users if user.target is operator.getitem)]
        done.update(together)
        units.append((together, leaf))
    return units


def _call(node: fx.Node) -> tuple[str, int]:
    """The call of a submodule that an operation is part of."""
    path, _, count = owner(node)
    return path, count


def _leaf(program: Program, nodes: list[fx.Node]) -> Leaf | None:
    """The call of a leaf module that the operations are, if they are one."""
    path, _ = _call(nodes[0])
    inside = {*nodes, *program.stored}
    sources = (source for node in nodes for source in node.all_input_nodes if source not in inside)
    outer = {source for source in sources if _is_tensor(source)}
    results = [node for node in nodes if any(user not in inside for user in node.users)]
    if path not in program.plain or len(outer) != 1 or len(results) != 1 or not _is_tensor(results[0]):
        return None
    return Leaf(path, outer.pop(), results[0])


@dataclass(eq=False)
class _Reader:
    program: Program
    scope: Scope
    reader: Reader
    names: dict[fx.Node, str] = field(default_factory=dict)
    constants: dict[fx.Node, torch.Tensor] = field(default_factory=dict)
    leaves: dict[int, Leaf] = field(default_factory=dict)
    passed: dict[fx.Node, Leaf | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @cached_property
    def places(self) -> Mapping[fx.Node, int]:
        """The index of each operation in ``program.calls``."""
        return {node: place for place, node in enumerate(self.program.calls)}

    def inputs(self) -> None:
        """Declare what is stored and what comes in."""
        for node, stored in self.program.stored.items():
            name = self.scope.fresh(stored.path)
            self._fix(node, name, stored.tensor)
            if node.users:
                check_finite(f"{stored.kind} {name!r}", self.scope.values[name])
        for node in self.program.inputs:
            if not _is_tensor(node):
                raise ModelError(f"input {node.name!r} is no tensor")
            name = self.scope.fresh(node.name)
            self._declare(node, name)
            self.scope.inputs.append(name)

    def unit(self, unit: tuple[list[fx.Node], Leaf | None]) -> None:
        """Read operations that belong together."""
        nodes, leaf = unit
        start, group = len(self.reader.groups), len(self.reader.nodes)
        for node in nodes:
            if node.target is not operator.getitem:  # its element is one of the results of the node before
                self._call(node, leaf)
        made = tuple(node.name for node in self.reader.nodes[group:])
        del self.reader.groups[start:]
        if made:
            indices = tuple(self.places[node] for node in nodes)
            if leaf is not None:
                self.leaves[len(self.reader.groups)] = leaf
            self.reader.groups.append(Group(indices, made))

    def _call(self, node: fx.Node, leaf: Leaf | None) -> None:
        elements = [user for user in node.users if user.target is operator.getitem]
        results = elements if isinstance(node.meta.get("val"), tuple | list) else [node]
        results = [result for result in results if _is_tensor(result)]
        if not results or not isinstance(node.meta.get("val"), torch.Tensor | tuple | list):
            return  # a size, an assertion: numbers, not tensors
        if self._folded(node, results):
            return
        names = {result: self.scope.fresh(self._label(result, leaf)) for result in results}
        places = [result.args[1] if result is not node else 0 for result in results]
        count = len(node.meta["val"]) if results != [node] else 1
        outputs = tuple(names[results[places.index(k)]] if k in places else "" for k in range(count))
        self.names.update(names)
        try:
            made = rule_of(node)(Call(self.scope, node, self.names, outputs))
            if {entry.output for entry in made} < set(names.values()):
                raise NotModelled("has further outputs")
            self._demand_kinds(names, made)
            if not self._passed(node, made, leaf):
                self.reader.place(made, "")
        except NotModelled as why:
            self._opaque(node, names, str(why))

    def _demand_kinds(self, names: Mapping[fx.Node, str], made: tuple[Made, ...]) -> None:
        """Refuse what would have another shape or format than torch says, for any length of the batch."""
        kinds: dict[str, tuple[tuple[int, ...], int]] = {}
        for entry in made:
            elem = entry.elem or (kinds[entry.inputs[0]][1] if entry.inputs[0] in kinds else 0)
            kinds[entry.output] = self.scope.dims(entry.shape), elem or self.scope.values[entry.inputs[0]].elem
        for result, name in names.items():
            value, (dims, elem) = result.meta["val"], kinds[name]
            if tuple(map(self._length, value.shape)) != dims:
                raise NotModelled("changes the length of the batch")
            if ELEMENTS.get(value.dtype) != elem:
                raise NotModelled("changes the format")

    def _passed(self, node: fx.Node, made: tuple[Made, ...], leaf: Leaf | None) -> bool:
        """Give what changes nothing (dropout in eval mode, a copy) no node of its own: it would stand in the way."""
        sources = [source for source in node.all_input_nodes if source in self.names]
        if len(sources) != 1 or node in self.program.outputs or not isinstance(made[0].op, Select):
            return False
        (source,) = sources
        name, shape = self.names[source], self.scope.sample(self.names[source])
        whole = np.array_equal(made[0].op.indices, np.arange(prod(shape or ())))
        if len(made) > 1 or made[0].shape != shape or not whole or made[0].elem != self.scope.values[name].elem:
            return False
        self.names[node] = name
        whole_call = leaf is not None and leaf.source is source and leaf.result is node
        self.passed[node] = leaf if whole_call else None
        return True

    def _folded(self, node: fx.Node, results: list[fx.Node]) -> bool:
        """Compute what depends on stored tensors alone, as torch does (weights that a module makes of others)."""
        sources = node.all_input_nodes
        sizes = [source for source in sources if isinstance(source.meta.get("val"), torch.SymInt)]
        own = node.meta["val"] if isinstance(node.meta["val"], tuple | list) else [node.meta["val"]]
        varies = any(isinstance(size, torch.SymInt) for value in own if value is not None for size in value.shape)
        if sizes or varies or not all(s in self.names and self.scope.is_fixed(self.names[s]) for s in sources):
            return False
        stored = {source: entry.tensor for source, entry in self.program.stored.items()}
        known = {source: (stored | self.constants)[source] for source in sources}
        assert callable(node.target)
        with torch.no_grad():
            value = node.target(*fx.map_arg(node.args, known.get), **fx.map_arg(node.kwargs, known.get))
        for result in results:
            own = value if result is node else value[result.args[1]]
            self._fix(result, self.scope.fresh(self._label(result, None)), own)
            self.constants[result] = own
        if sources:
            self.notes.append(f"{describe(node)} depends on weights alone: its value is taken as torch computes it")
        return True

    def _fix(self, node: fx.Node, name: str, tensor: torch.Tensor) -> None:
        self.names[node] = name
        array = (readonly(tensor.numpy()),) if tensor.dtype in ELEMENTS else None
        self.scope.values[name] = Value(ELEMENTS.get(tensor.dtype, 0), tuple(tensor.shape), array, fixed=True)

    def _declare(self, node: fx.Node, name: str) -> None:
        value = node.meta["val"]
        dims = tuple(self._length(size) for size in value.shape)
        channels = None
        if node.op == "call_function" and len(dims) > 2 and any(word in operation(node) for word in ("conv", "pool")):
            channels = 0 if self.scope.batched else 1
        self.scope.values[name] = Value(ELEMENTS.get(value.dtype, 0), dims, channels=channels)
        self.names[node] = name
        self.reader.tensors[name] = Tensor(name, self.scope.sample(name), self.scope.values[name].dtype)

    def _length(self, size: Any) -> int | None:
        if not isinstance(size, torch.SymInt):
            return int(size)
        expression = size.node.expr
        if not expression.free_symbols:
            return int(expression)
        return BATCH if expression in self.program.batch else None

    def _opaque(self, node: fx.Node, names: Mapping[fx.Node, str], why: str) -> None:
        for result, name in names.items():
            self._declare(result, name)
        reads = [self.names[source] for source in node.all_input_nodes if source in self.names]
        inputs = tuple(dict.fromkeys(name for name in reads if not self.scope.is_fixed(name)))
        op = Opaque(operation(node).removeprefix("aten."), why)
        self.reader.add(next(iter(names.values())), op, inputs, tuple(names.values()))

    def _label(self, node: fx.Node, leaf: Leaf | None) -> str:
        """The name of a tensor: the submodule that makes it, and the number of the call where there are several."""
        path, _, count = owner(node)
        call = f"{path}#{count}" if count > 1 else path
        if leaf is not None and node is leaf.result:
            return call
        return f"{call}.{node.name}" if call else node.name

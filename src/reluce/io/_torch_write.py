"""A network to a ``torch.nn.Module``: submodules of ``torch.nn`` under their old names, tied together by a graph.

What no rewrite touched is the same submodule, or the same operation, as before; linear layers, activations and batch
normalisation come back as the modules of ``torch.nn``, so that the result trains, has a ``state_dict`` and exports.
"""

from __future__ import annotations

import copy
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from keyword import iskeyword
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from reluce.io._loaded import Group
from reluce.io._torch_program import Program, Stored
from reluce.io._torch_read import Leaf, Read
from reluce.io._verbatim import verbatim
from reluce.network import Array, Network, Node


@dataclass(frozen=True, eq=False)
class Origin:
    """The module that a network was rewritten from."""

    program: Program
    read: Read

    @cached_property
    def copied(self) -> nn.Module:
        """A copy whose submodules and parameters may go into the result.

        They do not work in place: what they would overwrite may have other readers in the result.
        """
        copied = copy.deepcopy(self.program.module)
        for inner in copied.modules():
            if vars(inner).get("inplace"):
                vars(inner)["inplace"] = False
        return copied

    @cached_property
    def home(self) -> Mapping[str, int]:
        """The index of the group that each node of the network belongs to."""
        return {name: place for place, group in enumerate(self.read.groups) for name in group.made}

    def written(self, group: Group) -> set[str]:
        """The tensors that the operations of a group write."""
        nodes = (self.program.calls[index] for index in group.nodes)
        return {self.read.names[node] for node in nodes if node in self.read.names}

    def stored(self, group: Group) -> list[Stored]:
        """The stored tensors that the operations of a group read, or compute what they read from."""
        found: list[Stored] = []
        reads = [source for index in group.nodes for source in self.program.calls[index].all_input_nodes]
        for source in reads:  # grows on the way
            if source in self.program.stored:
                found.append(self.program.stored[source])
            elif source in self.read.constants:
                reads += source.all_input_nodes
        return found


class ModuleBuilder:
    """The module while it grows."""

    def __init__(self, network: Network, origin: Origin | None) -> None:
        self.network = network
        self.origin = origin
        self.root = nn.Module()
        self.graph = fx.Graph()
        self.values: dict[str, Any] = {}
        self.batch = int(network.batched)
        self._kept: dict[str, str] = {}  # path of an original submodule or tensor -> its path here
        self._copied: dict[fx.Node, Any] = {}
        self._done: set[int] = set()
        self._parameters: dict[int, tuple[Array, nn.Parameter]] = {}  # by the ids of their arrays

    # What goes into the module

    def call(self, path: str, module: nn.Module, source: Any) -> Any:
        """Call a new submodule; the name is ``path``, or near to it."""
        return self.graph.call_module(self._added(path, module), (source,))

    def parameter(self, node: Node, array: Array) -> nn.Parameter:
        """The parameter of an array of a node: the original one where it is the same, so that ties hold."""
        for old in self._old_parameters(node):
            if old.shape == array.shape and np.array_equal(old.detach().numpy(), array):
                return old
        known = self._parameters.get(id(array))
        if known is None:
            value = torch.from_numpy(np.ascontiguousarray(array).copy())
            known = self._parameters[id(array)] = array, nn.Parameter(value, requires_grad=self.trained(node))
        return known[1]

    def tensor(self, path: str, array: Array, trained: bool | None = None) -> Any:
        """A new parameter, ``trained`` or frozen; a buffer where nothing is said."""
        value = torch.from_numpy(np.array(array))
        path, owner, name = self._place(path)
        if trained is not None:
            owner.register_parameter(name, nn.Parameter(value, trained))
        else:
            owner.register_buffer(name, value)
        return self.graph.get_attr(path)

    def function(self, target: Any, *arguments: Any, **more: Any) -> Any:
        """Call a function."""
        return self.graph.call_function(target, arguments, more)

    def shape(self, tensor: str) -> tuple[int, ...]:
        """The sample shape of a tensor."""
        return self.network.shape(tensor)

    # What it was

    def leaf(self, node: Node) -> tuple[str, nn.Module | None]:
        """The name for a submodule that computes a node, and the one of ``torch.nn`` that did so in the original.

        A submodule that computes more than the node does not count.
        """
        place = None if self.origin is None else self.origin.home.get(node.name)
        if self.origin is None or place is None or place not in self.origin.read.leaves:
            return identifier(node.name), None
        path = self.origin.read.leaves[place].path
        alone = len(self.origin.read.groups[place].made) == 1
        return path, self.origin.copied.get_submodule(path) if alone else None

    def source(self, node: Node) -> Any:
        """The graph node that a node of one input reads, behind the dropout that stood in front of its submodule."""
        place = None if self.origin is None else self.origin.home.get(node.name)
        if self.origin is not None and place is not None and place in self.origin.read.leaves:
            leaf = self.origin.read.leaves[place]
            if self.origin.read.names[leaf.source] == node.inputs[0]:
                return self._argument(leaf.source)
        return self.value(node.inputs[0])

    def trained(self, node: Node) -> bool:
        """Whether a node's weights are for training: they are if they were, or if nothing is known of that."""
        if self.origin is None or node.name not in self.origin.home:
            return True
        return any(parameter.requires_grad for parameter in self._old_parameters(node))

    def _old_parameters(self, node: Node) -> list[nn.Parameter]:
        """The parameters that the original reads for a node."""
        if self.origin is None or node.name not in self.origin.home:
            return []
        stored = self.origin.stored(self.origin.read.groups[self.origin.home[node.name]])
        return [self.origin.copied.get_parameter(entry.path) for entry in stored if entry.kind == "parameter"]

    # Building

    def build(self) -> nn.Module:
        """The finished module, in eval mode."""
        for name, argument in zip(self.network.inputs, self._arguments(), strict=True):
            self.values[name] = self.graph.placeholder(argument)
        self._claim()
        for node in self.network.nodes:
            self._node(node)
        self.graph.output(self._result())
        self.graph.lint()
        kind = "Module" if self.origin is None else type(self.origin.program.module).__name__
        module = fx.GraphModule(self.root, self.graph, kind)
        whole = _as_sequential(module) if self.origin is not None and kind == "Sequential" else None
        return (whole or module).eval()

    def _arguments(self) -> list[str]:
        if self.origin is not None:
            return [node.name for node in self.origin.program.inputs]
        names = [identifier(name).replace(".", "_") for name in self.network.inputs]
        return [name if name.isidentifier() and not iskeyword(name) else f"input_{name}" for name in names]

    def _claim(self) -> None:
        """Submodules that are called as before keep their names, whoever comes first."""
        if self.origin is None:
            return
        for place, leaf in self.origin.read.leaves.items():
            if leaf.path not in self._kept and self._as_it_was(place):
                self._kept[leaf.path] = self._added(leaf.path, self.origin.copied.get_submodule(leaf.path))

    @cached_property
    def _verbatim(self) -> dict[int, bool]:
        return {}

    def _as_it_was(self, place: int) -> bool:
        assert self.origin is not None
        if place not in self._verbatim:
            group = self.origin.read.groups[place]
            written = self.origin.written(group)
            self._verbatim[place] = verbatim(group, self.origin.read.network, self.network, written)
        return self._verbatim[place]

    def _node(self, node: Node) -> None:
        if all(output in self.values for output in node.outputs):
            return
        from reluce.io._torch_emit import emit  # each needs the other

        place = None if self.origin is None else self.origin.home.get(node.name)
        if place is not None and self._as_it_was(place):
            self._group(place)
            return
        self.values[node.output] = emit(node.op, self, node)

    def value(self, tensor: str) -> Any:
        """The graph node that gives a tensor."""
        if tensor not in self.values:
            self._node(self.network.producer[tensor])
        return self.values[tensor]

    def _group(self, place: int) -> None:
        """The operations of a group as they were."""
        assert self.origin is not None
        if place in self._done:
            return
        self._done.add(place)
        read = self.origin.read
        leaf = read.leaves.get(place)
        if leaf is not None:
            source = self._argument(leaf.source)
            self.values[read.names[leaf.result]] = self.graph.call_module(self._kept[leaf.path], (source,))
            return
        for index in read.groups[place].nodes:
            node = self.origin.program.calls[index]
            copied = self._copied[node] = self._as_before(node)
            if node in read.names:
                self.values[read.names[node]] = copied

    def _argument(self, node: fx.Node) -> Any:
        """What an operation of the original reads, in the new graph."""
        assert self.origin is not None
        program, read = self.origin.program, self.origin.read
        if node in self._copied:
            return self._copied[node]
        if node in read.passed:
            result = self._copied[node] = self._passed(node, read.passed[node])
            return result
        stored = node in program.stored or node in read.constants
        if not stored and node in read.names and read.names[node] in self.network.tensors:
            return self.value(read.names[node])
        if isinstance(node.meta.get("val"), torch.SymInt) and node.meta["val"].node.expr in program.batch:
            result = self.graph.call_function(torch.ops.aten.sym_size.int, (self.values[self.network.inputs[0]], 0))
        elif node in program.stored:
            result = self._stored(node)
        elif node.op == "get_attr":
            module = getattr(program.graph.owning_module, str(node.target))
            result = self.graph.get_attr(self._added(str(node.target), module))
        else:
            result = self._as_before(node)
        self._copied[node] = result
        return result

    def _as_before(self, node: fx.Node) -> Any:
        """An operation of the original; the submodule that it stood in is none of this module's."""
        copied = self.graph.node_copy(node, self._argument)
        copied.meta = {}
        return copied

    def _passed(self, node: fx.Node, leaf: Leaf | None) -> Any:
        """What changes nothing in eval mode; dropout goes on to do something in training."""
        assert self.origin is not None
        (source,) = (source for source in node.all_input_nodes if source in self.origin.read.names)
        value = self._argument(source)
        if leaf is None:
            return value
        if leaf.path not in self._kept:
            self._kept[leaf.path] = self._added(leaf.path, self.origin.copied.get_submodule(leaf.path))
        return self.graph.call_module(self._kept[leaf.path], (value,))

    def _stored(self, node: fx.Node) -> Any:
        """A parameter or buffer of the original, under its old name."""
        assert self.origin is not None
        entry = self.origin.program.stored[node]
        if entry.path not in self._kept:
            path, owner, name = self._place(entry.path)
            if entry.kind == "parameter":
                owner.register_parameter(name, self.origin.copied.get_parameter(entry.path))
            else:
                persistent = entry.persistent and entry.kind == "buffer"
                owner.register_buffer(name, entry.tensor.clone(), persistent)
            self._kept[entry.path] = path
        return self.graph.get_attr(self._kept[entry.path])

    def _result(self) -> Any:
        if self.origin is None:
            outputs = tuple(self.values[name] for name in self.network.outputs)
            return outputs[0] if len(outputs) == 1 else outputs
        program = self.origin.program
        leaves = [self._argument(value) if isinstance(value, fx.Node) else value for value in program.outputs]
        return pytree.tree_unflatten(leaves, program.structure)

    def _added(self, path: str, module: nn.Module) -> str:
        path, owner, name = self._place(path)
        owner.add_module(name, module)
        return path

    def _place(self, path: str) -> tuple[str, nn.Module, str]:
        """A path that is free, the module that holds it (made where there is none), and its last name."""
        *parts, last = path.split(".")
        owner, prefix = self.root, ""
        for part in parts:
            while part in owner._parameters or part in owner._buffers:
                part = f"{part}_"
            if part not in owner._modules:
                owner.add_module(part, nn.Module())
            owner, prefix = owner.get_submodule(part), f"{prefix}{part}."
        name, count = last, 0
        while hasattr(owner, name):  # also what every module has: train, forward, ...
            count += 1
            name = f"{last}_{count}"
        return f"{prefix}{name}", owner, name


def to_module(network: Network, origin: Origin | None = None) -> nn.Module:
    """A module that computes a network.

    Parameters
    ----------
    network
        The network.
    origin
        The module that it was rewritten from, if it was one.

    Raises
    ------
    ModelError
        When the network holds an operation that Reluce does not model and no module to take it from; names it.
    """
    return ModuleBuilder(network, origin).build()


def identifier(name: str) -> str:
    """A name that Python and ``torch.nn`` accept, dots between its parts."""
    parts = [re.sub(r"\W", "_", part) for part in name.strip("/").replace("/", ".").split(".") if part]
    return ".".join(parts) or "unnamed"


def _as_sequential(module: fx.GraphModule) -> nn.Module | None:
    """The same as an ``nn.Sequential``, where it is a chain of submodules that are each called once."""
    steps, last = [], None
    for node in module.graph.nodes:
        if node.op == "placeholder":
            last = node
        elif node.op == "call_module" and node.args == (last,) and "." not in str(node.target):
            steps.append((str(node.target), module.get_submodule(str(node.target))))
            last = node
        elif node.op != "output" or node.args[0] is not last:
            return None
    if len({name for name, _ in steps}) < len(steps) or not steps:
        return None
    return nn.Sequential(OrderedDict(steps))

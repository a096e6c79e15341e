"""A traced ``torch.nn.Module``: the module, the graph of its operations, and what these are called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree
from torch.utils._sympy.numbers import int_oo


@dataclass(frozen=True, eq=False)
class Stored:
    """A tensor that a module stores: ``kind`` is ``parameter``, ``buffer`` or ``constant``."""

    path: str
    tensor: torch.Tensor
    kind: str
    persistent: bool = True


@dataclass(frozen=True, eq=False)
class Program:
    """A module and its trace.

    Parameters
    ----------
    module
        The copy that was traced, in eval mode, on the CPU.
    graph
        Functional ATen operations.
    stored
        What the graph's placeholders stand for, inputs of the module apart.
    inputs
        The placeholders of the module's inputs, in order.
    outputs
        The graph nodes (or plain values) that the module gives back, flattened.
    structure
        How these are arranged (a ``TreeSpec``).
    examples
        The example inputs, in order.
    named
        The arguments that the last of the inputs are given to by name.
    ranges
        What torch assumes of the sizes that it leaves free.
    """

    module: nn.Module
    graph: fx.Graph
    stored: Mapping[fx.Node, Stored]
    inputs: tuple[fx.Node, ...]
    outputs: tuple[Any, ...]
    structure: Any
    examples: tuple[torch.Tensor, ...]
    named: tuple[str, ...]
    ranges: Mapping[Any, Any]

    @cached_property
    def calls(self) -> tuple[fx.Node, ...]:
        """The operations, in order."""
        return tuple(node for node in self.graph.nodes if node.op == "call_function")

    @cached_property
    def batch(self) -> frozenset[Any]:
        """The symbols that stand for the length of the batch axis."""
        return frozenset(size.node.expr for size in self._lengths if size.node.expr.free_symbols)

    @property
    def unbounded(self) -> bool:
        """Whether the trace holds for every length of the batch axis from 2 on."""
        guards = [guard.expr for size in self._lengths for guard in size.node.shape_env.guards]
        # Two inputs of equal length are no condition on the length.
        same = all(guard.is_Equality and all(size.is_Symbol for size in guard.args) for guard in guards)
        return same and all(entry.lower <= 2 and entry.upper == int_oo for entry in self.ranges.values())

    @property
    def _lengths(self) -> list[torch.SymInt]:
        shapes = [node.meta["val"].shape for node in self.inputs]
        return [size for shape in shapes for size in shape[:1] if isinstance(size, torch.SymInt)]

    @cached_property
    def plain(self) -> frozenset[str]:
        """The submodules of ``torch.nn`` without submodules of their own that take one tensor and give one."""
        odd: set[nn.Module] = set()

        def left(inner: nn.Module, given: tuple[Any, ...], named: dict[str, Any], result: Any) -> None:
            if named or len(given) != 1 or not all(isinstance(x, torch.Tensor) for x in (*given, result)):
                odd.add(inner)

        hooks = [inner.register_forward_hook(left, with_kwargs=True) for inner in self.module.modules()]
        try:
            self.run(cloned(self.examples))
        finally:
            for hook in hooks:
                hook.remove()
        named = self.module.named_modules(remove_duplicate=False)
        simple = ((path, inner) for path, inner in named if path and next(inner.children(), None) is None)
        return frozenset(
            path for path, inner in simple if type(inner).__module__.startswith("torch.nn.modules") and inner not in odd
        )

    def run(self, values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The tensors that the module gives back, flattened."""
        count = len(values) - len(self.named)
        with torch.no_grad():
            found = self.module(*values[:count], **dict(zip(self.named, values[count:], strict=True)))
        return [value.detach() for value in pytree.tree_leaves(found) if isinstance(value, torch.Tensor)]

    def replay(self, values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The same by the trace."""
        known = {node: entry.tensor for node, entry in self.stored.items()}
        known |= dict(zip(self.inputs, values, strict=True))
        placeholders = [node for node in self.graph.nodes if node.op == "placeholder"]
        assert self.graph.owning_module is not None
        with torch.no_grad():
            found = fx.Interpreter(self.graph.owning_module).run(*(known.get(node) for node in placeholders))
        mutated = len(found) - len(self.outputs)
        return [value.detach() for value in found[mutated:] if isinstance(value, torch.Tensor)]


def cloned(values: Iterable[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Copies, for a module that writes into its inputs."""
    return tuple(value.clone() for value in values)


def arguments(node: fx.Node) -> dict[str, Any]:
    """The arguments of an ATen operation by their names in its schema, with its defaults."""
    assert isinstance(node.target, torch._ops.OpOverload)
    schema = node.target._schema.arguments
    given = dict(zip((entry.name for entry in schema), node.args, strict=False)) | dict(node.kwargs)
    return {entry.name: entry.default_value for entry in schema if entry.has_default_value()} | given


def operation(node: fx.Node) -> str:
    """The ATen operation of a call, without its overload: ``aten.linear``."""
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        return str(target.overloadpacket)
    return getattr(target, "__name__", str(target))


def describe(node: fx.Node) -> str:
    """A call in the words of a message: its operation, and the submodule that it stands in."""
    path, kind, _ = owner(node)
    return f"{operation(node)} in submodule {path!r} ({kind})" if path else f"{operation(node)} in the module's forward"


def owner(node: fx.Node) -> tuple[str, str, int]:
    """The innermost submodule that a call stands in: its qualified name, its class, and the number of its call."""
    for key, (path, kind) in reversed((node.meta.get("nn_module_stack") or {}).items()):
        if not key.startswith("_empty"):
            count = key.rpartition("@")[2]
            return path, str(kind).rpartition(".")[2], int(count) + 1 if "@" in key else 1
    return "", "", 1

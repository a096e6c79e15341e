"""A ``torch.nn.Module`` as the graph that ``torch.export`` makes of it, in functional ATen operations.

The module is traced in eval mode, from a copy. Axis 0 of the example inputs is taken for the batch where the trace
leaves its length free; otherwise all shapes are those of the examples.
"""

from __future__ import annotations

import copy
import inspect
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import fx, nn
from torch.utils._sympy.numbers import int_oo

from reluce.errors import ModelError, UsageError


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
        The example inputs, by the names of the module's arguments.
    unbounded
        Whether the trace holds for every length of the batch axis (from 2 on: torch takes 1 for a case of its own).
    """

    module: nn.Module
    graph: fx.Graph
    stored: Mapping[fx.Node, Stored]
    inputs: tuple[fx.Node, ...]
    outputs: tuple[Any, ...]
    structure: Any
    examples: Mapping[str, torch.Tensor]
    unbounded: bool

    @cached_property
    def calls(self) -> tuple[fx.Node, ...]:
        """The operations, in order."""
        return tuple(node for node in self.graph.nodes if node.op == "call_function")

    @cached_property
    def batch(self) -> frozenset[Any]:
        """The symbols that stand for the length of the batch axis."""
        sizes = [size for node in self.inputs for size in node.meta["val"].shape[:1] if isinstance(size, torch.SymInt)]
        return frozenset(size.node.expr for size in sizes if size.node.expr.free_symbols)


def trace(module: nn.Module, example_inputs: Any) -> Program:
    """Trace a module.

    Parameters
    ----------
    module
        Any module; it is not changed.
    example_inputs
        A tensor, a tuple of tensors, or a mapping of argument names to tensors.

    Raises
    ------
    UsageError
        When the example inputs are no tensors.
    ModelError
        When the module does not run on them, cannot be traced, or is no function of its inputs; names the submodule.
    """
    copied = copy.deepcopy(module).eval().cpu()
    arguments, named = _arguments(copied, example_inputs)
    where: list[str] = []
    try:
        with _watched(copied, where), torch.no_grad():
            copied(*arguments, **named)
    except Exception as error:
        raise ModelError(f"the module does not run on the example inputs{_place(where)}: {_line(error)}") from error
    program = _exported(copied, arguments, named)
    _demand_function(program)
    return program


def _arguments(module: nn.Module, example_inputs: Any) -> tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
    if example_inputs is None:
        raise UsageError("a torch.nn.Module needs example_inputs: a tensor, a tuple, or a mapping of names to tensors")
    named = dict(example_inputs) if isinstance(example_inputs, Mapping) else {}
    rest = () if isinstance(example_inputs, Mapping) else example_inputs
    listed = tuple(rest) if isinstance(rest, tuple | list) else (rest,)
    for value in (*listed, *named.values()):
        if not isinstance(value, torch.Tensor):
            found = type(value).__name__
            raise UsageError(f"example_inputs: expected tensors, found {found}; bind other arguments first")
    order = list(inspect.signature(module.forward).parameters)
    unknown = [name for name in named if name not in order]
    if unknown:
        known = ", ".join(order)
        raise UsageError(f"example_inputs: the module's forward has no argument {unknown[0]!r}; it has {known}")
    given = {name: named[name].detach().cpu() for name in order if name in named}
    return tuple(x.detach().cpu() for x in listed), given


def _exported(module: nn.Module, arguments: tuple[torch.Tensor, ...], named: dict[str, torch.Tensor]) -> Program:
    """Trace with a free batch axis; where the module does not allow that, with the shapes as they are."""
    everything = (*arguments, *named.values())
    if everything and all(x.ndim for x in everything) and len({len(x) for x in everything}) == 1:
        # Export would fix a length of 1.
        wide = [x.expand(2, *x.shape[1:]).clone() if len(x) == 1 else x for x in everything]
        free = {0: torch.export.Dim.AUTO}
        try:
            program = _export(module, wide, arguments, named, free)
        except Exception:
            program = None
        if program is not None and program.batch and program.unbounded:
            return program
    where: list[str] = []
    try:
        with _watched(module, where):
            return _export(module, list(everything), arguments, named, None)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"torch.export cannot follow the module{_place(where)}: {_line(error)}") from error


def _export(
    module: nn.Module,
    values: list[torch.Tensor],
    arguments: tuple[torch.Tensor, ...],
    named: dict[str, torch.Tensor],
    free: dict[int, Any] | None,
) -> Program:
    listed, by_name = tuple(values[: len(arguments)]), dict(zip(named, values[len(arguments) :], strict=True))
    shapes: Any = None
    if free is not None:
        shapes = dict.fromkeys(by_name, free) if by_name else tuple(free for _ in listed)
    with _quiet():
        exported = torch.export.export(module, listed, by_name, dynamic_shapes=shapes, strict=False)
        exported = exported.run_decompositions({})
    return _program(module, exported, (*listed, *by_name.values()))


def _program(module: nn.Module, exported: Any, examples: tuple[torch.Tensor, ...]) -> Program:
    signature = exported.graph_signature
    placeholders = {node.name: node for node in exported.graph.nodes if node.op == "placeholder"}
    tensors = {**exported.state_dict, **exported.constants}
    kinds = {
        "parameter": signature.inputs_to_parameters,
        "buffer": signature.inputs_to_buffers,
        "constant": signature.inputs_to_lifted_tensor_constants,
    }
    stored = {
        placeholders[name]: Stored(path, tensors[path].detach(), kind, path not in signature.non_persistent_buffers)
        for kind, paths in kinds.items()
        for name, path in paths.items()
    }
    if signature.buffers_to_mutate:
        names = ", ".join(sorted(signature.buffers_to_mutate.values()))
        raise ModelError(f"the module changes its buffer {names} when it runs in eval mode; that is no function")
    inputs = tuple(placeholders[name] for name in signature.user_inputs if name in placeholders)
    last = next(node for node in exported.graph.nodes if node.op == "output")
    structure = exported.call_spec.out_spec
    given = dict(zip((node.name for node in inputs), examples, strict=True))
    ranges = exported.range_constraints.values()
    unbounded = all(entry.lower <= 2 and entry.upper == int_oo for entry in ranges)
    return Program(module, exported.graph, stored, inputs, tuple(last.args[0]), structure, given, unbounded)


def _demand_function(program: Program) -> None:
    for node in program.calls:
        if isinstance(node.target, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded in node.target.tags:
            raise ModelError(f"{describe(node)} is random in eval mode too; Reluce compresses functions")


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


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from warning about its own deprecated parts, and from logging what is going to be an error here."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def _watched(module: nn.Module, where: list[str]) -> Iterator[None]:
    """Keep the qualified names of the submodules that are running, innermost last."""
    hooks = []
    for path, inner in module.named_modules():
        label = f"submodule {path!r} ({type(inner).__name__})" if path else ""
        hooks.append(inner.register_forward_pre_hook(partial(_entered, where, label)))
        hooks.append(inner.register_forward_hook(partial(_left, where)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _entered(where: list[str], label: str, *_: Any) -> None:
    where.append(label)


def _left(where: list[str], *_: Any) -> None:
    where.pop()


def _place(where: list[str]) -> str:
    inner = next((label for label in reversed(where) if label), "")
    return f", in {inner}" if inner else ""


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__

"""Tracing a ``torch.nn.Module`` with ``torch.export``, into functional ATen operations.

The module is traced in eval mode, from a copy. Axis 0 of the example inputs is taken for the batch where the trace
holds for every length of it; otherwise all shapes are those of the examples. A trace is one path through the module's
Python code, so it is believed only where torch noted no condition on the length, and where it gives what the module
gives on the examples and on a batch of one, which torch takes for a case of its own.
"""

from __future__ import annotations

import copy
import inspect
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from math import sqrt
from typing import Any

import torch
from torch import fx, nn
from torch.export.graph_signature import OutputKind
from torch.nn.parameter import is_lazy
from torch.utils import _pytree as pytree

from reluce.errors import ModelError, UsageError
from reluce.io._torch_program import Program, Stored, arguments, cloned, describe


def trace(module: nn.Module, example_inputs: Any, batched: bool = True) -> Program:
    """Trace a module.

    Parameters
    ----------
    module
        Any module; it is not changed.
    example_inputs
        A tensor, a tuple of tensors, or a mapping of argument names to tensors.
    batched
        Whether axis 0 may be taken for the batch.

    Raises
    ------
    UsageError
        When the example inputs are no tensors.
    ModelError
        When the module does not run on them, cannot be traced, or is no function of its inputs; names the submodule.
    """
    copied = _copy(module)
    arguments, named = _arguments(copied, example_inputs)
    where: list[str] = []
    try:
        with _watched(copied, where), torch.no_grad():
            copied(*cloned(arguments), **dict(zip(named, cloned(named.values()), strict=True)))
    except Exception as error:
        raise ModelError(f"the module does not run on the example inputs{_place(where)}: {_line(error)}") from error
    return _exported(copied, arguments, named, batched)


def _copy(module: nn.Module) -> nn.Module:
    """A copy in eval mode, on the CPU."""
    if isinstance(module, torch.jit.ScriptModule):
        raise ModelError("torch.export cannot follow TorchScript; give the module that it was made from")
    for path, parameter in (*module.named_parameters(), *module.named_buffers()):
        if is_lazy(parameter):
            raise ModelError(f"{path!r} has no shape yet; run the module once before it is compressed")
    # What a hook computes before each call (pruning, weight_norm) has a history, with which it cannot be copied.
    computed = {
        id(value): value.detach().clone()
        for inner in module.modules()
        for value in vars(inner).values()
        if isinstance(value, torch.Tensor) and not value.is_leaf
    }
    try:
        return copy.deepcopy(module, computed).eval().cpu()
    except Exception as error:
        raise ModelError(f"the module cannot be copied: {_line(error)}") from error


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
    parameters = inspect.signature(module.forward).parameters
    unknown = [name for name in named if name not in parameters]
    if unknown and all(entry.kind is not entry.VAR_KEYWORD for entry in parameters.values()):
        known = ", ".join(parameters)
        raise UsageError(f"example_inputs: the module's forward has no argument {unknown[0]!r}; it has {known}")
    order = [*(name for name in parameters if name in named), *unknown]
    return tuple(x.detach().cpu() for x in listed), {name: named[name].detach().cpu() for name in order}


def _exported(
    module: nn.Module, arguments: tuple[torch.Tensor, ...], named: Mapping[str, torch.Tensor], batched: bool
) -> Program:
    """Trace with a free batch axis; where the module does not allow that, with the shapes as they are."""
    everything = (*arguments, *named.values())
    if batched and everything and all(x.ndim for x in everything) and len({len(x) for x in everything}) == 1:
        program = _free(module, everything, tuple(named))
        if program is not None:
            return program
    where: list[str] = []
    try:
        with _watched(module, where):
            program = _export(module, everything, tuple(named), free=False)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"torch.export cannot follow the module{_place(where)}: {_line(error)}") from error
    if not all(_faithful(program, everything) for _ in range(2)):  # a counter may be right once
        raise ModelError(
            "the trace of torch.export does not give what the module gives on the example inputs; "
            "does the module keep a state between calls, or depend on more than its inputs?"
        )
    return program


def _free(module: nn.Module, examples: tuple[torch.Tensor, ...], named: tuple[str, ...]) -> Program | None:
    """The trace that holds for every length of the batch axis, if there is one."""
    wide = tuple(x.expand(2, *x.shape[1:]).clone() if len(x) == 1 else x for x in examples)  # 1 would be taken as fixed
    try:
        program = _export(module, wide, named, free=True)
    except Exception:
        return None
    if not program.batch or not program.unbounded or not _faithful(program, wide):
        return None
    return program if _faithful(program, tuple(x[:1] for x in wide)) else None


def _faithful(program: Program, values: tuple[torch.Tensor, ...]) -> bool:
    """Whether the trace gives what the module gives, where that runs at all."""
    try:
        expected = program.run(cloned(values))
    except Exception:
        return True
    try:
        found = program.replay(cloned(values))
    except Exception:
        return False
    return len(found) == len(expected) and all(map(_close, found, expected))


def _close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether two results are the same but for rounding, which is not judged closely here."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    if not expected.is_floating_point() or not expected.numel():
        return torch.equal(found, expected)
    size = float(expected.nan_to_num(0.0, 0.0, 0.0).abs().max())
    rounding = sqrt(torch.finfo(expected.dtype).eps) * max(1.0, size)
    return torch.allclose(found, expected, rtol=0.0, atol=rounding, equal_nan=True)


def _export(module: nn.Module, examples: tuple[torch.Tensor, ...], named: tuple[str, ...], free: bool) -> Program:
    count = len(examples) - len(named)
    values = cloned(examples)
    listed, by_name = values[:count], dict(zip(named, values[count:], strict=True))
    shapes: Any = None
    if free:
        bound = inspect.signature(module.forward).bind(*listed, **by_name).arguments
        shapes = pytree.tree_map(lambda _: {0: torch.export.Dim.AUTO}, dict(bound))
    with _quiet():
        exported = torch.export.export(module, listed, by_name, dynamic_shapes=shapes, strict=False)
        exported = exported.run_decompositions({})
    program = _program(module, exported, examples, named)
    _demand_function(program)
    return program


def _program(module: nn.Module, exported: Any, examples: tuple[torch.Tensor, ...], named: tuple[str, ...]) -> Program:
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
    # What the module writes into its inputs comes first, and is no result.
    kept = (spec.kind is OutputKind.USER_OUTPUT for spec in signature.output_specs)
    outputs = tuple(value for value, own in zip(last.args[0], kept, strict=True) if own)
    structure = exported.call_spec.out_spec
    ranges = exported.range_constraints
    return Program(module, exported.graph, stored, inputs, outputs, structure, examples, named, ranges)


DORMANT: Mapping[str, float] = {"dropout_p": 0.0, "train": False, "training": False}
"""Arguments by which an operation that can be random is told not to be."""


def _demand_function(program: Program) -> None:
    assert program.graph.owning_module is not None
    graphs = [inner.graph for inner in program.graph.owning_module.modules() if isinstance(inner, fx.GraphModule)]
    for node in (node for graph in graphs for node in graph.nodes):
        target = node.target
        if not isinstance(target, torch._ops.OpOverload) or torch.Tag.nondeterministic_seeded not in target.tags:
            continue
        given = arguments(node)
        if all(name not in given or given[name] != value for name, value in DORMANT.items()):
            raise ModelError(f"{describe(node)} is random in eval mode too; Reluce compresses functions")


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

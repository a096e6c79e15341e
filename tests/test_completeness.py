"""Every op has a rule for every meaning, or an entry here that says why not."""

from __future__ import annotations

import importlib

import pytest

from reluce.network import Op

MEANINGS = {
    "evaluate": ("reluce.network._evaluate", "apply"),
    "interval": ("reluce.bounds._interval", "interval"),
    "linear bound": ("reluce.bounds._linear", "_substitute"),
    "constancy": ("reluce.bounds._constants", "constancy"),
    "exact interval": ("reluce.bounds._exact", "_forward"),
    "exact linear bound": ("reluce.bounds._exact", "_backward"),
    "float error": ("reluce.bounds._float_error", "_error"),
    "gradient": ("reluce.prove._gradient", "_pull_back"),
    "MILP": ("reluce.solve._encode", "_columns"),
    "droppable": ("reluce.rewrite._shrink", "_restrict"),
    "shrunk": ("reluce.rewrite._shrink", "_shrunk"),
    "sensitivity": ("reluce.rewrite._sensitivity", "_pull"),
    "relation": ("reluce.rewrite._relation", "_carried"),
    "ONNX": ("reluce.io._write_ops", "emit"),
    "torch": ("reluce.io._torch_emit", "emit"),
}

SAME = "has no parameters, so it does not change with its tensors"
KEEPS = "needs all that it reads: nothing it touches can go"
NOT_DYADIC = "is not computable in dyadic integers: unsupported, the unit stays undecided"
BY_INTERVAL = "stays in the functional and is bounded by its interval"

REFUSALS = {
    ("Opaque", "evaluate"): "nothing is known of it; skipped by the caller",
    ("Opaque", "gradient"): "nothing is known of it; nothing behind it is searched",
    ("Opaque", "linear bound"): BY_INTERVAL,
    ("Activation", "linear bound"): BY_INTERVAL,
    ("Softmax", "linear bound"): BY_INTERVAL,
    ("Opaque", "constancy"): "nothing is constant behind it",
    ("Opaque", "float error"): "infinite",
    ("Opaque", "sensitivity"): "infinite",
    ("Opaque", "relation"): "infinite unless its inputs are untouched",
    ("Opaque", "droppable"): KEEPS,
    ("Softmax", "droppable"): KEEPS,
    ("Relu", "shrunk"): SAME,
    ("Activation", "shrunk"): SAME,
    ("Add", "shrunk"): SAME,
    ("Softmax", "shrunk"): SAME,
    ("Opaque", "shrunk"): SAME,
    ("Dense", "relation"): "handled with Constant as a residual before the other operations",
    **{
        (op, f"exact {kind}"): NOT_DYADIC
        for op in ("BatchNorm", "Activation", "Softmax", "Opaque")
        for kind in ("interval", "linear bound")
    },
    ("Constant", "exact linear bound"): "bounded by its interval, which is a point",
}

OPS = sorted(Op.__subclasses__(), key=lambda op: op.__name__)


@pytest.mark.parametrize("meaning", MEANINGS)
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.__name__)
def test_every_op_has_every_meaning_or_a_reason(op: type[Op], meaning: str) -> None:
    module, name = MEANINGS[meaning]
    function = getattr(importlib.import_module(module), name)
    has_rule = op in function.registry
    assert has_rule != ((op.__name__, meaning) in REFUSALS), f"{op.__name__} x {meaning}: rule {has_rule}"


def test_refusals_name_real_ops_and_meanings() -> None:
    names = {op.__name__ for op in OPS}
    assert all(op in names and meaning in MEANINGS for op, meaning in REFUSALS)

"""Mutation testing of the checker: whether any test notices when a line of it is wrong.

Each mutant is a copy of ``reluce_checker`` with one small change (a comparison turned, a sign, ``and`` for ``or``,
``low`` for ``high``, a constant off by one, a check left out). The checker's tests run on it; a mutant that passes them
all survives, and is printed with its line.

    python benchmarks/mutants.py --count 200 --seed 0
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "reluce_checker"
MODULES = (
    "_boxes", "_certificate", "_check", "_compose", "_container", "_domain", "_exact", "_facts", "_forms",
    "_guard", "_intervals", "_layers", "_linear", "_relation",
)  # fmt: skip

COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult,
}  # fmt: skip
NAMES = {
    "low": "high", "high": "low", "lower": "upper", "upper": "lower", "active": "inactive", "inactive": "active",
    "positive": "negative", "negative": "positive", "above": "below", "below": "above", "any": "all", "all": "any",
    "maximum": "minimum", "minimum": "maximum", "min": "max", "max": "min",
}  # fmt: skip


def mutants(tree: ast.Module) -> Iterator[tuple[int, str, ast.Module]]:
    """Line, description and tree of every mutant of a module."""
    places = [node for node in ast.walk(tree) if hasattr(node, "lineno")]
    for number, node in enumerate(places):
        for what, change in _changes(node):
            mutant = copy.deepcopy(tree)
            twin = [other for other in ast.walk(mutant) if hasattr(other, "lineno")][number]
            change(twin)
            yield node.lineno, what, ast.fix_missing_locations(mutant)


def _changes(node: ast.AST) -> Iterator[tuple[str, object]]:
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        new = COMPARISONS[type(node.ops[0])]
        yield f"{type(node.ops[0]).__name__} -> {new.__name__}", lambda twin: twin.ops.__setitem__(0, new())
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        operator = OPERATORS[type(node.op)]
        yield f"{type(node.op).__name__} -> {operator.__name__}", lambda twin: setattr(twin, "op", operator())
    if isinstance(node, ast.BoolOp):
        other = ast.Or if isinstance(node.op, ast.And) else ast.And
        yield f"-> {other.__name__}", lambda twin: setattr(twin, "op", other())
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Invert | ast.Not):
        yield f"{type(node.op).__name__} dropped", lambda twin: setattr(twin, "op", ast.UAdd())
    if isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield f".{node.attr} -> .{NAMES[node.attr]}", lambda twin: setattr(twin, "attr", NAMES[twin.attr])
    if isinstance(node, ast.Name) and node.id in NAMES and isinstance(node.ctx, ast.Load):
        yield f"{node.id} -> {NAMES[node.id]}", lambda twin: setattr(twin, "id", NAMES[twin.id])
    if isinstance(node, ast.Constant) and type(node.value) is int:
        yield f"{node.value} -> {node.value + 1}", lambda twin: setattr(twin, "value", twin.value + 1)
    if (
        isinstance(node, ast.If)
        and len(node.body) == 1
        and isinstance(node.body[0], ast.Raise | ast.Return | ast.Continue)
    ):
        yield "check left out", lambda twin: setattr(twin, "test", ast.Constant(False))


def survives(folder: Path, module: str, mutant: ast.Module, tests: list[str], seconds: float) -> bool:
    """Whether all tests pass with one module replaced."""
    target = folder / "reluce_checker" / f"{module}.py"
    original = target.read_text()
    target.write_text(ast.unparse(mutant))
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", *tests]
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=seconds, check=False)
        return done.returncode == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        target.write_text(original)


def main() -> None:
    """Try mutants and print those that survive."""
    parser = argparse.ArgumentParser(description="Mutation testing of the checker.")
    parser.add_argument("--count", type=int, default=200, help="mutants, chosen at random over all modules")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="modules whose name contains this")
    parser.add_argument("--tests", nargs="*", default=["tests/checker", "--ignore=tests/checker/test_read.py"])
    parser.add_argument("--seconds", type=float, default=300.0, help="a mutant that takes longer counts as noticed")
    given = parser.parse_args()
    found = []
    for module in (name for name in MODULES if given.only in name):
        tree = ast.parse((PACKAGE / f"{module}.py").read_text())
        found += [(module, *mutant) for mutant in mutants(tree)]
    random.Random(given.seed).shuffle(found)
    print(f"{len(found)} mutants, {min(given.count, len(found))} of them tried", flush=True)
    lost = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(PACKAGE, folder / "reluce_checker", ignore=shutil.ignore_patterns("__pycache__"))
        if not survives(
            folder, "_graph", ast.parse((PACKAGE / "_graph.py").read_text()), given.tests, 10 * given.seconds
        ):
            sys.exit("the tests fail without any mutation")
        for number, (module, line, what, mutant) in enumerate(found[: given.count], 1):
            if survives(folder, module, mutant, given.tests, given.seconds):
                lost += 1
                print(f"survives: {module}.py:{line}: {what}", flush=True)
            if number % 20 == 0:
                print(f"{number} tried, {number - lost} noticed", flush=True)
    print(f"{min(given.count, len(found))} tried, {lost} survive")


if __name__ == "__main__":
    main()

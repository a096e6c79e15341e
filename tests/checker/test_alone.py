"""The checker's folder by itself: copied elsewhere it runs, and needs nothing but numpy, onnx and python-flint."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_models import DIGITS

import reluce_checker
from certificates import touching_case, touching_split
from reluce import Exact, Settings, compress

FOLDER = Path(reluce_checker.__file__).parent
ALLOWED = {"numpy", "onnx", "flint", "reluce_checker"}
BLOCKED = ("torch", "reluce", "onnxruntime", "highspy", "scipy", "sklearn", "typer", "rich", "threadpoolctl", "vnnlib")

# Runs with nothing but the copied folder in front of the installed packages; every blocked import is an error.
RUN = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ImportError("the checker wanted " + name)

sys.meta_path.insert(0, Refuse())
sys.path.insert(0, {folder})
from reluce_checker.__main__ import main
import reluce_checker
assert reluce_checker.__file__.startswith({folder}), reluce_checker.__file__
code = main(sys.argv[1:])
print("modules:", *sorted({{name.partition(".")[0] for name in sys.modules}}))
sys.exit(code)
"""


def alone(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command of a copy of the folder."""
    copied = folder / "elsewhere" / "reluce_checker"
    if not copied.exists():
        shutil.copytree(FOLDER, copied, ignore=shutil.ignore_patterns("__pycache__"))
    program = RUN.format(blocked=set(BLOCKED), folder=repr(str(copied.parent)))
    return subprocess.run(
        [sys.executable, "-I", "-c", program, *arguments], capture_output=True, text=True, check=False, cwd=folder
    )


def modules(found: subprocess.CompletedProcess[str]) -> set[str]:
    (line,) = [line for line in found.stdout.splitlines() if line.startswith("modules: ")]
    return set(line.split()[1:])


@pytest.mark.parametrize("wrong", [False, True], ids=["honest", "forged"])
def test_the_folder_alone_checks_the_digits(wrong: bool, tmp_path: Path) -> None:
    compress(DIGITS, "0,1", output=tmp_path / "small.onnx", settings=Settings(Exact()))
    domain = ["--range", "0,2" if wrong else "0,1"]
    found = alone(tmp_path, str(DIGITS), str(tmp_path / "small.onnx"), str(tmp_path / "small.cert"), *domain)
    assert found.returncode == int(wrong), found.stderr
    assert found.stdout.startswith("" if wrong else "proved: no output differs")
    assert not wrong or found.stderr.startswith("not proved: the domain")
    assert not modules(found) & set(BLOCKED)


def test_trees_of_boxes_and_domain_files_too(tmp_path: Path) -> None:
    case = touching_case(touching_split())
    data = {"old.onnx": case.original, "new.onnx": case.compressed, "new.cert": case.certificate}
    for name, content in data.items():
        (tmp_path / name).write_bytes(content)
    np.savez(tmp_path / "box.npz", lo=-1.0, hi=1.0)
    found = alone(tmp_path, *(str(tmp_path / name) for name in data), "--domain", str(tmp_path / "box.npz"))
    assert found.returncode == 0, found.stderr
    assert not modules(found) & set(BLOCKED)


def imports(file: Path) -> set[str]:
    """The packages that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name}: a relative import"
            assert node.module is not None
            found.add(node.module.partition(".")[0])
    return found


def test_what_it_imports() -> None:
    found = set().union(*(imports(file) for file in FOLDER.rglob("*.py")))
    assert found - set(sys.stdlib_module_names) == ALLOWED


@pytest.mark.parametrize("file", sorted(FOLDER.rglob("*.py")), ids=lambda file: file.name)
def test_nothing_rests_on_assert(file: Path) -> None:
    """``python -O`` leaves assertions out."""
    assert not any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(file.read_text())))


@pytest.mark.parametrize("name", ["eval", "exec", "compile", "__import__", "pickle", "marshal"])
def test_nothing_is_executed_that_was_read(name: str) -> None:
    for file in FOLDER.rglob("*.py"):
        names = {node.id for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Name)}
        assert name not in names | imports(file)

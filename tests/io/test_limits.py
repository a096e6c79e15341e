"""Small files that ask for much: each is refused or read quickly, in little memory."""

import gzip
import json
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_models import bomb, graph, large_input, left_out, many, model, node
from io_tools import read
from onnx import ModelProto, helper

from reluce.errors import ModelError
from reluce.io import _files, _infer, load, loads
from reluce.io import _limits as limits
from reluce.io._names import Names
from reluce.io._scope import NotModelled, Scope

GIB = 1 << 30
SECONDS, BYTES = 60, 3 * GIB // 2
FILES = {
    f"{group.__name__}/{name}": entry for group in (large_input, bomb, many, graph) for name, entry in group().items()
}


def outcome(data: bytes) -> dict[str, Any]:
    """Read a file in a forked process; what became of it, and the most memory that it had beyond the start."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(SECONDS)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            found = {"kinds": [type(entry.op).__name__ for entry in loads(data).network.nodes[:5]]}
        except ModelError as error:
            found = {"error": [str(error)]}
        except BaseException as error:
            found = {"crash": [repr(error)]}
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        os.write(writing, json.dumps({**found, "bytes": peak << 10}).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read()
    status = os.waitpid(child, 0)[1]
    assert status == 0, f"hangs or crashes (status {status})"
    return dict(json.loads(text))


@pytest.mark.parametrize("name", FILES)
def test_small_files_need_little(name: str) -> None:
    entry = FILES[name]
    found = outcome(entry if isinstance(entry, bytes) else entry.SerializeToString())
    assert "crash" not in found, found
    assert found["bytes"] < BYTES


REFUSED = {
    "large_input/trillion": "one sample of the graph inputs holds 1,000,000,000,000 numbers; the limit is 4,194,304",
    "large_input/overflow": "the graph inputs holds 1,208,925,819,614,629,174,706,176 numbers",
    "large_input/just_too_large": "holds 4,194,305 numbers",
    "large_input/many": "one sample of the graph inputs holds",
    "large_input/rank": "more than 32 axes",
    "bomb/negatives": "one sample of all tensors up to 't64' holds .* numbers; the limit is 67,108,864",
    "many/too_many_nodes": "more than 100,000 messages of the kind NodeProto",
    "graph/cycle": "which nothing before it writes",
    "graph/backwards": "which nothing before it writes",
    "graph/two_initialisers": "two initialisers are called 'W'",
    "graph/two_inputs": "two graph inputs are called 'x'",
    "graph/two_writers": "is written twice",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_why(name: str) -> None:
    entry = FILES[name]
    with pytest.raises(ModelError, match=REFUSED[name]):
        loads(entry if isinstance(entry, bytes) else entry.SerializeToString())


OPAQUE = {
    "bomb/add_outer_variables": "too large to follow",
    "bomb/expand_input_huge": "cannot be computed",
    "graph/unknown_attribute": "the standard knows no attribute 'negate' of it",
    "graph/attribute_twice": "its attribute 'alpha' is given twice",
    "graph/attribute_of_other_type": "its attribute 'transB' is not of the type that the standard has it",
    "graph/shadowing_function": "not a standard operator",
}


@pytest.mark.parametrize("name", OPAQUE)
def test_what_is_opaque_says_why(name: str) -> None:
    entry = FILES[name]
    network = loads(entry if isinstance(entry, bytes) else entry.SerializeToString()).network
    assert any(OPAQUE[name] in getattr(entry.op, "why", "") for entry in network.opaque), network.opaque


@pytest.mark.parametrize("name", left_out())
def test_what_is_left_out_does_no_harm(name: str) -> None:
    try:
        read(left_out()[name])
    except ModelError as error:
        assert "\n" not in str(error)  # noqa: PT017


def test_initialisers_among_the_inputs_are_named() -> None:
    names = [f"w{k}" for k in range(12)]
    entry = model([node("Relu", ["x"], ["y"])], {name: np.float32(1) for name in names})
    entry.graph.input.extend([helper.make_tensor_value_info(name, 1, []) for name in names[:2]])
    assert "2 graph inputs have stored values and are read as constants: 'w0', 'w1'" in read(entry).notes
    entry.graph.input.extend([helper.make_tensor_value_info(name, 1, []) for name in names[2:]])
    (note,) = read(entry).notes
    assert note.endswith("'w8', 'w9' and 2 more")


@pytest.mark.parametrize(("start", "known"), [(-3, True), (-4, False), (-(10**9), False)])
def test_a_slice_that_steps_backwards_from_before_the_start(start: int, known: bool) -> None:
    """The first element by the standard and in onnxruntime, nothing in numpy."""
    ends = {"a": np.array([start]), "e": np.array([-(2**40)]), "i": np.array([1]), "s": np.array([-1])}
    network = read(model([node("Slice", ["x", "a", "e", "i", "s"], ["y"])], ends)).network
    assert bool(network.opaque) is not known
    if known:
        assert network.nodes[0].op.indices.tolist() == [0]  # type: ignore[attr-defined]


def test_a_constant_slice_that_steps_backwards_is_not_followed() -> None:
    ends = {"a": np.array([-9]), "e": np.array([-(2**40)]), "i": np.array([0]), "s": np.array([-1])}
    nodes = [node("Slice", ["c", "a", "e", "i", "s"], ["d"]), node("Add", ["x", "d"], ["y"])]
    network = read(model(nodes, {**ends, "c": np.ones(3, np.float32)})).network
    assert network.opaque


def test_names_count_on() -> None:
    names = Names(["a", "a_1", "b_1"])
    assert [names.fresh(base) for base in ("a", "a", "b", "b", "", "a_1")] == ["a_2", "a_3", "b", "b_2", "_1", "a_1_1"]
    many = Names()
    began = time.monotonic()
    assert [many.fresh("x") for _ in range(100_000)][-1] == "x_99999"
    assert time.monotonic() - began < 10


def test_a_budget_for_what_is_made_up() -> None:
    scope = Scope(17, {}, False, [], 10)
    scope.charge(10)
    with pytest.raises(NotModelled, match="too many indices"):
        scope.charge(1)


def test_questions_that_are_not_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Dead:
        def ask(self, *arguments: Any) -> Any:
            asked.append(arguments)
            raise _infer.Lost("no answer after 20 s")

    monkeypatch.setattr(_infer, "_child", lambda process: Dead())
    nodes = [node("Erf", ["x"], [f"t{k}" if k else "y"]) for k in range(20)]
    network = read(model(nodes)).network
    assert len(network.opaque) == 20
    assert len(asked) == limits.LOST


def test_questions_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_infer, "ASKED", 3)
    nodes = [node("Erf", ["x"], [f"t{k}" if k else "y"]) for k in range(5)]
    network = read(model(nodes)).network
    assert [network.tensors[entry.output].shape for entry in network.nodes] == [(3,)] * 3 + [None] * 2


@pytest.mark.parametrize(
    "reply", [{}, {"known": 3}, {"known": []}, {"known": ["x"]}, {"known": [[1, [3, "x", -1, 1.5, True]]]}]
)
def test_what_the_child_says_is_parsed_with_care(monkeypatch: pytest.MonkeyPatch, reply: Mapping[str, Any]) -> None:
    class Liar:
        def ask(self, *arguments: Any) -> Any:
            return reply, []

    monkeypatch.setattr(_infer, "_child", lambda process: Liar())
    network = read(model([node("Erf", ["x"], ["y"])])).network
    assert network.tensors["y"].shape is None


def test_pipes_and_large_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(ModelError, match=r"pipe\.onnx: is a pipe or a device, not a file"):
        load(tmp_path / "pipe.onnx")
    with pytest.raises(ModelError, match=r"/dev/zero: is a pipe or a device"):
        load("/dev/zero")
    with (tmp_path / "large.onnx").open("wb") as file:
        file.truncate(3 << 30)  # takes no room
    with pytest.raises(ModelError, match=r"large\.onnx: the file has 3,221,225,472 bytes; the limit is 2,147,483,647"):
        load(tmp_path / "large.onnx")


def test_gzip_that_blows_up(tmp_path: Path) -> None:
    bombs: list[Callable[[], bytes]] = [
        lambda: gzip.compress(bytes(limits.INFLATED + 1)),
        lambda: gzip.compress(bytes(1 << 25)) * 3,  # several members
    ]
    for number, make in enumerate(bombs):
        path = tmp_path / f"{number}.onnx.gz"
        path.write_bytes(make())
        with pytest.raises(ModelError, match="bytes of gzip data become more than 67,108,864, which is the limit"):
            load(path)
    assert len(_files.decompress(gzip.compress(bytes(limits.INFLATED)), "x")) == limits.INFLATED


def test_a_forked_process_asks_a_child_of_its_own() -> None:
    """Forked processes must not read each other's answers."""
    data = model([node("Erf", ["x"], ["y"])]).SerializeToString()
    assert loads(data).network.tensors["y"].shape == (3,)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(shape, [data] * 8) == [(3,)] * 8
    assert loads(data).network.tensors["y"].shape == (3,)


def shape(data: bytes) -> tuple[int, ...] | None:
    return loads(data).network.tensors["y"].shape


def test_the_models_are_models() -> None:
    """The twin: what is not hostile is read in whole."""
    entry: ModelProto = model([node("Relu", ["x"], ["y"])])
    assert outcome(entry.SerializeToString())["kinds"] == ["Relu"]

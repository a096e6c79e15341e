import gzip
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from io_tools import build, numbers, read
from onnx import ModelProto, TensorProto, helper

from reluce.errors import ModelError
from reluce.io import load, loads

node = helper.make_node


def tiny(**weights: Any) -> ModelProto:
    constants = {"W": numbers(3, 2), "B": numbers(2)} | weights
    return build(
        [node("Gemm", ["x", "W", "B"], ["h"]), node("Relu", ["h"], ["y"])], {"x": ["N", 3]}, {"y": ["N", 2]}, constants
    )


DATA = tiny().SerializeToString()


def one_line(error: pytest.ExceptionInfo[ModelError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.onnx", b"", "empty.onnx: the file is empty"),
        ("text.onnx", b"hello, this is no model\n", "text.onnx: not an ONNX file"),
        ("short.onnx", DATA[:-20], "short.onnx: not an ONNX file, or cut short"),
        ("head.onnx", DATA[:2], "head.onnx: not an ONNX file, or cut short .it holds no graph"),
        ("bogus.onnx.gz", b"no gzip at all", "bogus.onnx.gz: the gzip data is damaged"),
        ("short.onnx.gz", gzip.compress(DATA, mtime=0)[:-30], "short.onnx.gz: the gzip data is (cut short|damaged)"),
        ("flipped.onnx.gz", gzip.compress(DATA, mtime=0)[:-8] + b"\0" * 8, "flipped.onnx.gz: the gzip data is damaged"),
        ("nothing.onnx.gz", gzip.compress(b"", mtime=0), "nothing.onnx.gz: the file is empty"),
        ("plain.onnx", gzip.compress(DATA, mtime=0), "plain.onnx: not an ONNX file"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=message) as error:
        load(tmp_path / name)
    assert name in one_line(error)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.onnx: no such file"):
        load(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="is a directory"):
        load(tmp_path)


def test_files_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, flags: int) -> int:  # root may read everything, so the refusal is staged
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ModelError, match=r"secret\.onnx: cannot be read \(Permission denied\)"):
        load(tmp_path / "secret.onnx")


@pytest.mark.parametrize("length", range(0, len(DATA), 3))
def test_any_cut_is_refused_or_still_a_whole_graph(length: int) -> None:
    with suppress(ModelError):
        assert loads(DATA[:length]).network.outputs == ("y",)


def test_both_kinds_of_files_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(DATA)
    (tmp_path / "a.onnx.gz").write_bytes(gzip.compress(DATA))
    assert load(tmp_path / "a.onnx").data == load(str(tmp_path / "a.onnx.gz")).data == DATA


def no_nodes(model: ModelProto) -> None:
    del model.graph.node[:]


def external(model: ModelProto) -> None:
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL


def duplicate_initialiser(model: ModelProto) -> None:
    model.graph.initializer.append(model.graph.initializer[0])


def written_twice(model: ModelProto) -> None:
    model.graph.node.append(node("Relu", ["x"], ["h"], name="again"))


def writes_an_input(model: ModelProto) -> None:
    model.graph.node[1].output[0] = "x"


def cycle(model: ModelProto) -> None:
    model.graph.node[0].input[0] = "y"


def short_data(model: ModelProto) -> None:
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-4]


def long_dims(model: ModelProto) -> None:
    model.graph.initializer[0].dims[0] = 10**12


def negative_dims(model: ModelProto) -> None:
    model.graph.initializer[0].dims[0] = -3


def few_values(model: ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.float_data.extend([1.0, 2.0])


def no_such_output(model: ModelProto) -> None:
    model.graph.output[0].name = "nowhere"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (no_nodes, "the graph has no nodes"),
        (external, "'W' lies in an external file"),
        (duplicate_initialiser, "two initialisers are called 'W'"),
        (written_twice, "tensor 'h' is written twice .again by node 'again'"),
        (writes_an_input, "tensor 'x' is written twice"),
        (cycle, "reads tensor 'y', which nothing before it writes"),
        (short_data, r"'W' of dimensions \[3, 2\] needs 24 bytes and holds 20"),
        (long_dims, "'W' of dimensions .* needs .* bytes and holds 24"),
        (negative_dims, "'W' has a negative dimension"),
        (few_values, "needs 6 values and holds 2"),
        (no_such_output, "graph output 'nowhere' is written by no node"),
    ],
)
def test_damaged_models(damage: Callable[[ModelProto], None], message: str) -> None:
    model = tiny()
    damage(model)
    with pytest.raises(ModelError, match=message) as error:
        read(model, name="bad.onnx")
    assert one_line(error).startswith("bad.onnx: ")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_weights_that_are_not_finite(value: float, dtype: Any) -> None:
    weight = numbers(3, 2, dtype=dtype)
    weight[1, 1] = value
    with pytest.raises(ModelError, match=rf"initialiser 'W' holds {value} at index \[1, 1\]"):
        read(tiny(W=weight))


def test_a_weight_that_nothing_reads_may_be_anything() -> None:
    read(tiny(unused=np.array([np.nan, 1], np.float32)))


@pytest.mark.parametrize("kind", ["Gemm", "Softmax", "Cast", "Shape", "LeakyRelu", "BatchNormalization"])
def test_a_node_that_breaks_its_own_standard_is_opaque(kind: str) -> None:
    flags = {"Gemm": "alpha", "Softmax": "axis", "Cast": "to", "Shape": "start", "LeakyRelu": "alpha"}
    broken = node(kind, ["x", "W"] if kind == "Gemm" else ["x"], ["y"])
    broken.attribute.append(helper.make_attribute(flags.get(kind, "epsilon"), "text"))
    assert read(build([broken], {"x": ["N", 3]}, {"y": ["N", 2]}, {"W": numbers(3, 2)})).network.opaque
    broken.attribute[0].type = 0
    assert read(build([broken], {"x": ["N", 3]}, {"y": ["N", 2]}, {"W": numbers(3, 2)})).network.opaque

"""What the bytes of a model may hold before they are parsed."""

import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hostile_models import external, field, tiny, varint
from onnx import ModelProto, helper

from reluce.errors import ModelError
from reluce.io import _wire as wire
from reluce.io import loads
from reluce.io._files import read_bytes
from reluce.io._limits import DEPTH, NAME_BYTES, OF_A_KIND, RANK

DATA = tiny().SerializeToString()


def node_field(content: bytes) -> bytes:
    """A file with a graph that holds one field."""
    return field(7, content)


def test_a_model_in_good_order_passes() -> None:
    wire.survey(DATA)


def test_numbers_of_any_wire_type_are_passed() -> None:
    unknown = varint(900 << 3) + varint(5) + varint(901 << 3 | 1) + bytes(8) + varint(902 << 3 | 5) + bytes(4)
    wire.survey(DATA + unknown + field(903, b"anything"))


@pytest.mark.parametrize(
    "data",
    [
        b"\x80",
        b"\xff" * 20,
        varint(7 << 3 | 2),
        varint(7 << 3 | 2) + varint(4) + b"abc",
        varint(7 << 3 | 2) + varint(2**64 - 1),
        varint(900 << 3 | 1) + bytes(7),
        varint(900 << 3 | 5) + bytes(3),
        varint(900 << 3 | 3),  # groups
        varint(900 << 3 | 4),
        varint(900 << 3 | 6),
        field(7, varint(900 << 3 | 1) + bytes(7)) + bytes(8),  # beyond the message, not beyond the file
        field(7, b"\x80") + b"\x01",
        field(7, varint(1 << 3 | 2) + varint(3)) + bytes(3),
    ],
)
def test_what_is_no_protobuf(data: bytes) -> None:
    with pytest.raises(wire.Damaged):
        wire.survey(data)
    with pytest.raises(ModelError, match=r"^bad: not an ONNX file, or cut short"):
        loads(data, name="bad")


def test_nesting() -> None:
    def sequence(levels: int) -> bytes:
        data = b""
        for level in range(levels):
            data = field(1, data) if level % 2 == 0 else field(4, data)
        return field(7, field(11, field(2, data)))

    wire.survey(sequence(DEPTH - 6))
    with pytest.raises(ModelError, match=rf"nests messages more than {DEPTH} deep"):
        wire.survey(sequence(DEPTH + 2))


@pytest.mark.parametrize(("name", "value", "message"), [("FIELDS", 20, "20 fields"), ("MESSAGES", 5, "5 messages")])
def test_counts(monkeypatch: pytest.MonkeyPatch, name: str, value: int, message: str) -> None:
    monkeypatch.setattr(wire, name, value)
    with pytest.raises(ModelError, match=rf"the file holds more than {message}, which is the limit"):
        wire.survey(DATA)


def test_a_file_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "FILE_BYTES", len(DATA))
    wire.survey(DATA)
    with pytest.raises(ModelError, match=r"^bad: the file has \d+ bytes; the limit is"):
        loads(DATA + b"\x00", name="bad")


def test_one_kind_of_message() -> None:
    limit = OF_A_KIND["OperatorSetIdProto"]
    wire.survey(field(8, b"") * limit)
    with pytest.raises(ModelError, match="more than 1,000 messages of the kind OperatorSetIdProto"):
        wire.survey(field(8, b"") * (limit + 1))


@pytest.mark.parametrize(
    "place", [lambda t: field(7, field(5, t)), lambda t: field(7, field(1, field(5, field(5, t))))]
)
def test_axes(place: Any) -> None:
    one = varint(1 << 3) + varint(1)
    wire.survey(place(one * RANK))
    wire.survey(place(field(1, varint(1) * RANK)))
    for many in (one * (RANK + 1), field(1, varint(1) * (RANK + 1)), field(1, varint(1) * RANK) + one):
        with pytest.raises(ModelError, match=f"more than {RANK} axes"):
            wire.survey(place(many))


def test_axes_of_a_declared_shape() -> None:
    wire.survey(tiny_with_input([1] * RANK))
    with pytest.raises(ModelError, match=f"more than {RANK} axes"):
        wire.survey(tiny_with_input([1] * (RANK + 1)))


def tiny_with_input(shape: list[int]) -> bytes:
    model = tiny()
    model.graph.input.append(helper.make_tensor_value_info("z", 1, shape))
    return model.SerializeToString()


def test_names() -> None:
    def named(name: str, doc: str = "") -> bytes:
        model = tiny()
        model.graph.node[0].name, model.graph.node[0].doc_string = name, doc
        return model.SerializeToString()

    wire.survey(named("n" * NAME_BYTES, "d" * 10 * NAME_BYTES))
    with pytest.raises(ModelError, match=r"text of the file \(name\) has 16,385 bytes; the limit is 16,384"):
        wire.survey(named("n" * (NAME_BYTES + 1)))
    with pytest.raises(ModelError, match=r"text of the file \(op_type\) is not valid UTF-8"):
        wire.survey(DATA.replace(b"Relu", b"\xff\xfe\xfd\xfc"))


def test_numbers_stored_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LISTED", 10)
    for number, width in ((4, 4), (5, 1), (7, 1), (10, 8), (11, 1)):
        wire.survey(field(7, field(5, field(number, bytes(10 * width)))))
        with pytest.raises(ModelError, match="more than 10 numbers stored one by one"):
            wire.survey(field(7, field(5, field(number, bytes(11 * width)))))
    wire.survey(field(7, field(5, field(9, bytes(1000)))))  # raw data


@pytest.mark.parametrize("data", [model.SerializeToString() for model in external().values()], ids=list(external()))
def test_external_data_is_refused_wherever_it_is(data: bytes) -> None:
    with pytest.raises(ModelError, match=r"initialiser '.?' lies in an external file, which is not read"):
        wire.survey(data)


def test_the_walk_allocates_nothing() -> None:
    model = ModelProto()
    model.CopyFrom(tiny())
    model.graph.initializer[0].raw_data = bytes(1 << 24)
    data = model.SerializeToString()
    tracemalloc.start()
    wire.survey(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


@pytest.mark.shared
def test_public_networks_pass_in_next_to_no_time(shared: Path) -> None:
    files = [read_bytes(path) for path in sorted(shared.glob("**/*.onnx*"))]
    assert len(files) > 100
    began = time.process_time()
    for data in files:
        wire.survey(data)
    assert time.process_time() - began < 0.02 * len(files)

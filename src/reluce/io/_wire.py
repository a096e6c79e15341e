"""A look at the bytes of a model before protobuf parses them, so that a small file cannot become a large object.

The walk knows protobuf's wire format and, from its descriptors, which fields of an ONNX model are messages; it goes
into these and skips everything else, however long. It keeps one small record for each level of nesting and copies
nothing but text. Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from onnx import ModelProto, TensorProto

from reluce.errors import ModelError
from reluce.io._limits import DEPTH, FIELDS, FILE_BYTES, LISTED, MESSAGES, NAME_BYTES, OF_A_KIND, RANK

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5  # wire types; 3 and 4 are groups, which ONNX does not have
_FREE_TEXT = ("doc_string", "value")  # strings that are no names
_AXES = ("dims", "dim")


class Damaged(Exception):
    """The bytes are no protobuf."""


@dataclass(frozen=True)
class _Field:
    """What a field of a message holds: a message of some kind, text, or numbers."""

    name: str
    message: Any  # its descriptor, None where it is no message
    text: bool
    width: int  # fewest bytes of one number in a packed list


@cache
def _fields(kind: str) -> Mapping[int, _Field]:
    return {entry.number: _field(entry) for entry in _descriptors()[kind].fields}


@cache
def _descriptors() -> Mapping[str, Any]:
    """All kinds of messages that a model may hold, by name."""
    found: dict[str, Any] = {}
    stack = [ModelProto.DESCRIPTOR]
    while stack:
        kind = stack.pop()
        if kind.full_name not in found:
            found[kind.full_name] = kind
            stack.extend(entry.message_type for entry in kind.fields if entry.message_type is not None)
    return found


def _field(entry: Any) -> _Field:
    widths = {entry.TYPE_FLOAT: 4, entry.TYPE_DOUBLE: 8}
    message = None if entry.message_type is None else entry.message_type.full_name
    return _Field(entry.name, message, entry.type == entry.TYPE_STRING, widths.get(entry.type, 1))


class _Message:
    """A message that the walk is in."""

    __slots__ = ("axes", "end", "external", "fields", "kind", "name")

    def __init__(self, kind: str, end: int) -> None:
        self.kind, self.end, self.fields = kind, end, _fields(kind)
        self.name, self.axes, self.external = "", 0, False


def survey(data: bytes) -> None:
    """Refuse a model that would be too much to parse, or whose weights lie elsewhere.

    Parameters
    ----------
    data
        The uncompressed bytes of a model.

    Raises
    ------
    Damaged
        When they are no protobuf.
    ModelError
        Says which limit they exceed, or which tensor lies in an external file.
    """
    if len(data) > FILE_BYTES:
        raise ModelError(f"the file has {len(data):,} bytes; the limit is {FILE_BYTES:,}")
    _Walk(data).run()


class _Walk:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.counts: Counter[str] = Counter()
        self.messages = self.listed = 0

    def run(self) -> None:
        """Visit every field of every message, each once."""
        data, place, count = self.data, 0, 0
        stack = [_Message("onnx.ModelProto", len(data))]
        while stack:
            message = stack[-1]
            if place >= message.end:
                _leave(message)
                stack.pop()
                continue
            count += 1
            if count > FIELDS:
                raise _exceeds("fields", FIELDS)
            key, place = _varint(data, place, message.end)
            field, wire = message.fields.get(key >> 3), key & 7
            if wire != _BYTES:
                place = self._number(message, field, wire, place)
                continue
            length, place = _varint(data, place, message.end)
            if place + length > message.end:
                raise Damaged
            if field is not None and field.message is not None:
                stack.append(self._entered(message, field, place + length, len(stack)))
                continue
            if field is not None:
                self._content(message, field, place, place + length)
            place += length

    def _entered(self, message: _Message, field: _Field, end: int, depth: int) -> _Message:
        kind = field.message.rpartition(".")[2]
        self.messages += 1
        self.counts[kind] += 1
        if depth >= DEPTH:
            raise ModelError(f"the file nests messages more than {DEPTH} deep")
        if self.messages > MESSAGES:
            raise _exceeds("messages", MESSAGES)
        if self.counts[kind] > OF_A_KIND.get(kind, MESSAGES):
            raise _exceeds(f"messages of the kind {kind}", OF_A_KIND[kind])
        if field.name in _AXES:
            _add_axes(message, 1)
        message.external |= field.name == "external_data"
        return _Message(field.message, end)

    def _number(self, message: _Message, field: _Field | None, wire: int, place: int) -> int:
        """Pass a number; returns where it ends."""
        if wire == _VARINT:
            value, place = _varint(self.data, place, message.end)
            if field is not None and field.name == "dims":
                _add_axes(message, 1)
            elif field is not None and field.name == "data_location":
                message.external |= value == TensorProto.EXTERNAL
            return place
        if wire not in (_EIGHT, _FOUR):
            raise Damaged
        place += 8 if wire == _EIGHT else 4
        if place > message.end:
            raise Damaged
        return place

    def _content(self, message: _Message, field: _Field, start: int, end: int) -> None:
        """Text, bytes, or a packed list of numbers."""
        if field.name == "dims":
            _add_axes(message, end - start)  # at least; a length takes one byte or more
        elif field.text:
            name = self._text(field, start, end)
            message.name = name if field.name == "name" else message.name
        elif field.name.endswith("_data") and field.name not in ("raw_data", "string_data"):
            self.listed += (end - start) // field.width
            if self.listed > LISTED:
                raise _exceeds("numbers stored one by one", LISTED)

    def _text(self, field: _Field, start: int, end: int) -> str:
        if field.name not in _FREE_TEXT and end - start > NAME_BYTES:
            raise ModelError(
                f"a text of the file ({field.name}) has {end - start:,} bytes; the limit is {NAME_BYTES:,}"
            )
        try:
            return self.data[start:end].decode()
        except UnicodeDecodeError:
            raise ModelError(f"a text of the file ({field.name}) is not valid UTF-8") from None


def _varint(data: bytes, place: int, end: int) -> tuple[int, int]:
    """A number of up to ten bytes and where it ends."""
    value = shift = 0
    while place < end and shift < 70:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    raise Damaged


def _leave(message: _Message) -> None:
    if message.external:
        raise ModelError(
            f"initialiser {message.name!r} lies in an external file, which is not read; export with the weights inside "
            "(torch.onnx.export(..., external_data=False)), or give what onnx.load makes of the file"
        )


def _add_axes(message: _Message, count: int) -> None:
    message.axes += count
    if message.axes > RANK:
        raise ModelError(f"the file holds a tensor of more than {RANK} axes")


def _exceeds(what: str, limit: int) -> ModelError:
    return ModelError(f"the file holds more than {limit:,} {what}, which is the limit")

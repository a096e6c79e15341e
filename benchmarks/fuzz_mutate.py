"""Mutations that keep the structure of what is fuzzed: plain flips of bytes die in the first parser.

Each mutator takes the bytes of one input, a seeded generator and `plain`, which mutates bytes without looking at them
(libFuzzer's own mutator), and returns other bytes. An input that cannot be taken apart is mutated plainly.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError, Message
from onnx import ModelProto

from certificates import Case
from forge import NETWORKS, TEXTS, NotHere
from reluce.certificate._container import pack
from reluce_checker import Unreadable
from reluce_checker._container import MAGIC, VERSION, unpack

Array = np.ndarray[Any, Any]
Generator = np.random.Generator
Plain = Callable[[bytes], bytes]
Mutator = Callable[[bytes, Generator, Plain], bytes]

NUMBERS = (0, 1, -1, 2, 3, 7, 8, 127, 128, 255, 4096, 1 << 15, 1 << 20, (1 << 31) - 1, 1 << 31, 1 << 40, (1 << 63) - 1)
FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, 1e-310, 3e38, 1e300, float("inf"), float("-inf"), float("nan"))
OPERATORS = (
    "Gemm", "MatMul", "Add", "Sub", "Mul", "Div", "Neg", "Sum", "BatchNormalization", "Relu", "Sigmoid", "Tanh",
    "Softplus", "LeakyRelu", "Elu", "HardSigmoid", "Clip", "Softmax", "LogSoftmax", "Identity", "Dropout", "Cast",
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Gather", "Split", "Expand", "Tile", "Concat",
    "Constant", "ConstantOfShape", "Shape", "Size", "Range", "Conv", "MaxPool", "Pad", "ReduceSum", "If", "Loop",
    "Scan", "LSTM", "Where", "Einsum",
)  # fmt: skip
ATTRIBUTES = (
    "alpha", "beta", "transA", "transB", "axis", "axes", "perm", "shape", "to", "value", "pads", "starts", "ends",
    "steps", "keepdims",
)  # fmt: skip


def pick(generator: Generator, items: Sequence[Any]) -> Any:
    """One of some items."""
    return items[int(generator.integers(len(items)))]


# Protobuf


def model(data: bytes, generator: Generator, plain: Plain) -> bytes:
    """A model with one to three changes, of which some keep it a network."""
    try:
        found = ModelProto.FromString(data)
    except DecodeError:
        return plain(data)
    for _ in range(int(generator.integers(1, 4))):
        try:
            if generator.random() < 0.25:
                pick(generator, list(NETWORKS.values()))(generator, found)
            else:
                change_message(generator, found, plain)
        except (NotHere, ValueError, TypeError, IndexError):  # what this message cannot hold
            continue
    return bytes(found.SerializeToString())


def change_message(generator: Generator, model: ModelProto, plain: Plain) -> None:
    """Change one field of one message of a model, at whatever depth."""
    messages: list[Message] = [model]
    for message in messages:  # grows while it is walked
        for field, value in message.ListFields():
            if field.message_type is not None:
                messages += list(value) if field.is_repeated else [value]
        if len(messages) > 500:
            break
    message = pick(generator, messages)
    fields = [field for field, _ in message.ListFields()]
    if not fields or generator.random() < 0.2:
        fields = list(message.DESCRIPTOR.fields)
    field = pick(generator, fields)
    if field.is_repeated:
        change_repeated(generator, getattr(message, field.name), field, model, plain)
    elif field.message_type is not None:
        if generator.random() < 0.5:
            message.ClearField(field.name)
        else:
            getattr(message, field.name).SetInParent()
    elif generator.random() < 0.1:
        message.ClearField(field.name)
    else:
        setattr(message, field.name, scalar(generator, getattr(message, field.name), field, model, plain))


def change_repeated(generator: Generator, values: Any, field: Any, model: ModelProto, plain: Plain) -> None:
    """Take out, double, swap, change or append entries of a repeated field."""
    count = len(values)
    way = pick(generator, ("drop", "double", "swap", "change", "change", "append"))
    if not count or way == "append":
        values.add() if field.message_type is not None else values.append(scalar(generator, None, field, model, plain))
        return
    k = int(generator.integers(count))
    if way == "drop":
        del values[k]
    elif way == "double":
        values.append(values[k])
    elif field.message_type is not None:
        other = int(generator.integers(count))
        copy = type(values[k])()
        copy.CopyFrom(values[k])
        values[k].CopyFrom(values[other])
        values[other].CopyFrom(copy)
    else:
        values[k] = scalar(generator, values[k], field, model, plain)


def scalar(generator: Generator, value: Any, field: Any, model: ModelProto, plain: Plain) -> Any:
    """Another value for a scalar field."""
    if field.type == field.TYPE_STRING:
        if field.name == "op_type":
            return pick(generator, OPERATORS)
        names = [name for node in model.graph.node for name in (*node.input, *node.output)]
        attributes = ATTRIBUTES if field.containing_type.name == "AttributeProto" else ()
        return pick(generator, [*names, *attributes, "", "x", "\u00e9" * 50])
    if field.type == field.TYPE_BYTES:
        return plain(value or b"\0\0\0\0")
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return pick(generator, FLOATS)
    step = [] if value is None else [value + 1, value - 1, -value]
    chosen = int(pick(generator, [*NUMBERS, *step, int(generator.integers(0, 30))]))
    return max(0, chosen) if field.type in (field.TYPE_UINT32, field.TYPE_UINT64) else chosen


# Certificates: an input is the length of the text, the text and the arrays, without a container around it


def payload(certificate: bytes) -> bytes:
    """What is inside the container of a certificate."""
    return zlib.decompress(certificate[20:])


def certificate_in(data: bytes) -> bytes:
    """A container around an input, with the right length."""
    return MAGIC + struct.pack("<IQ", VERSION, len(data)) + zlib.compress(data, 1)


def certificate(case: Case, data: bytes, generator: Generator, plain: Plain) -> bytes:
    """A certificate's text and arrays with one to three of the changes that forgers make."""
    if generator.random() < 0.15:
        return plain(data)
    try:
        text = unpack(certificate_in(data))
    except Unreadable:
        return plain(data)
    for _ in range(int(generator.integers(1, 4))):
        try:
            if generator.random() < 0.2:
                change_json(generator, text, plain)
            else:
                TEXTS[pick(generator, list(TEXTS))](generator, text, case)
        except (NotHere, LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
            continue
    try:
        return payload(pack(text))
    except (TypeError, ValueError, AttributeError, RecursionError):
        return plain(data)


def change_json(generator: Generator, text: dict[str, Any], plain: Plain) -> None:
    """Change one place of a text: take it out, double it, nest it, or put another value there."""
    places: list[tuple[Any, Any]] = []
    stack: list[Any] = [text]
    while stack and len(places) < 2000:
        value = stack.pop()
        keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        places += [(value, key) for key in keys]
        stack += [value[key] for key in keys]
    where, key = pick(generator, places)
    value = where[key]
    match pick(generator, ("drop", "double", "nest", "other", "number")):
        case "drop":
            del where[key]
        case "double" if isinstance(where, list):
            where.insert(int(generator.integers(len(where) + 1)), value)
        case "nest":
            where[key] = [value] * int(pick(generator, (1, 2, 1000)))
        case "number" if isinstance(value, np.ndarray):
            raw = plain(value.tobytes())[: value.nbytes].ljust(value.nbytes, b"\0")
            where[key] = np.frombuffer(raw, value.dtype).reshape(value.shape)
        case _:
            choices = (None, True, "", "1/3", "9" * 2000, [], {}, {"array": [0, "f8", [1 << 20]]}, *NUMBERS, *FLOATS)
            where[key] = pick(generator, choices)


# Arrays: .npy and .npz files

MOST_BYTES = 1 << 22
"""Of all members of an archive that is changed member by member."""


def arrays(data: bytes, generator: Generator, plain: Plain) -> bytes:
    """An archive with other members, or members with other headers; or a plain change."""
    if generator.random() < 0.3:
        return plain(data)
    if data[:6] == b"\x93NUMPY":
        return member(data, generator, plain)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()[:20]
            if sum(info.file_size for info in members) > MOST_BYTES:  # a bomb that was made here before
                return plain(data)
            parts = [(info.filename, archive.read(info)) for info in members]
    except Exception:  # whatever zipfile meets: this is no archive any more
        return plain(data)
    if not parts:
        return plain(data)
    k = int(generator.integers(len(parts)))
    name, content = parts[k]
    match pick(generator, ("member", "member", "member", "drop", "double", "rename", "big")):
        case "member":
            parts[k] = name, member(content, generator, plain)
        case "drop":
            parts.pop(k)
        case "double":
            parts.append(parts[k])
        case "rename":
            names = ("lo.npy", "hi.npy", "x.lo.npy", "x.hi.npy", "X.npy", "lo", "../lo.npy", "", "a" * 300)
            parts[k] = pick(generator, names), content
        case _:
            parts[k] = name, content + bytes(int(pick(generator, (1, 8, 1 << 16, 1 << 22))))
    return zipped(parts, zipfile.ZIP_DEFLATED if generator.random() < 0.7 else zipfile.ZIP_STORED)


def zipped(parts: Sequence[tuple[str, bytes]], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive of some members."""
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", how) as archive:
        warnings.simplefilter("ignore")  # of a name that is there twice
        for name, content in parts:
            archive.writestr(zipfile.ZipInfo(name), content, how)
    return file.getvalue()


TYPES = (
    "<f8",
    "<f4",
    "<f2",
    ">f8",
    "<i8",
    "|u1",
    "|b1",
    "<U4",
    "|S3",
    "|O",
    "<c16",
    "<M8[s]",
    "<f16",
    "|V8",
    "[]",
    "x",
)


def member(data: bytes, generator: Generator, plain: Plain) -> bytes:
    """An .npy file with another header, true or not."""
    if generator.random() < 0.2 or len(data) < 10:
        return plain(data)
    length = struct.unpack("<H", data[8:10])[0]
    header, content = data[10 : 10 + length].decode("latin-1"), data[10 + length :]
    rank = int(pick(generator, (0, 1, 1, 2, 3, 40)))
    shape = tuple(int(pick(generator, (0, 1, 2, 3, 64, -1, 1 << 20, 1 << 33, 1 << 62))) for _ in range(rank))
    match pick(generator, ("shape", "dtype", "order", "text", "content", "version")):
        case "shape":
            header = re.sub(r"'shape': \([^)]*\)", f"'shape': {shape}", header)
        case "dtype":
            header = re.sub(r"'descr': '[^']*'", f"'descr': {pick(generator, TYPES)!r}", header)
        case "order":
            header = header.replace("False", pick(generator, ("True", "0", "None")))
        case "text":
            header = plain(header.encode("latin-1")).decode("latin-1")
        case "content":
            content = plain(content) if generator.random() < 0.7 else content + content
        case _:
            version = pick(generator, ((1, 0), (2, 0), (3, 0), (4, 0), (0, 1)))
            size = struct.pack("<I", int(pick(generator, (length, *NUMBERS[:12]))) & 0xFFFFFFFF)
            return data[:6] + bytes(version) + size + header.encode("latin-1") + content
    raw = header.encode("latin-1")[:65535]
    return data[:8] + struct.pack("<H", len(raw)) + raw + content


# Texts

WORDS = re.compile(rb"[A-Za-z_][A-Za-z_0-9]*|[0-9.eE+-]+|\s+|.", re.DOTALL)
SNIPPETS = tuple(
    b'( ) (( )) [ ] , = <= >= < > == != + - * ; // " 0 -0 1 -1 1e308 1e-400 1e9999 1e999999999 .5 5. nan inf 1/3 0x1 '
    b"and or "
    b"assert declare-const declare-fun declare-network declare-input declare-output Real float32 X_0 X_1 X_99 Y_0 X Y "
    b"X[0] X[9] (assert (<=X_0 (<=X_0 (or (and (vnnlib-version <2.0>) <1.0> x=0,1 \n \r \0 \xff \xc3\xa9".split(b" ")
)


def text(data: bytes, generator: Generator, plain: Plain) -> bytes:
    """A text whose words are dropped, doubled, moved or replaced."""
    if generator.random() < 0.2:
        return plain(data)
    words = WORDS.findall(data)
    if not words:
        return bytes(pick(generator, SNIPPETS))
    for _ in range(int(generator.integers(1, 5))):
        k, other = (int(n) for n in generator.integers(len(words), size=2))
        match pick(generator, ("drop", "double", "swap", "snippet", "snippet", "repeat", "piece", "number")):
            case "drop" if len(words) > 1:
                words.pop(k)
            case "double":
                words.insert(other, words[k])
            case "swap":
                words[k], words[other] = words[other], words[k]
            case "repeat":
                words[k] = (words[k] * int(pick(generator, (2, 10, 300, 3000))))[: 1 << 16]
            case "piece":
                low, high = sorted((k, other))
                words[low:low] = words[low : min(high, low + 60)]
            case "number":
                words[k] = b"%d" % int(pick(generator, NUMBERS))
            case _:
                words[k] = pick(generator, SNIPPETS)
    return b"".join(words)

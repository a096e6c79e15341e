"""What a file may ask for: beyond these limits it is refused, or what it asks for is left alone.

A few bytes can claim anything: 10^12 numbers, a million nested graphs, a shape computed in a loop. The limits are far
above what dense networks hold and far below what a machine cannot do; ``docs/limits.md`` lists them for users.
"""

from __future__ import annotations

from collections.abc import Mapping

FILE_BYTES = 2**31 - 1
"""Of a model, decompressed: a protobuf ends there."""

INFLATION = 200
INFLATED = 1 << 26
"""A gzip file may become so many times larger, and in any case so many bytes: zeros shrink to a thousandth."""

# Before the protobuf is parsed.

DEPTH = 64
"""Messages within messages (protobuf's own limit is 100); a graph within a graph takes three."""

FIELDS = 5_000_000
"""All fields of a file: each may be 2 bytes long there, and tens of them in memory."""

MESSAGES = 1_500_000
"""All messages of a file: an empty one is 2 bytes long there, and some hundred in memory."""

OF_A_KIND: Mapping[str, int] = {
    "NodeProto": 100_000,
    "AttributeProto": 500_000,
    "TensorProto": 200_000,
    "SparseTensorProto": 10_000,
    "FunctionProto": 10_000,
    "OperatorSetIdProto": 1_000,
}
"""Messages of one kind, subgraphs and functions included."""

NAME_BYTES = 1 << 14
"""Of a name, an operator, a domain."""

LISTED = 1 << 26
"""Numbers that are stored one by one (``float_data``, ``int64_data``) instead of as raw bytes: parsed they take ten
times the room."""

# While the graph is read.

RANK = 32
"""Axes of a tensor; older versions of numpy have no more."""

TENSOR = 1 << 23
"""Numbers in one sample of a tensor, in an index tensor, in a folded constant; larger ones are not followed."""

INPUTS = 1 << 22
"""Numbers in one sample of all graph inputs together: a box has two fractions for each."""

SAMPLE = 1 << 26
"""Numbers in one sample of all tensors together: bounds hold several numbers for each."""

DERIVED = 1 << 25
"""Numbers in all index tensors and all folded constants together; those beyond it are not followed."""

NOTED = 10
"""Names that one note lists."""

# What the standard's own implementation is asked about single nodes, in a process of its own.

ASKED = 20_000
"""Questions for each model; whatever comes after them stays unknown."""

LOST = 3
"""Questions that may end with the process killed or crashed, for each model."""

ASK_SECONDS = 20.0
"""For each question."""

ASK_BYTES = 4 << 30
"""Memory of that process."""

ASK_REPLY = 1 << 30
"""Bytes of the arrays that go there, and of those that come back."""

# onnxruntime, in a process of its own.

RUN_SECONDS = 600.0
"""For the start of a session, and for each batch."""

RUN_REPLY = 1 << 32
"""Bytes of the outputs of a batch."""


def run_bytes(model: int) -> int:
    """Memory of a process with an onnxruntime session for a model of so many bytes."""
    return (8 << 30) + 8 * model

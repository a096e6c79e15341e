"""What the standard says of an operator's attributes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from onnx import NodeProto, defs


def unknown_attributes(node: NodeProto, opset: int) -> str:
    """Why the attributes of a standard node cannot be trusted to mean what the rules take them for; empty if they can.

    A runtime may refuse what it does not know, or give it a meaning of its own; either way it is not the operator that
    the standard describes.
    """
    known = _attributes(node.op_type, opset)
    if known is None:
        return ""
    seen = set()
    for entry in node.attribute:
        if entry.name not in known:
            return f"the standard knows no attribute {entry.name!r} of it"
        if entry.name in seen:
            return f"its attribute {entry.name!r} is given twice"
        if entry.type != known[entry.name]:
            return f"its attribute {entry.name!r} is not of the type that the standard has it"
        seen.add(entry.name)
    return ""


@lru_cache(maxsize=1024)
def _attributes(kind: str, opset: int) -> Mapping[str, int] | None:
    """The types of an operator's attributes by name; ``None`` for an operator that the standard does not know."""
    try:
        known: Mapping[str, Any] = defs.get_schema(kind, opset).attributes
    except (defs.SchemaError, TypeError):  # an unknown one; a version that is no 32-bit integer
        return None
    return {name: entry.type.value for name, entry in known.items()}

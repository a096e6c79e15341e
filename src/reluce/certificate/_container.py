"""The file format of certificates, as ``docs/certificate.md`` has it: a JSON text and the arrays it refers to, in zlib.

The reader is ``reluce_checker._container``, which shares no code with this.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

import numpy as np

MAGIC = b"RELUCERT"
VERSION = 1
TYPES = {"<f8": "f8", "<i8": "i8", "<i4": "i4", "<u2": "u2", "|u1": "u1", "|i1": "s1"}


def pack(text: dict[str, Any]) -> bytes:
    """The bytes of a certificate.

    Parameters
    ----------
    text
        JSON values, and numpy arrays of the types in ``TYPES`` anywhere among them.
    """
    parts: list[bytes] = []
    end = 0

    def referred(value: Any) -> Any:
        nonlocal end
        if isinstance(value, np.ndarray):
            kind, data = TYPES[value.dtype.newbyteorder("<").str], np.ascontiguousarray(value).tobytes()
            parts.append(data)
            end += len(data)
            return {"array": [end - len(data), kind, list(value.shape)]}
        if isinstance(value, dict):
            return {key: referred(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [referred(part) for part in value]
        return value

    head = json.dumps(referred(text), separators=(",", ":"), allow_nan=False).encode()
    body = struct.pack("<Q", len(head)) + head + b"".join(parts)
    return MAGIC + struct.pack("<IQ", VERSION, len(body)) + zlib.compress(body, 9)

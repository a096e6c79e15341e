"""Networks as ONNX."""

from __future__ import annotations

from reluce.errors import ModelError
from reluce.network import Network


def as_onnx(network: Network, name: str = "model") -> bytes:
    """Not yet."""
    raise ModelError(f"{name} cannot be written as ONNX")

"""Models of every kind: read into a network, and built anew with what no rewrite touched left as it was."""

from reluce.io._files import commit, demand_writable, read_bytes, replace_file, write_temporary
from reluce.io._kinds import hand_over, measure, rebuild, runtime
from reluce.io._load import load, loads
from reluce.io._loaded import Group, Loaded, OnnxLoaded, Ranges, Runtime, Scaling, Sizes
from reluce.io._open import open_model, to_torch
from reluce.io._write import serialise

__all__ = [
    "Group",
    "Loaded",
    "OnnxLoaded",
    "Ranges",
    "Runtime",
    "Scaling",
    "Sizes",
    "commit",
    "demand_writable",
    "hand_over",
    "load",
    "loads",
    "measure",
    "open_model",
    "read_bytes",
    "rebuild",
    "replace_file",
    "runtime",
    "serialise",
    "to_torch",
    "write_temporary",
]

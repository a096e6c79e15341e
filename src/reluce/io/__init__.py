"""ONNX files: read into a network, written back with what no rewrite touched left as it was."""

from reluce.io._files import commit, demand_writable, read_bytes, replace_file, write_temporary
from reluce.io._load import load, loads
from reluce.io._loaded import Group, Loaded, Ranges, Sizes
from reluce.io._measure import measure
from reluce.io._write import serialise

__all__ = [
    "Group",
    "Loaded",
    "Ranges",
    "Sizes",
    "commit",
    "demand_writable",
    "load",
    "loads",
    "measure",
    "read_bytes",
    "replace_file",
    "serialise",
    "write_temporary",
]

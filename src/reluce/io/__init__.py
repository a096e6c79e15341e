"""Models of every kind: read into a network, and built anew with what no rewrite touched left as it was."""

from reluce.io._as_onnx import as_onnx
from reluce.io._files import beside, demand_writable, replace_file
from reluce.io._guard import GUARD, demand_guardable, guarded, inward, unreachable
from reluce.io._kinds import hand_over, measure, onnx_bytes, puts_out_logits, rebuild, runtime, takes_selections
from reluce.io._load import load, loads
from reluce.io._loaded import Group, Loaded, OnnxLoaded, Ranges, Runtime, Scaling, Sizes
from reluce.io._named_like import named_like
from reluce.io._open import open_model, to_torch
from reluce.io._save import Output, demand_output, save
from reluce.io._write import serialise

__all__ = [
    "GUARD",
    "Group",
    "Loaded",
    "OnnxLoaded",
    "Output",
    "Ranges",
    "Runtime",
    "Scaling",
    "Sizes",
    "as_onnx",
    "beside",
    "demand_guardable",
    "demand_output",
    "demand_writable",
    "guarded",
    "hand_over",
    "inward",
    "load",
    "loads",
    "measure",
    "named_like",
    "onnx_bytes",
    "open_model",
    "puts_out_logits",
    "rebuild",
    "replace_file",
    "runtime",
    "save",
    "serialise",
    "takes_selections",
    "to_torch",
    "unreachable",
]

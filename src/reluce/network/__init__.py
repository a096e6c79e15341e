"""The network: operations, the immutable graph, and what it computes (float64 and exact)."""

from reluce.network._dyadic import Dyadic, concatenate
from reluce.network._evaluate import activation, at_once, evaluate, scatter
from reluce.network._graph import Network, Node, Tensor, validate
from reluce.network._ops import (
    Activation,
    Add,
    Affine,
    Array,
    BatchNorm,
    Constant,
    Dense,
    Op,
    Opaque,
    Relu,
    Select,
    Softmax,
    readonly,
)

__all__ = [
    "Activation",
    "Add",
    "Affine",
    "Array",
    "BatchNorm",
    "Constant",
    "Dense",
    "Dyadic",
    "Network",
    "Node",
    "Op",
    "Opaque",
    "Relu",
    "Select",
    "Softmax",
    "Tensor",
    "activation",
    "at_once",
    "concatenate",
    "evaluate",
    "readonly",
    "scatter",
    "validate",
]

"""An ATen operation on its way into the network, and the formats that torch and ONNX share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from onnx import NodeProto, TensorProto, helper
from torch import fx

from reluce.io._scope import Made, NotModelled, Scope, Value
from reluce.io._torch_program import arguments
from reluce.network import readonly

ELEMENTS: Mapping[torch.dtype, int] = {
    torch.float16: TensorProto.FLOAT16,
    torch.float32: TensorProto.FLOAT,
    torch.float64: TensorProto.DOUBLE,
    torch.bool: TensorProto.BOOL,
    torch.uint8: TensorProto.UINT8,
    torch.int8: TensorProto.INT8,
    torch.int16: TensorProto.INT16,
    torch.int32: TensorProto.INT32,
    torch.int64: TensorProto.INT64,
}


@dataclass(frozen=True, eq=False)
class Call:
    """An ATen operation on its way into the network.

    Parameters
    ----------
    scope
        All tensors known so far.
    node
        The operation in torch's graph.
    names
        The names of the tensors that nodes of torch's graph give.
    outputs
        The names of its own results: one, or one for each element of a tuple (empty where nobody reads it).
    """

    scope: Scope
    node: fx.Node
    names: Mapping[fx.Node, str]
    outputs: tuple[str, ...]

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments by their names in the operation's schema, with its defaults."""
        return arguments(self.node)

    @property
    def output(self) -> str:
        """The name of the only result."""
        return self.outputs[0]

    def tensor(self, value: Any) -> str:
        """The name of an argument that must be a tensor."""
        if not isinstance(value, fx.Node) or value not in self.names:
            raise NotModelled("an argument is no tensor")
        return self.names[value]

    def constant(self, value: Any, like: str, what: str) -> str:
        """The name of a constant of the element type of ``like``: a plain number, as torch converts it."""
        if isinstance(value, fx.Node):
            return self.tensor(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise NotModelled(f"{what} is no plain number")
        kind = self.scope.values[like]
        with np.errstate(over="ignore"):
            array = readonly(np.array(value, kind.dtype))
        if kind.elem == TensorProto.FLOAT16 and float(array) != float(np.float32(value)):
            raise NotModelled(f"torch computes with {value} in float32")
        name = self.scope.fresh(f"{self.output}/{what}")
        self.scope.values[name] = Value(kind.elem, (), (array,), fixed=True)
        return name

    def proto(self, kind: str, inputs: list[str], **flags: Any) -> NodeProto:
        """The ONNX node of one result that means the same."""
        return helper.make_node(kind, inputs, [self.output], **flags)


Rule = Callable[[Call], tuple[Made, ...]]

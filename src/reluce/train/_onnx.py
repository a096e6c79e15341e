"""A trained network as an ONNX file, written directly: the same bytes with every version of torch, convolutions too."""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from reluce.errors import UsageError

OPSET, IR_VERSION = 13, 7
INPUT, OUTPUT, BATCH = "input", "output", "N"
METADATA = "training_recipe"
"""Under which key a recipe is stored. What begins with ``reluce.`` would say that the file is a compressed one."""


def to_onnx(model: nn.Sequential, shape: tuple[int, ...], metadata: Mapping[str, str] | None = None) -> bytes:
    """Write an ``nn.Sequential`` of ``Flatten``, ``Unflatten``, ``Linear``, ``Conv2d`` and ``ReLU`` as ONNX.

    Parameters
    ----------
    model
        The network; what it gives are called ``layer1``, ``relu1``, ``layer2``, ... and in the end ``output``.
    shape
        Of one sample of its input, ``input``. The batch axis is open.
    metadata
        Texts to store with it.

    Returns
    -------
    bytes
        Always the same for the same arguments.

    Raises
    ------
    UsageError
        When the model holds another layer.
    """
    writer = _Graph(len(model))
    for layer in model:
        _write(layer, writer)
    last = model[-1]
    if not isinstance(last, nn.Linear):
        raise UsageError(f"the last layer is a {type(last).__name__}; it must be Linear")
    result: bytes = _model(writer, shape, last.out_features, metadata or {}).SerializeToString(deterministic=True)
    return result


class _Graph:
    """Nodes and weights as they are written."""

    def __init__(self, layers: int) -> None:
        self.layers, self.written, self.number = layers, 0, 0
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self.value = INPUT

    def constant(self, name: str, value: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, kind: str, name: str, *constants: str, **attributes: Any) -> None:
        self.written += 1
        result = OUTPUT if self.written == self.layers else name
        self.nodes.append(helper.make_node(kind, [self.value, *constants], [result], name=name, **attributes))
        self.value = result

    def layer(self, kind: str, weight: Tensor, bias: Tensor | None, **attributes: Any) -> None:
        self.number += 1
        name = f"layer{self.number}"
        given = {f"{name}.weight": weight, f"{name}.bias": bias}
        stored = [self.constant(key, value.detach().numpy()) for key, value in given.items() if value is not None]
        self.node(kind, name, *stored, **attributes)


@singledispatch
def _write(layer: Any, graph: _Graph) -> None:
    raise UsageError(f"no rule to write a {type(layer).__name__} as ONNX; compress the module itself instead")


@_write.register
def _linear(layer: nn.Linear, graph: _Graph) -> None:
    graph.layer("Gemm", layer.weight, layer.bias, transB=1)


@_write.register
def _convolution(layer: nn.Conv2d, graph: _Graph) -> None:
    if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
        raise UsageError("no rule to write a Conv2d with this padding as ONNX; compress the module itself instead")
    attributes = {
        "kernel_shape": layer.kernel_size,
        "strides": layer.stride,
        "pads": (*layer.padding, *layer.padding),
        "dilations": layer.dilation,
        "group": layer.groups,
    }
    graph.layer("Conv", layer.weight, layer.bias, **attributes)


@_write.register
def _relu(layer: nn.ReLU, graph: _Graph) -> None:
    graph.node("Relu", f"relu{graph.number}")


@_write.register
def _flatten(layer: nn.Flatten, graph: _Graph) -> None:
    if (layer.start_dim, layer.end_dim) != (1, -1):
        raise UsageError("no rule to write a Flatten of some axes as ONNX; compress the module itself instead")
    graph.node("Flatten", "flat", axis=1)


@_write.register
def _unflatten(layer: nn.Unflatten, graph: _Graph) -> None:
    if layer.dim != 1 or not isinstance(layer.unflattened_size, tuple):
        raise UsageError("no rule to write this Unflatten as ONNX; compress the module itself instead")
    # 0 keeps an axis as it is. Behind axis 1 there is one more, the width of an image.
    target = np.array([0, *layer.unflattened_size, -1], np.int64)
    graph.node("Reshape", "image", graph.constant("image.shape", target))


def _model(graph: _Graph, shape: tuple[int, ...], classes: int, metadata: Mapping[str, str]) -> ModelProto:
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH, *rest])
        for name, rest in ((INPUT, shape), (OUTPUT, (classes,)))
    ]
    body = helper.make_graph(graph.nodes, "trained", ends[:1], ends[1:], graph.constants)
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(body, opset_imports=opsets, ir_version=IR_VERSION, producer_name="reluce")
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    return model

"""Small ONNX models whose units are known by hand, and a plain way to run any model."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from reluce.io import loads
from reluce.network import evaluate

Array = np.ndarray[Any, Any]
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DIGITS = EXAMPLES / "digits.onnx"
ELEMENTS = {np.float16: TensorProto.FLOAT16, np.float32: TensorProto.FLOAT, np.float64: TensorProto.DOUBLE}

# Rows of the first layer of `known`, on [0, 1]^2: what each unit is.
#            inactive      active  active  their sum  constant 2  unstable
KNOWN_W1 = [[1, 1], [1, 0], [0, 1], [1, 1], [0, 0], [1, -1]]
KNOWN_B1 = [-3, 1, 2, 3, 2, 0]
KNOWN_W2 = [[5, 1, 2, 3, 7, -1], [1, -1, 1, -1, 1, 4]]
KNOWN_B2 = [1, -2]


def build(
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Mapping[str, Sequence[int | str]],
    constants: Mapping[str, Array],
    dtype: Any = np.float32,
) -> ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info(name, ELEMENTS[dtype], shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, ELEMENTS[dtype], shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def chain(layers: Sequence[tuple[Any, Any]], dtype: Any = np.float32, batch: int | str = "N") -> ModelProto:
    """Gemm - Relu - ... - Gemm with input ``x``, ReLUs ``h1``, ``h2``.. and output ``y``; weights ``W1``, ``b1``.."""
    nodes, constants, source = [], {}, "x"
    for number, (weight, bias) in enumerate(layers, 1):
        constants[f"W{number}"], constants[f"b{number}"] = np.asarray(weight, dtype), np.asarray(bias, dtype)
        last = number == len(layers)
        made = "y" if last else f"z{number}"
        nodes.append(helper.make_node("Gemm", [source, f"W{number}", f"b{number}"], [made], transB=1))
        if not last:
            nodes.append(helper.make_node("Relu", [made], [f"h{number}"]))
            source = f"h{number}"
    width, depth = np.shape(layers[0][0])[1], np.shape(layers[-1][0])[0]
    return build(nodes, {"x": [batch, width]}, {"y": [batch, depth]}, constants, dtype)


def known(dtype: Any = np.float32, batch: int | str = "N") -> ModelProto:
    """One hidden layer: on [0, 1]^2 one unit inactive, three active and dependent, one constant, one unstable."""
    return chain([(KNOWN_W1, KNOWN_B1), (KNOWN_W2, KNOWN_B2)], dtype, batch)


def beyond_intervals() -> ModelProto:
    """On [-1, 1]^2 intervals leave the second layer open: one inactive, two active, one unstable unit."""
    first = [[1, 1], [-1, -1], [1, -1]], [0, 0, 0.25]
    second = [[1, 1, 0], [-1, -1, 0], [-1, -1, 0], [1, -1, 1]], [-2.5, 2.5, 3, 0.5]
    return chain([first, second, ([[1, 1, 1, 1], [3, 1, -1, 2]], [0, 1])])


def all_unstable() -> ModelProto:
    """Nothing can go on [0, 1]^2."""
    return chain([([[1, -1], [-1, 1]], [0, 0.25]), ([[1, 2]], [0])])


def random_chain(widths: Sequence[int], seed: int = 0, dtype: Any = np.float32) -> ModelProto:
    generator = np.random.default_rng([seed, *widths])
    layers = [(generator.normal(size=(m, n)) / np.sqrt(n), generator.normal(size=m) * 0.3) for n, m in pairwise(widths)]
    return chain(layers, dtype)


def two_inputs() -> ModelProto:
    """``y = W [relu(Wa a + ba) + relu(Wb b + bb)]``, one ReLU per input."""
    nodes = [
        helper.make_node("Gemm", ["a", "Wa", "ba"], ["za"], transB=1),
        helper.make_node("Relu", ["za"], ["ha"]),
        helper.make_node("Gemm", ["b", "Wb", "bb"], ["zb"], transB=1),
        helper.make_node("Relu", ["zb"], ["hb"]),
        helper.make_node("Add", ["ha", "hb"], ["sum"]),
        helper.make_node("Gemm", ["sum", "W", "c"], ["y"], transB=1),
    ]
    f = np.float32
    constants = {
        "Wa": np.array([[1, 1], [1, -1], [1, 0]], f),
        "ba": np.array([-9, 0, 1], f),
        "Wb": np.array([[1], [1], [-1]], f),
        "bb": np.array([-9, 0, 0.5], f),
        "W": np.array([[1, 2, 3]], f),
        "c": np.array([0.5], f),
    }
    return build(nodes, {"a": ["N", 2], "b": ["N", 1]}, {"y": ["N", 1]}, constants)


def residual() -> ModelProto:
    """``h1 = relu(W1 x)``, ``h2 = relu(W2 h1) + h1``, ``y = W3 h2``; unit 0 of both layers is inactive on [0, 1]^2."""
    nodes = [
        helper.make_node("Gemm", ["x", "W1", "b1"], ["z1"], transB=1),
        helper.make_node("Relu", ["z1"], ["h1"]),
        helper.make_node("Gemm", ["h1", "W2", "b2"], ["z2"], transB=1),
        helper.make_node("Relu", ["z2"], ["h2"]),
        helper.make_node("Add", ["h1", "h2"], ["sum"]),
        helper.make_node("Gemm", ["sum", "W3", "b3"], ["y"], transB=1),
    ]
    f = np.float32
    constants = {
        "W1": np.array([[1, 1], [1, -1], [-1, 1]], f),
        "b1": np.array([-5, 0, 0.5], f),
        "W2": np.array([[1, 1, 1], [1, -1, 1], [1, 1, -1]], f),
        "b2": np.array([-50, 0.25, 0], f),
        "W3": np.array([[1, 1, 1], [1, 2, 3]], f),
        "b3": np.array([0, 1], f),
    }
    return build(nodes, {"x": ["N", 2]}, {"y": ["N", 2]}, constants)


def opaque_between(kind: str = "Erf") -> ModelProto:
    """``known``, an operation that Reluce does not model, and another layer behind it."""
    f = np.float32
    nodes = [
        helper.make_node("Gemm", ["x", "W1", "b1"], ["z1"], transB=1),
        helper.make_node("Relu", ["z1"], ["h1"]),
        helper.make_node("Gemm", ["h1", "W2", "b2"], ["z2"], transB=1),
        helper.make_node(kind, ["z2"], ["o"]),
        helper.make_node("Gemm", ["o", "W3", "b3"], ["z3"], transB=1),
        helper.make_node("Relu", ["z3"], ["h3"]),
        helper.make_node("Gemm", ["h3", "W4", "b4"], ["y"], transB=1),
    ]
    constants = {
        "W1": np.array(KNOWN_W1, f),
        "b1": np.array(KNOWN_B1, f),
        "W2": np.array(KNOWN_W2, f),
        "b2": np.array(KNOWN_B2, f),
        "W3": np.array([[1, -1], [-1, 1], [1, 1]], f),
        "b3": np.array([0, 0, -1], f),
        "W4": np.array([[1, 1, 1]], f),
        "b4": np.array([0], f),
    }
    return build(nodes, {"x": ["N", 2]}, {"y": ["N", 1]}, constants)


def saved(model: ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def run(model: Path | bytes, **feeds: Array) -> list[Array]:
    """What onnxruntime computes without graph optimisation."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    data = model if isinstance(model, bytes) else model.read_bytes()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(None, feeds)]


def exact_output(model: ModelProto, point: Sequence[Fraction]) -> list[Fraction]:
    """A chain of Gemm, ReLU and Gather in exact arithmetic, or a network that is constant."""
    if not {node.op_type for node in model.graph.node} <= {"Gemm", "Relu", "Gather"}:
        network = loads(model.SerializeToString()).network
        (found,) = evaluate(network, {"x": np.array([[float(value) for value in point]])})["y"]
        return [Fraction(value) for value in found.tolist()]
    values = list(point)
    for node in model.graph.node:
        if node.op_type == "Relu":
            values = [max(value, Fraction(0)) for value in values]
            continue
        if node.op_type == "Gather":
            values = [values[place] for place in weight(model, node.input[1]).ravel()]
            continue
        options = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        W, b = (weight(model, name).astype(np.float64).tolist() for name in node.input[1:])
        rows = W if options.get("transB", 0) else list(zip(*W, strict=True))
        values = [
            sum((Fraction(w) * value for w, value in zip(row, values, strict=True)), Fraction(shift))
            for row, shift in zip(rows, b, strict=True)
        ]
    return values


def weight(model: ModelProto, name: str) -> Array:
    return next(numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name == name)


def with_weight(model: ModelProto, name: str, value: Array) -> ModelProto:
    """A copy with another value of an initialiser."""
    copy = ModelProto()
    copy.CopyFrom(model)
    (tensor,) = (tensor for tensor in copy.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(value), name))
    return copy

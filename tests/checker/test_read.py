"""The checker's reader: against the reader of ``reluce``, which it shares no code with, and what it refuses."""

import gzip
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from reluce import Exact, Settings, Within, compress
from reluce import network as ir
from reluce.io import loads, open_model
from reluce_checker import _read
from reluce_checker._errors import Unreadable
from reluce_checker._graph import (
    BatchNorm,
    Constant,
    Dense,
    Graph,
    Monotone,
    Node,
    Opaque,
    Relu,
    Scale,
    Select,
    Softmax,
)
from reluce_checker._read import read_graph
from reluce_checker._read_call import known

Array = np.ndarray[Any, Any]
FOLDER = Path(os.environ.get("RELUCE_DATA") or Path(__file__).resolve().parents[3] / "shared") / "networks"
FILES = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.onnx*")) or [
    "the folder of networks is missing"
]
node = helper.make_node
f32 = np.float32

# What the checker models and reluce does not: with the batch fixed to 1 these constants and shapes are known.
MORE = {
    "Squeeze": "a sample behind an RNN, which reluce does not follow where the batch is not axis 0",
    "MatMul": "a product of constants",
    "Add": "a sum of constants",
    "Mul": "a product of constants",
    "Sub": "what reads such a product",
    "Relu": "what reads such a sum",
}
# What reluce models and the checker does not, for want of a shape behind these operators.
LESS = {
    "vnncomp2023/cgan/cGAN_imgSz32_nCh_3_upsample.onnx.gz": "Upsample",
    "vnncomp2023/cctsdb_yolo/patch-1.onnx.gz": "whole numbers that are computed from the input, Resize",
    "vnncomp2024/ACC/NET_0_1.5_5.onnx.gz": "float32 weights on float64 tensors, against the standard",
    "vnncomp2024/drones_1d_hovering/AC1.onnx.gz": "float32 weights on float64 tensors, against the standard",
}
KINDS = {"Affine": "Scale", "Activation": "Monotone"}


def bits(array: Array | None) -> tuple[str, tuple[int, ...], bytes] | None:
    return None if array is None else (array.dtype.name, array.shape, np.ascontiguousarray(array).tobytes())


def theirs(op: ir.Op, batched: bool, rank: int) -> tuple[Any, ...]:
    """The parameters of reluce's op, those of sample shape with a batch axis in front."""

    def whole(array: Array | None) -> Any:
        return bits(array[None] if array is not None and batched else array)

    match op:
        case ir.Dense():
            return (bits(op.weight), bits(op.bias), op.alpha, op.beta)
        case ir.Affine():
            return (whole(op.scale), whole(op.shift), op.divide)
        case ir.BatchNorm():
            return (whole(op.scale), whole(op.shift), whole(op.mean), whole(op.variance), op.epsilon)
        case ir.Activation():
            return (op.function, op.parameters)
        case ir.Softmax():
            return (op.axis % rank, op.log)
        case ir.Select():
            return (bits(op.indices),)
        case ir.Constant():
            return (whole(op.value),)
        case _:
            return ()


def ours(op: Any) -> tuple[Any, ...]:
    match op:
        case Dense():
            return (bits(op.weight), bits(op.bias), op.alpha, op.beta)
        case Scale():
            return (bits(op.factor), bits(op.shift), op.divide)
        case BatchNorm():
            return (bits(op.scale), bits(op.shift), bits(op.mean), bits(op.variance), op.epsilon)
        case Monotone():
            return (op.function, op.parameters)
        case Softmax():
            return (op.axis, op.log)
        case Select():
            return (bits(op.indices),)
        case Constant():
            return (bits(op.value),)
        case _:
            return ()


def assert_same_node(network: ir.Network, graph: Graph, old: ir.Node) -> None:
    new, tensor = graph.producer[old.output], network.tensors[old.output]
    shape = tensor.shape if tensor.shape is None or not network.batched else (1, *tensor.shape)
    assert type(new.op).__name__ == KINDS.get(type(old.op).__name__, type(old.op).__name__), old
    assert graph.shapes[old.output] == shape
    assert graph.formats[old.output] == tensor.dtype.name
    assert shape is not None
    assert ours(new.op) == theirs(old.op, network.batched, len(shape))
    if not isinstance(old.op, ir.Constant):  # reluce's have an input that tells the size of the batch
        assert new.inputs == old.inputs


def assert_agree(network: ir.Network, graph: Graph, excuse: str = "") -> None:
    """Every node that reluce models is the same in the checker's graph; others are opaque there, but for ``MORE``."""
    assert (graph.inputs, graph.outputs) == (network.inputs, network.outputs)
    for old in network.nodes:
        if not isinstance(old.op, ir.Opaque):
            new = graph.producer.get(old.output)
            if excuse and (new is None or isinstance(new.op, Opaque)):
                continue
            assert_same_node(network, graph, old)
    fused = {name for node in network.opaque for name in node.outputs} - graph.producer.keys()
    for old in network.opaque:
        kept = [graph.producer[name].op for name in old.outputs if name in graph.producer]
        assert kept or fused
        assert isinstance(old.op, ir.Opaque)
        assert all(isinstance(op, Opaque) for op in kept) or old.op.kind in MORE


@pytest.mark.shared
@pytest.mark.parametrize("name", FILES)
def test_a_public_network_is_read_as_reluce_reads_it(name: str, shared: Path) -> None:
    path = shared / "networks" / name
    data = gzip.decompress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes()
    graph = read_graph(data)
    assert_agree(open_model(path).network, graph, LESS.get(name, ""))
    assert_batches_are_apart(graph, read_graph(data, 2))


def assert_batches_are_apart(one: Graph, two: Graph) -> None:
    """The same nodes; data movement of two samples is that of one, twice."""
    assert one.producer.keys() == two.producer.keys()
    free = any(one.shapes[name] != two.shapes[name] for name in one.inputs)
    for old in one.nodes:
        new = two.producer[old.outputs[0]]
        assert (type(new.op), new.inputs, new.outputs) == (type(old.op), old.inputs, old.outputs)
        if free and isinstance(old.op, Select) and isinstance(new.op, Select):
            assert_twice(one, two, old, new)


def assert_twice(one: Graph, two: Graph, old: Node, new: Node) -> None:
    assert isinstance(old.op, Select)
    assert isinstance(new.op, Select)
    starts, begin = [], 0
    for name in old.inputs:
        if one.shapes[name] == two.shapes[name]:  # a constant
            return
        starts.append((begin, one.size(name)))
        begin += one.size(name)
    where = np.empty((2, begin), np.int64)  # the places of both samples' elements in the tensors of batch 2
    for start, size in starts:
        where[:, start : start + size] = 2 * start + np.arange(2 * size).reshape(2, size)
    np.testing.assert_array_equal(np.concatenate([where[0][old.op.indices], where[1][old.op.indices]]), new.op.indices)


def model(
    nodes: Sequence[NodeProto],
    constants: Mapping[str, Array] | None = None,
    shape: Sequence[int | str] = ("N", 3),
    version: int = 17,
    elem: int = TensorProto.FLOAT,
    output: str = "y",
) -> ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", elem, shape)],
        [helper.make_tensor_value_info(output, elem, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=8)


def numbers(*shape: int) -> Array:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(f32)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


W, B = numbers(3, 2), numbers(2)
TINY = [
    tiny_models.known(),
    tiny_models.known(np.float64, 1),
    tiny_models.known(np.float16),
    tiny_models.beyond_intervals(),
    tiny_models.two_inputs(),
    tiny_models.residual(),
    tiny_models.opaque_between(),
    model([node("MatMul", ["x", "W"], ["p"]), node("Add", ["B", "p"], ["y"])], {"W": W, "B": B}),
    model([node("MatMul", ["x", "W"], ["p"]), node("Add", ["p", "p"], ["y"])], {"W": W}),
    model([node("MatMul", ["x", "W"], ["y"])], {"W": numbers(3)}),
    model([node("MatMul", ["W", "x"], ["y"])], {"W": numbers(2, 3)}, ("N", 3, 4)),
    model([node("Gemm", ["x", "W", "B"], ["y"], alpha=0.5, beta=3.0)], {"W": W, "B": B}),
    model([node("Gemm", ["x", "W", "B"], ["y"], beta=0.0)], {"W": W, "B": B}),
    model([node("Sub", ["C", "x"], ["h"]), node("Div", ["h", "C"], ["y"])], {"C": numbers(3)}),
    model([node("Mul", ["x", "C"], ["h"]), node("Neg", ["h"], ["y"])], {"C": numbers(4, 3)}, ("N", 1, 3)),
    model([node("Add", ["x", "x"], ["h"]), node("Sub", ["h", "x"], ["y"])]),
    model([node("Relu", ["x"], ["h"]), node("Sum", ["h", "x"], ["y"])]),
    model([node("LeakyRelu", ["x"], ["h"]), node("Elu", ["h"], ["g"]), node("HardSigmoid", ["g"], ["y"])]),
    model([node("Clip", ["x", "", "C"], ["h"]), node("Softmax", ["h"], ["y"])], {"C": np.array(2.0, f32)}),
    model([node("Clip", ["x", "C"], ["y"])], {"C": np.array(-np.inf, f32)}),
    model([node("Clip", ["x"], ["h"], min=-1.0, max=2.0), node("LogSoftmax", ["h"], ["y"])], version=9),
    model([node("BatchNormalization", ["x", *"abcd"], ["y"])], {name: np.abs(numbers(3)) + 1 for name in "abcd"}),
    model([node("Transpose", ["x"], ["h"], perm=[0, 2, 1]), node("Flatten", ["h"], ["y"])], {}, ("N", 3, 4)),
    model([node("Slice", ["x", "a", "b", "c", "d"], ["y"])], dict(zip("abcd", map(ints, (3, -9, 1, -2)), strict=True))),
    model([node("Slice", ["x"], ["y"], starts=[1], ends=[9], axes=[1])], version=9),
    model([node("Gather", ["x", "k"], ["y"], axis=1)], {"k": np.array([[2, -3], [0, 0]])}),
    model(
        [node("Split", ["x", "k"], ["a", "b"], axis=1), node("Concat", ["b", "x", "a", "b"], ["y"], axis=1)],
        {"k": ints(1, 2)},
    ),
    model([node("Unsqueeze", ["x", "k"], ["h"]), node("Tile", ["h", "t"], ["y"])], {"k": ints(1), "t": ints(1, 2, 2)}),
    model(
        [node("Expand", ["x", "k"], ["h"]), node("Squeeze", ["h", "l"], ["y"])],
        {"k": ints(1, 4, 3), "l": ints(2)},
        (1, 1, 3),
    ),
    model([node("Concat", ["x", "C"], ["y"], axis=1)], {"C": numbers(1, 3)}, (1, 3)),
    model([node("Dropout", ["x"], ["h", "mask"]), node("Identity", ["h"], ["y"])]),
    model([node("Cast", ["x"], ["y"], to=TensorProto.DOUBLE)]),
    model(
        [node("Conv", ["x", "K"], ["h"], pads=[1, 0, 1, 0], strides=[2, 1]), node("Flatten", ["h"], ["y"])],
        {"K": numbers(2, 3, 3, 3)},
        ("N", 3, 7, 7),
    ),
    model(
        [
            node("Conv", ["x", "K"], ["h"], auto_pad="SAME_UPPER", strides=[2, 2], group=3),
            node("Flatten", ["h"], ["y"]),
        ],
        {"K": numbers(6, 1, 3, 3)},
        ("N", 3, 7, 8),
    ),
    model(
        [node("Conv", ["x", "K"], ["h"], auto_pad="VALID", dilations=[2, 1]), node("Flatten", ["h"], ["y"])],
        {"K": numbers(6, 3, 3, 3)},
        ("N", 3, 7, 8),
    ),
    model(
        [
            node("ConvTranspose", ["x", "K"], ["h"], strides=[2, 3], output_padding=[1, 0], pads=[1, 1, 0, 1]),
            node("Flatten", ["h"], ["y"]),
        ],
        {"K": numbers(3, 2, 3, 3)},
        ("N", 3, 4, 5),
    ),
    model(
        [node("MaxPool", ["x"], ["h"], kernel_shape=[2, 2], strides=[2, 2]), node("Flatten", ["h"], ["y"])],
        {},
        ("N", 3, 7, 8),
    ),
    model(
        [node("AveragePool", ["x"], ["h"], kernel_shape=[2, 3], ceil_mode=1), node("Flatten", ["h"], ["y"])],
        {},
        ("N", 3, 7, 8),
    ),
    model([node("Pad", ["x", "k"], ["h"]), node("Flatten", ["h"], ["y"])], {"k": ints(0, 0, 1, 0, 0, 2)}, ("N", 3, 4)),
    model([node("ReduceMean", ["x"], ["h"], axes=[-1], keepdims=0), node("Relu", ["h"], ["y"])], {}, ("N", 3, 4)),
    model([node("ReduceSum", ["x", "k"], ["h"]), node("Relu", ["h"], ["y"])], {"k": ints(1)}, ("N", 3, 4)),
    model(
        [node("MatMul", ["x", "x"], ["h"]), node("Mul", ["h", "x"], ["g"]), node("Relu", ["g"], ["y"])], {}, ("N", 4, 4)
    ),
    model([node("Constant", [], ["W"], value=numpy_helper.from_array(W)), node("MatMul", ["x", "W"], ["y"])]),
    model(
        [node("Transpose", ["V"], ["W"]), node("Neg", ["W"], ["U"]), node("MatMul", ["x", "U"], ["y"])],
        {"V": W.T.copy()},
    ),
    model(
        [
            node("Shape", ["x"], ["s"]),
            node("Gather", ["s", "zero"], ["n"]),
            node("Unsqueeze", ["n", "zeros"], ["m"]),
            node("Concat", ["m", "rest"], ["t"], axis=0),
            node("Reshape", ["x", "t"], ["y"]),
        ],
        {"zero": np.array(0), "zeros": ints(0), "rest": ints(-1)},
        ("N", 3, 4),
    ),
]


@pytest.mark.parametrize("number", range(len(TINY)))
def test_a_small_network_is_read_as_reluce_reads_it(number: int) -> None:
    data = TINY[number].SerializeToString()
    graph = read_graph(data)
    assert_agree(loads(data).network, graph)
    assert_batches_are_apart(graph, read_graph(data, 2))


def test_the_example_is_read_as_reluce_reads_it() -> None:
    data = tiny_models.DIGITS.read_bytes()
    assert_agree(loads(data).network, read_graph(data))


@pytest.mark.parametrize("number", range(9))
@pytest.mark.parametrize("level", [Exact(), Within(1e-3)], ids=str)
def test_a_compressed_file_keeps_the_names(number: int, level: Exact | Within, tmp_path: Path) -> None:
    """Each node of the compressed file stands for the node of the original that writes the tensors of its names."""
    source, target = tmp_path / "source.onnx", tmp_path / "target.onnx"
    source.write_bytes(TINY[number].SerializeToString())
    compress(source, "0,1", output=target, settings=Settings(level))
    for batch in (1, 2):
        old, new = (read_graph(path.read_bytes(), batch) for path in (source, target))
        assert (new.inputs, new.outputs) == (old.inputs, old.outputs)
        for found in new.nodes:
            known = old.producer[found.outputs[0]]
            assert found.outputs == known.outputs
            assert isinstance(found.op, type(known.op) | Constant)
            if isinstance(found.op, Opaque):
                assert (found.op, found.inputs) == (known.op, known.inputs)


def test_a_damaged_file_is_read_or_refused() -> None:
    """Nothing else is raised, and what is read hangs together."""
    generator = np.random.default_rng(0)
    for _ in range(600):
        data = bytearray(TINY[generator.integers(len(TINY))].SerializeToString())
        for _ in range(generator.integers(1, 4)):
            data[generator.integers(len(data))] = generator.integers(256)
        with suppress(Unreadable):
            graph = read_graph(bytes(data))
            known = set(graph.inputs)
            for found in graph.nodes:
                assert known.issuperset(found.inputs)
                known.update(found.outputs)
            assert known.issuperset(graph.outputs)


def only(proto: ModelProto) -> Node:
    (found,) = read_graph(proto.SerializeToString()).nodes
    return found


@pytest.mark.parametrize(
    "proto",
    [
        model([node("Relu", ["x"], ["y"], domain="com.example")]),
        model([node("Relu", ["x"], ["y"], unknown=1)]),
        model([node("Gemm", ["x", "W"], ["y"], transA=1)], {"W": numbers(4, 2)}, (4, 3)),
        model([node("Gemm", ["x", "W"], ["y"])], {"W": numbers(4, 2)}),
        model([node("Gemm", ["x", "W"], ["y"])], {"W": W.astype(np.float64)}),
        model([node("MatMul", ["x", "W"], ["y"])], {"W": numbers(2, 3, 2)}),
        model([node("Add", ["x", "C"], ["y"], broadcast=1)], {"C": numbers(3)}, version=6),
        model([node("Div", ["x", "C"], ["y"])], {"C": np.array([1, 0, 2], f32)}),
        model([node("Div", ["C", "x"], ["y"])], {"C": numbers(3)}),
        model([node("LeakyRelu", ["x"], ["y"], alpha=-0.5)]),
        model([node("Softmax", ["x"], ["y"], axis=0)]),
        model([node("Softmax", ["x"], ["y"], axis=1)], {}, ("N", 3, 4), 11),
        model([node("Reshape", ["x", "k"], ["y"])], {"k": ints(-1, 4)}),
        model(
            [node("Slice", ["x", "a", "b", "c", "d"], ["y"])],
            {"a": ints(-9), "b": ints(-9), "c": ints(1), "d": ints(-1)},
        ),
        model([node("Expand", ["x", "k"], ["y"])], {"k": ints(10**9, 1, 1)}),
        model([node("Relu", ["x"], ["y"])], {}, ("N", "M")),
        model([node("Relu", ["x"], ["y"])], elem=TensorProto.INT32),
        model([node("BatchNormalization", ["x", *"aaaa"], ["y"], training_mode=1)], {"a": np.ones(3, f32)}),
    ],
)
def test_what_is_not_understood_is_opaque(proto: ModelProto) -> None:
    assert isinstance(only(proto).op, Opaque)


def test_a_matmul_that_something_else_reads_stays_apart() -> None:
    tail = [node("Relu", ["p"], ["q"]), node("Add", ["s", "q"], ["y"])]
    proto = model([node("MatMul", ["x", "W"], ["p"]), node("Add", ["p", "B"], ["s"]), *tail], {"W": W, "B": B})
    kinds = [type(node.op) for node in read_graph(proto.SerializeToString()).nodes]
    assert kinds[:3] == [Dense, Scale, Relu]


def test_an_initialiser_among_the_inputs_is_a_constant() -> None:
    proto = model([node("MatMul", ["x", "W"], ["y"])], {"W": W})
    proto.graph.input.append(helper.make_tensor_value_info("W", TensorProto.FLOAT, [3, 2]))
    assert read_graph(proto.SerializeToString()).inputs == ("x",)


def signature(*nodes: NodeProto, functions: Sequence[Any] = (), **constants: Array) -> bytes:
    proto = model(nodes, constants)
    proto.functions.extend(functions)
    op = only(proto).op
    assert isinstance(op, Opaque)
    return op.signature


def branch(captured: str) -> NodeProto:
    inner = helper.make_graph(
        [node("Identity", [captured], ["r"])],
        "inner",
        [],
        [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)],
    )
    return node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)


def custom(version: int) -> Any:
    return helper.make_function(
        "d", "F", ["a"], ["b"], [node("Relu", ["a"], ["b"])], [helper.make_opsetid("", version)]
    )


def test_signatures_tell_opaque_nodes_apart() -> None:
    yes = np.array(True)
    found = [
        signature(node("Erf", ["x"], ["y"])),
        signature(node("Erf", ["x"], ["y"], domain="d")),
        signature(node("TopK", ["x", "k"], ["y"]), k=ints(1)),
        signature(node("TopK", ["x", "k"], ["y"]), k=ints(2)),
        signature(node("TopK", ["x", "k"], ["y"], axis=0), k=ints(2)),
        signature(node("TopK", ["x", "k"], ["", "y"]), k=ints(2)),
        signature(node("Foo", ["x", "", "x"], ["y"])),
        signature(node("Foo", ["x", "x"], ["y"])),
        signature(node("Foo", ["x", "k"], ["y"]), k=ints(1)),
        signature(node("Foo", ["k", "x"], ["y"]), k=ints(1)),
        signature(node("Foo", ["x", "k"], ["y"]), k=np.array([1], np.int32)),
        signature(branch("k"), c=yes, k=ints(1)),
        signature(branch("k"), c=yes, k=ints(2)),
        signature(branch("x"), c=yes),
        signature(node("F", ["x"], ["y"], domain="d"), functions=[custom(13)]),
        signature(node("F", ["x"], ["y"], domain="d"), functions=[custom(14)]),
    ]
    assert len(set(found)) == len(found)
    assert signature(node("TopK", ["x", "other"], ["y"], name="n"), other=ints(1)) == found[2]
    assert only(model([branch("x")], {"c": yes})).inputs == ("x",)


def spoil(change: Callable[[ModelProto], Any]) -> Callable[[], bytes]:
    def data() -> bytes:
        proto = model([node("Gemm", ["x", "W", "B"], ["h"]), node("Relu", ["h"], ["y"])], {"W": W, "B": B})
        change(proto)
        return bytes(proto.SerializeToString())

    return data


def external(proto: ModelProto) -> None:
    proto.graph.initializer[0].ClearField("raw_data")
    proto.graph.initializer[0].data_location = TensorProto.EXTERNAL


def hidden_external(proto: ModelProto) -> None:
    tensor = TensorProto(name="deep", data_location=TensorProto.EXTERNAL)
    inner = helper.make_graph(
        [node("Constant", [], ["r"], value=tensor)], "g", [], [helper.make_empty_tensor_value_info("r")]
    )
    proto.graph.node.append(node("If", ["W"], ["z"], then_branch=inner))


def both(proto: ModelProto) -> None:
    proto.graph.initializer[0].float_data.extend([1.0])


def misplaced(proto: ModelProto) -> None:
    tensor = proto.graph.initializer[1]
    tensor.ClearField("raw_data")
    tensor.double_data.extend([1.0, 2.0])


def wide(proto: ModelProto) -> None:
    proto.graph.initializer.append(TensorProto(name="k", dims=[1], data_type=TensorProto.INT8, int32_data=[300]))


def truth(proto: ModelProto) -> None:
    proto.graph.initializer.append(TensorProto(name="k", dims=[1], data_type=TensorProto.BOOL, raw_data=b"\x02"))


def number(value: float) -> Callable[[ModelProto], Any]:
    return lambda proto: proto.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.array([1, value], f32), "B"))


def attribute_twice(proto: ModelProto) -> None:
    proto.graph.node[0].attribute.extend([helper.make_attribute("alpha", 1.0), helper.make_attribute("alpha", 2.0)])


def sparse(proto: ModelProto) -> None:
    proto.graph.sparse_initializer.add().values.name = "s"


def two_versions(proto: ModelProto) -> None:
    proto.opset_import.append(helper.make_opsetid("ai.onnx", 12))


UNRELIABLE: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "holds no graph"),
    "no protobuf": (lambda: b"\xff" * 40, "cannot be parsed"),
    "cut short": (lambda: tiny_models.DIGITS.read_bytes()[:-100], "cannot be parsed"),
    "no text": (
        lambda: TINY[0].SerializeToString().replace(b"Gemm", b"Ge\xff\xff"),
        "a name in the file is no text",
    ),
    "no nodes": (spoil(lambda proto: proto.graph.ClearField("node")), "no node"),
    "external": (spoil(external), "'W' lies in an external file"),
    "external in a subgraph": (spoil(hidden_external), "'deep' lies in an external file"),
    "sparse": (spoil(sparse), "sparse initialisers"),
    "NaN": (spoil(number(np.nan)), "'B' holds numbers that are not finite"),
    "infinite": (spoil(number(np.inf)), "'B' holds numbers that are not finite"),
    "too few bytes": (
        spoil(lambda proto: proto.graph.initializer[0].dims.append(7)),
        "'W' of dimensions [3, 2, 7] needs 168 bytes",
    ),
    "negative": (
        spoil(lambda proto: proto.graph.initializer[0].dims.__setitem__(0, -3)),
        "'W' has a negative dimension [-3, 2]",
    ),
    "two kinds of data": (spoil(both), "'W' of dimensions [3, 2] needs 24 bytes of raw data and no others"),
    "data in another field": (spoil(misplaced), "'B' of dimensions [2] needs 2 numbers in float_data"),
    "too wide": (spoil(wide), "'k' holds numbers that are no int8"),
    "no truth value": (spoil(truth), "'k' holds truth values other than 0 and 1"),
    "initialiser twice": (
        spoil(lambda proto: proto.graph.initializer.append(proto.graph.initializer[0])),
        "two initialisers are called 'W'",
    ),
    "input twice": (
        spoil(lambda proto: proto.graph.input.append(proto.graph.input[0])),
        "two graph inputs are called 'x'",
    ),
    "written twice": (
        spoil(lambda proto: proto.graph.node.append(node("Tanh", ["x"], ["h"], name="t"))),
        "node 't' writes tensor 'h', which is written already",
    ),
    "written twice by one": (
        spoil(lambda proto: proto.graph.node.append(node("Split", ["x"], ["a", "a"]))),
        "writes tensor 'a'",
    ),
    "writes an initialiser": (
        spoil(lambda proto: proto.graph.node.append(node("Tanh", ["x"], ["W"]))),
        "writes tensor 'W'",
    ),
    "order": (
        spoil(lambda proto: proto.graph.node.reverse()),
        "node 'Relu' reads tensor 'h', which nothing before it writes",
    ),
    "captured from nowhere": (spoil(lambda proto: proto.graph.node.append(branch("z"))), "reads tensor 'c'"),
    "output": (
        spoil(lambda proto: setattr(proto.graph.output[0], "name", "z")),
        "graph output 'z' is written by no node",
    ),
    "attribute twice": (spoil(attribute_twice), "attribute 'alpha' twice"),
    "two versions": (spoil(two_versions), "version [12, 17] of the standard operators"),
    "from the future": (spoil(lambda proto: setattr(proto.opset_import[0], "version", 999)), "version [999]"),
    "constant without value": (
        spoil(lambda proto: proto.graph.node.insert(0, node("Constant", [], ["k"]))),
        "does not hold exactly one value",
    ),
}


@pytest.mark.parametrize("case", UNRELIABLE)
def test_an_unreliable_file_is_refused(case: str) -> None:
    data, message = UNRELIABLE[case]
    with pytest.raises(Unreadable) as error:
        read_graph(data())
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("elem", sorted({*range(1, 17)} - {8, 14, 15, 16}))
def test_tensors_are_decoded_from_both_kinds_of_storage(elem: int) -> None:
    dtype = helper.tensor_dtype_to_np_dtype(elem)
    values = np.array([[0, 1, 1]], dtype)
    raw = numpy_helper.from_array(values, "k")
    field = helper.make_tensor("k", elem, [1, 3], values.reshape(-1).tolist())
    for tensor in (raw, field):
        proto = model([node("Erf", ["k"], ["y"])])
        proto.graph.initializer.append(tensor)
        proto.graph.node[0].CopyFrom(node("Identity", ["k"], ["y"]))
        (found,) = read_graph(proto.SerializeToString()).nodes
        if isinstance(found.op, Constant):
            assert bits(found.op.value) == bits(values)
        else:
            assert found.op.signature == known(values).digest  # type: ignore[union-attr]


def test_a_format_without_numpy_is_opaque() -> None:
    proto = model([node("Add", ["x", "k"], ["y"])])
    proto.graph.initializer.append(TensorProto(name="k", dims=[1], data_type=TensorProto.BFLOAT16, raw_data=b"\0\0"))
    assert isinstance(only(proto).op, Opaque)


def test_an_attribute_that_refers_to_another_is_not_read() -> None:
    proto = model([node("LeakyRelu", ["x"], ["y"])])
    proto.graph.node[0].attribute.append(AttributeProto(name="alpha", ref_attr_name="a", type=AttributeProto.FLOAT))
    assert isinstance(only(proto).op, Opaque)


def test_a_chain_of_small_nodes_takes_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [node("Expand", ["x", "s"], [f"y{k}"]) for k in range(9)]
    chain = model([*nodes, node("Relu", ["y8"], ["y"])], {"s": ints(8, 3)}).SerializeToString()
    assert not [n for n in read_graph(chain).nodes if isinstance(n.op, Opaque)]
    monkeypatch.setattr(_read, "MOST_ELEMENTS", 50)
    assert len([n for n in read_graph(chain).nodes if isinstance(n.op, Opaque)]) == 8


def test_computed_constants_count_too(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [node("ConstantOfShape", ["s"], ["c"]), node("Add", ["x", "c"], ["y"])]
    proto = model(nodes, {"s": ints(1, 3)}).SerializeToString()
    assert [type(n.op) for n in read_graph(proto).nodes] != [Opaque, Opaque]
    monkeypatch.setattr(_read, "MOST_ELEMENTS", 1)
    assert [type(n.op) for n in read_graph(proto).nodes] == [Opaque, Opaque]


def test_too_many_nodes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    proto = model([node("Relu", ["x"], ["a"]), node("Relu", ["a"], ["y"])]).SerializeToString()
    monkeypatch.setattr(_read, "MOST_NODES", 2)
    assert len(read_graph(proto).nodes) == 2
    monkeypatch.setattr(_read, "MOST_NODES", 1)
    with pytest.raises(Unreadable, match="2 nodes; at most 1 are read"):
        read_graph(proto)


def test_a_large_constant_that_many_opaque_nodes_read_is_held_once() -> None:
    nodes = [node("Erf" if k else "Mod", ["x", "k"], [f"y{k}"]) for k in range(50)]
    proto = model([*nodes, node("Relu", ["y0"], ["y"])], {"k": np.ones((1000, 100), np.float32)})
    found = [n.op for n in read_graph(proto.SerializeToString()).nodes if isinstance(n.op, Opaque)]
    assert len(found) == 51
    assert sum(len(op.signature) for op in found) < 50_000


@pytest.mark.parametrize("outputs", [[], [""], ["", "y2"]])
def test_a_sum_without_its_output_is_none_that_is_fused(outputs: list[str]) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["h"]),
        helper.make_node("Add", ["h", "B"], outputs),
        helper.make_node("Relu", ["x"], ["y"]),
    ]
    float_ = TensorProto.FLOAT
    ends = [[helper.make_tensor_value_info(name, float_, ["N", 3])] for name in ("x", "y")]
    stored = [
        helper.make_tensor("W", float_, [3, 3], [1.0] * 9),
        helper.make_tensor("B", float_, [3], [1.0] * 3),
    ]
    model = helper.make_model(helper.make_graph(nodes, "g", *ends, stored), opset_imports=[helper.make_opsetid("", 17)])
    assert read_graph(model.SerializeToString()).outputs == ("y",)

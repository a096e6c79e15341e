"""Files that lie, explode or make no sense, as bytes by name; for tests, for fuzzing and for ``benchmarks/hostile.py``.

Nothing here may crash, hang or eat the machine: each is refused with a clear error, or read as far as it makes sense.
"""

import gzip
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    SparseTensorProto,
    TensorProto,
    helper,
    numpy_helper,
)

node = helper.make_node
Shape = Sequence[int | str | None]
Entries = Mapping[str, bytes | ModelProto]
GROUPS: list[Callable[[], Entries]] = []


def corpus() -> dict[str, bytes]:
    """All files by name."""
    files = {f"{group.__name__}/{name}": entry for group in GROUPS for name, entry in group().items()}
    return {name: entry if isinstance(entry, bytes) else entry.SerializeToString() for name, entry in files.items()}


def hostile(group: Callable[[], Entries]) -> Callable[[], Entries]:
    """Register a function that builds files by name."""
    GROUPS.append(group)
    return group


def numbers(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng([*shape]).normal(size=shape).astype(np.float32)


def model(
    nodes: Iterable[NodeProto],
    constants: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Shape | None] | None = None,
    outputs: Mapping[str, Shape | None] | None = None,
    opset: int = 17,
) -> ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "hostile",
        [helper.make_tensor_value_info(n, 1, s) for n, s in (inputs or {"x": ["N", 3]}).items()],
        [helper.make_tensor_value_info(n, 1, s) for n, s in (outputs or {"y": None}).items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def tiny() -> ModelProto:
    """A network in good order, to be damaged: Gemm, Relu, Gemm."""
    nodes = [node("Gemm", ["x", "W", "B"], ["h"]), node("Relu", ["h"], ["r"]), node("Gemm", ["r", "V"], ["y"])]
    return model(nodes, {"W": numbers(3, 4), "B": numbers(4), "V": numbers(4, 2)}, outputs={"y": ["N", 2]})


def changed(change: Callable[[ModelProto], Any]) -> ModelProto:
    damaged = tiny()
    change(damaged)
    return damaged


def field(number: int, content: bytes) -> bytes:
    """A field of bytes, text or a message as it stands in a file."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def big(constants: Mapping[str, Any], *nodes: NodeProto, **more: Any) -> ModelProto:
    """A small file around nodes that lead from x to y."""
    return model(nodes, constants, **more)


# Bytes that are no model.


@hostile
def truncated() -> Entries:
    data = tiny().SerializeToString()
    return {str(k): data[: len(data) * k // 12] for k in range(12)}


@hostile
def garbage() -> Entries:
    noise = np.random.default_rng(0).integers(0, 256, 4096, dtype=np.uint8).tobytes()
    data = tiny().SerializeToString()
    return {
        "noise": noise,
        "zeros": bytes(4096),
        "ones": b"\xff" * 4096,
        "text": b"this is no model\n" * 100,
        "noise_behind": data + noise,
        "twice": data + data,  # protobuf merges the two
        "gzip": gzip.compress(data),
        "endless_varint": b"\x80" * 4096,
        "group": bytes([7 << 3 | 3]) * 200,
    }


@hostile
def length() -> Entries:
    """Lengths that go beyond the end, or beyond all integers."""
    return {
        "beyond": varint(7 << 3 | 2) + varint(1 << 20) + b"abc",
        "huge": varint(7 << 3 | 2) + varint((1 << 63) - 1) + b"abc",
        "negative": varint(7 << 3 | 2) + varint((1 << 64) - 1) + b"abc",
        "inside": field(7, varint(1 << 3 | 2) + varint(100) + b"abc"),
    }


@hostile
def empty_messages() -> Entries:
    """Two bytes in the file each, some hundred in memory."""
    return {
        "nodes": field(7, b"\x0a\x00" * 2_000_000),
        "initialisers": field(7, b"\x2a\x00" * 2_000_000),
        "functions": b"\xca\x01\x00" * 1_000_000,
        "opsets": b"\x42\x00" * 1_000_000,
        "metadata": b"\x72\x00" * 2_000_000,
        "value_infos": field(7, b"\x6a\x00" * 2_000_000),
        "attributes": field(7, field(1, b"\x2a\x00" * 2_000_000)),
        "names": field(7, field(1, b"\x0a\x00" * 6_000_000)),
        "dims": field(7, field(5, b"\x08\x01" * 1_000_000)),
        "packed_dims": field(7, field(5, field(1, b"\x01" * 1_000_000))),
        "unknown": b"\xfa\x7f\x00" * 6_000_000,
    }


@hostile
def nested() -> Entries:
    def inside(depth: int) -> GraphProto:
        graph = helper.make_graph(
            [node("Relu", ["x"], ["deep"])], "deep", [], [helper.make_empty_tensor_value_info("deep")]
        )
        for level in range(depth):
            name = f"o{level}"
            holder = node("If", ["c"], [name], then_branch=graph, else_branch=GraphProto())
            graph = helper.make_graph([holder], f"g{level}", [], [helper.make_empty_tensor_value_info(name)])
        return graph

    deep = b""
    for _ in range(3000):
        deep = field(1, field(5, field(6, deep)))
    wide = model(
        [node("If", ["c"], [f"y{k}" if k else "y"], then_branch=inside(3), else_branch=inside(3)) for k in range(300)]
    )
    nodes = [node("Equal", ["x", "x"], ["c"])]
    nodes.append(node("If", ["c"], ["y"], then_branch=inside(8), else_branch=inside(8)))
    return {"bytes": field(7, deep), "eight": model(nodes), "wide": wide}


# Tensors that lie.


@hostile
def dims() -> Entries:
    def as_(*values: int) -> ModelProto:
        def change(damaged: ModelProto) -> None:
            damaged.graph.initializer[0].ClearField("dims")
            damaged.graph.initializer[0].dims.extend(values)

        return changed(change)

    return {
        "larger": as_(3, 5),
        "smaller": as_(3, 3),
        "negative": as_(-3, -4),
        "overflow": as_(1 << 32, 1 << 32),
        "overflow_to_size": as_(1 << 62, 16),  # 2**66 numbers wrap around to 0 bytes
        "zero_and_huge": as_(0, 1 << 62),
        "rank_31": as_(*[1] * 29, 3, 4),
        "rank_33": as_(*[1] * 31, 3, 4),
        "rank_5000": as_(*[1] * 5000),
        "none": as_(),
    }


@hostile
def data() -> Entries:
    def with_(**fields: Any) -> ModelProto:
        def change(damaged: ModelProto) -> None:
            tensor = damaged.graph.initializer[0]
            for name, value in fields.items():
                if isinstance(value, list):
                    getattr(tensor, name).extend(value)
                else:
                    setattr(tensor, name, value)

        return changed(change)

    return {
        "both": with_(float_data=[1.0] * 12),
        "other_type": with_(data_type=7),
        "unknown_type": with_(data_type=999),
        "negative_type": with_(data_type=-1),
        "strings": with_(data_type=8, string_data=[b"a"] * 12),
        "empty": with_(raw_data=b""),
        "nan": with_(raw_data=np.full(12, np.nan, np.float32).tobytes()),
        "infinite": with_(raw_data=np.full(12, np.inf, np.float32).tobytes()),
        "subnormal": with_(raw_data=np.full(12, 1e-45, np.float32).tobytes()),
    }


@hostile
def listed() -> Entries:
    """Numbers one by one: parsed into Python they take ten times the room."""
    return {"numbers": field(7, field(5, field(7, bytes((1 << 26) + 1))))}


@hostile
def external() -> Entries:
    def outside(name: str = "W", entries: bool = True) -> TensorProto:
        tensor = TensorProto(name=name, data_type=1, dims=[3, 4], data_location=TensorProto.EXTERNAL)
        if entries:
            tensor.external_data.add(key="location", value="../../../../etc/passwd")
        return tensor

    def initialiser(damaged: ModelProto) -> None:
        damaged.graph.initializer[0].CopyFrom(outside())

    def no_entries(damaged: ModelProto) -> None:
        damaged.graph.initializer[0].CopyFrom(outside(entries=False))

    def not_said(damaged: ModelProto) -> None:
        damaged.graph.initializer[0].external_data.add(key="location", value="weights.bin")

    def attribute(damaged: ModelProto) -> None:
        damaged.graph.node.append(node("Constant", [], ["c"], value=outside("")))

    def subgraph(damaged: ModelProto) -> None:
        inner = GraphProto(name="inner", initializer=[outside()])
        damaged.graph.node.append(node("If", ["x"], ["c"], then_branch=inner, else_branch=inner))

    def sparse(damaged: ModelProto) -> None:
        damaged.graph.sparse_initializer.append(SparseTensorProto(values=outside("S"), dims=[3, 4]))

    def sparse_indices(damaged: ModelProto) -> None:
        damaged.graph.sparse_initializer.append(SparseTensorProto(indices=outside("I"), dims=[3, 4]))

    def function(damaged: ModelProto) -> None:
        made = helper.make_function("d", "f", [], ["c"], [node("Constant", [], ["c"], value=outside())], [])
        damaged.functions.append(made)

    def training(damaged: ModelProto) -> None:
        damaged.training_info.add().initialization.initializer.append(outside())

    places = (initialiser, no_entries, not_said, attribute, subgraph, sparse, sparse_indices, function, training)
    return {place.__name__: changed(place) for place in places}


# Graphs that make no sense.


@hostile
def graph() -> Entries:
    def cycle(m: ModelProto) -> None:
        m.graph.node[0].input[0] = "y"

    def self_cycle(m: ModelProto) -> None:
        m.graph.node[1].input[0] = "r"

    def backwards(m: ModelProto) -> None:
        nodes = list(m.graph.node)[::-1]
        del m.graph.node[:]
        m.graph.node.extend(nodes)

    def two_initialisers(m: ModelProto) -> None:
        m.graph.initializer.append(m.graph.initializer[0])

    def two_inputs(m: ModelProto) -> None:
        m.graph.input.append(m.graph.input[0])

    def two_writers(m: ModelProto) -> None:
        m.graph.node.append(m.graph.node[0])

    def writes_initialiser(m: ModelProto) -> None:
        m.graph.node.append(node("Relu", ["x"], ["W"]))

    def input_is_initialiser(m: ModelProto) -> None:
        m.graph.input.append(helper.make_tensor_value_info("W", 1, [3, 4]))

    def sparse_and_dense(m: ModelProto) -> None:
        m.graph.sparse_initializer.append(SparseTensorProto(values=TensorProto(name="W", data_type=1, dims=[0])))

    def sparse_weight(m: ModelProto) -> None:
        values = numpy_helper.from_array(numbers(1), "W")
        indices = numpy_helper.from_array(np.array([1 << 40]), "")
        del m.graph.initializer[0]
        m.graph.sparse_initializer.append(SparseTensorProto(values=values, indices=indices, dims=[1 << 30, 1 << 30]))

    def no_outputs(m: ModelProto) -> None:
        del m.graph.output[:]

    def no_inputs(m: ModelProto) -> None:
        del m.graph.input[:]

    def one_output_often(m: ModelProto) -> None:
        m.graph.output.extend([m.graph.output[0]] * 5000)

    def output_is_input(m: ModelProto) -> None:
        m.graph.output.append(m.graph.input[0])

    def value_infos(m: ModelProto) -> None:
        m.graph.value_info.extend([helper.make_tensor_value_info("h", kind % 16, [1 << 40]) for kind in range(2000)])

    def wrong_output(m: ModelProto) -> None:
        m.graph.output[0].type.tensor_type.shape.dim[1].dim_value = -7

    def no_types(m: ModelProto) -> None:
        m.graph.input[0].ClearField("type")

    def sequence_input(m: ModelProto) -> None:
        m.graph.input[0].type.Clear()
        m.graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = 1

    def no_opset(m: ModelProto) -> None:
        del m.opset_import[:]

    def opset_of_the_future(m: ModelProto) -> None:
        m.opset_import[0].version = (1 << 63) - 1

    def negative_opset(m: ModelProto) -> None:
        m.opset_import[0].version = -5

    def no_operator(m: ModelProto) -> None:
        m.graph.node[1].op_type = ""

    def unknown_operator(m: ModelProto) -> None:
        m.graph.node[1].op_type = "FormatDisk"

    def unknown_attribute(m: ModelProto) -> None:
        m.graph.node[1].attribute.append(helper.make_attribute("negate", 1))

    def attribute_twice(m: ModelProto) -> None:
        m.graph.node[2].attribute.extend([helper.make_attribute("alpha", a) for a in (1.0, 2.0)])

    def attribute_of_other_type(m: ModelProto) -> None:
        m.graph.node[2].attribute.append(helper.make_attribute("transB", 1.5))

    def attribute_without_type(m: ModelProto) -> None:
        m.graph.node[2].attribute.append(AttributeProto(name="alpha", f=2.0))

    def reference_attribute(m: ModelProto) -> None:
        m.graph.node[2].attribute.append(AttributeProto(name="alpha", ref_attr_name="a", type=AttributeProto.FLOAT))

    def custom_domain(m: ModelProto) -> None:
        m.graph.node[1].domain = "evil"

    def shadowing_function(m: ModelProto) -> None:
        m.functions.append(helper.make_function("", "Relu", ["a"], ["b"], [node("Neg", ["a"], ["b"])], m.opset_import))

    def recursive_function(m: ModelProto) -> None:
        m.functions.append(
            helper.make_function("evil", "f", ["a"], ["b"], [node("f", ["a"], ["b"], domain="evil")], [])
        )
        m.graph.node[1].op_type, m.graph.node[1].domain = "f", "evil"

    def ranges(m: ModelProto) -> None:
        m.metadata_props.add(
            key="onnxsim.range.x", value='{"min": ' + "[" * 5000 + "]" * 5000 + ', "max": 1e999999999}'
        )

    places = [value for value in list(locals().values()) if callable(value)]
    return {place.__name__: changed(place) for place in places}


@hostile
def name() -> Entries:
    plain = tiny().SerializeToString()
    long, odd = tiny(), tiny()
    long.graph.node[1].name = "n" * (1 << 20)
    odd.graph.node[1].name = "\x1b[2J\r\n\0\u202e"
    return {
        "no_text": plain.replace(b"Relu", b"\xff\xfe\xfd\xfc"),
        "surrogate": plain.replace(b"Relu", b"\xed\xa0\x80u"),
        "long": long.SerializeToString(),
        "control": odd.SerializeToString(),
    }


@hostile
def left_out() -> Entries:
    """Operators whose first input, or all of them, are left out; outputs, too."""
    kinds = (
        "Relu",
        "Identity",
        "Dropout",
        "Neg",
        "Cast",
        "Reshape",
        "Concat",
        "Slice",
        "Shape",
        "Size",
        "Softmax",
        "Sum",
    )
    kinds += (
        "Gemm",
        "MatMul",
        "Add",
        "Clip",
        "BatchNormalization",
        "Constant",
        "Split",
        "Range",
        "Transpose",
        "Gather",
    )
    made = {kind: model([node(kind, [""], ["y"])]) for kind in kinds}
    made |= {f"{kind}_all": model([node(kind, [], ["y"])]) for kind in kinds}
    made |= {f"{kind}_first": model([node(kind, ["", "W"], ["y"])], {"W": numbers(3)}) for kind in kinds}
    made |= {f"{kind}_output": model([node(kind, ["x"], []), node("Relu", ["x"], ["y"])]) for kind in kinds}
    made |= {f"{kind}_no_output": model([node(kind, ["x"], [""]), node("Relu", ["x"], ["y"])]) for kind in kinds}
    for name, outputs in {"fused_output": [], "fused_no_output": [""]}.items():
        product = [node("MatMul", ["x", "W"], ["h"]), node("Add", ["h", "B"], outputs), node("Relu", ["x"], ["y"])]
        made[name] = model(product, {"W": numbers(3, 3), "B": numbers(3)})
    return made


# Small files that ask for much.


@hostile
def large_input() -> Entries:
    def of(*shape: int | str) -> ModelProto:
        return model([node("Relu", ["x"], ["y"])], inputs={"x": shape})

    return {
        "trillion": of("N", 10**12),
        "overflow": of("N", 1 << 40, 1 << 40),
        "fixed": of(1 << 20, 1 << 20),
        "just_too_large": of("N", (1 << 22) + 1),
        "rank": of("N", *[1] * 40),
        "many": model(
            [node("Relu", ["x0"], ["y"])], inputs={f"x{k}": ["N", 1 << 14] for k in range(1000)}, outputs={"y": None}
        ),
        "negative": of("N", -5),
        "zero": of("N", 0),
    }


@hostile
def bomb() -> Entries:
    """Shapes and constants that are computed."""
    i = np.int64
    huge = np.array([1 << 20, 1 << 20], i)
    eight = np.array([1 << 11, 1 << 12], i)  # 2**23 numbers, just followed
    shape = {"s": huge}
    add = node("Add", ["x", "c"], ["y"])
    filled = [node("ConstantOfShape", ["s"], [f"c{k}"]) for k in range(2000)]
    doubled = [node("Concat", [f"c{k}"] * 2, [f"c{k + 1}"], axis=1) for k in range(60)]
    added = [node("Add", [f"c{k}"] * 2, [f"c{k + 1}"]) for k in range(100)]
    outer = {"A": numbers(1, 2000), "B": numbers(2000, 1)}
    return {
        "constant_of_shape": big(shape, node("ConstantOfShape", ["s"], ["c"]), add),
        "constant_of_shape_often": big({"s": eight}, *filled, node("Relu", ["x"], ["y"])),
        "expand": big({**shape, "v": numbers(1)}, node("Expand", ["v", "s"], ["c"]), add),
        "expand_input": big(
            {"s": np.array([1, 1 << 20, 3], i)}, node("Expand", ["x", "s"], ["y"]), inputs={"x": [1, 3]}
        ),
        "expand_input_huge": big(
            {"s": np.array([1 << 40, 3], i)}, node("Expand", ["x", "s"], ["y"]), inputs={"x": [1, 3]}
        ),
        "tile": big({"s": np.array([1, 10**12], i)}, node("Tile", ["x", "s"], ["y"])),
        "tile_constant": big({"s": huge, "v": numbers(1, 1)}, node("Tile", ["v", "s"], ["c"]), add),
        "range": big(
            {"a": i(0), "b": i(10**15), "d": i(1)}, node("Range", ["a", "b", "d"], ["c"]), node("Relu", ["x"], ["y"])
        ),
        "pad": big({"p": np.array([0, 0, 0, 10**12], i)}, node("Pad", ["x", "p"], ["y"])),
        "pad_constant": big(
            {"p": np.array([0, 10**12], i), "v": numbers(1)}, node("Pad", ["v", "p"], ["c"]), node("Relu", ["x"], ["y"])
        ),
        "one_hot": big(
            {"k": np.arange(1000), "d": i(10**12), "v": np.array([0, 1], i)},
            node("OneHot", ["k", "d", "v"], ["c"]),
            node("Relu", ["x"], ["y"]),
        ),
        "concat_doubling": big({}, node("Relu", ["x"], ["c0"]), *doubled, node("Relu", ["c60"], ["y"])),
        "concat_doubling_constant": big({"c0": numbers(1, 1)}, *doubled, node("Relu", ["x"], ["y"])),
        "add_doubling": big({}, node("Relu", ["x"], ["c0"]), *added, node("Relu", ["c100"], ["y"])),
        "matmul_outer": big({"A": numbers(1, 10**6)}, node("MatMul", ["x", "A"], ["y"]), inputs={"x": ["N", 10**6, 1]}),
        "matmul_outer_small": big(
            outer, node("MatMul", ["x", "A"], ["h"]), node("Relu", ["h"], ["y"]), inputs={"x": ["N", 10**6, 1]}
        ),
        "add_outer": big({"A": numbers(1, 10**5)}, node("Add", ["x", "A"], ["y"]), inputs={"x": [10**6, 1]}),
        "add_outer_variables": big({}, node("Add", ["x", "z"], ["y"]), inputs={"x": [10**5, 1], "z": [1, 10**5]}),
        "gather_huge": big(
            {"k": np.zeros((1000, 100), i)}, node("Gather", ["x", "k"], ["y"], axis=1), inputs={"x": ["N", 10**6]}
        ),
        "einsum": big(
            {},
            node("Einsum", ["x", "x"], ["h"], equation="ij,kl->ijkl"),
            node("Relu", ["h"], ["y"]),
            inputs={"x": [1000, 1000]},
        ),
        "einsum_long": big({}, node("Einsum", ["x"], ["y"], equation="i" * 10000 + "->")),
        "transposes": big(
            {},
            *[node("Transpose", [f"t{k}" if k else "x"], [f"t{k + 1}"], perm=[0, 2, 1]) for k in range(300)],
            node("Relu", ["t300"], ["y"]),
            inputs={"x": ["N", 1 << 8, 1 << 12]},
        ),
        "negatives": big(
            {},
            *[node("Neg", [f"t{k}" if k else "x"], [f"t{k + 1}"]) for k in range(300)],
            node("Relu", ["t300"], ["y"]),
            inputs={"x": ["N", 1 << 8, 1 << 12]},
        ),
        "reshape_refused": big(
            {"s": np.array([1 << 12, -1], i)},
            *[node("Reshape", ["x", "s"], [f"t{k}"]) for k in range(300)],
            node("Relu", ["x"], ["y"]),
            inputs={"x": ["N", 1 << 8, 1 << 12]},
        ),
        "upsample": big(
            {"s": np.array([1, 1, 1e6, 1e6], np.float32)},
            node("Resize", ["x", "", "s"], ["h"]),
            node("Relu", ["h"], ["y"]),
            inputs={"x": ["N", 1, 8, 8]},
        ),
        "conv": big(
            {"w": numbers(1, 1, 1, 1)}, node("Conv", ["x", "w"], ["y"], pads=[10**9] * 4), inputs={"x": ["N", 1, 8, 8]}
        ),
        "conv_overflow": big(
            {"w": numbers(1, 1, 1, 1)},
            node("Conv", ["x", "w"], ["y"], strides=[0, 0], dilations=[-1, (1 << 62)]),
            inputs={"x": ["N", 1, 8, 8]},
        ),
        "rnn": big(
            {"w": numbers(1, 8, 3), "r": numbers(1, 8, 8)}, node("RNN", ["x", "w", "r"], ["y"], hidden_size=10**12)
        ),
        "split": big(
            {},
            node("Split", ["x"], [f"o{k}" for k in range(5000)], axis=1),
            node("Relu", ["x"], ["y"]),
            inputs={"x": ["N", 5000]},
        ),
        "depth_to_space": big({}, node("DepthToSpace", ["x"], ["y"], blocksize=10**9), inputs={"x": ["N", 4, 2, 2]}),
        "slice_steps": big(
            {
                "a": np.array([-(10**18)], i),
                "e": np.array([1 << 62], i),
                "ax": np.array([1], i),
                "st": np.array([-(1 << 63)], i),
            },
            node("Slice", ["x", "a", "e", "ax", "st"], ["y"]),
        ),
        "reshape_many_axes": big({"s": np.ones(40, i)}, node("Reshape", ["x", "s"], ["y"]), inputs={"x": [1, 1]}),
        "unsqueeze_often": big(
            {"a": np.array([1], i)},
            *[node("Unsqueeze", [f"t{k}" if k else "x", "a"], [f"t{k + 1}"]) for k in range(100)],
            node("Relu", ["t100"], ["y"]),
        ),
        "loop": big(
            {"n": i(1 << 62), "c": np.array(True)},
            node("Loop", ["n", "c", "x"], ["y"], body=_forever()),
        ),
    }


def _forever() -> GraphProto:
    inputs = [
        helper.make_tensor_value_info("k", 7, []),
        helper.make_tensor_value_info("go", 9, []),
        helper.make_tensor_value_info("s", 1, ["N", 3]),
    ]
    outputs = [helper.make_tensor_value_info("on", 9, []), helper.make_tensor_value_info("t", 1, ["N", 3])]
    return helper.make_graph([node("Identity", ["go"], ["on"]), node("Relu", ["s"], ["t"])], "body", inputs, outputs)


@hostile
def many() -> Entries:
    """Many of everything: whatever is quadratic shows here."""
    count = 20_000
    relus = [node("Relu", [f"t{k}" if k else "x"], [f"t{k + 1}" if k < count - 1 else "y"]) for k in range(count)]
    same = [node("Relu", ["x"], [f"t{k}" if k else "y"], name="same") for k in range(count)]
    shapes = [node("Shape", ["x"], [f"t{k}"]) for k in range(count)]
    opaque = [node("Erf", ["x"], [f"t{k}" if k else "y"]) for k in range(count)]
    products = [node("MatMul", ["x", "W"], [f"m{k}"]) for k in range(count // 2)]
    sums = [node("Add", [f"m{k}", "b"], [f"t{k}" if k else "y"]) for k in range(count // 2)]
    hanging = [node("Einsum", ["x"] * 20, [f"t{k}" if k else "y"], equation=",".join(["ab"] * 20)) for k in range(2000)]
    functions = tiny()
    functions.functions.extend([helper.make_function("d", f"f{k}", ["a"], ["b"], [], []) for k in range(9000)])
    outputs = {("y" if not k else f"t{k}"): ["N", 3] for k in range(5000)}
    return {
        "nodes": model(relus),
        "too_many_nodes": model([NodeProto(op_type="Relu", input=["x"], output=[str(k)]) for k in range(100_001)]),
        "same_names": model(same),
        "shapes": model([*shapes, node("Relu", ["x"], ["y"])]),
        "opaque": model(opaque),
        "products_then_sums": model([*products, *sums], {"W": numbers(3, 3), "b": numbers(3)}),
        "hanging": model(hanging),
        "functions": functions,
        "outputs": model(same[:5000], outputs=outputs),
        "inputs_of_one": model([node("Sum", ["x"] * 50_000, ["y"])]),
        "outputs_of_one": model([node("Split", ["x"], [f"t{k}" if k else "y" for k in range(50_000)])]),
        "initialisers": model([node("Relu", ["x"], ["y"])], {f"w{k}": np.float32(k) for k in range(50_000)}),
    }

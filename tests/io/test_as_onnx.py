"""Networks as ONNX models: both readers find the network again, bit for bit, and onnxruntime computes it."""

from dataclasses import replace
from typing import Any

import io_tools
import ir_reference
import numpy as np
import onnx
import pytest
import torch
import torch_models
from hypothesis import given
from hypothesis import strategies as st
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as Lacking
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from strategies import networks
from torch import nn

from reluce import ModelError, Settings, Within, compress
from reluce.io import as_onnx, loads, open_model
from reluce.network import (
    Activation,
    Add,
    Affine,
    BatchNorm,
    Constant,
    Dense,
    Network,
    Node,
    Op,
    Opaque,
    Relu,
    Select,
    Softmax,
    Tensor,
    evaluate,
    validate,
)
from reluce_checker import _graph as theirs
from reluce_checker._read import read_graph

Array = np.ndarray[Any, Any]
KINDS = {"Affine": "Scale", "Activation": "Monotone"}
FUNCTIONS = [
    Activation("Sigmoid"),
    Activation("Tanh"),
    Activation("Softplus"),
    Activation("LeakyRelu", (0.25,)),
    Activation("LeakyRelu", (float(np.float32(0.01)),)),
    Activation("Elu", (1.5,)),
    Activation("HardSigmoid", (0.25, 0.5)),
    Activation("Clip", (-0.5, 0.75)),
    Activation("Clip", (-np.inf, 0.75)),
    Activation("Clip", (0.125, np.inf)),
]


class Growing:
    """A network while random nodes are added."""

    def __init__(self, seed: int, batched: bool, dtype: Any, shape: tuple[int, ...]) -> None:
        self.generator = np.random.default_rng(seed)
        self.batched, self.dtype = batched, np.dtype(dtype)
        self.tensors = {name: Tensor(name, shape, self.dtype) for name in ("x", "u")}
        self.nodes: list[Node] = []

    def numbers(self, *shape: int) -> Array:
        found = np.asarray(self.generator.normal(size=shape)).astype(self.dtype)
        return np.where(self.generator.random(shape) < 0.1, self.dtype.type(-0.0), found)

    def pick(self, *choices: Any) -> Any:
        return choices[self.generator.integers(len(choices))]

    def put(self, op: Op, *inputs: str, shape: tuple[int, ...]) -> None:
        name = f"t{len(self.nodes)}"
        self.nodes.append(Node(f"n{len(self.nodes)}", op, inputs, (name,)))
        self.tensors[name] = Tensor(name, shape, self.dtype)

    def grow(self, kind: str) -> None:
        names = list(self.tensors)
        source = self.pick(*names[-3:])
        shape = self.tensors[source].shape
        assert shape is not None
        like = [name for name in names if self.tensors[name].shape == shape]
        match kind:
            case "dense":
                self.dense(source, shape)
            case "relu":
                self.put(Relu(), source, shape=shape)
            case "add":
                self.put(Add(), source, self.pick(*like), shape=shape)
            case "affine":
                self.affine(source, shape)
            case "norm":
                self.norm(source, shape)
            case "function":
                self.put(self.pick(*FUNCTIONS), source, shape=shape)
            case "softmax":
                axis = int(self.generator.integers(-len(shape), 0))
                self.put(Softmax(axis, self.pick(False, True)), source, shape=shape)
            case "constant":
                self.put(Constant(self.numbers(*shape)), *(["x"] if self.batched else []), shape=shape)
            case "select":
                self.select(source, shape, names)

    def dense(self, source: str, shape: tuple[int, ...]) -> None:
        width = self.pick(1, 2, 4)
        bias = self.pick(None, self.numbers(width))
        rank = len(shape) + self.batched
        alpha, beta = (self.pick(1.0, 1.0, 0.5, 0.3) if self.dtype == np.float64 or rank == 2 else 1.0 for _ in "ab")
        if self.dtype != np.float64:
            alpha, beta = float(np.float32(alpha)), float(np.float32(beta))
        op = Dense(self.numbers(width, shape[-1]), bias, alpha, 1.0 if bias is None else beta)
        self.put(op, source, shape=(*shape[:-1], width))

    def affine(self, source: str, shape: tuple[int, ...]) -> None:
        def spread() -> Array:
            dims = [size if self.generator.random() < 0.5 else 1 for size in shape]
            return np.broadcast_to(self.numbers(*dims), shape)

        scale, shift = spread(), spread()
        divisor = np.where(scale == 0, self.dtype.type(3), scale)
        ops = [Affine(scale), Affine(None, shift), Affine(scale, shift), Affine(divisor, shift, True)]
        ops += [Affine(divisor, None, True), Affine(np.full_like(shift, -1), shift), Affine()]
        self.put(self.pick(*ops), source, shape=shape)

    def norm(self, source: str, shape: tuple[int, ...]) -> None:
        axis = 0 if self.batched else 1
        dims = [size if place == axis else 1 for place, size in enumerate(shape)]
        dims = self.pick(dims, list(shape))
        scale, shift, mean, variance = (np.broadcast_to(self.numbers(*dims), shape) for _ in range(4))
        self.put(BatchNorm(scale, shift, mean, abs(variance) + 1, float(np.float32(1e-5))), source, shape=shape)

    def select(self, source: str, shape: tuple[int, ...], names: list[str]) -> None:
        inputs = self.pick([source], [source, self.pick(*names)])
        sizes = [self.tensors[name].size for name in inputs]
        target = self.pick((3,), (2, 2), (1, 2, 2), shape, shape[::-1], (sum(sizes),))
        count = int(np.prod(target))
        indices = self.pick(
            self.generator.integers(sum(sizes), size=count),
            np.arange(count) % sum(sizes),
            np.arange(count).reshape(target[::-1]).T.ravel() % sum(sizes),
        )
        self.put(Select(np.asarray(indices, np.int64), tuple(target)), *inputs, shape=tuple(target))

    def network(self) -> Network:
        outputs = dict.fromkeys([self.nodes[-1].output, self.pick(*self.nodes).output])
        return validate(Network(("x", "u"), tuple(outputs), tuple(self.nodes), self.tensors, self.batched))


STEPS = ["dense", "dense", "relu", "add", "affine", "norm", "function", "softmax", "constant", "select"]


@st.composite
def anything(draw: st.DrawFn, steps: list[str] = STEPS, dtypes: Any = (np.float32, np.float64, np.float16)) -> Network:
    seed, batched = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([True, True, False]))
    shape = draw(st.sampled_from([(3,), (2, 3), (2, 1, 3)]))
    growing = Growing(seed, batched, draw(st.sampled_from(dtypes)), shape)
    for kind in draw(st.lists(st.sampled_from(steps), min_size=1, max_size=7)):
        growing.grow(kind)
    return growing.network()


def feeds_of(network: Network, samples: int = 3) -> dict[str, Array]:
    generator = np.random.default_rng(0)
    count = (samples,) if network.batched else ()
    return {
        name: generator.normal(size=(*count, *network.shape(name))).astype(network.tensors[name].dtype)
        for name in network.inputs
    }


def assert_kept(network: Network, data: bytes) -> Network:
    """Interface, names and numbers are those of the network, for both readers; returns what was read."""
    assert as_onnx(network) == data
    onnx.checker.check_model(data, full_check=True)
    again, graph = loads(data).network, read_graph(data)
    assert not again.opaque
    assert (again.inputs, again.outputs, again.batched) == (network.inputs, network.outputs, network.batched)
    assert (graph.inputs, graph.outputs) == (network.inputs, network.outputs)
    for name in (*network.inputs, *network.outputs):
        assert again.tensors[name] == network.tensors[name]
    feeds = {name: values.astype(np.float64) for name, values in feeds_of(network).items()}
    io_tools.assert_close(ir_reference.evaluate(again, feeds), ir_reference.evaluate(network, feeds))
    io_tools.assert_close(evaluated(graph, network, feeds), ir_reference.evaluate(network, feeds))
    lost = hidden(network)
    assert lost.isdisjoint(network.outputs)
    for node in network.nodes:
        assert node.output in lost or (node.output in again.tensors and node.output in graph.shapes)
        if node.output in graph.shapes:
            assert graph.shapes[node.output] == ((1,) if network.batched else ()) + network.shape(node.output)
            assert graph.formats[node.output] == network.tensors[node.output].dtype.name
    return again


def hidden(network: Network) -> set[str]:
    """Tensors that a reader may take for part of the node that reads them: constants, and products with a bias."""
    constants: set[str] = set()
    for node in network.nodes:
        if isinstance(node.op, Constant) or constants.issuperset(node.inputs):
            constants.add(node.output)
    sums = [node for node in network.nodes if isinstance(node.op, Add) and constants.intersection(node.inputs)]
    products = {name for node in sums for name in node.inputs if name in network.producer}
    products = {name for name in products if getattr(network.producer[name].op, "bias", 0) is None}
    return (constants | products) - set(network.outputs)


def evaluated(graph: theirs.Graph, network: Network, feeds: dict[str, Array]) -> list[Array]:
    """What the checker's graph computes, sample by sample, by way of a network of the same nodes."""

    def turned(op: Any, output: str) -> Op:
        match op:
            case theirs.Dense():
                return Dense(op.weight, op.bias, op.alpha, op.beta)
            case theirs.Scale():
                return Affine(op.factor, op.shift, op.divide)
            case theirs.BatchNorm():
                return BatchNorm(op.scale, op.shift, op.mean, op.variance, op.epsilon)
            case theirs.Monotone():
                return Activation(op.function, op.parameters)
            case theirs.Softmax():
                return Softmax(op.axis, op.log)
            case theirs.Select():
                return Select(op.indices, graph.shapes[output] or ())
            case theirs.Constant():
                return Constant(op.value)
            case theirs.Relu():
                return Relu()
        assert isinstance(op, theirs.Add)
        return Add()

    nodes = tuple(
        Node(node.outputs[0], turned(node.op, node.outputs[0]), node.inputs, node.outputs) for node in graph.nodes
    )
    tensors = {name: Tensor(name, shape) for name, shape in graph.shapes.items()}
    one = Network(graph.inputs, graph.outputs, nodes, tensors, False)
    if not network.batched:
        return ir_reference.evaluate(one, feeds)
    rows = [
        ir_reference.evaluate(one, {name: values[k : k + 1] for name, values in feeds.items()})
        for k in range(len(next(iter(feeds.values()))))
    ]
    return [np.concatenate(column) for column in zip(*rows, strict=True)]


def assert_same(network: Network, data: bytes) -> None:
    """Both readers find exactly these nodes."""
    again, graph = assert_kept(network, data), read_graph(data)
    assert again.digest == network.digest
    assert {**again.tensors} == {**network.tensors}
    assert [node.outputs for node in graph.nodes] == [node.outputs for node in network.nodes]
    for old, new in zip(network.nodes, graph.nodes, strict=True):
        kind = type(old.op).__name__
        assert type(new.op).__name__ == KINDS.get(kind, kind)
        assert new.inputs == old.inputs
        assert parameters(new.op) == parameters(old.op, (1,) if network.batched else ())


def parameters(op: Any, front: tuple[int, ...] = ()) -> list[Any]:
    """All that an operation holds, in the order of its fields; arrays of sample shape with the batch in front."""
    found = []
    for name, value in vars(op).items():
        if isinstance(value, np.ndarray):
            whole = name not in ("weight", "bias", "indices")
            found.append((value.dtype.name, (*front, *value.shape) if whole else value.shape, value.tobytes()))
        elif not (isinstance(op, Select) and name == "shape") and not (isinstance(op, Relu)):
            found.append(value if name != "axis" else None)
    return found


def assert_runs(network: Network, data: bytes) -> None:
    """Onnxruntime computes what ``evaluate`` does."""
    try:
        session = io_tools.session(data)
    except Lacking:  # it has not every operator in float16 and float64
        assert network.tensors[network.inputs[0]].dtype != np.float32
        return
    feeds = feeds_of(network)
    points = feeds if network.batched else {name: values[None] for name, values in feeds.items()}
    known = evaluate(network, {name: values.astype(np.float64) for name, values in points.items()})
    wanted = [known[name] if network.batched else known[name][0] for name in network.outputs]
    io_tools.assert_close(session.run(None, feeds), wanted)


@given(anything())
def test_any_network_keeps_its_function(network: Network) -> None:
    data = as_onnx(network)
    assert_kept(network, data)
    assert_runs(network, data)


@given(anything(["dense", "relu", "add", "function", "softmax"], dtypes=[np.float32, np.float16]))
def test_what_one_node_states_is_found_again(network: Network) -> None:
    assert_same(network, as_onnx(network))


@given(networks())
def test_networks_of_relus_are_found_again(case: Any) -> None:
    network, _ = case
    data = as_onnx(network)
    assert_kept(network, data)
    assert_runs(network, data)
    if all(not isinstance(node.op, Affine | Select) for node in network.nodes):
        assert_same(network, data)


@given(anything())
def test_nothing_of_a_node_is_lost(network: Network) -> None:
    """Every number of the network stands in the file, in its format."""
    model = onnx.load_from_string(as_onnx(network))
    stored = [onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    stored += [
        onnx.numpy_helper.to_array(entry.t)
        for node in model.graph.node
        for entry in node.attribute
        if entry.name == "value"
    ]
    held = {(array.dtype, value) for array in stored for value in bits(array)}
    for node in network.nodes:
        for what, value in vars(node.op).items():
            if isinstance(value, np.ndarray) and what != "indices":
                minus = isinstance(node.op, Affine) and (what == "shift" or bool((value == -1).all()))
                for number in bits(value):
                    assert (value.dtype, number) in held or minus


def bits(array: Array) -> set[bytes]:
    return {number.tobytes() for number in np.ascontiguousarray(array).ravel()}


# Other kinds of models


MODULES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "known": (nn.Sequential(torch_models.known()[0], nn.ReLU(), torch_models.known()[1]), (2,)),
    "float32": (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2, bias=False)), (3,)),
    "normalised": (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.LeakyReLU(), nn.Linear(4, 2)), (3,)),
    "softmax": (nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.ReLU6(), nn.Linear(4, 3), nn.LogSoftmax(-1)), (2, 3)),
    "positions": (nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2), nn.ELU(0.7)), (2, 3)),
    "branches": (
        torch_models.Fn(
            lambda s, x: s.c(torch.cat([s.a(x).relu(), 1 - s.b(x).relu(), torch.ones(x.shape)], 1) / 3) + x[:, :2],
            a=nn.Linear(3, 4),
            b=nn.Linear(3, 2),
            c=nn.Linear(9, 2),
        ),
        (3,),
    ),
    "residual": (
        torch_models.Fn(lambda s, x: (x + s.b(s.a(x).relu())).relu() - x * 2, a=nn.Linear(3, 5), b=nn.Linear(5, 3)),
        (3,),
    ),
    "addmm": (
        torch_models.Fn(
            lambda s, x: torch.addmm(s.v, x, s.w, alpha=0.3, beta=0.7), v=torch.ones(2), w=torch.ones(3, 2)
        ),
        (3,),
    ),
}


@pytest.mark.parametrize("which", MODULES)
def test_a_torch_module_as_onnx(which: str) -> None:
    torch.manual_seed(0)
    module, shape = MODULES[which]
    first = next(iter((*module.parameters(), *module.buffers())))
    example = torch_models.samples(shape, 3, first.dtype)
    loaded = torch_models.read(module, example)
    data = as_onnx(loaded.network)
    assert_kept(loaded.network, data)
    assert_runs(loaded.network, data)
    with torch.no_grad():
        wanted = [module(example).numpy()]
    (name,) = loaded.network.inputs
    io_tools.assert_close(io_tools.session(data).run(None, {name: example.numpy()}), wanted)


ESTIMATORS = {
    "regressor": (MLPRegressor, np.arange(12.0)),
    "classifier": (MLPClassifier, np.arange(12) % 3),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("which", ESTIMATORS)
def test_an_estimator_as_onnx(which: str, dtype: Any) -> None:
    kind, targets = ESTIMATORS[which]
    more = {"classes": np.arange(3)} if kind is MLPClassifier else {}
    x = np.random.default_rng(0).normal(size=(12, 3)).astype(dtype)
    fitted = kind(hidden_layer_sizes=(5, 4), random_state=0).partial_fit(x, targets, **more)
    network = open_model(fitted).network
    assert network.tensors["X"].dtype == dtype
    assert_same(network, as_onnx(network))
    assert_runs(network, as_onnx(network))


def test_the_network_of_a_pipeline_stands_behind_its_scaler() -> None:
    x = np.random.default_rng(0).normal(3, 2, size=(12, 3))
    mlp = MLPRegressor(hidden_layer_sizes=(5,), max_iter=20, random_state=0, tol=1e3, n_iter_no_change=1)
    fitted = make_pipeline(StandardScaler(), mlp).fit(x, x[:, 0])
    loaded = open_model(fitted)
    assert loaded.scaling is not None
    (found,) = io_tools.session(as_onnx(loaded.network)).run(None, {"X": loaded.scaling.apply(x)})
    io_tools.assert_close([found[:, 0]], [fitted.predict(x)])


@pytest.mark.parametrize("level", [None, Within(1e-2)])
@pytest.mark.parametrize("which", ["known", "branches", "positions", "normalised"])
def test_a_smaller_network_is_written_the_same_way_twice(which: str, level: Any) -> None:
    module, shape = MODULES[which]
    first = next(module.parameters())
    settings = Settings() if level is None else Settings(level)
    example = torch_models.samples(shape, 3, first.dtype)
    results = [compress(module.eval(), "0,1", example_inputs=example, settings=settings) for _ in range(2)]
    one, two = (as_onnx(result.loaded.network) for result in results)
    assert one == two
    assert_kept(results[0].loaded.network, one)
    assert_runs(results[0].loaded.network, one)


# What cannot be written


def single(op: Op, dtype: Any = np.float32, shape: tuple[int, ...] = (2,), out: tuple[int, ...] = (2,)) -> Network:
    tensors = {"x": Tensor("x", shape, np.dtype(dtype)), "y": Tensor("y", out, np.dtype(dtype))}
    return Network(("x",), ("y",), (Node("n", op, ("x",), ("y",)),), tensors)


ONES = np.ones(2, np.float64)
REFUSED = {
    "node 'n' is not modelled": single(Opaque("Conv")),
    "epsilon of node 'n' is 1e-05, which is no float32": single(BatchNorm(ONES, ONES, ONES, ONES, 1e-5), np.float64),
    "a parameter of node 'n' is 0.01, which is no float32": single(Activation("LeakyRelu", (0.01,)), np.float64),
    "a parameter of node 'n' is 0.1, which is no float32 number": single(Activation("Clip", (0.1, 1.0))),
    "alpha of node 'n' is 0.3, which is no float32": single(Dense(np.eye(2, dtype=np.float32), None, 0.3)),
    "tensor 'x' holds no numbers": single(Select(np.zeros(0, np.int64), (0,)), shape=(0,), out=(0,)),
    "tensor 'x' is int64": single(Relu(), np.int64),
    "it has no nodes": Network(("x",), ("x",), (), {"x": Tensor("x", (2,))}),
    "the shape of tensor 'y' is not known": replace(
        single(Relu()), tensors={"x": Tensor("x", (2,)), "y": Tensor("y", None)}
    ),
    "an output is listed twice": replace(single(Relu()), outputs=("y", "y")),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_written_is_refused(message: str) -> None:
    with pytest.raises(ModelError) as error:
        as_onnx(REFUSED[message])
    assert message in str(error.value)


def test_the_file_says_what_it_is() -> None:
    model = onnx.load_from_string(as_onnx(single(Relu()), "shown"))
    assert model.graph.name == "shown"
    assert [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == ["N", 2]
    assert as_onnx(single(Relu())) == as_onnx(single(Relu())) != as_onnx(single(Relu()), "other")

"""Chains of data movement that become one compute the same, on any tables of indices."""

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reluce_checker._compose import composed
from reluce_checker._graph import Add, Graph, Node, Op, Relu, Select

Array = np.ndarray[Any, Any]


def evaluated(graph: Graph, feeds: dict[str, Array]) -> dict[str, Array]:
    """All tensors, flat; written without looking at the code under test."""
    values = dict(feeds)
    for node in graph.nodes:
        read = [values[name].tolist() for name in node.inputs]
        match node.op:
            case Select(indices=indices):
                joined = [x for part in read for x in part]
                result = [joined[index] for index in indices.tolist()]
            case Relu():
                result = [max(0.0, x) for x in read[0]]
            case _:
                result = [a + b for a, b in zip(*read, strict=True)]
        (name,) = node.outputs
        values[name] = np.array(result, dtype=np.float64)
        shape = graph.shapes[name]
        assert shape is None or int(np.prod(shape)) == len(result)
    return values


def build(nodes: list[tuple[Op, list[str], str]], outputs: list[str], sizes: dict[str, int], **formats: str) -> Graph:
    return Graph(
        tuple(name for name in sizes if name.startswith("x")),
        tuple(outputs),
        tuple(Node(op, tuple(inputs), (output,)) for op, inputs, output in nodes),
        {name: (1, size) for name, size in sizes.items()},
        {name: formats.get(name, "float32") for name in sizes},
    )


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Graph, set[str]]:
    """Selects of several inputs, the same one twice included, with a ReLU or a sum between."""
    sizes = {f"x{k}": draw(st.integers(1, 4)) for k in range(draw(st.integers(1, 3)))}
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    nodes: list[tuple[Op, list[str], str]] = []
    for number in range(draw(st.integers(1, 9))):
        name, kind = f"t{number}", draw(st.sampled_from(["select"] * 8 + ["relu", "add"]))
        recent = list(sizes)[-4:]
        match kind:
            case "select":
                inputs = [str(one) for one in generator.choice(recent, generator.integers(1, 4))]
                total = sum(sizes[one] for one in inputs)
                indices = generator.integers(total, size=generator.integers(1, 6))
                nodes.append((Select(indices), inputs, name))
                sizes[name] = len(indices)
            case "relu":
                source = str(generator.choice(recent))
                nodes.append((Relu(), [source], name))
                sizes[name] = sizes[source]
            case "add":
                source = str(generator.choice(recent))
                nodes.append((Add(), [source, source], name))
                sizes[name] = sizes[source]
    names = [name for _, _, name in nodes]
    wide = {name: "float64" for name in names if generator.random() < 0.05}
    outputs = list(dict.fromkeys([names[-1], str(generator.choice(names))]))
    known = {name for name in names if generator.random() < draw(st.sampled_from([0.0, 0.3]))}
    return build(nodes, outputs, sizes, **wide), known


@given(graphs())
def test_composing_changes_no_number(case: tuple[Graph, set[str]]) -> None:
    graph, known = case
    found = composed(graph, known)
    feeds = {name: np.random.default_rng(7).normal(size=graph.size(name)) for name in graph.inputs}
    before, after = evaluated(graph, feeds), evaluated(found, feeds)
    assert (found.inputs, found.outputs) == (graph.inputs, graph.outputs)
    assert set(found.outputs) <= set(after) <= set(before)
    for name, values in after.items():
        assert np.array_equal(values, before[name])
    assert known <= set(after)
    assert set(found.shapes) == set(found.formats) == set(after)
    for node in found.nodes:
        old = graph.producer[node.outputs[0]]
        assert type(node.op) is type(old.op)
        assert isinstance(node.op, Select) or node is old
    assert_no_helper_is_left(found, known)


def assert_no_helper_is_left(graph: Graph, known: set[str]) -> None:
    for node in graph.nodes:
        (name,) = node.outputs
        readers = [other for other in graph.nodes if name in other.inputs]
        if isinstance(node.op, Select) and readers and name not in known and name not in graph.outputs:
            assert any(not isinstance(reader.op, Select) for reader in readers)


def test_a_movement_in_three_nodes_is_one() -> None:
    """``flat``, ``picked`` and the shape of the output, as writers state them."""
    graph = build(
        [
            (Select(np.arange(4)), ["x0"], "y/flat"),
            (Select(np.array([3, 0, 4, 3])), ["y/flat", "x1"], "y/picked"),
            (Select(np.arange(4)), ["y/picked"], "y"),
            (Relu(), ["y"], "z"),
        ],
        ["z"],
        {"x0": 4, "x1": 2, "y/flat": 4, "y/picked": 4, "y": 4, "z": 4},
    )
    first, last = composed(graph, {"y"}).nodes
    assert isinstance(first.op, Select)
    assert (first.inputs, first.outputs) == (("x0", "x1"), ("y",))
    assert first.op.indices.tolist() == [3, 0, 4, 3]
    assert last is graph.nodes[-1]


def test_what_something_else_reads_stays() -> None:
    nodes: list[tuple[Op, list[str], str]] = [
        (Select(np.array([1, 0])), ["x0"], "s"),
        (Relu(), ["s"], "r"),
        (Select(np.array([0])), ["s", "r"], "y"),
    ]
    sizes = {"x0": 2, "s": 2, "r": 2, "y": 1}
    graph = build(nodes, ["y"], sizes)
    assert composed(graph, set()).nodes == graph.nodes
    apart = [nodes[0], (Select(np.array([0])), ["s"], "y")]
    sizes = {"x0": 2, "s": 2, "y": 1}
    graph = build(apart, ["y", "s"], sizes)
    assert composed(graph, set()).nodes == graph.nodes
    (one,) = composed(build(apart, ["y"], sizes, s="float64", y="float64"), set()).nodes
    assert one.inputs == ("x0",)


def test_a_tensor_of_unknown_size_stays() -> None:
    nodes: list[tuple[Op, list[str], str]] = [
        (Select(np.array([1, 0])), ["x0"], "s"),
        (Select(np.array([0])), ["s", "x1"], "y"),
    ]
    graph = build(nodes, ["y"], {"x0": 2, "x1": 2, "s": 2, "y": 1})
    for name in ("x0", "x1", "s", "y"):
        unknown = replace(graph, shapes={**graph.shapes, name: None})
        assert composed(unknown, set()).nodes == graph.nodes

"""Certificates and networks by hand, and what the checker makes of them: what its tests share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto
from strategies import box_of
from tiny_models import build

from certificates import Case, Text, as_model, by_hand
from reluce.domain import Box
from reluce.network import Network
from reluce_checker._domain import enclosed
from reluce_checker._exact import Exact
from reluce_checker._forms import Forms
from reluce_checker._graph import Graph
from reluce_checker._intervals import Interval, interval
from reluce_checker._read import read_graph

BOX = box_of((0, 1), (0, 1))


def moved(case: Case) -> list[Fraction]:
    """The largest difference that is proved, of each coordinate of the only output, exactly.

    Found from what the checker refuses: it is asked to prove 0 and looked at what it proves instead.
    """
    import reluce_checker._check as module

    found: dict[str, Exact] = {}
    real = module._demand_epsilon

    def seen(graph: Any, stated: Any, deviation: Mapping[str, Exact]) -> None:
        found.update(deviation)

    module._demand_epsilon = seen  # type: ignore[assignment]
    try:
        case.check()
    finally:
        module._demand_epsilon = real
    ((values),) = found.values()
    return [Fraction(int(m)) * Fraction(2) ** values.exponent for m in values.mantissa.ravel()]


def case_of(
    original: ModelProto, compressed: ModelProto, relations: Sequence[Text] = (), box: Box = BOX, **parts: Any
) -> Case:
    data = (original.SerializeToString(), compressed.SerializeToString())
    return by_hand(*data, box, relations=list(relations), **parts)


def model(nodes: Sequence[NodeProto], outputs: int, constants: Mapping[str, Any], inputs: int = 2) -> ModelProto:
    whole = {name for name, value in constants.items() if isinstance(value, np.ndarray) and value.dtype.kind == "i"}
    arrays = {name: value if name in whole else floats(value) for name, value in constants.items()}
    return build(nodes, {"x": ["N", inputs]}, {"y": ["N", outputs]}, arrays)


def floats(value: Any) -> Any:
    return np.array(value, dtype=np.float32)


def fractions(values: Exact) -> list[Fraction]:
    return [Fraction(int(m)) * Fraction(2) ** values.exponent for m in values.mantissa.ravel()]


def graph_of(network: Network) -> Graph:
    return read_graph(as_model(network).SerializeToString())


def forward_intervals(graph: Graph, forms: Forms, inputs: Mapping[str, Interval]) -> dict[str, Interval]:
    found = dict(inputs)
    for node in graph.nodes:
        for name in node.outputs:
            found[name] = interval(node, [found[source] for source in node.inputs], graph.size(name), forms)
    return found


def on_box(graph: Graph, box: Box) -> dict[str, Interval]:
    ends = {name: enclosed((low.ravel(), box.upper[name].ravel())) for name, low in box.lower.items()}
    return forward_intervals(graph, Forms(), ends)

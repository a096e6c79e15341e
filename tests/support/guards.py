"""Models to guard, points next to the ends of their domains, and the exact answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np
from hypothesis import strategies as st
from onnx import ModelProto, helper

from reluce.io import inward, loads

Array = np.ndarray[Any, Any]
FORMATS = ("float16", "float32", "float64", "int32", "int64")
OPSETS = range(7, 23)
SHAPES = ((), (1,), (3,), (1, 3), (2, 1, 2))
ENDS = (
    "0",
    "1",
    "-1",
    "0.1",
    "-0.1",
    "1/3",
    "-2",
    "1000",
    "65504",
    "70000",
    "-70000",
    "1e-7",
    "1e-46",
    "-1e-46",
    "1e39",
)
ENDS += ("1e400", "-1e400", "3.5", "-2147483648", "2147483647", "1e-400", "5e-324", "16777217")


@dataclass(frozen=True, eq=False)
class Guardable:
    """A model that hands on its inputs, and ends for each of them."""

    model: ModelProto
    ends: Mapping[str, tuple[Array, Array]]
    batched: bool
    dtype: np.dtype[Any]

    @property
    def data(self) -> bytes:
        return self.model.SerializeToString(deterministic=True)

    @property
    def flat(self) -> dict[str, tuple[Array, Array]]:
        return {name: (low.ravel(), high.ravel()) for name, (low, high) in self.ends.items()}


def passing(form: str, opset: int, dims: Mapping[str, Sequence[int | str]], ir: int = 8) -> ModelProto:
    """A model that hands on its inputs."""
    elem = helper.np_dtype_to_tensor_dtype(np.dtype(form))
    infos = [
        [helper.make_tensor_value_info(name + suffix, elem, shape) for name, shape in dims.items()]
        for suffix in ("", "_out")
    ]
    nodes = [helper.make_node("Identity", [name], [name + "_out"]) for name in dims]
    graph = helper.make_graph(nodes, "passing", *infos)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def ends_of(shape: Sequence[int], low: Sequence[Any], high: Sequence[Any]) -> tuple[Array, Array]:
    """Ends in the shape of a sample; one number stands for all coordinates."""
    found = []
    for values in (low, high):
        array = np.empty(prod(shape), dtype=object)
        array[:] = [Fraction(value) for value in (list(values) * prod(shape))[: prod(shape)]]
        found.append(array.reshape(shape))
    return found[0], found[1]


def guardable(
    form: str = "float32",
    opset: int = 17,
    batched: bool = True,
    shapes: Sequence[tuple[int, ...]] = ((2,),),
    low: Sequence[Any] = (0,),
    high: Sequence[Any] = (1,),
) -> Guardable:
    """A model with inputs ``a``, ``b``.. of the given sample shapes, and the same ends for each."""
    names = "abc"[: len(shapes)]
    dims = {name: [*(["N"] if batched else []), *shape] for name, shape in zip(names, shapes, strict=True)}
    ends = {name: ends_of(shape, low, high) for name, shape in zip(names, shapes, strict=True)}
    return Guardable(passing(form, opset, dims, 3 if opset < 9 else 8), ends, batched, np.dtype(form))


@st.composite
def guardables(draw: st.DrawFn) -> Guardable:
    """Every format, operator set and shape, with ends that may be no numbers of the format, or beyond all of them."""
    form, opset = draw(st.sampled_from(FORMATS)), draw(st.sampled_from(OPSETS))
    if form.startswith("int"):
        opset = max(opset, 9)
    shapes = draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3))
    found = guardable(form, opset, draw(st.booleans()), shapes)
    end = st.sampled_from(ENDS).map(Fraction) | st.fractions(-3, 3)
    ends = {}
    for name, (low, _) in found.ends.items():
        count = draw(st.sampled_from([1, low.size]))
        pairs = draw(st.lists(st.tuples(end, end).map(sorted), min_size=count, max_size=count))
        ends[name] = ends_of(low.shape, *zip(*pairs, strict=True))
    return Guardable(found.model, ends, found.batched, found.dtype)


def points_of(case: Guardable, seed: int, count: int = 64) -> dict[str, Array]:
    """Points at the ends; in most of them one coordinate is next to an end, far away, infinite or no number."""
    generator, points = np.random.default_rng(seed), {}
    for name, (low, high) in case.ends.items():
        bottom, top = inward(low, high, case.dtype)
        points[name] = np.where(generator.random((count, low.size)) < 0.5, bottom, top)
    for row in range(count // 4, count):
        values = points[str(generator.choice(list(points)))]
        place = generator.integers(values.shape[1])
        values[row, place] = generator.choice(special(values[row, place]))
    return {name: values.reshape(count, *case.ends[name][0].shape) for name, values in points.items()}


def special(value: Any) -> Array:
    """A number, its neighbours, and the numbers where a format ends."""
    dtype = np.asarray(value).dtype
    with np.errstate(all="ignore"):
        if dtype.kind == "i":
            limits = np.iinfo(dtype)
            return np.array([value, value - 1, value + 1, 0, limits.min, limits.max], dtype)
        limits, infinite = np.finfo(dtype), dtype.type(np.inf)
        near = [value, np.nextafter(value, infinite), np.nextafter(value, -infinite)]
        small = [0.0, -0.0, limits.smallest_subnormal, -limits.smallest_subnormal]
        return np.array([*near, *small, limits.max, limits.min, np.inf, -np.inf, np.nan], dtype)


def exact(case: Guardable, points: Mapping[str, Array]) -> Array:
    """Whether each sample lies between the ends, in fractions."""
    answers = []
    for row in range(len(next(iter(points.values())))):
        triples = [
            (x, low, high)
            for name, ends in case.flat.items()
            for x, low, high in zip(points[name][row].ravel().tolist(), *ends, strict=True)
        ]
        answers.append(all(np.isfinite(x) and low <= Fraction(x) <= high for x, low, high in triples))
    return np.array(answers)


def answered(data: bytes, case: Guardable, points: Mapping[str, Array], optimised: bool = False) -> Array:
    """What the last output says in onnxruntime."""
    import onnxruntime

    levels, options = onnxruntime.GraphOptimizationLevel, onnxruntime.SessionOptions()
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    name = session.get_outputs()[-1].name
    if case.batched:
        return np.asarray(session.run([name], dict(points))[0])
    count = len(next(iter(points.values())))
    rows = ({key: values[row, ...] for key, values in points.items()} for row in range(count))
    return np.concatenate([session.run([name], feed)[0] for feed in rows])


def guarded_of(case: Guardable, description: str = "a test") -> bytes:
    """The model with its guard."""
    from reluce.io import guarded

    return guarded(loads(case.data), case.ends, description)

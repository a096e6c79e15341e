"""How the independent checker stands up to forgeries, and what is compressed to the truth.

    python benchmarks/forge.py [--count 10000] [--honest 0] [--lies 0] [--seed 0] [--bases 40]

* forgeries: many small networks are compressed with a certificate, then certificate, compressed network or domain are
  changed and sealed again, so that no hash gives them away and only the checker's mathematics can refuse them
* honest: random networks at every level through `reluce.compress` and the checker, as they are
* lies: the same while a bound engine, a prover or a solver says what is not so

Networks have at most two inputs that vary: whatever is proved of them is compared with the exact largest difference of
the two networks (`tests/support/oracle.py`), in fractions. Prints a table for each part: "true" and "FALSE" are claims
that were accepted, "attested" are results that rest on the word of a solver that is trusted; they say so, and have no
certificate. FALSE has to be 0 in all of them, and then the exit code is 0.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import numpy as np
from onnx import ModelProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from planted import planted
from planting import core
from rich.console import Console
from rich.table import Table
from strategies import box_of, chain

import certificates
import reluce.prove
from certificates import LEVELS, PROVERS, Case, Text, case_of, contents, outcome, quick, random_network, sealed
from reluce import ProverSettings, Result, Settings, compress
from reluce.bounds import Engine, Interval, linear_upper_bound
from reluce.certificate._container import pack
from reluce.domain import Box
from reluce.facts import Verdict
from reluce.io import loads
from reluce.network import Network
from reluce.solve import Limits, Outcome, Problem, Session, Status
from reluce.verify import unchanged
from reluce_checker import check

Array = np.ndarray[Any, Any]
Generator = np.random.Generator
COMPRESS = sys.modules["reluce.compress"]
METHODS: tuple[Literal["leo", "isa"], ...] = ("leo", "isa")
RUNNING = 500
"""Every so many networks or forgeries a line says how far it is."""


class NotHere(Exception):
    """A case has nothing that a forgery of this kind could change."""


@dataclass(frozen=True, eq=False)
class Forgery:
    """Files as a forger hands them over; ``certificate`` may be no certificate at all."""

    original: bytes
    compressed: bytes
    certificate: bytes
    box: Box


# Small changes


def entry(generator: Generator, items: Any) -> Any:
    """One of some items."""
    if not len(items):
        raise NotHere
    return items[int(generator.integers(len(items)))]


def spoiled(generator: Generator, array: Array) -> Array:
    """An array of the same type and shape with a number, or all of them, changed."""
    if not array.size:
        raise NotHere
    found = array.copy()
    flat = found.reshape(-1)
    places = [int(generator.integers(array.size))] if generator.random() < 0.7 else list(range(array.size))
    for place in places:
        flat[place] = number(generator, flat[place])
    return found


def number(generator: Generator, value: Any) -> Any:
    """Another number of the same type."""
    kind = np.asarray(value).dtype
    if kind.kind == "f":
        ways = [
            np.nextafter(value, kind.type(np.inf)), np.nextafter(value, kind.type(-np.inf)), -value, kind.type(0),
            value / 2, value * 2, value + kind.type(1), value - kind.type(1), kind.type(1e30), kind.type(np.nan),
            kind.type(2.0**-40), kind.type(generator.normal()),
        ]  # fmt: skip
        with np.errstate(all="ignore"):
            return entry(generator, ways)
    info = np.iinfo(kind)
    ways = [int(value) + 1, int(value) - 1, 0, 1, -1, int(info.max), int(info.min), 4096, int(generator.integers(0, 8))]
    return kind.type(int(np.clip(entry(generator, ways), info.min, info.max)))


def part(generator: Generator, text: Text, key: str, kind: str | None = None) -> Text:
    """One entry of a list in a certificate, of one kind where that is asked for."""
    return dict_of(entry(generator, [item for item in text[key] if kind is None or item.get("kind") == kind]))


def dict_of(item: Any) -> Text:
    """The item itself, known to be an object."""
    if not isinstance(item, dict):
        raise NotHere
    return item


Change = Callable[[Generator, Text, Case], None]


def changes_array(key: str, name: str, kind: str | None = None) -> Change:
    """A change of one of the arrays of some entries."""

    def change(generator: Generator, text: Text, case: Case) -> None:
        item = part(generator, {key: [], **text}, key, kind)
        if not isinstance(item.get(name), np.ndarray):
            raise NotHere
        item[name] = spoiled(generator, item[name])

    return change


# Forgeries of the certificate's text


def level(generator: Generator, text: Text, case: Case) -> None:
    """Another level, or one that there is not."""
    text["level"] = entry(generator, [w for w in ("exact", "roundoff", "within", "refines") if w != text["level"]])


def budget(generator: Generator, text: Text, case: Case) -> None:
    """Another budget."""
    text["budget"] = entry(generator, ["0", "1e-300", "1e-9", "1.0", "1e300", "-1", "inf", "nan", "0x1"])
    if generator.random() < 0.5:
        text["level"] = "within"


def epsilon(generator: Generator, text: Text, case: Case) -> None:
    """Less, or more, is claimed of the outputs."""
    item = part(generator, text, "epsilon")
    values = item["values"]
    ways = [np.zeros_like(values), values / 2, np.nextafter(values, 0.0), np.nextafter(values, 1.0), -values - 1e-3,
            values[::-1].copy(), values[:-1], np.append(values, 0.0), spoiled(generator, values)]  # fmt: skip
    item["values"] = entry(generator, ways)


def epsilon_to_budget(generator: Generator, text: Text, case: Case) -> None:
    """All that the level allows is claimed: true, as nothing was changed."""
    text["level"], text["budget"] = "within", "1.0"
    for item in text["epsilon"]:
        item["values"] = np.full_like(item["values"], 1.0)


def points(generator: Generator, text: Text, case: Case) -> None:
    """Points that are none, or lie outside."""
    item = part(generator, text, "points")
    values = item["values"]
    ways = [values * 3, values + 1, values[:, :-1], values[:0], np.repeat(values, 2, axis=0), values.T,
            spoiled(generator, values)]  # fmt: skip
    item["values"] = entry(generator, ways)


def points_far_away(generator: Generator, text: Text, case: Case) -> None:
    """Points outside of the domain where outputs are large, and an epsilon that they would allow."""
    text["level"] = "roundoff"
    text["points"] = [
        {"input": item["input"], "values": np.full((1, len(item["lower"])), 1e12)} for item in text["domain"]
    ]
    for item in text["epsilon"]:
        item["values"] = np.full_like(item["values"], 1e-3)


def domain(generator: Generator, text: Text, case: Case) -> None:
    """The domain that was proved is made another one; the user's stays."""
    item = part(generator, text, "domain")
    side = entry(generator, ["lower", "upper"])
    low, high = ([Fraction(x) for x in np.asarray(item[end]).tolist()] for end in ("lower", "upper"))
    ways = [
        [(a + b) / 2 for a, b in zip(low, high, strict=True)],
        [a - (b - a) for a, b in zip(low, high, strict=True)],
        [b + (b - a) for a, b in zip(low, high, strict=True)],
        [a + Fraction(1, 2**600) for a in (low if side == "lower" else high)],
        low[:-1],
    ]
    item[side] = [str(value) for value in entry(generator, ways)]


def slopes_gone(generator: Generator, text: Text, case: Case) -> None:
    """Slopes of a pre-activation are left out, or are another's."""
    if not text["slopes"]:
        raise NotHere
    if generator.random() < 0.5:
        text["slopes"].pop(int(generator.integers(len(text["slopes"]))))
    else:
        part(generator, text, "slopes")["tensor"] = entry(generator, tensors(case))


def tensors(case: Case) -> list[str]:
    """Names of tensors of either network, and one of none."""
    names = {*loads(case.original).network.tensors, *loads(case.compressed).network.tensors, "no such tensor"}
    return sorted(names)


def dropped(generator: Generator, text: Text, case: Case) -> None:
    """A fact is left out."""
    entry(generator, text["facts"])
    text["facts"].pop(int(generator.integers(len(text["facts"]))))


def all_dropped(generator: Generator, text: Text, case: Case) -> None:
    """All facts are left out."""
    entry(generator, text["facts"])
    text["facts"] = []


def reordered(generator: Generator, text: Text, case: Case) -> None:
    """The facts stand in another order, or one stands there twice: no harm, or not proved."""
    facts = text["facts"]
    entry(generator, facts)
    text["facts"] = [facts[k] for k in generator.permutation(len(facts))]
    if generator.random() < 0.5:
        text["facts"].append(entry(generator, facts))


def retargeted(generator: Generator, text: Text, case: Case) -> None:
    """A fact is about another tensor."""
    part(generator, text, "facts")["tensor"] = entry(generator, tensors(case))


def turned(generator: Generator, text: Text, case: Case) -> None:
    """A fact is about the other sign."""
    item = part(generator, text, "facts")
    if "sign" in item:
        item["sign"] = entry(generator, [-item["sign"], 0, 2, True])
    else:
        item["signs"] = -item["signs"]


def below(generator: Generator, text: Text, case: Case) -> None:
    """A linear fact takes other lower slopes: any are valid."""
    part(generator, text, "facts", "linear")["below"] = entry(generator, ["table", "zero", "one", "two"])


def leaf_dropped(generator: Generator, text: Text, case: Case) -> None:
    """One leaf of a tree of splits is left out."""
    item = part(generator, text, "facts", "split")
    gone = int(generator.integers(len(item["rows"])))
    starts = np.cumsum([0, *np.count_nonzero(item["split"], axis=1)])
    item["beta"] = np.delete(item["beta"], np.arange(starts[gone], starts[gone + 1]))
    for name in ("rows", "split", "which"):
        item[name] = np.delete(item[name], gone, axis=0)


def split_moved(generator: Generator, text: Text, case: Case) -> None:
    """A leaf is split elsewhere, with as many multipliers."""
    item = part(generator, text, "facts", "split")
    leaf = int(generator.integers(len(item["rows"])))
    ways = [-item["split"][leaf], generator.permutation(item["split"][leaf])]
    item["split"] = item["split"].copy()
    item["split"][leaf] = entry(generator, ways)


def split_over(generator: Generator, text: Text, case: Case) -> None:
    """The splits are over other tensors, or in another order."""
    item = part(generator, text, "facts", "split")
    item["over"] = entry(
        generator, [item["over"][::-1], [*item["over"], item["over"][0]], item["over"][1:], tensors(case)[:1]]
    )


def boxes_all_closed(generator: Generator, text: Text, case: Case) -> None:
    """Every box is said to be closed."""
    item = part(generator, text, "facts", "boxes")
    item["closed"] = np.ones_like(item["closed"])
    if generator.random() < 0.5:
        set_tree(item, np.full(1, -1, dtype=np.int8))


def boxes_nodes(generator: Generator, text: Text, case: Case) -> None:
    """A part of the tree is cut off, and said to be closed."""
    item = part(generator, text, "facts", "boxes")
    dimension = item["dimension"].copy()
    dimension[int(generator.integers(len(dimension))) :] = -1
    set_tree(item, dimension[: 1 + 2 * np.count_nonzero(dimension >= 0)])


def boxes_tree(generator: Generator, text: Text, case: Case) -> None:
    """The same boxes are cut in another order or along others, and all leaves are said to be closed."""
    item = part(generator, text, "facts", "boxes")
    dimension = generator.permutation(item["dimension"])
    if generator.random() < 0.5:
        places = max(1, len(item["places"]))
        dimension = np.where(item["dimension"] >= 0, generator.integers(0, places, len(dimension)), -1).astype(np.int8)
    set_tree(item, dimension)


def set_tree(item: Text, dimension: Array) -> None:
    """Put another tree in place of one; whatever is not cut is said to be closed."""
    goals = item["closed"].shape[1]
    item["dimension"] = dimension
    item["closed"] = np.repeat((dimension < 0)[:, None], goals, axis=1).astype(np.uint8)


def boxes_more_goals(generator: Generator, text: Text, case: Case) -> None:
    """Goals of a tree are about other coordinates, or the other sign."""
    item = part(generator, text, "facts", "boxes")
    item["rows"], item["signs"] = spoiled(generator, item["rows"]), -item["signs"]


def boxes_places(generator: Generator, text: Text, case: Case) -> None:
    """The boxes are cut along other inputs."""
    item = part(generator, text, "facts", "boxes")
    ways = [item["places"][::-1].copy(), item["places"] * 0, item["places"][:-1]]
    item["places"] = entry(generator, ways)


def stable_more(generator: Generator, text: Text, case: Case) -> None:
    """More signs are claimed than are needed: refused, or true."""
    network = loads(case.original).network
    node = entry(generator, network.relus)
    size = network.tensors[node.inputs[0]].size
    rows = np.arange(size, dtype=np.int32)
    nothing = rows[:0]
    claim = [rows, nothing] if generator.random() < 0.5 else [nothing, rows]
    text["stable"] = [item for item in text["stable"] if item["tensor"] != node.inputs[0]]
    text["stable"].append({"tensor": node.inputs[0], "inactive": claim[0], "active": claim[1]})


def stable_fewer(generator: Generator, text: Text, case: Case) -> None:
    """Claims about signs are left out: what rests on them has to be proved anyway."""
    entry(generator, text["stable"])
    text["stable"] = []


def relation_gone(generator: Generator, text: Text, case: Case) -> None:
    """Nothing says any more what a tensor stands for."""
    entry(generator, text["relations"])
    text["relations"].pop(int(generator.integers(len(text["relations"]))))


def relation_swapped(generator: Generator, text: Text, case: Case) -> None:
    """The coordinates that a tensor stands for are permuted."""
    item = part(generator, text, "relations")
    item["kept"] = generator.permutation(item["kept"])


def relation_of(generator: Generator, text: Text, case: Case) -> None:
    """A tensor stands for another tensor."""
    part(generator, text, "relations")["of"] = entry(generator, tensors(case))


def relation_factor(generator: Generator, text: Text, case: Case) -> None:
    """A tensor stands for multiples."""
    item = part(generator, text, "relations")
    item["factor"] = entry(generator, [1.0, 2.0, 0.5, 1 + 2.0**-52, 0.0, -1.0]) * np.ones(len(item["kept"]))


def relation_affine(generator: Generator, text: Text, case: Case) -> None:
    """A coordinate stands for a combination of several."""
    item = part(generator, text, "relations")
    network = loads(case.original).network
    if item["of"] not in network.tensors or not len(item["kept"]):
        raise NotHere
    place = int(generator.integers(len(item["kept"])))
    row = np.zeros((1, network.tensors[item["of"]].size))
    if generator.random() < 0.5:
        row[0, int(item["kept"][place])] = 1.0
    else:
        row[0] = generator.integers(-1, 2, row.shape[1])
    item["kept"] = item["kept"].copy()
    item["kept"][place] = -1
    item["matrix"], item["shift"] = row, generator.integers(0, 2, 1).astype(np.float64)


def relation_more(generator: Generator, text: Text, case: Case) -> None:
    """A tensor of which nothing was said stands for a permutation of the original's, or for nothing."""
    network = loads(case.compressed).network
    name = entry(generator, sorted(network.tensors))
    text["relations"] = [item for item in text["relations"] if item["tensor"] != name]
    kept = generator.permutation(network.tensors[name].size)
    text["relations"].append(certificates.relation(name, name, kept if generator.random() < 0.7 else []))


def relation_over(generator: Generator, text: Text, case: Case) -> None:
    """New units stand for functions of another tensor, or it is not said of which."""
    item = part(generator, text, "relations")
    if generator.random() < 0.2:
        item.pop("over", None)
    else:
        item["over"] = entry(generator, tensors(case))


def relation_row(generator: Generator, text: Text, case: Case) -> None:
    """What a unit stands for is changed in front of its ReLU and behind it alike."""
    found = pair(generator, text, case)
    way, number_of = int(generator.integers(4)), len(found[0]["kept"])
    place = int(generator.integers(max(1, number_of)))
    other = entry(generator, [-1.0, 2.0, 0.5, -0.5, 1e-300, -5e-324, 1e300])
    row = generator.integers(-2, 3, int(np.prod(found[0]["matrix"].shape[1:]) or 1)).astype(float)
    for item in found:
        if not number_of:
            raise NotHere
        new = np.cumsum(item["kept"] < 0) - 1
        if way == 0:
            scale_factor(item, place, other)
        elif way == 1:
            item["kept"] = item["kept"].copy()
            item["kept"][place] = (int(item["kept"][place]) + 1) % max(1, number_of)
        elif item["kept"][place] < 0 and way == 2:
            item["matrix"] = item["matrix"].copy()
            item["matrix"][new[place]] = row
        elif item["kept"][place] < 0:
            item["shift"] = item["shift"] + 1.0
        else:
            raise NotHere


def pair(generator: Generator, text: Text, case: Case) -> list[Text]:
    """The relations of a ReLU's input and output in the compressed network; where there are none, they are made."""
    network = loads(case.compressed).network
    node = entry(generator, network.relus)
    found = []
    for name in (node.inputs[0], node.output):
        mine = [item for item in text["relations"] if item["tensor"] == name]
        if not mine:
            mine = [certificates.relation(name, name, list(range(network.tensors[name].size)))]
            text["relations"].append(mine[0])
        found.append(mine[0])
    return found


def scale_factor(item: Text, place: int, factor: float) -> None:
    """A coordinate stands for so many times what it stood for."""
    whole = item["factor"] if len(item["factor"]) else np.ones(len(item["kept"]))
    item["factor"] = whole.copy()
    item["factor"][place] *= factor


def multiples_more(generator: Generator, text: Text, case: Case) -> None:
    """More units are claimed to be multiples, of each other, of themselves, of some that are not there."""
    network = loads(case.original).network
    node = entry(generator, network.relus)
    size = network.tensors[node.inputs[0]].size
    count = int(generator.integers(1, 3))
    unit, to = (generator.integers(0, size + (generator.random() < 0.1), count).astype(np.int32) for _ in range(2))
    factor = generator.choice([1.0, -1.0, 2.0, 0.0, -0.5, 1e30, 5e-324], count)
    claims = [item for item in text.get("multiples", []) if item["tensor"] != node.inputs[0]]
    name = node.inputs[0] if generator.random() < 0.8 else entry(generator, tensors(case))
    text["multiples"] = [*claims, {"tensor": name, "unit": unit, "to": to, "factor": factor}]


def multiples_gone(generator: Generator, text: Text, case: Case) -> None:
    """Nothing is said of multiples any more, or of another tensor."""
    claims = text.get("multiples", [])
    entry(generator, claims)
    if generator.random() < 0.5:
        claims.pop(int(generator.integers(len(claims))))
    else:
        part(generator, text, "multiples")["tensor"] = entry(generator, tensors(case))


def another_type(generator: Generator, text: Text, case: Case) -> None:
    """A field of the text has another type, or is gone."""
    where, key = entry(generator, list(fields(text)))
    if generator.random() < 0.3:
        del where[key]
        return
    value = where[key]
    ways: list[Any] = [None, 1, -1, True, "", "0", [], {}, [[]], 0.5, 1 << 70, np.zeros(1), np.zeros((0, 0))]
    if isinstance(value, np.ndarray):
        other = value[None] if value.dtype.kind == "f" else value.astype(np.int32, casting="unsafe")
        ways += [value.astype(np.float64), other, value.reshape(-1), value[..., None], value[:0], value.tolist()]
        ways += [np.concatenate([value, value])]
    where[key] = entry(generator, ways)


def fields(value: Any) -> Iterator[tuple[Text, str]]:
    """Every field of a text, with the object that it belongs to."""
    if isinstance(value, dict):
        for key in value:
            yield value, key
            yield from fields(value[key])
    elif isinstance(value, list):
        for item in value:
            yield from fields(item)


TEXTS: Mapping[str, Change] = {
    "level": level,
    "budget": budget,
    "epsilon": epsilon,
    "epsilon up to a budget": epsilon_to_budget,
    "points": points,
    "points far away": points_far_away,
    "domain": domain,
    "slopes, above": changes_array("slopes", "above"),
    "slopes, below": changes_array("slopes", "below"),
    "slopes, left out or moved": slopes_gone,
    "fact left out": dropped,
    "all facts left out": all_dropped,
    "facts reordered or repeated": reordered,
    "fact of another tensor": retargeted,
    "fact of the other sign": turned,
    "linear, rows": changes_array("facts", "rows", "linear"),
    "linear, below": below,
    "split, leaf left out": leaf_dropped,
    "split, moved": split_moved,
    "split, over": split_over,
    "split, rows": changes_array("facts", "rows", "split"),
    "split, split": changes_array("facts", "split", "split"),
    "split, above": changes_array("facts", "above", "split"),
    "split, below": changes_array("facts", "below", "split"),
    "split, which": changes_array("facts", "which", "split"),
    "split, beta": changes_array("facts", "beta", "split"),
    "boxes, all closed": boxes_all_closed,
    "boxes, goals": boxes_more_goals,
    "boxes, places": boxes_places,
    "boxes, rows": changes_array("facts", "rows", "boxes"),
    "boxes, signs": changes_array("facts", "signs", "boxes"),
    "boxes, dimension": changes_array("facts", "dimension", "boxes"),
    "boxes, nodes": boxes_nodes,
    "boxes, another tree": boxes_tree,
    "boxes, closed": changes_array("facts", "closed", "boxes"),
    "signs, more": stable_more,
    "signs, left out": stable_fewer,
    "signs, inactive": changes_array("stable", "inactive"),
    "signs, active": changes_array("stable", "active"),
    "relation left out": relation_gone,
    "relation, permuted": relation_swapped,
    "relation, of": relation_of,
    "relation, factor": relation_factor,
    "relation, affine": relation_affine,
    "relation, one more": relation_more,
    "relation, kept": changes_array("relations", "kept"),
    "relation, over": relation_over,
    "relation, one factor": changes_array("relations", "factor"),
    "relation, matrix": changes_array("relations", "matrix"),
    "relation, shift": changes_array("relations", "shift"),
    "relation, both sides of a ReLU": relation_row,
    "multiples, more": multiples_more,
    "multiples, left out or moved": multiples_gone,
    "multiples, unit": changes_array("multiples", "unit"),
    "multiples, to": changes_array("multiples", "to"),
    "multiples, factor": changes_array("multiples", "factor"),
    "a field of another type, or gone": another_type,
}

# Forgeries of the compressed network


def floats(model: ModelProto) -> list[Any]:
    """The initialisers that hold weights."""
    return [tensor for tensor in model.graph.initializer if tensor.data_type in (1, 11)]


def weight_ulp(generator: Generator, model: ModelProto) -> None:
    """A weight or bias is moved by one ulp."""
    change_weight(generator, model, lambda x: np.nextafter(x, x.dtype.type(entry(generator, [-np.inf, np.inf]))))


def weight_far(generator: Generator, model: ModelProto) -> None:
    """A weight or bias is another number."""
    change_weight(generator, model, lambda x: number(generator, x))


def weight_slightly(generator: Generator, model: ModelProto) -> None:
    """A weight or bias is moved by little: within some budgets."""
    change_weight(generator, model, lambda x: x + x.dtype.type(2.0 ** -int(generator.integers(4, 30))))


def change_weight(generator: Generator, model: ModelProto, change: Callable[[Any], Any]) -> None:
    """Change one number of one initialiser."""
    tensor = entry(generator, floats(model))
    values = numpy_helper.to_array(tensor).copy()
    if not values.size:
        raise NotHere
    place = int(generator.integers(values.size))
    values.reshape(-1)[place] = change(values.reshape(-1)[place])
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def units_swapped(generator: Generator, model: ModelProto) -> None:
    """Two rows of one weight matrix change places, and with them nothing else."""
    tensor = entry(generator, [t for t in floats(model) if t.dims and t.dims[0] > 1])
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(np.roll(values, 1, axis=0)), tensor.name))


def row_zero(generator: Generator, model: ModelProto) -> None:
    """A unit is taken away: its row becomes 0."""
    tensor = entry(generator, [t for t in floats(model) if len(t.dims) == 2 and t.dims[0]])
    values = numpy_helper.to_array(tensor).copy()
    values[int(generator.integers(len(values)))] = 0
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def layer_scaled(generator: Generator, model: ModelProto) -> None:
    """A whole layer is multiplied by two."""
    tensor = entry(generator, floats(model))
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(2), tensor.name))


def relu_gone(generator: Generator, model: ModelProto) -> None:
    """A ReLU hands its input through."""
    entry(generator, [node for node in model.graph.node if node.op_type == "Relu"]).op_type = "Identity"


def inputs_swapped(generator: Generator, model: ModelProto) -> None:
    """A node reads another tensor."""
    node = entry(generator, [node for node in model.graph.node if node.input])
    names = [name for other in model.graph.node for name in other.output if name not in node.output]
    node.input[0] = entry(generator, [*names, *(info.name for info in model.graph.input)])


def alpha(generator: Generator, model: ModelProto) -> None:
    """A Gemm gets a factor."""
    node = entry(generator, [node for node in model.graph.node if node.op_type == "Gemm"])
    node.attribute.append(helper.make_attribute(entry(generator, ["alpha", "beta"]), entry(generator, [0.5, 1.0, 2.0])))


def selection(generator: Generator, model: ModelProto) -> None:
    """A selection picks other coordinates."""
    tensor = entry(generator, [t for t in model.graph.initializer if t.data_type == 7 and len(t.dims) == 1])
    values = numpy_helper.to_array(tensor)
    ways = [np.roll(values, 1), values[::-1], values * 0, spoiled(generator, values)]
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(entry(generator, ways)), tensor.name))


NETWORKS: Mapping[str, Callable[[Generator, ModelProto], None]] = {
    "network: a number, one ulp": weight_ulp,
    "network: a number, slightly": weight_slightly,
    "network: a number, another": weight_far,
    "network: units swapped": units_swapped,
    "network: a row is 0": row_zero,
    "network: a layer is doubled": layer_scaled,
    "network: a ReLU is gone": relu_gone,
    "network: reads another tensor": inputs_swapped,
    "network: a selection": selection,
    "network: a Gemm has a factor": alpha,
}

# Other forgeries


def other_network(generator: Generator, case: Case, other: Case) -> Forgery:
    """The compressed network is another one's."""
    return Forgery(case.original, other.compressed, sealed(case.text, case.original, other.compressed), case.box)


def other_original(generator: Generator, case: Case, other: Case) -> Forgery:
    """The original is another one."""
    return Forgery(other.original, case.compressed, sealed(case.text, other.original, case.compressed), other.box)


def other_certificate(generator: Generator, case: Case, other: Case) -> Forgery:
    """The certificate was made for another pair of networks."""
    return Forgery(case.original, case.compressed, sealed(other.text, case.original, case.compressed), case.box)


def no_change(generator: Generator, case: Case, other: Case) -> Forgery:
    """The original in place of the compressed network, under a certificate that says so or does not."""
    text = dict(case.text, relations=[]) if generator.random() < 0.5 else case.text
    return Forgery(case.original, case.original, sealed(text, case.original, case.original), case.box)


def wider(generator: Generator, case: Case, other: Case) -> Forgery:
    """Both domains are wider than what was proved: the signs have to hold there too."""
    grown = Fraction(entry(generator, ["1/1024", "1/8", "1", "10"]))
    box, text = case.box, contents(case.certificate)
    moved = [(low, box.upper[name], box.upper[name] - low) for name, low in box.lower.items()]
    lower, upper = (
        {name: ends + side * grown * (width != 0) for name, ends, width in zip(box.lower, part_, widths, strict=True)}
        for side, part_, widths in (
            (-1, [low for low, _, _ in moved], [width for _, _, width in moved]),
            (1, [high for _, high, _ in moved], [width for _, _, width in moved]),
        )
    )
    if generator.random() < 0.7:
        text["domain"] = [
            {"input": n, "lower": certificates.ends(lower[n].ravel()), "upper": certificates.ends(upper[n].ravel())}
            for n in lower
        ]
    return Forgery(case.original, case.compressed, sealed(text, case.original, case.compressed), Box(lower, upper))


def narrower(generator: Generator, case: Case, other: Case) -> Forgery:
    """The user asks for less than was proved."""
    lower = {name: (low + case.box.upper[name]) / 2 for name, low in case.box.lower.items()}
    return Forgery(case.original, case.compressed, case.certificate, Box(lower, case.box.upper))


def truncated(generator: Generator, case: Case, other: Case) -> Forgery:
    """The file ends early, or goes on."""
    data = case.certificate
    cut = data[: int(generator.integers(len(data)))] if generator.random() < 0.8 else data + b"\0"
    return Forgery(case.original, case.compressed, cut, case.box)


def flipped(generator: Generator, case: Case, other: Case) -> Forgery:
    """Some bits of the file are flipped."""
    return Forgery(case.original, case.compressed, flip(generator, case.certificate), case.box)


def flipped_inside(generator: Generator, case: Case, other: Case) -> Forgery:
    """Some bits are flipped in what is compressed in the file, and it is compressed again."""
    data = case.certificate
    body = flip(generator, zlib.decompress(data[20:]))
    return Forgery(case.original, case.compressed, data[:20] + zlib.compress(body), case.box)


def flip(generator: Generator, data: bytes) -> bytes:
    """One to three bits flipped."""
    found = bytearray(data)
    for _ in range(int(generator.integers(1, 4))):
        found[int(generator.integers(len(found)))] ^= 1 << int(generator.integers(8))
    return bytes(found)


def unsealed(generator: Generator, case: Case, other: Case) -> Forgery:
    """A network that the certificate's hashes do not know."""
    model = ModelProto.FromString(case.compressed)
    model.doc_string += "changed"
    return Forgery(case.original, model.SerializeToString(), case.certificate, case.box)


# Forgeries of network and certificate that agree with each other


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer of the compressed network: its row-wise weights (``stored``), a reader's, and what it stands for."""

    model: ModelProto
    text: Text
    pair: list[Text]
    stored: list[Any]
    reader: Any
    place: int

    def forgery(self, case: Case, generator: Generator) -> Forgery:
        """The files with what was changed."""
        if generator.random() < 0.5:
            epsilon_to_budget(generator, self.text, case)
        compressed = self.model.SerializeToString()
        return Forgery(case.original, compressed, sealed(self.text, case.original, compressed), case.box)


def layer_of(generator: Generator, case: Case) -> Layer:
    """Some layer between two Gemms, and one of its units."""
    model, text = ModelProto.FromString(case.compressed), contents(case.certificate)
    arrays = {tensor.name: tensor for tensor in model.graph.initializer}
    gemms = [node for node in model.graph.node if node.op_type == "Gemm" and node.input[1] in arrays]
    relu = entry(generator, [node for node in model.graph.node if node.op_type == "Relu"])
    before = entry(generator, [node for node in gemms if relu.input[0] in node.output])
    after = entry(generator, [node for node in gemms if relu.output[0] in node.input])
    found = []
    for name in (relu.input[0], relu.output[0]):
        mine = [item for item in text["relations"] if item["tensor"] == name]
        if not mine:
            size = int(arrays[before.input[1]].dims[0])
            mine = [certificates.relation(name, name, list(range(size)))]
            text["relations"].append(mine[0])
        found.append(mine[0])
    place = int(generator.integers(len(found[0]["kept"])))
    stored = [arrays[name] for name in before.input[1:] if name in arrays]
    return Layer(model, text, found, stored, arrays[after.input[1]], place)


def change(tensor: Any, index: Any, factor: float) -> None:
    """Multiply some numbers of an initialiser."""
    values = numpy_helper.to_array(tensor).copy()
    with np.errstate(all="ignore"):
        values[index] *= values.dtype.type(factor)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def unit_scaled(generator: Generator, case: Case, other: Case) -> Forgery:
    """A unit and what it stands for are scaled or turned over; its readers take it as before, or scaled back."""
    layer = layer_of(generator, case)
    factor = entry(generator, [-1.0, 2.0, -2.0, 0.5, -1.0, -1.0])
    for tensor in layer.stored:
        change(tensor, layer.place, factor)
    for item in layer.pair:
        scale_factor(item, layer.place, factor)
    if generator.random() < 0.5:
        change(layer.reader, (slice(None), layer.place), entry(generator, [1 / factor, abs(1 / factor)]))
    return layer.forgery(case, generator)


def unit_new(generator: Generator, case: Case, other: Case) -> Forgery:
    """A unit that stands for a coordinate is said to be a new one that stands for the same, active or not."""
    layer = layer_of(generator, case)
    over, after = layer.pair[0]["of"], layer.pair[1]["of"]
    sizes = {name: tensor.size for name, tensor in loads(case.original).network.tensors.items()}
    unit = int(layer.pair[0]["kept"][layer.place])
    if unit < 0 or any(len(item["matrix"]) for item in layer.pair) or over not in sizes or after not in sizes:
        raise NotHere
    behind = entry(generator, [over, over, after])
    for item, name in zip(layer.pair, (over, behind), strict=True):
        row = np.zeros((1, sizes[name]))
        row[0, unit] = 1.0
        item["kept"] = item["kept"].copy()
        item["kept"][layer.place] = -1
        item["matrix"], item["shift"], item["over"] = row, np.zeros(1), name
    return layer.forgery(case, generator)


def units_merged(generator: Generator, case: Case, other: Case) -> Forgery:
    """A unit is claimed to be a multiple of another, and their readers take it so."""
    layer = layer_of(generator, case)
    kept = layer.pair[0]["kept"]
    to = int(generator.integers(len(kept)))
    if to == layer.place or kept[to] < 0 or kept[layer.place] < 0:
        raise NotHere
    factor = entry(generator, [1.0, 2.0, 0.5, -1.0, 0.0])
    claim = {"tensor": layer.pair[0]["of"], "unit": kept[layer.place : layer.place + 1].astype(np.int32),
             "to": kept[to : to + 1].astype(np.int32), "factor": np.array([factor])}  # fmt: skip
    claims = [item for item in layer.text.get("multiples", []) if item["tensor"] != claim["tensor"]]
    layer.text["multiples"] = [*claims, claim]
    values = numpy_helper.to_array(layer.reader).copy()
    values[:, to] += values.dtype.type(abs(factor)) * values[:, layer.place]
    values[:, layer.place] = 0
    layer.reader.CopyFrom(numpy_helper.from_array(values, layer.reader.name))
    return layer.forgery(case, generator)


def selection_and_places(generator: Generator, case: Case, other: Case) -> Forgery:
    """A selection picks other coordinates, and the certificate says so."""
    model, text = ModelProto.FromString(case.compressed), contents(case.certificate)
    gather = entry(generator, [node for node in model.graph.node if node.op_type == "Gather"])
    (tensor,) = [t for t in model.graph.initializer if t.name == gather.input[1]]
    item = dict_of(entry(generator, [i for i in text["relations"] if i["tensor"] == gather.output[0]]))
    order = generator.integers(0, int(tensor.dims[0]), int(tensor.dims[0]))
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values[order]), tensor.name))
    item["kept"] = item["kept"][order]
    if generator.random() < 0.5:
        epsilon_to_budget(generator, text, case)
    compressed = model.SerializeToString()
    return Forgery(case.original, compressed, sealed(text, case.original, compressed), case.box)


def side_by_side(generator: Generator, case: Case, other: Case) -> Forgery:
    """What stands side by side is ordered, weighted or named otherwise, or read twice, and the certificate says so."""
    model, text = ModelProto.FromString(case.compressed), contents(case.certificate)
    both = entry(generator, [node for node in model.graph.node if node.op_type == "Concat"])
    item = dict_of(entry(generator, [i for i in text["relations"] if i["tensor"] == both.output[0]]))
    reader = entry(generator, [node for node in model.graph.node if both.output[0] in node.input])
    (weight,) = [t for t in model.graph.initializer if t.name in reader.input[1:] and len(t.dims) == 2]
    new, way = np.flatnonzero(item["kept"] < 0), int(generator.integers(7))
    if not new.size:
        raise NotHere
    if way == 0:  # the other way round
        order = np.concatenate([new, np.flatnonzero(item["kept"] >= 0)])
        both.input[:] = list(both.input)[::-1]
        item["kept"] = item["kept"][order]
        reorder(weight, order)
        if generator.random() < 0.5:
            item["of"], item["over"] = item["over"], item["of"]
    elif way == 1:  # one of them twice
        name = entry(generator, list(both.input))
        both.input[:] = [*both.input, name] if generator.random() < 0.5 else [name] * len(both.input)
    elif way == 2:  # the coordinates of the input in another order
        order = generator.integers(0, new.size, new.size)
        item["matrix"] = item["matrix"][order]
        if generator.random() < 0.5:
            reorder(weight, np.concatenate([np.flatnonzero(item["kept"] >= 0), new[order]]))
    elif way == 3:  # multiples of the coordinates, taken as such
        factor, row = entry(generator, [2.0, 0.5, -1.0, 0.0]), int(generator.integers(new.size))
        item["matrix"] = item["matrix"].copy()
        item["matrix"][row] *= factor
        if factor:
            change(weight, (slice(None), new[row]), 1 / factor)
    elif way == 4:  # a coordinate more in a row, or a constant
        name, row = entry(generator, ["matrix", "shift"]), int(generator.integers(new.size))
        item[name] = item[name].copy()
        item[name][row] = item[name][row] + 1.0
    elif way == 5:  # all of it new, or nothing of it
        rows = np.zeros((len(item["kept"]), item["matrix"].shape[1]))
        rows[np.arange(len(rows)), generator.integers(0, rows.shape[1], len(rows))] = 1.0
        item["kept"], item["matrix"], item["shift"] = np.full_like(item["kept"], -1), rows, np.zeros(len(rows))
    else:  # another tensor of the original
        item[entry(generator, ["of", "over"])] = entry(generator, tensors(case))
    if generator.random() < 0.5:
        epsilon_to_budget(generator, text, case)
    compressed = model.SerializeToString()
    return Forgery(case.original, compressed, sealed(text, case.original, compressed), case.box)


def reorder(tensor: Any, order: Array) -> None:
    """Take the columns of an initialiser in another order."""
    values = numpy_helper.to_array(tensor)[:, order]
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))


OTHERS: Mapping[str, Callable[[Generator, Case, Case], Forgery]] = {
    "another compressed network": other_network,
    "another original": other_original,
    "another certificate": other_certificate,
    "the original as it is": no_change,
    "a wider domain": wider,
    "a narrower domain": narrower,
    "cut off": truncated,
    "bits flipped": flipped,
    "bits flipped inside": flipped_inside,
    "a hash that is wrong": unsealed,
    "both: a unit scaled or turned over": unit_scaled,
    "both: a unit said to be new": unit_new,
    "both: units merged": units_merged,
    "both: a selection": selection_and_places,
    "both: side by side": side_by_side,
}

KINDS = (*TEXTS, *NETWORKS, *OTHERS)


def forged(kind: str, generator: Generator, case: Case, other: Case) -> Forgery:
    """A forgery of one kind.

    Raises
    ------
    NotHere
        When the case has nothing that could be changed so.
    """
    if kind in OTHERS:
        return OTHERS[kind](generator, case, other)
    compressed, text = case.compressed, contents(case.certificate)
    if kind in TEXTS:
        TEXTS[kind](generator, text, case)
    else:
        model = ModelProto.FromString(compressed)
        NETWORKS[kind](generator, model)
        compressed = model.SerializeToString()
        if generator.random() < 0.3:
            epsilon_to_budget(generator, text, case)
    try:
        return Forgery(case.original, compressed, resealed(text, case.original, compressed), case.box)
    except (TypeError, ValueError, KeyError) as error:  # this cannot be written at all
        raise NotHere from error


def resealed(text: Text, original: bytes, compressed: bytes) -> bytes:
    """The certificate with the right hashes, as far as it still has a place for them."""
    for name, data in (("original", original), ("compressed", compressed)):
        if isinstance(text.get(name), dict) and isinstance(text[name].get("sha256"), str):
            text[name]["sha256"] = certificates.sha(data)
    return pack(text)


@dataclass
class Tally:
    """What became of forgeries, or of networks, by kind."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def add(self, kind: str, what: str, of: str = "") -> None:
        """Count one; what is false or crashed is kept by name."""
        self.counts.setdefault(kind, Counter())[what] += 1
        if what.startswith(("FALSE", "crashed")):
            self.wrong.append(f"{kind}: {what} {of}")

    @property
    def false(self) -> int:
        """How many claims were accepted that are not so."""
        return sum(count["FALSE"] for count in self.counts.values())

    def table(self, title: str, columns: tuple[str, ...]) -> Table:
        """All of it, a row for each kind."""
        more = sorted({what for count in self.counts.values() for what in count} - set(columns))
        table = Table(title=title)
        for name in ("", *columns, *more):
            table.add_column(name, justify="right" if name else "left")
        total = Counter[str]()
        for kind, count in self.counts.items():
            table.add_row(kind, *(str(count[what]) for what in (*columns, *more)))
            total += count
        table.add_section()
        table.add_row("all", *(str(total[what]) for what in (*columns, *more)))
        return table


def judged(forgery: Forgery) -> str:
    """What the checker makes of a forgery, and whether that is right."""
    case = Case(forgery.original, forgery.compressed, {}, forgery.box)
    what, proved = outcome(case, forgery.certificate)
    if proved is None:
        return what
    return "true" if certificates.true(forgery.original, forgery.compressed, forgery.box, proved) else "FALSE"


def bases(count: int, seed: int, folder: Path) -> list[Case]:
    """Small certified compressions that removed something, with facts of each kind, at each level."""
    found: list[Case] = []
    kinds, number = Counter[str](), 0
    wanted = ("linear", "split", "boxes")
    while len(found) < count:
        number += 1
        generator = np.random.default_rng([seed, number])
        rare = len(found) % 2 == 0  # half of all are to have facts that need larger networks
        network, box = random_network(generator, *((6, 3) if rare else (4, 2)))
        prover = PROVERS[str(generator.choice(sorted(PROVERS)))]
        result = quick(network, box, LEVELS[number % len(LEVELS)], folder, prover)
        if result.certified is None or result.certified.compressed == result.certified.original:
            continue
        case = case_of(result, box)
        here = {fact["kind"] for fact in case.text["facts"]}
        if rare and not here & {"split", "boxes"} and number < 40 * count:
            continue
        kinds.update(here)
        found.append(case)
    print("  ".join(f"{kind}: {kinds[kind]}" for kind in wanted), f"of {count} certificates", flush=True)
    return found


PLANTED = ("duplicates", "positive multiples", "opposite pair", "hyperplane class", "affine class", "turned over",
           "joint rank", "rank by fixed input", "linear layer", "lumping", "fixed inputs")  # fmt: skip
"""What the rewrites that make new units, claim multiples or put selections in take out again."""


def planted_bases(count: int, seed: int, folder: Path) -> list[Case]:
    """Compressions of networks with planted redundancy, whose certificates have new units, multiples and selections."""
    found: list[Case] = []
    number = 0
    while len(found) < count:
        number += 1
        generator = np.random.default_rng([seed, 5, number])
        kinds = [PLANTED[number % len(PLANTED)], *generator.choice(PLANTED[:-1], int(generator.integers(2)))]
        widths = entry(generator, [(2, 3, 3, 1), (2, 3, 2), (2, 4, 2)])
        active = (int(generator.integers(2)),) * (len(widths) - 2)
        try:
            net = planted(core(int(generator.integers(6)), widths, active), kinds, number).net
            result = quick(net.network, net.box, LEVELS[number % len(LEVELS)], folder, PROVERS["leaves"])
        except (AssertionError, ValueError):  # no such core, or nowhere to plant it
            continue
        if result.certified is not None and result.certified.compressed != result.certified.original:
            found.append(case_of(result, net.box))
    texts = [case.text for case in found]
    new = sum(any(len(item["matrix"]) for item in text["relations"]) for text in texts)
    opposite = sum(any((item["factor"] < 0).any() for item in text["relations"]) for text in texts)
    claims = sum(bool(text.get("multiples")) for text in texts)
    picked = sum(any(item["tensor"] != item["of"] for item in text["relations"]) for text in texts)
    print(f"new units: {new}  opposites: {opposite}  multiples: {claims}  selections: {picked}  of {count}", flush=True)
    return found


def skip_network(generator: Generator) -> tuple[Network, Box]:
    """A layer with two active units on two inputs, and some that are not stable; perhaps layers around it."""
    unstable, readers = int(generator.integers(1, 3)), int(generator.integers(2, 4))
    rows = generator.choice([-2.0, -1.0, 0.5, 1.0, 3.0], (2 + unstable, 2)) * generator.choice([1.0, 1 / 3, 1.1])
    rows[:2] = np.eye(2) + np.triu(generator.choice([0.0, 1.0, 0.7], (2, 2)), 1)
    bias = np.abs(rows).sum(axis=1) + generator.choice([0.1, 1.0])
    bias[2:] = -rows[2:].sum(axis=1) / 2
    layers = [(rows, bias), (generator.normal(size=(readers, 2 + unstable)), generator.normal(size=readers))]
    if generator.random() < 0.4:
        layers.insert(0, (np.array([[1, 0.5], [-0.5, 1]]), np.array([generator.choice([-0.75, 0.5]), 0.25])))
    if generator.random() < 0.4:
        layers.append((generator.normal(size=(2, readers)), np.zeros(2)))
    box = box_of((0, 1), (0, entry(generator, [1, "1/3"])))
    return chain(*layers, box=box, dtype=entry(generator, [np.float32, np.float32, np.float64])), box


def skip_bases(count: int, seed: int, folder: Path) -> list[Case]:
    """Compressions in which what reads a layer reads the layer's input beside it."""
    found: list[Case] = []
    number = 0
    while len(found) < count:
        number += 1
        network, box = skip_network(np.random.default_rng([seed, 13, number]))
        settings = Settings(LEVELS[number % len(LEVELS)], prover=PROVERS["leaves"], skips=True)
        with mock.patch.object(COMPRESS, "check", return_value=unchanged()):
            result = compress(certificates.as_model(network), box, certificate=folder / "some.cert", settings=settings)
        if result.certified is None:
            continue
        case = case_of(result, box)
        if any(item["of"] != item["tensor"] and len(item["matrix"]) for item in case.text["relations"]):
            found.append(case)
    print(f"skips: {count} of {number} networks", flush=True)
    return found


def forgeries(count: int, seed: int, bases_of: int, more: Sequence[Case] = ()) -> Tally:
    """Forge certificates that are made here, and more, and judge what becomes of them."""
    tally = Tally({kind: Counter() for kind in KINDS})
    with tempfile.TemporaryDirectory() as folder:
        made_of = (bases, planted_bases, skip_bases)
        cases = [case for make in made_of for case in make(bases_of, seed, Path(folder))] + list(more)
    generator, made, tries = np.random.default_rng([seed, 1 << 30]), 0, 0
    while made < count:
        tries += 1
        kind = KINDS[tries % len(KINDS)]
        case, other = entry(generator, cases), entry(generator, cases)
        try:
            forgery = forged(kind, generator, case, other)
        except NotHere:
            continue
        tally.add(kind, judged(forgery), f"(seed {seed}, forgery {made})")
        made += 1
        if made % RUNNING == 0:
            print(f"{made} forgeries, {tally.false} false", flush=True)
    return tally


# Honest runs


def honest(count: int, seed: int, units: int = 4, layers: int = 2) -> Tally:
    """Compress random networks at every level, and hold what was promised against the truth."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            generator = np.random.default_rng([seed, 7, number])
            network, box = random_network(generator, units, layers)
            prover = PROVERS[sorted(PROVERS)[number % len(PROVERS)]]
            level = LEVELS[int(generator.integers(len(LEVELS)))]
            name = f"(seed {seed}, network {number})"
            tally.add(type(level).__name__.lower(), held(network, box, level, Path(folder), prover), name)
            if (number + 1) % RUNNING == 0:
                print(f"{number + 1} networks, {tally.false} false", flush=True)
    return tally


def held(network: Network, box: Box, level: Any, folder: Path, prover: ProverSettings) -> str:
    """What became of one network: smaller, as it was, without a certificate, and whether it is right."""
    try:
        result = quick(network, box, level, folder, prover)
    except Exception as error:
        return f"crashed ({type(error).__name__})"
    return result_held(result, network, box, level)


def result_held(result: Result, network: Network, box: Box, level: Any) -> str:
    """Whether a result is what its level promises, by the oracle alone."""
    found, promise = result.certified, result.report.guarantee
    if found is None:
        if promise is not None and promise.level == "attested":
            return "attested"  # it says so, and that no certificate comes with it
        before, after = (loads(model.SerializeToString()) for model in (certificates.as_model(network), result.model))
        return "no certificate" if before.network.digest == after.network.digest else "FALSE"
    again = check(found.original, found.compressed, found.certificate, certificates.domain_of(box))
    fits = again.level == ("within" if type(level).__name__ == "Within" else type(level).__name__.lower())
    if not fits or not certificates.true(found.original, found.compressed, box, again):
        return "FALSE"
    return "as it was" if found.original == found.compressed else "smaller"


# Lies


@contextmanager
def lying_bounds(way: str, generator: Generator) -> Iterator[None]:
    """Linear bounds that are not so, wherever they are used."""

    def lied(*args: Any, **named: Any) -> Any:
        found = linear_upper_bound(*args, **named)
        return replace(found, upper=spoiled_bound(found.upper, way, generator))

    with ExitStack() as stack:
        for module in ("reluce.bounds._analysis", "reluce.prove._rigorous", "reluce.guarantee._magnitudes"):
            stack.enter_context(mock.patch.object(sys.modules[module], "linear_upper_bound", lied))
        yield


@contextmanager
def lying_boxes(way: str, generator: Generator) -> Iterator[None]:
    """Bounds on boxes that are not so."""
    honest_goals = Engine.goals

    def lied(self: Engine, *args: Any, **named: Any) -> Any:
        upper, *rest = honest_goals(self, *args, **named)
        return (spoiled_bound(upper, way, generator), *rest)

    with mock.patch.object(Engine, "goals", lied):
        yield


def spoiled_bound(values: Array, way: str, generator: Generator) -> Array:
    """Bounds that are too low, or no numbers."""
    if way == "shifted":
        return np.asarray(values - np.abs(values) * generator.random() - 0.5)
    return np.where(generator.random(values.shape) < 0.5, np.nan if way == "nan" else -np.inf, values)


class Liar(Session):
    """A solver that answers without looking at the question."""

    def __init__(self, problem: Problem, way: str, generator: Generator) -> None:
        self._columns, self._way, self._generator = len(problem.lower), way, generator

    def maximise(self, objective: Array, limits: Limits) -> Outcome:
        """Whatever it likes."""
        point = self._generator.normal(size=self._columns) * 1e6
        match self._way:
            case "too low":
                return Outcome(Status.OPTIMAL, dual_bound=-1.0)
            case "-inf":
                return Outcome(Status.OPTIMAL, dual_bound=-np.inf)
            case "NaN":
                return Outcome(
                    Status.OPTIMAL, dual_bound=np.nan, objective=np.nan, point=np.full(self._columns, np.nan)
                )
            case "infeasible":
                return Outcome(Status.INFEASIBLE)
            case "points":
                return Outcome(Status.STOPPED, dual_bound=-1e-9, objective=1.0, point=point)
            case "hangs":  # what a session makes of it once it was killed
                return Outcome(Status.LIMIT, note="killed")
        return Outcome(Status.FAILED, note="crashed")

    def bound(self, columns: Array, lower: Array, upper: Array) -> None:
        """It does not care."""

    def close(self) -> None:
        """There is nothing to free."""


@contextmanager
def lying_solver(way: str, generator: Generator) -> Iterator[None]:
    """A solver that lies, and no point that was tried before it is asked."""
    module = sys.modules["reluce.prove._ladder"]
    with (
        mock.patch.object(module, "open_session", lambda solver, problem, stop: Liar(problem, way, generator)),
        mock.patch.object(module, "first_look", return_value=None),
    ):
        yield


@contextmanager
def lying_analysis(way: str, generator: Generator) -> Iterator[None]:
    """``prove`` says of some units that they are stable, with intervals that agree, or without."""
    module = COMPRESS
    honest_prove = reluce.prove.prove

    def lied(network: Network, *args: Any, **named: Any) -> Any:
        proof = honest_prove(network, *args, **named)
        layers, intervals = dict(proof.facts.layers), dict(proof.bounds.intervals)
        for node in network.relus:
            layer, z = layers[node.name], intervals.get(node.inputs[0])
            wrong = generator.random(layer.units) < 0.4
            says = generator.choice([Verdict.INACTIVE, Verdict.ACTIVE], layer.units)
            layers[node.name] = replace(layer, verdict=np.where(wrong, says, layer.verdict))
            if way == "intervals" and z is not None:
                off, on = generator.random(z.upper.shape) < 0.3, generator.random(z.upper.shape) < 0.3
                low = np.where(on & ~off, np.abs(z.lower), z.lower)
                high = np.where(off, -np.abs(z.upper), z.upper)
                intervals[node.inputs[0]] = Interval(np.minimum(low, high), high, z.slack)
        facts, bounds = replace(proof.facts, layers=layers), replace(proof.bounds, intervals=intervals)
        return replace(proof, facts=facts, bounds=bounds)

    with mock.patch.object(module, "prove", lied):
        yield


WAYS = ("too low", "-inf", "NaN", "infeasible", "points", "hangs", "crashes")
LIARS: Mapping[str, tuple[Callable[[Generator], Any], ProverSettings]] = {
    **{f"bounds: {way}": (partial(lying_bounds, way), ProverSettings()) for way in ("shifted", "nan", "-inf")},
    **{f"boxes: {way}": (partial(lying_boxes, way), ProverSettings()) for way in ("shifted", "nan", "-inf")},
    "verdicts": (partial(lying_analysis, "verdicts"), ProverSettings()),
    "verdicts and intervals": (partial(lying_analysis, "intervals"), ProverSettings()),
    **{
        f"{method}{', trusted' if trust else ''}: {way}": (
            partial(lying_solver, way), ProverSettings(method=method, trust_solver=trust)
        )
        for method in METHODS
        for trust in (False, True)
        for way in WAYS
    },
}  # fmt: skip
"""Who lies, and the prover that is lied to."""


def lies(count: int, seed: int) -> Tally:
    """Compress while somebody lies."""
    tally = Tally({name: Counter() for name in LIARS})
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            generator = np.random.default_rng([seed, 11, number])
            network, box = random_network(generator, 5, 2)
            name = list(LIARS)[number % len(LIARS)]
            level = LEVELS[int(generator.integers(len(LEVELS)))]
            liar, prover = LIARS[name]
            with liar(generator), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # NaN among the lies
                what = held(network, box, level, Path(folder), prover)
            tally.add(name, what, f"(seed {seed}, network {number})")
            if (number + 1) % RUNNING == 0:
                print(f"{number + 1} lies, {tally.false} false", flush=True)
    return tally


def main() -> int:
    """Run what is asked for, print the tables; 1 if anything false was accepted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000, help="forgeries")
    parser.add_argument("--honest", type=int, default=0, help="random networks through compress and the checker")
    parser.add_argument("--lies", type=int, default=0, help="random networks while an engine lies")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bases", type=int, default=40, help="certificates that are forged")
    given = parser.parse_args()
    start, console, false = time.perf_counter(), Console(width=150), 0
    runs: list[tuple[str, Tally, tuple[str, ...]]] = []
    if given.count:
        tally = forgeries(given.count, given.seed, given.bases)
        runs.append(("forgeries", tally, ("refused", "unreadable", "true", "FALSE")))
    if given.honest:
        runs.append(("random networks", honest(given.honest, given.seed), ("smaller", "as it was", "FALSE")))
    if given.lies:
        runs.append(("lying engines", lies(given.lies, given.seed), ("smaller", "as it was", "FALSE")))
    for title, tally, columns in runs:
        console.print(tally.table(title, columns))
        false += tally.false
        for line in tally.wrong[:20]:
            console.print(line)
    console.print(f"{false} false, {time.perf_counter() - start:.0f} s")
    return int(false > 0)


if __name__ == "__main__":
    sys.exit(main())

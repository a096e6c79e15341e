"""Certificates to take apart and put together again, and the truth about what they claim, by the exact oracle."""

from __future__ import annotations

import copy
import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from oracle import max_difference, ranges
from strategies import SHAPES, Builder, box_of, chain

from reluce import Exact, ProverSettings, Result, Roundoff, Settings, Within, compress
from reluce.certificate._container import pack
from reluce.domain import Box
from reluce.io import loads
from reluce.network import Add, Affine, Dense, Network, Relu, Select
from reluce.prove import ClosingSettings, SplitSettings
from reluce.prove._slopes import Descent
from reluce.verify import unchanged
from reluce_checker import Domain, NotProved, Proved, Unreadable, check
from reluce_checker._container import unpack

Array = np.ndarray[Any, Any]
Text = dict[str, Any]

NO_BOXES = SplitSettings(most_inputs=0)
PROVERS = {
    "boxes": ProverSettings(),
    "slopes": ProverSettings(closing=ClosingSettings(split=NO_BOXES, last_split=NO_BOXES)),
    "leaves": ProverSettings(
        closing=ClosingSettings(split=NO_BOXES, last_split=NO_BOXES, slopes=Descent(steps=0), tighten=Descent(steps=0))
    ),
}
"""Settings with which each kind of proof turns up."""

LEVELS = (Exact(), Roundoff(), Within(2.0**-10), Within(0.5))


# Networks


def as_model(network: Network) -> ModelProto:
    """The ONNX model of a network of the strategies, under the same names."""
    nodes: list[NodeProto] = []
    constants: dict[str, Array] = {}
    for node in network.nodes:
        nodes += _nodes(network, node.op, list(node.inputs), node.output, constants)
    kinds = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.float64): TensorProto.DOUBLE}

    def infos(names: Sequence[str]) -> list[Any]:
        parts = [(name, network.tensors[name].dtype) for name in names]
        return [helper.make_tensor_value_info(n, kinds[np.dtype(t)], ["N", *network.shape(n)]) for n, t in parts]

    stored = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "forged", infos(network.inputs), infos(network.outputs), stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _nodes(network: Network, op: Any, inputs: list[str], output: str, constants: dict[str, Array]) -> list[NodeProto]:
    def stored(prefix: str, value: Array) -> str:
        constants[f"{prefix}_{output}"] = value
        return f"{prefix}_{output}"

    match op:
        case Dense() if len(network.shape(inputs[0])) == 1:
            extra = [stored("W", op.weight)] + ([] if op.bias is None else [stored("b", op.bias)])
            return [helper.make_node("Gemm", [*inputs, *extra], [output], transB=1)]
        case Dense():
            product = output if op.bias is None else f"{output}_product"
            found = [helper.make_node("MatMul", [*inputs, stored("W", op.weight.T)], [product])]
            if op.bias is not None:
                found.append(helper.make_node("Add", [product, stored("b", op.bias)], [output]))
            return found
        case Relu():
            return [helper.make_node("Relu", inputs, [output])]
        case Add():
            return [helper.make_node("Add", inputs, [output])]
        case Select():
            joined = f"{output}_joined" if len(inputs) > 1 else inputs[0]
            found = [helper.make_node("Concat", inputs, [joined], axis=1)] if len(inputs) > 1 else []
            return [*found, helper.make_node("Gather", [joined, stored("i", op.indices)], [output], axis=1)]
        case Affine():
            shifted = op.shift is not None
            middle = f"{output}_scaled" if shifted else output
            found = [helper.make_node("Mul", [*inputs, stored("f", op.scale)], [middle])]
            return [*found, helper.make_node("Add", [middle, stored("s", op.shift)], [output])] if shifted else found
    raise NotImplementedError(type(op).__name__)


def random_network(
    generator: np.random.Generator, units: int = 4, layers: int = 2, wild: bool | None = None
) -> tuple[Network, Box]:
    """A chain or one of the DAGs on a box with at most two inputs that vary: what the oracle can decide."""
    ends = [[(-1, 1)], [(-1, 1), (0, 1)], [(0, "3/4"), (-2, 1), (1, 1)], [(-1, "1/3"), (0, 1)]]
    box = box_of(*ends[int(generator.choice(4, p=[0.3, 0.4, 0.2, 0.1]))])
    b = Builder(generator, box, wild=bool(generator.integers(2)) if wild is None else wild)
    if generator.random() < 0.3:
        shape = SHAPES[str(generator.choice(sorted(SHAPES)))]
        return shape(b, int(generator.integers(1, units + 1))), box
    last = "x"
    for depth in range(1, int(generator.integers(1, layers + 1)) + 1):
        last = b.relu(f"h{depth}", b.dense(f"z{depth}", last, int(generator.integers(1, units + 1))))
    return b.network(b.dense("y", last, int(generator.integers(1, 3)))), box


# Compressions


@dataclass(frozen=True, eq=False)
class Case:
    """Two networks, what a certificate says of them, and the user's domain."""

    original: bytes
    compressed: bytes
    text: Text
    box: Box

    @property
    def certificate(self) -> bytes:
        """The certificate, with the hashes of the two files."""
        return sealed(self.text, self.original, self.compressed)

    def check(self) -> Proved:
        """What the checker proves of it."""
        return check(self.original, self.compressed, self.certificate, domain_of(self.box))


def certified(model: Any, box: Any, level: Any, folder: Path, prover: ProverSettings | None = None) -> Result:
    """The result of ``compress`` with a certificate in a folder."""
    settings = Settings(level, prover=ProverSettings() if prover is None else prover)
    return compress(model, box, certificate=folder / "some.cert", settings=settings)


def quick(network: Network, box: Box, level: Any, folder: Path, prover: ProverSettings) -> Result:
    """``compress`` without its last look at onnxruntime, which proves nothing and takes as long as all the rest."""
    with mock.patch.object(sys.modules["reluce.compress"], "check", return_value=unchanged()):
        return certified(as_model(network), box, level, folder, prover)


def case_of(result: Result, box: Box) -> Case:
    """The files of a result, taken apart."""
    found = result.certified
    if found is None:
        raise ValueError("there is no certificate: " + "; ".join(result.report.notes))
    return Case(found.original, found.compressed, contents(found.certificate), box)


def contents(certificate: bytes) -> Text:
    """The text of a certificate with its arrays, all of it free to be changed."""
    return copy.deepcopy(unpack(certificate))


def sealed(text: Text, original: bytes, compressed: bytes) -> bytes:
    """The certificate with a text, about two files: no hash gives away that somebody else wrote it."""
    about = {name: {"sha256": sha(data)} for name, data in (("original", original), ("compressed", compressed))}
    return pack({**text, **about})


def sha(data: bytes) -> str:
    """The hash by which a certificate knows a file."""
    return hashlib.sha256(data).hexdigest()


def by_hand(original: bytes, compressed: bytes, box: Box, **parts: Any) -> Case:
    """A certificate that is written by hand: what is not given is empty, the level is exact."""
    outputs = {name: loads(original).network.entries(name) for name in loads(original).network.outputs}
    text = {
        "producer": "a test",
        "settings": {},
        "domain": [
            {"input": name, "lower": ends(low.ravel()), "upper": ends(box.upper[name].ravel())}
            for name, low in box.lower.items()
        ],
        "level": "exact",
        "budget": "0",
        "epsilon": [{"output": name, "values": np.zeros(count)} for name, count in outputs.items()],
        "points": [],
        "slopes": [],
        "facts": [],
        "stable": [],
        "relations": [],
    }
    return Case(original, compressed, {**text, **parts}, box)


def ends(values: Sequence[Fraction]) -> list[str]:
    """Ends of a domain as a certificate has them."""
    return [str(Fraction(value)) for value in values]


def relation(
    tensor: str,
    of: str,
    kept: Sequence[int],
    matrix: Any = None,
    shift: Any = None,
    factor: Any = None,
    over: str | None = None,
) -> Text:
    """What a tensor stands for, as a certificate has it."""
    return {
        **({} if over is None else {"over": over}),
        "tensor": tensor,
        "of": of,
        "kept": np.array(kept, dtype=np.int32),
        "factor": np.zeros(0) if factor is None else np.array(factor, dtype=np.float64),
        "matrix": np.zeros((0, 0)) if matrix is None else np.array(matrix, dtype=np.float64),
        "shift": np.zeros(0) if shift is None else np.array(shift, dtype=np.float64),
    }


def multiples(tensor: str, unit: Sequence[int], to: Sequence[int], factor: Sequence[float]) -> Text:
    """Claims that units are multiples of others, as a certificate has them."""
    whole = (np.array(places, np.int32) for places in (unit, to))
    return {"tensor": tensor, **dict(zip(("unit", "to"), whole, strict=True)), "factor": np.array(factor, np.float64)}


def linear(tensor: str, rows: Sequence[int], sign: int, below: str = "table") -> Text:
    """A linear fact, as a certificate has it."""
    return {"kind": "linear", "tensor": tensor, "sign": sign, "rows": np.array(rows, np.int32), "below": below}


def signs(tensor: str, inactive: Sequence[int] = (), active: Sequence[int] = ()) -> Text:
    """Claims about signs, as a certificate has them."""
    return {"tensor": tensor, "inactive": np.array(inactive, np.int32), "active": np.array(active, np.int32)}


def domain_of(box: Box) -> Any:
    """The user's domain, as ``check`` asks for it."""
    found: Domain = {name: (low.ravel(), box.upper[name].ravel()) for name, low in box.lower.items()}
    return lambda graph: found


# Truth


def outcome(case: Case, certificate: bytes | None = None) -> tuple[str, Proved | None]:
    """``proved`` or why not: ``refused``, ``unreadable``, or ``crashed`` where any other error came out."""
    data = case.certificate if certificate is None else certificate
    try:
        return "proved", check(case.original, case.compressed, data, domain_of(case.box))
    except NotProved:
        return "refused", None
    except Unreadable:
        return "unreadable", None
    except Exception as error:
        return f"crashed ({type(error).__name__})", None


def true(original: bytes, compressed: bytes, box: Box, proved: Proved) -> bool:
    """Whether what was proved is so, by the oracle: the epsilon of each coordinate, and what its level allows."""
    differences = difference(original, compressed, box_key(box))
    for name, found in differences.items():
        promised = [Fraction(value) for value in proved.epsilon[name].tolist()]
        allowed = allowed_by(proved, original, box, name)
        if len(found) != len(promised) or any(d > e for d, e in zip(found, promised, strict=True)):
            return False
        if any(e > a for e, a in zip(promised, allowed, strict=True)):
            return False
    return True


def allowed_by(proved: Proved, original: bytes, box: Box, name: str) -> list[Fraction]:
    """What the level that was proved allows each coordinate of an output, by the truth about the original."""
    low, high = magnitudes(original, box_key(box))[name]
    if proved.level == "exact":
        return [Fraction(0)] * len(low)
    if proved.level == "within":
        return [proved.budget] * len(low)
    u = Fraction(1, 2**53 if loads(original).network.tensors[name].dtype == np.float64 else 2**24)
    return [16 * u * max(abs(a), abs(b)) for a, b in zip(low, high, strict=True)]


Key = tuple[tuple[str, tuple[int, ...], tuple[Fraction, ...], tuple[Fraction, ...]], ...]


def box_key(box: Box) -> Key:
    """A box as something that can be looked up."""
    return tuple((n, low.shape, tuple(low.ravel()), tuple(box.upper[n].ravel())) for n, low in box.lower.items())


def box_from(key: Key) -> Box:
    """The box again."""
    lower, upper = ({part[0]: _shaped(part[1], part[2 + side]) for part in key} for side in (0, 1))
    return Box(lower, upper, "test")


def _shaped(shape: tuple[int, ...], values: Sequence[Fraction]) -> Array:
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found.reshape(shape)


@lru_cache(maxsize=512)
def difference(original: bytes, compressed: bytes, key: Key) -> Mapping[str, list[Fraction]]:
    """The exact largest difference of each output coordinate."""
    return max_difference(loads(original).network, loads(compressed).network, box_from(key))


@lru_cache(maxsize=512)
def magnitudes(original: bytes, key: Key) -> dict[str, tuple[list[Fraction], list[Fraction]]]:
    """The exact range of each output coordinate."""
    network = loads(original).network
    found = ranges(network, box_from(key))
    return {name: found[name] for name in network.outputs}


# One pair of networks to write certificates for by hand

TOUCHING_BOX = box_of((-1, 1))


def touching(bias: float = -0.5, dtype: Any = np.float32) -> tuple[bytes, bytes]:
    """``relu(relu(x) - 2 relu(x - 1/2) + bias) + relu(x)`` on [-1, 1], and ``relu(x)``.

    The outer ReLU is never active, as its input reaches 0 at x = 1/2: a linear bound of it on the whole domain is not
    enough, on either side of x = 1/2, or of x = 0, it is.
    """
    front = (np.array([[1], [1]]), np.array([0, -0.5]))
    whole = chain(front, ([[1, -2], [1, 0]], [bias, 0]), ([[1, 1]], [0]), box=TOUCHING_BOX, dtype=dtype)
    part = chain(front, ([[1, 0]], [0]), ([[1]], [0]), box=TOUCHING_BOX, dtype=dtype)
    return as_model(whole).SerializeToString(), as_model(part).SerializeToString()


def touching_split(**changes: Any) -> Text:
    """The fact that ``z2[0] <= 0``, by the signs of ``z1[0]``."""
    fact = {
        "kind": "split",
        "tensor": "z2",
        "sign": 1,
        "rows": np.array([0, 0], np.int32),
        "over": ["z1"],
        "split": np.array([[1, 0], [-1, 0]], np.int8),
        "above": np.array([2048, 2048], np.uint16),
        "below": np.array([[0, 2048], [0, 0]], np.uint16),
        "which": np.array([0, 1], np.int32),
        "beta": np.zeros(2),
    }
    return {**fact, **changes}


def touching_boxes(**changes: Any) -> Text:
    """The same fact by three boxes that meet at x = 0 and x = 1/2."""
    fact = {
        "kind": "boxes",
        "tensor": "z2",
        "rows": np.array([0], np.int32),
        "signs": np.array([1], np.int8),
        "inputs": ["x"],
        "places": np.array([0], np.int32),
        "dimension": np.array([0, -1, 0, -1, -1], np.int8),
        "closed": np.array([[0], [1], [0], [1], [1]], np.uint8),
    }
    return {**fact, **changes}


def touching_case(*facts: Text, bias: float = -0.5, **parts: Any) -> Case:
    """A certificate of the pair, with some facts; those with boxes need a bias that leaves room for rounding."""
    relations = [relation("z2", "z2", [1]), relation("h2", "h2", [1])]
    more = {"facts": list(facts), "relations": relations, "stable": [signs("z2", inactive=[0])], **parts}
    return by_hand(*touching(bias), TOUCHING_BOX, **more)

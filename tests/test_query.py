"""The VNN-LIB query of a claim, read by the standard's parser and evaluated here, exactly, from its literals."""

import gzip
import hashlib
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import vnnlib
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto, TensorProto, helper
from tiny_models import all_unstable, beyond_intervals, build, exact_output, known, saved, two_inputs

from reluce import Box, Exact, OutputError, ProverSettings, Settings, UsageError, Within, compress
from reluce.cli import _run
from reluce.domain import load_vnnlib
from reluce.facts import Guarantee
from reluce.io import Loaded, load, loads
from reluce.network import Network, Tensor
from reluce.query import Pair, equivalence_query
from reluce_checker._certificate import read_certificate

Array = np.ndarray[Any, Any]
Shapes = Mapping[str, tuple[int, ...]]
TINY = 2 * Fraction(sys.float_info.min)
HAIR = Fraction(1, 10**4000)  # smaller than anything that is rounded


# An evaluator of queries, which knows nothing of how they are written


def number(expression: Any, values: Mapping[str, Array]) -> Fraction:
    match expression:
        case vnnlib.Var():
            return Fraction(values[expression.name][tuple(expression.indices)])
        case vnnlib.Literal():
            return Fraction(expression.lexeme)
        case vnnlib.Minus():
            return number(expression.head, values) - sum(number(part, values) for part in expression.rest)
    raise AssertionError(f"not expected in a query: {expression}")


def truth(expression: Any, values: Mapping[str, Array]) -> bool:
    match expression:
        case vnnlib.And():
            return all(truth(part, values) for part in expression.args)
        case vnnlib.Or():
            return any(truth(part, values) for part in expression.args)
    left, right = number(expression.lhs, values), number(expression.rhs, values)
    match expression:
        case vnnlib.Equal():
            return left == right
        case vnnlib.GreaterThan():
            return left > right
        case vnnlib.GreaterEqual():
            return left >= right
        case vnnlib.LessEqual():
            return left <= right
    raise AssertionError(f"not expected in a query: {expression}")


def satisfied(query: Any, *parts: Mapping[str, Array]) -> bool:
    """Whether an assignment satisfies a query: inputs and outputs of the first network, then those of the second."""
    values = {}
    for network, given_ in zip(query.networks, (parts[:2], parts[2:]), strict=True):
        for declared, tensors in zip((network.inputs, network.outputs), given_, strict=True):
            for item, tensor in zip(declared, tensors.values(), strict=False):  # the last may be free
                assert tuple(item.shape) == tensor.shape
                values[item.name] = tensor
    return all(truth(assertion.expr, values) for assertion in query.assertions)


def epsilons(query: Any) -> list[Fraction]:
    """The epsilon of each output element, in order, from the two comparisons of each."""
    (disjunction,) = (a.expr for a in query.assertions if isinstance(a.expr, vnnlib.Or))
    found = [Fraction(p.rhs.lexeme) if isinstance(p.rhs, vnnlib.Literal) else Fraction(0) for p in disjunction.args]
    assert found[::2] == found[1::2]
    return found[::2]


# Claims made up


@dataclass(frozen=True, eq=False)
class Claim:
    box: Box
    guarantee: Guarantee
    batched: bool

    def text(self, more: Shapes | None = None) -> str:
        return equivalence_query(*self.models(more or {}), self.box, self.guarantee).decode()

    def models(self, more: Shapes) -> tuple[Pair, Loaded]:
        shapes = {name: values.shape for name, values in self.guarantee.epsilons.items()}
        infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *s]) for name, s in shapes.items()]
        infos += [helper.make_tensor_value_info(name, TensorProto.BOOL, ["N", *s]) for name, s in more.items()]
        small = helper.make_model(helper.make_graph([], "small", [], infos))
        tensors = {name: Tensor(name, low.shape) for name, low in self.box.lower.items()}
        tensors |= {name: Tensor(name, shape) for name, shape in shapes.items()}
        network = Network(tuple(self.box.lower), tuple(shapes), (), tensors, self.batched)
        return Pair(b"original", small.SerializeToString()), Loaded(network=network)

    def full(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        return {name: value[None] if self.batched else value for name, value in tensors.items()}

    def violated(self, x: Mapping[str, Array], y: Mapping[str, Array], z: Mapping[str, Array]) -> bool:
        inside = all(bool(((x[n] >= low) & (x[n] <= self.box.upper[n])).all()) for n, low in self.box.lower.items())
        apart = [abs(y[n] - z[n]) > fractions(eps) for n, eps in self.guarantee.epsilons.items()]
        return inside and any(bool(part.any()) for part in apart)

    def agrees(self, query: Any, x: Mapping[str, Array], y: Mapping[str, Array], z: Mapping[str, Array]) -> bool:
        return satisfied(query, *map(self.full, (x, y, x, z))) == self.violated(x, y, z)


def fractions(values: Any) -> Array:
    flat = np.asarray(values)
    result = np.empty(flat.size, dtype=object)
    result[:] = [Fraction(value) for value in flat.ravel().tolist()]
    return result.reshape(flat.shape)


def claim(lower: Any, upper: Any, eps: Any, batched: bool = True, name: str = "x", output: str = "y") -> Claim:
    """A claim about one input and one output."""
    box = Box({name: fractions(lower)}, {name: fractions(upper)}, "made up")
    return Claim(box, Guarantee("within", "within=1", {output: np.asarray(eps, dtype=np.float64)}), batched)


def moved(tensors: Mapping[str, Array], by: Fraction) -> Iterator[dict[str, Array]]:
    """The tensors with one coordinate moved, either way."""
    for name, tensor in tensors.items():
        for place in np.ndindex(tensor.shape):
            for sign in (1, -1):
                other = tensor.copy()
                other[place] = other[place] + sign * by
                yield {**tensors, name: other}


def points(c: Claim) -> Iterator[tuple[dict[str, Array], dict[str, Array], dict[str, Array]]]:
    """Inputs at the ends of the domain and a hair from there; outputs apart by 0, epsilon, and a hair more or less."""
    ends = [dict(c.box.lower), dict(c.box.upper)]
    zero = {name: fractions(np.zeros(eps.shape)) for name, eps in c.guarantee.epsilons.items()}
    at = {name: fractions(eps) for name, eps in c.guarantee.epsilons.items()}
    minus = {name: fractions(-values) for name, values in at.items()}
    outputs = [zero, at, minus, *moved(zero, HAIR), *moved(at, HAIR), *moved(minus, HAIR)]
    yield from ((x, zero, z) for x, z in product(ends, outputs))
    far = next(moved(at, HAIR))
    yield from ((x, zero, far) for end in ends for x in moved(end, HAIR))


CLAIMS = {
    "one number": claim([0], [1], [0.25]),
    "any difference": claim([0], [1], [0.0]),
    "many": claim([[-1.5, 0], [2**-30, -7]], [[-0.5, 0], [1, 1e300]], [0.0, 0.1, 1e-300, 2.0**-1074]),
    "scalars": claim(0, 1, 0.25, batched=False),
    "scalar samples": claim(0, 1, 0.25),
    "decimals": claim([Fraction("0.1")], [Fraction("0.30000000000000000000000000000000000000000000000001")], [0.1]),
    "two of each": Claim(
        Box({n: fractions([0, 1]) for n in "ab"}, {n: fractions([1, 3]) for n in "ab"}),
        Guarantee("within", "within=1", {"p": np.array([0.0, 1.0]), "q": np.array(0.5)}),
        True,
    ),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_the_query_is_satisfied_just_where_the_claim_is_violated(name: str) -> None:
    c = CLAIMS[name]
    query = vnnlib.parse_query_string(c.text())
    tried = list(points(c))
    assert {c.violated(*point) for point in tried} == {True, False}
    for point in tried:
        assert c.agrees(query, *point)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (r"\(> \(- original_y\[0,0\] compressed_y\[0,0\]\) 0.25\)", "(> original_y[0,0] 1.0)"),
        (r"\(> ", "(>= "),
        (r"0\.25\)", "0.26)"),
        (r"0\.25\)", "0.24)"),
        (r"\(>= original_x\[0,0\]", "(> original_x[0,0]"),
        (r"\(<= original_x\[0,0\] 1\.0\)", "(<= original_x[0,0] 1.01)"),
        (r"original_x\[0,0\] 0\.0\)", "original_x[0,0] -0.01)"),
        (r"\(or", "(and"),
    ],
)
def test_a_query_that_says_something_else_is_noticed(old: str, new: str) -> None:
    c = CLAIMS["one number"]
    text = re.sub(old, new, c.text())
    assert text != c.text()
    query = vnnlib.parse_query_string(text)
    assert not all(c.agrees(query, *point) for point in [*points(c), *wider(c)])


def wider(c: Claim) -> Iterator[tuple[dict[str, Array], dict[str, Array], dict[str, Array]]]:
    """Points further away, for the twins."""
    zero, far = {"y": fractions([0])}, {"y": fractions([1])}
    yield from ((x, zero, far) for end in (c.box.lower, c.box.upper) for x in moved(dict(end), Fraction("0.005")))
    yield from (({"x": fractions([0])}, zero, {"y": fractions([difference])}) for difference in (0.255, 0.245))


def test_inputs_that_differ_satisfy_nothing() -> None:
    c = CLAIMS["two of each"]
    query = vnnlib.parse_query_string(c.text())
    x, y = dict(c.box.lower), {"p": fractions([0, 0]), "q": fractions(0)}
    z = {"p": fractions([1, 0]), "q": fractions(0)}
    assert satisfied(query, *map(c.full, (x, y, x, z)))
    for other in moved(x, HAIR):
        assert not satisfied(query, *map(c.full, (x, y, other, z)))


# Numbers


def ends(query: Any) -> tuple[Fraction, Fraction]:
    (conjunction,) = (a.expr for a in query.assertions if isinstance(a.expr, vnnlib.And))
    return Fraction(conjunction.args[0].rhs.lexeme), Fraction(conjunction.args[1].rhs.lexeme)


def test_numbers_that_are_no_decimals_are_rounded_to_the_safe_side_and_the_query_says_so() -> None:
    text = claim([Fraction(-1, 3)], [Fraction(2, 7)], [0.5]).text()
    low, high = ends(vnnlib.parse_query_string(text))
    assert Fraction(-1, 3) < low < Fraction(-1, 3) + Fraction(1, 10**39)
    assert Fraction(2, 7) - Fraction(1, 10**39) < high < Fraction(2, 7)
    assert "; 2 ends of the domain are rounded inward: " in text
    assert "epsilons" not in text
    assert "rounded" not in claim([Fraction("-0.1")], [Fraction(1, 3 * 2**20) * 3], [0.1]).text()


@pytest.mark.parametrize(
    ("low", "high", "least", "most"),
    [
        ("-1e-400", "1e-400", 0, 0),
        ("1e-310", "1", TINY, 1),  # no float64 number, though its neighbours are
        ("-1", "-1e-310", -1, -TINY),
        ("0", "5e-324", 0, 0),
    ],
)
def test_numbers_that_parsers_refuse_are_rounded_too(low: str, high: str, least: Any, most: Any) -> None:
    text = claim([Fraction(low)], [Fraction(high)], [5e-324]).text()
    query = vnnlib.parse_query_string(text)
    assert ends(query) == (least, most)
    assert "rounded inward" in text
    assert epsilons(query) == [Fraction(5e-324)]


def test_a_range_without_a_decimal_is_refused() -> None:
    with pytest.raises(UsageError, match=r"the range of original_x\[0,0\] \(input 'x'\) holds no decimal number of 40"):
        claim([Fraction(1, 3)], [Fraction(1, 3)], [0.0]).text()


numbers = st.one_of(
    st.sampled_from([Fraction(t) for t in ("0", "0.1", "-0.1", "1/3", "-1/3", "1e-300", "-1e-310", "1e-400", "1e300")]),
    st.fractions(max_denominator=10**6),
    st.floats(allow_nan=False, allow_infinity=False).map(Fraction),
    st.decimals(allow_nan=False, allow_infinity=False, places=30).map(Fraction),
)


def plain(value: Fraction) -> bool:
    """Whether a number must be written in full."""
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    small = abs(value) < TINY
    return rest == 1 and (not small or Fraction(float(value)) == value)


@given(pair=st.tuples(numbers, numbers).map(sorted), eps=st.floats(0, allow_nan=False, allow_infinity=False, width=64))
def test_every_number_is_exact_or_on_the_safe_side(pair: list[Fraction], eps: float) -> None:
    low, high = pair
    c = claim([low], [high], [eps])
    try:
        text = c.text()
    except UsageError:
        assert not (plain(low) and plain(high))
        return
    query = vnnlib.parse_query_string(text)
    least, most = ends(query)
    assert epsilons(query) == [Fraction(eps)]
    assert low <= least <= most <= high
    for value, written in ((low, least), (high, most)):
        assert (value == written) == plain(value) or abs(written) <= TINY
        assert abs(value - written) <= max(abs(value) / 10**39, TINY)
    if plain(low) and plain(high):
        assert "rounded" not in text
        for point in points(c):
            assert c.agrees(query, *point)
    else:
        assert "rounded inward" in text
        for point in points(c):
            assert c.violated(*point) or not satisfied(query, *map(c.full, (point[0], point[1], point[0], point[2])))


# Names


NASTY = [
    "",
    "x",
    "X",
    'a"b',
    "a\\b",
    "a b",
    "(assert",
    "a\nb",
    "\r",
    ";",
    "é",
    "and",
    "original_x",
    "original",
    "0",
    "_",
]
NASTY += ["\x00", "compressed_x", "original_x_2", "x" * 100, "x" * 100 + "y", "real", "(vnnlib-version"]
names = st.lists(st.one_of(st.sampled_from(NASTY), st.text(max_size=5)), min_size=3, max_size=6, unique=True)


@given(names=names)
def test_any_names_become_identifiers_of_their_own(names: list[str]) -> None:
    middle = len(names) // 2
    box = Box(
        {n: fractions([0, k]) for k, n in enumerate(names[:middle])}, {n: fractions([9, 9]) for n in names[:middle]}
    )
    c = Claim(box, Guarantee("exact", "exact", {n: np.zeros(1) for n in names[middle:]}), True)
    text = c.text()
    query = vnnlib.parse_query_string(text)
    found = [t.name for network in query.networks for t in (*network.inputs, *network.outputs)]
    assert len(set(found)) == len(found) == 2 * len(names)
    assert not {"original", "compressed", *names[:middle]} & set(found)
    assert text.isascii()
    point = next(iter(points(c)))
    assert c.agrees(query, *point)


@pytest.mark.parametrize("inputs", [["a", "original_a"], ["original_b", "b"], ["x y", "x_y"], ['"', ";"]])
def test_our_own_reader_matches_the_inputs(inputs: list[str], tmp_path: Path) -> None:
    box = Box({n: fractions([k]) for k, n in enumerate(inputs)}, {n: fractions([k + 1]) for k, n in enumerate(inputs)})
    c = Claim(box, Guarantee("exact", "exact", {"y": np.zeros(1)}), True)
    (tmp_path / "q.vnnlib").write_text(c.text())
    assert load_vnnlib(c.models({})[1].network, tmp_path / "q.vnnlib").digest == box.digest


def test_what_else_the_compressed_file_puts_out_is_declared_and_free() -> None:
    c = CLAIMS["one number"]
    query = vnnlib.parse_query_string(c.text({"in_domain": ()}))
    original, compressed = query.networks
    assert [item.name for item in original.outputs] == ["original_y"]
    assert [item.name for item in compressed.outputs] == ["compressed_y", "compressed_in_domain"]
    assert compressed.outputs[1].dtype == vnnlib.DType.Bool
    assert compressed.outputs[1].shape == [1]
    assert all(c.agrees(query, *point) for point in points(c))


# Compressions


def checked(folder: Path, source: Path, domain: Any = "0,1", **more: Any) -> Any:
    """Compress with a query, and compare it with the certificate; returns the query."""
    target, place = folder / "out.onnx", folder / "out.vnnlib"
    result = compress(source, domain, output=target, vnnlib=place, **more)
    assert f"the claim as a VNN-LIB query is in {place}" in result.report.notes
    query, certificate = vnnlib.parse_query_file(str(place)), read_certificate((folder / "out.cert").read_bytes())
    network = load(source).network
    box = load_vnnlib(network, place)
    assert "of the specification's 2 networks only original is used" in box.notes[0]
    for name in network.inputs:
        low, high = certificate.domain[name]
        assert [*box.lower[name].ravel()] == [*low]
        assert [*box.upper[name].ravel()] == [*high]
    assert epsilons(query) == [e for name in network.outputs for e in fractions(certificate.epsilon[name]).tolist()]
    text = place.read_text()
    for role, file in (("original: ", source), ("compressed: ", target), ("certificate ", folder / "out.cert")):
        assert re.search(f"; .*{role}.*{hashlib.sha256(file.read_bytes()).hexdigest()}", text)
    return query


@pytest.mark.parametrize("domain", ["0,1", "-0.1,0.7", "x=0.25,0.25"])
@pytest.mark.parametrize("level", [Exact(), Within(1e-3)])
def test_the_query_says_what_the_certificate_says(domain: str, level: Any, tmp_path: Path) -> None:
    source = saved(known(), tmp_path / "in.onnx")
    query = checked(tmp_path, source, domain, settings=Settings(level))
    assert {item.dtype for network in query.networks for item in network.inputs} == {vnnlib.DType.Real}
    before, after = onnx.load(source), onnx.load(tmp_path / "out.onnx")
    for x in ([Fraction(1, 4), Fraction(1, 4)], [Fraction(1, 8), Fraction(1, 2)]):
        y, z = exact_output(before, x), exact_output(after, x)
        parts = [{"x": fractions([x])}, {"y": fractions([y])}, {"x": fractions([x])}]
        assert not satisfied(query, *parts, {"y": fractions([z])})
    inside = {"x": fractions([[0.25, 0.25]])}
    assert satisfied(query, inside, {"y": fractions([[0, 0]])}, inside, {"y": fractions([[0, 1]])})


def test_several_inputs(tmp_path: Path) -> None:
    checked(tmp_path, saved(two_inputs(), tmp_path / "in.onnx"), ["a=0,1", "b=-0.5,1"])


def test_nothing_to_remove(tmp_path: Path) -> None:
    query = checked(tmp_path, saved(all_unstable(), tmp_path / "in.onnx"))
    assert epsilons(query) == [0]


def test_without_a_certificate_the_query_says_so(tmp_path: Path) -> None:
    source, place = saved(known(), tmp_path / "in.onnx"), tmp_path / "q.vnnlib"
    compress(source, "0,1", output=tmp_path / "out.onnx", vnnlib=place, certificate=False)
    text = place.read_text()
    assert "standing: proved by reluce; there is no certificate" in text
    for role, file in (("original", source), ("compressed", tmp_path / "out.onnx")):
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        assert f"; {role}: the ONNX file (not gzipped) with SHA-256 {digest}" in text


def test_what_a_solver_attests_is_not_called_proved(tmp_path: Path) -> None:
    source, place = saved(beyond_intervals(), tmp_path / "in.onnx"), tmp_path / "q.vnnlib"
    settings = Settings(prover=ProverSettings(method="leo", trust_solver=True))
    compress(source, "-1,1", output=tmp_path / "out.onnx", vnnlib=place, settings=settings)
    assert "standing: only a solver's word; nothing of it is proved" in place.read_text()
    vnnlib.parse_query_file(str(place))


def test_attested_results_in_no_files_have_no_query(tmp_path: Path) -> None:
    settings = Settings(prover=ProverSettings(method="leo", trust_solver=True))
    more = {"certificate": tmp_path / "a.cert", "vnnlib": tmp_path / "q.vnnlib"}
    report = compress(beyond_intervals(), "-1,1", settings=settings, **more).report
    assert "no VNN-LIB query: without a certificate the models are in no ONNX files" in report.notes
    assert not list(tmp_path.iterdir())


def test_models_that_are_no_files_have_a_query_about_those_beside_the_certificate(tmp_path: Path) -> None:
    linear = pytest.importorskip("sklearn.neural_network")
    pipeline, scaler = pytest.importorskip("sklearn.pipeline"), pytest.importorskip("sklearn.preprocessing")
    generator = np.random.default_rng(0)
    X = generator.random((60, 3))
    estimator = pipeline.make_pipeline(
        scaler.StandardScaler(),
        linear.MLPRegressor(hidden_layer_sizes=(6,), solver="lbfgs", max_iter=5000, random_state=0),
    ).fit(X, X @ [1, -2, 3])
    place = tmp_path / "a.vnnlib"
    compress(estimator, "0.1,0.9", certificate=tmp_path / "a.cert", vnnlib=place)
    text, certificate = place.read_text(), read_certificate((tmp_path / "a.cert").read_bytes())
    for name in ("original", "compressed"):
        digest = hashlib.sha256((tmp_path / f"a.{name}.onnx").read_bytes()).hexdigest()
        assert f"; {name}: the ONNX file (not gzipped) with SHA-256 {digest}" in text
    assert "behind the scaler" in text
    query, network = vnnlib.parse_query_string(text), load(tmp_path / "a.original.onnx").network
    box = load_vnnlib(network, place)
    for name, (low, high) in certificate.domain.items():
        assert (low <= box.lower[name].ravel()).all()
        assert (box.upper[name].ravel() <= high).all()
    assert epsilons(query) == [e for name in network.outputs for e in fractions(certificate.epsilon[name]).tolist()]


def test_a_large_input(tmp_path: Path) -> None:
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Gemm", ["f", "W"], ["y"], transB=1)]
    weights = {"W": np.ones((10, 3072), np.float32)}
    model = build(nodes, {"x": ["N", 3, 32, 32]}, {"y": ["N", 10]}, weights)
    query = checked(tmp_path, saved(model, tmp_path / "in.onnx"), settings=Settings(Exact()))
    assert query.networks[0].inputs[0].shape == [1, 3, 32, 32]
    assert len(query.assertions) == 3073


def test_gzip(tmp_path: Path) -> None:
    source, place = saved(known(), tmp_path / "in.onnx"), tmp_path / "q.vnnlib.gz"
    compress(source, "0,1", output=tmp_path / "out.onnx", vnnlib=place)
    vnnlib.parse_query_string(gzip.decompress(place.read_bytes()).decode())
    assert load_vnnlib(load(source).network, place).upper["x"].tolist() == [1, 1]


# Refusals, all before the work


NNET = "// known\n1,1,1,1,\n1,1,\n0,\n0,\n1,\n0,0,\n1,1,\n1,\n0,\n"


def no_progress(what: str) -> None:
    assert what == "loading", "found out too late"


def opaque(kind: str, **attributes: Any) -> ModelProto:
    """``known`` with an output ``o`` that Reluce does not model."""
    model = known()
    node: NodeProto = helper.make_node(kind, ["y"], ["o"], **attributes)
    model.graph.node.append(node)
    element = TensorProto.BOOL if kind == "IsNaN" else TensorProto.FLOAT
    model.graph.output.append(helper.make_tensor_value_info("o", element, None))
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (opaque("ReduceMean", axes=[0], keepdims=0), "output 'o' has no known shape, and VNN-LIB wants one; leave"),
        (opaque("IsNaN"), "output 'o' is of type bool, and VNN-LIB compares numbers; leave the query out"),
    ],
)
def test_outputs_that_cannot_be_stated_are_refused(model: ModelProto, message: str, tmp_path: Path) -> None:
    source = saved(model, tmp_path / "in.onnx")
    with pytest.raises(UsageError, match=message):
        compress(source, "0,1", output=tmp_path / "o.onnx", vnnlib=tmp_path / "q.vnnlib", progress=no_progress)
    assert [path.name for path in tmp_path.iterdir()] == ["in.onnx"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"vnnlib": "q.txt"}, "q.txt: the query is VNN-LIB; give it a name that ends in .vnnlib"),
        ({"vnnlib": "q.VNNLIB"}, "give it a name that ends in .vnnlib"),
        ({"vnnlib": "q.vnnlib", "certificate": "q.vnnlib"}, "q.vnnlib: the query would replace another file"),
        ({"vnnlib": "q.vnnlib", "domain": "q.vnnlib"}, "q.vnnlib: the query would replace another file"),
        ({"vnnlib": "q.vnnlib", "model": "in.nnet", "certificate": False}, "q.vnnlib: a query is about two ONNX files"),
        ({"vnnlib": "q.vnnlib", "output": None}, "q.vnnlib: a query is about two ONNX files; read the model from one"),
    ],
)
def test_places_that_cannot_be_are_refused(
    more: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(known(), tmp_path / "in.onnx")
    (tmp_path / "in.nnet").write_text(NNET)
    with pytest.raises(UsageError, match=re.escape(message)):
        compress(**{"model": "in.onnx", "domain": "0,1", "output": "out.onnx", "progress": no_progress, **more})
    assert {path.name for path in tmp_path.iterdir()} == {"in.onnx", "in.nnet"}


def test_a_folder_that_is_not_there_is_found_out_first(tmp_path: Path) -> None:
    source = saved(known(), tmp_path / "in.onnx")
    with pytest.raises(OutputError, match="its folder does not exist"):
        compress(source, "0,1", output=tmp_path / "o.onnx", vnnlib=tmp_path / "a" / "q.vnnlib", progress=no_progress)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target, place = saved(known(), tmp_path / "in.onnx"), tmp_path / "out.onnx", tmp_path / "q.vnnlib"
    plain_ = ["compress", str(source), str(target), "--range", "0,1", "--vnnlib"]
    assert _run([*plain_, str(place)]) == 0
    assert "the claim as a VNN-LIB query is in" in " ".join(capsys.readouterr().out.split())
    assert len(vnnlib.parse_query_file(str(place)).networks) == 2
    assert _run([*plain_, str(target)]) == 2
    assert "OUT.onnx and --vnnlib name the same file" in " ".join(capsys.readouterr().err.split())


@pytest.mark.shared
def test_a_trained_network(shared: Path, tmp_path: Path) -> None:
    source = min((shared / "networks" / "reluce_l1").glob("*.onnx"), key=lambda path: path.stat().st_size)
    query = checked(tmp_path, source, settings=Settings(Within(1e-5)))
    network = loads((tmp_path / "out.onnx").read_bytes()).network
    assert [item.shape[-1] for item in query.networks[1].outputs] == [network.shape(network.outputs[0])[-1]]

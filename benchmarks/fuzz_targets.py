"""What is fuzzed: a class for each target, with its seeds, its mutator and the properties that a run has to have.

An input is a byte that picks a variant, and what that variant reads. A run returns quietly; `Finding`, or any
error that is not one of our own, is a finding.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

import numpy as np
import tiny_models
from onnx import ModelProto

from certificates import Case, contents, difference, domain_of, sealed, touching_case, true
from certificates import box_key as key_of
from forge import NETWORKS, NotHere, bases, resealed
from fuzz_mutate import Generator, Plain, arrays, certificate_in, payload, pick, text
from fuzz_mutate import certificate as mutate_certificate
from fuzz_mutate import model as mutate_model
from reluce.domain import Box, load_box, load_data, load_vnnlib, make_box
from reluce.errors import DomainError, ModelError
from reluce.io import loads, measure, serialise
from reluce.io._nnet import nnet_to_onnx
from reluce_checker import NotProved, Proved, Unreadable, Usage, check, from_npz, from_ranges
from reluce_checker._certificate import read_certificate
from reluce_checker._graph import objects
from reluce_checker._read import read_graph

PAIRS = 12
"""Certified compressions of small random networks; as many again whose claims are false."""


class Finding(Exception):
    """A property that does not hold."""


class Target(Protocol):
    """One thing to fuzz."""

    def seeds(self) -> Iterator[bytes]:
        """Inputs to start from."""

    def run(self, data: bytes) -> None:
        """One run."""

    def mutate(self, data: bytes, generator: Generator, plain: Plain) -> bytes:
        """Another input like this one."""


# Pairs of networks


def write_pairs(folder: Path) -> None:
    """Make the pairs that certificates are fuzzed about, once: what is found is about files that stay."""
    if (folder / "done").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    found = [*bases(PAIRS, 1, folder), touching_case()]
    found += [spoiled for case in found if (spoiled := falsified(case)) is not None]
    for number, case in enumerate(found):
        for kind, data in (
            ("original.onnx", case.original),
            ("compressed.onnx", case.compressed),
            ("cert", case.certificate),
        ):
            (folder / f"{number:02}.{kind}").write_bytes(data)
    (folder / "done").touch()


def falsified(case: Case) -> Case | None:
    """The same claim about a compressed network that breaks it."""
    epsilon = {item["output"]: item["values"] for item in case.text["epsilon"]}
    for number in range(200):
        generator = np.random.default_rng(number)
        model = ModelProto.FromString(case.compressed)
        try:
            pick(generator, list(NETWORKS.values()))(generator, model)
            data = model.SerializeToString()
            moved = difference(case.original, data, key_of(case.box))
        except (NotHere, ModelError, LookupError, TypeError, ValueError, AssertionError):
            continue
        if any(d > Fraction(float(e)) for name, row in moved.items() for d, e in zip(row, epsilon[name], strict=True)):
            return Case(case.original, data, case.text, case.box)
    return None


def read_pairs(folder: Path) -> list[Case]:
    """The pairs again; the user's domain is the one that the genuine certificate states."""
    found = []
    for path in sorted(folder.glob("*.cert")):
        original, compressed = (path.with_suffix(f".{kind}.onnx").read_bytes() for kind in ("original", "compressed"))
        certificate = path.read_bytes()
        shapes = loads(original).network.tensors
        lower, upper = {}, {}
        for name, (low, high) in read_certificate(certificate).domain.items():
            lower[name], upper[name] = (objects(list(end)).reshape(shapes[name].shape) for end in (low, high))
        found.append(Case(original, compressed, contents(certificate), Box(lower, upper, "fuzz")))
    return found


def judge(original: bytes, compressed: bytes, certificate: bytes, box: Box) -> None:
    """Let the checker decide, and the exact oracle about whatever it has proved."""
    try:
        proved = check(original, compressed, certificate, domain_of(box))
    except (NotProved, Unreadable, Usage) as error:
        if isinstance(error.__cause__, MemoryError | RecursionError):
            raise Finding("the checker ran out of memory, or of stack") from error
        return
    demand_true(original, compressed, box, proved)


def demand_true(original: bytes, compressed: bytes, box: Box, proved: Proved) -> None:
    """Whether what was proved is so."""
    try:
        fine = true(original, compressed, box, proved)
    except Exception:  # the oracle knows few operators
        fine = same_at_points(original, compressed, box, proved)
    if not fine:
        raise Finding("PROVED WHAT IS FALSE")


def same_at_points(original: bytes, compressed: bytes, box: Box, proved: Proved) -> bool:
    """Whether ONNX's own evaluator sees no difference beyond what was proved, for what the oracle cannot decide."""
    from onnx.reference import ReferenceEvaluator

    generator = np.random.default_rng(0)
    feeds = []
    for _ in range(16):
        part = generator.random()
        feeds.append(
            {
                name: (low + (box.upper[name] - low) * Fraction(part)).astype(np.float64).astype(np.float32)[None]
                for name, low in box.lower.items()
            }
        )
    kinds = {np.dtype(t.dtype) for t in loads(original).network.tensors.values()}
    wide = np.dtype(np.float64) in kinds
    for feed in feeds:
        given = {name: x.astype(np.float64) for name, x in feed.items()} if wide else feed
        try:
            results = [
                ReferenceEvaluator(ModelProto.FromString(data)).run(None, given) for data in (original, compressed)
            ]
        except Exception:  # nor can it: left undecided
            return True
        for y, y_small, promised in zip(*results, proved.epsilon.values(), strict=True):
            room = promised + 1e-3 * (1 + np.abs(np.asarray(y, np.float64)).max(initial=0))
            if (np.abs(np.asarray(y, np.float64) - y_small).reshape(-1, len(promised)) > room).any():
                return False
    return True


# The targets


class Model:
    """Variant 0: a model into both readers, and back. Others: a compressed network under a genuine certificate."""

    def __init__(self, pairs: list[Case], more: list[Path]) -> None:
        self.pairs, self.more = pairs, more

    def seeds(self) -> Iterator[bytes]:
        """Our tiny models, the pairs, and small files that the user names."""
        made = [tiny_models.known(), tiny_models.beyond_intervals(), tiny_models.all_unstable()]
        made += [tiny_models.two_inputs(), tiny_models.residual(), tiny_models.opaque_between()]
        made += [tiny_models.random_chain([2, 3, 2]), tiny_models.known(np.float64, 1)]
        yield from (b"\0" + model.SerializeToString() for model in made)
        yield from (b"\0" + case.original for case in self.pairs)
        yield from (bytes([1 + k]) + case.compressed for k, case in enumerate(self.pairs))
        yield from (b"\0" + path.read_bytes() for path in self.more if path.suffix == ".onnx")

    def run(self, data: bytes) -> None:
        """Read, measure, write and read again; or check."""
        if data[:1] > b"\0":
            case = self.pairs[(data[0] - 1) % len(self.pairs)]
            judge(case.original, data[1:], resealed(contents(case.certificate), case.original, data[1:]), case.box)
            return
        try:
            loaded = loads(data[1:])
        except ModelError:
            loaded = None
        if loaded is not None:
            measure(loaded)
            again = loads(serialise(loaded, loaded.network, {"fuzz": "1"}))
            if (again.network.inputs, again.network.outputs) != (loaded.network.inputs, loaded.network.outputs):
                raise Finding("inputs or outputs have other names once a model was written and read")
        try:
            read_graph(data[1:])
        except Unreadable:
            return

    def mutate(self, data: bytes, generator: Generator, plain: Plain) -> bytes:
        """Another model, in rare cases under another certificate."""
        variant = data[:1] if generator.random() < 0.95 else bytes([int(generator.integers(256))])
        return variant + mutate_model(data[1:], generator, plain)


class Certificate:
    """A certificate's inside, wrapped so that every length and hash is right, about a pair of networks."""

    def __init__(self, pairs: list[Case], more: list[Path]) -> None:
        self.pairs = pairs

    def seeds(self) -> Iterator[bytes]:
        """What is inside of the genuine certificates: for the false pairs a claim that does not hold."""
        for number, case in enumerate(self.pairs):
            yield bytes([number]) + payload(case.certificate)

    def case(self, data: bytes) -> Case:
        """The pair that an input is about."""
        return self.pairs[(data[0] if data else 0) % len(self.pairs)]

    def run(self, data: bytes) -> None:
        """Read, seal again, check."""
        case, plain = self.case(data), certificate_in(data[1:])
        try:
            read_certificate(plain)
        except Unreadable:
            return
        judge(case.original, case.compressed, sealed(contents(plain), case.original, case.compressed), case.box)

    def mutate(self, data: bytes, generator: Generator, plain: Plain) -> bytes:
        """Another certificate, in rare cases about another pair."""
        variant = data[:1] if generator.random() < 0.95 else bytes([int(generator.integers(len(self.pairs)))])
        return variant + mutate_certificate(self.case(data), data[1:], generator, plain)


NPZ, NPY, VNNLIB, RANGES, NNET = range(5)
VNNLIB_TEXTS = (
    b"(declare-const X_0 Real)\n(declare-const X_1 Real)\n(declare-const Y_0 Real)\n(declare-const Y_1 Real)\n"
    b"(assert (<= X_0 0.6))\n(assert (>= X_0 -1e-2)) ; end\n(assert (or (and (<= X_1 1) (>= X_1 0)) (and (<= X_1 3) "
    b"(>= X_1 2))))\n(assert (<= (+ X_0 (* 2.0 X_1)) 5.0))\n(assert (<= Y_0 Y_1))\n",
    b"(vnnlib-version <2.0>)\n(declare-network N\n  (declare-input X float32 [1,2])\n"
    b"  (declare-output Y float32 [1,2])\n)\n"
    b"(assert (and (<= X[0,0] 1.5) (>= X[0,0] -0.25) (<= X[0,1] 1.0) (>= X[0,1] 0.0)))\n(assert (> Y[0,0] Y[0,1]))\n",
)
NNET_TEXT = (
    b"// a comment\n2,2,1,3,\n2,3,1,\n0,\n-1.0,0.0,\n1.0,2.5,\n0.0,0.5,0.1,\n1.0,2.0,3.0,\n0.5,-1.0,\n1e-3,2.0,\n"
    b"0.1,0.2,\n0.0,\n0.5,\n-0.25,\n1.0,-1.0,0.75,\n0.125,\n"
)
RANGE_TEXTS = (b"0,1", b"x=0.1,1e2", b"-1e-3, +.5", b"x=-1,1\n0,2", b"0,1e999999999")


class Domain:
    """Domains and data in files, ranges, .nnet; where reluce and the checker both read a box, it is the same one."""

    def __init__(self, pairs: list[Case], more: list[Path]) -> None:
        self.more = more
        models = [tiny_models.known(), tiny_models.two_inputs()]
        self.networks = [loads(model.SerializeToString()).network for model in models]
        self.graphs = [read_graph(model.SerializeToString()) for model in models]
        self.folder = Path("build/fuzz/domain/files")
        self.folder.mkdir(parents=True, exist_ok=True)

    def seeds(self) -> Iterator[bytes]:
        """One file of each kind or two, and small ones that the user names."""
        for number, network in enumerate(self.networks):
            named = len(network.inputs) > 1
            boxes: dict[str, Any] = {}
            for name in network.inputs:
                shape = network.shape(name)
                boxes[f"{name}.lo" if named else "lo"] = np.zeros(shape, np.float32)
                boxes[f"{name}.hi" if named else "hi"] = np.ones(shape)
            for save in (np.savez, np.savez_compressed):
                yield bytes([NPZ + 5 * number]) + saved(save, boxes)
            data = {name: np.ones((3, *network.shape(name)), np.float32) for name in network.inputs}
            yield bytes([NPZ + 5 * number]) + saved(np.savez, data)
        file = io.BytesIO()
        np.save(file, np.asfortranarray(np.ones((3, 2))))
        yield bytes([NPY]) + file.getvalue()
        yield from (bytes([VNNLIB]) + words for words in VNNLIB_TEXTS)
        yield from (bytes([RANGES]) + words for words in RANGE_TEXTS)
        yield bytes([NNET]) + NNET_TEXT
        kinds = {".npz": NPZ, ".npy": NPY, ".vnnlib": VNNLIB, ".nnet": NNET}
        yield from (bytes([kinds[path.suffix]]) + path.read_bytes() for path in self.more if path.suffix in kinds)

    def run(self, data: bytes) -> None:
        """One reader, or two that have to agree."""
        kind, number = (data[0] % 5, data[0] // 5 % 2) if data else (0, 0)
        network, graph, content = self.networks[number], self.graphs[number], data[1:]
        if kind == NNET:
            quietly(lambda: nnet_to_onnx(content, "fuzz.nnet"))
        elif kind == RANGES:
            words = content.decode("utf-8", "replace").split("\n")
            agree(quietly(lambda: make_box(network, words)), quietly(lambda: from_ranges(graph, words)))
        elif kind == VNNLIB:
            quietly(lambda: load_vnnlib(network, self._file(content, "fuzz.vnnlib")))
        else:
            path = self._file(content, "fuzz.npz" if kind == NPZ else "fuzz.npy")
            quietly(lambda: load_data(network, path))
            agree(quietly(lambda: load_box(network, path)), quietly(lambda: from_npz(graph, content)))

    def _file(self, content: bytes, name: str) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    def mutate(self, data: bytes, generator: Generator, plain: Plain) -> bytes:
        """Another file of the same kind."""
        kind = data[0] % 5 if data else 0
        return data[:1] + (arrays if kind in (NPZ, NPY) else text)(data[1:], generator, plain)


def saved(save: Any, parts: Mapping[str, Any]) -> bytes:
    """The bytes of an .npz file."""
    file = io.BytesIO()
    save(file, **parts)
    return file.getvalue()


def quietly(read: Any) -> Any:
    """What is read, None where it is refused as it should be."""
    try:
        return read()
    except (DomainError, ModelError, Unreadable, Usage):
        return None


def agree(box: Box | None, domain: Mapping[str, Any] | None) -> None:
    """Two readers of one file may both refuse it; they may not read different boxes."""
    if box is None or domain is None:
        return
    for name, (low, high) in domain.items():
        if box.lower[name].ravel().tolist() != low.tolist() or box.upper[name].ravel().tolist() != high.tolist():
            raise Finding(f"reluce and the checker read different boxes for {name!r}")


TARGETS = {"model": Model, "certificate": Certificate, "domain": Domain}

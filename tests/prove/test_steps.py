"""Steps that an earlier run has written down: the same end, and nothing believed."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from strategies import box_of, chain

from reluce.facts import Verdict
from reluce.network import Array
from reluce.prove import ClosingSettings, Proof, ProverSettings, SplitSettings, prove
from reluce.prove import _steps as steps
from reluce.prove._again import covers, leaves_again, slopes_again
from reluce.prove._slopes import Descent
from reluce_checker._facts import covers as as_the_checker_has_it

BOX = box_of((-1, 1), (-1, 1))
NETWORK = chain(
    ([[-2, -1], [-2, -2], [-2, -2]], [-1, 0, 1]), ([[1, 1, -2], [-1, 1, 1]], [-1.5, -1.5]), ([[1, 1]], None), box=BOX
)
NO_BOXES = SplitSettings(most_inputs=0)
RELUS = ClosingSettings(split=NO_BOXES, last_split=NO_BOXES)
CLOSING = {
    "slopes": RELUS,
    "leaves": replace(RELUS, slopes=Descent(steps=0), tighten=Descent(steps=0)),
    "boxes": ClosingSettings(),
}


class Remembered(dict[str, Any]):
    """A memory that keeps everything."""

    def recall(self, step: str) -> Mapping[str, Any] | None:
        return self.get(step)

    def keep(self, step: str, outcome: Mapping[str, Any]) -> None:
        self[step] = outcome


@pytest.fixture(autouse=True)
def all_steps_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "WORTH", 0.0)


def run(name: str, memory: Remembered | None) -> Proof:
    return prove(NETWORK, BOX, settings=ProverSettings(closing=CLOSING[name]), memory=memory)


def verdicts(proof: Proof) -> dict[str, list[int]]:
    return {name: layer.verdict.tolist() for name, layer in proof.facts.layers.items()}


def intervals(proof: Proof) -> dict[str, list[float]]:
    return {name: [*z.lower.ravel(), *z.upper.ravel()] for name, z in proof.bounds.intervals.items()}


def kinds(memory: Remembered) -> set[str]:
    return {record["kind"] for outcome in memory.values() for record in outcome["records"]}


@pytest.mark.parametrize("name", CLOSING)
def test_a_run_comes_to_the_same_end_from_wherever_it_goes_on(name: str) -> None:
    plain, memory = run(name, None), Remembered()
    whole = run(name, memory)
    assert name in kinds(memory)
    assert plain.recalled == whole.recalled == 0
    for count in range(len(memory) + 1):
        some = Remembered(list(memory.items())[:count])
        proof = run(name, some)
        assert proof.recalled == count
        assert verdicts(proof) == verdicts(whole) == verdicts(plain)
        assert intervals(proof) == intervals(whole) == intervals(plain)
        assert list(some) == list(memory)


def test_steps_that_take_no_time_are_not_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "WORTH", 1e9)
    memory = Remembered()
    run("boxes", memory)
    assert not memory


def test_steps_that_were_cut_short_are_not_written_down() -> None:
    memory, asked = Remembered(), iter(range(10**9))
    prove(NETWORK, BOX, settings=ProverSettings(closing=CLOSING["boxes"]), stop=lambda: next(asked) > 12, memory=memory)
    whole = Remembered()
    run("boxes", whole)
    assert len(memory) < len(whole)
    assert verdicts(run("boxes", memory)) == verdicts(run("boxes", None))


def damaged(value: Any, generator: np.random.Generator) -> Any:
    """Some other value of about the same form."""
    if isinstance(value, np.ndarray):
        return damaged_array(value, generator)
    if isinstance(value, dict) and value:
        key = list(value)[generator.integers(len(value))]
        return {**value, key: damaged(value[key], generator)}
    if isinstance(value, list | tuple) and value:
        place = int(generator.integers(len(value)))
        return [damaged(part, generator) if k == place else part for k, part in enumerate(value)]
    return [None, -1, 0, 1, 10**9, 2**70, "x", [], {}, np.zeros(3), 0.5, True][generator.integers(12)]


def damaged_array(array: Array, generator: np.random.Generator) -> Any:
    new = array.copy()
    match generator.integers(6):
        case 0 if new.size:
            new.ravel()[generator.integers(new.size)] = generator.choice([0, 1]) if new.dtype.kind == "u" else -1
        case 1 if new.size:
            limits = (np.nan, np.inf, -np.inf) if new.dtype.kind == "f" else (np.iinfo(new.dtype).max,)
            new.ravel()[generator.integers(new.size)] = generator.choice(limits)
        case 2:
            return new[:-1] if new.ndim else new
        case 3:
            return new.astype(np.float64)
        case 4 if new.size:
            return generator.permutation(new)
        case 5:
            return np.concatenate([new, new]) if new.ndim else new
    return new


@pytest.mark.parametrize("name", CLOSING)
def test_a_forged_memory_makes_nothing_wrong(name: str) -> None:
    """Whatever is in it: no unit is said to be stable that is not, and nothing but ours is raised."""
    generator, memory = np.random.default_rng(7), Remembered()
    truth = verdicts(run(name, memory))
    fewer = 0
    for _ in range(150):
        forged = Remembered(damaged(copy.deepcopy(dict(memory)), generator))
        found = verdicts(run(name, forged))
        for layer, known in truth.items():
            for mine, right in zip(found[layer], known, strict=True):
                assert mine in (right, Verdict.UNDECIDED)
                fewer += mine != right
    assert fewer < 150  # most of it is noticed and worked out


def test_rows_that_are_no_rows() -> None:
    memory = Remembered()
    run("boxes", memory)
    truth = verdicts(run("boxes", None))
    for row in (True, None, -1, 10**9, "0", 0.0):
        forged = Remembered(copy.deepcopy(dict(memory)))
        for outcome in forged.values():
            outcome["witnesses"]["exactly"] = [[row, NETWORK.relus[0].name]]
        assert verdicts(run("boxes", forged)) == truth


def proved(name: str) -> tuple[Proof, list[dict[str, Any]]]:
    memory = Remembered()
    proof = run(name, memory)
    return proof, [record for outcome in memory.values() for record in outcome["records"]]


def test_slopes_prove_what_they_prove_now_and_not_what_they_say() -> None:
    from reluce.bounds import analyse

    start = analyse(NETWORK, BOX).intervals
    node = NETWORK.relus[1]
    dual = 3  # coordinates in front
    entry = {
        "rows": np.array([0, 1]),
        "signs": np.array([1, 1], np.int8),
        "alpha": np.zeros((2, dual), np.uint16),
        "above": np.full(dual, 4096, np.uint16),
    }
    again = slopes_again(NETWORK, start, node.inputs[0], entry)
    assert (again.upper >= -1.5).all()
    for key, wrong in {
        "alpha": np.full((2, dual), 4097, np.uint16),
        "above": np.full(dual, 4097, np.uint16),
        "rows": np.array([0, 2]),
        "signs": np.array([1, 2], np.int8),
    }.items():
        with pytest.raises(ValueError, match="does not hold"):
            slopes_again(NETWORK, start, node.inputs[0], {**entry, key: wrong})


def test_leaves_with_something_missing_prove_nothing() -> None:
    proof, records = proved("leaves")
    (entry, *_) = [record for record in records if record["kind"] == "leaves"]
    node = NETWORK.relus[1]
    start = proof.bounds.intervals
    assert (leaves_again(NETWORK, start, node.inputs[0], entry).upper <= 0).all()
    for count in range(len(entry["split"])):
        some = np.arange(len(entry["split"])) != count
        less = {**entry, **{key: entry[key][some] for key in ("split", "beta", "which")}}
        with pytest.raises(ValueError, match="does not hold"):
            leaves_again(NETWORK, start, node.inputs[0], less)
    with pytest.raises(ValueError, match="does not hold"):
        leaves_again(NETWORK, start, node.inputs[0], {**entry, "beta": -1 - entry["beta"]})


def test_what_covers_the_domain() -> None:
    generator = np.random.default_rng(0)
    seen = set()
    for _ in range(2000):
        split = generator.integers(-1, 2, (generator.integers(1, 6), 3)).astype(np.int8)
        assert covers(split.copy()) == as_the_checker_has_it(split)
        seen.add(covers(split))
    assert seen == {True, False}
    assert not covers(np.zeros((0, 3), np.int8))

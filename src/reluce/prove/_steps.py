"""Steps of proving, which a later run need not work out again: it proves their outcome anew and goes on from there.

A run is a sequence of numbered steps. Each is determined by what was known before it and by random numbers of its own,
so that a run which recalls the first steps of an earlier one comes to the same end. What it recalls is believed in
nothing: records are evaluated again, points are tried again, and what fails is worked out as if nothing had been there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from reluce.network import Node
from reluce.prove._evidence import BoxProof, LeafProof, Record, SlopeProof
from reluce.prove._witnesses import Witnesses

WORTH = 0.05
"""Steps that take fewer seconds are not written down: doing them again costs no more."""


class Memory(Protocol):
    """Where outcomes of steps are kept: JSON values and arrays. Anyone may have written what it recalls."""

    def recall(self, step: str) -> Mapping[str, Any] | None: ...

    def keep(self, step: str, outcome: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class Done:
    """What came of a step, besides witnesses: proofs, and what it took from a budget."""

    records: tuple[Record, ...] = ()
    spent: int = 0


Work = Callable[[np.random.Generator], Done]
"""Does a step, with random numbers of its own."""

Again = Callable[[Mapping[str, Any]], Record]
"""Proves anew what a record says that was written down; raises ``ValueError`` where it does not hold."""


def no_record(entry: Mapping[str, Any]) -> Record:
    """For steps that look for witnesses only."""
    raise ValueError("a record of a step that proves nothing")


class Steps:
    """Numbers the steps of one run.

    Parameters
    ----------
    witnesses
        Points that a step has found are tried again on all units.
    memory
        What an earlier run has left, and where this one writes; ``None`` for none.
    seed
        Fixes every random choice.
    stop
        Asked after each step: one that was cut short is not written down.
    """

    def __init__(self, witnesses: Witnesses, memory: Memory | None, seed: int, stop: Callable[[], bool]) -> None:
        self._witnesses, self._memory, self._seed, self._stop = witnesses, memory, seed, stop
        self._count = 0
        self.recalled = 0

    def take(
        self, what: str, node: Node, work: Callable[[np.random.Generator], Done], again: Again = no_record
    ) -> Done:
        """Recall a step, or do it.

        Parameters
        ----------
        what, node
            Its name, and the ReLU that it is about.
        work, again
            Do it; prove its records anew.
        """
        self._count += 1
        if self._memory is None:
            return work(self._generator())
        name = f"{self._count} {what} {node.output}"
        done = self._recalled(name, again)
        if done is not None:
            self.recalled += 1
            return done
        before, began = self._witnesses.mark(), time.perf_counter()
        done = work(self._generator())
        if time.perf_counter() - began >= WORTH and not self._stop():
            records = [written(record) for record in done.records]
            found = self._witnesses.since(before)
            self._memory.keep(name, {"records": records, "spent": done.spent, "witnesses": found})
        return done

    def _generator(self) -> np.random.Generator:
        return np.random.default_rng([self._seed, self._count])

    def _recalled(self, name: str, again: Again) -> Done | None:
        outcome = None if self._memory is None else self._memory.recall(name)
        if outcome is None or self._stop():
            return None
        try:
            spent = outcome["spent"]
            if type(spent) is not int or spent < 0:
                raise ValueError("a step that took what cannot be taken")
            records = tuple(again(entry) for entry in outcome["records"])
            self._witnesses.recall(outcome["witnesses"])
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, MemoryError):
            return None  # damaged, forged, or proved with other roundings: it is worked out
        return Done(records, spent)


def written(record: Record) -> dict[str, Any]:
    """A record as it is written down; the tensor and the ReLUs in front of it follow from the step."""
    match record:
        case SlopeProof():
            return {
                "kind": "slopes",
                "rows": record.rows,
                "signs": record.signs,
                "alpha": record.alpha,
                "above": record.above,
            }
        case LeafProof():
            return {
                "kind": "leaves",
                "row": record.row,
                "sign": record.sign,
                "above": record.above,
                "split": record.split,
                "which": record.kind,
                "alpha": record.alpha,
                "beta": record.beta,
            }
        case BoxProof():
            return {
                "kind": "boxes",
                "rows": record.rows,
                "signs": record.signs,
                "dimension": record.tree.dimension,
                "point": record.tree.point,
                "child": record.tree.child,
            }

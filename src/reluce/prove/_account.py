"""Who decided how much in what time: what progress tells and what the report lists."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from reluce.bounds import Bounds
from reluce.facts import Rung, Verdict
from reluce.network import Node
from reluce.prove._verdicts import layer_facts
from reluce.prove._witnesses import Witnesses

Spent = Mapping[str, Mapping[Rung, float]]
"""Seconds by ReLU node name and rung."""


class Account:
    """Adds up seconds by stage, and by layer and rung, and tells how far proving has come.

    Parameters
    ----------
    witnesses
        The witnesses found so far.
    progress
        Told what is being worked on and what is decided.
    """

    def __init__(self, witnesses: Witnesses, progress: Callable[[str], None]) -> None:
        self.seconds: dict[str, float] = {}
        self.spent: dict[str, dict[Rung, float]] = {}
        self._witnesses, self._progress = witnesses, progress
        self._start = self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """The time since the last lap went into a stage."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now

    def spend(self, node: Node, rung: Rung, seconds: float) -> None:
        """Seconds that a rung took on a layer."""
        layer = self.spent.setdefault(node.name, {})
        layer[rung] = layer.get(rung, 0.0) + seconds

    @contextmanager
    def timing(self, node: Node, rung: Rung) -> Iterator[None]:
        """The time of what follows goes to a rung of a layer."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.spend(node, rung, time.perf_counter() - start)

    def tell(self, what: str, bounds: Bounds | None = None) -> None:
        """Say what is being worked on, and what is decided by what."""
        self._progress(what if bounds is None else f"{what} | {self._decided(bounds)}")

    def _decided(self, bounds: Bounds) -> str:
        verdicts: Counter[str] = Counter()
        rungs: Counter[str] = Counter()
        for node in self._witnesses.layers:
            facts = layer_facts(self._witnesses.network, node, self._witnesses, bounds)
            verdicts.update(Verdict(int(verdict)).name.lower() for verdict in facts.verdict)
            rungs.update(str(rung) for rung in facts.rung if rung is not Rung.NONE)
        open_ = verdicts.pop("undecided", 0)
        parts = [", ".join(f"{count:,} {name}" for name, count in c.items()) for c in (verdicts, rungs) if c]
        return f"{' | by '.join(parts)} | {open_:,} open | {time.perf_counter() - self._start:.1f} s"

"""New names beside those that are taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


class Names:
    """Names that are taken, and how far the counting has come for each base: a file may use one name 100,000 times."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._counts: Counter[str] = Counter()

    def fresh(self, base: str) -> str:
        """The base itself or, where that is taken or empty, the first ``base_1``, ``base_2``, ... that is not."""
        name = base
        while not name or name in self._taken:
            self._counts[base] += 1
            name = f"{base}_{self._counts[base]}"
        self._taken.add(name)
        return name

"""Which strength to name: the one that leaves the fewest parameters and loses no accuracy.

"Loses no accuracy": the mean accuracy over seeds of its compressed networks, on validation splits drawn from the
training samples, is not below that of the unregularised networks as they were trained. Each seed draws the same split
for all strengths. Only a strength whose runs all came to their end is compared: means over different seeds are not.
Test samples play no part.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from reluce.sweep._plan import text_of
from reluce.sweep._results import Choice, Row


def choose(rows: Sequence[Row]) -> Choice:
    """Name the largest compression that loses no accuracy against the unregularised network.

    Parameters
    ----------
    rows
        One for each strength; that of strength 0 is the unregularised network.
    """
    (plain,) = (row for row in rows if row.strength == 0)
    if not plain.complete or plain.trained is None or plain.after is None:
        return Choice(None, "nothing can be named: a run of the unregularised network failed, to compare with")
    others = [row for row in rows if row.strength > 0 and row.complete]
    if not others:
        return Choice(None, "nothing can be named: for no strength above 0 did all runs come to their end")
    smaller = [row for row in others if _after(row) < plain.after]
    kept = [row for row in smaller if _valid(row) >= plain.trained]
    if not kept:
        return Choice(None, _nothing(smaller, plain.trained, plain.after))
    fewest = min(_after(row) for row in kept)
    smallest = [row for row in kept if _after(row) == fewest]
    best = max(smallest, key=lambda row: (_valid(row), -row.strength))
    return Choice(best.strength, _named(best, plain, [row for row in smallest if row is not best]))


def _nothing(smaller: Sequence[Row], needed: Fraction, left: Fraction) -> str:
    words = (
        f"nothing found: no strength keeps the validation accuracy of the unregularised network, {_share(needed)}, and "
        f"leaves fewer parameters than that, compressed, has left, {_count(left)}"
    )
    if not smaller:
        return f"{words}; none leaves fewer at all: larger strengths might"
    nearest = max(smaller, key=lambda row: (_valid(row), -row.strength))
    named = f"strength {text_of(nearest.strength)} with {_share(_valid(nearest))} and {_count(_after(nearest))} left"
    return f"{words}; the nearest that leaves fewer is {named}"


def _named(best: Row, plain: Row, as_small: Sequence[Row]) -> str:
    assert plain.trained is not None
    words = (
        f"strength {text_of(best.strength)} compresses most without losing accuracy: {_count(_after(best))} parameters "
        f"left, {best.ratio:.2f}x fewer (unregularised: {plain.ratio:.2f}x); validation accuracy "
        f"{_share(_valid(best))} against {_share(plain.trained)}"
    )
    if not as_small:
        return words
    equal = [row for row in as_small if _valid(row) == _valid(best)]
    why = "and as accurate: the weaker one is named" if len(equal) == len(as_small) else "but not more accurate"
    return f"{words} (as small {why}: {', '.join(text_of(row.strength) for row in as_small)})"


def _valid(row: Row) -> Fraction:
    assert row.valid is not None
    return row.valid


def _after(row: Row) -> Fraction:
    assert row.after is not None
    return row.after


def _share(value: Fraction) -> str:
    return f"{float(value):.2%}"


def _count(value: Fraction) -> str:
    return f"{float(value):,.0f}"

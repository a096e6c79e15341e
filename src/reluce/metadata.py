"""What a compressed file says about itself, and what an earlier run wrote into the file at hand.

``reluce.spent`` is a JSON object with, for each graph output, how far all runs together may have moved it from the
first original (``reluce.first_sha256``): one number for all of its coordinates or a list with one each, ``null`` where
that is not known. A later run charges it. ``reluce.shifted`` is there where logits were shifted: what was spent is then
about the first original's output less one of its coordinates, ``{"output": k}``. Metadata can be edited by anyone, so
that nothing which is read here may ever allow more: what is missing, malformed, negative or no number counts as
infinite, and then nothing may be spent at all.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from reluce._version import __version__
from reluce.domain import Box
from reluce.facts import Guarantee
from reluce.io import Loaded, OnnxLoaded
from reluce.network import Array
from reluce.rounding import up

OURS = "reluce."
SPENT, FIRST, SHIFTED = "reluce.spent", "reluce.first_sha256", "reluce.shifted"

LONGEST = 4096
"""Outputs with more coordinates are written as one number, the largest."""


def described(loaded: Loaded, box: Box, guarantee: Guarantee, attested_by: str | None) -> dict[str, str]:
    """The metadata of a result: where it comes from, what is promised, and what has been spent in all.

    Parameters
    ----------
    loaded
        The model that this run began with.
    box
        The domain.
    guarantee
        What is promised.
    attested_by
        Whose word the promise rests on, if it is not proved.
    """
    if not isinstance(loaded, OnnxLoaded):
        return {}
    mine = hashlib.sha256(loaded.data).hexdigest()
    # What earlier runs said of it stays in the file; of several shifts the last is that of all.
    shifted = {SHIFTED: json.dumps(dict(guarantee.shifted))} if guarantee.shifted else {}
    attested = {"reluce.attested_by": str(attested_by)} if guarantee.level == "attested" else {}
    return {
        "reluce.version": __version__,
        "reluce.original_sha256": mine,
        FIRST: _first(loaded, mine),
        "reluce.domain": box.description + (" (assumption)" if box.assumption else ""),
        "reluce.domain_sha256": box.digest,
        "reluce.guarantee": "attested" if attested else guarantee.asked,
        "reluce.epsilon": repr(guarantee.epsilon),
        SPENT: _written(guarantee),
        **shifted,
        **attested,
    }


def spent_before(loaded: Loaded) -> dict[str, Array]:
    """How far earlier runs moved each graph output, flat; infinite where the file does not say so clearly.

    Outputs that are no floats (a guard, a class) are never moved: where nothing is said of them, that is 0.
    """
    network = loaded.network
    if not any(key.startswith(OURS) for key, _ in loaded.metadata):
        return {name: np.zeros(network.entries(name)) for name in network.outputs}
    stated = _object([value for key, value in loaded.metadata if key == SPENT])
    unsaid = {name: None if network.tensors[name].dtype.kind in "fV" else 0.0 for name in network.outputs}
    return {name: _values(stated.get(name, unsaid[name]), network.entries(name)) for name in network.outputs}


def spent_if_shifted(spent: Mapping[str, Array]) -> dict[str, Array]:
    """What counts as spent where one coordinate may be subtracted from all: what that one had moved comes on top."""
    return {
        name: np.where(part.max(initial=0.0) == 0, part, up(part + part.max(initial=0.0)))
        for name, part in spent.items()
    }


def complaint(loaded: Loaded, spent: Mapping[str, Array]) -> tuple[str, ...]:
    """A note where earlier runs may have spent anything."""
    lost = [name for name, values in spent.items() if not np.isfinite(values).all()]
    if not lost:
        return ()
    return (
        f"the metadata of {loaded.name} says that Reluce made it, but {SPENT} does not tell clearly how far it moved "
        f"{', '.join(lost)}: nothing more may be spent there",
    )


def _first(loaded: Loaded, mine: str) -> str:
    earlier = [value for key, value in loaded.metadata if key == FIRST]
    if not any(key.startswith(OURS) for key, _ in loaded.metadata):
        return mine
    known = len(earlier) == 1 and re.fullmatch("[0-9a-f]{64}", earlier[0])
    return earlier[0] if known else "unknown"


def _written(guarantee: Guarantee) -> str:
    total = {}
    for name, epsilon in guarantee.epsilons.items():
        spent = guarantee.spent.get(name, np.zeros_like(epsilon))
        values = np.where(spent == 0, epsilon, np.where(epsilon == 0, spent, up(spent + epsilon)))
        same = values.size > 0 and (values.size > LONGEST or bool((values == values[0]).all()))
        plain = [value if math.isfinite(value) else None for value in values.tolist()]
        worst = float(values.max(initial=0.0))
        total[name] = (worst if math.isfinite(worst) else None) if same else plain
    return json.dumps(total, allow_nan=False)


def _object(texts: list[str]) -> Mapping[str, Any]:
    if len(texts) != 1:
        return {}
    try:
        found = json.loads(texts[0], object_pairs_hook=_distinct)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object in which no key comes twice."""
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key comes twice")
    return dict(pairs)


def _values(stated: Any, count: int) -> Array:
    values = stated if isinstance(stated, list) else [stated] * count
    if len(values) != count:
        return np.full(count, np.inf)
    return np.array([_number(value) for value in values], dtype=np.float64)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        return math.inf
    try:
        return float(value)
    except OverflowError:
        return math.inf

"""Why a run left standing what might have gone, in the words of the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from reluce.facts import Refusal, Verdict
from reluce.network import Array, Dense, Opaque
from reluce.rewrite._state import Original, Rewritten, describe, sandwich


@dataclass
class Reasons:
    """What a run found in the way, last seen counts. By the name of a ReLU, where nothing else is said."""

    folds: dict[str, str] = field(default_factory=dict)  # why a layer that is linear stays
    products: dict[str, str] = field(default_factory=dict)  # why two dense layers in a row stay two, by what is between
    ranks: dict[str, str] = field(default_factory=dict)  # why active units could not be given a smaller basis
    skips: dict[str, str] = field(default_factory=dict)  # why there is no skip around a layer
    ill: dict[str, str] = field(default_factory=dict)  # merges, and constants (under ""), that floats would not bear
    shift: str = "time ran out"  # why no logit was subtracted from all


def refusals(
    original: Original, state: Rewritten, kept: Mapping[str, Array], why: Reasons, exact: bool
) -> list[Refusal]:
    """What stays although it might have gone, and why: a line per layer and reason.

    Parameters
    ----------
    original, state
        What was known, and what became of it.
    kept
        For each ReLU (by node name) the original indices of the units that remain.
    why
        What the run found in the way.
    exact
        Whether nothing may move at all.
    """
    found = []
    for relu in original.network.relus:
        if relu.name in why.folds and len(kept[relu.name]):
            found.append(Refusal(relu.output, "layer not folded", why.folds[relu.name]))
    for name, reason in why.products.items():
        if name in state.network.tensors:
            found.append(Refusal(name, "dense layers in a row not made one", reason))
    for relu in state.network.relus:
        if relu.name in why.skips:
            found.append(Refusal(relu.output, "no skip", why.skips[relu.name]))
    return found + _kept_though_stable(original, state, kept, why, exact)


def _kept_though_stable(
    original: Original, state: Rewritten, kept: Mapping[str, Array], reasons: Reasons, exact: bool
) -> list[Refusal]:
    """Why units that were proved stable are still there."""
    found = []
    how = "exactly (--guarantee roundoff or within=EPS allows more)" if exact else "within the budget"
    if "" in reasons.ill:
        found.append(Refusal("all layers", "more near-constant units not removed", reasons.ill[""]))
    for relu in state.network.relus:
        facts = original.facts.layers[relu.name]
        left = kept[relu.name][kept[relu.name] >= 0]
        removable = int(np.isin(facts.verdict[left], [Verdict.CONSTANT, Verdict.INACTIVE]).sum())
        active = int((facts.verdict[left] == Verdict.ACTIVE).sum())
        if removable:
            found.append(
                Refusal(
                    relu.output,
                    f"{removable} inactive or constant {_units(removable)} not removed",
                    _reader(state, relu.output, how),
                )
            )
        if active:
            pattern = sandwich(original, state, relu)
            why = (
                pattern
                if isinstance(pattern, str)
                else reasons.ill.get(
                    relu.name, f"no smaller basis {how}: {reasons.ranks.get(relu.name) or 'not tried'}"
                )
            )
            found.append(Refusal(relu.output, f"{active} active {_units(active)} not merged", why))
    return found


def _units(count: int) -> str:
    return "unit" if count == 1 else "units"


def _reader(state: Rewritten, name: str, how: str) -> str:
    if name in state.network.outputs:
        return "read by the graph output"
    for node in state.network.consumers[name]:
        if isinstance(node.op, Opaque):
            return f"read by {describe(node)}"
        if not isinstance(node.op, Dense):
            return f"{describe(node)} and what is behind it cannot do without them"
    return f"their values cannot be moved into the next bias {how}"

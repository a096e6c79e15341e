"""All rewrites to a fixed point, each accepted only by the proven deviation of the network that it would leave.

Order in a round: take out what costs nothing, then constants within the budget, then fold layers that are all active,
then merge dependent units. A round that changes nothing ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import numpy as np

from reluce.facts import Guarantee, Refusal, Verdict
from reluce.network import Array, Dense, Network, Opaque
from reluce.rewrite._constants import remove_exactly, remove_within
from reluce.rewrite._fold import fold_layer
from reluce.rewrite._merge import merge_layer
from reluce.rewrite._relation import epsilons
from reluce.rewrite._state import Original, Rewritten, Sandwich, describe, sandwich

ROUNDS = 20
"""More rounds than layers that can fold one after the other are never needed in practice."""


@dataclass(frozen=True, eq=False)
class Rewriting:
    """A smaller network, what is promised about it, and what was not done.

    ``kept`` lists for each ReLU (by node name) the original indices of the units that remain; ``coordinates`` for each
    tensor that lost some the flat coordinates of the original that it stands for.
    """

    network: Network
    guarantee: Guarantee
    kept: Mapping[str, Array]
    coordinates: Mapping[str, Array]
    refusals: tuple[Refusal, ...] = ()


def rewrite(original: Original, budget: float | None = None, stop: Callable[[], bool] = lambda: False) -> Rewriting:
    """Make a network smaller without changing what it computes on the domain.

    Parameters
    ----------
    original
        The network with everything that was proved about it.
    budget
        The largest deviation of any output that is allowed; ``None`` for the exact guarantee.
    stop
        Asked between steps; once True the state so far is returned.

    Returns
    -------
    Rewriting
        With the deviation of every output as proved for the finished network.
    """
    work = _Work(original, budget, stop)
    state = work.run()
    final = epsilons(original, state, exact=budget is None)
    if not _fits(final, budget):  # every step was accepted, so this is a bug of ours, and nothing may be claimed
        raise RuntimeError("a rewritten network does not keep its guarantee")
    level = "exact" if budget is None else "within"
    left = {relu.name for relu in state.network.relus}
    kept = {
        relu.name: state.units(original.network, relu) if relu.name in left else np.zeros(0, dtype=np.int64)
        for relu in original.network.relus
    }
    standing = [refusal for layer, refusal in work.refusals.items() if len(kept[layer])]
    refusals = (*standing, *_kept_though_stable(original, state, kept, budget))
    return Rewriting(state.network, Guarantee(level, budget or 0.0, final), kept, state.kept, refusals)


class _Work:
    """One run to the fixed point (local to ``rewrite``)."""

    def __init__(self, original: Original, budget: float | None, stop: Callable[[], bool]) -> None:
        self.original, self.budget, self.stop = original, budget, stop
        self.refusals: dict[str, Refusal] = {}  # by ReLU

    def run(self) -> Rewritten:
        # What costs nothing is used even when time has run out: that is what the proofs were for.
        state = self._free(Rewritten.nothing_done(self.original.network))
        for _ in range(ROUNDS):
            before = state
            for step in (self._free, self._constants, self._fold, self._merge):
                if self.stop():
                    return state
                state = step(state)
            if state is before:
                break
        return state

    def _accept(self, candidate: Rewritten) -> bool:
        if not _finite(candidate.network, self.original.network):
            return False
        found = epsilons(self.original, candidate, exact=self.budget is None)
        return _fits(found, self.budget)

    def _spent(self, state: Rewritten) -> float:
        found = epsilons(self.original, state, exact=self.budget is None)
        return max((float(values.max(initial=0.0)) for values in found.values()), default=0.0)

    def _free(self, state: Rewritten) -> Rewritten:
        smaller = remove_exactly(self.original, state)
        if smaller is state:
            return state
        # What was already spent may only be re-measured, never exceeded; at the exact guarantee this demands 0.
        return smaller if self._accept(smaller) else state

    def _constants(self, state: Rewritten) -> Rewritten:
        if self.budget is None:
            return state
        return remove_within(self.original, state, self.budget, self._spent(state), self._accept)

    def _fold(self, state: Rewritten) -> Rewritten:
        for relu in self.original.network.relus:
            if self.stop():
                break
            pattern = self._pattern(state, relu.name)
            if isinstance(pattern, str):
                continue
            result = fold_layer(state, pattern, self.budget is None, self._accept)
            if not isinstance(result, str):
                state = result
            elif len(pattern.active) == len(pattern.units):
                self.refusals[relu.name] = Refusal(relu.output, "layer not folded", result)
        return state

    def _merge(self, state: Rewritten) -> Rewritten:
        for relu in self.original.network.relus:
            if self.stop():
                break
            pattern = self._pattern(state, relu.name)
            if isinstance(pattern, str):
                continue
            room = 0.0 if self.budget is None else max(0.0, self.budget - self._spent(state))
            if self.budget is None or room > 0:
                state = merge_layer(self.original, state, pattern, room, self._accept)
        return state

    def _pattern(self, state: Rewritten, name: str) -> Sandwich | str:
        current = next((node for node in state.network.relus if node.name == name), None)
        return "the layer is gone" if current is None else sandwich(self.original, state, current)


def _fits(deviations: Mapping[str, Array], budget: float | None) -> bool:
    """Whether no output deviates by more than the budget; NaN never fits."""
    return all(bool((values <= (budget or 0.0)).all()) for values in deviations.values())


def _finite(network: Network, original: Network) -> bool:
    """Whether no rewritten parameter overflowed its format."""
    for node in network.nodes:
        if not node.outputs or node.op is original.producer[node.outputs[0]].op:
            continue
        arrays = (getattr(node.op, entry.name) for entry in fields(node.op))
        if any(isinstance(array, np.ndarray) and not np.isfinite(array).all() for array in arrays):
            return False
    return True


def _kept_though_stable(
    original: Original, state: Rewritten, kept: Mapping[str, Array], budget: float | None
) -> list[Refusal]:
    """Why units that were proved stable are still there, a line per layer and reason."""
    found = []
    how = "exactly (--guarantee within=EPS allows more)" if budget is None else f"within {budget:g}"
    for relu in state.network.relus:
        facts = original.facts.layers[relu.name]
        left = kept[relu.name]
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
            alone = "no other active unit is left in its layer"
            why = pattern if isinstance(pattern, str) else alone if active == 1 else f"not linearly dependent {how}"
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

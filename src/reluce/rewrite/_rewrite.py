"""All rewrites to a fixed point, each accepted only by the proven deviation of the network that it would leave.

The order follows from what each step takes and gives. Deleting comes first, and again after whatever else has changed
something: what costs nothing, then constants within the budget. It never makes anything larger, and what it removes
would only stand in the way of the rest. Folding a layer saves most, so it comes before what makes layers merely
smaller: units on one hyperplane, LEO's merging (which keeps units as they are and so can be exact), the joint rank
(whose new units are combinations, which nothing finer finds its way through). Layers are visited forward, so that
whatever the layer in front lost is seen. Selections in front of readers are the last step of a round: what reads a
layer through one is no longer a dense layer, so nothing else can be done there. For the same reason skips, where they
are asked for, wait for a round that changes nothing. Another such round ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, partial
from typing import Literal

import numpy as np

from reluce.facts import FloatErrors, Refusal
from reluce.network import Array, Dense, Network
from reluce.rewrite._budget import Budget, fits, is_exact, room_left
from reluce.rewrite._conditioning import enclosures, evaluation_errors, float_errors, ill_conditioned
from reluce.rewrite._constants import exact_values, remove_exactly, remove_within
from reluce.rewrite._cost import Objective, cost, saves_nothing
from reluce.rewrite._fold import fold_layer, fold_linear
from reluce.rewrite._merge import merge_layer, scaled_rows
from reluce.rewrite._multiples import Class, classes, merge_multiples, values_at
from reluce.rewrite._rebase import rebase_layer
from reluce.rewrite._refusals import Reasons, refusals
from reluce.rewrite._relation import Deviations, at_outputs, deviation
from reluce.rewrite._select import select_inputs
from reluce.rewrite._shift import shifted_errors, shifts
from reluce.rewrite._skip import skip_layer
from reluce.rewrite._state import Judge, Original, Rewritten, Sandwich, sandwich

Step = Literal["constants", "fold", "multiples", "merge", "rebase", "select", "skip"]
STEPS: tuple[Step, ...] = ("constants", "fold", "multiples", "merge", "rebase", "select")
"""The kinds of rewrites beside deleting what costs nothing, in the order of a round; constants whenever deleting.

Skips, which change the architecture, come after all rounds where they are asked for."""

ROUNDS = 20
"""More rounds than layers that can fold one after the other are never needed in practice."""


ROUNDING = 2.0**-30
"""Deviations below this share of the largest product that occurs may be nothing but rounding of the pass."""


@dataclass(frozen=True, eq=False)
class Rewriting:
    """A smaller network, how far it is from the original, and what was not done.

    ``state`` says what each tensor stands for. ``epsilons`` has for each graph output its proven deviation, flat.
    ``kept`` lists for each ReLU (by node name) the original indices of the units that remain, and -1 for each new one.
    ``floats`` is information about float evaluation.
    """

    state: Rewritten
    epsilons: Mapping[str, Array]
    kept: Mapping[str, Array]
    floats: FloatErrors
    refusals: tuple[Refusal, ...] = ()

    @property
    def network(self) -> Network:
        """The smaller network."""
        return self.state.network


def rewrite(
    original: Original,
    budget: Budget,
    stop: Callable[[], bool] = lambda: False,
    objective: Objective = "parameters",
    steps: Sequence[Step] = STEPS,
    softmax_shift: bool = False,
) -> Rewriting:
    """Make a network smaller without changing what it computes on the domain by more than a budget.

    Parameters
    ----------
    original
        The network with everything that was proved about it.
    budget
        For each graph output how far each of its coordinates may move, flat (``uniform_budget``); all 0 for the exact
        guarantee.
    stop
        Asked between steps; once True the state so far is returned.
    objective
        What a rewrite must make smaller to be taken.
    steps
        The kinds of rewrites of a round, in order: ``STEPS``, and ``"skip"`` behind them; others are for measurements.
    softmax_shift
        Whether one logit may be subtracted from all (``_shift``), where that saves anything in the end.

    Returns
    -------
    Rewriting
        With the deviation of every output as proved for the finished network.
    """
    work = _Work(original, budget, stop, objective, steps)
    plain = _finished(work, work.run())
    if not softmax_shift:
        return plain
    best, why = plain, ""
    # From the end only what the shift makes possible is left to do; from the start it takes part in everything.
    for start in (plain.state, Rewritten.nothing_done(original.network)):
        work = _Work(original, budget, stop, objective, steps)
        state = work.run(start, shift=True)
        reason = work.no_gain(best.network, state.network) if state.shifted else work.reasons.shift
        best, why = (_finished(work, state), "") if reason is None else (best, reason)
    if best is not plain:
        return best
    refusal = Refusal(" and ".join(original.network.outputs), "no logit subtracted from all", why)
    return replace(plain, refusals=(*plain.refusals, refusal))


def _finished(work: _Work, state: Rewritten) -> Rewriting:
    """What is proved of a network at the end of a run."""
    original, found = work.original, work.deviations(state)
    final = at_outputs(original, state, found)
    if not fits(final, work.budget):  # every step was accepted, so this is a bug of ours, and nothing may be claimed
        raise RuntimeError("a rewritten network does not keep its guarantee")
    left = {relu.name for relu in state.network.relus}
    kept = {
        relu.name: state.units(original.network, relu) if relu.name in left else np.zeros(0, dtype=np.int64)
        for relu in original.network.relus
    }
    why = refusals(original, state, kept, work.reasons, work.exact)
    floats = float_errors(original, kept, work.before, work.evaluation(state, found))
    return Rewriting(state, final, kept, floats, tuple(why))


class _Work:
    """One run to the fixed point (local to ``rewrite``)."""

    def __init__(
        self,
        original: Original,
        budget: Budget,
        stop: Callable[[], bool],
        objective: Objective = "parameters",
        steps: Sequence[Step] = STEPS,
    ) -> None:
        self.original, self.budget, self.stop, self.objective = original, budget, stop, objective
        self.near = "constants" in steps
        self.steps = [getattr(self, f"_{name}") for name in steps if name not in ("constants", "skip")]
        self.skips = "skip" in steps
        self.whole = cost(original.network, original.network)
        self.exact = is_exact(budget)
        self.before = evaluation_errors(original.network, original.bounds.intervals)
        self.reasons = Reasons()
        self._complaints: list[str] = []

    def run(self, start: Rewritten | None = None, shift: bool = False) -> Rewritten:
        """Go on to the fixed point; with a shift that comes first, and nothing is done where there is none."""
        # What costs nothing is used even when time has run out: that is what the proofs were for.
        state = self._free(Rewritten.nothing_done(self.original.network) if start is None else start)
        if shift:
            state = self._shift(state)
            if not state.shifted:
                return state
        state = self._deleted(state)
        for _ in range(ROUNDS):
            before = state
            for step in self.steps:
                state = self._after(step, state)
            if state is before and self.skips:
                state = self._after(self._skip, state)
            if state is before:
                break
        return state

    def _after(self, step: Callable[[Rewritten], Rewritten], state: Rewritten) -> Rewritten:
        """Take a step, and delete what has become unneeded; nothing when time has run out."""
        after = state if self.stop() else step(state)
        return state if after is state else self._deleted(after)

    def _shift(self, state: Rewritten) -> Rewritten:
        """Subtract one logit from all, the first with which that fits."""
        if self.stop():
            return state
        found = shifts(self.original, state)
        if isinstance(found, str):
            self.reasons.shift = found
            return state
        for candidate in found:
            why = self.judge(candidate)
            if why is None:
                return candidate
            self.reasons.shift = why
        return state

    def _deleted(self, state: Rewritten) -> Rewritten:
        """Delete what costs nothing, and constants within the budget, until nothing more goes."""
        while not self.stop():
            after = self._free(state)
            after = self._constants(after) if self.near else after
            if after is state:
                break
            state = after
        return state

    def deviations(self, candidate: Rewritten) -> Deviations:
        """How far every tensor is from the original's; where rounding alone may not fit, without rounding."""
        found = deviation(self.original, candidate, self.exact)
        if self.exact or not self._only_rounding(at_outputs(self.original, candidate, found)):
            return found
        exactly = deviation(self.original, candidate, exact=True)  # 0 or infinite; both bounds hold
        return {name: np.fmin(found[name], exactly[name]) for name in found}

    def _only_rounding(self, outputs: Mapping[str, Array]) -> bool:
        """Whether some output does not fit, and none by more than what the float64 arithmetic of a bound may add."""
        over = {name: values[~(values <= self.budget[name])] for name, values in outputs.items()}
        hair = ROUNDING * _largest(self.original)
        return any(v.size for v in over.values()) and all((v <= hair).all() for v in over.values())

    def evaluation(self, candidate: Rewritten, found: Deviations) -> Mapping[str, Array]:
        """The a-priori float evaluation error of the outputs."""
        return evaluation_errors(candidate.network, enclosures(self.original, candidate, found))

    def judge(self, candidate: Rewritten) -> str | None:
        """Why a candidate must not be taken, if so."""
        if not _finite(candidate.network, self.original.network):
            return "a new weight would overflow its format"
        found = self.deviations(candidate)
        if not fits(at_outputs(self.original, candidate, found), self.budget):
            return "its deviation does not fit in the guarantee"
        before = shifted_errors(self.before, candidate.shifted)
        why = ill_conditioned(before, self.evaluation(candidate, found))
        if why is not None:
            self._complaints.append(why)
        return why

    def saving(self, state: Rewritten) -> Judge:
        """A judge that also refuses what saves nothing, compared with a state."""
        before = cache(partial(cost, state.network, self.original.network))  # most steps have no candidate at all

        def why_not(candidate: Rewritten) -> str | None:
            after = cost(candidate.network, self.original.network)
            return saves_nothing(before(), after, self.whole, self.objective) or self.judge(candidate)

        return why_not

    def no_gain(self, plain: Network, shifted: Network) -> str | None:
        """Why logits are better left as they are, if so: for other logits the objective itself has to become less."""
        before, after = (cost(network, self.original.network) for network in (plain, shifted))
        more = saves_nothing(before, after, self.whole, self.objective)
        old, new = getattr(before, self.objective), getattr(after, self.objective)
        return more or (f"it would not save: {self.objective} stay {old:,}" if new == old else None)

    def _room(self, state: Rewritten) -> Array:
        spent = at_outputs(self.original, state, self.deviations(state))
        return room_left(self.original.network, self.budget, spent)

    def _noted(self, where: str, step: Callable[[], Rewritten]) -> Rewritten:
        """Run a step, and keep in mind where floats would not have borne more."""
        self._complaints.clear()
        state = step()
        self.reasons.ill.pop(where, None)
        if self._complaints:
            self.reasons.ill[where] = self._complaints[-1]
        return state

    def _free(self, state: Rewritten) -> Rewritten:
        smaller = remove_exactly(self.original, state)
        if smaller is state:
            return state
        # What was already spent may only be re-measured, never exceeded; at the exact guarantee this demands 0.
        return smaller if self.judge(smaller) is None else state

    def _constants(self, state: Rewritten) -> Rewritten:
        if self.exact:
            return state
        return self._noted("", lambda: remove_within(self.original, state, self._room(state), self.judge))

    def _by_layer(self, state: Rewritten, step: Callable[[Rewritten, Sandwich], Rewritten]) -> Rewritten:
        """Take a step for each layer that has the pattern, forward."""
        for relu in self.original.network.relus:
            if self.stop():
                break
            pattern = self._pattern(state, relu.name)
            if not isinstance(pattern, str):
                state = step(state, pattern)
        return state

    def _fold(self, state: Rewritten) -> Rewritten:
        return self._fold_linear(self._by_layer(state, self._fold_one))

    def _fold_linear(self, state: Rewritten) -> Rewritten:
        """Fold dense layers with nothing behind them but other dense layers, forward."""
        for node in self.original.network.nodes:
            now = state.network.producer.get(node.outputs[0]) if isinstance(node.op, Dense) else None
            if self.stop():
                break
            if now is not None and isinstance(now.op, Dense):
                result = fold_linear(state, now, self.exact, self.saving(state))
                self.reasons.products.pop(now.output, None)
                if isinstance(result, str):
                    self.reasons.products[now.output] = result
                elif result is not None:
                    state = result
        return state

    def _fold_one(self, state: Rewritten, pattern: Sandwich) -> Rewritten:
        result = fold_layer(state, pattern, self.exact, self.saving(state))
        if not isinstance(result, str):
            return result
        if len(pattern.active) == len(pattern.units):
            self.reasons.folds[pattern.relu.name] = result
        return state

    def _multiples(self, state: Rewritten) -> Rewritten:
        return self._by_layer(state, self._merge_multiples_of_one)

    def _merge_multiples_of_one(self, state: Rewritten, pattern: Sandwich) -> Rewritten:
        same = [item for item in self._classes(state, pattern) if not item.opposite.any()]
        return merge_multiples(state, pattern, same, self.saving(state))

    def _classes(self, state: Rewritten, pattern: Sandwich) -> list[Class]:
        rows, centre, _ = scaled_rows(self.original, state, pattern)
        return classes(pattern, rows, values_at(pattern, centre))

    def _merge(self, state: Rewritten) -> Rewritten:
        return self._by_layer(state, self._merge_one)

    def _merge_one(self, state: Rewritten, pattern: Sandwich) -> Rewritten:
        room = self._room(state)
        merge = partial(merge_layer, self.original, state, pattern, room, self.saving(state))
        return self._noted(pattern.relu.name, merge)

    def _rebase(self, state: Rewritten) -> Rewritten:
        return self._by_layer(state, self._rebase_one)

    def _rebase_one(self, state: Rewritten, pattern: Sandwich) -> Rewritten:
        found, room = self._classes(state, pattern), self._room(state)
        result = rebase_layer(self.original, state, pattern, found, room, self.saving(state))
        if isinstance(result, str) and found:
            result = rebase_layer(self.original, state, pattern, [], room, self.saving(state))
        self.reasons.ranks[pattern.relu.name] = result if isinstance(result, str) else ""
        return state if isinstance(result, str) else result

    def _select(self, state: Rewritten) -> Rewritten:
        constants = exact_values(self.original, state, {})
        return select_inputs(self.original, state, constants, self.saving)

    def _skip(self, state: Rewritten) -> Rewritten:
        return self._by_layer(state, self._skip_one)

    def _skip_one(self, state: Rewritten, pattern: Sandwich) -> Rewritten:
        result = skip_layer(self.original, state, pattern, self.saving(state))
        if not isinstance(result, str):
            return result
        if len(pattern.active):
            self.reasons.skips[pattern.relu.name] = result
        return state

    def _pattern(self, state: Rewritten, name: str) -> Sandwich | str:
        current = next((node for node in state.network.relus if node.name == name), None)
        return "the layer is gone" if current is None else sandwich(self.original, state, current)


def _largest(original: Original) -> float:
    """The largest product of a weight and a finite bound, or bound, at least."""
    ends = [np.where(np.isfinite(box.magnitude), box.magnitude, 0.0) for box in original.bounds.intervals.values()]
    weights = [np.abs(node.op.weight) for node in original.network.nodes if isinstance(node.op, Dense)]
    reach, factor = (max((float(part.max(initial=0.0)) for part in parts), default=0.0) for parts in (ends, weights))
    return reach * max(1.0, factor)


def _finite(network: Network, original: Network) -> bool:
    """Whether no rewritten parameter overflowed its format."""
    for node in network.nodes:
        before = original.producer.get(node.outputs[0]) if node.outputs else None
        if before is None or node.op is before.op:
            continue
        arrays = (getattr(node.op, entry.name) for entry in fields(node.op))
        if any(isinstance(array, np.ndarray) and not np.isfinite(array).all() for array in arrays):
            return False
    return True

"""Constant units go into the next bias; near-constant ones too, where the guarantee leaves room.

A unit whose output is v on the whole domain contributes W_j v to every reader z = W h + b, so b' = b + W_j v and the
unit goes. It is exact when v = 0 (inactive units) or when every new bias is a number of its format. Otherwise, and for
units whose output only stays within [v - rho, v + rho], the outputs move by at most G_j rho plus the rounding of the
biases (G: ``_sensitivity``). Units go in the order of that cost until the budget is spent.
Source: LEO 1.3 A (w = 0); METHODS 4.C.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from reluce.bounds import Constancy, constancy
from reluce.network import Array, Constant, Dense, Dyadic, Opaque, Relu
from reluce.rewrite._sensitivity import sensitivity
from reluce.rewrite._shrink import Values, absorbed_bias, constant_node, droppable, shrink
from reluce.rewrite._state import Judge, Original, Rewritten
from reluce.rounding import UNIT_ROUNDOFF

Units = Mapping[str, Array]
"""For each ReLU node name a mask over the coordinates of its (original, flat) output."""


def remove_exactly(original: Original, state: Rewritten) -> Rewritten:
    """Take out whatever changes no output at all: inactive, unread, and exactly absorbable constants."""
    refused: dict[str, Array] = {}
    while True:
        constants = exact_values(original, state, refused)
        drop = droppable(state.network, constants)
        more = _inexact_absorptions(state, drop, constants)
        if not more:
            return _materialised(original, shrink(state, drop, constants))
        for name, columns in more.items():
            refused[name] = refused.get(name, np.zeros(state.network.tensors[name].size, dtype=bool)) | columns


def _materialised(original: Original, state: Rewritten) -> Rewritten:
    """Write tensors that are constant as a whole, and whose readers need them, as constants: all before them goes."""
    nodes = []
    for node in state.network.nodes:
        value = None if isinstance(node.op, Constant | Opaque) else _whole_value(original, state, node.output)
        nodes.append(node if value is None else constant_node(state.network, node, value))
    if all(new is old for new, old in zip(nodes, state.network.nodes, strict=True)):
        return state
    changed = replace(state, network=replace(state.network, nodes=tuple(nodes)))
    return shrink(changed, droppable(changed.network, {}), {})


def _whole_value(original: Original, state: Rewritten, name: str) -> Array | None:
    """The value of a tensor all of whose remaining coordinates are constant and representable."""
    known, tensor = original.bounds.constants.get(name), state.network.tensors[name]
    if known is None or tensor.dtype.kind != "f" or not tensor.size or name in state.rows:
        return None
    kept = state.coordinates(name)
    value = known.value.reshape((-1,))[kept]
    if not known.exact.ravel()[kept].all() or not value.representable(tensor.dtype).all():
        return None
    return value.nearest().astype(tensor.dtype).reshape(state.network.shape(name))


def exact_values(original: Original, state: Rewritten, refused: Mapping[str, Array]) -> dict[str, Values]:
    """For tensors that dense layers read the coordinates that are exactly known, but for those that are refused."""
    result = {}
    for name in dict.fromkeys(node.inputs[0] for node in state.network.nodes if isinstance(node.op, Dense)):
        known = original.bounds.constants.get(state.source(name))
        if known is None or not known.exact.any():
            continue
        kept = state.coordinates(name)
        mask = known.exact.ravel()[kept] & (kept >= 0)
        if name in refused:
            mask = mask & ~refused[name]
        result[name] = Values(mask, known.value.reshape((-1,))[kept])
    return result


def _inexact_absorptions(
    state: Rewritten, drop: Mapping[str, Array], constants: Mapping[str, Values]
) -> dict[str, Array]:
    """Columns whose constants would make some bias unrepresentable, found greedily in order, per tensor."""
    found: dict[str, Array] = {}
    for node in state.network.nodes:
        if not isinstance(node.op, Dense) or node.inputs[0] not in constants:
            continue
        name, op = node.inputs[0], node.op
        width = op.weight.shape[1]
        columns = np.flatnonzero(drop[name].reshape(-1, width).all(axis=0))
        if absorbed_bias(op, columns, constants[name]) is None:
            continue
        bad = _greedy_exact(op, columns, constants[name])
        if bad.size:
            mask = np.zeros((drop[name].size // width, width), dtype=bool)
            mask[:, bad] = True
            found[name] = found.get(name, np.zeros(drop[name].size, dtype=bool)) | mask.ravel()
    return found


def _greedy_exact(op: Dense, columns: Array, known: Values) -> Array:
    dtype = op.weight.dtype if op.bias is None else op.bias.dtype
    whole = absorbed_bias(op, columns, known)
    if whole is None or whole.representable(dtype).all():
        return np.zeros(0, dtype=np.int64)
    width = op.weight.shape[1]
    values = known.value.reshape((-1, width))[0]
    bias = np.zeros(len(op.weight)) if op.bias is None else op.bias
    running = Dyadic.of(bias) * Dyadic.of(np.array(op.beta))
    bad: list[int] = []
    for column in columns:
        term = Dyadic.of(op.weight[:, column]) * values[column] * Dyadic.of(np.array(op.alpha))
        trial = running + term
        if trial.representable(dtype).all():
            running = trial
        else:
            bad.append(int(column))
    return np.array(bad, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class _Candidate:
    """One unit that could be replaced by a constant: its ReLU, its coordinates, and what that costs each output.

    ``reached`` says which outputs depend on the unit at all: their biases are rounded even where the unit is constant.
    """

    layer: str
    coordinates: Array
    cost: Array
    reached: Array


def remove_within(
    original: Original,
    state: Rewritten,
    room: Array,
    judge: Judge,
) -> Rewritten:
    """Replace constant and near-constant units by constants as far as the budget goes.

    Parameters
    ----------
    original, state
        The network that is known about, and what became of it so far.
    room
        How much each output may still move, one entry for each row of ``sensitivity``.
    judge
        Says why a finished candidate must not be taken, if so.
    """
    factors = sensitivity(state.network)
    chosen = _affordable(_candidates(original, state, factors, room), _rounding_costs(state, factors), room)
    few, many = -1, len(chosen)  # with none chosen, constant tensors (not units) still go into the biases behind them
    best = state
    attempt = many
    while many > few:
        trial = _replaced(original, state, chosen[:attempt])
        if judge(trial) is None:
            best, few = trial, attempt
        else:
            many = attempt - 1
        attempt = (few + many + 1) // 2
    return best


def _candidates(original: Original, state: Rewritten, factors: Mapping[str, Array], room: Array) -> list[_Candidate]:
    """All units that could go at a finite cost, those first that take the smallest share of any output's room."""
    found = []
    for relu in state.network.relus:
        box = state.interval(original, relu.output)
        if box is None:
            continue
        kept = state.coordinates(relu.output)
        shape = state.network.shape(relu.output)
        half = np.where(kept < 0, np.inf, 0.5 * (box.upper - box.lower).ravel())
        with np.errstate(invalid="ignore"):
            cost = np.where(half == 0, 0.0, factors[relu.output] * half).reshape(
                len(factors[relu.output]), -1, shape[-1]
            )
        total = cost.sum(axis=1)
        reached = np.asarray((factors[relu.output] > 0).reshape(cost.shape).any(axis=1))
        for column in np.flatnonzero(np.isfinite(total).all(axis=0)):
            coordinates = kept.reshape(-1, shape[-1])[:, column]
            found.append(_Candidate(relu.name, coordinates, total[:, column], reached[:, column]))
    return sorted(found, key=lambda candidate: _share(candidate.cost, room))


def _share(cost: Array, room: Array) -> float:
    with np.errstate(divide="ignore"):
        return float(np.divide(cost, room, out=np.zeros_like(cost), where=cost > 0).max(initial=0.0))


def _affordable(candidates: list[_Candidate], rounding: Mapping[str, Array], room: Array) -> list[_Candidate]:
    """The cheapest candidates whose costs, with the rounding of the biases that they touch, fit together."""
    if not candidates:
        return []
    used = np.zeros_like(candidates[0].cost)
    touched = {candidate.layer: np.zeros(len(used), dtype=bool) for candidate in candidates}
    chosen = []
    for candidate in candidates:
        first = candidate.reached & ~touched[candidate.layer]
        total = used + candidate.cost + np.where(first, rounding.get(candidate.layer, 0.0), 0.0)
        if (total <= room).all():
            chosen.append(candidate)
            touched[candidate.layer] |= candidate.reached
            used = total
    return chosen


def _rounding_costs(state: Rewritten, factors: Mapping[str, Array]) -> dict[str, Array]:
    """What rounding the biases behind each ReLU costs each output, for ReLUs that dense layers read."""
    costs: dict[str, Array] = {}
    for relu in state.network.relus:
        for node in state.network.consumers[relu.output]:
            if isinstance(node.op, Dense):
                bias = np.ones(len(node.op.weight)) if node.op.bias is None else np.abs(node.op.bias.astype(np.float64))
                half_ulp = UNIT_ROUNDOFF[node.op.weight.dtype] * (bias + np.abs(node.op.weight).max(initial=0.0))
                factor = factors[node.output].reshape(len(factors[node.output]), -1, len(bias)).sum(axis=1)
                costs[relu.name] = costs.get(relu.name, 0.0) + factor @ half_ulp
    return costs


def _replaced(original: Original, state: Rewritten, chosen: list[_Candidate]) -> Rewritten:
    masks: dict[str, Array] = {}
    for candidate in chosen:
        size = original.bounds.intervals[original.facts.layers[candidate.layer].layer].lower.size
        masks.setdefault(candidate.layer, np.zeros(size, dtype=bool))[candidate.coordinates] = True
    constants = _near_values(original, state, masks)
    return shrink(state, droppable(state.network, constants), constants)


def _near_values(original: Original, state: Rewritten, units: Units) -> dict[str, Values]:
    """Values of all coordinates that are constant once the given units count as constant."""
    known: dict[str, Constancy] = {
        name: original.bounds.constants[name] for name in original.network.inputs if name in original.bounds.constants
    }
    result = {}
    for node in original.network.nodes:
        if len(node.outputs) != 1 or node.output not in original.bounds.intervals:
            continue
        box = original.bounds.intervals[node.output]
        shape = box.lower.shape
        if isinstance(node.op, Opaque) or any(name not in known for name in node.inputs):
            known[node.output] = Constancy.nothing(shape)
            continue
        mine = constancy(node.op, [known[name] for name in node.inputs], shape)
        if isinstance(node.op, Relu):
            chosen = units.get(node.name, np.zeros(box.lower.size, dtype=bool)).reshape(shape)
            known_zero = mine.exact & (mine.value.sign() == 0)
            mine = Constancy((mine.constant & known_zero) | chosen, mine.exact, mine.value).zeroed(box.upper <= 0)
        known[node.output] = mine
        if node.output in state.network.tensors and mine.constant.any():
            result[node.output] = _values(mine, box.middle, state.coordinates(node.output))
    for name, source in state.of.items():
        if source in known and known[source].constant.any():
            result[name] = _values(known[source], original.bounds.intervals[source].middle, state.coordinates(name))
    return result


def _values(known: Constancy, middle: Array, kept: Array) -> Values:
    mask = known.constant.ravel()[kept] & (kept >= 0)
    exact = known.exact.ravel()[kept] & (kept >= 0)
    near = Dyadic.of(np.where(mask & ~exact & np.isfinite(middle.ravel()[kept]), middle.ravel()[kept], 0.0))
    value = known.value.reshape((-1,))[kept]
    return Values(mask, Dyadic(np.where(exact, value.mantissa, 0), value.exponent) + near)

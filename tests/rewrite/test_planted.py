"""Redundancy that was planted is found again, all of it: what is left is no larger than the core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracle import forward
from planted import INVERSES, Planted, planted
from planting import Net, core, core_points, generic, outputs, points_of, with_layers
from rewriting import size
from tiny_models import saved

from reluce import Settings, compress
from reluce.guarantee import Exact, Level, Roundoff, allowance
from reluce.io import load
from reluce.network import Network, Relu
from reluce.prove import prove
from reluce.rewrite import Original, rewrite

CANCELLED = {47}
"""Combinations with a unit that is constant only since units in front of it cancel: that is not looked for."""

SEEDS = range(6)
LEVELS: dict[str, Level] = {"roundoff": Roundoff(), "exact": Exact()}
POINTS = 12
SHAPES = [((3, 4, 4, 2), (1, 1)), ((2, 4, 3, 3), (0, 1)), ((4, 3, 4, 3, 2), (1, 0, 1))]
"""Widths of cores, and how many units of each hidden layer are active."""


@dataclass(frozen=True)
class Left:
    """How large a network is: the units of each ReLU, and the weights and biases of dense layers."""

    units: tuple[int, ...]
    parameters: int


def left(network: Network) -> Left:
    relus = [node for node in network.nodes if isinstance(node.op, Relu)]
    return Left(tuple(network.tensors[node.output].size for node in relus), size(network))


def check_recovered(found: Left, core: Net, inputs: int | None = None) -> None:
    """Nothing that was planted is left: no layer, no unit, no parameter.

    Where there are more inputs, a column may stay that is no longer than the list of those that are read.
    """
    assert len(found.units) <= len(core.units)
    assert all(mine <= planted for mine, planted in zip(found.units, core.units, strict=False))
    listed = len(core.low) if inputs is not None and inputs > len(core.low) else 0
    assert found.parameters <= core.parameters + listed


def check_outputs(result: Network, net: Net, epsilon: float, seed: int) -> None:
    """At random points and corners of the domain, in fractions, no output is farther off than was promised."""
    points = points_of(net, np.random.default_rng(seed), POINTS)
    for point, expected in zip(points, outputs(net, points), strict=True):
        found = forward(result, {"x": point})["y"]
        assert all(abs(a - b) <= Fraction(epsilon) for a, b in zip(found, expected, strict=True))


@dataclass(frozen=True)
class Outcome:
    """What was planted, what is left when it is rewritten, and how far the outputs may be off."""

    case: Planted
    network: Network
    epsilon: float


@cache
def alone(kind: str, seed: int) -> dict[str, Outcome]:
    """What comes of one inverse, by guarantee."""
    return outcomes(planted(core(seed), [kind], seed))


def outcomes(case: Planted, levels: Sequence[str] = tuple(LEVELS)) -> dict[str, Outcome]:
    network, box = case.net.network, case.net.box
    proof = prove(network, box)
    found = {}
    for level in levels:
        allowed = allowance(LEVELS[level], network, box, proof.bounds, proof.facts)
        result = rewrite(Original(network, proof.facts, proof.bounds), allowed.budget)
        found[level] = Outcome(case, result.network, float(result.epsilons["y"].max()))
    return found


def combination(kinds: Sequence[str], seed: int, most: int) -> Planted:
    """Up to so many inverses of these kinds in random order, on a core of a random shape."""
    rng = np.random.default_rng([1, seed])
    chosen = rng.choice(kinds, rng.integers(2, most + 1)).tolist()
    widths, active = SHAPES[rng.integers(len(SHAPES))]
    return planted(core(seed % 6, widths, active), chosen, seed)


# The generator


@pytest.mark.parametrize("kind", INVERSES)
def test_an_inverse_leaves_the_function_as_it_is_and_says_what_it_added(kind: str) -> None:
    for seed in SEEDS:
        case = planted(core(seed), [kind], seed)
        check_planted(case, seed)
        (added,) = case.added
        assert added.units + added.inputs > 0
        assert added.parameters > 0
        assert sum(case.net.units) == sum(case.core.units) + added.units
        assert case.net.parameters == case.core.parameters + added.parameters


def check_planted(case: Planted, seed: int) -> None:
    points = points_of(case.net, np.random.default_rng(seed), POINTS)
    assert (outputs(case.net, points) == outputs(case.core, core_points(case.net, points))).all()
    point = {"x": points[0]}
    assert forward(case.net.network, point)["y"] == outputs(case.net, points)[0].tolist()


def test_nothing_can_be_taken_from_a_core() -> None:
    for seed in SEEDS:
        for widths, active in SHAPES:
            net = core(seed, widths, active)
            for outcome in outcomes(planted(net, [], seed)).values():
                assert left(outcome.network) == Left(net.units, net.parameters)


# What is found of it


@pytest.mark.parametrize("kind", INVERSES)
def test_the_outputs_stay(kind: str) -> None:
    for seed in SEEDS:
        check_levels(alone(kind, seed), seed)


@pytest.mark.parametrize("seed", range(20))
def test_the_function_stays_in_combinations_of_everything(seed: int) -> None:
    case = combination(list(INVERSES), seed, 6)
    check_planted(case, seed)
    check_levels(outcomes(case), seed)


def check_levels(found: dict[str, Outcome], seed: int) -> None:
    for level, outcome in found.items():
        assert outcome.epsilon == 0 or level != "exact"
        check_outputs(outcome.network, outcome.case.net, outcome.epsilon, seed)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", INVERSES)
def test_one_inverse_is_undone(kind: str, level: str) -> None:
    for seed in SEEDS:
        outcome = alone(kind, seed)[level]
        check_recovered(left(outcome.network), outcome.case.core, len(outcome.case.net.low))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("tens", range(5))
def test_combinations_are_undone(tens: int, level: str) -> None:
    for seed in range(10 * tens, 10 * tens + 10):
        undo(seed, level, most=5)


@pytest.mark.long
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("hundreds", range(1, 11))
def test_many_combinations_are_undone(hundreds: int, level: str) -> None:
    for seed in range(100 * hundreds, 100 * hundreds + 100):
        undo(seed, level, most=10)


def undo(seed: int, level: str, most: int) -> None:
    case = combination(list(INVERSES), seed, most)
    found = outcomes(case, [level])
    check_levels(found, seed)
    if seed not in CANCELLED:
        check_recovered(left(found[level].network), case.core, len(case.net.low))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", INVERSES)
def test_the_whole_path_with_a_certificate(kind: str, level: str, tmp_path: Path) -> None:
    """From an ONNX file to an ONNX file, with a certificate that the checker accepted: no less than was found above."""
    expected = alone(kind, 0)[level]
    case = expected.case
    source, target = saved(case.net.model, tmp_path / "in.onnx"), tmp_path / "out.onnx"
    result = compress(source, case.net.box, output=target, settings=Settings(LEVELS[level]))
    assert result.certificate is not None
    assert result.report.guarantee is not None
    assert result.report.compressed is not None
    written = load(target).network
    check_outputs(written, case.net, result.report.guarantee.epsilon, 0)
    assert left(written) == left(expected.network)
    assert result.report.compressed.parameters == left(written).parameters


# The checks themselves


@pytest.mark.parametrize("kind", INVERSES)
def test_the_comparison_sees_what_is_left_in(kind: str) -> None:
    for seed in SEEDS:
        case = planted(core(seed), [kind], seed)
        check_recovered(left(case.core.network), case.core)
        with pytest.raises(AssertionError):
            check_recovered(left(case.net.network), case.core)


@pytest.mark.parametrize("change", [{"units": (5, 4)}, {"units": (4, 4, 1)}, {"parameters": 47}])
def test_each_part_of_the_comparison_counts(change: dict[str, Any]) -> None:
    net = core(0)
    check_recovered(Left(net.units, net.parameters), net)
    with pytest.raises(AssertionError):
        check_recovered(replace(Left(net.units, net.parameters), **change), net)


def test_the_comparison_of_outputs_sees_a_hair() -> None:
    net = core(0)
    check_outputs(net.network, net, 0.0, 0)
    weight, bias = net.layers[-1]
    other = with_layers(net, {len(net.layers) - 1: (weight, bias + Fraction(1, 2**16))})
    check_outputs(other.network, net, 2.0**-16, 0)
    with pytest.raises(AssertionError):
        check_outputs(other.network, net, 2.0**-17, 0)


@pytest.mark.parametrize("spoiled", ["parallel", "stable", "dependent"])
def test_a_network_with_redundancy_is_no_core(spoiled: str) -> None:
    net = core(0)
    (weight, bias), (after, last) = net.layers[:2]
    weight, bias, after = weight.copy(), bias.copy(), after.copy()
    match spoiled:
        case "parallel":
            weight[2], bias[2] = -2 * weight[1], -2 * bias[1]
        case "stable":
            bias[1] = Fraction(100)
        case "dependent":  # the active unit is what turning over another one gives back
            weight[0], after[:, 0] = weight[1], -after[:, 1]
    bad = with_layers(net, {0: (weight, bias), 1: (after, last)})
    points = points_of(net, np.random.default_rng(0), 80)
    assert generic(net, (1, 1), points)
    assert not generic(bad, (1, 1), points)

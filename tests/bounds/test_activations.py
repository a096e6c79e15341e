"""Intervals of activations hold what the functions reach, also where terms cancel and where one end is infinite."""

from decimal import Decimal, localcontext

import numpy as np
import pytest

from reluce.bounds import Interval, interval
from reluce.network import Activation

FUNCTIONS = [
    Activation("Sigmoid"),
    Activation("Tanh"),
    Activation("Softplus"),
    Activation("LeakyRelu", (float(np.float32(0.01)),)),
    Activation("Clip", (0.0, 6.0)),
    Activation("HardSigmoid", (float(np.float32(0.2)), 0.5)),
    Activation("HardSigmoid", (3e11, 1e11)),
    Activation("Elu", (float(np.float32(1.3)),)),
]


def truth(op: Activation, x: float) -> Decimal:
    with localcontext() as context:
        context.prec = 60
        v, one = Decimal(x), Decimal(1)
        match op.function, tuple(Decimal(p) for p in op.parameters):
            case "Sigmoid", ():
                return one / (one + (-v).exp())
            case "Tanh", ():
                return (one - (-2 * v).exp()) / (one + (-2 * v).exp())
            case "Softplus", ():
                return (one + v.exp()).ln()
            case "LeakyRelu", (alpha,):
                return v if v > 0 else alpha * v
            case "Clip", (low, high):
                return min(max(v, low), high)
            case "HardSigmoid", (alpha, beta):
                return min(max(alpha * v + beta, Decimal(0)), one)
            case "Elu", (alpha,):
                return v if v > 0 else alpha * (v.exp() - one)
    raise NotImplementedError(op)


@pytest.mark.parametrize("op", FUNCTIONS, ids=lambda op: f"{op.function}{op.parameters}")
def test_points_lie_in_the_interval(op: Activation) -> None:
    generator = np.random.default_rng(0)
    spread = generator.uniform(-30, 30, 300)
    near_kinks = np.concatenate([generator.uniform(a, a + 1e-4, 200) for a in (-2.5, -1e11 / 3e11, 2.4999, -1e-4)])
    for x in np.concatenate([spread, near_kinks]):
        point = np.array([x])
        found = interval(op, [Interval(point, point)], (1,))
        assert Decimal(float(found.lower[0])) <= truth(op, x) <= Decimal(float(found.upper[0]))


@pytest.mark.parametrize("op", FUNCTIONS, ids=lambda op: f"{op.function}{op.parameters}")
def test_the_finite_end_of_a_half_open_interval_holds(op: Activation) -> None:
    generator = np.random.default_rng(1)
    for x in generator.uniform(-20, 20, 300):
        point = np.array([x])
        above = interval(op, [Interval(point, np.array([np.inf]))], (1,))
        below = interval(op, [Interval(np.array([-np.inf]), point)], (1,))
        value = truth(op, x)
        assert Decimal(float(above.lower[0])) <= value <= Decimal(float(below.upper[0]))
        assert not np.isnan([above.upper[0], below.lower[0]]).any()


def test_an_interval_that_is_too_narrow_is_noticed() -> None:
    assert not Decimal("0.5") <= truth(Activation("Sigmoid"), -1e-12)

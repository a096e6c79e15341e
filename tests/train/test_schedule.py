import math

import pytest

from reluce.train import After, Constant, Cosine, Product, Ramp, Schedule, Steps, Window

CASES: list[tuple[Schedule, list[float]]] = [  # at 0, 1/4, 1/2, 3/4, 1
    (Constant(), [1, 1, 1, 1, 1]),
    (Constant(0.5), [0.5] * 5),
    (Ramp(0.5), [0, 0.5, 1, 1, 1]),
    (Ramp(0.0), [1, 1, 1, 1, 1]),
    (Window(0.75), [1, 1, 1, 0, 0]),
    (Window(1.0), [1, 1, 1, 1, 0]),
    (After(0.5), [0, 0, 1, 1, 1]),
    (Product(Ramp(0.5), Window(0.75)), [0, 0.5, 1, 0, 0]),
    (Cosine(), [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0]),
    (Cosine(end=0.5), [1, 0.5 + (1 + math.sqrt(0.5)) / 4, 0.75, 0.5 + (1 - math.sqrt(0.5)) / 4, 0.5]),
    (Cosine(warmup=0.5), [0, 0.5, 1, 0.5, 0]),
    (Steps((0.5, 0.75)), [1, 1, 0.1, 0.01, 0.01]),
]


@pytest.mark.parametrize(("schedule", "values"), CASES)
def test_values(schedule: Schedule, values: list[float]) -> None:
    assert [schedule(k / 4) for k in range(5)] == pytest.approx(values, abs=1e-15)


def test_schedules_are_values() -> None:
    assert Product(Ramp(0.5), Window(0.75)) == Product(Ramp(0.5), Window(0.75))
    assert len({schedule for schedule, _ in CASES}) == len(CASES)

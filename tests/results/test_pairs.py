"""Decisions over process pairs: what they must keep is checked by simulation with a seed."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.pairs import (
    Calibration,
    Centre,
    benjamini_hochberg,
    calibrated,
    centre_of,
    holm,
    joined,
    look_level,
)
from results.student import t_above, t_quantile

TAU = 0.0036


def centres(random: np.random.Generator, count: int, effect: float = 0.0, within: float = 0.0014) -> list[Centre]:
    logs = random.normal(math.log1p(effect), np.hypot(TAU, within), count)
    return [Centre(float(log), within, 40) for log in logs]


def test_a_pairs_centre_is_robust_and_its_error_honest() -> None:
    random = np.random.default_rng(1)
    found = [centre_of(random.standard_t(3, 120) * 0.01 + 0.03) for _ in range(300)]
    z = np.array([(one.log - 0.03) / one.error for one in found])
    assert 0.85 < z.std() < 1.2
    spoiled = centre_of([0.03] * 90 + [1.5] * 10)
    assert abs(spoiled.log - 0.03) < 0.001


def test_without_a_calibration_it_is_students_t_over_the_pairs() -> None:
    logs = [0.01, 0.02, 0.015, 0.03]
    found = joined([Centre(log, 0.001, 40) for log in logs])
    assert found.log == pytest.approx(np.mean(logs))
    assert found.error == pytest.approx(np.std(logs, ddof=1) / 2)
    assert found.degrees == 3
    assert found.p_above(0.0) == pytest.approx(t_above(found.log / found.error, 3))


@pytest.mark.parametrize("calibration", [None, Calibration(TAU, 20)])
def test_intervals_cover_and_equal_code_is_not_called_different(calibration: Calibration | None) -> None:
    random = np.random.default_rng(2)
    trials = [joined(centres(random, 5), calibration).interval() for _ in range(4000)]
    assert 0.935 < np.mean([one.low <= 1 <= one.high for one in trials]) < 0.975
    assert np.mean([one.low > 1.01 or one.high < 0.99 for one in trials]) < 0.002


def test_a_calibration_buys_power_with_few_pairs() -> None:
    random = np.random.default_rng(3)
    runs = [centres(random, 3, effect=0.02) for _ in range(1000)]
    seen = [
        np.mean([joined(run, known).interval().low > 1.01 for run in runs]) for known in (None, Calibration(TAU, 20))
    ]
    assert seen[0] < 0.75 < 0.95 < seen[1]


def test_looking_after_every_pair_keeps_the_error() -> None:
    random = np.random.default_rng(4)
    known, alarms = Calibration(TAU, 20), 0
    for _ in range(3000):
        run = centres(random, 5)
        looks = [joined(run[:count], known).interval(look_level(4, last=count == 5)) for count in range(2, 6)]
        alarms += any(look.low > 1 or look.high < 1 for look in looks)
    assert alarms / 3000 < 0.055
    with pytest.raises(ValueError, match="plan at most 10"):
        look_level(11)


def test_the_calibration_finds_the_spread_between_pairs() -> None:
    random = np.random.default_rng(5)
    found = [calibrated(centres(random, 40)).tau for _ in range(200)]
    assert np.mean(found) == pytest.approx(TAU, rel=0.05)
    assert calibrated([Centre(0.0, 0.01, 40), Centre(0.001, 0.01, 40)]).tau == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_rejects_no_more_than_benjamini_hochberg_and_both_in_order_of_p(p_values: list[float]) -> None:
    strict, loose = holm(p_values), benjamini_hochberg(p_values)
    assert all(b for a, b in zip(strict, loose, strict=True) if a)
    for fallen in (strict, loose):
        highest = max((p for p, f in zip(p_values, fallen, strict=True) if f), default=-1)
        assert all(f for p, f in zip(p_values, fallen, strict=True) if p < highest)


def test_holm_and_benjamini_hochberg_by_hand() -> None:
    p_values = [0.01, 0.04, 0.03, 0.005]
    assert holm(p_values) == [True, False, False, True]
    assert benjamini_hochberg(p_values) == [True, True, True, True]


def test_holm_keeps_twenty_cases_of_equal_code_quiet() -> None:
    random = np.random.default_rng(6)
    false = [any(holm(random.uniform(size=20).tolist())) for _ in range(3000)]
    assert 0.03 < np.mean(false) < 0.06


@given(st.floats(0.51, 0.9999), st.floats(1, 200))
def test_probability_and_quantile_are_inverse(probability: float, degrees: float) -> None:
    t = t_quantile(probability, degrees)
    assert t_above(t, degrees) == pytest.approx(1 - probability, rel=1e-6)
    assert t_above(-t, degrees) == pytest.approx(probability, rel=1e-6)

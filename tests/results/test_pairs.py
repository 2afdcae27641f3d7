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
    centre_of,
    centres_of,
    holm,
    joined,
    look_level,
    pooled,
    without_outlying,
)
from results.student import t_above, t_quantile

TAU = 0.0036


def centres(random: np.random.Generator, count: int, effect: float = 0.0, within: float = 0.0014) -> list[Centre]:
    logs = random.normal(math.log1p(effect), np.hypot(TAU, within), count)
    return [Centre(float(log), within, 40) for log in logs]


@pytest.mark.parametrize("turns", [6, 20, 50, 120])
@pytest.mark.parametrize("tails", [1.5, 3.0, 100.0])
def test_a_pairs_error_is_honest_however_wild_its_turns_are(turns: int, tails: float) -> None:
    random = np.random.default_rng(1)
    found = centres_of(random.standard_t(tails, (600, turns)) * 0.01 + 0.03)
    z = np.array([(one.log - 0.03) / one.error for one in found])
    assert 0.7 < z.std() < 1.15


def test_a_tenth_of_disturbed_turns_moves_a_pairs_centre_and_error_little() -> None:
    random = np.random.default_rng(2)
    calm = 0.03 + 0.01 * random.normal(size=100)
    spoiled = calm.copy()
    spoiled[::10] += 1.5
    before, after = centre_of(calm.tolist()), centre_of(spoiled.tolist())
    assert abs(after.log - before.log) < 0.003
    assert after.error < 1.5 * before.error


def test_turns_that_resemble_their_neighbours_count_for_less() -> None:
    random = np.random.default_rng(3)
    steps = np.repeat(random.normal(size=(200, 20)), 3, axis=1)
    shuffled = random.permuted(steps, axis=1)
    in_order, mixed = (np.mean([one.error for one in centres_of(rows)]) for rows in (steps, shuffled))
    assert in_order == pytest.approx(mixed * math.sqrt(3), rel=0.15)


def test_two_wild_turns_in_a_row_are_no_resemblance() -> None:
    calm = 0.03 + 0.01 * np.random.default_rng(5).normal(size=100)
    struck = calm.copy()
    struck[50:52] += 1.5
    assert centre_of(struck.tolist()).error < 1.2 * centre_of(calm.tolist()).error


def test_turns_all_alike_leave_no_error() -> None:
    assert centre_of([0.03] * 20) == Centre(0.03, 0.0, 20)


def test_rows_of_turns_give_together_what_each_gives_alone() -> None:
    random = np.random.default_rng(4)
    several, long = random.normal(size=(50, 21)), random.normal(size=(2, 3000))
    for rows in (several, long):
        assert [centre_of(row.tolist()) for row in rows] == centres_of(rows)


def test_turns_mostly_alike_by_a_coarse_clock_still_leave_an_error() -> None:
    found = centre_of(([0.03] * 9 + [0.05]) * 2)
    assert found.log == 0.03
    assert found.error == pytest.approx(0.006 / math.sqrt(20))


def test_without_a_calibration_it_is_students_t_over_the_pairs() -> None:
    logs = [0.01, 0.02, 0.015, 0.03]
    found = joined([Centre(log, 0.001, 40) for log in logs])
    assert found.log == pytest.approx(np.mean(logs))
    assert found.error == pytest.approx(np.std(logs, ddof=1) / 2)
    assert found.degrees == 3
    assert found.p_above(0.0) == pytest.approx(t_above(found.log / found.error, 3))


@pytest.mark.parametrize("calibration", [None, Calibration(TAU)])
def test_intervals_cover_and_equal_code_is_not_called_different(calibration: Calibration | None) -> None:
    random = np.random.default_rng(2)
    trials = [joined(centres(random, 5), calibration).interval() for _ in range(4000)]
    assert 0.935 < np.mean([one.low <= 1 <= one.high for one in trials]) < 0.975
    assert np.mean([one.low > 1.01 or one.high < 0.99 for one in trials]) < 0.002


def test_a_calibration_buys_power_with_few_pairs() -> None:
    random = np.random.default_rng(3)
    runs = [centres(random, 3, effect=0.02) for _ in range(1000)]
    seen = [np.mean([joined(run, known).interval().low > 1.01 for run in runs]) for known in (None, Calibration(TAU))]
    assert seen[0] < 0.75 < 0.95 < seen[1]


def test_looking_after_every_pair_keeps_the_error() -> None:
    random = np.random.default_rng(4)
    known, alarms = Calibration(TAU), 0
    for _ in range(3000):
        run = centres(random, 5)
        looks = [joined(run[:count], known).interval(look_level(4, last=count == 5)) for count in range(2, 6)]
        alarms += any(look.low > 1 or look.high < 1 for look in looks)
    assert alarms / 3000 < 0.055
    with pytest.raises(ValueError, match="plan at most 10"):
        look_level(11)


def spread_cases(random: np.random.Generator, cases: int) -> list[list[Centre]]:
    """Of cases whose variances are as unlike as the calibration takes them to be."""
    scales = np.sqrt(4 / random.chisquare(4, cases))
    return [[Centre(float(log), 0.0, 40) for log in random.normal(0.05, TAU * one, 5)] for one in scales]


def test_the_calibration_finds_the_spread_between_pairs() -> None:
    random = np.random.default_rng(5)
    found = [pooled(spread_cases(random, 12)) for _ in range(200)]
    assert np.mean([math.log(one.tau) for one in found if one]) == pytest.approx(math.log(TAU), abs=0.05)
    exact = [[Centre(0.0, 0.01, 40), Centre(0.001, 0.01, 40), Centre(0.0005, 0.01, 40)]] * 6
    assert pooled(exact) == Calibration(0.0)
    assert pooled(exact[:5]) is None
    few = [[Centre(0.001 * n, 0.01, 40) for n in range(10)]] * 5
    assert pooled(few) is None


def test_cases_of_unlike_numbers_of_pairs_calibrate_each_other_together() -> None:
    random = np.random.default_rng(9)
    mixed = [centres(random, 3 + number % 3) for number in range(12)]
    by_count = [[one for one in mixed if len(one) == count] for count in (3, 4, 5)]
    together, apart = pooled(mixed), [pooled(cases * 3) for cases in by_count]
    assert together
    assert all(apart)
    assert min(one.tau for one in apart if one) < together.tau < max(one.tau for one in apart if one)


def test_the_calibration_of_two_pairs_a_case_may_lie_beyond_all_differences() -> None:
    pairs = [[Centre(0.0, 0.001, 40), Centre(0.01, 0.001, 40)]] * 12
    found = pooled(pairs)
    assert found
    assert found.tau > 0.01


def test_a_case_far_from_what_the_others_say_is_judged_by_its_own_pairs() -> None:
    calm = [Centre(log, 0.001, 40) for log in (0.0, 0.004, -0.003, 0.001, 0.002)]
    wild = [Centre(10 * one.log, one.error, 40) for one in calm]
    known = Calibration(TAU)
    assert joined(calm, known).degrees == 8
    assert joined(wild, known) == joined(wild)


def test_a_case_whose_processes_come_in_two_kinds_does_not_blur_the_others() -> None:
    random = np.random.default_rng(7)
    calm = [centres(random, 5) for _ in range(9)]
    two_kinds = [Centre(log, 0.0014, 40) for log in (0.0, 0.3, 0.001, -0.002, 0.28)]
    alone, beside = pooled(calm), pooled([*calm, two_kinds])
    assert alone
    assert beside
    assert beside.tau < 1.8 * alone.tau


def test_cases_of_unlike_spread_keep_the_error_when_they_calibrate_each_other() -> None:
    random, holds = np.random.default_rng(8), []
    for _ in range(300):
        cases = spread_cases(random, 10)
        known = pooled(cases)
        holds += [(one := joined(pairs, known).interval()).low <= math.exp(0.05) <= one.high for pairs in cases]
    assert 0.93 < np.mean(holds) < 0.97


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


@pytest.mark.parametrize(
    ("logs", "left"),
    [
        ([0.0, 0.001, -0.002, 0.003, 0.4], 4),
        ([0.0, 0.001, -0.002, 0.4], 4),
        ([0.0, 0.001, -0.002, 0.003, 0.001, 0.4, -0.3, 0.002, 0.0, 0.001], 8),
        ([0.0, 0.001, -0.002, 0.3, 0.001, 0.4, -0.3, 0.002, 0.0, 0.001], 10),
        ([0.0, 0.001, -0.002, 0.016, 0.4], 5),
        ([0.0, 0.001, -0.002, 0.003, 0.012], 5),
    ],
    ids=["one of five", "one of four is too many", "two of ten", "three of ten", "one between", "near"],
)
def test_a_few_pairs_far_from_all_others_are_set_aside(logs: list[float], left: int) -> None:
    found = without_outlying([Centre(log, 0.0014, 40) for log in logs], Calibration(TAU))
    assert len(found) == left
    assert [one.log for one in found] == (logs if left == len(logs) else [log for log in logs if abs(log) < 0.1])


def test_without_a_calibration_only_many_pairs_tell_which_are_far() -> None:
    logs = [0.0, 0.001, -0.002, 0.4, 0.003, 0.001, -0.001, 0.002]
    pairs = [Centre(log, 0.0014, 40) for log in logs]
    assert [one.log for one in without_outlying(pairs)] == [log for log in logs if log != 0.4]
    assert without_outlying(pairs[:7]) == pairs[:7]


@pytest.mark.parametrize("calibration", [None, Calibration(TAU)])
def test_intervals_cover_beside_pairs_in_which_a_process_is_far_slower(calibration: Calibration | None) -> None:
    """In one of twenty pairs a side is a third slower."""
    random = np.random.default_rng(8)

    def trial() -> list[Centre]:
        struck = random.choice([0.0, 0.3, -0.3], 10, p=[0.95, 0.025, 0.025])
        return [Centre(one.log + more, one.error, 40) for one, more in zip(centres(random, 10), struck, strict=True)]

    found = [joined(without_outlying(trial(), calibration), calibration).interval() for _ in range(2000)]
    assert 0.93 < np.mean([one.low <= 1 <= one.high for one in found]) < 0.975
    assert np.quantile([one.high - one.low for one in found], 0.9) < 0.02

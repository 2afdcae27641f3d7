import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.coverage import KINDS, SLOT_NS, covered
from results import intervals
from results.statistics import (
    Ratio,
    Series,
    estimate,
    geometric_mean,
    levels,
    percentile,
    ratio,
    samples_needed,
    slot_spread,
    verdict,
)

SLOTS = 16


def ring(revolutions: int, slots: int = SLOTS) -> list[int]:
    return list(range(slots)) * revolutions


# ---- estimate


def test_the_estimate_is_the_mean_over_slots_of_the_slot_medians() -> None:
    # slot 0: 10, 12, 14 -> 12; slot 1: 20, 99, 22 -> 22
    found = estimate([10, 20, 12, 99, 14, 22], [0, 1, 0, 1, 0, 1], 1)
    assert found.ns == 17


def test_without_slots_it_is_the_plain_median_of_one_call() -> None:
    assert estimate([320, 480, 960], None, 16).ns == 30


def test_equal_durations_leave_no_doubt() -> None:
    found = estimate([500] * 48, ring(3), 1)
    assert (found.low_ns, found.ns, found.high_ns, found.precision) == (500, 500, 500, 0)


def test_one_revolution_says_nothing_of_its_precision() -> None:
    assert estimate([500] * 16, ring(1), 1).precision == math.inf


def test_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="no samples"):
        estimate([], None, 1)


def test_one_call_a_thousand_times_slower_moves_nothing() -> None:
    calm = [1000 + i % 7 for i in range(160)]
    hit = [*calm[:80], 1_000_000, *calm[81:]]
    assert estimate(hit, ring(10), 1).ns == pytest.approx(estimate(calm, ring(10), 1).ns, rel=1e-3)


def test_the_order_of_slots_within_a_revolution_does_not_matter() -> None:
    draw = np.random.default_rng(3)
    samples = draw.integers(900, 1100, (6, SLOTS))
    mixed = np.concatenate([draw.permutation(SLOTS) for _ in range(6)])
    reordered = samples[np.repeat(np.arange(6), SLOTS), mixed]
    assert estimate(reordered.tolist(), mixed.tolist(), 1) == estimate(samples.ravel().tolist(), ring(6), 1)


@given(st.lists(st.integers(1, 10**12), min_size=6, max_size=60), st.integers(1, 64))
def test_the_interval_always_holds_the_estimate(samples: list[int], calls: int) -> None:
    found = estimate(samples, None, calls)
    assert 0 < found.low_ns <= found.ns * (1 + 1e-12) and found.ns <= found.high_ns * (1 + 1e-12)


@given(st.integers(2, 40), st.integers(1, 10**6), st.integers(0, 2**32))
def test_a_slower_clock_scales_the_estimate_and_keeps_the_precision(n: int, scale: int, seed: int) -> None:
    samples = np.random.default_rng(seed).integers(900, 1100, n * SLOTS)
    one, many = (estimate((samples * factor).tolist(), ring(n), 1) for factor in (1, scale))
    assert many.ns == pytest.approx(one.ns * scale)
    assert many.precision == pytest.approx(one.precision, rel=1e-6)


# ---- the promise of the interval


MODES = ["bimodal 20%/+20%", "bimodal 40%/+30%", "bimodal 40%/+5%"]
KINDS_HELD = ["normal", "log-normal", "preempted 5%", *MODES, "whole revolutions"]


@pytest.mark.parametrize("revolutions", [3, 8, 20, 40])
@pytest.mark.parametrize("kind", [*KINDS_HELD, "drift of 5%"])
def test_the_interval_holds_the_truth_at_least_as_often_as_it_says(kind: str, revolutions: int) -> None:
    assert covered(KINDS[kind], revolutions, trials=300, seed=1).share >= 0.93


@pytest.mark.parametrize("revolutions", [3, 8, 20, 40])
@pytest.mark.parametrize("kind", ["AR revolutions 0.3", "AR calls 0.9"])
def test_memory_of_a_revolution_or_so_is_seen(kind: str, revolutions: int) -> None:
    assert covered(KINDS[kind], revolutions, trials=300, seed=2).share >= 0.92


@pytest.mark.parametrize(("revolutions", "most"), [(40, 0.978), (100, 0.97)])
@pytest.mark.parametrize("kind", ["normal", "log-normal", *MODES, "AR revolutions 0.3", "AR calls 0.9"])
def test_with_many_revolutions_it_holds_it_as_often_as_it_says(kind: str, revolutions: int, most: float) -> None:
    """Of a drift it holds it always: a trend cannot be told from slow noise, whose mean it would have to hold."""
    assert 0.93 <= covered(KINDS[kind], revolutions, trials=1000, seed=3).share <= most


@pytest.mark.parametrize("kind", ["normal", *MODES])
def test_of_very_many_revolutions_a_part_of_the_differences_says_as_much(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    draw = np.random.default_rng(12)
    samples = np.rint(SLOT_NS * KINDS[kind].draw(draw, 600)).astype(int).ravel().tolist()
    part = estimate(samples, ring(600), 1)
    monkeypatch.setattr(intervals, "MOST_DIFFERENCES", 1 << 40)
    assert estimate(samples, ring(600), 1).precision == pytest.approx(part.precision, rel=0.05)


@pytest.mark.parametrize("kind", ["normal", "whole revolutions"])
def test_the_interval_is_not_bought_by_width(kind: str) -> None:
    """At most half as wide again as that of one who knows the spread: 1.96 standard deviations of the estimate."""
    draw = np.random.default_rng(11)
    tables = [np.rint(SLOT_NS * KINDS[kind].draw(draw, 40)).astype(int) for _ in range(100)]
    found = [estimate(table.ravel().tolist(), ring(40), 1) for table in tables]
    ideal = 1.96 * np.std([e.ns for e in found]) / SLOT_NS.mean()
    assert np.median([e.precision for e in found]) <= 1.5 * ideal


def test_samples_of_whole_revolutions_keep_the_promise_too() -> None:
    draw, hits = np.random.default_rng(5), 0
    for _ in range(200):
        found = estimate(np.rint(1e8 * np.exp(0.1 * draw.standard_normal(6))).astype(int).tolist(), None, 16)
        hits += found.low_ns <= 1e8 / 16 <= found.high_ns
    assert hits >= 184


def test_many_measurements_at_once_are_what_each_is_alone() -> None:
    draw = np.random.default_rng(6)
    several = [
        Series(draw.integers(900, 1100, revolutions * SLOTS).tolist(), ring(revolutions))
        for revolutions in (3, 5, 3, 9)
    ] + [Series(draw.integers(900, 1100, 7).tolist(), None, 16)]
    alone = [levels([series])[0] for series in several]
    assert [level.ns for level in levels(several)] == [level.ns for level in alone]
    assert [level.size for level in levels(several)] == pytest.approx([level.size for level in alone])


# ---- several processes


def processes(draw: np.random.Generator, spread: float, count: int = 5, revolutions: int = 2) -> Series:
    """Processes that differ by `spread` (a standard deviation), with calls that differ by 2 %."""
    pace = np.exp(spread * draw.standard_normal(count))
    tables = [SLOT_NS * one * np.exp(0.02 * draw.standard_normal((revolutions, SLOTS))) for one in pace]
    samples = np.rint(np.concatenate(tables)).astype(int).ravel().tolist()
    return Series(samples, ring(count * revolutions), 1, (revolutions * SLOTS,) * count)


@pytest.mark.parametrize("spread", [0.0, 0.01, 0.1])
@pytest.mark.parametrize("count", [2, 5])
def test_several_processes_hold_the_truth_as_often_as_they_say(spread: float, count: int) -> None:
    draw = np.random.default_rng(8)
    found = [level.estimate for level in levels([processes(draw, spread, count) for _ in range(1000)])]
    assert 0.93 <= np.mean([one.low_ns <= SLOT_NS.mean() <= one.high_ns for one in found]) <= 0.975


def test_what_one_process_knows_of_itself_is_not_what_processes_differ_by() -> None:
    series = processes(np.random.default_rng(9), 0.1)
    joined = levels([series])[0].estimate
    alone = estimate(series.samples_ns[: 2 * SLOTS], ring(2), 1)
    assert joined.precision > 2 * alone.precision


def test_equal_processes_leave_no_doubt_and_give_the_mean_of_their_slots() -> None:
    found = levels([Series([100, 300] * 6, [0, 1] * 6, 1, (4, 4, 4))])[0].estimate
    assert (found.low_ns, found.ns, found.high_ns) == pytest.approx((200, 200, 200))


def test_a_process_among_neighbours_counts_once_however_many_samples_it_took() -> None:
    calm, struck = [1000] * 2, [1100] * 40
    found = levels([Series([*calm, *struck, *calm], None, 1, (2, 40, 2))])[0].estimate
    assert found.ns == pytest.approx(1000 * 1.1 ** (1 / 3))


def test_the_median_of_a_process_of_one_revolution_bears_a_call_a_hundred_times_slower() -> None:
    hit = [[1000] * SLOTS for _ in range(5)]
    hit[2][7] = 100_000
    found = levels([Series([ns for one in hit for ns in one], ring(5), 1, (SLOTS,) * 5)])[0].estimate
    assert found.ns == pytest.approx(1000)


# ---- percentiles and slots


@pytest.mark.parametrize(("q", "needed"), [(90, 29), (95, 59), (99, 299), (99.9, 2995)])
def test_a_percentile_needs_its_one_sided_count(q: float, needed: int) -> None:
    assert samples_needed(q) == needed
    assert percentile([5] * needed, None, 1, q) == (5, None)
    reason = f"p{q:g} needs {needed} samples, there are {needed - 1}"
    assert percentile([5] * (needed - 1), None, 1, q) == (None, reason)


def test_samples_of_many_calls_earn_no_percentile() -> None:
    assert percentile([5] * 400, None, 16, 99) == (None, "a sample is 16 calls")


def test_slots_of_different_work_are_no_tail() -> None:
    times = np.rint(SLOT_NS).astype(int).tolist() * 20
    assert percentile(times, ring(20), 1, 99)[0] == pytest.approx(estimate(times, ring(20), 1).ns)


def test_the_99th_percentile_is_the_297th_of_300_values() -> None:
    times = [*[1000] * 296, 1010, 1020, 1030, 1040]
    assert percentile(times, None, 1, 99)[0] == pytest.approx(1010)


def test_the_spread_between_slots_is_slowest_over_fastest() -> None:
    assert slot_spread([100, 150, 100, 150], [0, 1, 0, 1]) == pytest.approx(0.5)
    assert slot_spread([100, 150], None) is None


# ---- ratio and verdict


def noisy(seed: int, factor: float, revolutions: int = 30) -> Series:
    draw = np.random.default_rng(seed)
    samples = np.rint(SLOT_NS * factor * KINDS["normal"].draw(draw, revolutions)).astype(int)
    return Series(samples.ravel().tolist(), ring(revolutions))


def test_the_ratio_pairs_slot_with_slot_on_the_log_scale() -> None:
    base = Series([100, 400] * 3, [0, 1] * 3)
    new = Series([200, 200] * 3, [0, 1] * 3)
    assert ratio(base, new).value == pytest.approx(1)  # 2 and 1/2


def test_the_ratio_of_swapped_sides_is_the_inverse() -> None:
    there, back = ratio(noisy(1, 1), noisy(2, 1.05)), ratio(noisy(2, 1.05), noisy(1, 1))
    assert there.value * back.value == pytest.approx(1)
    assert there.low * back.high == pytest.approx(1)


def test_a_slot_less_side_is_compared_by_estimates() -> None:
    assert ratio(Series([1600] * 6, None, 16), Series([110] * 48, ring(3))).value == pytest.approx(1.1)


def test_the_interval_of_equal_code_holds_one() -> None:
    found = [ratio(noisy(2 * i, 1), noisy(2 * i + 1, 1)) for i in range(100)]
    assert sum(r.low <= 1 <= r.high for r in found) >= 92


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (1.011, 1.09, "slower"),
        (0.9, 0.98, "faster"),
        (0.981, 1.019, "same"),
        (0.995, 1.03, "unsure"),
        (0.97, 0.995, "unsure"),
        (0.5, 2.0, "unsure"),
        (1.011, 1.015, "slower"),
    ],
)
def test_the_verdict_follows_the_interval(low: float, high: float, word: str) -> None:
    assert verdict(Ratio(math.sqrt(low * high), low, high)) == word


def test_the_geometric_mean_of_twice_and_half_is_one() -> None:
    found = geometric_mean([Ratio(2, 2, 2), Ratio(0.5, 0.5, 0.5)])
    assert (found.value, found.low, found.high) == pytest.approx((1, 1, 1))


def test_the_mean_of_four_cases_is_twice_as_sure_as_one() -> None:
    one = Ratio(1, math.exp(-0.02), math.exp(0.02))
    assert geometric_mean([one] * 4).high == pytest.approx(math.exp(0.01))
    with pytest.raises(ValueError, match="no ratios"):
        geometric_mean([])


def test_an_unbounded_case_leaves_the_mean_unbounded() -> None:
    assert geometric_mean([Ratio(1, 0, math.inf), Ratio(1, 0.99, 1.01)]).high == math.inf


def test_a_slot_that_comes_once_leaves_one_process_and_no_bound() -> None:
    """17 slots, one of them once: a single revolution is left of three processes."""
    slots = [*list(range(16)) * 8, 99, *list(range(1, 16))]
    found = levels([Series([1000] * 144, slots, 1, (48, 48, 48))])[0].estimate
    assert found.ns == pytest.approx(1000) and found.high_ns == math.inf

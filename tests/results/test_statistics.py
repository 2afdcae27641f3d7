import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.statistics import (
    Ratio,
    Series,
    estimate,
    geometric_mean,
    percentile,
    ratio,
    samples_needed,
    slot_spread,
    verdict,
)

SLOTS = 16
SLOT_NS = 1e6 * (1 + np.arange(SLOTS) / SLOTS)
"""Slots of different work: 1 to 1.94 ms."""
Draw = Callable[[np.random.Generator, int], np.ndarray]


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


def normal(draw: np.random.Generator, n: int) -> np.ndarray:
    return 1 + 0.02 * draw.standard_normal((n, SLOTS))


def log_normal(draw: np.random.Generator, n: int) -> np.ndarray:
    return np.exp(0.3 * draw.standard_normal((n, SLOTS)))


def bimodal(draw: np.random.Generator, n: int) -> np.ndarray:
    """One call in five is 20 % slower: a median of 1 + 0.01 · z(0.5 / 0.8)."""
    slow = draw.random((n, SLOTS)) < 0.2
    shift = 0.01 * 0.3186393639643751
    return 1 - shift + 0.2 * slow + 0.01 * draw.standard_normal((n, SLOTS))


def common(draw: np.random.Generator, n: int) -> np.ndarray:
    """The whole revolution is slow or fast together."""
    return np.repeat(np.exp(0.02 * draw.standard_normal((n, 1))), SLOTS, axis=1)


def remembering(draw: np.random.Generator, n: int) -> np.ndarray:
    """Revolutions that remember the last one, AR(1) of 0.3, over calls that do not."""
    noise = draw.standard_normal(n)
    level = np.empty(n)
    level[0] = noise[0]
    for j in range(1, n):
        level[j] = 0.3 * level[j - 1] + math.sqrt(1 - 0.3**2) * noise[j]
    return np.exp(0.02 * level[:, None] + 0.02 * draw.standard_normal((n, SLOTS)))


def coverage(shape: Draw, revolutions: int, trials: int = 200) -> float:
    draw = np.random.default_rng(7)
    truth, hits = SLOT_NS.mean(), 0
    for _ in range(trials):
        samples = np.rint(SLOT_NS * shape(draw, revolutions)).astype(int)
        found = estimate(samples.ravel().tolist(), ring(revolutions), 1)
        hits += found.low_ns <= truth <= found.high_ns
    return hits / trials


@pytest.mark.parametrize("revolutions", [3, 8, 30])
@pytest.mark.parametrize("shape", [normal, log_normal, common, remembering])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(shape: Draw, revolutions: int) -> None:
    assert 0.91 <= coverage(shape, revolutions) <= 1


@pytest.mark.parametrize(("revolutions", "floor"), [(3, 0.82), (12, 0.91), (30, 0.91)])
def test_two_modes_are_seen_as_soon_as_a_median_can(revolutions: int, floor: float) -> None:
    assert coverage(bimodal, revolutions) >= floor


@pytest.mark.parametrize("shape", [normal, common])
def test_the_interval_is_not_bought_by_width(shape: Draw) -> None:
    """At most half as wide again as that of one who knows the spread: 1.96 standard deviations of the estimate."""
    draw = np.random.default_rng(11)
    tables = [np.rint(SLOT_NS * shape(draw, 40)).astype(int) for _ in range(100)]
    found = [estimate(table.ravel().tolist(), ring(40), 1) for table in tables]
    ideal = 1.96 * np.std([e.ns for e in found]) / SLOT_NS.mean()
    assert np.median([e.precision for e in found]) <= 1.5 * ideal


def test_samples_of_whole_revolutions_keep_the_promise_too() -> None:
    draw, hits = np.random.default_rng(5), 0
    for _ in range(200):
        found = estimate(np.rint(1e8 * np.exp(0.1 * draw.standard_normal(6))).astype(int).tolist(), None, 16)
        hits += found.low_ns <= 1e8 / 16 <= found.high_ns
    assert hits >= 184


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
    samples = np.rint(SLOT_NS * factor * normal(draw, revolutions)).astype(int)
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

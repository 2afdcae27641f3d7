"""When warm-up ends, what a sample is, and when enough is enough."""

from __future__ import annotations

import gc
import random
import sys
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import MS, Planted, taken

from harness import sampling
from harness.aligned import AlignedTimer
from harness.ranks import Alone
from harness.sampling import FLOOR_REVOLUTIONS, FLOOR_WINDOWS, Form, Goal, Sampler, Timer, form_of, sample, warm_up
from results.statistics import Estimate, estimate
from workloads.problem import SLOTS

LATENCY = Goal("latency", 0.01, 1000 * MS)
THROUGHPUT = Goal("throughput", 0.01, 10_000 * MS)
FLOOR = FLOOR_REVOLUTIONS * SLOTS


def steady(call: int, slot: int) -> float:
    return MS


def noisy(call: int, slot: int) -> float:
    return MS * random.Random(call).lognormvariate(0, 0.5)


def test_what_never_varies_ends_at_the_floor() -> None:
    _, samples = taken(Planted(steady), LATENCY)
    assert samples.ns == [MS] * FLOOR
    assert samples.slots == list(range(SLOTS)) * FLOOR_REVOLUTIONS
    assert samples.warnings == []


def test_what_stays_unsure_ends_at_the_budget_and_is_noisy() -> None:
    _, samples = taken(Planted(noisy), LATENCY)
    assert sum(samples.ns) >= LATENCY.budget_ns
    assert sum(samples.ns[:-SLOTS]) < LATENCY.budget_ns
    assert "noisy" in samples.warnings


def test_the_floor_is_finished_even_past_the_budget() -> None:
    _, samples = taken(Planted(lambda call, slot: 500 * MS), LATENCY)
    assert len(samples.ns) == FLOOR


def test_samples_that_become_slower_throughout_have_drifted() -> None:
    planted = Planted(lambda call, slot: MS * (1 + 0.002 * call))
    _, samples = taken(planted, Goal("latency", 0.5, 1000 * MS))
    assert samples.warnings == ["drift"]


def test_noise_without_a_trend_is_no_drift() -> None:
    drawn = random.Random(7)
    planted = Planted(lambda call, slot: MS * drawn.lognormvariate(0, 0.05))
    assert "drift" not in taken(planted, Goal("latency", 0.003, 1000 * MS))[1].warnings


def sampled(planted: Planted) -> Sampler:
    """Warmed up and sampled for at most 10 ms. The collector is left alone: its rest costs more than many short samples."""
    timer, goal = Timer(planted, planted.now), Goal("latency", 0.01, 10 * MS)
    sampler = Sampler(timer, goal, form_of(timer, goal, warm_up(timer, goal)))
    sampler.go(goal.budget_ns)
    return sampler


@given(st.sampled_from([1, 100, 10_000, MS, 50 * MS]), st.sampled_from([0, 2, 50]), st.booleans())
@settings(max_examples=30)
def test_sampling_stops_only_after_whole_revolutions(ns: int, reading_ns: int, queue: bool) -> None:
    planted = Planted(lambda call, slot: ns, reading_ns, queue)
    sampler = sampled(planted)
    assert planted.calls == list(range(SLOTS)) * (len(planted.calls) // SLOTS)
    assert len(sampler.ns) * sampler.form.calls % SLOTS == 0


@given(st.integers(100, 100_000), st.integers(1, 200))
@settings(max_examples=30)
def test_the_clock_costs_at_most_a_thousandth_of_a_sample(ns: int, reading_ns: int) -> None:
    assert reading_ns <= 0.001 * min(sampled(Planted(lambda call, slot: ns, reading_ns)).ns)


@pytest.mark.parametrize(("reading_ns", "calls"), [(20, 1), (100, SLOTS), (600, SLOTS), (2000, 2 * SLOTS)])
def test_the_loop_counts_too_where_a_sample_is_one_call(reading_ns: int, calls: int) -> None:
    """A sample of one call reads the clock twice: 0.1 ms holds that a thousand times where a reading takes 50 ns at most."""
    planted = Planted(lambda call, slot: 100_000, reading_ns)
    assert sampled(planted).form.calls == calls


def test_a_sample_costs_the_loop_around_its_call_too() -> None:
    """By a clock that counts the lines of sampling that are run: reading it takes none."""
    lines = 0

    def traced(frame: Any, event: str, told: Any) -> Any:
        nonlocal lines
        lines += event == "line" and frame.f_code.co_filename == sampling.__file__
        return traced

    timer, before = Timer(Planted(steady), lambda: lines), sys.gettrace()
    sys.settrace(traced)
    try:
        cost = timer.sample_cost_ns()
    finally:
        sys.settrace(before)
    assert 3 <= cost <= 6


def test_among_ranks_a_sample_costs_what_reading_the_clock_does() -> None:
    planted = Planted(steady, reading_ns=20)
    assert AlignedTimer(planted, planted.now, Alone()).sample_cost_ns() == 20


def test_short_calls_have_whole_revolutions_as_samples_and_no_slots() -> None:
    _, samples = taken(Planted(lambda call, slot: 1000, reading_ns=10), LATENCY)
    assert samples.slots is None
    assert samples.calls_per_sample % SLOTS == 0
    assert len(samples.ns) >= FLOOR_WINDOWS


def test_latency_waits_for_each_call_of_an_asynchronous_device() -> None:
    _, samples = taken(Planted(steady, queue=True), LATENCY)
    assert samples.ns == [MS] * FLOOR


def test_throughput_windows_are_long_enough_and_whole() -> None:
    _, samples = taken(Planted(steady, queue=True), THROUGHPUT)
    assert min(samples.ns) >= 100 * MS
    assert (samples.calls_per_sample % SLOTS, len(samples.ns), samples.slots) == (0, FLOOR_WINDOWS, None)


@pytest.mark.parametrize("struck", [0, 5, SLOTS - 1])
def test_a_call_that_ends_by_stop_iteration_makes_no_shorter_window(struck: int) -> None:
    def duration(call: int, slot: int) -> float:
        return next(iter(())) if call == struck else MS

    planted = Planted(duration)
    with pytest.raises(StopIteration):
        Timer(planted, planted.now).window(1, queued=True)


@given(st.integers(1, 5), st.booleans(), st.booleans())
def test_a_window_calls_every_slot_in_turn(revolutions: int, queue: bool, queued: bool) -> None:
    planted = Planted(steady, queue=queue)
    assert Timer(planted, planted.now).window(revolutions, queued) == MS * SLOTS * revolutions
    assert planted.calls == list(range(SLOTS)) * revolutions


@pytest.mark.parametrize(
    ("costs", "precision", "fewest", "most"),
    [
        ((0.0,), 0.02, 7, 12),
        ((5.0,), 0.02, 2, 4),
        ((900.0, 0.0), 0.018, 3, 8),
        ((0.001, 900.0, 0.001), 0.02, 7, 12),
        ((0.0,), 1e-6, 3, 5),
    ],
)
def test_looks_at_the_interval_take_little_of_the_time_and_wait_for_what_could_narrow_it(
    monkeypatch: pytest.MonkeyPatch, costs: tuple[float, ...], precision: float, fewest: int, most: int
) -> None:
    """`costs` of looks in ms, the last one of all further ones; 10 s of sampling, after 4 s of which it is within 2 %."""
    planted, looks = Planted(noisy), list[float]()

    def looked(*series: Any) -> Estimate:
        looks.append(costs[min(len(looks), len(costs) - 1)])
        planted.wait_ns(looks[-1] * MS)
        return estimate(*series)

    timer, goal = Timer(planted, planted.now), Goal("latency", precision, 10_000 * MS)
    sampler = Sampler(timer, goal, form_of(timer, goal, warm_up(timer, goal)))
    monkeypatch.setattr(sampling, "estimate", looked)
    sampler.go(goal.budget_ns)
    assert fewest <= len(looks) <= most


@pytest.mark.parametrize("precision", [0.02, 0.05, 0.07, 0.1])
def test_sampling_ends_soon_after_the_interval_is_narrow_enough(precision: float) -> None:
    taken_ns = taken(Planted(noisy), Goal("latency", precision, 10_000 * MS))[1].ns
    enough = next(n for n in range(FLOOR, len(taken_ns) + 1, SLOTS) if _precision(taken_ns[:n]) <= precision)
    assert len(taken_ns) <= 2 * enough


def wandering(call: int, slot: int) -> float:
    """Whole revolutions that differ by 5 %."""
    return _revolution(call // SLOTS)


@cache
def _revolution(number: int) -> float:
    return 10_000 * random.Random(number).lognormvariate(0, 0.05)


@pytest.mark.parametrize(("precision", "expected"), [(0.005, 1), (1e-9, 0)])
def test_windows_far_from_the_goal_are_not_looked_at_in_the_first_second(
    monkeypatch: pytest.MonkeyPatch, precision: float, expected: int
) -> None:
    """Of 5 % a hundred revolutions are within 4 x 0.5 %, and no number within 4 x 1e-9."""
    looks = _looks(monkeypatch, Goal("latency", precision, 900 * MS))
    assert min(len(looks), 1) == expected


def test_windows_far_from_the_goal_are_looked_at_after_a_second_to_tell_how_it_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = _looks(monkeypatch, Goal("latency", 1e-9, 1500 * MS))
    assert 1000 * MS <= min(looks) <= 1300 * MS


def _looks(monkeypatch: pytest.MonkeyPatch, goal: Goal) -> list[int]:
    """When windows of short calls were looked at, ns after sampling began."""
    planted, looks = Planted(wandering, reading_ns=20), list[int]()
    timer = Timer(planted, planted.now)
    sampler = Sampler(timer, goal, Form(1))
    began = planted.now()

    def looked(*series: Any) -> Estimate:
        looks.append(planted.now() - began)
        return estimate(*series)

    monkeypatch.setattr(sampling, "estimate", looked)
    sampler.go(goal.budget_ns)
    return looks


@pytest.mark.parametrize("precision", [0.002, 0.005, 0.01])
def test_sampling_of_windows_ends_soon_after_the_interval_is_narrow_enough(precision: float) -> None:
    planted = Planted(wandering)
    sampler = Sampler(Timer(planted, planted.now), Goal("latency", precision, 10_000 * MS), Form(1))
    sampler.go(10_000 * MS)
    ns = sampler.ns
    steps = range(FLOOR_WINDOWS, len(ns) + 1, 8)
    enough = next(n for n in steps if estimate(ns[:n], None, SLOTS).precision <= precision)
    assert len(ns) <= 2 * enough + 64


def _precision(ns: list[int]) -> float:
    return estimate(ns, list(range(SLOTS)) * (len(ns) // SLOTS), 1).precision


def test_sustained_goes_on_for_its_whole_length_however_sure_it_is() -> None:
    _, samples = taken(Planted(steady, queue=True), Goal("sustained", 0.01, 60_000 * MS))
    assert 60_000 * MS <= sum(samples.ns) < 61_000 * MS


def test_sustained_is_looked_at_all_the_time_however_wide_its_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = list[int]()
    planted = Planted(noisy, queue=True)
    timer, goal = Timer(planted, planted.now), Goal("sustained", 1e-6, 20_000 * MS)
    sampler = Sampler(timer, goal, form_of(timer, goal, warm_up(timer, goal)))
    sampler.go(goal.budget_ns, lambda now: looks.append(now.elapsed_ns))
    assert max(later / earlier for earlier, later in pairwise(looks)) < 1.5


@pytest.mark.parametrize(("call_ns", "revolutions"), [(MS // 10, 10), (MS, 1)])
def test_short_calls_are_taken_several_revolutions_at_a_time(call_ns: int, revolutions: int) -> None:
    planted = Planted(lambda call, slot: call_ns)
    timer, goal = Timer(planted, planted.now), Goal("latency", 0.01, 1000 * MS)
    sampler = Sampler(timer, goal, Form())
    sizes = []
    for _ in range(4):
        before = len(sampler.ns)
        sampler.take()
        sizes.append((len(sampler.ns) - before) // SLOTS)
    assert sizes == [1, revolutions, revolutions, revolutions]
    assert sampler.slots == list(range(SLOTS)) * sum(sizes)


def test_short_windows_are_taken_several_at_a_time() -> None:
    planted = Planted(lambda call, slot: MS // 100)
    sampler = Sampler(Timer(planted, planted.now), Goal("latency", 0.01, 1000 * MS), Form(10))
    sizes = []
    for _ in range(3):
        before = len(sampler.ns)
        sampler.take()
        sizes.append(len(sampler.ns) - before)
    assert sizes == [1, 10, 10]
    assert set(sampler.ns) == {MS * 10 * SLOTS // 100}


def test_what_lies_between_windows_is_no_sustained_work() -> None:
    planted, goal = Planted(steady, queue=True), Goal("sustained", 0.01, 1000 * MS)
    timer = Timer(planted, planted.now)
    sampler = Sampler(timer, goal, form_of(timer, goal, warm_up(timer, goal)))

    def something_else() -> None:
        timer.window(10, queued=True)

    sampler.go(goal.budget_ns, look=something_else)
    assert 1000 * MS <= sum(sampler.ns) < 1200 * MS


def test_warm_up_ends_once_times_no_longer_fall() -> None:
    falling = Planted(lambda call, slot: MS * max(1.0, 3.0 - call / (2 * SLOTS)))
    warm, samples = taken(falling, LATENCY)
    assert warm.calls >= 4 * SLOTS
    assert set(samples.ns) == {MS}


def test_warm_up_takes_at_most_a_fifth_of_the_budget_beyond_its_first_revolution() -> None:
    endless = Planted(lambda call, slot: MS * 0.999**call)
    warm = warm_up(Timer(endless, endless.now), LATENCY)
    assert SLOTS < warm.calls <= SLOTS + 0.25 * 1000


def test_warm_up_keeps_the_outputs_of_every_slot() -> None:
    planted = Planted(steady)
    warm = warm_up(Timer(planted, planted.now), LATENCY)
    assert warm.handles == list(range(SLOTS))


def test_warm_up_says_how_long_the_rest_may_take() -> None:
    planted, told = Planted(lambda call, slot: 500 * MS), list[float]()
    warm_up(Timer(planted, planted.now), LATENCY, told.append)
    assert told[0] > 0.5 * FLOOR


def test_the_collector_rests_while_samples_are_taken_and_works_again_afterwards() -> None:
    seen = set()

    def watching(call: int, slot: int) -> float:
        seen.add((call > 3 * SLOTS, gc.isenabled()))
        return MS

    taken(Planted(watching), LATENCY)
    assert (True, False) in seen
    assert gc.isenabled()


def test_the_collector_works_again_after_a_crash() -> None:
    planted = Planted(steady)
    timer = Timer(planted, planted.now)
    warm = warm_up(timer, LATENCY)

    def broken(slot: int) -> int:
        raise RuntimeError("lost the device")

    timer._submit = broken
    with pytest.raises(RuntimeError, match="lost"):
        sample(timer, LATENCY, warm)
    assert gc.isenabled()


def test_progress_tells_estimate_and_interval_between_revolutions() -> None:
    planted, seen = Planted(noisy), []
    timer = Timer(planted, planted.now)
    sample(timer, LATENCY, warm_up(timer, LATENCY), seen.append)
    assert seen[0].estimate.low_ns < seen[0].estimate.ns < seen[0].estimate.high_ns
    assert [one.elapsed_ns for one in seen] == sorted(one.elapsed_ns for one in seen)

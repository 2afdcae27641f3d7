"""Shares of a case and of a canary take turns, in whole revolutions, within a process's share of the budget."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import MS, Planted

from harness.beside import LEAD_CALLS, LEAST_SHARES, Beside, Split
from harness.canary import HostCanary, canary_of, kind_of
from harness.sampling import Form, Goal, Timer, Warm
from results.two_runs import run_spread
from workloads.problem import SLOTS


class Stage(Planted):
    """A case of planted durations, and a canary that moves the same clock."""

    name = "planted"

    def __init__(self, call_ns: float, canary_ns: float) -> None:
        super().__init__(lambda call, slot: call_ns)
        self.heard: list[str] = []
        self.canary_ns, self.calm_from = canary_ns, 0

    def submit(self, slot: int) -> int:
        self.heard.append("case")
        return super().submit(slot)

    @property
    def canary(self) -> Canary:
        return Canary(self)


class Canary:
    name = "planted"
    synchronize = None

    def __init__(self, stage: Stage) -> None:
        self._stage, self._calls = stage, 0

    def submit(self, slot: int) -> None:
        behind_case, self._calls = self._stage.heard[-1:] == ["case"], self._calls + 1
        self._stage.heard.append("canary")
        disturbed = behind_case or self._calls < self._stage.calm_from
        self._stage._ns += self._stage.canary_ns * (1.5 if disturbed else 1)


def beside(
    call_ns: float, canary_ns: float = MS / 10, processes: int = 5, form: Form | None = None, calm_from: int = 0
) -> tuple[Stage, Beside]:
    """A sampler that has gone on for a second of planted time at most; the canary's calls before `calm_from` take longer."""
    stage = Stage(call_ns, canary_ns)
    stage.calm_from = calm_from
    goal = Goal("latency", 0.01, 1000 * MS)
    warm = Warm([], call_ns, SLOTS)
    sampler = Beside(Timer(stage, stage.now), goal, form or Form(), stage.canary, Split(processes), warm)
    stage.heard.clear()
    stage.calls.clear()
    sampler.go(goal.budget_ns)
    return stage, sampler


def test_a_long_case_that_never_varies_ends_once_two_revolutions_say_so() -> None:
    """After one its interval has no bounds, which says nothing of how many are wanted."""
    _, sampler = beside(5 * MS, canary_ns=5 * MS)
    assert len(sampler.ns) == 2 * SLOTS


@given(st.sampled_from([1000, 90_000, MS // 3, MS, 3 * MS, 11 * MS, 50 * MS]), st.integers(2, 7))
@settings(max_examples=25)
def test_whole_revolutions_in_equal_shares_each_behind_as_many_samples_of_the_canary(
    call_ns: int, processes: int
) -> None:
    _, sampler = beside(call_ns, processes=processes)
    assert len(sampler.ns) % SLOTS == 0
    assert len(sampler.ns) == len(sampler.canary_ns)
    assert len(sampler.ns) % sampler.shares == 0
    assert sampler.shares >= LEAST_SHARES
    assert sampler.slots == list(range(SLOTS)) * (len(sampler.ns) // SLOTS)
    assert set(sampler.ns) == {call_ns}


@pytest.mark.parametrize(("call_ns", "in_a_share"), [(20 * MS, 1), (6 * MS, 2), (3 * MS, 4), (MS, 8), (MS // 100, 64)])
def test_a_share_is_twelve_milliseconds_at_most_where_calls_are_short_enough(call_ns: int, in_a_share: int) -> None:
    _, sampler = beside(call_ns)
    assert len(sampler.ns) // sampler.shares == in_a_share


@pytest.mark.parametrize(("call_ns", "calls"), [(MS, 8), (0.9 * MS, 8), (50 * MS, 512), (MS / 1000, 1)])
def test_a_sample_of_the_canary_is_about_as_long_as_one_of_the_case(call_ns: float, calls: int) -> None:
    _, sampler = beside(call_ns)
    assert sampler.canary_calls == calls
    assert set(sampler.canary_ns) == {calls * MS // 10}


def test_a_moment_of_noise_changes_no_number_of_calls() -> None:
    assert beside(1.3 * MS, calm_from=12)[1].canary_calls == beside(1.3 * MS)[1].canary_calls == 16


def test_both_take_turns_and_the_first_after_a_switch_is_thrown_away() -> None:
    stage, sampler = beside(3 * MS, canary_ns=3 * MS)
    first = stage.heard[: 2 * (LEAD_CALLS + 9)]
    assert first == (["canary"] * (LEAD_CALLS + 4) + ["case"] * 5) * 2
    assert stage.calls[:5] == [15, 0, 1, 2, 3]
    assert len(sampler.ns) < len(stage.calls)


@pytest.mark.parametrize("call_ns", [10 * MS, 3 * MS])
def test_a_canary_that_is_slower_behind_the_case_takes_no_longer_for_it(call_ns: int) -> None:
    _, sampler = beside(call_ns, canary_ns=3 * MS)
    assert set(sampler.canary_ns) == {sampler.canary_calls * 3 * MS}


@pytest.mark.parametrize(("processes", "revolutions"), [(1, 3), (2, 2), (3, 1), (5, 1)])
def test_the_floor_of_a_measurement_is_split_over_its_processes(processes: int, revolutions: int) -> None:
    _, sampler = beside(200 * MS, processes=processes)
    assert len(sampler.ns) == revolutions * SLOTS


def test_windows_of_whole_revolutions_take_turns_too() -> None:
    _, sampler = beside(1000, form=Form(revolutions=4))
    assert (sampler.slots, sampler.samples.calls_per_sample) == (None, 64)
    assert set(sampler.ns) == {64_000}
    assert len(sampler.ns) == len(sampler.canary_ns)


def test_later_processes_keep_the_form_of_the_first() -> None:
    stage = Stage(MS, MS / 10)
    goal = Goal("latency", 0.01, MS)
    again = Beside(Timer(stage, stage.now), goal, Form(), stage.canary, Split(5, canary_calls=32), Warm([], MS, SLOTS))
    assert again.canary_calls == 32


# -- the canary itself ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["cold", "hot"])
def test_the_hosts_canary_is_the_same_work_for_whoever_asks(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.canary.LEAST_RING_BYTES", 1 << 23)
    monkeypatch.setattr("harness.canary.MOST_RING_BYTES", 1 << 23)
    one, other = HostCanary(kind), HostCanary(kind)  # type: ignore[arg-type]
    one.submit(0)
    other.submit(7)
    assert (one.name, one._out.tolist(), one._largest) == (other.name, other._out.tolist(), other._largest)
    assert bool(one._largest) is (kind == "cold")
    assert one.name.startswith(f"{kind} fp32 ")
    assert "numpy" in one.name


def test_every_call_of_cold_reads_a_block_that_no_call_has_read_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.canary.LEAST_RING_BYTES", 12 << 20)
    monkeypatch.setattr("harness.canary.MOST_RING_BYTES", 12 << 20)
    canary, read = HostCanary("cold"), []
    canary._ring[:] = np.arange(len(canary._ring), dtype=np.float32)[:, None]
    for _ in range(5):
        canary.submit(0)
        read.append(int(canary._largest))
    assert read == [0, 1, 2, 0, 1]
    assert " 4 of 12 MiB" in canary.name and run_spread(canary.name) < run_spread("another canary")


@pytest.mark.parametrize(
    ("flops", "bytes_", "kind"),
    [(10**6, 10**5, "hot"), (10**9, 10**8, "cold"), (10**11, 10**8, "hot")],
)
def test_work_that_streams_has_the_cold_canary(flops: int, bytes_: int, kind: str) -> None:
    assert kind_of(flops, bytes_) == kind


class Elsewhere:
    class facts:
        device_type = "npu"


def test_an_accelerator_without_a_canary_of_its_own_has_none() -> None:
    assert canary_of(Elsewhere(), "cold") is None

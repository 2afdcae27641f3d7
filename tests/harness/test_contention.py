"""A contended measurement goes on while its budget lasts; nothing that was taken is dropped."""

from __future__ import annotations

import subprocess
import sys

import pytest
from planted import MS, Planted

from harness import measuring
from harness.measuring import _Reporter, _turns
from harness.noise import Watch
from harness.power import attendant_of
from harness.sampling import Form, Goal, Sampler, Timer
from results.record import Turn


def turns(call_ns: int, budget_ms: int, scenario: str = "latency") -> tuple[list[Turn], Sampler]:
    """Calls that never vary, so that a first turn ends at the floor of 48 calls."""
    planted = Planted(lambda call, slot: call_ns)
    goal = Goal(scenario, 0.01, budget_ms * MS)
    sampler = Sampler(Timer(planted, planted.now), goal, Form())
    nobody = attendant_of(None, planted.now, sustained=False)
    return _turns(sampler, goal, 0, _Reporter(lambda event: None), nobody), sampler


@pytest.fixture
def neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_contended", lambda noise: True)


def test_a_contended_turn_is_followed_by_one_more_and_both_count(neighbours: None) -> None:
    found, sampler = turns(MS, 1000)
    assert [turn.samples for turn in found] == [48, 48]
    assert len(sampler.ns) == 96


def test_there_is_no_third_turn_and_none_past_the_budget(neighbours: None) -> None:
    found, _ = turns(MS, 100)
    assert len(found) == 2
    found, _ = turns(MS, 90)
    assert len(found) == 1


def test_a_minute_of_sustained_work_is_not_repeated(neighbours: None) -> None:
    assert len(turns(100 * MS, 1000, "sustained")[0]) == 1


def test_a_quiet_turn_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_contended", lambda noise: False)
    assert len(turns(MS, 1000)[0]) == 1


BURN = """
import time
print(flush=True)
end = time.process_time() + 0.3
while time.process_time() < end:
    pass
print(flush=True)
input()
"""


def test_what_a_worker_computes_is_not_foreign() -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", BURN], **pipes) as worker:  # type: ignore[call-overload]
        worker.stdout.readline()
        watches = Watch(), Watch([worker.pid])
        worker.stdout.readline()
        alone, together = (watch.stop() for watch in watches)
        worker.communicate(b"\n")
    assert together.own_cpu_ns - alone.own_cpu_ns > 0.2e9
    assert alone.foreign_cpu_ns - together.foreign_cpu_ns > 0.1e9  # counted in ticks of 10 ms, over the whole machine


def test_a_worker_that_has_gone_counts_for_nothing() -> None:
    worker = subprocess.Popen([sys.executable, "-c", ""])
    worker.wait()
    assert Watch([worker.pid]).stop().own_cpu_ns is not None

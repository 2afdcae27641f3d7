"""How many rounds pytest-benchmark takes, and of what."""

from __future__ import annotations

import time
from typing import Any

import pytest

from harness.pytest_rounds import Limits, Rounds, _calls_in_turn, _Overrun, _TimeIsUp, rounds_of

SECOND = Limits(time_s=1.0, rounds=5)
MS = 1e6


@pytest.mark.parametrize(
    ("call_ns", "limits", "planned"),
    [
        (1 * MS, SECOND, Rounds(62 * 16, 1)),  # 62 revolutions of 16 ms fill 0.992 s
        (100 * MS, SECOND, Rounds(48, 1)),  # the floor of 3 revolutions
        (100 * MS, Limits(1.0, 50), Rounds(64, 1)),  # at least 50 rounds, in whole revolutions
    ],
)
def test_a_round_is_a_call_and_all_rounds_are_whole_revolutions(
    call_ns: float, limits: Limits, planned: Rounds
) -> None:
    assert rounds_of("latency", call_ns, 100.0, limits) == planned


def test_calls_too_short_for_a_round_come_in_whole_revolutions() -> None:
    # 100 ns are 0.1 % of 100 us: 10 calls of 10 us, so one revolution.
    assert rounds_of("latency", 10_000, 100.0, SECOND) == Rounds(6250, 16)
    assert rounds_of("latency", 1_000, 100.0, SECOND) == Rounds(8928, 112)


def test_a_round_of_throughput_is_a_window_of_100_ms() -> None:
    assert rounds_of("throughput", 1 * MS, 100.0, SECOND) == Rounds(8, 7 * 16)
    assert rounds_of("throughput", 1 * MS, 100.0, Limits(0.1, 5)).rounds == 6


class Recorder:
    """Notes what is submitted and waited for."""

    def __init__(self, waits: bool) -> None:
        self.log: list[Any] = []
        self.synchronize = (lambda: self.log.append("wait")) if waits else None

    def submit(self, slot: int) -> None:
        self.log.append(slot)


def test_calls_in_turn_go_round_the_ring() -> None:
    recorder = Recorder(waits=False)
    call: Any = _calls_in_turn(recorder, 1)  # type: ignore[arg-type]
    for _ in range(18):
        call()
    assert recorder.log == [*range(16), 0, 1]


@pytest.mark.parametrize(("every", "log"), [(1, [0, "wait", 1, "wait", 2, "wait"]), (2, [0, 1, "wait", 2])])
def test_a_queue_is_waited_for_at_the_end_of_a_window(every: int, log: list[Any]) -> None:
    recorder = Recorder(waits=True)
    call: Any = _calls_in_turn(recorder, every)  # type: ignore[arg-type]
    for _ in range(3):
        call()
    assert recorder.log == log


def test_rounds_that_overrun_end_after_the_floor_with_a_whole_revolution() -> None:
    overrun = _Overrun(Rounds(1000, 1), Limits(time_s=1e-9, rounds=5))
    time.sleep(0.001)
    for number in range(47):
        overrun(number % 16)
    with pytest.raises(_TimeIsUp):
        overrun(15)

"""How pytest-benchmark times a case: `benchmark.pedantic` between moemark's two checks.

A round is one call of the next slot of the ring, so that a test sees all inputs in turn. Where pytest-benchmark's own cost of
a round would be more than 0.1 % of a call, and for throughput, a round is whole revolutions, and pytest-benchmark divides its
time by the number of calls: times are always those of one call. Rounds are whole revolutions together.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Any

from harness.measuring import Attempt, Bench, Request
from harness.sampling import CLOCK_SHARE, FLOOR_REVOLUTIONS, FLOOR_WINDOWS, WINDOW_NS, Goal, Timer, warm_up
from harness.targets import Prepared, Unsupported
from results.record import Measurement
from workloads.problem import SLOTS

__all__ = ["Limits", "Outcome", "Rounds", "measured", "rounds_of"]

OVERRUN = 2.0
"""Times the asked-for time after which rounds end."""


@dataclass(frozen=True)
class Limits:
    """pytest-benchmark's `--benchmark-max-time` and `--benchmark-min-rounds`."""

    time_s: float
    rounds: int


@dataclass(frozen=True)
class Outcome:
    """How a case ended; a measurement only if it is `ok` and pytest-benchmark was not told to measure nothing."""

    status: str
    reason: str | None = None
    measurement: Measurement | None = None


@dataclass(frozen=True)
class Rounds:
    """How many rounds, and of how many calls each; with 1 call a round belongs to one slot."""

    rounds: int
    calls: int


def measured(benchmark: Any, bench: Bench, request: Request, limits: Limits) -> Outcome:
    """Has the fixture time the case. Never raises for what the case or the target does: see the status.

    The times of what is not `ok` are taken from the fixture again, so that pytest-benchmark neither shows nor saves them.
    """
    attempt = Attempt(bench, request, lambda event: None)
    try:
        _run(benchmark, attempt, request, limits)
    except Exception as error:
        attempt.failed(error)
        benchmark.has_error = True
        if benchmark.stats is not None:
            benchmark.stats.stats.data.clear()
        return Outcome(attempt.fields["status"], attempt.fields["reason"])
    if benchmark.stats is None:  # --benchmark-disable: called once, checked, not timed
        return Outcome("ok")
    return Outcome("ok", measurement=Measurement(status="ok", **attempt.fields))


def rounds_of(scenario: str, call_ns: float, cost_ns: float, limits: Limits) -> Rounds:
    """How often to call what takes `call_ns`, where pytest-benchmark takes `cost_ns` for a round by itself."""
    revolution, limit = SLOTS * max(call_ns, 1.0), limits.time_s * 1e9
    if scenario == "throughput":
        many = math.ceil(WINDOW_NS / revolution)
    elif cost_ns > CLOCK_SHARE * call_ns:
        many = math.ceil(cost_ns / (CLOCK_SHARE * revolution))
    else:
        turns = max(FLOOR_REVOLUTIONS, math.ceil(limits.rounds / SLOTS), math.floor(limit / revolution))
        return Rounds(SLOTS * turns, 1)
    return Rounds(max(FLOOR_WINDOWS, limits.rounds, math.floor(limit / (many * revolution))), SLOTS * many)


def _run(benchmark: Any, attempt: Attempt, request: Request, limits: Limits) -> None:
    """Prepare, check, time, check. Raises what stops it."""
    if request.case.scenario == "sustained":
        raise Unsupported("sustained is a minute with readings of power: `moemark run` measures it")
    prepared = attempt.open()
    try:
        handles = [*attempt.handles, *_timed(benchmark, attempt, prepared, request, limits)]
        attempt.check_after(prepared, handles)
    finally:
        prepared.close()


def _timed(benchmark: Any, attempt: Attempt, prepared: Prepared, request: Request, limits: Limits) -> list[Any]:
    """Warms up and lets the fixture time; returns the handles of the warm-up's first revolution."""
    scenario = request.case.scenario
    timer = Timer(prepared, time.perf_counter_ns)
    warm = warm_up(timer, Goal(scenario, request.precision, round(limits.time_s * 1e9)))
    plan = rounds_of(scenario, warm.call_ns, _round_cost_ns(), limits)
    with suppress(_TimeIsUp):
        _pedantic(benchmark, prepared, plan, scenario, _Overrun(plan, limits))
    if benchmark.stats is not None:
        attempt.fields |= _samples(benchmark.stats.stats.data, plan)
    attempt.fields |= {"warmup_calls": warm.calls, "clock": "pytest-benchmark's timer, submit to completion"}
    return warm.handles


def _pedantic(benchmark: Any, prepared: Prepared, plan: Rounds, scenario: str, overrun: _Overrun) -> None:
    if plan.calls == 1:
        slots = cycle(range(SLOTS))
        call = _one_call(prepared)
        benchmark.pedantic(call, setup=lambda: ((next(slots),), {}), teardown=overrun, rounds=plan.rounds)
    else:
        calls = _calls_in_turn(prepared, plan.calls if scenario == "throughput" else 1)
        benchmark.pedantic(calls, teardown=overrun, rounds=plan.rounds, iterations=plan.calls)


class _TimeIsUp(BaseException):
    """Ends the rounds early; no Exception, which pytest-benchmark would take for an error of the test."""


class _Overrun:
    """Called after each round; ends them at twice the asked-for time, the floor and whole revolutions granted.

    Rounds are planned by the warm-up, and a neighbour may make calls a hundred times slower after it.
    """

    def __init__(self, plan: Rounds, limits: Limits) -> None:
        self._floor, self._step = (FLOOR_REVOLUTIONS * SLOTS, SLOTS) if plan.calls == 1 else (FLOOR_WINDOWS, 1)
        self._floor = max(self._floor, limits.rounds)
        self._end = time.monotonic() + OVERRUN * limits.time_s
        self._rounds = 0

    def __call__(self, *_slot: int) -> None:
        self._rounds += 1
        if self._rounds >= self._floor and self._rounds % self._step == 0 and time.monotonic() > self._end:
            raise _TimeIsUp


def _samples(seconds: list[float], plan: Rounds) -> dict[str, Any]:
    """The fixture's times of one call as samples of a record."""
    slots = [number % SLOTS for number in range(len(seconds))] if plan.calls == 1 else None
    ns = [round(one * plan.calls * 1e9) for one in seconds]
    return {"samples_ns": ns, "slots": slots, "calls_per_sample": plan.calls}


def _one_call(prepared: Prepared) -> Callable[[int], Any]:
    """One call to its completion. The outputs are returned, so that they are freed outside the timed region."""
    submit, wait = prepared.submit, prepared.synchronize
    if wait is None:
        return submit

    def call(slot: int) -> Any:
        handle = submit(slot)
        wait()
        return handle

    return call


def _calls_in_turn(prepared: Prepared, wait_every: int) -> Callable[[], None]:
    """A call of the next slot each time; waits for completion at the end of every `wait_every` calls."""
    submits = cycle([partial(prepared.submit, slot) for slot in range(SLOTS)])
    wait, numbers = prepared.synchronize, cycle(range(1, wait_every + 1))
    if wait is None:
        return lambda: next(submits)()

    def call() -> None:
        next(submits)()
        if next(numbers) == wait_every:
            wait()

    return call


def _round_cost_ns() -> float:
    """What a round of nothing takes: two readings of the clock and a call, the median of 200."""
    nothing: Callable[..., None] = lambda *args, **more: None  # noqa: E731
    costs = []
    for _ in range(200):
        begin = time.perf_counter_ns()
        nothing(0)
        costs.append(time.perf_counter_ns() - begin)
    return statistics.median(costs)

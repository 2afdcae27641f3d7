"""Turns, in the worker: a case is opened (prepared, checked, warm), asked for many short turns, and checked again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.measuring import Attempt, Bench, Request, one_line
from harness.sampling import CLOCK_SHARE, Goal, Timer, warm_up
from harness.targets import Prepared
from results.record import Measurement
from workloads.problem import SLOTS

__all__ = ["Turns"]

Tell = Callable[[dict[str, Any]], None]


class Turns:
    """One open case. `open` first, then `turn` as often as wanted, then `close`."""

    def __init__(self, bench: Bench, request: Request, tell: Tell) -> None:
        self._bench = bench
        self._request = request
        self._tell = tell
        self._attempt = Attempt(bench, request, tell)
        self._prepared: Prepared | None = None
        self._handles: list[Any] = []

    def open(self) -> None:
        """Prepares and checks: tells `open`, or `closed` with the reason."""
        try:
            self._prepared = self._attempt.open()
        except Exception as error:
            self._failed(error)
            return
        self._tell({"event": "open"})

    def warm(self) -> None:
        """Tells `ready` with how long a call takes and below what a sample is several calls (ns), or `closed`."""
        if self._prepared is None:
            raise RuntimeError("warm-up of a case that is not open")
        try:
            timer = self._timer = Timer(self._prepared, self._bench.now)
            # The budget is that of both sides, and so is the share of it that warming up may take.
            # Long calls are warm after a revolution: what trend is left both sides have, turn by turn.
            half = round(self._request.budget_s * 1e9 / 2)
            warm = warm_up(timer, Goal("latency", self._request.precision, half), least_blocks=0)
            self._handles = [*self._attempt.handles, *warm.handles]
        except Exception as error:
            self._failed(error)
            return
        # The loop is not in the times, and turns are as long either way: single calls wherever the clock lets.
        short = timer.clock_cost_ns() / CLOCK_SHARE
        self._tell({"event": "ready", "call_ns": warm.call_ns, "batch_below_ns": short})

    def turn(self, first: int, samples: int, revolutions: int, lead: int) -> None:
        """Tells the durations (ns) of `samples` samples; the `lead` samples before them are thrown away.

        With revolutions = 0 a sample is one call, of slots first, first + 1, ...; else so many whole revolutions.
        """
        if self._prepared is None:
            raise RuntimeError("a turn of a case that is not open")
        try:
            ns = self._sampled(first, samples + lead, revolutions)[lead:]
        except Exception as error:
            self._failed(error)
            return
        self._tell({"event": "turn", "ns": ns})

    def _sampled(self, first: int, samples: int, revolutions: int) -> list[int]:
        if revolutions:
            return [self._timer.window(revolutions, queued=False) for _ in range(samples)]
        return self._timer.calls([(first + number) % SLOTS for number in range(samples)])

    def close(self) -> None:
        """Checks every slot again and tells `closed` with the status; the times counted only if it is `ok`."""
        if self._prepared is None:
            return
        try:
            self._attempt.check_after(self._prepared, self._handles)
        except Exception as error:
            self._failed(error)
            return
        self._give_back()
        self._tell({"event": "closed", "status": "ok"})

    def _failed(self, error: Exception) -> None:
        """Tells `closed` with the status that a measurement would have."""
        self._give_back()
        self._attempt.failed(error)
        found = Measurement(**self._attempt.fields)
        reason = found.reason or one_line(error)
        self._tell({"event": "closed", "status": found.status, "reason": reason})

    def _give_back(self) -> None:
        if self._prepared is not None:
            self._prepared.close()
        self._prepared = None
        self._handles = []

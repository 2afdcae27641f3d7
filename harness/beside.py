"""Sampling beside a canary: short shares of both take turns, so that both see the same machine.

A share is some 12 ms of the case behind as many samples of the canary, as long as the case's: long enough that the switch costs
little, short enough that drift falls on both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.canary import Canary
from harness.sampling import FLOOR_REVOLUTIONS, FLOOR_WINDOWS, Form, Goal, Sampler, Timer, Warm
from workloads.problem import SLOTS

__all__ = ["LEAD_CALLS", "LEAD_FROM", "LEAST_SHARES", "TURN_NS", "Beside", "Split"]

TURN_NS = 12_000_000
"""Work of one share: longer ones let drift in, shorter ones pay more for the switch."""
LEAD_FROM = 3
"""With as many samples of the case a share, one more is taken in front and thrown away: the first after a switch is slower."""
LEAST_SHARES = 8
SHARES = (1, 2, 4, 8, 16, 32, 64)
"""Samples of a share: whole revolutions hold, or are held by, a whole number of shares."""
TRIES = 16
LEAD_CALLS = 2
"""Of the canary before it is timed: its first call behind the case takes a third longer, which would make samples of few calls
longer for each than samples of many, and runs choose their number by what a call took."""


@dataclass(frozen=True)
class Split:
    """A measurement split over processes; `canary_calls` of a sample as an earlier process chose them."""

    processes: int
    canary_calls: int | None = None


class Beside(Sampler):
    """Samples of a case with the canary's between them, in one of several processes."""

    def __init__(self, timer: Timer, goal: Goal, form: Form, canary: Canary, split: Split, warm: Warm) -> None:
        super().__init__(timer, goal, form)
        self._canary = Timer(canary, timer.now)
        self._processes = split.processes
        sample_ns = max(warm.call_ns * form.calls, 1.0)
        self._share = max(count for count in SHARES if count == 1 or count * sample_ns <= TURN_NS)
        self.canary_calls = split.canary_calls or self._calls_that_take(sample_ns)
        """Calls of the canary in one of its samples."""

    @property
    def shares(self) -> int:
        """Shares taken so far."""
        return len(self.ns) // self._share

    @property
    def floor(self) -> int:
        """The floor of a measurement, split over its processes, in no fewer shares than a centre needs."""
        if self.form.revolutions:
            return max(math.ceil(FLOOR_WINDOWS / self._processes), LEAST_SHARES * self._share)
        return max(math.ceil(FLOOR_REVOLUTIONS / self._processes) * SLOTS, LEAST_SHARES * self._share)

    def take(self) -> None:
        """Shares that make whole revolutions."""
        for _ in range(1 if self.form.revolutions else max(1, SLOTS // self._share)):
            self.canary_ns += self._canary_share()
            self.ns += self._case_share()

    def _canary_share(self) -> list[int]:
        self._canary.repeated(LEAD_CALLS)
        return [self._canary.repeated(self.canary_calls) for _ in range(self._share)]

    def _case_share(self) -> list[int]:
        if self.form.revolutions:
            return [self._timer.window(self.form.revolutions, self.form.queued) for _ in range(self._share)]
        lead = int(self._share >= LEAD_FROM)
        return self._timer.calls([(len(self.ns) + number) % SLOTS for number in range(-lead, self._share)])[lead:]

    def _calls_that_take(self, sample_ns: float) -> int:
        """The power of two of calls that comes nearest, by the shortest of some: the same in most runs, though times differ."""
        call_ns = max(min(self._canary.calls([0] * TRIES)), 1)
        return 1 << max(0, round(math.log2(sample_ns / call_ns)))

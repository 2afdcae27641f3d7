"""A prepared case whose calls take planted durations by a planted clock."""

from __future__ import annotations

from collections.abc import Callable

from harness.sampling import Goal, Samples, Timer, Warm, sample, warm_up

MS = 1_000_000


class Planted:
    """`duration(call, slot)` in ns; `reading_ns` is what one look at the clock costs; `queue` makes it asynchronous."""

    def __init__(self, duration: Callable[[int, int], float], reading_ns: int = 0, queue: bool = False) -> None:
        self._duration = duration
        self._reading_ns = reading_ns
        self._ns = 0.0
        self._waiting = 0.0
        self.calls: list[int] = []
        self.synchronize = self._wait if queue else None

    def now(self) -> int:
        self._ns += self._reading_ns
        return round(self._ns)

    def wait_ns(self, ns: float) -> None:
        """Lets time go by."""
        self._ns += ns

    def submit(self, slot: int) -> int:
        took = self._duration(len(self.calls), slot)
        self.calls.append(slot)
        if self.synchronize is None:
            self._ns += took
        else:
            self._waiting += took
        return slot

    def _wait(self) -> None:
        self._ns += self._waiting
        self._waiting = 0.0


def taken(planted: Planted, goal: Goal) -> tuple[Warm, Samples]:
    """Warm-up and samples of a planted case."""
    timer = Timer(planted, planted.now)
    warm = warm_up(timer, goal)
    return warm, sample(timer, goal, warm)

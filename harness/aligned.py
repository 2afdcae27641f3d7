"""Timing across ranks: all line up before each sample, outside the clock; a sample is the slowest rank's duration.

Each rank reads its own clock from its own start to its own completion. After some revolutions (or a window) the ranks tell each
other their durations, so that all of them see the same samples and decide alike when to stop; time spent is rank 0's.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from harness.sampling import Submits, Timer
from workloads.problem import SLOTS

if TYPE_CHECKING:
    from harness.ranks import Ranks

__all__ = ["AlignedTimer"]


class AlignedTimer(Timer):
    """A `Timer` whose durations are the slowest rank's, equal on all ranks."""

    def __init__(self, prepared: Submits, now: Callable[[], int], ranks: Ranks) -> None:
        super().__init__(prepared, self._spent)
        self._clock, self._ranks = now, ranks
        self._agreed_ns = 0
        self.own_ns: list[list[int]] = [[] for _ in range(ranks.count)]
        """Every duration so far, of each rank."""
        self.cpu_ns: list[list[int]] = [[] for _ in range(ranks.count)]
        """CPU time of each rank's process within each of them."""

    def _spent(self) -> int:
        """Rank 0's clock when the ranks last spoke."""
        return self._agreed_ns

    def calls(self, slots: list[int]) -> list[int]:
        return self._slowest([self._call(slot)[1] for slot in slots])

    def kept_revolution(self) -> tuple[list[Any], list[int]]:
        pairs = [self._call(slot) for slot in range(SLOTS)]
        return [handle for handle, _ in pairs], self._slowest([times for _, times in pairs])

    def window(self, revolutions: int, queued: bool) -> int:
        self._ranks.line_up()
        begin, busy = self._clock(), time.process_time_ns()
        for _ in range(revolutions):
            for slot in range(SLOTS):
                self._submit(slot)
                if self._wait is not None and not queued:
                    self._wait()
        if self._wait is not None and queued:
            self._wait()
        return self._slowest([(self._clock() - begin, time.process_time_ns() - busy)])[0]

    def sample_cost_ns(self) -> float:
        """The clock's alone: ranks wait for each other between samples, and that takes far more than a loop."""
        return self.clock_cost_ns()

    def clock_cost_ns(self) -> float:
        costs = []
        for _ in range(200):
            begin = self._clock()
            costs.append(self._clock() - begin)
        return max(self._ranks.share(statistics.median(costs)))

    def _call(self, slot: int) -> tuple[Any, tuple[int, int]]:
        self._ranks.line_up()
        busy = time.process_time_ns()
        begin = self._clock()
        handle = self._submit(slot)
        if self._wait is not None:
            self._wait()
        return handle, (self._clock() - begin, time.process_time_ns() - busy)

    def _slowest(self, own: list[tuple[int, int]]) -> list[int]:
        """Tells the others (duration, CPU time) of each call; the longest durations."""
        told = self._ranks.gather([self._clock(), *(ns for pair in own for ns in pair)])
        self._agreed_ns = told[0][0]
        for rank, one in enumerate(told):
            self.own_ns[rank] += one[1::2]
            self.cpu_ns[rank] += one[2::2]
        return [max(of_ranks) for of_ranks in zip(*(one[1::2] for one in told), strict=True)]

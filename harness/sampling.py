"""Warm-up and sampling: how long to go on, and what a sample is. Design, section 5.

Everything goes in whole revolutions of the ring of slots, by the clock that the target names. A sample is one call, with its
slot, unless clock and loop would cost more than 0.1 % of the call: then it is whole revolutions. Throughput queues the calls
of a window and waits once.
"""

from __future__ import annotations

import gc
import math
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Protocol

from results.statistics import Estimate, estimate
from workloads.problem import SLOTS

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "DRIFT",
    "FLOOR_REVOLUTIONS",
    "FLOOR_WINDOWS",
    "Form",
    "Goal",
    "Progress",
    "Sampler",
    "Samples",
    "Timer",
    "Warm",
    "form_of",
    "no_collector",
    "sample",
    "warm_up",
]

FLOOR_REVOLUTIONS = 3
FLOOR_WINDOWS = 6
CLOCK_SHARE = 0.001
"""Largest share of a sample that reading the clock, and the loop around it, may cost."""
COST_TAKES = 32
WINDOW_NS = 100_000_000
"""Shortest throughput window."""
TREND = 0.02
"""A block of warm-up that is faster than the one before by more than this shows that the trend is not gone."""
WARM_BLOCK_NS = 10_000_000
WARM_SHARE = 0.2
"""Largest share of the budget that warm-up may take beyond its first revolution."""
DRIFT = 0.02
TAKE_NS, MOST_TOGETHER = 16_000_000, 64
"""Revolutions of short calls go together until they take so long: what happens between them costs a cold cache each time."""
LOOK_GROWTH, MOST_GROWTH = 1.2, 4.0
"""The interval is looked at again when the samples have grown by the lesser of these factors, or by up to the greater until a
quarter is there of what would narrow it to the goal,"""
LOOK_SHARE = 0.0015
"""and not before a look (by the shortest for each sample) is so small a share of the time that has gone by since the last,"""
MOST_BETWEEN = 0.5
"""but when this share of the budget has gone by: a look during which the system did something else counts for nothing."""
VAIN, TOLD_NS = 4.0, 1_000_000_000
"""An interval of windows that is, by their ranks alone, so many times as wide as its goal is not looked at before so much time
has gone by (of one go): from then on a look is a small share of it, and tells how sampling goes."""


class Submits(Protocol):
    """The part of a prepared case that is timed."""

    synchronize: Callable[[], None] | None

    def submit(self, slot: int) -> Any:
        """Starts the work of a slot."""


class _Nothing:
    """A call of nothing."""

    synchronize: Callable[[], None] | None = None

    def submit(self, slot: int) -> None:
        """Does nothing."""


@dataclass(frozen=True)
class Goal:
    """When to stop: a relative half-width of the 95 % interval, or a budget in ns of sampling.

    `sustained` stops when its windows add up to the budget, however sure it is by then.
    """

    scenario: str
    precision: float
    budget_ns: int


@dataclass(frozen=True)
class Progress:
    """What is known at a look at the interval."""

    estimate: Estimate
    elapsed_ns: int
    budget_ns: int


@dataclass(frozen=True)
class Warm:
    """How a warm-up ended. `handles` are the outputs of its first revolution, one a slot."""

    handles: list[Any]
    call_ns: float
    calls: int


@dataclass(frozen=True)
class Samples:
    """Durations in ns, each of `calls_per_sample` calls; `slots` as in the record."""

    ns: list[int]
    slots: list[int] | None
    calls_per_sample: int
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Form:
    """What a sample is: one call of one slot (`revolutions` = 0), or whole revolutions, queued or each call waited for."""

    revolutions: int = 0
    queued: bool = False

    @property
    def calls(self) -> int:
        """Calls of a sample."""
        return SLOTS * self.revolutions or 1

    @property
    def floor(self) -> int:
        """Fewest samples of a measurement."""
        return FLOOR_WINDOWS if self.revolutions else FLOOR_REVOLUTIONS * SLOTS


def _called(submit: Callable[[int], Any], revolutions: int) -> None:
    """Whole revolutions of calls, spelled out: a loop over the slots would cost an empty call a tenth of its time."""
    for _ in repeat(None, revolutions):
        submit(0)
        submit(1)
        submit(2)
        submit(3)
        submit(4)
        submit(5)
        submit(6)
        submit(7)
        submit(8)
        submit(9)
        submit(10)
        submit(11)
        submit(12)
        submit(13)
        submit(14)
        submit(15)


class Timer:
    """Times the calls of one prepared case by one clock (`now`, ns)."""

    def __init__(self, prepared: Submits, now: Callable[[], int]) -> None:
        self.now = now
        self._submit = prepared.submit
        self._wait = prepared.synchronize

    def revolution(self, count: int = 1) -> list[int]:
        """Durations in ns of one call of every slot, each from submit to completion, so many times over."""
        return self.calls(list(range(SLOTS)) * count)

    def calls(self, slots: list[int]) -> list[int]:
        """Durations in ns of one call of each of these slots, each from submit to completion."""
        return self._synchronous(slots) if self._wait is None else self._waiting(slots, self._wait)

    def _synchronous(self, slots: list[int]) -> list[int]:
        durations, submit, now = [0] * len(slots), self._submit, self.now
        for number, slot in enumerate(slots):
            begin = now()
            handle = submit(slot)
            durations[number] = now() - begin
            del handle  # freed here, outside the timed region
        return durations

    def _waiting(self, slots: list[int], wait: Callable[[], None]) -> list[int]:
        durations, submit, now = [0] * len(slots), self._submit, self.now
        for number, slot in enumerate(slots):
            begin = now()
            handle = submit(slot)
            wait()
            durations[number] = now() - begin
            del handle
        return durations

    def repeated(self, count: int) -> int:
        """Duration in ns of so many calls of slot 0, each completed before the next."""
        submit, wait = self._submit, self._wait
        begin = self.now()
        for _ in range(count):
            submit(0)
            if wait is not None:
                wait()
        return self.now() - begin

    def window(self, revolutions: int, queued: bool) -> int:
        """Duration in ns of whole revolutions: each call completed before the next, or all queued and waited for once."""
        submit, wait = self._submit, self._wait
        begin = self.now()
        if wait is not None and not queued:
            for slot in chain.from_iterable(repeat(range(SLOTS), revolutions)):
                submit(slot)
                wait()
            return self.now() - begin
        _called(submit, revolutions)
        if wait is not None:
            wait()
        return self.now() - begin

    def kept_revolution(self) -> tuple[list[Any], list[int]]:
        """One revolution whose outputs are kept: their handles and the durations in ns."""
        handles, durations = [], []
        for slot in range(SLOTS):
            begin = self.now()
            handles.append(self._submit(slot))
            if self._wait is not None:
                self._wait()
            durations.append(self.now() - begin)
        return handles, durations

    def sample_cost_ns(self) -> float:
        """What a sample of one call takes beside the call, clock and loop: calls of nothing one by one, less those of a window.

        The shortest of some takes is what runs of one machine agree on, and so a call has the same samples in nearly all.
        """
        nothing, slots = Timer(_Nothing(), self.now), list(range(SLOTS))
        alone, whole = math.inf, math.inf
        for _ in range(COST_TAKES):
            begin = self.now()
            nothing.calls(slots)
            alone = min(alone, self.now() - begin)
            whole = min(whole, nothing.window(1, queued=False))
        return max(alone - whole, 0.0) / SLOTS

    def clock_cost_ns(self) -> float:
        """What timing nothing costs: the median of 200 empty timings."""
        now = self.now
        costs = []
        for _ in range(200):
            begin = now()
            costs.append(now() - begin)
        return statistics.median(costs)


def warm_up(
    timer: Timer, goal: Goal, needs: Callable[[float], None] = lambda seconds: None, least_blocks: int = 1
) -> Warm:
    """Calls until times no longer fall: one revolution and `least_blocks` at least, then at most a fifth of the budget.

    `needs` is told how many seconds lie ahead, as soon as one revolution has shown how long a call takes.
    """
    handles, durations = timer.kept_revolution()
    call = statistics.median(durations)
    needs((call * SLOTS * (FLOOR_REVOLUTIONS + 3) + goal.budget_ns * (1 + WARM_SHARE)) / 1e9)
    calls, blocks = SLOTS, 0
    limit = timer.now() + goal.budget_ns * WARM_SHARE
    while timer.now() + call * SLOTS < limit or blocks < least_blocks:
        revolutions = max(1, math.ceil(WARM_BLOCK_NS / max(call * SLOTS, 1)))
        revolutions = min(revolutions, 1000)
        block = timer.revolution(revolutions)
        calls, blocks = calls + len(block), blocks + 1
        before, call = call, statistics.median(block)
        if call > before * (1 - TREND):
            break
    return Warm(handles, call, calls)


@contextmanager
def no_collector() -> Iterator[None]:
    """Keeps Python's collector out of the samples."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def form_of(timer: Timer, goal: Goal, warm: Warm) -> Form:
    """One call a sample, unless clock and loop would cost too much of it or calls are to be queued."""
    if goal.scenario != "latency":
        return Form(_window_revolutions(timer, warm.call_ns), queued=True)
    if timer.sample_cost_ns() <= CLOCK_SHARE * warm.call_ns:
        return Form()
    clock = timer.clock_cost_ns()  # a window has hardly any other cost
    return Form(max(1, math.ceil(clock / (CLOCK_SHARE * SLOTS * max(warm.call_ns - clock, 1.0)))))


def _window_revolutions(timer: Timer, call_ns: float) -> int:
    """Revolutions that fill a throughput window, judged by one that is queued (shorter than single calls are)."""
    first = max(1, math.ceil(WINDOW_NS / max(call_ns * SLOTS, 1)))
    took = timer.window(first, queued=True)
    return max(1, math.ceil(1.05 * first * WINDOW_NS / max(took, 1)))


def sample(timer: Timer, goal: Goal, warm: Warm, progress: Callable[[Progress], None] = lambda now: None) -> Samples:
    """Takes samples until the interval is narrow enough or the budget is spent; the floor is finished whatever it takes."""
    with no_collector():
        sampler = Sampler(timer, goal, form_of(timer, goal, warm))
        sampler.go(goal.budget_ns, progress)
    return sampler.samples


class Sampler:
    """Takes samples of one form, in one go or several."""

    def __init__(self, timer: Timer, goal: Goal, form: Form) -> None:
        self.form = form
        self.ns: list[int] = []
        self.canary_ns: list[int] = []
        self._timer = timer
        self._goal = goal
        self._look_ns_each = math.inf
        self._together = 1

    @property
    def floor(self) -> int:
        """Fewest samples of one go."""
        return self.form.floor

    @property
    def shares(self) -> int:
        """Shares that took turns with a canary's: none here."""
        return 0

    @property
    def slots(self) -> list[int] | None:
        """The slot of each sample."""
        return None if self.form.revolutions else list(range(SLOTS)) * (len(self.ns) // SLOTS)

    @property
    def samples(self) -> Samples:
        """All samples so far, with the warnings that they deserve."""
        return Samples(self.ns, self.slots, self.form.calls, _warnings(self, self._goal))

    def take(self) -> None:
        """Samples of whole revolutions: of one, or of as many short ones as go together."""
        begin, form, timer = self._timer.now(), self.form, self._timer
        if form.revolutions:
            self.ns += [timer.window(form.revolutions, form.queued) for _ in range(self._together)]
        else:
            self.ns += timer.revolution(self._together)
        took = timer.now() - begin
        self._together = max(1, min(self._together * TAKE_NS // max(took, 1), MOST_TOGETHER))

    @property
    def _vain(self) -> bool:
        """Whether a look at windows would most likely not end sampling: half a root of n of their ranks is a standard error."""
        if not self.form.revolutions:
            return False
        ordered, middle = sorted(self.ns), len(self.ns) // 2
        reach = max(1, round(math.sqrt(len(ordered)) / 2))
        return ordered[middle + reach] - ordered[middle - reach] > VAIN * self._goal.precision * ordered[middle]

    def go(
        self,
        length_ns: int,
        progress: Callable[[Progress], None] = lambda now: None,
        look: Callable[[], None] = lambda: None,
    ) -> int:
        """Takes samples until the interval of all so far is narrow enough or the time is up, but a floor at least.

        `look` is called between samples. Returns the time that it took, in ns.
        """
        sustained, begin, before, worked = self._goal.scenario == "sustained", self._timer.now(), len(self.ns), 0
        least, look_at, due = before + self.floor, 0.0, 0.0
        while True:
            known = len(self.ns)
            self.take()
            look()
            count = len(self.ns)
            if sustained:
                worked += sum(self.ns[known:])
            elapsed = worked if sustained else self._timer.now() - begin
            if count < least:
                continue
            if elapsed >= length_ns:
                return elapsed
            if count < look_at or elapsed < due:
                continue
            if elapsed < TOLD_NS and self._vain:
                look_at = count * max(LOOK_GROWTH, min(TOLD_NS / max(elapsed, 1), MOST_GROWTH))
                continue
            looked = self._timer.now()
            now = estimate(self.ns, self.slots, self.form.calls)
            self._look_ns_each = min(self._look_ns_each, (self._timer.now() - looked) / count)
            look_at = count * (LOOK_GROWTH if sustained else _growth(now.precision / self._goal.precision))
            due = elapsed + min(count * self._look_ns_each / LOOK_SHARE, MOST_BETWEEN * length_ns)
            progress(Progress(now, elapsed, length_ns))
            if not sustained and now.precision <= self._goal.precision:
                return elapsed


def _growth(wide: float) -> float:
    """How many times the samples there shall be at the next look, where the interval is so many times as wide as its goal.

    Intervals narrow with the root of the number of samples. One without bounds says nothing of how many that takes.
    """
    return max(LOOK_GROWTH, min(wide * wide / 4, MOST_GROWTH)) if math.isfinite(wide) else LOOK_GROWTH


def _warnings(taken: Sampler, goal: Goal) -> list[str]:
    whole = estimate(taken.ns, taken.slots, taken.form.calls)
    found = ["noisy"] if whole.precision > goal.precision else []
    return found + (["drift"] if _drifted(taken) else [])


def _drifted(taken: Sampler) -> bool:
    """True where the medians of the first and the last third differ by more than 2 %, and by more than their own intervals.

    The intervals are those of independent samples: a trend would widen the estimate's own interval until it hid itself.
    """
    import numpy as np

    levels = _levels(taken)
    third = len(levels) // 3
    first, last = levels[:third], levels[-third:]
    difference = abs(float(np.median(last) - np.median(first)))
    return difference > max(DRIFT, math.hypot(_half_width(first), _half_width(last)))


def _levels(taken: Sampler) -> np.ndarray:
    """Each sample over the median of its slot (of all samples, where they have none)."""
    import numpy as np

    table = np.maximum(np.reshape(taken.ns, (-1, 1 if taken.form.revolutions else SLOTS)), 1)
    return np.ravel(table / np.median(table, axis=0))


def _half_width(levels: np.ndarray) -> float:
    """Half of the 95 % interval of the median: 1.96 * 1.2533 standard errors, the deviation from the median one (1.4826)."""
    import numpy as np

    spread = 1.4826 * float(np.median(np.abs(levels - np.median(levels))))
    return 1.96 * 1.2533 * spread / math.sqrt(len(levels))

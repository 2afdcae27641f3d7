"""Two ways of doing the same work take short turns in random order: the ratio of their times, with an interval."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log

from results.pairs import centre_of
from results.statistics import Ratio
from results.student import t_quantile

__all__ = ["Outcome", "contest", "fastest", "ratio_of"]

Call = Callable[[int], object]
"""Does the work on the inputs of a slot."""

SLOTS = 16
TURN_S, LEAST_TURNS, MOST_S = 0.012, 20, 12.0
TRIES, TRY_S = 5, 2.0
BATCHES = 10


@dataclass(frozen=True)
class Outcome:
    """Time of the first over time of the second, and the median time of a call of each in ms."""

    ratio: Ratio
    first_ms: float
    second_ms: float
    turns: int

    @property
    def verdict(self) -> str:
        """`ahead`, `not slower by 5 %`, `unsure` or `slower`."""
        if self.ratio.low > 1.05:
            return "slower"
        if self.ratio.high < 1.0:
            return "ahead"
        return "not slower by 5 %" if self.ratio.high <= 1.05 else "unsure"


def fastest(contestants: Mapping[str, Call], seed: int = 0) -> str:
    """The name of the one with the least median over a few turns of each, in random order."""
    order, times = random.Random(seed), {name: list[float]() for name in contestants}
    for call in contestants.values():
        _turn(call, 0, 1)
    spent = time.perf_counter()
    for number in range(TRIES):
        for name in order.sample(list(contestants), len(contestants)):
            times[name].append(_turn(contestants[name], number, 1))
        if time.perf_counter() - spent > TRY_S * len(contestants):
            break
    return min(times, key=lambda name: statistics.median(times[name]))


def contest(first: Call, second: Call, seed: int = 0) -> Outcome:
    """Turns of both on the same slots until there are enough; the first turn of each is thrown away."""
    order = random.Random(seed)
    call_s = max(_turn(one, 0, 1) for one in (first, second) for _ in range(2))
    calls = max(1, min(64, round(TURN_S / call_s)))
    logs: list[float] = []
    times: tuple[list[float], list[float]] = ([], [])
    began, position = time.perf_counter(), 0
    while len(logs) < LEAST_TURNS or time.perf_counter() - began < 1.0:
        found = {}
        for which in order.sample((0, 1), 2):
            found[which] = _turn((first, second)[which], position, calls)
            times[which].append(found[which])
        logs.append(log(found[0] / found[1]))
        position += calls
        if time.perf_counter() - began > MOST_S and len(logs) >= BATCHES:
            break
    ratio = ratio_of(logs)
    medians = [1e3 * statistics.median(one) for one in times]
    return Outcome(ratio, medians[0], medians[1], len(logs))


def ratio_of(logs: Sequence[float]) -> Ratio:
    """The ratio behind the logs of pairs' ratios, in the order in which they were taken."""
    centre = centre_of(list(logs))
    half = centre.error * t_quantile(0.975, BATCHES - 1)
    return Ratio(exp(centre.log), exp(centre.log - half), exp(centre.log + half))


def _turn(call: Call, position: int, calls: int) -> float:
    """Seconds of one call, over so many on consecutive slots."""
    begin = time.perf_counter()
    for number in range(calls):
        call((position + number) % SLOTS)
    return (time.perf_counter() - begin) / calls

"""How often the 95 % interval of a measurement holds the truth, by kind of noise and number of revolutions.

python -m benchmarks.coverage            the table: 1000 trials a cell, fixed counts, and as sampling stops by itself
python -m benchmarks.coverage --trials 200
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from harness.sampling import Goal, Timer, sample, warm_up
from results.statistics import Estimate, Series, levels
from workloads.problem import SLOTS

__all__ = ["KINDS", "Kind", "Tally", "covered", "covered_when_stopped", "main"]

SLOT_NS = 1e6 * (1 + np.arange(SLOTS) / SLOTS)
"""Slots of different work: 1 to 1.94 ms."""
REVOLUTIONS = (3, 5, 8, 12, 20, 40, 100)
PRECISION, BUDGET_NS = 0.01, 400_000_000

Draw = Callable[[np.random.Generator, int], np.ndarray]
"""(generator, revolutions) -> [revolutions, slots], each the time of a call over the true one."""


@dataclass(frozen=True)
class Kind:
    """A kind of noise. The truth is the median of each slot; of a drift, whose median moves, the mean over the time sampled."""

    name: str
    draw: Draw
    truth: Callable[[int], float] = lambda revolutions: 1.0


@dataclass(frozen=True)
class Tally:
    """Of how many intervals so many held the truth, and their median half-width over the estimate."""

    trials: int
    held: int
    precision: float

    @property
    def share(self) -> float:
        """Of intervals that held the truth."""
        return self.held / self.trials


def _normal(draw: np.random.Generator, count: int) -> np.ndarray:
    return 1 + 0.02 * draw.standard_normal((count, SLOTS))


def _log_normal(draw: np.random.Generator, count: int) -> np.ndarray:
    return np.exp(0.3 * draw.standard_normal((count, SLOTS)))


def _tail(draw: np.random.Generator, count: int) -> np.ndarray:
    """One call in twenty is preempted, for twice its time on average; the median knows."""
    struck = (draw.random((count, SLOTS)) < 0.05) * draw.exponential(2, (count, SLOTS))
    return (1 - _shift(0.05, 0.005) + 0.005 * draw.standard_normal((count, SLOTS))) * (1 + struck)


def _shift(slow: float, spread: float) -> float:
    """How far above its centre the median of all lies in the fast mode."""
    return spread * NormalDist().inv_cdf(0.5 / (1 - slow))


def _bimodal(slow: float, gap: float, common: bool = False) -> Draw:
    def draw(drawn: np.random.Generator, count: int) -> np.ndarray:
        hit = drawn.random((count, 1 if common else SLOTS)) < slow
        return 1 - _shift(slow, 0.01) + gap * hit + 0.01 * drawn.standard_normal((count, SLOTS))

    return draw


def _autoregressive(drawn: np.random.Generator, count: int, rho: float) -> np.ndarray:
    """[count] of unit variance."""
    noise, level = drawn.standard_normal(count), np.empty(count)
    level[0] = noise[0]
    for i in range(1, count):
        level[i] = rho * level[i - 1] + math.sqrt(1 - rho**2) * noise[i]
    return level


def _common(draw: np.random.Generator, count: int) -> np.ndarray:
    return np.repeat(np.exp(0.02 * draw.standard_normal((count, 1))), SLOTS, axis=1)


def _revolutions_remember(rho: float) -> Draw:
    def draw(drawn: np.random.Generator, count: int) -> np.ndarray:
        level = _autoregressive(drawn, count, rho)[:, None]
        return np.exp(0.02 * level + 0.02 * drawn.standard_normal((count, SLOTS)))

    return draw


def _calls_remember(rho: float) -> Draw:
    def draw(drawn: np.random.Generator, count: int) -> np.ndarray:
        return np.exp(0.02 * _autoregressive(drawn, count * SLOTS, rho)).reshape(count, SLOTS)

    return draw


def _drifting(total: float) -> Kind:
    def path(count: int) -> np.ndarray:
        return np.exp(np.linspace(0, total, count))

    def draw(drawn: np.random.Generator, count: int) -> np.ndarray:
        return path(count)[:, None] * np.exp(0.02 * drawn.standard_normal((count, SLOTS)))

    return Kind(f"drift of {total:.0%}", draw, lambda count: float(path(count).mean()))


KINDS = {
    kind.name: kind
    for kind in (
        Kind("normal", _normal),
        Kind("log-normal", _log_normal),
        Kind("preempted 5%", _tail),
        Kind("bimodal 20%/+20%", _bimodal(0.2, 0.2)),
        Kind("bimodal 40%/+30%", _bimodal(0.4, 0.3)),
        Kind("bimodal 40%/+5%", _bimodal(0.4, 0.05)),
        Kind("whole revolutions", _common),
        Kind("... bimodal 40%", _bimodal(0.4, 0.3, common=True)),
        Kind("AR revolutions 0.3", _revolutions_remember(0.3)),
        Kind("AR revolutions 0.6", _revolutions_remember(0.6)),
        Kind("AR revolutions 0.9", _revolutions_remember(0.9)),
        Kind("AR calls 0.9", _calls_remember(0.9)),
        Kind("AR calls 0.98", _calls_remember(0.98)),
        _drifting(0.05),
    )
}


def covered(kind: Kind, revolutions: int, trials: int, seed: int = 0) -> Tally:
    """Intervals of so many revolutions each."""
    drawn = np.random.default_rng(seed)
    slots = list(range(SLOTS)) * revolutions
    tables = [np.rint(SLOT_NS * kind.draw(drawn, revolutions)).astype(int) for _ in range(trials)]
    found = [level.estimate for level in levels([Series(table.ravel().tolist(), slots) for table in tables])]
    return _tally(found, SLOT_NS.mean() * kind.truth(revolutions))


def covered_when_stopped(kind: Kind, trials: int, seed: int = 0) -> Tally:
    """Intervals of what sampling takes when it stops by itself: at +-1 %, or after 0.4 s."""
    drawn, found = np.random.default_rng(seed), []
    most = math.ceil(2 * BUDGET_NS / SLOT_NS.sum()) + 100
    for _ in range(trials):
        played = _Played(np.rint(SLOT_NS * kind.draw(drawn, most)).ravel())
        timer, goal = Timer(played, played.now), Goal("latency", PRECISION, BUDGET_NS)
        taken = sample(timer, goal, warm_up(timer, goal))
        found.append(levels([Series(taken.ns, taken.slots)])[0].estimate)
    return _tally(found, float(SLOT_NS.mean()))


def _tally(found: Sequence[Estimate], truth: float) -> Tally:
    held = sum(one.low_ns <= truth <= one.high_ns for one in found)
    return Tally(len(found), held, float(np.median([one.precision for one in found])))


class _Played:
    """A prepared case whose calls take these durations, one after the other, by a clock of its own."""

    synchronize: Callable[[], None] | None = None

    def __init__(self, durations: np.ndarray) -> None:
        self._durations = durations
        self._calls = 0
        self._ns = 0.0

    def now(self) -> int:
        """Nanoseconds."""
        return round(self._ns)

    def submit(self, slot: int) -> int:
        """One call; from the beginning again after the last."""
        self._ns += float(self._durations[self._calls % len(self._durations)])
        self._calls += 1
        return slot


def main() -> None:
    """Prints the table: share of intervals that held the truth in %, and below it the median half-width in %."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    trials = parser.parse_args().trials
    print(f"{trials} trials a cell: share of 95 % intervals that hold the truth (median half-width), both in %\n")
    print(f"{'':20}" + "".join(f"{count:>14}" for count in REVOLUTIONS) + f"{'until +-1 %':>14}")
    for kind in KINDS.values():
        cells = [covered(kind, count, trials) for count in REVOLUTIONS]
        cells += [covered_when_stopped(kind, trials // 4)] if kind.truth(3) == 1 else []
        print(
            f"{kind.name:20}" + "".join(f"{100 * c.share:8.1f} ({100 * c.precision:3.1f})" for c in cells), flush=True
        )


if __name__ == "__main__":
    main()

"""Two recorded runs, minutes or months apart: what differs beyond what the machine did to the case and to its canary alike.

Each process took short shares of a case and of a canary by turns. All on the log scale:

1. *Share*: the case's level is the median of its samples over the slots' profile, the canary's the median of its samples.
2. *Response*: how much of what moves the canary moves the case, b, from the processes of both runs, each around the mean of its
   run: ridge regression towards 1, the plain ratio, since b = 1 +- 0.25 is what is known of a canary of the same kind.
3. *Process*: the centre of its shares' case - b * canary, with its error (`results.pairs.centres_of`).
4. *Run*: the centres of its processes joined; the spread between processes is pooled over all cases of the comparison where
   there are enough of them (`results.pairs.joined`).
5. *Difference*: new run less base run. Its variance is that of both, more for rounds that remember the one before, what is not
   known of b times the square of what the canary changed by, and what runs of equal code are known to differ by all the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from results.matching import Match
from results.pairs import LEAST_FOR_CENTRE, Calibration, Centre, Joined, centres_of, joined, pooled
from results.record import Measurement
from results.statistics import Series, columns, process_levels

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Difference", "Side", "differences", "mean_difference", "run_spread", "sides_of"]

PRIOR_RESPONSE = 1.0
PRIOR_SPREAD = 0.25
"""What is known of b beforehand, as mean and standard deviation."""
ROUND_MEMORY = 2.0
"""What the memory of one round for the last adds to the variance of a run's mean, as factor."""
RUN_SPREAD = {"cold": 0.025, "hot": 0.005}
"""What two runs of equal code differ by, canary and processes apart, as standard deviation of the log ratio, by the first word
of the canary's name. From 12 runs within an hour on two cores of a machine shared with strangers, whose memory NumPy's canary
meets in another way than a layer does. A machine of one's own is calmer, and its runs say so (`results.history`)."""


def run_spread(canary: str) -> float:
    """The spread where no history tells; a canary of an unknown kind has the larger one."""
    return RUN_SPREAD.get(canary.partition(" ")[0], RUN_SPREAD["cold"])


@dataclass(frozen=True)
class Side:
    """One measurement of a comparison: log ns of the case and of the canary in each share of each process."""

    case: tuple[np.ndarray, ...]
    canary: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, line: Measurement) -> Side | None:
        """None where the measurement has fewer than two processes, no canary, or too few shares for a centre."""
        if line.processes < 2 or not line.canary_ns:
            return None
        found = _shares(line)
        if any(len(case) < LEAST_FOR_CENTRE for case, _ in found):
            return None
        return cls(tuple(case for case, _ in found), tuple(canary for _, canary in found))

    @cached_property
    def levels(self) -> np.ndarray:
        """Median levels of case and canary, [2, processes]."""
        import numpy as np

        return np.array([[np.median(one) for one in logs] for logs in (self.case, self.canary)])

    def beyond(self, response: float) -> list[np.ndarray]:
        """Case - b * canary in each share of each process."""
        return [case - response * canary for case, canary in zip(self.case, self.canary, strict=True)]


def _shares(line: Measurement) -> list[tuple[np.ndarray, np.ndarray]]:
    """Step 1, for each process: levels of case and canary in each share."""
    import numpy as np

    series = Series.of(line)
    profile = process_levels(series)[1]
    free = np.log(np.maximum(line.samples_ns, 0.5)) - math.log(line.calls_per_sample) + profile.mean()
    free -= profile[columns(line.slots)] if line.slots is not None else profile[0]
    canary = np.log(np.maximum(line.canary_ns, 0.5)) - math.log(line.canary_calls)
    found: dict[int, tuple[list[np.ndarray], list[np.ndarray]]] = {}
    at = [0, 0]
    for turn in line.turns:
        case_of, canary_of = found.setdefault(turn.process, ([], []))
        case_of.append(np.median(free[at[0] : at[0] + turn.samples].reshape(turn.shares, -1), axis=1))
        canary_of.append(np.median(canary[at[1] : at[1] + turn.canary].reshape(turn.shares, -1), axis=1))
        at = [at[0] + turn.samples, at[1] + turn.canary]
    return [(np.concatenate(case), np.concatenate(beside)) for case, beside in found.values()]


def sides_of(matches: Sequence[Match]) -> dict[str, list[tuple[Match, tuple[Side, Side]]]]:
    """By canary the matches whose sides both took turns with it."""
    groups: dict[str, list[tuple[Match, tuple[Side, Side]]]] = {}
    for match in matches:
        if match.reason or match.base is None or match.new is None or match.base[0].canary != match.new[0].canary:
            continue
        if not (match.base[0].canary_ns and match.new[0].canary_ns):
            continue
        base, new = (Side.of(side[0]) for side in (match.base, match.new))
        if base and new:
            groups.setdefault(str(match.base[0].canary), []).append((match, (base, new)))
    return groups


@dataclass(frozen=True)
class Difference:
    """New over base (log ratio) of one case."""

    joined: Joined
    canary: float
    """Log ratio of the canary."""
    response: float
    unknown: float
    """Standard error of what the canary's change did to the case, and of what runs differ by."""
    centres: tuple[tuple[float, ...], tuple[float, ...]]
    """Of the processes of base and new, the canary taken out."""


def differences(cases: Sequence[tuple[Side, Side]], spread: float) -> list[Difference]:
    """New over base of each case, given as (base, new), all beside one canary; `spread` as in `run_spread`."""
    noise = _noise(cases)
    responses = [_response(pair, noise) for pair in cases]
    centres = _centres([side.beyond(one.slope) for pair, one in zip(cases, responses, strict=True) for side in pair])
    tau, sides = pooled(centres), iter(centres)
    together = zip(cases, zip(sides, sides, strict=True), responses, strict=True)
    return [_difference(*parts, tau, spread) for parts in together]


def _centres(sides: Sequence[Sequence[np.ndarray]]) -> list[list[Centre]]:
    """Step 3 for every process of every side; those with equally many shares at once."""
    import numpy as np

    by_length: dict[int, list[tuple[int, int]]] = {}
    for number, processes in enumerate(sides):
        for process, shares in enumerate(processes):
            by_length.setdefault(len(shares), []).append((number, process))
    found: dict[tuple[int, int], Centre] = {}
    for places in by_length.values():
        rows = np.stack([sides[number][process] for number, process in places])
        found |= dict(zip(places, centres_of(rows), strict=True))
    return [[found[number, process] for process in range(len(side))] for number, side in enumerate(sides)]


def mean_difference(several: Sequence[Difference]) -> Joined:
    """Their mean. Cases of one process have its luck in common, so the processes' means over all cases are what is joined.

    Processes are paired by their number; where cases have different numbers of them, the fewest count.
    """
    base, new = (joined([Centre(log, 0.0, 0) for log in _means([one.centres[n] for one in several])]) for n in (0, 1))
    log = math.fsum(one.joined.log for one in several) / len(several)
    found = _joined(base, new, (math.fsum(one.unknown for one in several) / len(several)) ** 2)
    return replace(found, log=log)


def _means(centres: Sequence[Sequence[float]]) -> list[float]:
    return [math.fsum(process) / len(process) for process in zip(*centres, strict=False)]


def _difference(
    pair: tuple[Side, Side],
    centres: Sequence[Sequence[Centre]],
    response: _Response,
    tau: Calibration | None,
    spread: float,
) -> Difference:
    moved = float(pair[1].levels[1].mean() - pair[0].levels[1].mean())
    unknown = math.hypot(response.error * moved, spread)
    base, new = (joined(side, tau) for side in centres)
    logs = tuple(tuple(one.log for one in side) for side in centres)
    return Difference(_joined(base, new, unknown**2), moved, response.slope, unknown, (logs[0], logs[1]))


def _joined(base: Joined, new: Joined, more: float) -> Joined:
    """Step 5; degrees of freedom by Welch and Satterthwaite, what is known beforehand taken as sure."""
    squares = [ROUND_MEMORY * side.error**2 for side in (base, new)]
    below = sum(square**2 / side.degrees for square, side in zip(squares, (base, new), strict=True))
    whole = sum(squares) + more
    degrees = whole**2 / below if below else math.inf
    return Joined(new.log - base.log, math.sqrt(whole), degrees, min(base.pairs, new.pairs))


@dataclass(frozen=True)
class _Response:
    slope: float
    error: float


def _response(pair: tuple[Side, Side], noise: float) -> _Response:
    """Step 2 for one case, given the variance of a process around the line."""
    across, along = _moments(pair)
    ridge = noise / PRIOR_SPREAD**2
    if along + ridge == 0:
        return _Response(PRIOR_RESPONSE, 0.0)
    return _Response((across + PRIOR_RESPONSE * ridge) / (along + ridge), math.sqrt(noise / (along + ridge)))


def _moments(pair: tuple[Side, Side]) -> tuple[float, float]:
    """Sums of case * canary and of canary^2, both around the mean of their run."""
    import numpy as np

    free = [side.levels - side.levels.mean(axis=1, keepdims=True) for side in pair]
    return tuple(float(sum(np.dot(one[row], one[1]) for one in free)) for row in (0, 1))  # type: ignore[return-value]


def _noise(cases: Sequence[tuple[Side, Side]]) -> float:
    """Variance of a process around the line case = b * canary, pooled over all cases."""
    import numpy as np

    slopes, found = [PRIOR_RESPONSE] * len(cases), 0.0
    for _ in range(3):
        squares, degrees = 0.0, 0
        for pair, slope in zip(cases, slopes, strict=True):
            for side in pair:
                rest = side.levels[0] - slope * side.levels[1]
                squares += float(np.sum((rest - rest.mean()) ** 2))
                degrees += len(rest) - 1
        found = squares / degrees
        slopes = [_response(pair, found).slope for pair in cases]
    return found

"""Two recorded runs, minutes or months apart: what differs beyond what the machine did to the case and to its canary alike.

Each process took short shares of a case and of a canary by turns. All on the log scale:

1. *Share*: the case's level is the median of its samples over the slots' profile, the canary's the median of its samples.
2. *Response*: how much of what moves the canary moves the case, b, from the processes of both runs, each around the mean of its
   run. Ridge regression twice: one b for all cases together towards 1, the plain ratio, since 1 +- 0.5 is what is known of a
   canary of the same kind; then each case's own towards that, since cases differ by as much (0.5 to 1.6 in one comparison).
3. *Process*: the centre of its shares' case - b * canary, with its error (`results.pairs.centres_of`).
4. *Run*: the centres of its processes joined; the spread between processes is pooled over all cases of the comparison where
   there are enough of them (`results.pairs.joined`).
5. *Difference*: new run less base run. Its variance is that of both, more for rounds that remember the one before, what is not
   known of b times the square of what the canary changed by, and what runs of equal code are known to differ by all the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from results.matching import Match
from results.pairs import LEAST_FOR_CENTRE, Calibration, Centre, Joined, centres_of, joined, pooled
from results.record import Measurement
from results.stacks import medians, stacks
from results.statistics import Series, columns, slot_profiles

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Difference", "Side", "differences", "mean_difference", "run_spread", "sides_from", "sides_of"]

PRIOR_RESPONSE, PRIOR_SPREAD = 1.0, 0.5
"""What is known beforehand of the b that cases have in common, as mean and standard deviation."""
CASES_SPREAD = 0.5
"""What b of one case differs by from that, as standard deviation: in 11 runs of seven layers it was 0.5 to 1.6."""
ROUND_MEMORY = 2.0
"""What the memory of one round for the last adds to the variance of a run's mean, as factor."""
RUN_SPREADS = {"hot ": 0.008, "cold fp32 64x64x64 and ": 0.008}
OTHER_SPREAD = 0.025
"""What two runs of equal code differ by, canary and processes apart, as standard deviation of the log ratio, by what the
canary's name begins with. Of 20 runs of ten processes in two hours, on two cores of a machine shared with strangers, pairs
differed by 0.5 % beside `cold`, the one that reads memory, and by 0.85 % beside `hot` (roots of the mean of squares; sets of
runs by 0 to 0.8 and 0 to 0.95 %), by 0.6 % over all cases: 0.8 % stands for both. The canary before `cold`,
which multiplied few rows with weights, left 2.5 %, and whatever is not known is taken to. A machine of one's own is calmer, and
its runs say so (`results.history`)."""

SEVERAL_THREADS = ", several threads"
"""Ends the name of a canary beside cases of a CPU target with more than its one thread: what takes the other cores slows these
cases and not the canary. A router on both cores of that machine was 13 % slower in one run than in the one before it."""
SEVERAL_THREADS_SPREAD = 0.05


def run_spread(canary: str) -> float:
    """The spread where no history tells; a canary of an unknown kind has the larger one."""
    if canary.endswith(SEVERAL_THREADS):
        return SEVERAL_THREADS_SPREAD
    return next((spread for begin, spread in RUN_SPREADS.items() if canary.startswith(begin)), OTHER_SPREAD)


class Side(NamedTuple):
    """One measurement of a comparison: log ns of the case and of the canary in each share of each process."""

    case: Sequence[np.ndarray]
    canary: Sequence[np.ndarray]


def sides_from(lines: Sequence[Measurement]) -> list[Side | None]:
    """Step 1; None where a measurement has fewer than two processes, no canary, or too few shares for a centre."""
    import numpy as np

    able = [number for number, line in enumerate(lines) if line.processes >= 2 and _took_turns(line)]
    profiles = slot_profiles([Series.of(lines[number]) for number in able])
    blocks: list[np.ndarray] = []
    """Of each turn the samples in rows, a row a share: the case's, then the canary's."""
    for number, profile in zip(able, profiles, strict=True):
        line = lines[number]
        free = np.log(np.maximum(line.samples_ns, 0.5)) - math.log(line.calls_per_sample) + profile.mean()
        free -= profile[columns(line.slots)] if line.slots is not None else profile[0]
        canary = np.log(np.maximum(line.canary_ns, 0.5)) - math.log(line.canary_calls)
        at = [0, 0]
        for turn in line.turns:
            ends = [at[0] + turn.samples, at[1] + turn.canary]
            blocks += [one[at[n] : ends[n]].reshape(turn.shares, -1) for n, one in enumerate((free, canary))]
            at = ends
    shares = iter(medians(blocks, axis=1))
    found: list[Side | None] = [None] * len(lines)
    for number in able:
        of_processes: dict[int, tuple[list[np.ndarray], list[np.ndarray]]] = {}
        for turn in lines[number].turns:
            for one in of_processes.setdefault(turn.process, ([], [])):
                one.append(next(shares))
        side = Side(*zip(*(map(_whole, one) for one in of_processes.values()), strict=True))
        if all(len(case) >= LEAST_FOR_CENTRE for case in side.case):
            found[number] = side
    return found


def _took_turns(line: Measurement) -> bool:
    return bool(line.canary_ns) and all(turn.samples and turn.canary for turn in line.turns)


def _whole(parts: Sequence[np.ndarray]) -> np.ndarray:
    import numpy as np

    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def sides_of(matches: Sequence[Match], several_threads: Set[str]) -> dict[str, list[tuple[Match, tuple[Side, Side]]]]:
    """By canary the matches whose sides both took turns with it; `several_threads`: the targets that have more than it has."""
    able = [
        match
        for match in matches
        if not (match.reason or match.base is None or match.new is None) and match.base[0].canary == match.new[0].canary
    ]
    sides = iter(sides_from([side[0] for match in able for side in (match.base, match.new) if side]))
    groups: dict[str, list[tuple[Match, tuple[Side, Side]]]] = {}
    for match, base, new in zip(able, sides, sides, strict=True):
        if base and new and match.base:
            beside = SEVERAL_THREADS if match.base[0].target in several_threads else ""
            groups.setdefault(f"{match.base[0].canary}{beside}", []).append((match, (base, new)))
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
    levels = _levels(cases)
    moved = [float(new[1].mean() - base[1].mean()) for base, new in levels]
    responses = _responses(levels)
    centres = _centres([_beyond(side, one.slope) for pair, one in zip(cases, responses, strict=True) for side in pair])
    tau, sides = pooled(centres), iter(centres)
    together = zip(moved, zip(sides, sides, strict=True), responses, strict=True)
    return [_difference(*parts, tau, spread) for parts in together]


def _levels(cases: Sequence[tuple[Side, Side]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of base and new of each case the median levels of case and canary, [2, processes]."""
    import numpy as np

    found = iter(medians([shares for pair in cases for side in pair for one in side for shares in one], axis=0))
    levels = (np.array([[next(found) for _ in one] for one in side]) for pair in cases for side in pair)
    return list(zip(levels, levels, strict=True))


def _beyond(side: Side, response: float) -> list[np.ndarray]:
    """Case - b * canary in each share of each process."""
    return [case - response * canary for case, canary in zip(side.case, side.canary, strict=True)]


def _centres(sides: Sequence[Sequence[np.ndarray]]) -> list[list[Centre]]:
    """Step 3 for every process of every side; those with equally many shares at once."""
    found: dict[int, Centre] = {}
    for numbers, rows in stacks([shares for processes in sides for shares in processes]):
        found |= zip(numbers, centres_of(rows), strict=True)
    numbered = iter(range(len(found)))
    return [[found[next(numbered)] for _ in processes] for processes in sides]


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
    moved: float,
    centres: Sequence[Sequence[Centre]],
    response: _Response,
    tau: Calibration | None,
    spread: float,
) -> Difference:
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


def _responses(levels: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[_Response]:
    """Step 2 for every case, from the levels of its sides; what varies around the lines is pooled over all of them."""
    import numpy as np

    case, canary = _around_means(levels)
    across, along = (np.sum(one * canary, axis=(1, 2)) for one in (case, canary))
    degrees = sum(side.shape[1] - 1 for pair in levels for side in pair)
    common, slopes, errors, fitted = PRIOR_RESPONSE, np.full(len(levels), PRIOR_RESPONSE), np.zeros(len(levels)), 0.0
    for _ in range(3):
        noise = float(np.sum((case - slopes[:, None, None] * canary) ** 2)) / max(degrees - fitted, 1.0)
        common, known = _common_response(case, canary, common, noise)
        ridge = noise / CASES_SPREAD**2
        told = along + ridge > 0
        weights = np.where(told, along + ridge, 1.0)
        slopes = np.where(told, (across + common * ridge) / weights, common)
        own = np.where(told, np.sqrt(noise / weights), CASES_SPREAD)
        errors = np.hypot(own, known * np.where(told, ridge / weights, 1.0))
        fitted = float(np.sum(along / weights))
    return list(map(_Response, slopes.tolist(), errors.tolist()))


def _around_means(levels: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Levels of case and canary around the means of their runs, [2, cases, 2 runs, processes]; 0 where a run has fewer."""
    import numpy as np

    found = np.zeros((2, len(levels), 2, max(side.shape[1] for pair in levels for side in pair)))
    for number, pair in enumerate(levels):
        for run, side in enumerate(pair):
            found[:, number, run, : side.shape[1]] = side - side.mean(axis=1, keepdims=True)
    return found


def _common_response(case: np.ndarray, canary: np.ndarray, before: float, noise: float) -> tuple[float, float]:
    """The response that cases have in common, with its error.

    A case whose canary moved a lot tells its own response best, of the common one no more than cases differ by. And cases of
    one process share its luck: as much as sums over a process vary more than independent cases would make them (around the
    line `before`), all of them count for less.
    """
    import numpy as np

    along = np.sum(canary**2, axis=(1, 2))
    whole = noise + CASES_SPREAD**2 * along
    weights = np.divide(1.0, whole, out=np.zeros_like(whole), where=whole > 0)
    counted = float(weights @ along)
    sums = np.sum(weights[:, None, None] * canary * (case - before * canary), axis=0)
    processes = int(np.count_nonzero(np.any(canary, axis=0)))
    spread = float(np.sum(sums**2)) * processes / max(processes - 3, 1)  # two means and a slope were taken out
    alike = max(1.0, spread / counted) if counted else 1.0
    told = counted / alike + PRIOR_SPREAD**-2
    towards = float(weights @ np.sum(case * canary, axis=(1, 2))) / alike + PRIOR_RESPONSE * PRIOR_SPREAD**-2
    return towards / told, told**-0.5

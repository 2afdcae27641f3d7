"""What earlier runs of a machine say of it: how far runs of equal code lie apart there.

Runs that follow each other mostly measure equal code, so their differences show what a canary and processes leave over. A real
change between two of them is one difference among many, which a median bears. Cases of one run share its luck, so what counts
is n, the pairs of runs: fewer than 8 say nothing, and more of them move what is known of machines in general,

    spread^2 = (d0 * general^2 + n * own^2) / (d0 + n),

which never becomes 0, however alike a few runs happen to be.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import chain, pairwise

from results import two_runs
from results.machine import several_threads
from results.matching import matched
from results.store import RunFile

__all__ = ["GENERAL_WORTH", "LEAST_PAIRS", "Differences", "learnt", "spreads_of"]

LEAST_PAIRS = 8
"""Of runs that have a canary; fewer say too little of a spread."""
GENERAL_WORTH = 2.0
"""d0: what is known of machines in general counts as much as this many pairs of runs. Few, since one of your own may be ten
times calmer: with 6 a history of 8 pairs would hide 5 % there, with 2 it shows them, and false alarms are as few."""
_CHI_SQUARE_MEDIAN = 0.4549364
"""Of one degree of freedom."""

Differences = Sequence[tuple[float, float]]
"""Of two runs: the log ratio of each case, with what its processes leave open of it as a standard error."""


def spreads_of(runs: Sequence[RunFile]) -> Mapping[str, float]:
    """By canary the standard deviation of log ratios between runs that is neither their processes' nor the canary's.

    Only canaries are in it that enough pairs of runs tell of. No run may be a copy of another.
    """
    found: dict[str, list[Differences]] = {}
    for older, newer in pairwise(sorted(runs, key=lambda one: one.run.started_utc)):
        threads = several_threads(older.run) | several_threads(newer.run)
        for canary, members in two_runs.sides_of(matched(older, newer), threads).items():
            several = two_runs.differences([sides for _, sides in members], 0.0)
            found.setdefault(canary, []).append([(one.joined.log, one.joined.error) for one in several])
    told = {canary: pairs for canary, pairs in found.items() if len(pairs) >= LEAST_PAIRS}
    return {canary: learnt(pairs, two_runs.run_spread(canary)) for canary, pairs in told.items()}


def learnt(pairs: Sequence[Differences], general: float) -> float:
    """The spread, from the pairs of runs and the one that machines have in general."""
    own, count = _spread(list(chain.from_iterable(pairs))), len(pairs)
    return math.sqrt((GENERAL_WORTH * general**2 + count * own**2) / (GENERAL_WORTH + count))


def _spread(several: Differences) -> float:
    """Where the median of d^2 / (e^2 + spread^2) is that of chi-square; 0 if it lies below already."""
    low, high = 0.0, max(abs(log) for log, _ in several)
    if _middle(several, low) <= _CHI_SQUARE_MEDIAN:
        return 0.0
    while high - low > 1e-6:
        spread = (low + high) / 2
        low, high = (spread, high) if _middle(several, spread) > _CHI_SQUARE_MEDIAN else (low, spread)
    return high


def _middle(several: Differences, spread: float) -> float:
    return statistics.median(log**2 / max(error**2 + spread**2, 1e-18) for log, error in several)

"""What earlier runs of a machine say of it: how far runs of equal code lie apart there.

Runs that follow each other mostly measure equal code, so their differences show what a canary and processes leave over. A real
change between two of them is one difference among many, which a median bears.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise

from results import two_runs
from results.matching import matched
from results.store import RunFile

__all__ = ["LEAST_DIFFERENCES", "spreads_of"]

LEAST_DIFFERENCES = 20
"""Of one canary; fewer say too little of a spread."""
_CHI_SQUARE_MEDIAN = 0.4549364
"""Of one degree of freedom."""


def spreads_of(runs: Sequence[RunFile]) -> Mapping[str, float]:
    """By canary the standard deviation of log ratios between runs that is neither their processes' nor the canary's.

    Only canaries are in it that enough differences tell of.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for older, newer in pairwise(sorted(runs, key=lambda one: one.run.started_utc)):
        for canary, members in two_runs.sides_of(matched(older, newer)).items():
            for one in two_runs.differences([sides for _, sides in members], 0.0):
                found.setdefault(canary, []).append((one.joined.log, one.joined.error))
    return {canary: _spread(several) for canary, several in found.items() if len(several) >= LEAST_DIFFERENCES}


def _spread(several: Sequence[tuple[float, float]]) -> float:
    """Where the median of d^2 / (e^2 + spread^2) is that of chi-square; 0 if it lies below already."""
    low, high = 0.0, max(abs(log) for log, _ in several)
    if _middle(several, low) <= _CHI_SQUARE_MEDIAN:
        return 0.0
    while high - low > 1e-6:
        spread = (low + high) / 2
        low, high = (spread, high) if _middle(several, spread) > _CHI_SQUARE_MEDIAN else (low, spread)
    return high


def _middle(several: Sequence[tuple[float, float]], spread: float) -> float:
    return statistics.median(log**2 / max(error**2 + spread**2, 1e-18) for log, error in several)

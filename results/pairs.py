"""Decisions between two versions that took turns: process pairs are the statistical unit.

Two processes of the same code differ by more than the samples within one of them can tell, so a decision joins the centres of
several fresh process pairs. All on the log scale, d = log(time of B's turn) - log(time of A's turn):

1. *Within a pair*: the centre is the Hodges-Lehmann estimate of its d's (median of the means of all pairs of them); its
   standard error comes from batches of consecutive d's, so that what autocorrelation is left stays inside them.
2. *Across pairs*: weights w = 1 / (tau^2 + s^2), centre c = sum(w m) / sum(w), variance q / sum(w) with
   q = (d0 + sum(w (m - c)^2)) / (d0 + P - 1) and d0 + P - 1 degrees of freedom (Hartung-Knapp, shrunk towards the calibration).
   tau is what pairs of equal code differ by on this machine (Paule-Mandel over a calibration), d0 how many pairs that
   knowledge is worth. Without a calibration d0 = 0, the weights are equal, and this is Student's t over the pairs.
3. *Several looks* share the error: an early one must be beyond three standard errors (Haybittle 1971; Peto et al. 1976), and
   the last one has what is left (Bonferroni): looking after every pair costs it next to nothing.
4. *Several cases* share it by Holm (any of these slower?) or Benjamini-Hochberg (which of these changed?).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from results.statistics import Ratio
from results.student import t_above, t_quantile

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "LEAST_FOR_CENTRE",
    "LEAST_PAIRS",
    "LEAST_PAIRS_UNCALIBRATED",
    "LEAST_TURNS",
    "Calibration",
    "Centre",
    "Correction",
    "Joined",
    "benjamini_hochberg",
    "calibrated",
    "centre_of",
    "centres_of",
    "holm",
    "joined",
    "look_level",
    "pooled",
    "surviving",
]

LEVEL = 0.05
LEAST_PAIRS, LEAST_PAIRS_UNCALIBRATED, LEAST_TURNS = 3, 5, 20
"""What any verdict needs (3.4 of the notes that this follows: pairs with and without a calibration, turns in each)."""
CALIBRATION_WORTH = 6.0
"""d0: a calibration counts as much as this many pairs more."""
BATCHES, LEAST_FOR_CENTRE = 20, 4
MOST_MEANS = 1 << 22
"""Means of pairs held at once."""
LEAST_POOL = 12
"""Degrees of freedom from which the pairs of several cases calibrate each other."""

EARLY_LEVEL = math.erfc(3 / math.sqrt(2))
"""Two-sided level of a look that is not the last."""


@dataclass(frozen=True)
class Calibration:
    """What pairs of equal code differ by here: `tau`, a standard deviation on the log scale, known from `pairs` pairs."""

    tau: float
    pairs: int


@dataclass(frozen=True)
class Centre:
    """One process pair: log ratio, its standard error within the pair, and the turns that it rests on."""

    log: float
    error: float
    turns: int


@dataclass(frozen=True)
class Joined:
    """What all pairs say together; `log` is the log ratio B over A."""

    log: float
    error: float
    degrees: float
    pairs: int

    def interval(self, level: float = LEVEL) -> Ratio:
        """Ratio B over A with its two-sided interval of confidence 1 - level."""
        half = self.error * t_quantile(1 - level / 2, self.degrees) if self.error else 0.0
        high = self.log + half
        return Ratio(math.exp(self.log), math.exp(self.log - half), math.exp(high) if high < 700 else math.inf)

    def p_above(self, threshold: float) -> float:
        """One-sided p of 'B is not slower than A by more than `threshold`' (0.01 is 1 %)."""
        return self._p(self.log - math.log1p(threshold))

    def p_below(self, threshold: float) -> float:
        """One-sided p of 'B is not faster than A by more than `threshold`'."""
        return self._p(math.log1p(-threshold) - self.log)

    def _p(self, distance: float) -> float:
        if not self.error:
            return 0.0 if distance > 0 else 1.0
        return t_above(distance / self.error, self.degrees)


def centre_of(logs: Sequence[float]) -> Centre:
    """The centre of one pair from the log ratios of its turns, in order. Raises ValueError with fewer than 4."""
    import numpy as np

    return centres_of(np.asarray(logs, dtype=np.float64)[None])[0]


def centres_of(rows: np.ndarray) -> list[Centre]:
    """The centre of each row of turns, [rows, turns], all at once. Raises ValueError with fewer than 4 turns."""
    import numpy as np

    turns = rows.shape[1]
    if turns < LEAST_FOR_CENTRE:
        raise ValueError(f"{turns} turns are too few for a centre")
    batches = np.array_split(rows, min(BATCHES, turns // 2), axis=1)
    spreads = np.std([_hodges_lehmann(batch) for batch in batches], axis=0, ddof=1) / math.sqrt(len(batches))
    return [Centre(float(log), float(error), turns) for log, error in zip(_hodges_lehmann(rows), spreads, strict=True)]


def _hodges_lehmann(rows: np.ndarray) -> np.ndarray:
    """The median of the means of all pairs, of each row."""
    import numpy as np

    first, second = np.triu_indices(rows.shape[1])
    step = max(1, MOST_MEANS // len(first))
    parts = [rows[begin : begin + step] for begin in range(0, len(rows), step)]
    return np.concatenate([np.median((part[:, first] + part[:, second]) / 2, axis=1) for part in parts])


def joined(pairs: Sequence[Centre], calibration: Calibration | None = None) -> Joined:
    """Joins pairs (step 2 above). Raises ValueError with fewer than 2."""
    if len(pairs) < 2:
        raise ValueError("one pair says nothing of the spread between pairs")
    worth = CALIBRATION_WORTH if calibration else 0.0
    weights = [1 / max(calibration.tau**2 + one.error**2, 1e-18) if calibration else 1.0 for one in pairs]
    total = math.fsum(weights)
    centre = math.fsum(w * one.log for w, one in zip(weights, pairs, strict=True)) / total
    squares = math.fsum(w * (one.log - centre) ** 2 for w, one in zip(weights, pairs, strict=True))
    degrees = worth + len(pairs) - 1
    return Joined(centre, math.sqrt((worth + squares) / degrees / total), degrees, len(pairs))


def look_level(looks: int, last: bool = True) -> float:
    """The two-sided level of the last of `looks` looks, or of an earlier one; together they keep 5 %.

    Raises ValueError for so many that nothing is left for the last.
    """
    left = LEVEL - (looks - 1) * EARLY_LEVEL
    if left < LEVEL / 2:
        raise ValueError(
            f"{looks} looks leave the last one too little: plan at most {int(LEVEL / 2 / EARLY_LEVEL) + 1}"
        )
    return left if last else EARLY_LEVEL


def calibrated(pairs: Sequence[Centre]) -> Calibration:
    """tau from pairs of equal code: Paule and Mandel's root of sum((m - c)^2 / (tau^2 + s^2)) = P - 1, or 0."""
    if len(pairs) < 2:
        raise ValueError("one pair says nothing of the spread between pairs")
    high = max(abs(one.log - pairs[0].log) for one in pairs) + max(one.error for one in pairs)
    return Calibration(_root(lambda tau: _excess(pairs, tau), high), len(pairs))


def pooled(cases: Sequence[Sequence[Centre]]) -> Calibration | None:
    """One tau from the pairs of several cases, each around its own centre; None with fewer than 12 degrees of freedom."""
    groups = [pairs for pairs in cases if len(pairs) > 1]
    if sum(len(pairs) - 1 for pairs in groups) < LEAST_POOL:
        return None
    high = max(abs(one.log - pairs[0].log) for pairs in groups for one in pairs)
    high += max(one.error for pairs in groups for one in pairs)
    return Calibration(_root(lambda tau: math.fsum(_excess(pairs, tau) for pairs in groups), high), LEAST_POOL)


def _root(excess: Callable[[float], float], high: float) -> float:
    """Where a falling function crosses 0 between 0 and `high`; 0 if it starts below."""
    low = 0.0
    if excess(low) <= 0:
        return 0.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return high


def _excess(pairs: Sequence[Centre], tau: float) -> float:
    weights = [1 / max(tau**2 + one.error**2, 1e-300) for one in pairs]
    total = math.fsum(weights)
    centre = math.fsum(w * one.log for w, one in zip(weights, pairs, strict=True)) / total
    return math.fsum(w * (one.log - centre) ** 2 for w, one in zip(weights, pairs, strict=True)) - (len(pairs) - 1)


Correction = Callable[[Sequence[float], float], list[bool]]
"""`holm` or `benjamini_hochberg`."""


def surviving(words: Sequence[str], p_values: Sequence[float | None], correct: Correction) -> list[bool]:
    """Which verdicts `slower` and `faster` stand when all cases are looked at together; each way has half of the error.

    Every other verdict stands. `p_values` are one-sided, of the verdict that was reached.
    """
    stands = [True] * len(words)
    for wanted in {"slower", "faster"}.intersection(words):
        ps = [p if word == wanted and p is not None else 1.0 for word, p in zip(words, p_values, strict=True)]
        kept = correct(ps, LEVEL / 2)
        stands = [good if word == wanted else so_far for word, good, so_far in zip(words, kept, stands, strict=True)]
    return stands


def holm(p_values: Sequence[float], level: float = LEVEL) -> list[bool]:
    """Which hypotheses fall so that the chance of any false rejection stays below `level` (Holm 1979)."""
    return _stepwise(p_values, lambda rank, count: level / (count - rank), down=True)


def benjamini_hochberg(p_values: Sequence[float], level: float = LEVEL) -> list[bool]:
    """Which hypotheses fall so that the expected share of false ones among them stays below `level`."""
    return _stepwise(p_values, lambda rank, count: level * (rank + 1) / count, down=False)


def _stepwise(p_values: Sequence[float], bound: Callable[[int, int], float], down: bool) -> list[bool]:
    """Step-down stops at the first that passes; step-up rejects all up to the last one below its bound."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    passed = [p_values[i] <= bound(rank, len(order)) for rank, i in enumerate(order)]
    if down:
        count = passed.index(False) if False in passed else len(passed)
    else:
        count = max((rank + 1 for rank, good in enumerate(passed) if good), default=0)
    fallen = set(order[:count])
    return [i in fallen for i in range(len(p_values))]

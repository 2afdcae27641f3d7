"""Decisions between two versions that took turns: process pairs are the statistical unit.

Two processes of the same code differ by more than the samples within one of them can tell, so a decision joins the centres of
several fresh process pairs. All on the log scale, d = log(time of B's turn) - log(time of A's turn):

1. *Within a pair*: the centre is the Hodges-Lehmann estimate of its d's (median of the means of all pairs). Its standard
   error is the half width of Wilcoxon's interval, ranks of those means (Lehmann 1963), which a few wild turns cannot widen;
   what autocorrelation is left widens it, as far as sums of consecutive d's differ more than those of shuffled ones.
2. *Across pairs*: weights w = 1 / (tau^2 + s^2), centre c = sum(w m) / sum(w), variance q / sum(w) with
   q = (d0 + sum(w (m - c)^2)) / (d0 + P - 1) and d0 + P - 1 degrees of freedom (Hartung-Knapp, shrunk towards the calibration).
   tau is what pairs differ by on this machine, learnt from all cases that are decided together (`pooled`), d0 how many pairs
   that knowledge is worth. Without it d0 = 0, the weights are equal, and this is Student's t over the pairs.
   At most a fifth of the pairs, which lie far from the others, are set aside before (`without_outlying`), and told of.
3. *Several looks* share the error: an early one must be beyond three standard errors (Haybittle 1971; Peto et al. 1976), and
   the last one has what is left (Bonferroni): each costs it 0.27 of 5 %.
4. *Several cases* share it by Holm (any of these slower?) or Benjamini-Hochberg (which of these changed?).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import median
from typing import TYPE_CHECKING

from results.stacks import stacks
from results.statistics import Ratio
from results.student import f_above, t_above, t_quantile

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "EARLY_LEVEL",
    "LEAST_CASES",
    "LEAST_FOR_CENTRE",
    "LEAST_PAIRS",
    "LEAST_PAIRS_UNCALIBRATED",
    "LEAST_TURNS",
    "Calibration",
    "Centre",
    "Correction",
    "Joined",
    "benjamini_hochberg",
    "centre_of",
    "centres_of",
    "holm",
    "joined",
    "look_level",
    "pooled",
    "surviving",
    "without_outlying",
]

LEVEL = 0.05
LEAST_PAIRS, LEAST_PAIRS_UNCALIBRATED, LEAST_TURNS = 3, 5, 20
"""What any verdict needs (3.4 of the notes that this follows: pairs with and without a calibration, turns in each)."""
CALIBRATION_WORTH = 4.0
"""d0: a calibration counts as much as this many pairs more. It also says how alike cases are: with 4 the variance of one is
within a factor of 2.2 of a typical one as often as a normal value is within its standard deviation."""
BATCHES, LEAST_FOR_CENTRE = 20, 4
RANK_WIDTH = 1.645
"""Half width, in standard errors, of the interval that tells them."""
CLIPPED = 1.5
MOST_MEANS = 1 << 22
"""Means of pairs held at once."""
OUTLYING = 3.0
"""A case's variance that is smaller or larger than the expected one by more than a factor e^3 counts as if it were by that."""
UNLIKE = 0.05
"""A case whose pairs differ by more than all but so many of such cases would is judged by its own pairs alone."""
SET_ASIDE = 0.2
"""Most of the pairs that are set aside: now and then a process is much slower than all others (three of 32 times that a
permutation was prepared, by two thirds), while a change is in all of them."""
FAR, NEAR, LEAST_ALONE = 5.0, 3.0, 8
"""Standard deviations from the median: these are beyond the first, and all others within the second, since between them there
would be no telling. By the calibration, or of so many pairs or more by 1.4826 of their own median deviations."""
LEAST_CASES, LEAST_POOL = 6, 12
"""Cases, and degrees of freedom of their pairs, from which they calibrate each other."""

EARLY_LEVEL = math.erfc(3 / math.sqrt(2))
"""Two-sided level of a look that is not the last."""


@dataclass(frozen=True)
class Calibration:
    """What pairs of the same two versions differ by here: `tau`, a standard deviation on the log scale."""

    tau: float


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
        # Three digits of the degrees move t by less than 0.1 %, and thousands of cases share their quantiles.
        half = self.error * t_quantile(1 - level / 2, float(f"{self.degrees:.3g}")) if self.error else 0.0
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
    logs, errors = _hodges_lehmann(rows)
    # With a coarse clock most turns may be alike, and ranks see nothing of the others.
    unseen = (errors == 0) & (rows.min(axis=1) < rows.max(axis=1))
    errors = np.where(unseen, rows.std(axis=1) / math.sqrt(turns), errors)
    errors *= np.sqrt(_autocorrelation((rows - logs[:, None]), errors * math.sqrt(turns)))
    return [Centre(float(log), float(error), turns) for log, error in zip(logs, errors, strict=True)]


def _hodges_lehmann(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each row the median of the means of all pairs, and its standard error if turns are independent."""
    import numpy as np

    turns = rows.shape[1]
    first, second = np.triu_indices(turns)
    count = len(first)
    spread = math.sqrt(turns * (turns + 1) * (2 * turns + 1) / 24)
    low = max(0, math.floor(count / 2 - RANK_WIDTH * spread))
    width = (count - 1 - 2 * low) / spread
    wanted = sorted({low, (count - 1) // 2, count // 2, count - 1 - low})
    step = max(1, MOST_MEANS // count)
    logs, errors = [], []
    for begin in range(0, len(rows), step):
        part = rows[begin : begin + step]
        means = np.partition((part[:, first] + part[:, second]) / 2, wanted, axis=1)
        logs.append((means[:, (count - 1) // 2] + means[:, count // 2]) / 2)
        errors.append((means[:, count - 1 - low] - means[:, low]) / width)
    return np.concatenate(logs), np.concatenate(errors)


def _autocorrelation(rows: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """By what factor, 1 or more, turns that resemble their neighbours vary a centre more than as many shuffled ones would.

    From sums over batches of consecutive turns, each turn clipped to 1.5 scales: a wild turn is no resemblance.
    """
    import numpy as np

    turns = rows.shape[1]
    scores = np.clip(rows / np.maximum(scales, 1e-18)[:, None], -CLIPPED, CLIPPED)
    scores -= scores.mean(axis=1, keepdims=True)
    batches = np.array_split(scores, min(BATCHES, turns // 2), axis=1)
    found = sum(batch.sum(axis=1) ** 2 for batch in batches)
    sizes = [batch.shape[1] for batch in batches]
    shuffled = (scores**2).mean(axis=1) * sum(size * (turns - size) / (turns - 1) for size in sizes)
    return np.maximum(found / np.maximum(shuffled, 1e-18), 1.0)


def joined(pairs: Sequence[Centre], calibration: Calibration | None = None) -> Joined:
    """Joins pairs (step 2 above); those that differ by far more than the calibration says, without it.

    Raises ValueError with fewer than 2.
    """
    if len(pairs) < 2:
        raise ValueError("one pair says nothing of the spread between pairs")
    worth, own = CALIBRATION_WORTH if calibration else 0.0, len(pairs) - 1
    weights = [1 / max(calibration.tau**2 + one.error**2, 1e-18) if calibration else 1.0 for one in pairs]
    total = math.fsum(weights)
    centre = math.fsum(w * one.log for w, one in zip(weights, pairs, strict=True)) / total
    squares = math.fsum(w * (one.log - centre) ** 2 for w, one in zip(weights, pairs, strict=True))
    if calibration and squares / own > _least_unlike(own):
        return joined(pairs)
    return Joined(centre, math.sqrt((worth + squares) / (worth + own) / total), worth + own, len(pairs))


def without_outlying(pairs: Sequence[Centre], calibration: Calibration | None = None) -> list[Centre]:
    """The pairs less at most a fifth of them that lie far from all others; all of them where that is not clear.

    Without a calibration, and of fewer than 8 pairs, it never is.
    """
    middle = median(one.log for one in pairs)
    distances = [abs(one.log - middle) for one in pairs]
    if calibration:
        scales = [math.hypot(calibration.tau, one.error) for one in pairs]
    elif len(pairs) >= LEAST_ALONE:
        own = 1.4826 * median(distances)
        scales = [max(own, one.error) for one in pairs]
    else:
        return list(pairs)
    far = [distance > FAR * scale for distance, scale in zip(distances, scales, strict=True)]
    near = [distance <= NEAR * scale for distance, scale in zip(distances, scales, strict=True)]
    clear = sum(far) + sum(near) == len(pairs) and sum(far) <= SET_ASIDE * len(pairs)
    return [one for one, away in zip(pairs, far, strict=True) if not (clear and away)]


@lru_cache
def _least_unlike(degrees: int) -> float:
    """The variance over the expected one that only a share UNLIKE of cases exceed."""
    return _root(lambda ratio: f_above(ratio, degrees, CALIBRATION_WORTH) - UNLIKE, 1.0)


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


def pooled(cases: Sequence[Sequence[Centre]]) -> Calibration | None:
    """One tau from the pairs of several cases, each around its own centre; None of fewer than 6 cases or 12 degrees of freedom.

    Cases differ in how much their pairs differ, and one whose processes come in two kinds must not blur all others. So tau is
    where the logarithms of (variance found / expected) have the mean that they have if the cases' own variances are spread as
    the inverse of chi-square with d0 degrees of freedom (Smyth 2004): what counts is the geometric mean of the cases.
    """
    import numpy as np

    groups = [pairs for pairs in cases if len(pairs) > 1]
    if len(groups) < LEAST_CASES or sum(len(pairs) - 1 for pairs in groups) < LEAST_POOL:
        return None
    of_cases = len(groups) * _mean_log_chi_square(CALIBRATION_WORTH)
    by_count = list(stacks([np.array([(one.log, one.error) for one in pairs]) for pairs in groups]))

    def excess(tau: float) -> float:
        return of_cases + math.fsum(_log_excess(cases[..., 0], cases[..., 1], tau) for _, cases in by_count)

    return Calibration(_root(excess, max(abs(one.log - pairs[0].log) for pairs in groups for one in pairs)))


def _log_excess(logs: np.ndarray, errors: np.ndarray, tau: float) -> float:
    """Sum over cases [cases, pairs] of the log of their variance over the one expected, less what that is on average.

    What is outlying counts for less: pairs that agree to the last digit, by luck or by a coarse clock, have the logarithm of 0.
    """
    import numpy as np

    degrees = logs.shape[1] - 1
    weights = 1 / np.maximum(tau**2 + errors**2, 1e-300)
    centres = (weights * logs).sum(axis=1) / weights.sum(axis=1)
    squares = (weights * (logs - centres[:, None]) ** 2).sum(axis=1)
    found = np.log(np.maximum(squares / degrees, 1e-18)) - _mean_log_chi_square(degrees)
    return float(np.clip(found, -OUTLYING, OUTLYING).sum())


def _mean_log_chi_square(degrees: float) -> float:
    """Mean of log(chi-square / degrees): digamma(degrees / 2) - log(degrees / 2), by its series beyond 6."""
    half, sum_below = degrees / 2, 0.0
    while half < 6:
        sum_below += 1 / half
        half += 1
    series = math.log(half) - 1 / (2 * half) - 1 / (12 * half**2) + 1 / (120 * half**4)
    return series - sum_below - math.log(degrees / 2)


def _root(excess: Callable[[float], float], guess: float) -> float:
    """Where a falling function crosses 0; 0 if it starts below."""
    low, high = 0.0, max(guess, 1e-9)
    if excess(low) <= 0:
        return 0.0
    while excess(high) > 0:
        high *= 2
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return high


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

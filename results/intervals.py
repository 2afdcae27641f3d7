"""How far the mean of slot medians may be from the truth, seen from the samples of one process.

A table holds the times of one measurement: revolutions of the ring as rows, slots as columns (one column where samples carry no
slot). The revolution is the unit, since noise often hits a whole revolution. All on the log scale:

1. *How much one slot's median wanders*: the median of n draws lies at the Beta((n+1)/2, (n+1)/2) level of their
   distribution (Maritz and Jarrett 1978), which the residuals of all slots together show (n revolutions). A residual
   is taken against the median of the *other* revolutions of its slot, otherwise few revolutions look too calm; its
   excess spread is divided out. No shape is assumed, and a tail counts as far as a median of n can reach it. The same
   levels give the median's bias, less what they would show where there is none.
2. *How much slots wander together*: the variance of the revolution's mean sign (above or below the slot's median) over
   that of one sign: 1/slots where slots are independent, 1 where noise is common to all. Signs are what a median
   reacts to.
3. *Memory of one revolution for the last*: what it adds to the variance of a mean, as that of a first-order autoregression
   with the lag-1 autocorrelation of those mean signs, freed of its bias (Marriott and Pope 1954: a sample's is too small by
   (1 + 4 rho) / n) and of what centring takes from the variance.
4. *Two modes*: a median of few draws can lie in the wrong one, in every slot alike, so the mean over slots is off by more than
   it wanders. Differences between revolutions of one slot, which no difference between slots enters, show how far apart the
   modes are and how many draws are in the lesser one; the binomial distribution says how often a median then is (some of
   the standard error of that share on the safe side).

Half-width = t * (1.) * sqrt((2.) * (3.)) + the larger of both biases, Student's t with n / (3.) - 1 degrees of freedom.

What no interval from within can know: a mode that was never sampled, noise that remembers for more than about a quarter of the
time sampled, and what differs between processes. `python -m benchmarks.coverage` shows how far the promise of 95 % holds.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Error", "medians_with_errors"]

FEW = 8
"""Below so many revolutions their autocorrelation cannot be seen, and a memory that is common on shared machines is
assumed."""
ASSUMED_MEMORY = 2.0
MOST_AUTOCORRELATION = 0.85
LEAST_DEGREES = 2.0
MANY, BIAS_NOISE = 20, 0.2
"""What is seen as bias where there is none, as a standard deviation: this share of the standard error of a slot's median, over
the root of the number of slots (symmetric samples). Of fewer revolutions it stays, for what their memory hides."""
SAFE = 0.7
"""Standard errors by which the share of the lesser mode is taken for larger: with 1 intervals of two modes hold the truth in up
to 98 % of trials, with 0 in as few as 86 %."""
FAR = 3.0
"""Draws that differ by more than so many standard deviations of the differences within a mode are in different modes."""
STEPS = 8
MOST_DIFFERENCES = 1 << 13
"""Of more, every second is taken, or every third, ...: a share of them is known as well by so many."""
_HALF_NORMAL_MEDIAN = 0.6744897501960817


class Error(NamedTuple):
    """Relative standard error with its degrees of freedom, and what the estimate may be off on top."""

    size: float
    degrees: float
    bias: float = 0.0


def medians_with_errors(tables: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The column medians of each table, [tables, slots], and the error of their mean as a row, [tables, fields of `Error`].

    `tables` is [tables, revolutions, slots], all above 0.
    """
    import numpy as np

    count, revolutions = tables.shape[:2]
    ordered = np.sort(tables, axis=1)
    medians = (ordered[:, (revolutions - 1) // 2] + ordered[:, revolutions // 2]) / 2
    if revolutions < 2:
        return medians, np.tile(Error(math.inf, 1.0), (count, 1))
    signs = np.sign(tables - medians[:, None])
    one, moves = np.mean(signs**2, axis=(1, 2)), np.mean(signs, axis=2)
    power = np.mean(moves**2, axis=1)
    together = power / np.where(one > 0, one, 1.0)
    alone, skewed = _median_errors(tables, ordered)
    memory, degrees = _memory(moves, power)
    size = alone * np.sqrt(together * memory)
    bias = np.maximum(skewed, _wrong_mode(tables, together))
    calm = one == 0
    return medians, np.stack([np.where(calm, 0.0, size), degrees, np.where(calm, 0.0, bias)], axis=1)


def _median_errors(tables: np.ndarray, ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Step 1: standard error and bias of a slot's median on the log scale."""
    import numpy as np

    revolutions = tables.shape[1]
    residuals = np.sort(np.log(tables / _median_of_others(tables, ordered)).reshape(len(tables), -1), axis=1)
    levels, density = _median_levels(revolutions)
    values = _quantiles(residuals, levels)
    # Variance of a median of k normal values in units of theirs: (pi / 2) / (k + 0.8) within 4 % from k = 2 on.
    excess = math.sqrt(1 + math.pi / 2 / (revolutions - 1 + 0.8))
    means = values @ density
    sizes = np.sqrt((values - means[:, None]) ** 2 @ density) / excess
    biases = np.abs(means - values[:, len(levels) // 2]) / excess
    unreal = BIAS_NOISE * sizes / math.sqrt(tables.shape[2]) if revolutions >= MANY else 0.0
    return sizes, np.maximum(biases - unreal, 0.0)


def _median_levels(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Levels at which the median of `count` draws lies, and their probabilities: Beta((n+1)/2, (n+1)/2)."""
    import numpy as np

    reach = min(0.5, 4 * 0.5 / math.sqrt(count + 2))
    levels = 0.5 + reach * (np.arange(-40, 41) / 40.5)
    density = (4 * levels * (1 - levels)) ** ((count - 1) / 2)
    return levels, density / density.sum()


def _quantiles(ordered: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Quantiles of ordered rows, interpolated between neighbours."""
    import numpy as np

    places = levels * (ordered.shape[1] - 1)
    below = places.astype(int)
    above = np.minimum(below + 1, ordered.shape[1] - 1)
    share = places - below
    return np.asarray(ordered[:, below] * (1 - share) + ordered[:, above] * share)


def _median_of_others(tables: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """For each value the median of the other values of its column, from the ordered columns."""
    import numpy as np

    half = tables.shape[1] // 2
    if tables.shape[1] % 2 == 0:
        low, high = ordered[:, half - 1, None], ordered[:, half, None]
        return np.asarray(np.where(tables <= low, high, low))
    below, middle, above = (ordered[:, half + step, None] for step in (-1, 0, 1))
    pair = np.where(tables < middle, middle + above, np.where(tables > middle, below + middle, below + above))
    return np.asarray(pair / 2)


def _memory(moves: np.ndarray, power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Step 3: the factor on the variance of a mean over revolutions, at least 1, and the degrees of freedom."""
    import numpy as np

    count, n = moves.shape
    if n < FEW:
        return np.full(count, ASSUMED_MEMORY), np.full(count, n - 1.0)
    seen = np.mean(moves[:, :-1] * moves[:, 1:], axis=1) * (n - 1) / n / np.where(power > 0, power, 1.0)
    rho = np.clip(seen + (1 + 4 * seen) / n, 0.0, MOST_AUTOCORRELATION)
    factor = (1 + rho) / (1 - rho) - 2 * rho * (1 - rho**n) / (n * (1 - rho) ** 2)
    factor = factor * (1 - 1 / n) / np.maximum(1 - factor / n, 0.3)
    return factor, np.maximum(n / factor - 1, LEAST_DEGREES)


def _wrong_mode(tables: np.ndarray, together: np.ndarray) -> np.ndarray:
    """Step 4: distance of the modes times the probability that a slot's median lies in the lesser one."""
    import numpy as np

    n, logs = tables.shape[1], np.log(tables)
    lags = range(1, min(4, n))
    step = math.ceil(len(lags) * logs[0].size / MOST_DIFFERENCES)
    apart = [np.abs(logs[:, lag::step] - logs[:, :-lag:step]).reshape(len(logs), -1) for lag in lags]
    gap, share = _modes(np.sort(np.concatenate(apart, axis=1), axis=1))
    share = np.minimum(share + SAFE * np.sqrt(share * (1 - share) * together / (n - 1)), 0.5)
    return np.asarray(gap * _lesser_majority((1 - np.sqrt(1 - 2 * share)) / 2, n))


def _modes(apart: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far two modes are apart and the share of differences that are between them, from ordered rows of differences.

    Found step by step: with a share between the modes (at first half, the most there can be) the median of the others
    tells the spread within a mode; what is FAR beyond that, the gap; what is beyond half the gap, less what a spread
    throws there, the share. Without modes the share goes to none.
    """
    import numpy as np

    share, gap = np.full(len(apart), 0.5), np.empty(len(apart))
    moving = np.arange(len(apart))  # nearly all stand still after three steps
    for _ in range(STEPS):
        before = share[moving]
        gap[moving], share[moving] = _closer(apart[moving], before)
        moving = moving[share[moving] != before]
        if not len(moving):
            break
    return gap, share


def _closer(apart: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One step of `_modes`: the gap that a share leads to, and the share that this gap leads to."""
    import numpy as np

    rows, width = np.arange(len(apart)), apart.shape[1]
    calm = apart[rows, ((1 - share) * width / 2).astype(int)] / _HALF_NORMAL_MEDIAN
    far = np.sum(apart > FAR * calm[:, None], axis=1)
    gap = np.where(far > 0, apart[rows, np.minimum(width - (far + 1) // 2, width - 1)], 0.0)
    beyond = np.mean(apart > gap[:, None] / 2, axis=1)
    thrown = _normal_tails(np.where(calm > 0, gap / 2 / np.where(calm > 0, calm, 1.0), np.inf))
    # Thrown: those within a mode on both sides, those between modes on the inner one.
    return gap, np.clip((beyond - thrown) / np.maximum(1 - 1.5 * thrown, 0.3), far / width, 0.5)


def _normal_tails(distances: np.ndarray) -> np.ndarray:
    """Share of a normal distribution that is further than so many standard deviations from its mean."""
    import numpy as np

    return np.array(list(map(math.erfc, (distances / math.sqrt(2)).tolist())))


def _lesser_majority(lesser: np.ndarray, count: int) -> np.ndarray:
    """Probability that most of `count` draws fall into a mode that holds this share of all (a tie counts half)."""
    import numpy as np

    half = (count + 1) // 2
    size = 2 * half - 1  # a tie among an even number, counted half, is as likely as one draw less allows
    wins = np.arange(half, size + 1)
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, size + 1)))])
    log_ways = log_factorials[size] - log_factorials[wins] - log_factorials[size - wins]
    share = np.clip(lesser, 1e-12, 0.5)[:, None]
    return np.asarray(np.exp(log_ways + wins * np.log(share) + (size - wins) * np.log1p(-share)).sum(axis=1))

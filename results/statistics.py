"""How long a call takes, and how sure that is.

**Estimate.** A case cycles through a ring of slots (different inputs, different experts). With slots the estimate is
the mean over slots of each slot's median; where a sample holds whole revolutions of the ring, it is the plain median.

**Interval** (95 %, of one process; between processes there is more, see `results.compare`). The revolution is the unit,
since noise often hits a whole revolution. All on the log scale:

1. *How much one slot's median wanders*: the median of n draws lies at the Beta((n+1)/2, (n+1)/2) level of their
   distribution (Maritz and Jarrett 1978), which the residuals of all slots together show (n revolutions). A residual
   is taken against the median of the *other* revolutions of its slot, otherwise few revolutions look too calm; its
   excess spread is divided out. No shape is assumed, and a tail counts as far as a median of n can reach it. The same
   levels give the median's bias.
2. *How much slots wander together*: the variance of the revolution's mean sign (above or below the slot's median) over
   that of one sign: 1/slots where slots are independent, 1 where noise is common to all. Signs are what a median
   reacts to.
3. *Memory of one revolution for the last*: the autocorrelation time of those mean signs, from lag 1 up to where pairs
   of autocorrelations cease to be positive (Geyer 1992, initial positive sequence).

Half-width = t · (1.) · sqrt((2.) · (3.)) + bias, Student's t with n / (3.) - 1 degrees of freedom.
`tests/results/test_statistics.py` holds this to its promise by simulation. Only NumPy and the standard library: this
runs inside workers too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from results.student import t_quantile

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "Estimate",
    "Ratio",
    "Series",
    "Verdict",
    "estimate",
    "geometric_mean",
    "percentile",
    "ratio",
    "samples_needed",
    "slot_spread",
    "verdict",
]

_CONFIDENCE = 0.95
_SIDE = 0.5 + _CONFIDENCE / 2
_FEW = 8
"""Below so many revolutions their autocorrelation cannot be seen, and a memory that is common on shared machines is
assumed."""
_ASSUMED_MEMORY = 1.3
Verdict = str
"""`slower`, `faster`, `same` or `unsure`."""


@dataclass(frozen=True)
class Estimate:
    """Nanoseconds of one call with the 95 % interval."""

    ns: float
    low_ns: float
    high_ns: float

    @property
    def precision(self) -> float:
        """Half-width of the interval over the estimate (0.01 is ±1 %)."""
        return (self.high_ns - self.low_ns) / 2 / self.ns


@dataclass(frozen=True)
class Series:
    """The samples of one measurement, as recorded."""

    samples_ns: Sequence[int]
    slots: Sequence[int] | None = None
    calls_per_sample: int = 1


@dataclass(frozen=True)
class Ratio:
    """New time over base time (> 1 is slower) with the 95 % interval."""

    value: float
    low: float
    high: float


def estimate(samples_ns: Sequence[int], slots: Sequence[int] | None, calls_per_sample: int) -> Estimate:
    """Time of one call. Raises ValueError without samples; with one revolution the interval is unbounded."""
    return _estimate(Series(samples_ns, slots, calls_per_sample))


def percentile(
    samples_ns: Sequence[int], slots: Sequence[int] | None, calls_per_sample: int, q: float
) -> tuple[float | None, str | None]:
    """The q-th percentile (0 < q < 100) in ns, or None with the reason why it is not earned.

    Estimate times the percentile of the pooled time over slot median, so that slots of different work do not pass for a
    tail. It is a value that was observed (the smallest with at least q % at or below it), not an interpolation. The
    50th is the estimate itself.
    """
    series = Series(samples_ns, slots, calls_per_sample)
    if q == 50:
        return _estimate(series).ns, None
    if calls_per_sample > 1:
        return None, f"a sample is {calls_per_sample} calls"
    needed = samples_needed(q)
    if len(samples_ns) < needed:
        return None, f"p{q:g} needs {needed} samples, there are {len(samples_ns)}"
    import numpy as np

    table = _table(series)
    relative = table / np.median(table, axis=0)
    return _estimate(series).ns * float(np.quantile(relative, q / 100, method="inverted_cdf")), None


def samples_needed(q: float) -> int:
    """Fewest samples whose largest lies above the q-th percentile with 95 % confidence: q^n <= 5 %."""
    return math.ceil(math.log(1 - _CONFIDENCE) / math.log(q / 100))


def slot_spread(samples_ns: Sequence[int], slots: Sequence[int] | None) -> float | None:
    """Slowest slot's median over the fastest slot's, less 1; None where samples carry no slot."""
    if slots is None:
        return None
    import numpy as np

    medians = np.median(_table(Series(samples_ns, slots)), axis=0)
    return float(medians.max() / medians.min() - 1)


def ratio(base: Series, new: Series) -> Ratio:
    """New over base, slot with slot on the log scale: the geometric mean over slots of the ratio of their medians.

    The interval joins both sides' standard errors, degrees of freedom by Welch and Satterthwaite. Where the two do not
    have the same slots, the plain estimates are divided.
    """
    import numpy as np

    tables = (_table(base), _table(new))
    if tables[0].shape[1] == tables[1].shape[1]:
        logs = [float(np.log(np.median(table, axis=0)).mean()) for table in tables]
    else:
        logs = [math.log(_estimate(series).ns) for series in (base, new)]
    errors = [_error(table, np.full(table.shape[1], 1 / table.shape[1])) for table in tables]
    half = _half_width(math.hypot(errors[0].size, errors[1].size), _joint_degrees(errors))
    return _ratio(logs[1] - logs[0], half + errors[0].bias + errors[1].bias)


def verdict(compared: Ratio, threshold: float = 0.01, same: float = 0.02) -> Verdict:
    """`slower`: interval above +threshold; `faster`: below -threshold; else `same`: inside ±same; else `unsure`."""
    if compared.low > 1 + threshold:
        return "slower"
    if compared.high < 1 - threshold:
        return "faster"
    if compared.low > 1 - same and compared.high < 1 + same:
        return "same"
    return "unsure"


def geometric_mean(ratios: Sequence[Ratio]) -> Ratio:
    """Geometric mean over cases. The cases are given, not drawn: the interval holds what the single intervals hold.

    Raises ValueError without ratios.
    """
    if not ratios:
        raise ValueError("no ratios to average")
    centre = math.fsum(math.log(r.value) for r in ratios) / len(ratios)
    halves = [(math.log(r.high) - math.log(r.low)) / 2 if r.low > 0 else math.inf for r in ratios]
    return _ratio(centre, math.hypot(*halves) / len(ratios))


@dataclass(frozen=True)
class _Error:
    """Relative standard error with its degrees of freedom, and what the estimate may be off on top."""

    size: float
    degrees: float
    bias: float = 0.0


def _estimate(series: Series) -> Estimate:
    import numpy as np

    table = _table(series)
    medians = np.median(table, axis=0)
    error = _error(table, medians / medians.sum())
    centre = float(medians.mean())
    spread = _ratio(0.0, _half_width(error.size, error.degrees) + error.bias)
    return Estimate(centre, centre * spread.low, centre * spread.high)


def _ratio(log_centre: float, half: float) -> Ratio:
    # A half-width beyond e^700 is no knowledge at all, and would overflow.
    high = math.exp(log_centre + half) if log_centre + half < 700 else math.inf
    return Ratio(math.exp(log_centre), math.exp(log_centre - half), high)


def _half_width(error: float, degrees: float) -> float:
    return error * t_quantile(_SIDE, degrees) if 0 < error < math.inf else error


def _joint_degrees(errors: Sequence[_Error]) -> float:
    squares = [e.size**2 for e in errors]
    below = sum(square**2 / e.degrees for square, e in zip(squares, errors, strict=True))
    return sum(squares) ** 2 / below if 0 < below < math.inf else 1.0


def _table(series: Series) -> np.ndarray:
    """Nanoseconds of one call, [revolutions, slots]; one column where samples carry no slot. Only whole revolutions."""
    import numpy as np

    if not series.samples_ns:
        raise ValueError("no samples")
    # A duration of 0 is a clock too coarse for the call; half a tick keeps the logarithm finite.
    times = np.maximum(np.asarray(series.samples_ns, dtype=np.float64), 0.5) / series.calls_per_sample
    if series.slots is None:
        return times[:, None]
    slots = np.asarray(series.slots)
    order = np.argsort(slots, kind="stable")
    counts = np.unique(slots, return_counts=True)[1]
    if counts.min() == counts.max():
        return times[order].reshape(len(counts), -1).T
    columns = np.split(times[order], np.cumsum(counts)[:-1])
    return np.stack([column[: counts.min()] for column in columns], axis=1)


def _error(table: np.ndarray, weights: np.ndarray) -> _Error:
    """Relative standard error of the weighted mean (weights sum to 1) of the columns' medians."""
    import numpy as np

    revolutions = len(table)
    if revolutions < 2:
        return _Error(math.inf, 1.0)
    ordered = np.sort(table, axis=0)
    signs = np.sign(table - (ordered[(revolutions - 1) // 2] + ordered[revolutions // 2]) / 2)
    moves = signs @ weights
    one = float(np.mean(signs**2))
    if one == 0:
        return _Error(0.0, revolutions - 1.0)
    together = float(np.mean(moves**2)) / one
    memory = _autocorrelation_time(moves)
    alone, bias = _median_error(table, ordered)
    degrees = revolutions - 1 if revolutions < _FEW else max(revolutions / memory - 1, 1.0)
    return _Error(alone * math.sqrt(together * memory), degrees, bias)


def _median_error(table: np.ndarray, ordered: np.ndarray) -> tuple[float, float]:
    """Step 1: standard error and bias of a slot's median on the log scale."""
    import numpy as np

    revolutions = len(table)
    residuals = np.log(table / _median_of_others(table, ordered))
    levels, density = _median_levels(revolutions)
    values = np.quantile(residuals, levels)
    # Variance of a median of k normal values in units of theirs: (pi / 2) / (k + 0.8) within 4 % from k = 2 on.
    excess = math.sqrt(1 + math.pi / 2 / (revolutions - 1 + 0.8))
    mean = float(values @ density)
    size = math.sqrt(float((values - mean) ** 2 @ density)) / excess
    return size, abs(mean - float(values[len(values) // 2])) / excess


def _median_levels(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Levels at which the median of `count` draws lies, and their probabilities: Beta((n+1)/2, (n+1)/2)."""
    import numpy as np

    reach = min(0.5, 4 * 0.5 / math.sqrt(count + 2))
    levels = 0.5 + reach * (np.arange(-40, 41) / 40.5)
    density = (4 * levels * (1 - levels)) ** ((count - 1) / 2)
    return levels, density / density.sum()


def _median_of_others(table: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """For each value the median of the other values of its column, from the ordered columns."""
    import numpy as np

    half = len(table) // 2
    if len(table) % 2 == 0:
        return np.asarray(np.where(table <= ordered[half - 1], ordered[half], ordered[half - 1]))
    below, middle, above = ordered[half - 1], ordered[half], ordered[half + 1]
    pair = np.where(table < middle, middle + above, np.where(table > middle, below + middle, below + above))
    return np.asarray(pair / 2)


def _autocorrelation_time(moves: np.ndarray) -> float:
    """Step 3, at least 1: 1 + 2 · sum of autocorrelations."""
    import numpy as np

    count = len(moves)
    power = float(np.mean(moves**2))
    if count < _FEW or power == 0:
        return _ASSUMED_MEMORY
    total = 0.0
    for lag in range(1, count // 4, 2):
        pair = sum(float(np.dot(moves[:-k], moves[k:])) for k in (lag, lag + 1)) / count / power
        # Taking the mean out makes every autocorrelation of n values too small by about 1 / n.
        pair += 2 / count
        if pair <= 0:
            break
        total += pair
    return max(1.0, min(1 + 2 * total, count / 2))

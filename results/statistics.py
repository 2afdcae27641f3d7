"""How long a call takes, and how sure that is.

**Estimate.** A case cycles through a ring of slots (different inputs, different experts). With slots the estimate is
the mean over slots of each slot's median; where a sample holds whole revolutions of the ring, it is the plain median.

**Interval** (95 %, of one process; `results.intervals` says how): half-width = t * standard error + bias, on the log scale.
Two processes of one code differ by more than the samples within one can tell, so where a measurement has several the interval
is Student's over them: each process has one level, the median of its samples over the slots' profile (what slots differ by, the
median over all processes), and nothing else is assumed.

Only NumPy and the standard library: this runs inside workers too.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import starmap
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from results.intervals import Error, medians_with_errors
from results.stacks import medians
from results.student import t_quantile

if TYPE_CHECKING:
    import numpy as np

    from results.record import Observed

__all__ = [
    "Estimate",
    "Level",
    "Ratio",
    "Series",
    "Verdict",
    "columns",
    "estimate",
    "estimates",
    "geometric_mean",
    "level_rows",
    "levels",
    "percentile",
    "percentiles",
    "period_of",
    "ratio",
    "ratios_of",
    "samples_needed",
    "slot_profiles",
    "slot_spread",
    "time_of",
    "verdict",
    "why_no_percentile",
]

_Member = TypeVar("_Member")
_CONFIDENCE = 0.95
_SIDE = 0.5 + _CONFIDENCE / 2
TOGETHER = 1024
"""Measurements of one shape that are computed at once: what that takes for a while is ten times their samples."""
Verdict = str
"""`slower`, `faster`, `same` or `unsure`."""


class Estimate(NamedTuple):
    """Nanoseconds of one call with the 95 % interval."""

    ns: float
    low_ns: float
    high_ns: float

    @property
    def precision(self) -> float:
        """Half-width of the interval over the estimate (0.01 is ±1 %)."""
        return (self.high_ns - self.low_ns) / 2 / self.ns


class Series(NamedTuple):
    """The samples of one measurement, as recorded."""

    samples_ns: Sequence[int]
    slots: Sequence[int] | None = None
    calls_per_sample: int = 1
    processes: tuple[int, ...] = ()
    """Samples of each process, in order, where there are several."""

    @classmethod
    def of(cls, line: Observed) -> Series:
        """The samples of a measurement."""
        counts: dict[int, int] = {}
        for turn in line.turns if line.processes > 1 else ():
            counts[turn.process] = counts.get(turn.process, 0) + turn.samples
        several = tuple(counts.values()) if len(counts) > 1 else ()
        return cls(line.samples_ns, line.slots, line.calls_per_sample, several)


class Ratio(NamedTuple):
    """New time over base time (> 1 is slower) with the 95 % interval."""

    value: float
    low: float
    high: float


class Level(NamedTuple):
    """What the samples of one measurement say of the time of a call."""

    ns: float
    """Mean over slots of each slot's median, with its 95 % interval:"""
    low_ns: float
    high_ns: float
    log: float
    """Mean over slots of the logarithm of each slot's median."""
    slots: float
    size: float
    """This and the next two: the fields of its `Error`."""
    degrees: float
    bias: float

    @property
    def estimate(self) -> Estimate:
        """The time alone."""
        return Estimate(self.ns, self.low_ns, self.high_ns)


def levels(several: Sequence[Series]) -> list[Level]:
    """The level of each measurement. Raises ValueError without samples."""
    return list(starmap(Level, level_rows(several).tolist()))


def level_rows(several: Sequence[Series]) -> np.ndarray:
    """The level of each measurement as a row, [measurements, fields of `Level`]; those of one shape are computed at once.

    Raises ValueError without samples.
    """
    import numpy as np

    found = np.empty((len(several), len(Level._fields)))
    if apart := [number for number, series in enumerate(several) if series.processes]:
        for number, levels in zip(apart, _process_levels([several[number] for number in apart]), strict=True):
            found[number] = _level_of_processes(*levels)
    for members, stack in _stacks({n: series for n, series in enumerate(several) if not series.processes}):
        middles, known = medians_with_errors(stack)
        found[members] = _rows(middles.mean(axis=1), np.log(middles).mean(axis=1), stack.shape[2], known)
    return found


def estimates(rows: np.ndarray) -> list[Estimate]:
    """The times of rows of levels."""
    return list(map(Estimate, *rows[:, :3].T.tolist()))


def slot_profiles(several: Sequence[Series]) -> list[np.ndarray]:
    """The log profile of the slots [slots] of each of several measurements of several processes: what slots differ by."""
    return _profiles(_of_processes(several))


def _process_levels(several: Sequence[Series]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each the log level of every process [processes] and the slots' profile; their sum is the log time of a slot."""
    import numpy as np

    split = _of_processes(several)
    profiles = _profiles(split)
    free = [(table - one).ravel() for tables, one in zip(split, profiles, strict=True) for table in tables]
    levels = iter(medians(free, axis=0))
    return [(np.array([next(levels) for _ in tables]), one) for tables, one in zip(split, profiles, strict=True)]


def _of_processes(several: Sequence[Series]) -> list[list[np.ndarray]]:
    import numpy as np

    return [_split(np.log(_table(series)), series) for series in several]


def _profiles(split: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
    import numpy as np

    middles = iter(medians([table.ravel() for tables in split for table in tables], axis=0))
    return medians([np.concatenate([table - next(middles) for table in tables]) for tables in split], axis=0)


def _split(logs: np.ndarray, series: Series) -> list[np.ndarray]:
    """The rows of each process; one whose slots make no whole revolution of the table has none, and is left out."""
    import numpy as np

    slots = logs.shape[1] if series.slots is not None else 1
    ends = np.cumsum([count // slots for count in series.processes])
    return [part for part in np.split(logs, ends[:-1]) if len(part)]


def _level_of_processes(found: np.ndarray, profile: np.ndarray) -> np.ndarray:
    import numpy as np

    centre, count = float(found.mean()), len(found)
    error = Error(float(found.std(ddof=1)) / math.sqrt(count), count - 1.0) if count > 1 else Error(math.inf, 1.0)
    time = math.exp(centre) * float(np.exp(profile).mean())
    return _rows(np.array([time]), centre + float(profile.mean()), len(profile), np.array([error]))[0]


def _rows(centres: np.ndarray, logs: np.ndarray | float, slots: int, several: np.ndarray) -> np.ndarray:
    """Rows of levels whose estimates are `centres`, with their errors."""
    import numpy as np

    found = np.empty((len(centres), len(Level._fields)))
    sizes, degrees, biases = several.T
    found[:, :3] = _with_interval(centres, _half_widths(sizes, degrees) + biases)
    found[:, 3], found[:, 4], found[:, 5:] = logs, slots, several
    return found


def _stacks(several: Mapping[int, Series]) -> Iterator[tuple[list[int], np.ndarray]]:
    """Numbers of measurements of one shape and their tables, [measurements, revolutions, slots], so many as go together."""
    import numpy as np

    regular: dict[tuple[int, int], list[int]] = {}
    others: dict[tuple[int, ...], list[tuple[int, np.ndarray]]] = {}
    periods: dict[int, int | None] = {id(None): 1}  # by identity: nearly all measurements share one list of slots
    for number, series in several.items():
        if series.samples_ns and id(series.slots) not in periods:
            periods[id(series.slots)] = period_of(series.slots or ())
        if series.samples_ns and (period := periods[id(series.slots)]):
            regular.setdefault((len(series.samples_ns), period), []).append(number)
        else:
            table = _table(series)
            others.setdefault(table.shape, []).append((number, table))
    for (_, period), members in regular.items():
        for part in _parts(members):
            yield part, _times([several[number] for number in part]).reshape(len(part), -1, period)
    for known in others.values():
        for some in _parts(known):
            yield [number for number, _ in some], np.stack([table for _, table in some])


def _parts(members: list[_Member]) -> Iterator[list[_Member]]:
    return (members[at : at + TOGETHER] for at in range(0, len(members), TOGETHER))


def estimate(samples_ns: Sequence[int], slots: Sequence[int] | None, calls_per_sample: int) -> Estimate:
    """Time of one call. Raises ValueError without samples; with one revolution the interval is unbounded."""
    return _estimate(Series(samples_ns, slots, calls_per_sample))


def percentile(
    samples_ns: Sequence[int],
    slots: Sequence[int] | None,
    calls_per_sample: int,
    q: float,
    processes: tuple[int, ...] = (),
) -> tuple[float | None, str | None]:
    """The q-th percentile (0 < q < 100) in ns, or None with the reason why it is not earned.

    Estimate times the percentile of the pooled time over slot median, so that slots of different work do not pass for a
    tail. It is a value that was observed (the smallest with at least q % at or below it), not an interpolation. The
    50th is the estimate itself.
    """
    series = Series(samples_ns, slots, calls_per_sample, processes)
    reason = why_no_percentile(series, q)
    return (None, reason) if reason else (percentiles(series, (q,), _estimate(series).ns)[q], None)


def why_no_percentile(series: Series, q: float) -> str | None:
    """Why the samples do not earn the q-th percentile; None if they do."""
    if q == 50:
        return None
    if series.calls_per_sample > 1:
        return f"a sample is {series.calls_per_sample} calls"
    needed, count = samples_needed(q), len(series.samples_ns)
    return f"p{q:g} needs {needed} samples, there are {count}" if count < needed else None


def percentiles(series: Series, several: Sequence[float], estimate_ns: float) -> dict[float, float]:
    """Those of the percentiles that the samples earn, in ns, by the definition of `percentile`; 50 is the estimate itself."""
    import numpy as np

    earned = [q for q in several if why_no_percentile(series, q) is None]
    if not set(earned) - {50}:
        return dict.fromkeys(earned, estimate_ns)
    table = _table(series)
    relative = np.sort((table / np.median(table, axis=0)).ravel())
    # The smallest with at least q % at or below it (NumPy's method `inverted_cdf`); 99.9 % of 1,000 is 999, not 999.0000001.
    places = {q: max(math.ceil(round(q * relative.size / 100, 6)) - 1, 0) for q in earned if q != 50}
    found = {q: estimate_ns * float(relative[place]) for q, place in places.items()}
    return {q: estimate_ns if q == 50 else found[q] for q in earned}


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
    """New over base, one process each; its interval as in `ratios_of`."""
    rows = level_rows([base, new])
    return ratios_of(rows[:1], rows[1:])[0]


def ratios_of(base: np.ndarray, new: np.ndarray) -> list[Ratio]:
    """New over base, rows of levels: slot with slot on the log scale, the geometric mean over slots of medians' ratios.

    The interval joins both sides' standard errors, degrees of freedom by Welch and Satterthwaite. Where the two do not
    have the same slots, the plain estimates are divided.
    """
    import numpy as np

    columns = base.T, new.T
    (ns, _, _, logs, slots, *_), (new_ns, _, _, new_logs, new_slots, *_) = columns
    centres = np.where(slots == new_slots, new_logs - logs, np.log(new_ns / ns))
    sizes, degrees, biases = (np.stack([side[number] for side in columns], axis=1) for number in (5, 6, 7))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        below = np.sum(sizes**4 / degrees, axis=1)
        joint = np.where((below > 0) & (below < np.inf), np.sum(sizes**2, axis=1) ** 2 / below, 1.0)
    halves = _half_widths(np.hypot(*sizes.T), joint) + biases.sum(axis=1)
    return list(map(Ratio, *_with_interval(np.exp(centres), halves).T.tolist()))


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


def time_of(line: Observed) -> Estimate:
    """Time of one call of a measurement, over all its processes. Raises ValueError without samples."""
    return _estimate(Series.of(line))


def _estimate(series: Series) -> Estimate:
    return estimates(level_rows([series]))[0]


def _ratio(log_centre: float, half: float) -> Ratio:
    return Ratio(math.exp(log_centre), math.exp(log_centre - half), _exp(log_centre + half))


def _exp(log: float) -> float:
    """e^log; a half-width beyond e^700 is no knowledge at all, and would overflow."""
    return math.exp(log) if log < 700 else math.inf


def _with_interval(centres: np.ndarray, halves: np.ndarray) -> np.ndarray:
    """Centres, and the lower and upper ends of their intervals, whose half-widths are on the log scale, [measurements, 3].

    One beyond what a number can hold is no knowledge at all.
    """
    import numpy as np

    with np.errstate(over="ignore"):
        spread = np.exp(halves)
        return np.stack([centres, centres / spread, centres * spread], axis=1)


def _half_widths(sizes: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """Standard errors times Student's quantiles; no error, or an unbounded one, stays what it is."""
    import numpy as np

    quantiles = np.array([t_quantile(_SIDE, one) for one in _coarse(degrees).tolist()])
    return np.asarray(np.where((sizes > 0) & (sizes < np.inf), sizes * quantiles, sizes))


def _coarse(degrees: np.ndarray) -> np.ndarray:
    """Degrees of freedom rounded down to three digits: thousands of them share a few quantiles, which are remembered."""
    import numpy as np

    few = np.minimum(degrees, 1e6)
    step = np.where(few < 1e6, 10.0 ** (np.floor(np.log10(few)) - 2), 1e5)
    return np.asarray(np.floor(few / step) * step)


def _table(series: Series) -> np.ndarray:
    """Nanoseconds of one call, [revolutions, slots]; one column where samples carry no slot. Only whole revolutions."""
    import numpy as np

    if not series.samples_ns:
        raise ValueError("no samples")
    times = _times([series])[0]
    if series.slots is None:
        return times[:, None]
    period = period_of(series.slots)
    if period:
        return times.reshape(-1, period)
    slots = np.asarray(series.slots)
    order = np.argsort(slots, kind="stable")
    counts = np.unique(slots, return_counts=True)[1]
    columns = np.split(times[order], np.cumsum(counts)[:-1])
    return np.stack([column[: counts.min()] for column in columns], axis=1)


def _times(several: Sequence[Series]) -> np.ndarray:
    """Nanoseconds of one call in each sample, [measurements, samples], of measurements of equally many samples."""
    import numpy as np

    samples = np.array(_joined([series.samples_ns for series in several]), dtype=np.float64)
    # A duration of 0 is a clock too coarse for the call; half a tick keeps the logarithm finite.
    return np.asarray(np.maximum(samples, 0.5) / np.array([[series.calls_per_sample] for series in several]))


def _joined(several: Sequence[Sequence[int]]) -> Any:
    """What NumPy makes rows of; arrays are joined first, which it would read one by one."""
    import numpy as np

    if not all(type(one) is array and one.typecode == "q" for one in several):
        return several
    return np.frombuffer(b"".join(several), dtype=np.int64).reshape(len(several), -1)  # type: ignore[arg-type]


def columns(slots: Sequence[int]) -> np.ndarray:
    """Of each sample the column of its slot in the table, and so its place in a profile."""
    import numpy as np

    period = period_of(slots)
    return np.arange(len(slots)) % period if period else np.unique(np.asarray(slots), return_inverse=True)[1]


def period_of(slots: Sequence[int]) -> int | None:
    """How many slots come in turn, always in one order; None where they do not."""
    order = list(slots)
    period = order.index(order[0], 1) if order[0] in order[1:] else len(order)
    return period if order == order[:period] * (len(order) // period) else None

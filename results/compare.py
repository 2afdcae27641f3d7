"""Which is faster, and how sure that is: two runs case by case, or the targets of one run side by side.

Runs by several processes each, beside one canary, are compared by what differs beyond the canary (`results.two_runs`). Without
a common canary the interval also holds what equal code differs by between runs. Runs of one process are always `unsure`:
processes of equal code differ by more than the interval within one of them can know. Over many cases verdicts are corrected:
`benjamini_hochberg` (which changed?) here, `holm` (did any?) in the gate.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Any

import msgspec
from msgspec.structs import replace

from results import two_runs
from results.collector import no_cycles
from results.figures import percent
from results.levelled import levels_of
from results.machine import several_threads
from results.matching import Match, fastest, matched
from results.pairs import Correction, Joined, benjamini_hochberg, surviving
from results.record import Measurement
from results.statistics import (
    Estimate,
    Level,
    Ratio,
    Series,
    Verdict,
    estimates,
    geometric_mean,
    ratio,
    ratios_of,
    time_of,
    verdict,
)
from results.store import RunFile
from results.student import t_quantile
from workloads.case import Case, UserError, parsed

__all__ = [
    "ONE_PROCESS",
    "PAIR_COLUMNS",
    "Comparison",
    "Entry",
    "Margins",
    "Pair",
    "SideBySide",
    "compare",
    "comparison_rows",
    "fastest",
    "nothing_comparable",
    "pair_row",
    "pairs_of",
    "row_with",
    "targets_side_by_side",
]

ONE_PROCESS = (
    "one process each: processes of equal code differ by more; measure with --processes 5, or let `moemark duel` decide"
)
NO_CANARY = "no common canary: the interval holds the 2.4 % that equal code differs by between runs"
MOVED = "the canary took {} of its time in the base: the machine is not what it was, measure again"
CONTENDED = "contended, and no common canary that saw it too"
FALLEN = "does not survive the correction for {} cases"
_SAME_LINES = "the same measurement in both files"
_OK = ("ok", "ok")
MOST_MOVED = 1.25
"""Canary over canary beyond which no verdict is reached: how a case follows its canary was learnt near to where it stands."""
KNOWN_SPREAD = 0.024
"""Standard deviation of the log ratio of equal code's medians, recorded minutes apart on two shared cores: over 32 pairs of
runs of 15 s it was as large with five processes as with one."""


@dataclass(frozen=True, init=False)
class Margins:
    """When a change is one (`threshold`) and when it is none (`same`); 0.01 is 1 %."""

    threshold: float
    same: float

    def __init__(self, threshold: float = 0.01, same: float | None = None) -> None:
        """`same` is 2 % or the threshold if that is more: a change that is surely below the threshold is never unsure.

        Raises UserError for a number that cannot be meant.
        """
        margins = {"threshold": threshold, "same": max(0.02, threshold) if same is None else same}
        for name, value in margins.items():
            if not 0 <= value < 1:
                raise UserError(f"--{name} {value:g} is not between 0 and 100 %: write for instance --{name} 3%")
            object.__setattr__(self, name, value)


class Pair(msgspec.Struct, frozen=True, gc=False):
    """One case × target × implementation in both runs. Without a ratio it is not comparable, and `reason` says why."""

    case: str
    target: str
    implementation: str
    base: Estimate | None = None
    new: Estimate | None = None
    ratio: Ratio | None = None
    """Time of new over base; where there is a canary, over what the machine did to it."""
    verdict: Verdict | None = None
    reason: str | None = None
    warnings: tuple[str, ...] = ()
    p: float | None = None
    """One-sided p of the verdict `slower` or `faster`."""
    canary_ratio: float | None = None
    """The canary's time in new over that in base."""
    statuses: tuple[str | None, str | None] = (None, None)
    """Of base and new; None: not in that run."""


@dataclass(frozen=True)
class Comparison:
    """All pairs of two runs, in the order of the base; ratio = new time over base time."""

    base: str
    new: str
    pairs: tuple[Pair, ...]
    mean: Ratio
    """Geometric mean of the comparable pairs."""
    mean_verdict: Verdict

    @property
    def comparable(self) -> tuple[Pair, ...]:
        """Pairs with a ratio."""
        return tuple(pair for pair in self.pairs if pair.ratio)

    def mean_is_of(self, shown: Sequence[Pair]) -> bool:
        """Whether these are all the pairs that the mean is of; beside a choice of them that must be said."""
        return sum(pair.ratio is not None for pair in shown) == len(self.comparable)


def compare(base: RunFile, new: RunFile, margins: Margins | None = None, across_formats: bool = False) -> Comparison:
    """Compares two runs (`across_formats` as in `matched`), verdicts corrected by Benjamini and Hochberg.

    Raises UserError, with the first reason, if no case is comparable.
    """
    margins = margins or Margins()
    with no_cycles():
        judge = _judge(base, new, margins, across_formats)
    pairs = _corrected(judge.pairs, benjamini_hochberg)
    ratios = [pair.ratio for pair in pairs if pair.ratio]
    if not ratios:
        raise nothing_comparable(base, new, pairs)
    mean = judge.mean or _mean(ratios, any(pair.reason == NO_CANARY for pair in judge.pairs))
    return Comparison(base.stem, new.stem, pairs, mean, _mean_verdict(pairs, mean, margins))


def pairs_of(
    base: RunFile, new: RunFile, margins: Margins, correct: Correction, spreads: Mapping[str, float] | None = None
) -> tuple[Pair, ...]:
    """Every measurement of both runs with its verdict; `spreads` as in `results.history`.

    Raises UserError for runs of different methods.
    """
    return _corrected(_judge(base, new, margins, False, spreads).pairs, correct)


def nothing_comparable(base: RunFile, new: RunFile, pairs: Sequence[Pair]) -> UserError:
    """The mistake of two runs without comparable work, with the first reason."""
    why = f", for instance {pairs[0].case}: {pairs[0].reason}" if pairs else ": one of them is empty"
    return UserError(f"{base.stem} and {new.stem} have no comparable case{why}")


def _judge(
    base: RunFile, new: RunFile, margins: Margins, across_formats: bool, spreads: Mapping[str, float] | None = None
) -> _Judge:
    if base.run.method_version != new.run.method_version:
        versions = f"{base.run.method_version} and {new.run.method_version}"
        raise UserError(f"{base.stem} and {new.stem} measured by different methods ({versions}): measure one again")
    threads = several_threads(base.run) | several_threads(new.run)
    return _Judge(matched(base, new, across_formats), margins, spreads or {}, threads)


class _Judge:
    """Turns matches into pairs with verdicts, all of a comparison at once: processes of several cases calibrate each other."""

    def __init__(
        self, matches: Sequence[Match], margins: Margins, spreads: Mapping[str, float], threads: Set[str]
    ) -> None:
        self._matches = matches
        self._margins = margins
        self._threads = threads
        able = [match for match in matches if _comparable(match)]
        levels = levels_of([side[0] for match in able for side in (match.base, match.new) if side])
        self._levels = levels[0::2], levels[1::2]
        alone = [number for number, match in enumerate(able) if _of_one_process(match)]
        ratios = dict(zip(alone, ratios_of(*(side[alone] for side in self._levels)), strict=True))
        self._beside = _beside(able, spreads, threads)
        times = zip(*map(estimates, self._levels), strict=True)
        judged = (
            self._judged(n, match, both, ratios.get(n)) for n, (match, both) in enumerate(zip(able, times, strict=True))
        )
        self.pairs = tuple(next(judged) if _comparable(match) else _refused(match) for match in matches)

    @property
    def mean(self) -> Ratio | None:
        """Geometric mean over the pairs where all have a common canary, with what their processes have in common; else None."""
        comparable = [match for match in self._matches if not match.reason]
        if len(comparable) < 2 or any(id(match) not in self._beside for match in comparable):
            return None
        return two_runs.mean_difference([self._beside[id(match)] for match in comparable]).interval()

    def _judged(self, number: int, match: Match, times: tuple[Estimate, Estimate], alone: Ratio | None) -> Pair:
        """The pair of a comparable match, the `number`th of them; `alone`: its ratio where a side is of one process."""
        (base, digest), (new, other) = match.base, match.new  # type: ignore[misc]
        warnings = _warnings(tuple(base.warnings), tuple(new.warnings)) if base.warnings or new.warnings else ()
        if digest == other:
            return Pair(*match.key, *times, Ratio(1.0, 1.0, 1.0), "same", _SAME_LINES, warnings, statuses=_OK)
        if alone:
            return Pair(*match.key, *times, alone, "unsure", ONE_PROCESS, warnings, statuses=_OK)
        pair = Pair(*match.key, *times, warnings=warnings, statuses=_OK)
        if id(match) in self._beside:
            return self._beyond(pair, self._beside[id(match)])
        if "contended" in base.warnings or "contended" in new.warnings:
            return replace(pair, reason=CONTENDED)
        known = max(KNOWN_SPREAD, two_runs.SEVERAL_THREADS_SPREAD if base.target in self._threads else 0.0)
        levels = [Level(*side[number].tolist()) for side in self._levels]
        return self._decided(replace(pair, reason=NO_CANARY), _spread(levels[0], levels[1], known))

    def _beyond(self, pair: Pair, found: two_runs.Difference) -> Pair:
        moved = math.exp(found.canary)
        decided = self._decided(replace(pair, canary_ratio=moved), found.joined)
        if not _has_moved(decided):
            return decided
        return replace(decided, verdict="unsure", p=None, reason=MOVED.format(percent(moved)))

    def _decided(self, pair: Pair, found: Joined) -> Pair:
        compared, margins = found.interval(), self._margins
        word = verdict(compared, margins.threshold, margins.same)
        tails = {"slower": found.p_above, "faster": found.p_below}
        return replace(pair, ratio=compared, verdict=word, p=tails[word](margins.threshold) if word in tails else None)


def _comparable(match: Match) -> bool:
    return not match.reason and match.base is not None and match.new is not None


def _of_one_process(match: Match) -> bool:
    """Whether a side of it is of one process."""
    return any(side is not None and side[0].processes < 2 for side in (match.base, match.new))


def _refused(match: Match) -> Pair:
    """The pair of a match that is not comparable."""
    statuses = tuple(side[0].status if side else None for side in (match.base, match.new))
    return Pair(*match.key, reason=match.reason, statuses=statuses)  # type: ignore[arg-type]


def _has_moved(pair: Pair) -> bool:
    """Whether the machine is not what it was, by its canary."""
    return pair.canary_ratio is not None and not 1 / MOST_MOVED <= pair.canary_ratio <= MOST_MOVED


def _beside(
    matches: Sequence[Match], spreads: Mapping[str, float], threads: Set[str]
) -> dict[int, two_runs.Difference]:
    """What differs beyond the canary, by the identity of a match whose sides have the same one."""
    found: dict[int, two_runs.Difference] = {}
    for canary, members in two_runs.sides_of(matches, threads).items():
        spread = spreads.get(canary, two_runs.run_spread(canary))
        together = two_runs.differences([sides for _, sides in members], spread)
        found |= {id(match): one for (match, _), one in zip(members, together, strict=True)}
    return found


def _spread(base: Level, new: Level, known: float) -> Joined:
    """Two runs of several processes without a common canary: their own errors and what runs of equal code differ by."""
    squares = [level.size**2 for level in (base, new)]
    log = new.log - base.log if base.slots == new.slots else math.log(new.ns / base.ns)
    if math.isinf(sum(squares)):
        return Joined(log, math.inf, 1.0, 0)
    below = sum(square**2 / level.degrees for square, level in zip(squares, (base, new), strict=True))
    whole = sum(squares) + known**2
    return Joined(log, math.sqrt(whole), whole**2 / below if below else math.inf, 0)


def _corrected(pairs: Sequence[Pair], correct: Correction) -> tuple[Pair, ...]:
    """Verdicts that the number of cases leaves."""
    decided = [pair for pair in pairs if pair.p is not None or pair.verdict in ("same", "unsure")]
    stands = surviving([str(pair.verdict) for pair in decided], [pair.p for pair in decided], correct)
    fallen = {id(pair) for pair, good in zip(decided, stands, strict=True) if not good}
    reason = FALLEN.format(len(decided))
    return tuple(replace(pair, verdict="unsure", reason=reason) if id(pair) in fallen else pair for pair in pairs)


def comparison_rows(comparison: Comparison, pairs: Sequence[Pair] | None = None) -> list[dict[str, Any]]:
    """The pairs (or these of them) as plain dicts, and the geometric mean of all as the last one (case `geometric mean`).

    Beside a choice of the pairs its `reason` says so.
    """
    shown = comparison.pairs if pairs is None else pairs
    said = None if comparison.mean_is_of(shown) else f"of all {len(comparison.comparable)}, not only these"
    mean = Pair("geometric mean", "*", "*", ratio=comparison.mean, verdict=comparison.mean_verdict, reason=said)
    return [pair_row(comparison.base, comparison.new, pair) for pair in (*shown, mean)]


@dataclass(frozen=True)
class Entry:
    """What one target made of a case: its fastest closed or portable implementation, or why there is none."""

    target: str
    implementation: str | None = None
    time: Estimate | None = None
    ratio: Ratio | None = None
    """Time over that of the first target with a time."""
    reason: str | None = None


@dataclass(frozen=True)
class SideBySide:
    """One case on all targets of a run, in the run's order."""

    case: str
    entries: tuple[Entry, ...]


def targets_side_by_side(run_file: RunFile) -> list[SideBySide]:
    """Per case the fastest implementation of every target that does exactly this work (not `open`), and the ratios."""
    cases: dict[str, list[Measurement]] = {}
    for line in run_file.measurements:
        cases.setdefault(line.case, []).append(line)
    return [_side_by_side(case, lines, run_file.run.targets) for case, lines in cases.items()]


def _mean(ratios: Sequence[Ratio], drifting: bool) -> Ratio:
    """Geometric mean; `drifting`: of runs that differ by what the machine became, which does not average out over cases."""
    mean = geometric_mean(ratios)
    if not drifting:
        return mean
    half = math.hypot(math.log(mean.high / mean.value), t_quantile(0.975, math.inf) * KNOWN_SPREAD)
    return Ratio(mean.value, mean.value * math.exp(-half), mean.value * math.exp(half))


def _mean_verdict(pairs: tuple[Pair, ...], mean: Ratio, margins: Margins) -> Verdict:
    comparable = [pair for pair in pairs if pair.ratio]
    if all(pair.reason == _SAME_LINES for pair in comparable):
        return "same"
    if any(pair.reason == ONE_PROCESS or _has_moved(pair) for pair in comparable):
        return "unsure"
    return verdict(mean, margins.threshold, margins.same)


def pair_row(base: str, new: str, pair: Pair) -> dict[str, Any]:
    """A pair of the runs of these names as a plain dict."""
    return {
        "base": base,
        "new": new,
        "case": pair.case,
        "target": pair.target,
        "implementation": pair.implementation,
        "base_ns": pair.base.ns if pair.base else None,
        "new_ns": pair.new.ns if pair.new else None,
        "ratio": pair.ratio.value if pair.ratio else None,
        "low_ratio": pair.ratio.low if pair.ratio else None,
        "high_ratio": pair.ratio.high if pair.ratio else None,
        "canary_ratio": pair.canary_ratio,
        "verdict": pair.verdict or "not comparable",
        "p": pair.p,
        "reason": pair.reason,
        "warnings": list(pair.warnings),
    }


PAIR_COLUMNS = (
    *(
        "base",
        "new",
        "case",
        "workload",
        "model",
        "ep",
        "tokens",
        "dtype",
        "routing",
        "scenario",
        "target",
        "implementation",
    ),
    *("base_ns", "new_ns", "ratio", "low_ratio", "high_ratio", "canary_ratio", "verdict", "p", "reason", "warnings"),
)
"""What a comparison is chosen and sorted by: `row_with` has them."""


def row_with(base: str, new: str, pair: Pair, columns: Set[str]) -> dict[str, Any]:
    """A pair of the runs of these names as a plain dict with these columns at least: for choosing pairs by them.

    Segments are those of the case (the base's, where the sides are of two formats).
    """
    row = {} if columns <= _SEGMENTS.keys() else pair_row(base, new, pair)
    if wanted := columns & _SEGMENTS.keys():
        text = pair.case
        case = parsed(re.sub(r"([^/]+) > [^/]+", r"\1", text) if " > " in text else text)
        row |= {name: _SEGMENTS[name](case) for name in wanted}
    return row


_SEGMENTS: Mapping[str, Callable[[Case], Any]] = {
    "workload": lambda case: "+".join((case.workload, *case.variants)),
    **{name: attrgetter(name) for name in ("model", "ep", "tokens", "dtype", "routing", "scenario")},
}


def _side_by_side(case: str, lines: list[Measurement], targets: Sequence[str]) -> SideBySide:
    chosen = {target: fastest(line for line in lines if line.target == target) for target in targets}
    first = next((line for line in chosen.values() if line), None)
    return SideBySide(case, tuple(_entry(target, line, first, lines) for target, line in chosen.items()))


def _entry(target: str, line: Measurement | None, first: Measurement | None, lines: list[Measurement]) -> Entry:
    if line is None:
        return Entry(target, reason=_why_none([found for found in lines if found.target == target]))
    against = ratio(Series.of(first), Series.of(line)) if first and first is not line else None
    return Entry(target, line.implementation, time_of(line), against)


def _why_none(lines: list[Measurement]) -> str:
    if not lines:
        return "not run"
    worst = next((line for line in lines if line.status != "ok"), None)
    return f"{worst.status}: {worst.reason or 'no reason given'}" if worst else "only open implementations"


@lru_cache(1024)
def _warnings(base: tuple[str, ...], new: tuple[str, ...]) -> tuple[str, ...]:
    """Those of both sides; thousands of pairs share a few."""
    return tuple(f"{side} {word}" for side, words in (("base", base), ("new", new)) for word in words)

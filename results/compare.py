"""Which is faster, and how sure that is: two runs case by case, or the targets of one run side by side.

Only equal work is compared: same case, same inputs, same method. Two different runs of one process each are always
`unsure`: processes of equal code differ by more than the interval within one of them can know. Across number formats the work
is equal but for the dtype, and that is compared only where it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from results.record import Measurement
from results.statistics import Estimate, Ratio, Series, Verdict, geometric_mean, ratio, time_of, verdict
from results.store import RunFile
from workloads.case import Case, UserError

__all__ = [
    "ONE_PROCESS",
    "Comparison",
    "Entry",
    "Margins",
    "Pair",
    "SideBySide",
    "compare",
    "comparison_rows",
    "fastest",
    "targets_side_by_side",
]

ONE_PROCESS = "one process each: processes of equal code differ by more; `moemark duel` decides"
OTHER_FORMAT = "other format: the new run has this case as {}, which --across-formats compares"
_SAME_LINES = "the same measurement in both files"


@dataclass(frozen=True)
class Margins:
    """When a change is one (`threshold`) and when it is none (`same`); 0.01 is 1 %."""

    threshold: float = 0.01
    same: float = 0.02


@dataclass(frozen=True)
class Pair:
    """One case × target × implementation in both runs. Without a ratio it is not comparable, and `reason` says why."""

    case: str
    target: str
    implementation: str
    base: Estimate | None = None
    new: Estimate | None = None
    ratio: Ratio | None = None
    verdict: Verdict | None = None
    reason: str | None = None
    warnings: tuple[str, ...] = ()


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


Key = tuple[str, str, str]
"""Case, target, implementation."""
Side = tuple[Measurement, str]
"""A measurement and its line's digest."""


def compare(base: RunFile, new: RunFile, margins: Margins | None = None, across_formats: bool = False) -> Comparison:
    """Compares two runs. Raises UserError, with the first reason, if they have no comparable case at all.

    `across_formats`: what has no partner in the other run is compared with the same case in another dtype, on each target the
    fastest implementation of either that is not open.
    """
    margins = margins or Margins()
    if base.run.method_version != new.run.method_version:
        versions = f"{base.run.method_version} and {new.run.method_version}"
        raise UserError(f"{base.stem} and {new.stem} measured by different methods ({versions}): measure one again")
    sides = _by_key(base), _by_key(new)
    pairs = () if sides[0].keys() & sides[1].keys() else tuple(_across_targets(sides[0], sides[1], margins))
    if not pairs:
        pairs = tuple(_pair(key, sides[0].get(key), sides[1].get(key), margins) for key in (sides[0] | sides[1]))
        pairs = _across(pairs, sides, margins) if across_formats else tuple(_hinted(pair, sides[1]) for pair in pairs)
    ratios = [pair.ratio for pair in pairs if pair.ratio]
    if not ratios:
        why = f", for instance {pairs[0].case}: {pairs[0].reason}" if pairs else ": one of them is empty"
        raise UserError(f"{base.stem} and {new.stem} have no comparable case{why}")
    mean = geometric_mean(ratios)
    return Comparison(base.stem, new.stem, pairs, mean, _mean_verdict(pairs, mean, margins))


def comparison_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """The pairs as plain dicts, and the geometric mean as the last one (case `geometric mean`)."""
    rows = [_pair_row(comparison, pair) for pair in comparison.pairs]
    mean = Pair("geometric mean", "*", "*", ratio=comparison.mean, verdict=comparison.mean_verdict)
    return [*rows, _pair_row(comparison, mean)]


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
    cases = dict.fromkeys(line.case for line in run_file.measurements)
    return [_side_by_side(case, run_file) for case in cases]


def fastest(measurements: Iterable[Measurement]) -> Measurement | None:
    """The fastest `ok` one that is not `open`; None if there is none."""
    ranked = [line for line in measurements if line.status == "ok" and line.division != "open"]
    return min(ranked, key=lambda line: time_of(line).ns, default=None)


def _by_key(run_file: RunFile) -> dict[Key, Side]:
    pairs = zip(run_file.measurements, run_file.digests, strict=True)
    return {(line.case, line.target, line.implementation): (line, digest) for line, digest in pairs}


def _across_targets(base: dict[Key, Side], new: dict[Key, Side], margins: Margins) -> Iterable[Pair]:
    """Runs without a common target or implementation: every target of one against every one of the other, each case by its
    fastest exact implementation; cases are the same by their digest."""
    for case in dict.fromkeys(line.case_digest for line, _ in base.values()):
        one, other = (_fastest_by_target(side, case) for side in (base, new))
        for first in one.values():
            for second in other.values():
                lines = first[0], second[0]
                target, how = (_both(getattr(line, name) for line in lines) for name in ("target", "implementation"))
                yield _pair((lines[0].case, target, how), first, second, margins)


def _both(names: Iterable[str]) -> str:
    return " / ".join(dict.fromkeys(names))


def _fastest_by_target(side: dict[Key, Side], case_digest: str) -> dict[str, Side]:
    found = [one for one in side.values() if one[0].case_digest == case_digest]
    chosen = {target: fastest(line for line, _ in found if line.target == target) for _, target, _ in side}
    return {target: one for target, line in chosen.items() for one in found if line is one[0]}


def _pair(key: Key, base: Side | None, new: Side | None, margins: Margins) -> Pair:
    if base is None or new is None:
        return Pair(*key, reason=_ONLY_BASE if base else _ONLY_NEW)
    reason = _refusal(base[0], new[0])
    if reason:
        return Pair(*key, reason=reason)
    return _compared(key, base, new, margins)


def _compared(key: Key, base: Side, new: Side, margins: Margins) -> Pair:
    found = ratio(Series.of(base[0]), Series.of(new[0]))
    word, why = verdict(found, margins.threshold, margins.same), None
    if base[1] == new[1]:
        found, word, why = Ratio(1.0, 1.0, 1.0), "same", _SAME_LINES
    elif min(base[0].processes, new[0].processes) < 2:
        word, why = "unsure", ONE_PROCESS
    return Pair(*key, time_of(base[0]), time_of(new[0]), found, word, why, _warnings(base[0], new[0]))


_ONLY_BASE, _ONLY_NEW = "only in the base run", "only in the new run"


def _without_format(case: str) -> Case:
    return replace(Case.parse(case), dtype="fp32")


def _hinted(pair: Pair, new: dict[Key, Side]) -> Pair:
    """A pair without a partner, saying so where the new run has the case in another format."""
    if pair.reason != _ONLY_BASE:
        return pair
    wanted = _without_format(pair.case), pair.target
    found = {Case.parse(case).dtype for case, target, _ in new if (_without_format(case), target) == wanted}
    others = sorted(found - {Case.parse(pair.case).dtype})
    return replace(pair, reason=OTHER_FORMAT.format(", ".join(others))) if others else pair


def _across(
    pairs: tuple[Pair, ...], sides: tuple[dict[Key, Side], dict[Key, Side]], margins: Margins
) -> tuple[Pair, ...]:
    """The pairs with partners, then each lone case of the base against each lone one of the new run that differs in dtype."""
    lone = [
        _fastest_by_case(side, [pair for pair in pairs if pair.reason == reason])
        for side, reason in zip(sides, (_ONLY_BASE, _ONLY_NEW), strict=True)
    ]
    met = [
        (one, other)
        for one in lone[0]
        for other in lone[1]
        if one[0].target == other[0].target and _without_format(one[0].case) == _without_format(other[0].case)
    ]
    done = {(line.case, line.target) for sides_met in met for line, _ in sides_met}
    kept = [
        pair for pair in pairs if pair.reason not in (_ONLY_BASE, _ONLY_NEW) or (pair.case, pair.target) not in done
    ]
    return (*kept, *(_pair_across(one, other, margins) for one, other in met))


def _fastest_by_case(side: dict[Key, Side], pairs: list[Pair]) -> list[Side]:
    keys = dict.fromkeys((pair.case, pair.target) for pair in pairs)
    lines = {id(side[p.case, p.target, p.implementation][0]): side[p.case, p.target, p.implementation] for p in pairs}
    best = [fastest(line for line, _ in lines.values() if (line.case, line.target) == key) for key in keys]
    return [lines[id(line)] for line in best if line is not None]


def _pair_across(base: Side, new: Side, margins: Margins) -> Pair:
    """One case in two formats; what defines its work beside the dtype was recorded as its cost and skew."""
    case, dtypes = base[0].case, [Case.parse(side[0].case).dtype for side in (base, new)]
    shown = case.replace(f"/{dtypes[0]}/", f"/{dtypes[0]} > {dtypes[1]}/")
    names = dict.fromkeys((base[0].implementation, new[0].implementation))
    key = shown, base[0].target, " > ".join(names)
    if _work(base[0]) != _work(new[0]):
        return Pair(*key, reason="different work: FLOPs, rows or skew differ")
    return _compared(key, base, new, margins)


def _work(line: Measurement) -> Any:
    cost = line.cost
    return (cost.flops, cost.tokens, cost.rows, cost.assignments, line.skew) if cost else None


def _refusal(base: Measurement, new: Measurement) -> str | None:
    """Why two measurements of one name must not be compared."""
    for side, line in (("base", base), ("new", new)):
        if line.status != "ok":
            return f"{side} is {line.status}" + (f": {line.reason}" if line.reason else "")
    if base.case_digest != new.case_digest:
        return "different work: the case digests differ (another version of the workload or the model)"
    if base.input_digest != new.input_digest:
        return "different inputs: the input digests differ"
    return None


def _mean_verdict(pairs: tuple[Pair, ...], mean: Ratio, margins: Margins) -> Verdict:
    comparable = [pair for pair in pairs if pair.ratio]
    if all(pair.reason == _SAME_LINES for pair in comparable):
        return "same"
    if any(pair.reason == ONE_PROCESS for pair in comparable):
        return "unsure"
    return verdict(mean, margins.threshold, margins.same)


def _pair_row(comparison: Comparison, pair: Pair) -> dict[str, Any]:
    return {
        "base": comparison.base,
        "new": comparison.new,
        "case": pair.case,
        "target": pair.target,
        "implementation": pair.implementation,
        "base_ns": pair.base.ns if pair.base else None,
        "new_ns": pair.new.ns if pair.new else None,
        "ratio": pair.ratio.value if pair.ratio else None,
        "low_ratio": pair.ratio.low if pair.ratio else None,
        "high_ratio": pair.ratio.high if pair.ratio else None,
        "verdict": pair.verdict or "not comparable",
        "reason": pair.reason,
        "warnings": list(pair.warnings),
    }


def _side_by_side(case: str, run_file: RunFile) -> SideBySide:
    lines = [line for line in run_file.measurements if line.case == case]
    chosen = {target: fastest(line for line in lines if line.target == target) for target in run_file.run.targets}
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



def _warnings(base: Measurement, new: Measurement) -> tuple[str, ...]:
    return tuple(f"{side} {word}" for side, line in (("base", base), ("new", new)) for word in line.warnings)

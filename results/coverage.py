"""Coverage: which share of a suite's cases ran on each target, portable, closed and open; what did not, and why; and what
tuning by hand bought: the fastest closed implementation over the portable one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from results.matching import fastest
from results.metrics import device_name
from results.record import Measurement
from results.statistics import Ratio, Series, geometric_mean, ratio
from results.store import RunFile
from workloads.case import Case

__all__ = ["DIVISIONS", "Covered", "Missing", "Tuning", "coverage_rows", "covered"]

DIVISIONS = ("portable", "closed", "open")
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Missing:
    """Cases that one division did not run, for one reason."""

    division: str
    status: str
    """As recorded; `not measured` where no run has the case."""
    reason: str
    """Of the first of them, what differs from case to case left in."""
    cases: tuple[str, ...]


@dataclass(frozen=True)
class Tuning:
    """What closed implementations bought in one dtype: time of the portable one over that of the fastest closed one."""

    dtype: str
    ratios: tuple[Ratio, ...]
    """One a case in which both are ok; > 1: closed is faster."""

    @property
    def mean(self) -> Ratio:
        """The geometric mean over the cases."""
        return geometric_mean(self.ratios)


@dataclass(frozen=True)
class Covered:
    """One target of one device, over all runs that have it."""

    target: str
    device: str | None
    cases: tuple[str, ...]
    """All that count: the suite's."""
    lines: tuple[Measurement, ...]
    """What the runs recorded of them."""

    def ran(self, division: str) -> frozenset[str]:
        """The cases in which an implementation of this division was ok."""
        return frozenset(line.case for line in self.lines if line.division == division and line.status == "ok")

    @cached_property
    def ran_at_all(self) -> frozenset[str]:
        """The cases that any division ran without changing the work: portable or closed."""
        return self.ran("portable") | self.ran("closed")

    @cached_property
    def missing(self) -> tuple[Missing, ...]:
        """What did not run, the most frequent reason first; cases that no run has come last."""
        groups: dict[tuple[str, str, str], dict[str, str]] = {}
        for line in self.lines:
            if line.status != "ok" and line.case not in self.ran(line.division):
                reason = line.reason or "no reason given"
                groups.setdefault((line.division, line.status, _alike(reason)), {}).setdefault(line.case, reason)
        found = [Missing(*key[:2], next(iter(cases.values())), tuple(cases)) for key, cases in groups.items()]
        found.sort(key=lambda one: (-len(one.cases), DIVISIONS.index(one.division)))
        recorded = {line.case for line in self.lines}
        rest = tuple(case for case in self.cases if case not in recorded)
        return (*found, *([Missing("", NOT_MEASURED, "no run has them", rest)] if rest else []))

    @cached_property
    def tuning(self) -> tuple[Tuning, ...]:
        """By dtype, those with a case in which both divisions are ok."""
        ratios: dict[str, list[Ratio]] = {}
        for case in self.cases:
            lines = [line for line in self.lines if line.case == case]
            plain, tuned = (fastest(line for line in lines if line.division == name) for name in DIVISIONS[:2])
            if plain and tuned:
                found = ratio(Series.of(tuned), Series.of(plain))
                ratios.setdefault(Case.parse(case).dtype, []).append(found)
        return tuple(Tuning(dtype, tuple(found)) for dtype, found in ratios.items())


def covered(run_files: Sequence[RunFile], cases: Sequence[str]) -> list[Covered]:
    """Each target and device of these runs, in the order in which they come. Of a measurement that several runs have, one that
    is ok counts, else the last."""
    found: dict[tuple[str, str | None], dict[tuple[str, str], Measurement]] = {}
    wanted = set(cases)
    for run_file in run_files:
        for target in run_file.run.targets:
            found.setdefault((target, device_name(run_file, target)), {})
        for line in run_file.measurements:
            if line.case in wanted:
                lines = found[line.target, device_name(run_file, line.target)]
                key = (line.case, line.implementation)
                if line.status == "ok" or key not in lines or lines[key].status != "ok":
                    lines[key] = line
    return [Covered(*key, tuple(cases), tuple(lines.values())) for key, lines in found.items()]


def coverage_rows(found: Sequence[Covered]) -> list[dict[str, Any]]:
    """As plain dicts, counts with the cases' names where something is missing."""
    return [
        {
            "target": one.target,
            "device": one.device,
            "cases": len(one.cases),
            **{division: len(one.ran(division)) for division in DIVISIONS},
            "ran": len(one.ran_at_all),
            "statuses": dict(Counter(line.status for line in one.lines)),
            "missing": [asdict(missing) for missing in one.missing],
            "closed_over_portable": [_tuning_row(tuning) for tuning in one.tuning],
        }
        for one in found
    ]


def _tuning_row(one: Tuning) -> dict[str, Any]:
    mean, values = one.mean, [found.value for found in one.ratios]
    ratios = {"ratio": mean.value, "low_ratio": mean.low, "high_ratio": mean.high}
    return {"dtype": one.dtype, "cases": len(values), **ratios, "least_ratio": min(values), "most_ratio": max(values)}


def _alike(reason: str) -> str:
    """The reason without what differs from case to case: numbers, and how many of a list are told."""
    return re.sub(r"(?:, \w*#)+(?: and # more)?", "", re.sub(r"\d[\d.]*", "#", reason))

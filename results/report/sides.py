"""Side by side: every target of every run against each that the reader may choose as the baseline.

A side has one time a case, that of its fastest exact implementation. Ratios, intervals and verdicts are those of
`results.compare`, which also says when there can be none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import msgspec

from results.compare import Comparison, Pair, compare
from results.figures import change, percent, time_text
from results.report.shown import Shown, ShownRun, fastest_of_each
from results.store import RunFile
from workloads.case import UserError

__all__ = ["MOST_CELLS", "Cell", "Contest", "Row", "Side", "as_run", "contest"]

MOST_CELLS = 10_000
"""Verdicts in one page: sides x cases x baselines to choose from."""
_ANY = "*"


def as_run(name: str, lines: Sequence[Shown]) -> RunFile:
    """Measurements of one run as a run of its own, without the names of their targets and implementations: so two of them are
    compared by `results.compare`, whatever these are called. Raises IndexError without any."""
    bare = tuple(msgspec.structs.replace(one.line, target=_ANY, implementation=_ANY) for one in lines)
    digests = tuple(one.digest for one in lines)
    return replace(lines[0].run_file, stem=name, measurements=bare, digests=digests, parts=(), ceilings=())


@dataclass(frozen=True)
class Side:
    """One target of one run."""

    name: str
    run: ShownRun
    target: str
    best: Mapping[str, Shown]
    """By case."""
    failed: Mapping[str, str]
    """By case, why there is no time."""

    @cached_property
    def view(self) -> RunFile:
        """The side as a run of one measurement a case."""
        return as_run(self.name, list(self.best.values()))


@dataclass(frozen=True)
class Row:
    """One side's part of a case."""

    case: str
    side: int
    implementation: str
    p50: str
    precision: str
    failed: str | None = None


@dataclass(frozen=True)
class Cell:
    """A row against one baseline."""

    change: str
    interval: str
    verdict: str
    """`base` for the baseline itself; empty where there is none, and `reason` says why."""
    reason: str | None = None


class Contest:
    """All sides, the cases that two of them finished, and what is said of each against a baseline."""

    def __init__(self, sides: Sequence[Side]) -> None:
        self.sides = tuple(sides)
        names = dict.fromkeys(case for side in sides for case in side.best)
        cases = [case for case in names if sum(case in side.best for side in sides) > 1]
        self.rows = tuple(
            _row(case, number, side)
            for case in cases
            for number, side in enumerate(sides)
            if case in side.best or case in side.failed
        )
        self.bases = len(sides) if not self.rows else max(1, min(len(sides), MOST_CELLS // len(self.rows)))
        """How many of the sides can be chosen as the baseline."""
        self._found: dict[int, tuple[Comparison | str | None, ...]] = {}

    def against(self, base: int) -> tuple[Comparison | str | None, ...]:
        """Each side against that one: its comparison, why there is none, or None for the baseline itself."""
        if base not in self._found:
            self._found[base] = tuple(
                None if side is self.sides[base] else _compared(self.sides[base], side) for side in self.sides
            )
        return self._found[base]

    def cells(self, base: int) -> list[Cell]:
        """One a row."""
        pairs = [_pairs(found) for found in self.against(base)]
        return [self._cell(row, base, pairs[row.side]) for row in self.rows]

    def _cell(self, row: Row, base: int, pairs: Mapping[str, Pair]) -> Cell:
        if row.side == base:
            return Cell("", "", "base")
        pair = pairs.get(row.case)
        if pair is None:
            found = self.against(base)[row.side]
            return Cell("", "", "", row.failed or (found if isinstance(found, str) else "the baseline has no time"))
        if pair.ratio is None:
            return Cell("", "", "", row.failed or pair.reason)
        low_high = f"{change(pair.ratio.low)} .. {change(pair.ratio.high)}"
        return Cell(change(pair.ratio.value), low_high, str(pair.verdict), pair.reason)


def contest(runs: Sequence[ShownRun]) -> Contest:
    """Every target of every run that has a time."""
    found = []
    for run in runs:
        best = fastest_of_each(run.lines)
        for target in run.targets:
            name = target if len(runs) == 1 else f"{run.name} · {target}"
            own = {one.line.case: one for one in best if one.line.target == target}
            if own:
                found.append(Side(name, run, target, own, _failures(run, target, own)))
    return Contest(found)


def _failures(run: ShownRun, target: str, timed: Mapping[str, Any]) -> dict[str, str]:
    lines = [one.line for one in run.lines if one.line.target == target and one.line.case not in timed]
    return {
        line.case: f"{line.status}: {line.reason or 'no reason was recorded'}" for line in lines if line.status != "ok"
    }


def _row(case: str, number: int, side: Side) -> Row:
    best = side.best.get(case)
    if best is None or best.figures is None:
        return Row(case, number, "", "", "", side.failed.get(case))
    time = best.figures.time
    return Row(case, number, best.line.implementation, time_text(time.ns), percent(time.precision))


def _compared(base: Side, side: Side) -> Comparison | str:
    try:
        return compare(base.view, side.view)
    except UserError as problem:
        return str(problem)


def _pairs(found: Comparison | str | None) -> dict[str, Pair]:
    return {pair.case: pair for pair in found.pairs} if isinstance(found, Comparison) else {}

"""Coverage as tables of at most 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from results.coverage import DIVISIONS, Covered, Missing, Tuning
from results.figures import interval, number, percent
from results.tables import Column, Section, Table

__all__ = ["coverage_tables"]

REASON_WIDTH = 50


def coverage_tables(found: Sequence[Covered], suite: str) -> list[Table]:
    """What ran where; what did not, and why; what tuning by hand bought. Tables without rows are left out."""
    return [table for table in (_ran(found, suite), _missing(found), _tuning(found)) if table.sections]


def _ran(found: Sequence[Covered], suite: str) -> Table:
    names = ("portable", "closed", "open", "exact")
    columns = (Column("target", right=False), *map(Column, names))
    count = len(found[0].cases) if found else 0
    sections = tuple(Section(one.device or "unnamed device", (_ran_row(one),)) for one in found)
    notes = ("exact: portable or closed, the cases' own work; open changes the work",)
    return Table(f"Ran: of the {count} cases of {suite}", columns, sections, notes)


def _ran_row(one: Covered) -> tuple[str, ...]:
    counts = [*(len(one.ran(division)) for division in DIVISIONS), len(one.ran_at_all)]
    cells = [f"{count} {percent(count / len(one.cases))}" if one.cases else "-" for count in counts]
    return (one.target, *cells)


def _missing(found: Sequence[Covered]) -> Table:
    columns = (Column("cases"), Column("what", right=False), Column("why, of the first of them", right=False))
    sections = tuple(
        Section(one.target, tuple(row for missing in one.missing for row in _missing_rows(missing)))
        for one in found
        if one.missing
    )
    return Table("Did not run", columns, sections)


def _missing_rows(one: Missing) -> list[tuple[str, ...]]:
    """One row, and below it what of the reason did not fit."""
    words = [word for word in (one.division, one.status) if word]
    reasons = textwrap.wrap(one.reason, REASON_WIDTH)
    height = max(len(words), len(reasons))
    cells = [[str(len(one.cases))], words, reasons]
    return [tuple(lines[at] if at < len(lines) else "" for lines in cells) for at in range(height)]


def _tuning(found: Sequence[Covered]) -> Table:
    names = ("cases", "time ratio", "95% interval", "least", "most")
    columns = (Column("dtype", right=False), *map(Column, names))
    sections = tuple(Section(one.target, tuple(map(_tuning_row, one.tuning))) for one in found if one.tuning)
    title = "What tuning bought: portable over closed, geometric mean; > 1: closed is faster"
    return Table(title, columns, sections)


def _tuning_row(one: Tuning) -> tuple[str, ...]:
    values = [found.value for found in one.ratios]
    figures = (number(one.mean.value), interval(one.mean), number(min(values)), number(max(values)))
    return (one.dtype, str(len(values)), *figures)

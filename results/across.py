"""Measurements by several ranks as a table: bandwidths, and how evenly the ranks were loaded."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from results.figures import number, time_text
from results.metrics import metrics
from results.record import Measurement, Ranks
from results.store import RunFile
from results.tables import Column, Section, Table

__all__ = ["ranks_table"]

SHARED = "the ranks share the CPU of one host: they were exchanged through its memory, no figure of a network"


def ranks_table(run_file: RunFile, measurements: Iterable[Measurement] | None = None) -> Table:
    """The `ok` measurements of collective workloads, a section a case; `a .. b` is from the least to the most of all ranks."""
    chosen = run_file.measurements if measurements is None else measurements
    shown = [(line, line.ranks) for line in chosen if line.status == "ok" and line.ranks]
    cases = dict.fromkeys(line.case for line, _ in shown)
    sections = [
        Section(case, tuple(_row(run_file, line, ranks) for line, ranks in shown if line.case == case))
        for case in cases
    ]
    names = ("ranks", "algbw", "busbw", "rows", "assignments", "p50 of ranks", "CPU time of a call")
    columns = (Column("target", False), Column("implementation", False), *map(Column, names))
    notes = (SHARED,) if any(ranks.shared_cpu for _, ranks in shown) else ()
    return Table(
        "Across ranks: GB/s by nccl-tests' definitions, least .. most of the ranks", columns, tuple(sections), notes
    )


def _row(run_file: RunFile, line: Measurement, ranks: Ranks) -> tuple[str, ...]:
    found, calls = metrics(run_file, line), len(line.samples_ns) * line.calls_per_sample
    assert found is not None, "only ok measurements are shown"
    medians = [statistics.median(own) / line.calls_per_sample for own in ranks.samples_ns]
    return (
        line.target,
        line.implementation,
        f"{ranks.count} {ranks.backend}" + (" [1]" if ranks.shared_cpu else ""),
        number(found.algbw_gb_per_s),
        number(found.busbw_gb_per_s),
        _range([f"{count:,}" for count in (min(ranks.rows), max(ranks.rows))]),
        _range([f"{count:,}" for count in (min(ranks.assignments), max(ranks.assignments))]),
        _range([time_text(pick(medians)) for pick in (min, max)]),
        _range([time_text(pick(ranks.cpu_ns) / calls) for pick in (min, max) if ranks.cpu_ns]),
    )


def _range(texts: Sequence[str]) -> str:
    return " .. ".join(dict.fromkeys(texts))

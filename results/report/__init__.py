"""The report: one HTML page that needs no network, and whose tables need no JavaScript."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from results.compare import compare
from results.metrics import device_name
from results.published import comparable
from results.report import facts, page, plots, roofline, rows, spread
from results.report.answer import answer, claims
from results.report.shown import MOST, Shown, ShownRun, fastest_of_each, selected, shown, thinned
from results.report.sides import Contest, contest
from results.sparsity import sparsity
from results.store import RunFile
from results.tables import Table, comparison_table, power_table, published_table, sparsity_table
from workloads.case import UserError

__all__ = ["html", "write_report"]

MOST_DRAWN = 1_000
"""About as many measurements are drawn at most: browsers draw five plots of them in a blink."""


def write_report(run_files: Sequence[RunFile], path: str | os.PathLike[str]) -> Path:
    """Writes the page of these runs, over an old page too: a report is derived, the record is what counts.

    Raises UserError without runs, if the path cannot be written, or if it holds something else than a page.
    """
    text, target = html(run_files), Path(path)
    _refuse_other_files(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    except OSError as problem:
        raise UserError(f"cannot write {target.name}: {problem.strerror}; name another file with -o") from problem
    return target


def _refuse_other_files(target: Path) -> None:
    """Raises UserError where a file would be lost that is no HTML page: a run file, named by a slip of the pen."""
    if target.is_file() and target.stat().st_size:
        with target.open("rb") as file:
            begin = file.read(64).lstrip().lower()
        if not begin.startswith((b"<!doctype html", b"<html")):
            raise UserError(f"{target.name} exists and is no HTML page: name another file with -o")


def html(
    run_files: Sequence[RunFile],
    most: int = MOST,
    plotly: page.Script | None = None,
    home: str | None = None,
    said: str = "",
) -> str:
    """The page as text; everything from a record is escaped.

    Of more than `most` measurements a selection. In a site, `plotly` names the script that its pages share, `home` its index,
    and `said` is what it has to say of the record.
    Raises UserError without runs.
    """
    if not run_files:
        raise UserError("a report needs at least one run file: moemark report RUN.jsonl -o report.html")
    chosen = selected(run_files, most)
    runs = shown(chosen.run_files)
    lines = [one for run in runs for one in run.lines]
    points, drawn = _drawn(lines)
    figures = _figures(runs, points)
    found = contest(runs)
    scripts = [page.own_script("tables.js"), page.own_script("report.js")]
    if any(figure.data for figure in figures):
        scripts.insert(0, plotly or page.plotly())
    return page.render(
        "report.html",
        scripts,
        free_styles=True,
        home=home,
        title="moemark: " + ", ".join(run.name for run in runs),
        names=[run.name for run in runs],
        answers=[answer(run) for run in runs],
        warnings=[text for text in (said, chosen.note, *(run.warning for run in run_files)) if text],
        **_sides(found),
        comparisons=_comparisons(chosen.run_files),
        figures=figures,
        drawn_of=drawn,
        drawn={figure.name: {"data": figure.data, "layout": figure.layout, "by": figure.by} for figure in figures},
        flat_table=rows.measurements(lines, len(runs) > 1),
        published=_published(lines, len(runs) > 1),
        evidence=rows.evidence(lines, len(runs) > 1),
        runs=[_sections(run) for run in runs],
        several=len(runs) > 1,
        command=" \\\n  && ".join(facts.command(run.run_file) for run in runs),
        unheld=" ".join(dict.fromkeys(text for run in runs for text in facts.unheld(run.run_file))),
        citation="\n".join(facts.citation(run) for run in run_files),
    )


def _drawn(lines: Sequence[Shown]) -> tuple[list[Shown], str]:
    """What plots show: the fastest exact measurements, of every run some. Beside them what the page says of that."""
    points = fastest_of_each(lines)
    thinning = thinned([one.line.case for one in points], MOST_DRAWN)
    kept = [one for one in points if one.line.case in thinning.cases][:: thinning.each]
    if len(kept) == len(points):
        return kept, "The tables hold the same numbers."
    return kept, f"Of {len(points):,} times {len(kept):,} are drawn, {thinning}; the tables hold them all."


def _figures(runs: Sequence[ShownRun], points: Sequence[Shown]) -> list[plots.Figure]:
    style = plots.Style(points, len(runs) > 1)
    return [
        plots.latency(points, style),
        plots.throughput(points, style),
        roofline.roofline(runs, points, style),
        spread.skew(points, style),
        spread.percentiles(points, style),
    ]


def _sides(found: Contest) -> dict[str, Any]:
    """What the page says against the first side, and as data against each other one that readers may choose."""
    bases = [(claims(found, base), found.cells(base)) for base in range(found.bases)] if found.rows else []
    reasons = dict.fromkeys(cell.reason for _, cells in bases for cell in cells if cell.reason)
    numbers = {reason: number for number, reason in enumerate(reasons, 1)}
    return {
        "contest": found,
        "claims": bases[0][0] if bases else [],
        "cells": bases[0][1] if bases else [],
        "reasons": numbers,
        "bases": [
            {
                "claims": [[claim.headline, claim.detail, claim.verdict] for claim in said],
                "cells": [
                    [cell.change, cell.interval, cell.verdict, numbers.get(cell.reason or "", 0)] for cell in cells
                ],
            }
            for said, cells in bases
        ],
    }


def _published(lines: Sequence[Shown], several: bool) -> Table | None:
    """The fastest exact measurement of each target and case beside what others published of it; None: they have nothing."""
    measured = [
        {
            "case": one.line.case,
            "target": f"{one.run}: {one.line.target}" if several else one.line.target,
            "implementation": one.line.implementation,
            "device": device_name(one.run_file, one.line.target),
            "status": one.line.status,
            "estimate_ns": one.figures.time.ns if one.figures else None,
        }
        for one in fastest_of_each(lines)
    ]
    found = published_table(comparable(measured))
    return found if found.sections else None


def _sections(run: ShownRun) -> dict[str, Any]:
    dense, power = sparsity_table(sparsity(run.run_file)), power_table(run.run_file)
    return {
        "name": run.name,
        "sparsity": dense if dense.sections else None,
        "power": power if power.sections else None,
        **facts.chapter(run),
    }


def _comparisons(run_files: Sequence[RunFile]) -> list[Table | str]:
    """Every later run against the first; where they hold no common work, the sentence that says so."""
    found: list[Table | str] = []
    for new in run_files[1:]:
        try:
            found.append(comparison_table(compare(run_files[0], new)))
        except UserError as problem:
            found.append(str(problem))
    return found

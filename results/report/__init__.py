"""The report: one HTML page that needs no network and, but for its two plots, no JavaScript."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from results.compare import compare, targets_side_by_side
from results.report.answer import answer
from results.report.facts import chapter
from results.sparsity import sparsity
from results.store import RunFile
from results.tables import Table, comparison_table, show_table, sparsity_table, targets_table
from workloads.case import UserError

__all__ = ["html", "write_report"]


def write_report(run_files: Sequence[RunFile], path: str | os.PathLike[str]) -> Path:
    """Writes the page of these runs, over an old one too: a report is derived, the record is what counts.

    Raises UserError without runs, or if the path cannot be written.
    """
    page, target = html(run_files), Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(page, encoding="utf-8")
    except OSError as problem:
        raise UserError(f"cannot write {target.name}: {problem.strerror}; name another file with -o") from problem
    return target


def html(run_files: Sequence[RunFile]) -> str:
    """The page as text. Everything from a record is escaped. Raises UserError without runs."""
    if not run_files:
        raise UserError("a report needs at least one run file: moemark report RUN.jsonl -o report.html")
    from results.report import plots

    page = _template().render(
        title="moemark: " + ", ".join(run.stem for run in run_files),
        answers=[answer(run) for run in run_files],
        several=len(run_files) > 1,
        warnings=[run.warning for run in run_files if run.warning],
        runs=[_sections(run) for run in run_files],
        comparisons=_comparisons(run_files),
        latency=plots.latency_json(run_files),
        roofline=plots.roofline_json(run_files),
        plotly=plots.script(),
    )
    return str(page)


def _sections(run_file: RunFile) -> dict[str, Any]:
    side_by_side, dense = targets_table(targets_side_by_side(run_file)), sparsity_table(sparsity(run_file))
    return {
        "stem": run_file.stem,
        "sides": side_by_side if side_by_side.sections else None,
        "sparsity": dense if dense.sections else None,
        "show": show_table(run_file),
        **chapter(run_file),
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


def _template() -> Any:
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("page.html")

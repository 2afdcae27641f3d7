"""A run in the formats of other tools: one module a format, which has `render(run_file)`.

A new format is a module and a line of `FORMATS`. Figures are those of `results.tidy` and `results.metrics`; nothing is measured
or judged here. What only some formats can hold, failed measurements above all, is said by `left_out`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from results.record import Run
    from results.store import RunFile

__all__ = [
    "FORMATS",
    "Format",
    "benchmark_name",
    "export",
    "format_named",
    "left_out",
    "selection_name",
    "write_export",
]


@dataclass(frozen=True)
class Format:
    """Where a format is made, and what it cannot do."""

    module: str
    function: str = "render"
    times_only: bool = False
    """It has no place for a measurement without a time."""
    binary: bool = False


FORMATS = {
    "csv": Format("results.exporting.csv_table"),
    "parquet": Format("results.exporting.parquet_table", binary=True),
    "pytest-benchmark": Format("results.exporting.pytest_benchmark", times_only=True),
    "github-action": Format("results.exporting.github_action", times_only=True),
    "github-action-tokens": Format("results.exporting.github_action", "render_tokens", times_only=True),
    "bencher": Format("results.exporting.bencher", times_only=True),
    "junit": Format("results.exporting.junit"),
    "markdown": Format("results.exporting.markdown"),
}


def format_named(name: str) -> Format:
    """The format of that name. Raises UserError listing those that there are."""
    from workloads.case import UserError

    if name not in FORMATS:
        raise UserError(f"unknown format {name!r}: there are {', '.join(FORMATS)}")
    return FORMATS[name]


def export(run_file: RunFile, name: str) -> bytes:
    """A run in a format, text as UTF-8. Raises UserError for an unknown format, or if what it needs is not installed."""
    chosen = format_named(name)
    rendered = getattr(import_module(chosen.module), chosen.function)(run_file)
    return rendered if isinstance(rendered, bytes) else rendered.encode(errors="replace")


def write_export(run_file: RunFile, name: str, path: str | os.PathLike[str]) -> Path:
    """Writes a run in a format, over an old export too: it is derived, the record is what counts.

    Raises UserError like `export`, if the path cannot be written, or if it holds a record.
    """
    from workloads.case import UserError

    data, target = export(run_file, name), Path(path)
    _refuse_records(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    except OSError as problem:
        raise UserError(f"cannot write {target.name}: {problem.strerror}; name another file with -o") from problem
    return target


def left_out(run_file: RunFile, name: str) -> int:
    """How many measurements of a run the format has no place for."""
    failed = sum(line.status != "ok" for line in run_file.measurements)
    return failed if format_named(name).times_only else 0


def benchmark_name(case: str, target: str, implementation: str) -> str:
    """What a measurement is called where a tool wants one name: `CASE[TARGET-IMPLEMENTATION]`, as pytest writes parameters."""
    return f"{case}[{target}-{implementation}]"


def selection_name(run: Run) -> str:
    """What was run, on one short line: the suite, or the first pattern and how many more."""
    first, *others = run.selection or ["nothing"]
    return f"{first} and {len(others)} more" if others else first


def _refuse_records(target: Path) -> None:
    from results.store import HEADER_BEGINS
    from workloads.case import UserError

    if target.is_file():
        with target.open("rb") as file:
            if file.read(len(HEADER_BEGINS)) == HEADER_BEGINS:
                raise UserError(f"{target.name} is a run file, which an export must not replace: name another with -o")

"""Printing: tables and JSON on standard output, progress and errors on standard error."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.plan import LeftOut, Step
from harness.progress import Observer
from results.figures import percent, time_text
from results.record import Measurement, Observed, Part
from results.statistics import time_of
from results.tables import Column, Section, Table

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = [
    "PlainObserver",
    "TerminalObserver",
    "error_line",
    "observer_for_stderr",
    "print_csv",
    "print_json",
    "show",
    "table_of",
]

JSON_SCHEMA_VERSION = 1


def print_json(kind: str, rows: Any) -> None:
    """One document: `{"schema_version": 1, KIND: rows}`. What is no number in JSON is null."""
    print(json.dumps({"schema_version": JSON_SCHEMA_VERSION, kind: _plain(rows)}, indent=1, ensure_ascii=False))


def print_csv(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """Rows of these columns, with a heading; nothing that a spreadsheet would run."""
    from results.exporting.csv_table import table

    sys.stdout.write(table(rows, columns))


def show(*tables: Table) -> None:
    """Tables as text, an empty line between them, as narrow as the terminal, or as COLUMNS says."""
    width = _terminal_width()
    print("\n\n".join(table.text(width) for table in tables))


def _terminal_width() -> int | None:
    """Columns of the terminal; None where standard output is none."""
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal() and int(told) > 0:
        return int(told)
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def table_of(title: str, rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> Table:
    """Rows of plain values as a table; numbers stand at the right, what is absent is blank."""
    numeric = {name: all(isinstance(row.get(name), int | float | None) for row in rows) for name in columns}
    cells = tuple(tuple(_cell(row.get(name)) for name in columns) for row in rows)
    return Table(title, tuple(Column(name, numeric[name]) for name in columns), (Section("", cells),))


def error_line(text: str) -> None:
    """The one line of a mistake."""
    print(f"moemark: {' '.join(text.split())}", file=sys.stderr)


def observer_for_stderr() -> Observer:
    """A progress bar where standard error is a terminal, else one plain line a finished measurement."""
    return TerminalObserver() if sys.stderr.isatty() else PlainObserver()


class PlainObserver(Observer):
    """Lines on standard error."""

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def planned(self, steps: Sequence[Step], done: int, left_out: Sequence[LeftOut], processes: int) -> None:
        cases = len({step.case for step in steps})
        recorded = f", {done} recorded already" if done else ""
        several = f", each prepared, checked and sampled in {processes} processes" if processes > 1 else ""
        self.say(f"{len(steps)} measurements of {cases} cases{several}{recorded}")
        reasons = Counter((left.target, left.implementation, left.reason) for left in left_out for _ in left.cases)
        for (target, implementation, reason), count in reasons.items():
            self.say(f"left out on {target}: {implementation} ({count} cases): {reason}")

    def finished(self, number: int, total: int, measurement: Measurement) -> None:
        self.say(f"[{number}/{total}] {_sentence(measurement)}")

    def visited(self, number: int, total: int, part: Part) -> None:
        self.say(f"[{number}/{total}] process {part.process + 1}: {_sentence(part)}")


class TerminalObserver(PlainObserver):
    """The same lines above a bar: phase, case k of n, interval, time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            MofNCompleteColumn(),
            BarColumn(20),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
        )
        self._console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        self._progress: Progress = Progress(*columns, console=self._console, transient=True)
        self._task: TaskID | None = None
        self._now = ""

    def say(self, text: str) -> None:
        self._console.print(text)

    def planned(self, steps: Sequence[Step], done: int, left_out: Sequence[LeftOut], processes: int) -> None:
        super().planned(steps, done, left_out, processes)
        self._progress.start()
        self._task = self._progress.add_task("", total=len(steps) * processes, completed=done * processes)

    def begins(self, number: int, total: int, step: Step) -> None:
        self._now = f"{step.case.id} {step.target} {step.implementation}"
        self._describe("")

    def phase(self, name: str) -> None:
        self._describe(name)

    def progress(self, event: dict[str, Any]) -> None:
        spent = f"{event['elapsed_s']:.0f} of {event['budget_s']:.0f} s"
        self._describe(f"sample {time_text(event['ns'])} ±{percent(event['precision'])}, {spent}")

    def finished(self, number: int, total: int, measurement: Measurement) -> None:
        super().finished(number, total, measurement)
        self._completed(number, total)

    def visited(self, number: int, total: int, part: Part) -> None:
        super().visited(number, total, part)
        self._completed(number, total)

    def close(self) -> None:
        self._progress.stop()

    def _completed(self, number: int, total: int) -> None:
        if self._task is not None:
            self._progress.update(self._task, completed=number, total=total)

    def _describe(self, phase: str) -> None:
        if self._task is not None:
            self._progress.update(self._task, description=f"{phase}: {self._now}" if phase else self._now)


def _sentence(measurement: Observed) -> str:
    what = f"{measurement.case} {measurement.target} {measurement.implementation}"
    if measurement.status != "ok":
        return f"{what}: {measurement.status}: {measurement.reason}"
    found = time_of(measurement)
    warned = f" ({', '.join(measurement.warnings)})" if measurement.warnings else ""
    return f"{what}: {time_text(found.ns)} ±{percent(found.precision)}{warned}"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)

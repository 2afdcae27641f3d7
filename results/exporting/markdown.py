"""Markdown for a GitHub job summary: the table of `moemark show`, with its notes.

moemark export run.jsonl --format markdown >> "$GITHUB_STEP_SUMMARY"
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from results.exporting import selection_name
from results.record import table_in
from results.store import RunFile
from results.tables import Table, show_table

__all__ = ["render"]

_MARKUP = re.compile(r"([\\`*_\[\]<>|~&$])")


def render(run_file: RunFile) -> str:
    """A heading, what ran where, the table and its notes, closed by an empty line: the next step's summary follows."""
    run, table = run_file.run, show_table(run_file)
    parts = [f"### {_plain(table.title)}", _plain(_where(run_file)), "\n".join(_rows(table))]
    parts += [_plain(f"Incomplete: {run_file.warning}")] if run_file.warning else []
    parts += [f"{_plain(f'[{number}]')} {_plain(note)}" for number, note in enumerate(table.notes, 1)]
    parts.append(f"<sub>{_plain(f'moemark {run.moemark_version}, {run.started_utc}')}</sub>")
    return "\n\n".join(parts) + "\n\n"


def _where(run_file: RunFile) -> str:
    run = run_file.run
    cpu = table_in(run.environment, "machine").get("cpu", "unknown CPU")
    return f"{selection_name(run)} on {', '.join(run.targets)} ({cpu})"


def _rows(table: Table) -> Iterator[str]:
    yield _row(["case", *(column.name for column in table.columns)])
    yield "|" + "|".join([" --- ", *(" ---: " if column.right else " --- " for column in table.columns)]) + "|"
    for section in table.sections:
        for number, row in enumerate(section.rows):
            yield _row(["" if number else section.title, *row])


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(map(_plain, cells)) + " |"


def _plain(text: str) -> str:
    """Text on one line in which nothing is markup."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))

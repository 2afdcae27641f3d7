"""Markdown for a GitHub job summary: the table of `moemark show`, with its notes.

moemark export run.jsonl --format markdown >> "$GITHUB_STEP_SUMMARY"
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from results.exporting import selection_name
from results.record import table_in
from results.store import RunFile
from results.tables import Table, show_table

__all__ = ["page", "paragraphs_of", "render"]

_MARKUP = re.compile(r"([\\`*_\[\]<>|~&$])")


def render(run_file: RunFile) -> str:
    """A heading, what ran where, the table and its notes, closed by an empty line: the next step's summary follows."""
    run = run_file.run
    said = [_where(run_file), *([f"Incomplete: {run_file.warning}"] if run_file.warning else [])]
    foot = f"moemark {run.moemark_version}, {run.started_utc}"
    return page(show_table(run_file), said, foot)


def page(table: Table, said: Sequence[str] = (), foot: str = "") -> str:
    """A table as Markdown: its title as a heading, sentences, its rows, its notes and a foot, closed by an empty line."""
    notes = [f"{_plain(f'[{number}]')} {_plain(note)}" for number, note in enumerate(table.notes, 1)]
    parts = [f"### {_plain(table.title)}", *map(_plain, said), "\n".join(_rows(table)), *notes]
    return _joined([*parts, f"<sub>{_plain(foot)}</sub>"] if foot else parts)


def paragraphs_of(said: Sequence[str]) -> str:
    """Sentences as Markdown, a paragraph each, closed by an empty line."""
    return _joined(list(map(_plain, said)))


def _joined(parts: Sequence[str]) -> str:
    return "".join(f"{part}\n\n" for part in parts)


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

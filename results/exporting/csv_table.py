"""CSV (RFC 4180): the tidy table, a row a measurement, units in the column names.

Reasons are text of other people's libraries, and spreadsheets run a cell that begins like a formula: such a text gets an
apostrophe in front, unless it is a number.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from results.store import RunFile
from results.tidy import COLUMNS, tidy_rows

__all__ = ["render", "table"]

FORMULA_BEGINS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""Excel takes the full-width ones too (OWASP, CSV Injection)."""


def render(run_file: RunFile) -> str:
    """The table with a heading. A figure that does not exist is an empty cell."""
    return table(tidy_rows(run_file), COLUMNS)


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Rows of these columns as CSV, with a heading."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([columns, *([_cell(row[name]) for name in columns] for row in rows)])
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        value = "; ".join(map(str, value))
    return _harmless(value) if isinstance(value, str) else value


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA_BEGINS) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

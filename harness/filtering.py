"""`--where`: which measurements to show."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from workloads.case import UserError

__all__ = ["chosen"]


def chosen(rows: Sequence[dict[str, Any]], conditions: Sequence[str]) -> list[tuple[dict[str, Any], bool]]:
    """Each row with whether it meets all conditions `KEY=TEXT` or `KEY!=TEXT`. Raises UserError for an unknown key."""
    tests = [_parse(condition, rows) for condition in conditions]
    return [(row, all(_meets(row, *test) for test in tests)) for row in rows]


def _parse(condition: str, rows: Sequence[dict[str, Any]]) -> tuple[str, bool, str]:
    key, equals, text = condition.partition("=")
    wanted = not key.endswith("!")
    key = key.removesuffix("!").strip()
    if not equals:
        raise UserError(f"--where {condition!r} is not KEY=TEXT, for instance --where dtype=bf16")
    if rows and key not in rows[0]:
        raise UserError(f"--where: there is no {key!r}: there are {', '.join(rows[0])}")
    return key, wanted, text.strip()


def _meets(row: dict[str, Any], key: str, wanted: bool, pattern: str) -> bool:
    value = row[key]
    return fnmatchcase("" if value is None else str(value), pattern) is wanted

"""`--where` and `--sort`: which measurements or comparisons to show, and in which order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from results.where import condition_of
from workloads.case import UserError

if TYPE_CHECKING:
    from results.compare import Comparison, Pair
    from results.run_file import RunFile

__all__ = ["chosen", "chosen_pairs", "ordered"]


def chosen(run_file: RunFile, conditions: Sequence[str]) -> list[int]:
    """The numbers, from 0, of the measurements that meet all conditions. Raises UserError for what is not understood."""
    from results.tidy import COLUMNS, RECORDED, rows_with

    if not conditions:
        return list(range(len(run_file.measurements)))
    numbers: Sequence[int] = range(len(run_file.measurements))
    condition = condition_of(conditions, COLUMNS)
    for stage in condition.staged(RECORDED):
        rows = rows_with(run_file, stage.columns, numbers)
        numbers = [number for number, row in zip(numbers, rows, strict=True) if stage.holds(row)]
    condition.refuse_nonsense()
    return list(numbers)


def chosen_pairs(found: Comparison, conditions: Sequence[str], key: str | None) -> list[Pair]:
    """The pairs of a comparison that meet all conditions, by a column where `key` names one. Raises UserError likewise."""
    from results.compare import PAIR_COLUMNS, row_with

    if not conditions and key is None:
        return list(found.pairs)
    condition = condition_of(conditions, PAIR_COLUMNS)
    columns = condition.columns | ({key.removeprefix("-")} if key else set())
    rows = [row_with(found.base, found.new, pair, columns) for pair in found.pairs]
    kept = [number for number, row in enumerate(rows) if condition.holds(row)]
    condition.refuse_nonsense()
    if key is not None:
        order = ordered([rows[number] for number in kept], key, PAIR_COLUMNS)
        kept = [kept[place] for place in order]
    return [found.pairs[number] for number in kept]


def ordered(rows: Sequence[dict[str, Any]], key: str, columns: Sequence[str]) -> list[int]:
    """The places of rows in the order of a column, smallest first, or largest first where a `-` stands before its name.

    What has no value is last. Raises UserError for an unknown column.
    """
    name, falling = key.removeprefix("-"), key.startswith("-")
    if name not in columns:
        raise UserError(f"--sort: there is no {name!r}: there are {', '.join(columns)}")
    known = [place for place, row in enumerate(rows) if _has_value(row[name])]
    known.sort(key=lambda place: _comparable(rows[place][name]), reverse=falling)
    return known + [place for place, row in enumerate(rows) if not _has_value(row[name])]


def _has_value(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def _comparable(value: Any) -> Any:
    return value if isinstance(value, int | float | str) else str(value)

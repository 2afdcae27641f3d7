"""What `show` and `compare` show: the measurements or pairs that were asked for, as tables or as rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.filtering import chosen, ordered
from results.where import condition_of

if TYPE_CHECKING:
    from results.layout import Table
    from results.run_file import RunFile

__all__ = ["ShowAsk", "shown_rows", "shown_tables"]

Read = Callable[[Path], "RunFile"]
NOT_VERIFIED = "not verified, but what the records say: `moemark report DIR -o SITE` ranks verified ones alone"


@dataclass(frozen=True)
class ShowAsk:
    """What to show of some files."""

    paths: tuple[Path, ...]
    where: tuple[str, ...] = ()
    sort: str | None = None
    best: bool = False
    """Of each work on each device the fastest alone."""
    published: bool = False

    @property
    def unverified(self) -> bool:
        """Whether rows are ranked, or come from a table, as records have them: nobody looked whether these can be true."""
        return self.best or any(map(is_table, self.paths))

    @property
    def ranked(self) -> bool:
        """Whether rows stand in an order of their own, so that tables of single runs cannot hold them."""
        return self.sort is not None or self.unverified


def is_table(path: Path) -> bool:
    """Whether a file is a table that `moemark export` made of a folder."""
    return path.suffix == ".parquet"


def shown_rows(ask: ShowAsk, read: Read) -> list[dict[str, Any]]:
    """The measurements as rows. Raises UserError."""
    from results.library import fastest_rows, query
    from results.tidy import COLUMNS, tidy_rows

    rows: list[dict[str, Any]] = []
    for path in ask.paths:
        if is_table(path):
            rows += query(path, condition_of(ask.where, COLUMNS), ask.best)
        else:
            run_file = read(path)
            rows += tidy_rows(run_file, chosen(run_file, ask.where))
    if ask.best:
        # Works of one case id stand together, the fastest first.
        work = itemgetter("case_digest", "method_version", "estimate_ns")
        rows = sorted(map(dict, fastest_rows(rows)), key=work)
    sort = ask.sort or ("case" if ask.best else None)
    return [rows[place] for place in ordered(rows, sort, COLUMNS)] if sort else rows


def shown_tables(ask: ShowAsk, read: Read) -> list[Table]:
    """The measurements as tables, and beside them, where asked for, what others published. Raises UserError."""
    from results.tables import ranking_table

    if ask.ranked:
        rows = shown_rows(ask, read)
        notes = (NOT_VERIFIED,) if ask.unverified else ()
        tables = [ranking_table(rows, (ask.sort or "estimate_ns").removeprefix("-"), notes)]
        return [*tables, *_published(rows)] if ask.published else tables
    found = [_of_run(ask, read(path)) for path in ask.paths]
    return [table for tables in found for table in tables]


def _of_run(ask: ShowAsk, run_file: RunFile) -> Sequence[Table]:
    from results.across import ranks_table
    from results.tables import power_table, show_table
    from results.tidy import tidy_rows

    numbers = chosen(run_file, ask.where)
    measurements = [run_file.measurements[number] for number in numbers]
    more = (power_table(run_file, measurements), ranks_table(run_file, measurements))
    tables = [show_table(run_file, measurements), *(table for table in more if table.sections)]
    return [*tables, *_published(tidy_rows(run_file, numbers))] if ask.published else tables


def _published(rows: Sequence[dict[str, Any]]) -> list[Table]:
    from results.published import comparable
    from results.tables import published_table

    return [published_table(comparable(rows))]

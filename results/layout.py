"""Tables as text: aligned, and as narrow as a terminal is."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain

from results.visible import visible

__all__ = ["Column", "Section", "Table"]

LAST = 12
"""Least width of the last column, whose text goes on in further lines."""


@dataclass(frozen=True)
class Column:
    """A heading; figures stand at the right."""

    name: str
    right: bool = True
    minor: int = 0
    """Left out where a terminal is too narrow, the highest first; 0: never."""


@dataclass(frozen=True)
class Section:
    """Rows under one heading (empty: none). Every row has as many cells as the table has columns."""

    title: str
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Table:
    """Sections of equal columns, and notes that cells refer to as [1], [2], ..."""

    title: str
    columns: tuple[Column, ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...] = ()

    def text(self, width: int | None = None) -> str:
        """The table in aligned columns of plain text, without colour and without a trailing newline.

        `width`: of the terminal; minor columns are left out and long texts go on in the next line until it fits.
        """
        return "\n".join(_Layout(self, width).lines())


class _Layout:
    """A table on its way to lines of text."""

    def __init__(self, table: Table, width: int | None) -> None:
        self._width = width
        self._left_out: list[str] = []
        self._table = _shown(table)
        self._widths = self._measured()
        while (dropped := self._too_wide()) is not None:
            if name := self._table.columns[dropped].name:  # a bar has none, and is no loss
                self._left_out.append(name)
            self._table = _without(self._table, dropped)
            del self._widths[dropped]

    def _measured(self) -> list[int]:
        """The widest cell of each column."""
        names = tuple(column.name for column in self._table.columns)
        rows = (row for part in self._table.sections for row in part.rows)
        return [max(map(len, cells)) for cells in zip(names, *rows, strict=True)]

    def _too_wide(self) -> int | None:
        """The column to leave out next; None where the table fits, or nothing can be left out."""
        if self._width is None:
            return None
        minor = [(column.minor, number) for number, column in enumerate(self._table.columns) if column.minor]
        *before, last = self._widths
        needed = sum(2 + size for size in before) + 2 + min(last, LAST)
        return max(minor)[1] if needed > self._width and minor else None

    def lines(self) -> Iterator[str]:
        """The whole text."""
        table, row_lines = self._table, self._row_lines()
        yield from self._wrapped(table.title)
        if table.sections:
            yield ""
            yield row_lines(tuple(column.name for column in table.columns))
        for part in table.sections:
            yield from self._wrapped(part.title) if part.title else ()
            yield from map(row_lines, part.rows)
        notes = [f"[{number}] {note}" for number, note in enumerate(table.notes, 1)]
        if self._left_out:
            notes.append(f"left out to fit: {', '.join(self._left_out)} (a wider terminal, --csv or --json has them)")
        if notes:
            yield ""
        for note in notes:
            yield from self._wrapped(note)

    def _row_lines(self) -> Callable[[tuple[str, ...]], str]:
        """What makes text of a row: a line, or several where its last cell is too long."""
        *widths, last_width = self._widths
        *columns, last_column = self._table.columns
        cells = (f"%{'' if column.right else '-'}{width}s  " for column, width in zip(columns, widths, strict=True))
        begin = "  " + "".join(cells)
        before = 2 + sum(width + 2 for width in widths)
        room = math.inf if self._width is None else max(self._width - before, LAST)
        whole = int(min(last_width, room)) if last_column.right else 0

        def lines(row: tuple[str, ...]) -> str:
            last = row[-1]
            if len(last) <= room:
                return (begin % row[:-1] + last.rjust(whole)).rstrip()
            first, *others = _folded(last, int(room)) or [""]
            return "\n".join(
                [(begin % row[:-1] + first).rstrip(), *((" " * before + text).rstrip() for text in others)]
            )

        return lines

    def _wrapped(self, text: str) -> list[str]:
        if self._width is None or len(text) <= self._width:
            return [text]
        return textwrap.wrap(text, self._width, break_long_words=False, break_on_hyphens=False)


@lru_cache(1024)
def _folded(text: str, width: int) -> list[str]:
    """A text over several lines; thousands of rows share a few texts."""
    return textwrap.wrap(text, width)


def _shown(table: Table) -> Table:
    """The table with nothing in its texts that a terminal would obey."""
    if "".join(_texts(table)).isprintable():  # nearly always, and to look at all texts at once is fast
        return table
    sections = tuple(Section(visible(part.title), tuple(map(_visible_row, part.rows))) for part in table.sections)
    columns = tuple(replace(column, name=visible(column.name)) for column in table.columns)
    notes = tuple(map(visible, table.notes))
    return replace(table, title=visible(table.title), columns=columns, sections=sections, notes=notes)


def _texts(table: Table) -> Iterator[str]:
    names = (column.name for column in table.columns)
    rows = chain.from_iterable(part.rows for part in table.sections)
    return chain([table.title], names, (part.title for part in table.sections), chain.from_iterable(rows), table.notes)


def _visible_row(row: tuple[str, ...]) -> tuple[str, ...]:
    return row if "".join(row).isprintable() else tuple(map(visible, row))


def _without(table: Table, dropped: int) -> Table:
    """The table without a column."""

    def kept(row: Sequence[str]) -> tuple[str, ...]:
        return tuple(cell for number, cell in enumerate(row) if number != dropped)

    columns = tuple(column for number, column in enumerate(table.columns) if number != dropped)
    sections = tuple(Section(part.title, tuple(map(kept, part.rows))) for part in table.sections)
    return replace(table, columns=columns, sections=sections)

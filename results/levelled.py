"""Levels in place of samples: what comparing needs of a measurement of one process.

It is computed where the line is read (`results.statistics.level_rows`). What several processes measured beside a canary is
compared share by share (`results.two_runs`), and keeps its samples.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from results.run_file import RunFile
from results.statistics import Level, Series, level_rows

if TYPE_CHECKING:
    import numpy as np

__all__ = ["levels_of", "with_levels"]

NOTHING = array("q")


def levels_of(lines: Sequence[Any]) -> np.ndarray:
    """The level of each measurement, as `level_rows` has it: the one that it brought, or that of its samples, computed once
    wherever it stands twice.

    Raises ValueError without either.
    """
    import numpy as np

    brought: list[Any] = [getattr(line, "level", msgspec.UNSET) for line in lines]
    others = {id(line): line for line, level in zip(lines, brought, strict=True) if level is msgspec.UNSET}
    if others:
        found = dict(zip(others, _packed(list(others.values())), strict=True))
        brought = [found.get(id(line), level) for line, level in zip(lines, brought, strict=True)]
    return np.frombuffer(b"".join(brought)).reshape(-1, len(Level._fields))


def _packed(lines: Sequence[Any]) -> list[bytes]:
    """The level of each as the bytes of its row."""
    return [row.tobytes() for row in level_rows(list(map(Series.of, lines)))]


def with_levels(found: RunFile) -> RunFile:
    """The same, whose measurements of one process have their levels in place of their samples."""
    put = msgspec.structs.force_setattr
    lines: list[Any] = [line for line in found.measurements if line.processes < 2 and line.samples_ns]
    for line, level in zip(lines, _packed(lines), strict=True):
        put(line, "level", level)
        put(line, "samples_ns", NOTHING)
        put(line, "slots", None)
        put(line, "turns", [])
        put(line, "canary_ns", [])
    return found

"""Long records read side by side, a process each, of which the times come back and the samples do not.

A measurement of one process is compared by its level (`results.statistics.levels`), which takes a fiftieth of the memory of
the line and is computed where the line is read. What several processes measured beside a canary is compared share by share
(`results.two_runs`), and comes back whole.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from results.collector import no_cycles
from results.opening import stem_of
from results.record import Ceiling, End, Run
from results.run_file import RunFile
from results.statistics import Level, Series, levels
from results.store import read_times
from results.timed import PassedOver, Timed

__all__ = ["Levelled", "levels_of", "read_several_times"]

LONG = 16 << 20
"""Bytes of a record from which on a process of its own is worth its start (0.3 s)."""


class Levelled(Timed, frozen=True, kw_only=True):
    """A measurement with its level in place of its samples. Only our own processes send such: no record holds one."""

    level: Level | None = None
    """None where the samples are there, or never were."""

    def __post_init__(self) -> None:
        # Its samples were looked at where they were read; here they may be gone.
        msgspec.structs.force_setattr(self, "samples_ns", array("q", self.samples_ns))


class _Sent(msgspec.Struct):
    """A `RunFile` on its way between processes."""

    run: Run
    ceilings: list[Ceiling]
    measurements: list[Levelled]
    digests: list[str]
    end: End | None
    torn: bool
    lines: int
    parts: int
    newer: str | None
    last_digest: str


_DECODER = msgspec.msgpack.Decoder(_Sent)


def levels_of(lines: Sequence[Any]) -> list[Level]:
    """The level of each measurement: the one that it brought, or that of its samples. Raises ValueError without either."""
    brought = [line.level if isinstance(line, Levelled) else None for line in lines]
    missing = [line for line, level in zip(lines, brought, strict=True) if level is None]
    found = iter(levels([Series.of(line) for line in missing]))
    return [next(found) if level is None else level for level in brought]


def read_several_times(paths: Sequence[Path]) -> list[RunFile]:
    """`read_times` of each file; long ones at once. Raises UserError as that does, of the first file that is wrong."""
    together = min(sum(_size(path) >= LONG for path in paths), os.cpu_count() or 1)
    if together < 2:
        return [read_times(path) for path in paths]
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    # A fresh interpreter: a copy of this one would share the threads and locks of whatever was loaded before.
    with ProcessPoolExecutor(together, get_context("spawn")) as pool, no_cycles():
        return [_received(path, text) for path, text in zip(paths, pool.map(_sent, paths), strict=True)]


def _size(path: Path) -> int:
    """0 of what is not there: whoever reads it says so."""
    return path.stat().st_size if path.is_file() else 0


def _sent(path: Path) -> bytes:
    with no_cycles():
        found = read_times(path)
        lines = list(_levelled(found.measurements))
        about = (found.run, list(found.ceilings), lines, list(found.digests), found.end, found.torn, found.lines)
        return msgspec.msgpack.encode(_Sent(*about, len(found.parts), found.newer, found.last_digest), enc_hook=list)


def _levelled(lines: Sequence[Any]) -> Iterable[Levelled]:
    """The measurements of one process with their levels, the others as they are."""
    alone = [line for line in lines if line.processes < 2 and line.samples_ns]
    known = iter(levels([Series.of(line) for line in alone]))
    for line in lines:
        fields = {name: getattr(line, name) for name in Timed.__struct_fields__}
        if line.processes < 2 and line.samples_ns:
            fields |= {"samples_ns": (), "slots": None, "turns": (), "canary_ns": (), "level": next(known)}
        yield Levelled(**fields)


def _received(path: Path, text: bytes) -> RunFile:
    found = _DECODER.decode(text)
    return RunFile(
        stem=stem_of(path),
        run=found.run,
        ceilings=tuple(found.ceilings),
        measurements=tuple(found.measurements),  # type: ignore[arg-type]
        digests=tuple(found.digests),
        end=found.end,
        torn=found.torn,
        lines=found.lines,
        parts=(PassedOver(),) * found.parts,  # type: ignore[arg-type]
        newer=found.newer,
        last_digest=found.last_digest,
    )

"""Long records read side by side, a process each, of which the times come back and the samples do not.

A measurement of one process is compared by its level (`results.statistics.levels`), which is computed where the line is read.
What several processes measured beside a canary is compared share by share (`results.two_runs`), and comes back whole.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from results.collector import no_cycles
from results.opening import stem_of
from results.record import Ceiling, End, Run
from results.run_file import RunFile
from results.statistics import Level, Series, levels
from results.store import read_times
from results.timed import PassedOver, Timed

__all__ = ["levels_of", "read_several_times"]

NOTHING = array("q")
LONG = 16 << 20
"""Bytes of a record from which on a process of its own is worth its start (0.3 s)."""


class _Levelled(Timed, frozen=True, kw_only=True):
    """A measurement on its way from a process of ours, with its level in place of its samples."""

    level: Level | msgspec.UnsetType = msgspec.UNSET  # type: ignore[assignment]

    def __post_init__(self) -> None:
        # Its samples were looked at where they were read; here they may be gone.
        msgspec.structs.force_setattr(self, "samples_ns", array("q", self.samples_ns))


class _Sent(msgspec.Struct):
    """A `RunFile` on its way between processes."""

    run: Run
    ceilings: list[Ceiling]
    measurements: list[_Levelled]
    digests: list[str]
    end: End | None
    torn: bool
    lines: int
    parts: int
    newer: str | None
    last_digest: str


_DECODER = msgspec.msgpack.Decoder(_Sent)
_kept: list[RunFile] = []
"""What a process of ours has read: taking it apart comes after sending it, when nobody waits."""


def levels_of(lines: Sequence[Any]) -> list[Level]:
    """The level of each measurement: the one that it brought, or that of its samples, computed once wherever it stands twice.

    Raises ValueError without either.
    """
    brought: list[Any] = [getattr(line, "level", msgspec.UNSET) for line in lines]
    others = {id(line): line for line, level in zip(lines, brought, strict=True) if level is msgspec.UNSET}
    if not others:
        return brought
    found: dict[int, Any] = dict(zip(others, levels(list(map(Series.of, others.values()))), strict=True))
    return [found.get(id(line), level) for line, level in zip(lines, brought, strict=True)]


def read_several_times(paths: Sequence[Path]) -> list[RunFile]:
    """`read_times` of each file; long ones at once. Raises UserError as that does, of a file that is wrong."""
    elsewhere = [path for path in paths if _size(path) >= LONG][: min(os.cpu_count() or 1, len(paths)) - 1]
    if not elsewhere:
        return [read_times(path) for path in paths]
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    # A fresh interpreter: a copy of this one would share the threads and locks of whatever was loaded before.
    pool = ProcessPoolExecutor(len(elsewhere), get_context("spawn"))
    try:
        # By files: 60 MB go slowly through a pipe.
        # A reader may still write where another file was wrong: that is no second mistake.
        with no_cycles(), TemporaryDirectory(prefix="moemark-", ignore_cleanup_errors=True) as folder:
            files = {path: Path(folder) / str(number) for number, path in enumerate(elsewhere)}
            sent = {path: pool.submit(_sent, path, file) for path, file in files.items()}
            here = {path: _with_levels(read_times(path)) for path in paths if path not in sent}
            for one in sent.values():
                one.result()
            return [here[path] if path in here else _received(path, files[path].read_bytes()) for path in paths]
    finally:
        pool.shutdown(wait=False)  # what they have to clean up is their own affair


def _size(path: Path) -> int:
    """0 of what is not there: whoever reads it says so."""
    return path.stat().st_size if path.is_file() else 0


def _sent(path: Path, to: Path) -> None:
    with no_cycles():
        found = _with_levels(read_times(path))
        lines: list[Any] = list(found.measurements)
        _kept.append(found)
        about = (found.run, list(found.ceilings), lines, list(found.digests), found.end, found.torn, found.lines)
        whole = _Sent(*about, len(found.parts), found.newer, found.last_digest)
        to.write_bytes(msgspec.msgpack.encode(whole, enc_hook=list))


def _with_levels(found: RunFile) -> RunFile:
    """The same, whose measurements of one process have their levels in place of their samples."""
    lines: list[Any] = [line for line in found.measurements if line.processes < 2 and line.samples_ns]
    for line, level in zip(lines, levels([Series.of(line) for line in lines]), strict=True):
        for name, value in (
            ("level", level),
            ("samples_ns", NOTHING),
            ("slots", None),
            ("turns", []),
            ("canary_ns", []),
        ):
            msgspec.structs.force_setattr(line, name, value)
    return found


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

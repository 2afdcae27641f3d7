"""Long records read side by side, a process each, of which the times come back and the samples do not (`results.levelled`)."""

from __future__ import annotations

import gc
import os
import select
import sys
import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from operator import attrgetter
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any, NoReturn

import msgspec

from results.collector import no_cycles
from results.levelled import with_levels
from results.opening import stem_of
from results.record import Ceiling, End, Run
from results.run_file import RunFile
from results.store import read_times
from results.timed import PassedOver, Timed
from workloads.case import UserError

__all__ = ["read_several_times", "send"]

LONG = 16 << 20
"""Bytes of a record from which on a process of its own is worth its start (0.1 s)."""


class _Levelled(Timed, frozen=True, kw_only=True, array_like=True):
    """A measurement on its way from a process of ours, with its level in place of its samples."""

    level: bytes | msgspec.UnsetType = msgspec.UNSET  # type: ignore[assignment]

    def __post_init__(self) -> None:
        # Its samples were looked at where they were read; here they may be gone.
        msgspec.structs.force_setattr(self, "samples_ns", array("q", self.samples_ns))


class _Sent(msgspec.Struct):
    """What goes before the measurements of a `RunFile` on its way between processes."""

    run: Run
    ceilings: list[Ceiling]
    digests: list[str]
    end: End | None
    torn: bool
    lines: int
    parts: int
    newer: bytes | None
    last_digest: str


KILLED = -9
PART = 8192
"""Measurements that are sent at once: one side takes them apart while the other puts the next together."""
_BEGIN = msgspec.msgpack.Decoder(_Sent | bytes)
_SOME = msgspec.msgpack.Decoder(list[_Levelled] | bytes)
_fields = attrgetter(*(name for name in Timed.__struct_fields__ if name != "level"))


def read_several_times(paths: Sequence[Path], meanwhile: Callable[[], object] = lambda: None) -> list[RunFile]:
    """`read_times` of each file; long ones at once. Raises UserError as that does, of a file that is wrong.

    `meanwhile` is called where others are waited for, and before this returns.
    """
    distinct = list(dict.fromkeys(paths))
    elsewhere = [path for path in distinct if _size(path) >= LONG][: min(_helpers(), len(distinct) - 1)]
    if not elsewhere:
        short = [read_times(path) for path in paths]
        meanwhile()
        return short
    with no_cycles(), ExitStack() as stack:
        readers = {path: stack.enter_context(_Reader(path)) for path in elsewhere}
        here = {path: with_levels(read_times(path)) for path in paths if path not in readers}
        meanwhile()
        found = here | {path: reader.received() for path, reader in readers.items()}
        return [found[path] for path in paths]


class _Reader:
    """A process that reads a record: a fresh interpreter, since a copy of this one would share its threads and locks.

    It speaks by a pipe of its own, since what standard output says is not ours alone. -P: no module of the working directory.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        ours, theirs = os.pipe()
        words = [*sys.path, str(path), str(theirs), str(PART)]
        self._pipe = os.fdopen(ours, "rb")
        try:
            command = [sys.executable, "-P", "-c", _CODE, *words]
            self._process = Popen(command, stdin=DEVNULL, stdout=DEVNULL, pass_fds=(theirs,))
        finally:
            os.close(theirs)

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._pipe.close()
        self._process.wait()

    def received(self) -> RunFile:
        """Waits for what it read. Raises UserError where the file is wrong, or the reader was ended."""
        begin = self._told(_BEGIN)
        measurements: list[Any] = []
        while some := self._told(_SOME):
            measurements += some
        return RunFile(
            stem=stem_of(self._path),
            run=begin.run,
            ceilings=tuple(begin.ceilings),
            measurements=tuple(measurements),
            digests=tuple(begin.digests),
            end=begin.end,
            torn=begin.torn,
            lines=begin.lines,
            parts=(PassedOver(),) * begin.parts,
            newer=None if begin.newer is None else _text(begin.newer),
            last_digest=begin.last_digest,
        )

    def _told(self, decoder: msgspec.msgpack.Decoder[Any]) -> Any:
        found = decoder.decode(self._message())
        if isinstance(found, bytes):
            raise UserError(_text(found))
        return found

    def _message(self) -> bytes:
        size = int.from_bytes(self._pipe.read(_SIZE), "big")
        found = self._pipe.read(size)
        if not found or len(found) < size:
            code = self._process.wait()
            memory = ": is there memory enough for both?" if code == KILLED else ""
            raise UserError(f"the process that read {self._path.name} ended with {code}{memory}")
        return found


_SIZE = 8
"""Bytes that say how long a message is."""
_CODE = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever interrupts means the other process
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
*sys.path[:], path, pipe, part = sys.argv[1:]
from results.apart import send
send(path, int(pipe), int(part))
"""


def send(path: str, pipe: int, part: int) -> NoReturn:
    """Reads a record for another process, sends it what it needs, and ends this process; earlier where that one is gone."""
    gc.disable()
    threading.Thread(target=_end_with_reader, args=(pipe,), daemon=True).start()
    with os.fdopen(pipe, "wb") as to:
        for message in _messages(path, part):
            text = _packed_message(message)
            to.write(len(text).to_bytes(_SIZE, "big"))
            to.write(text)
    os._exit(0)  # taking apart what was read would only take time


def _packed_message(message: Any) -> bytes:
    """As bytes; where it holds what cannot be sent, that in its place."""
    try:
        return msgspec.msgpack.encode(message, enc_hook=list)
    except OverflowError:
        return msgspec.msgpack.encode(b"a record holds a whole number beyond 64 bits: no run writes one")


def _end_with_reader(pipe: int) -> None:
    poll = select.poll()
    poll.register(pipe, 0)  # no events asked for: that nobody reads is told all the same
    poll.poll()
    os._exit(1)


def _messages(path: str, part: int) -> Iterator[Any]:
    """What is wrong, or `_Sent` and after it the measurements, so many at once, and none at last."""
    try:
        found = with_levels(read_times(path))
    except UserError as problem:
        yield _bytes(str(problem))
        return
    about = (found.run, list(found.ceilings), list(found.digests), found.end, found.torn, found.lines)
    yield _Sent(*about, len(found.parts), None if found.newer is None else _bytes(found.newer), found.last_digest)
    for at in range(0, len(found.measurements), part):
        yield list(map(_row, found.measurements[at : at + part]))
    yield []


def _bytes(text: str) -> bytes:
    """Of what may hold the name of a file that is no UTF-8."""
    return text.encode("utf-8", "surrogatepass")


def _text(some: bytes) -> str:
    return some.decode("utf-8", "surrogatepass")


def _helpers() -> int:
    """How many other processes can read at once; none where a pipe cannot be handed on."""
    return (os.cpu_count() or 1) - 1 if hasattr(select, "poll") else 0


def _size(path: Path) -> int:
    """0 of what is not there: whoever reads it says so."""
    return path.stat().st_size if path.is_file() else 0


def _row(line: Any) -> tuple[Any, ...]:
    """A `_Levelled` as it travels; its level, the last field, only where there is one."""
    begin = "measurement", *_fields(line)
    return begin if line.level is msgspec.UNSET else (*begin, line.level)

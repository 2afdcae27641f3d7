"""Lines of a file that may come from a stranger: plain or gzip, within limits, refused in one line where they are not."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from workloads.case import UserError

__all__ = ["LONGEST_LINE", "MOST_BYTES", "MOST_LINES", "MOST_RATIO", "is_compressed", "lines_of", "stem_of"]

MOST_BYTES = 2 << 30
"""Of a file, decompressed: a run of 100,000 measurements by five processes, with its parts, is below."""
LONGEST_LINE = 32 << 20
"""Bytes: a sample a line would be two million of them."""
MOST_LINES = 4_000_000
MOST_RATIO = 100
"""Of bytes unpacked to bytes packed, beyond a line's worth: stored records of real runs have less than 4, for a clock does not
repeat itself, and digests do not compress at all."""

BUFFER = 64 << 10
"""Bytes read at once: by Python's own 8 KiB the lines of a long record take three times as long."""

_GZIP = b"\x1f\x8b"
_OTHERS = {
    b"PK\x03\x04": "a zip archive",
    b"PK\x05\x06": "a zip archive",
    b"BZh": "compressed by bzip2",
    b"\xfd7zXZ\x00": "compressed by xz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a rar archive",
    b"\x80\x02": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
    b"PAR1": "a Parquet table",
}


def stem_of(path: Path) -> str:
    """File name without its ending: what tables call the run."""
    return path.name.removesuffix(".gz").removesuffix(".jsonl")


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines of a file, each with its newline (the last may lack it), decompressed where it begins like gzip.

    Raises UserError where the file cannot be read, is another kind of archive or goes beyond a limit.
    """
    try:
        with path.open("rb", buffering=BUFFER) as raw:
            yield from _limited(path, _opened(path, raw), raw)
    except FileNotFoundError as problem:
        raise UserError(f"{path} is not there: `moemark run -o {path}` would write it") from problem
    except (gzip.BadGzipFile, zlib.error, EOFError) as problem:
        raise UserError(f"{path.name} is no whole gzip file ({problem}): fetch it again") from problem
    except OSError as problem:
        raise UserError(f"cannot read {path.name}: {problem.strerror}") from problem


def is_compressed(path: Path) -> bool:
    """Whether a file begins like gzip."""
    with path.open("rb") as raw:
        return raw.read(len(_GZIP)) == _GZIP


def _opened(path: Path, raw: IO[bytes]) -> IO[bytes]:
    begin = raw.peek(8)[:8]  # type: ignore[attr-defined]
    if not begin.startswith(_GZIP):
        _refuse_archives(path, begin, "")
        return raw
    unpacked = gzip.GzipFile(fileobj=raw)
    begin = unpacked.peek(8)[:8]
    _refuse_archives(path, begin, "holds ")
    if begin.startswith(_GZIP):
        raise UserError(f"{path.name} is compressed twice: unpack it once")
    return unpacked  # type: ignore[return-value]


def _refuse_archives(path: Path, begin: bytes, holds: str) -> None:
    kind = next((kind for magic, kind in _OTHERS.items() if begin.startswith(magic)), None)
    if kind is not None:
        raise UserError(f"{path.name} {holds or 'is '}{kind}, no run file: give the .jsonl or .jsonl.gz in it")


def _limited(path: Path, file: IO[bytes], raw: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file, which is `raw` unless that is compressed."""
    total = 0
    for number in range(1, MOST_LINES + 2):
        line = file.readline(LONGEST_LINE + 1)
        if not line:
            return
        total += len(line)
        if len(line) > LONGEST_LINE:
            raise UserError(
                f"{path.name}, line {number} is longer than {LONGEST_LINE >> 20} MiB: no run writes such a line"
            )
        if total > MOST_BYTES:
            raise UserError(f"{path.name} is larger than {MOST_BYTES >> 30} GiB: no run writes so much")
        if file is not raw and total > LONGEST_LINE and total > MOST_RATIO * raw.tell():
            raise UserError(f"{path.name} unpacks to more than {MOST_RATIO} times its size: no record does")
        if number > MOST_LINES:
            raise UserError(f"{path.name} has more than {MOST_LINES} lines: no run writes so many")
        yield line

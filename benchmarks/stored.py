"""The stored records of real runs, as lines that can be changed, and changed lines as a file that holds together."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from results.chain import DIGEST, canonical, link

__all__ = ["RECORDS", "Line", "chained", "forged", "lines_of", "plain"]

RECORDS = Path(__file__).resolve().parents[1] / "tests" / "results" / "records"

Line = dict[str, Any]


def lines_of(name: str) -> list[Line]:
    """The lines of a stored record, without their digests."""
    return plain(gzip.decompress((RECORDS / f"{name}.jsonl.gz").read_bytes()))


def plain(data: bytes) -> list[Line]:
    """The lines of a run file, without their digests."""
    lines = [json.loads(line) for line in data.splitlines()]
    for line in lines:
        del line[DIGEST]
    return lines


def forged(lines: Iterable[Line]) -> bytes:
    """A run file of these lines, with the digests that they should have: what anybody can make."""
    return b"".join(chained(lines))


def chained(lines: Iterable[Line]) -> Iterator[bytes]:
    """The same, line by line. Raises ValueError for what is no JSON."""
    previous = ""
    for line in lines:
        body = canonical(line)
        previous = link(body, previous)
        yield f'{body[:-1]},"{DIGEST}":"{previous}"}}\n'.encode()

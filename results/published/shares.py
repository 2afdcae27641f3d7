"""How far published figures stayed below what datasheets allow: `shares.json`, by `benchmarks.published_check --write`."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["FILE", "Share", "cluster_shares", "clusters_text"]

FILE = Path(__file__).with_name("shares.json")


@dataclass(frozen=True)
class Share:
    """A published figure and its bound: `share` 1 is as fast as the datasheet allows."""

    id: str
    published: str
    bound: str
    share: float
    why: str


@cache
def cluster_shares() -> tuple[Share, ...]:
    """Whole models on groups of devices."""
    document = json.loads(FILE.read_text(encoding="utf-8"))
    return tuple(Share(**row) for row in document["clusters"])


def clusters_text() -> str:
    """Their distribution, for a reader."""
    shares = [100 * one.share for one in cluster_shares()]
    ends = f"{min(shares):.0f} % to {max(shares):.0f} % (median {statistics.median(shares):.0f} %)"
    return f"{len(shares)} published clusters reached {ends} of what such a sum gives of them from datasheets alone"

"""How long dispatch and combine take by a link's peak bandwidth, and how sure that is: `links.toml` has what kernels reached.

A collective ends when the busiest rank has sent and received its rows: max(sent, received) * bytes a row / (peak * share).
Start-up latency and synchronisation are not in it, so it is a lower bound on the time wherever messages are small.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec

from results.projection.loads import Loads
from results.statistics import Estimate

__all__ = ["Link", "Reached", "collective_ns", "reached"]


class Reached(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One published figure: a share of the link's peak."""

    id: str
    device: str
    what: str
    share: float
    how: str


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    reached: tuple[Reached, ...]


@cache
def reached() -> tuple[Reached, ...]:
    """All published figures."""
    return msgspec.toml.decode(Path(__file__).with_name("links.toml").read_text(encoding="utf-8"), type=_File).reached


@dataclass(frozen=True)
class Link:
    """Bandwidth of a device in one direction, in GB/s: what is expected, the least and the most."""

    gbs: float
    low_gbs: float
    high_gbs: float

    @classmethod
    def of_peak(cls, peak_gbs: float) -> Link:
        """By what published kernels reached of a peak: their median, least and most."""
        shares = [one.share for one in reached()]
        return cls(*(peak_gbs * share for share in (statistics.median(shares), min(shares), max(shares))))

    def time(self, count: float) -> Estimate:
        """ns for so many bytes."""
        return Estimate(count / self.gbs, count / self.high_gbs, count / self.low_gbs)


def collective_ns(loads: Loads, row_bytes: float, link: Link) -> Estimate:
    """One dispatch: the busiest rank's rows. A combine moves as many the other way."""
    return link.time(float(max(loads.sent.max(), loads.received.max())) * row_bytes)

"""What projections of whole models were seen to err by: `validation.json`, written by `python -m benchmarks.end_to_end`.

A projection's error is projected over measured time, less 1. The file says where it was observed; without it nothing is known,
and a projection says so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from results.statistics import Estimate

__all__ = ["FILE", "Observed", "observed"]

FILE = Path(__file__).with_name("validation.json")


@dataclass(frozen=True)
class Observed:
    """The errors that were observed, and where."""

    errors: tuple[float, ...] = ()
    where: str = ""

    @property
    def seen(self) -> str:
        """For a reader."""
        if not self.errors:
            return "projections were never compared with a whole model: their error is not known"
        low, high = 100 * min(self.errors), 100 * max(self.errors)
        off = f"projections of {len(self.errors)} passes and layers were off by {low:+.0f} % to {high:+.0f} %"
        return f"{off} ({self.where})"

    @property
    def text(self) -> str:
        """The same beside intervals that were widened by it."""
        return f"{self.seen}; it is in the intervals" if self.errors else f"{self.seen} and not in the intervals"

    def widened(self, time: Estimate) -> Estimate:
        """The interval of the true time if the projection errs as it was seen to."""
        low, high = min((0.0, *self.errors)), max((0.0, *self.errors))
        return Estimate(time.ns, time.low_ns / (1 + high), time.high_ns / (1 + low))


@cache
def observed() -> Observed:
    """From the file beside this module; nothing where there is none."""
    if not FILE.exists():
        return Observed()
    document: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    errors = tuple(row["projected_ns"] / row["measured_ns"] - 1 for row in document["rows"])
    places = dict.fromkeys(f"{row['target']} on {row['device']}" for row in document["rows"])
    return Observed(errors, ", ".join(places))

"""Times between measured ones.

Experts: a touched expert's weights are read once and multiplied with the rows routed to it, so the time of A assignments on D
distinct experts is taken as D g(A / D), g piecewise linear through the measured points (A_i / D_i, t_i / D_i): exact at each of
them. It holds inside the measured range of A / D, with D within a factor of 2 of what was measured; beyond it there is no time.

Attention: piecewise linear in tokens, or in cached positions, of decodes; of prefills between logarithms.

How wrong such a line is, is what leaving out each inner point and asking for it shows: the largest error. With fewer than three
points nothing shows it, and the interval is that of the two neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from results.statistics import Estimate

__all__ = ["FAR", "Curve", "ExpertCurve"]

FAR = 2.0
"""How far the number of distinct experts may be from a measured one."""


@dataclass(frozen=True)
class Curve:
    """Values y > 0 over x > 0, piecewise linear, between logarithms if `logs`."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    logs: bool = False

    @classmethod
    def through(cls, points: Sequence[tuple[float, float]], logs: bool = False) -> Curve:
        """Through these points in any order; equal x have their mean. Raises ValueError without points."""
        if not points:
            raise ValueError("a curve needs a point")
        xs = sorted({x for x, _ in points})
        ys = [float(np.mean([y for other, y in points if other == x])) for x in xs]
        return cls(tuple(xs), tuple(ys), logs)

    def covers(self, x: float) -> bool:
        """Whether x lies in the measured range."""
        return self.x[0] * (1 - 1e-9) <= x <= self.x[-1] * (1 + 1e-9)

    def values(self, x: np.ndarray) -> np.ndarray:
        """y at many x; beyond the range it goes on with the last slope, and never falls below 0."""
        xs, ys, at = (np.log(one) if self.logs else np.asarray(one, float) for one in (self.x, self.y, x))
        found = np.interp(at, xs, ys)
        if len(xs) > 1:
            slope = (ys[-1] - ys[-2]) / (xs[-1] - xs[-2])
            found = np.where(at > xs[-1], ys[-1] + slope * (at - xs[-1]), found)
        return np.exp(found) if self.logs else np.maximum(found, 0.0)

    def at(self, x: float) -> Estimate | None:
        """The value at x with its interval; None outside the range."""
        if not self.covers(x):
            return None
        value = float(self.values(np.array([x]))[0])
        if self.error is not None:
            return Estimate(value, value / (1 + self.error), value * (1 + self.error))
        place = int(np.searchsorted(self.x, x))
        around = self.y[max(0, place - 1)], self.y[min(len(self.y) - 1, place)]
        return Estimate(value, min(value, *around), max(value, *around))

    @cached_property
    def error(self) -> float | None:
        """Largest error of an inner point that was left out, as a share of it; None with fewer than three points."""
        inner = range(1, len(self.x) - 1)
        if not inner:
            return None
        without = [Curve(self.x[:i] + self.x[i + 1 :], self.y[:i] + self.y[i + 1 :], self.logs) for i in inner]
        found = [float(curve.values(np.array([self.x[i]]))[0]) for i, curve in zip(inner, without, strict=True)]
        return max(abs(value / self.y[i] - 1) for i, value in zip(inner, found, strict=True))


@dataclass(frozen=True)
class ExpertCurve:
    """The time of A assignments on D distinct experts, in ns."""

    each: Curve
    """Time of a touched expert over rows of a touched expert."""
    distinct: tuple[int, int]
    """Fewest and most distinct experts that were measured."""

    @classmethod
    def through(cls, points: Sequence[tuple[int, int, float]]) -> ExpertCurve:
        """Through measured (assignments, distinct experts, ns). Raises ValueError without points."""
        distinct = [d for _, d, _ in points]
        return cls(Curve.through([(a / d, ns / d) for a, d, ns in points]), (min(distinct), max(distinct)))

    def covers(self, assignments: float, distinct: float) -> bool:
        """Whether it is inside what was measured."""
        near = self.distinct[0] / FAR <= distinct <= self.distinct[1] * FAR
        return near and distinct > 0 and self.each.covers(assignments / distinct)

    def at(self, assignments: float, distinct: float) -> Estimate | None:
        """The time with its interval; None outside what was measured."""
        found = self.each.at(assignments / distinct) if self.covers(assignments, distinct) else None
        return found and Estimate(found.ns * distinct, found.low_ns * distinct, found.high_ns * distinct)

    def values(self, assignments: np.ndarray, distinct: np.ndarray) -> np.ndarray:
        """Times of many ranks, 0 without experts; beyond the measured range along the last slope."""
        touched = np.maximum(distinct, 1)
        return np.where(distinct > 0, self.each.values(assignments / touched) * distinct, 0.0)

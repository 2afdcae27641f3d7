"""Figures as text. Rounding happens here and nowhere before."""

from __future__ import annotations

import math

from results.statistics import Ratio

__all__ = ["change", "interval", "number", "percent", "plain_rate", "time_text"]

_UNITS = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns"))


def time_text(ns: float) -> str:
    """A duration in the unit that leaves one to three digits before the point: `1.50 ms`, `234 µs`."""
    for size, unit in _UNITS:
        # 999.96 µs is shown as 1.00 ms, not as 1000 µs.
        if ns >= 0.9995 * size:
            return f"{number(ns / size)} {unit}"
    return f"{number(ns)} ns"


def number(value: float | None) -> str:
    """Three significant digits; `-` where there is no figure."""
    if value is None:
        return "-"
    if 1 <= value < 999.5:  # nearly all figures: what rounding lengthens has a digit less behind the point
        if len(text := f"{value:.2f}") > 4 and len(text := f"{value:.1f}") > 4:
            text = f"{value:.0f}"
        return text
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = 2 - int(f"{value:.2e}".partition("e")[2])
    return f"{value:,.{max(digits, 0)}f}" if abs(value) >= 1e-3 else f"{value:.2g}"


def plain_rate(value: float | None) -> str:
    """Three significant digits with k, M or G: `16.0k`."""
    if value is None:
        return "-"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * size:
            return f"{number(value / size)}{unit}"
    return number(value)


def percent(value: float | None) -> str:
    """A share as %: `63%`, `0.8%`; `-` where there is none."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return "?"
    return f"{100 * value:.1f}%" if abs(value) < 0.0995 else f"{100 * value:.0f}%"


def change(ratio: float) -> str:
    """A ratio as a signed change: 1.03 is `+3.0%`."""
    if not math.isfinite(ratio):
        return "?"
    text = f"{100 * (ratio - 1):+.1f}%"
    return text if text != "-0.0%" else "+0.0%"  # a rounded tiny decrease


def interval(ratio: Ratio) -> str:
    """`0.48 .. 0.52`."""
    return f"{number(ratio.low)} .. {number(ratio.high)}"

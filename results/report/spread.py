"""Two plots of what one number hides: what skewed routing costs, and how far single calls lie from the middle one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from results.figures import number, time_text
from results.report.plots import HOVER, Figure, Style, figure, hover, plain
from results.report.shown import PERCENTILES, Shown

__all__ = ["percentiles", "skew"]


def skew(points: Sequence[Shown], style: Style) -> Figure:
    """Latency over the hotspot ratio: a line joins the routings of one shape on one target."""
    groups: dict[tuple[Any, ...], list[Shown]] = {}
    for one in points:
        if one.line.skew and one.figures:
            case = one.case
            shape = (
                one.run,
                style.model(one),
                one.line.target,
                case.tokens,
                case.dtype,
                case.scenario,
                case.seed,
                case.rank,
            )
            groups.setdefault(shape, []).append(one)
    traces = [_skewed(group, style) for group in groups.values() if len({one.case.routing for one in group}) > 1]
    about = (
        "A line joins one shape under several routings. Hotspot ratio: assignments of the busiest expert over the mean; 1 is "
        "perfect balance, and uniform random routing of few tokens has more."
    )
    empty = "No shape was measured under two routings: the suite `skew` does that."
    axes = {"xaxis": {"type": "linear", "dtick": None, "exponentformat": "none"}, "empty": empty}
    return figure(
        "skew", "What skew costs", about, traces, "hotspot ratio (max / mean expert load)", "p50 (ms)", **axes
    )


def _skewed(group: Sequence[Shown], style: Style) -> dict[str, Any]:
    line = sorted(group, key=lambda one: one.line.skew.hotspot_ratio if one.line.skew else 0)
    first = line[0]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": style.name(first, f"t{first.case.tokens}", first.case.dtype),
        "x": [one.line.skew.hotspot_ratio for one in line if one.line.skew],
        "y": [one.figures.time.ns / 1e6 for one in line if one.figures],
        **style.look(first),
        "customdata": [[hover(one)[0], plain(_skew_text(one))] for one in line],
        "hovertemplate": HOVER,
        "meta": {"model": style.model(first)},
    }


def _skew_text(one: Shown) -> str:
    found, figures = one.line.skew, one.figures
    if found is None or figures is None:
        return ""
    chance = f"uniform random routing: {number(found.uniform_hotspot_ratio)}"
    return f"{time_text(figures.time.ns)}, hotspot ratio {number(found.hotspot_ratio)} ({chance})"


def percentiles(points: Sequence[Shown], style: Style) -> Figure:
    """Time of a call over the percentiles that the samples earn; readers choose the case."""
    traces = [_tail(one, style) for one in points if len(one.percentiles) > 1]
    about = "Only percentiles that there are enough samples for, of time over the slot’s median, since slots differ in work."
    labels = [f"p{q:g}" for q in PERCENTILES]
    axes = {
        "xaxis": {"type": "category", "dtick": None, "categoryorder": "array", "categoryarray": labels},
        "yaxis": {"type": "linear", "dtick": None, "exponentformat": "none", "rangemode": "tozero"},
        "empty": "No case has samples of single calls.",
        "by": "case",
    }
    return figure("percentiles", "Percentiles of a call", about, traces, "percentile", "time of a call (ms)", **axes)


def _tail(one: Shown, style: Style) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": " · ".join([style.name(one), one.line.implementation]),
        "x": [f"p{q:g}" for q in one.percentiles],
        "y": [ns / 1e6 for ns in one.percentiles.values()],
        **style.look(one),
        "hovertemplate": "%{x}: %{y:.4g} ms<extra></extra>",
        "meta": {"case": one.line.case},
    }

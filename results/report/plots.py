"""Times and rates over tokens, as figures that Plotly draws. A figure is plain data: traces, layout, and what it shows.

`meta` of a trace holds its model, or its case where readers choose one: the page's script shows the traces of what is chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from results.report.shown import Shown

__all__ = ["COLOURS", "DASHES", "Figure", "Style", "figure", "hover", "latency", "plain", "throughput"]

COLOURS = ("#3f7de0", "#d9580d", "#0f8a63", "#a855f7", "#dc3d3d", "#0d8795", "#a06a00", "#d6409f")
"""At least 3:1 against the page, light and dark (WCAG 2.2, 1.4.11)."""
DASHES = {"fp32": "solid", "bf16": "dash", "fp16": "dot", "tf32": "dashdot"}
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star")
HOVER = "<b>%{customdata[0]}</b><br>%{customdata[1]}<extra></extra>"


@dataclass(frozen=True)
class Figure:
    """One plot; without traces `empty` says why."""

    name: str
    title: str
    about: str
    empty: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    by: str | None = "model"
    """What readers choose its traces by; None: all are always shown."""


class Style:
    """Colour by model, share and target, symbol by target, dash by dtype: the same in all plots of a page."""

    def __init__(self, points: Sequence[Shown], several: bool) -> None:
        self._targets = list(dict.fromkeys(one.line.target for one in points))
        pairs = dict.fromkeys((self.model(one), one.run, one.line.target) for one in points)
        # Sorted by model: the colours of one model's targets are neighbours, so they differ.
        order = list(dict.fromkeys(model for model, _, _ in pairs))
        self._pairs = {pair: number for number, pair in enumerate(sorted(pairs, key=lambda pair: order.index(pair[0])))}
        self._routings: dict[str, set[str]] = {}
        for one in points:
            self._routings.setdefault(self.model(one), set()).add(one.case.routing)
        self._several = several

    def model(self, one: Shown) -> str:
        """Workload, where it is no layer, model and share."""
        case = one.case
        workload = (
            [] if case.workload == "moe-layer" and not case.variants else ["+".join((case.workload, *case.variants))]
        )
        return " ".join([*workload, case.model, *([f"EP{case.ep}"] if case.ep > 1 else [])])

    def colour(self, one: Shown) -> str:
        """Of its model on its target."""
        return COLOURS[self._pairs[self.model(one), one.run, one.line.target] % len(COLOURS)]

    def symbol(self, one: Shown) -> str:
        """Of its target."""
        return _SYMBOLS[self._targets.index(one.line.target) % len(_SYMBOLS)]

    def name(self, one: Shown, *more: str) -> str:
        """What the legend says."""
        run = [one.run] if self._several else []
        return " · ".join([*run, self.model(one), one.line.target, *more])

    def routing(self, one: Shown) -> list[str]:
        """Where the model has several."""
        return [one.case.routing] if len(self._routings[self.model(one)]) > 1 else []

    def look(self, one: Shown) -> dict[str, Any]:
        """Line and marker of a trace."""
        dash = DASHES.get(one.case.dtype, "longdash")
        return {
            "line": {"color": self.colour(one), "dash": dash, "width": 2},
            "marker": {"symbol": self.symbol(one), "size": 8, "color": self.colour(one)},
        }


def latency(points: Sequence[Shown], style: Style) -> Figure:
    """Latency over tokens: a line a model × share × target × dtype (× routing), log-log."""
    chosen = [one for one in points if one.case.scenario == "latency"]
    traces = [_line(line, style, _times(line)) for line in _lines(chosen, style)]
    about = (
        "Fastest exact implementation of each target, with its 95% interval. Both axes are logarithmic; a click on a name "
        "hides its line."
    )
    return figure("latency", "Latency over tokens", about, traces, "own tokens a call", "latency of a call (ms)")


def throughput(points: Sequence[Shown], style: Style) -> Figure:
    """Tokens/s over tokens, of every scenario."""
    traces = [_line(line, style, _rates(line)) for line in _lines(points, style)]
    about = "Own tokens over the time of a call, one call at a time (latency) or queued (throughput, sustained)."
    return figure("throughput", "Throughput over tokens", about, traces, "own tokens a call", "tokens/s")


def _lines(points: Iterable[Shown], style: Style) -> list[list[Shown]]:
    lines: dict[tuple[Any, ...], list[Shown]] = {}
    for one in points:
        case = one.case
        key = (
            one.run,
            style.model(one),
            one.line.target,
            case.dtype,
            case.routing,
            case.scenario,
            case.seed,
            case.rank,
        )
        lines.setdefault(key, []).append(one)
    return [sorted(line, key=lambda one: one.case.tokens) for line in lines.values()]


def _line(line: Sequence[Shown], style: Style, values: dict[str, Any]) -> dict[str, Any]:
    first = line[0]
    scenario = [] if first.case.scenario == "latency" else [first.case.scenario]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": style.name(first, first.case.dtype, *style.routing(first), *scenario),
        "x": [one.case.tokens for one in line],
        **style.look(first),
        **values,
        "customdata": [hover(one) for one in line],
        "hovertemplate": HOVER,
        "meta": {"model": style.model(first)},
    }


def _times(line: Sequence[Shown]) -> dict[str, Any]:
    times = [one.figures.time for one in line if one.figures]
    error = {
        "type": "data",
        "symmetric": False,
        "array": [min(time.high_ns - time.ns, time.ns) / 1e6 for time in times],
        "arrayminus": [(time.ns - time.low_ns) / 1e6 for time in times],
        "thickness": 1,
    }
    return {"y": [time.ns / 1e6 for time in times], "error_y": error}


def _rates(line: Sequence[Shown]) -> dict[str, Any]:
    return {"y": [one.figures.tokens_per_s if one.figures else None for one in line]}


def hover(one: Shown) -> list[str]:
    """Two lines of text. Plotly reads a subset of HTML in hovers, and a record's words must not become any."""
    figures = one.figures
    if figures is None:
        return [plain(one.line.case), ""]
    rate = f"{figures.time.ns / 1e6:.4g} ms, {one.line.target}, {one.line.implementation}"
    share = f", {100 * figures.roofline_ratio:.0f}% of roofline" if figures.roofline_ratio else ""
    return [plain(one.line.case), plain(rate + share)]


def plain(text: str) -> str:
    """Text that Plotly shows as it is: no tags, no entities, no `%{...}` of templates."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("%{", "%&#123;")


def figure(name: str, title: str, about: str, traces: list[dict[str, Any]], x: str, y: str, **more: Any) -> Figure:
    """A figure with logarithmic axes, unless `more` says otherwise (`xaxis`, `yaxis`, `empty`, `by`)."""
    axis = {
        "type": "log",
        "showgrid": True,
        "zeroline": False,
        "exponentformat": "SI",
        "dtick": "D2",
        "automargin": True,
    }
    layout = {
        "xaxis": {**axis, "title": {"text": x}, **more.get("xaxis", {})},
        "yaxis": {**axis, "title": {"text": y}, **more.get("yaxis", {})},
        "legend": {"orientation": "h", "y": -0.2, "yanchor": "top"},
        "margin": {"l": 64, "r": 16, "t": 16, "b": 56},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hovermode": "closest",
        "showlegend": True,
    }
    named = [{**trace, "name": plain(trace["name"])} for trace in traces]
    return Figure(name, title, about, more.get("empty", "No case has a time."), named, layout, more.get("by", "model"))

"""The two plots: latency over tokens, and the roofline. Plotly draws; its script travels inside the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from results.compare import fastest
from results.metrics import Ceilings, Metrics, ceilings_of, device_id, metrics
from results.record import Measurement
from results.store import RunFile
from workloads.case import Case

__all__ = ["latency_json", "roofline_json", "script"]

_COLOURS = ("#3b82f6", "#f97316", "#10b981", "#a855f7", "#ef4444", "#14b8a6", "#eab308", "#ec4899")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star")
_DASHES = {"fp32": "solid", "bf16": "dash", "fp16": "dot", "tf32": "dashdot"}
_HOVER = "<b>%{customdata[0]}</b><br>%{customdata[1]}<extra></extra>"


@dataclass(frozen=True)
class _Point:
    """The fastest exact implementation of a case on a target."""

    run: str
    case: Case
    line: Measurement
    figures: Metrics


def script() -> str:
    """Plotly's own script, as it stands in the installed package."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs()).replace("</script", "<\\/script")


def latency_json(run_files: Sequence[RunFile]) -> str:
    """Latency over tokens: a line a model × share × target × dtype (× routing), log-log; JSON for a script tag."""
    points = [point for point in _points(run_files) if point.case.scenario == "latency"]
    layers = [point for point in points if point.case.workload == "moe-layer"] or points
    style = _Style(layers, several=len(run_files) > 1)
    lines: dict[tuple[str, ...], list[_Point]] = {}
    for point in layers:
        case = point.case
        lines.setdefault((point.run, style.model(point), point.line.target, case.dtype, case.routing), []).append(point)
    traces = [_latency_trace(sorted(line, key=lambda p: p.case.tokens), style) for line in lines.values()]
    return _json(traces, "own tokens a call", "latency of a call (ms)")


def roofline_json(run_files: Sequence[RunFile]) -> str:
    """Useful TFLOP/s over FLOP per compulsory byte, under the ceilings that each device showed; JSON."""
    points = [point for point in _points(run_files) if point.figures.intensity_flop_per_byte]
    style = _Style(points, several=len(run_files) > 1)
    groups: dict[tuple[str, str, str], list[_Point]] = {}
    for point in points:
        groups.setdefault((point.run, style.model(point), point.line.target), []).append(point)
    roofs = [trace for run in run_files for trace in _roofs(run, points, several=len(run_files) > 1)]
    dots = [_roofline_trace(group, style) for group in groups.values()]
    return _json(roofs + dots, "FLOP per compulsory byte", "useful TFLOP/s")


def _points(run_files: Sequence[RunFile]) -> Iterator[_Point]:
    for run_file in run_files:
        groups: dict[tuple[str, str], list[Measurement]] = {}
        for line in run_file.measurements:
            groups.setdefault((line.case, line.target), []).append(line)
        for lines in groups.values():
            best = fastest(lines)
            figures = metrics(run_file, best) if best else None
            if best and figures:
                yield _Point(run_file.stem, Case.parse(best.case), best, figures)


class _Style:
    """Colour by model and share, symbol by target, dash by dtype: the same in both plots of a page."""

    def __init__(self, points: Sequence[_Point], several: bool) -> None:
        self._models = list(dict.fromkeys(self.model(point) for point in points))
        self._targets = list(dict.fromkeys(point.line.target for point in points))
        self._routings = {m: {p.case.routing for p in points if self.model(p) == m} for m in self._models}
        self._several = several

    def model(self, point: _Point) -> str:
        share = f" EP{point.case.ep}" if point.case.ep > 1 else ""
        return point.case.model + share

    def colour(self, point: _Point) -> str:
        return _COLOURS[self._models.index(self.model(point)) % len(_COLOURS)]

    def symbol(self, point: _Point) -> str:
        return _SYMBOLS[self._targets.index(point.line.target) % len(_SYMBOLS)]

    def name(self, point: _Point, *more: str) -> str:
        run = [point.run] if self._several else []
        return " · ".join([*run, self.model(point), point.line.target, *more])

    def routing(self, point: _Point) -> list[str]:
        return [point.case.routing] if len(self._routings[self.model(point)]) > 1 else []


def _latency_trace(line: Sequence[_Point], style: _Style) -> dict[str, Any]:
    first, times = line[0], [point.figures.time for point in line]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": style.name(first, first.case.dtype, *style.routing(first)),
        "x": [point.case.tokens for point in line],
        "y": [time.ns / 1e6 for time in times],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [min(time.high_ns - time.ns, time.ns) / 1e6 for time in times],
            "arrayminus": [(time.ns - time.low_ns) / 1e6 for time in times],
            "thickness": 1,
        },
        "line": {"color": style.colour(first), "dash": _DASHES.get(first.case.dtype, "longdash"), "width": 2},
        "marker": {"symbol": style.symbol(first), "size": 8},
        "customdata": [_hover(point) for point in line],
        "hovertemplate": _HOVER,
    }


def _roofline_trace(group: Sequence[_Point], style: _Style) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": style.name(group[0]),
        "x": [point.figures.intensity_flop_per_byte for point in group],
        "y": [point.figures.tflop_per_s for point in group],
        "marker": {"color": style.colour(group[0]), "symbol": style.symbol(group[0]), "size": 9, "opacity": 0.85},
        "customdata": [_hover(point) for point in group],
        "hovertemplate": _HOVER,
    }


def _hover(point: _Point) -> list[str]:
    """Two lines of text. Plotly reads a subset of HTML in hovers, and a record's words must not become any."""
    figures = point.figures
    rate = f"{figures.time.ns / 1e6:.4g} ms, {point.line.target}, {point.line.implementation}"
    share = f", {100 * figures.roofline_ratio:.0f}% of roofline" if figures.roofline_ratio else ""
    return [_plain(point.line.case), _plain(rate + share)]


def _plain(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _roofs(run_file: RunFile, points: Sequence[_Point], several: bool) -> Iterator[dict[str, Any]]:
    reach = [point.figures.intensity_flop_per_byte or 1 for point in points]
    if not reach:
        return
    for device, target in {device_id(run_file, target): target for target in run_file.run.targets}.items():
        ceilings = ceilings_of(run_file, target)
        for name in sorted(ceilings.gemm) if ceilings.memory else ():
            title = " · ".join([*([run_file.stem] if several else []), device, f"ceiling {name}"])
            yield _roof_trace(ceilings, name, title, (min(reach) / 2, max(reach) * 2))


def _roof_trace(ceilings: Ceilings, name: str, title: str, reach: tuple[float, float]) -> dict[str, Any]:
    gemm, memory = ceilings.gemm[name].rate, ceilings.memory.rate if ceilings.memory else 0.0
    # GB/s × FLOP/byte = GFLOP/s; the knee is where memory feeds the GEMM just enough.
    knee = gemm / memory * 1e3
    low, high = min(reach[0], knee), max(reach[1], 2 * knee)
    return {
        "type": "scatter",
        "mode": "lines",
        "name": title,
        "x": [low, knee, high],
        "y": [low * memory / 1e3, gemm, gemm],
        "line": {"color": "#888888", "width": 2, "dash": _DASHES.get(name, "longdash")},
        "hovertemplate": f"{_plain(title)}: {gemm:.3g} TFLOP/s, {memory:.3g} GB/s<extra></extra>",
    }


def _json(traces: list[dict[str, Any]], x: str, y: str) -> str:
    """A figure as JSON that may stand inside a script tag: no text in it can end the tag."""
    import plotly.graph_objects as go

    axis = {"type": "log", "showgrid": True, "zeroline": False, "exponentformat": "SI", "dtick": "D2"}
    figure = go.Figure(
        data=[{**trace, "name": _plain(trace["name"])} for trace in traces],
        layout={
            "template": "none",
            "xaxis": {**axis, "title": {"text": x}},
            "yaxis": {**axis, "title": {"text": y}},
            "legend": {"orientation": "h", "y": -0.22, "yanchor": "top"},
            "margin": {"l": 70, "r": 20, "t": 20, "b": 60},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "hovermode": "closest",
        },
    )
    text = str(figure.to_json())
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").replace("\u2028", "\\u2028")

"""The roofline: useful TFLOP/s over FLOP per compulsory byte, under the ceilings that each device showed in its run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from results.metrics import Ceilings, ceilings_of, device_id
from results.report.plots import DASHES, HOVER, Figure, Style, figure, hover, plain
from results.report.shown import Shown, ShownRun

__all__ = ["roofline"]

_GREY = "#7d8691"


def roofline(runs: Sequence[ShownRun], points: Sequence[Shown], style: Style) -> Figure:
    """Grey lines and points (Williams et al. 2009)."""
    chosen = [one for one in points if one.figures and one.figures.intensity_flop_per_byte]
    groups: dict[tuple[str, str, str], list[Shown]] = {}
    for one in chosen:
        groups.setdefault((one.run, style.model(one), one.line.target), []).append(one)
    roofs = [trace for run in runs for trace in _roofs(run, chosen, len(runs) > 1)]
    about = (
        "Grey lines: what each device showed in this run, by its best GEMM and its best read or copy. Points: the fastest "
        "exact implementation of each case; one that reaches its line has nothing left to gain."
    )
    dots = [_dots(group, style) for group in groups.values()]
    return figure(
        "roofline", "Roofline", about, roofs + dots if dots else [], "FLOP per compulsory byte", "useful TFLOP/s"
    )


def _dots(group: Sequence[Shown], style: Style) -> dict[str, Any]:
    first = group[0]
    figures = [one.figures for one in group if one.figures]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": style.name(first),
        "x": [one.intensity_flop_per_byte for one in figures],
        "y": [one.tflop_per_s for one in figures],
        "marker": {"color": style.colour(first), "symbol": style.symbol(first), "size": 9, "opacity": 0.9},
        "customdata": [hover(one) for one in group],
        "hovertemplate": HOVER,
        "meta": {"model": style.model(first)},
    }


def _roofs(run: ShownRun, points: Sequence[Shown], several: bool) -> Iterator[dict[str, Any]]:
    reach = [one.figures.intensity_flop_per_byte or 1 for one in points if one.figures]
    if not reach:
        return
    run_file = run.run_file
    for device, target in {device_id(run_file, target): target for target in run_file.run.targets}.items():
        ceilings = ceilings_of(run_file, target)
        for name in sorted(ceilings.gemm) if ceilings.memory else ():
            title = " · ".join([*([run.name] if several else []), device, f"ceiling {name}"])
            yield _roof(ceilings, name, title, (min(reach) / 2, max(reach) * 2))


def _roof(ceilings: Ceilings, name: str, title: str, reach: tuple[float, float]) -> dict[str, Any]:
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
        "line": {"color": _GREY, "width": 2, "dash": DASHES.get(name, "longdash")},
        "hovertemplate": f"{plain(title)}: {gemm:.3g} TFLOP/s, {memory:.3g} GB/s<extra></extra>",
        "meta": {},
    }

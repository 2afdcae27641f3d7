"""The model of `results.scaling` fed by records: from one device's measured times to groups of up to a thousand, on paper.

A MODEL throughout: the routing is drawn, links are taken from hardware.toml or from the user, and only a device's own times
were measured. A device's pass outside the MoE layers does not depend on the group; it is spread over the layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from results.figures import number, percent, plain_rate, time_text
from results.notes import Notes
from results.places import Row
from results.projection.curves import ExpertCurve
from results.projection.links import Link
from results.projection.terms import Pass, Term, around_experts, expert_curve
from results.projection.times import Found, Times
from results.projection.validation import observed
from results.projection.whole import Ask, chosen, disturbed
from results.published.shares import cluster_shares, clusters_text
from results.scaling import Fabric, Layer, Point, Spread, simulate
from results.store import RunFile
from results.tables import Column, Section, Table
from workloads.case import UserError
from workloads.formats import value_bytes
from workloads.models import model

__all__ = ["ClusterAsk", "Scaled", "check_table", "scale", "scale_rows", "scale_table"]

MOST_DEVICES = 1024
LABEL = "A MODEL of groups, not a measurement"


@dataclass(frozen=True)
class ClusterAsk:
    """Which groups to model, on which links (GB/s of a device, one direction; None: as published of the device)."""

    devices: tuple[int, ...]
    node: int = 8
    near_gbs: float | None = None
    far_gbs: float | None = None
    draws: int = 4
    seed: int = 0


@dataclass(frozen=True)
class Scaled:
    """The points of one target."""

    target: str
    device: str
    work: Pass
    fabric: Fabric
    points: tuple[Point, ...]
    own: tuple[Term, ...]
    curve: ExpertCurve
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    @property
    def at_least(self) -> bool:
        """Whether something is missing, so that rates are upper bounds."""
        return any(term.at_least for term in self.own)

    def rate(self, time_ns: float) -> float:
        """Tokens a second and device of a layer time."""
        return self.work.tokens / (time_ns * self.work.about.moe_layers) * 1e9


def scale(runs: Sequence[RunFile], target: str, ask: Ask, groups: ClusterAsk) -> Scaled:
    """Models groups of these sizes. Raises UserError where no expert times were measured, or no link is known."""
    about, times = model(ask.model), Times(runs, target)
    if not about.moe_layers:
        raise UserError(f"{about.id} is a dense model and has no experts to share")
    if any(not 1 <= count <= MOST_DEVICES for count in groups.devices):
        raise UserError(f"--devices takes group sizes from 1 to {MOST_DEVICES:,}")
    if min(groups.node, groups.draws, groups.near_gbs or 1, groups.far_gbs or 1) <= 0:
        raise UserError("--node, --draws, --near-gbs and --far-gbs must be above 0")
    dtype, routing = chosen(times, ask)
    tokens = ask.batch if ask.phase == "decode" else ask.context
    work = Pass(about, ask.phase, tokens, ask.context if ask.phase == "decode" else 0, 1, dtype, routing)
    found = _measured(times, work)
    curve = expert_curve(found)
    if curve is None:
        raise UserError(
            f"no MoE layer of {about.id} was finished on {target}: measure {work.case('moe-layer', times.scenario).id}"
        )
    own = tuple(around_experts(times, work))
    own_ns = sum(term.each.ns * term.count for term in own if term.each) / about.moe_layers
    width = about.moe_latent_size or about.hidden_size
    layer = Layer(curve.values, own_ns, float(width * value_bytes(work.plain_dtype)))
    fabric, notes = _fabric(times, groups)
    points = tuple(
        simulate(about, tokens, count, routing, fabric, layer, groups.draws, groups.seed) for count in groups.devices
    )
    rows = tuple(one.row for one in found)
    experts = Term(steps=(), count=about.moe_layers, how="interpolated", rows=rows)
    notes += [*_beyond(curve, work, groups), *disturbed(times, (*own, experts))]
    return Scaled(target, times.device, work, fabric, points, own, curve, rows, tuple(notes))


def _measured(times: Times, work: Pass) -> list[Found]:
    """Whole MoE layers in all sizes and shares; without one the experts alone."""
    for workload in ("moe-layer", "experts"):
        if found := [one for one in times.alike(work.case(workload, times.scenario)) if one.distinct]:
            return found
    return []


def _fabric(times: Times, groups: ClusterAsk) -> tuple[Fabric, list[str]]:
    near, notes = groups.near_gbs, []
    if near is None:
        peak = times.sheet.interconnect_gbs if times.sheet else None
        if not peak:
            raise UserError(
                f"hardware.toml has no link of {times.device}: give --near-gbs, GB/s of a device in one direction"
            )
        near = Link.of_peak(peak).gbs
        notes.append(
            f"near link: {peak:g} GB/s in hardware.toml, of which published kernels reach {percent(near / peak)} (median)"
        )
    if groups.far_gbs is None:
        notes.append("one fabric for all devices: give --far-gbs for slower links between nodes")
    return Fabric(near, groups.far_gbs or near, groups.node if groups.far_gbs else MOST_DEVICES), notes


def _beyond(curve: ExpertCurve, work: Pass, groups: ClusterAsk) -> list[str]:
    """Group sizes whose mean rows an expert lie outside what was measured."""
    about, x = work.about, curve.each.x
    rows = {n: work.tokens * about.experts_per_token / max(1.0, about.num_experts / n) for n in groups.devices}
    outside = [str(n) for n, value in rows.items() if not curve.each.covers(value)]
    if not outside:
        return []
    measured = f"{number(x[0])} to {number(x[-1])} rows a touched expert were measured"
    return [
        f"{measured}; groups of {', '.join(outside)} have others: their expert times are drawn out from the nearest"
    ]


def scale_table(found: Scaled) -> Table:
    """A row a group size."""
    notes, sign = Notes(), "≤ " if found.at_least else ""
    for text in found.notes:
        notes.mark(text)
    missing = [step.name for term in found.own if term.how == "missing" for step in term.steps]
    if missing:
        notes.mark(f"missing, so that rates are at most these: {', '.join(missing)}")
    notes.mark(f"{observed().seen}; no range here has it in")
    error = found.curve.each.error
    notes.mark(
        "expert times from " + "; ".join(map(str, found.rows[:4]))
        + (f"; {len(found.rows) - 4} more" if len(found.rows) > 4 else "")
        + ("" if error is None else f"; a size left out is met within {percent(error)}")
    )  # fmt: skip
    rows = tuple(_cells(found, point, sign) for point in found.points)
    names = (
        "devices",
        "hotspot",
        "compute",
        "dispatch",
        "combine",
        "layer, no overlap",
        "layer, perfect overlap",
        "tokens/s a device",
        "of ideal",
    )
    return Table(_title(found), tuple(map(Column, names)), (Section("", rows),), notes.texts)


def _title(found: Scaled) -> str:
    work, fabric = found.work, found.fabric
    links = f"{number(fabric.near_gbs)} GB/s near" + (
        f", {number(fabric.far_gbs)} GB/s between nodes of {fabric.node}" if fabric.node < MOST_DEVICES else ""
    )
    what = f"{work.about.name}, {work.phase}, {work.tokens} tokens a device, {work.dtype}, {work.routing} routing"
    return f"{LABEL}: {what}, on {found.target} ({found.device}), {links}"


def _cells(found: Scaled, point: Point, sign: str) -> tuple[str, ...]:
    rates = [found.rate(one.mean) for one in (point.none, point.perfect)]
    shares = [point.ideal / one.mean for one in (point.none, point.perfect)]
    times = [_span(one) for one in (point.compute, point.dispatch, point.combine, point.none, point.perfect)]
    both = " .. ".join(dict.fromkeys(map(plain_rate, rates)))
    sizes = f"{point.hotspot.mean:.2f}" + (
        "" if point.sampled == 1 else f" (of {percent(point.sampled)} of the tokens)"
    )
    return (f"{point.devices:,}", sizes, *times, sign + both, " .. ".join(dict.fromkeys(map(percent, shares))))


def _span(one: Spread) -> str:
    if one.high - one.low < 1e-3 * one.mean:
        return time_text(one.mean)
    return f"{time_text(one.mean)} ({time_text(one.low)} .. {time_text(one.high)})"


def check_table() -> Table:
    """The same model fed with datasheets against published clusters."""
    rows = tuple((one.id, one.published, one.bound, percent(one.share)) for one in cluster_shares())
    heads = (Column("published as", right=False), *map(Column, ("published", "model", "share")))
    title = f"Check of the model: {clusters_text()}; tokens/s a device"
    why = "why each is below the model: python -m benchmarks.published_check, and results/published/shares.json"
    return Table(title, heads, (Section("", rows),), (why,))


def scale_rows(found: Sequence[Scaled]) -> list[dict[str, Any]]:
    """Every point as a plain dict, labelled as a model."""
    return [
        {
            "label": LABEL,
            "target": one.target,
            "device": one.device,
            "model": one.work.about.id,
            "phase": one.work.phase,
            "tokens": one.work.tokens,
            "routing": one.work.routing,
            "fabric": asdict(one.fabric),
            "is_bound": one.at_least,
            **asdict(point),
            "tokens_per_s_none": one.rate(point.none.mean),
            "tokens_per_s_perfect": one.rate(point.perfect.mean),
            "rows": [asdict(row) for row in one.rows],
            "notes": list(one.notes),
            "check": clusters_text(),
        }
        for one in found
        for point in one.points
    ]

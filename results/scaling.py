"""A MODEL, not a measurement: a group of P devices that share a model's experts, on paper, from one device's times.

For each draw of the routing (Monte Carlo, seeded, the cases' own profiles) every rank's assignments, distinct experts and rows
are counted. The slowest rank sets the pace of each layer:

    compute = own + max over ranks of experts(A_r, D_r)
    dispatch = max over ranks of max(sent, received) * bytes a row / bandwidth, near and far links at once; combine likewise
    none: compute + dispatch + combine;  perfect: max(compute, dispatch + combine)

Near is inside a node; far between nodes, where a token crosses once a node and is forwarded inside (as DeepEP does). Left out:
start-up latency, congestion, waiting for anything but the slowest rank, memory. Without skew and with infinite bandwidth it is
exact: both bounds are own + experts(T k, E / P).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from results.projection.loads import Loads, loads_of
from workloads.dims import Model

__all__ = ["MOST_ASSIGNMENTS", "Fabric", "Layer", "Point", "Spread", "simulate"]

MOST_ASSIGNMENTS = 1_500_000
"""Of a draw: larger groups draw fewer tokens a rank and multiply what they count."""


@dataclass(frozen=True)
class Fabric:
    """Links of a device, one direction, in GB/s; `node` devices are near each other."""

    near_gbs: float
    far_gbs: float
    node: int


@dataclass(frozen=True)
class Layer:
    """One MoE layer as a rank sees it, in ns and bytes."""

    experts_ns: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """Times of assignments and distinct experts, rank by rank."""
    own_ns: float
    """All that a rank does for its own tokens, whatever the others do: attention, router, shared expert, ..."""
    row_bytes: float
    """A token's row, either way."""


@dataclass(frozen=True)
class Spread:
    """Mean over the draws, least and most."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of one value a draw."""
        return cls(float(np.mean(values)), min(values), max(values))


@dataclass(frozen=True)
class Point:
    """One group size; times in ns a layer."""

    devices: int
    hotspot: Spread
    """Assignments of the most loaded rank over the mean."""
    compute: Spread
    """Own work and the slowest rank's experts."""
    dispatch: Spread
    combine: Spread
    none: Spread
    """A layer without overlap of communication and compute."""
    perfect: Spread
    """A layer with perfect overlap."""
    ideal: float
    """Without skew and with infinite bandwidth."""
    sampled: float
    """Share of the tokens that were drawn; 1: all."""


def simulate(
    about: Model, tokens: int, devices: int, routing: str, fabric: Fabric, layer: Layer, draws: int = 4, seed: int = 0
) -> Point:
    """One group of P devices with T tokens each. Raises UserError for a routing that is not known."""
    drawn = min(tokens, max(1, MOST_ASSIGNMENTS // (devices * about.experts_per_token)))
    factor = tokens / drawn
    several = [loads_of(about, drawn, devices, routing, seed + number, fabric.node) for number in range(draws)]
    compute = [layer.own_ns + float(_slowest(layer, loads, factor)) for loads in several]
    moved = [_moved_ns(loads, layer.row_bytes * factor, fabric) for loads in several]
    pairs = list(zip(compute, moved, strict=True))
    return Point(
        devices=devices,
        hotspot=Spread.of([float(loads.assignments.max() / loads.assignments.mean()) for loads in several]),
        compute=Spread.of(compute),
        dispatch=Spread.of([out for out, _ in moved]),
        combine=Spread.of([back for _, back in moved]),
        none=Spread.of([work + out + back for work, (out, back) in pairs]),
        perfect=Spread.of([max(work, out + back) for work, (out, back) in pairs]),
        ideal=layer.own_ns + _even(about, tokens, devices, layer),
        sampled=1 / factor,
    )


def _slowest(layer: Layer, loads: Loads, factor: float) -> float:
    return float(layer.experts_ns(loads.assignments * factor, loads.distinct).max())


def _even(about: Model, tokens: int, devices: int, layer: Layer) -> float:
    """Every rank with equally many assignments on all of its experts, as far as there are assignments for them."""
    assignments = tokens * about.experts_per_token
    distinct = min(max(1.0, about.num_experts / devices), assignments)
    return float(layer.experts_ns(np.array([float(assignments)]), np.array([distinct]))[0])


def _moved_ns(loads: Loads, row_bytes: float, fabric: Fabric) -> tuple[float, float]:
    """(dispatch, combine): what is sent one way is received the other."""
    near = max(loads.sent.max(), loads.received.max()) * row_bytes / fabric.near_gbs
    far = max(loads.sent_far.max(), loads.received_far.max()) * row_bytes / fabric.far_gbs
    time = float(max(near, far))
    return time, time

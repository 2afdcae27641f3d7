"""The sizes that are measured, the cases of their parts, and a model's layers with weights of their own."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

import numpy as np

from workloads.case import Case
from workloads.pinned import BLOCK
from workloads.problem import Problem
from workloads.registry import workload_of
from workloads.weights import Pinned, Tiled, Weight

__all__ = ["MODEL", "PORTABLE", "RANKS", "SHARES", "SIZES", "Share", "Size", "layer_weights", "told_apart"]

MODEL = "olmoe-1b-7b"
RANKS = 2
PORTABLE = {
    "block": "sorted",
    "moe-layer": "sorted",
    "attention": "plain",
    "ep-moe-layer": "all-to-all",
    "dispatch-combine": "all-to-all",
}
"""The implementation of each workload that is measured."""
SHIFT = 262_139
"""How far apart in the weight block the matrices of neighbouring layers begin."""


@dataclass(frozen=True)
class Size:
    """One pass."""

    name: str
    phase: str
    tokens: int
    context: int = 0

    def case(self, part: str, dtype: str) -> Case:
        """The case of `block`, `moe-layer` or `attention` in this pass."""
        form = ("decode", f"c{self.context}") if self.phase == "decode" else ("prefill",)
        variants = () if part == "moe-layer" else form
        return Case(
            part, variants, MODEL, 1, self.tokens, dtype, "none" if part == "attention" else "uniform", "latency"
        )

    def problem(self, part: str, dtype: str) -> Problem:
        """Its pinned problem."""
        made: Problem = workload_of(part).problem(self.case(part, dtype))
        return made


SIZES = {
    size.name: size
    for size in (
        Size("decode-1", "decode", 1, 4096),
        Size("decode-4", "decode", 4, 1024),
        Size("decode-16", "decode", 16, 256),
        Size("decode-64", "decode", 64, 64),
        Size("prefill-32", "prefill", 32),
        Size("prefill-128", "prefill", 128),
        Size("prefill-256", "prefill", 256),
        Size("prefill-512", "prefill", 512),
    )
}


@dataclass(frozen=True)
class Share:
    """One layer: so many tokens a rank, planted by a routing."""

    tokens: int
    routing: str
    phase = "layer of 2 ranks"
    context = 0

    @property
    def name(self) -> str:
        return f"{self.routing}-{self.tokens}"

    def case(self, workload: str) -> Case:
        return Case.parse(f"{workload}/{MODEL}/ep{RANKS}/t{self.tokens}/bf16/{self.routing}/latency")


SHARES = {
    share.name: share
    for share in (Share(16, "balanced"), Share(128, "balanced"), Share(512, "balanced"), Share(128, "zipf1.0"))
}


def layer_weights(weights: dict[str, Weight], layer: int) -> dict[str, Weight]:
    """The weights of another layer: matrices cut elsewhere from the block, the gate's rows in another order (so that planted
    tokens select as many experts, others)."""
    return {name: _of_layer(name, weight, layer) for name, weight in weights.items()}


def told_apart(weight: Weight) -> Hashable:
    """What two weights of one name and layer differ by, from size to size: a cache's shape, a table's values."""
    return weight.values.tobytes() if isinstance(weight, Pinned) else weight


def _of_layer(name: str, weight: Weight, layer: int) -> Weight:
    if isinstance(weight, Tiled):
        return replace(weight, offsets=tuple((offset + SHIFT * layer) % BLOCK for offset in weight.offsets))
    if name == "gate" and isinstance(weight, Pinned):
        return replace(weight, values=np.roll(weight.values, layer, axis=0))
    return weight

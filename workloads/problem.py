"""A problem: one case made concrete. Everything here is pinned and the same on every machine.

Workloads make problems, targets put them on devices, implementations compute them, `workloads.checking` checks them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workloads import pinned
from workloads.case import Case
from workloads.formats import DTYPE_BYTES, Precision, precision_of, value_bytes
from workloads.models import Model
from workloads.sizes import Sizes
from workloads.weights import Pinned, Quantised, Tiled, Weight

__all__ = [
    "ATTENTION",
    "DTYPE_BYTES",
    "ENTRY",
    "EXIT",
    "RESIDUAL",
    "SHARED",
    "SLOTS",
    "SOURCE_NAMES",
    "WHOLE",
    "ZERO",
    "Contribution",
    "Cost",
    "Counts",
    "Expected",
    "Lines",
    "Problem",
    "input_digest",
]

SLOTS = 16
"""Slots in the ring of pinned inputs that a case cycles through."""

SHARED, ENTRY, EXIT, ZERO, WHOLE, RESIDUAL, ATTENTION = -1, -2, -3, -4, -5, -6, -7
"""Sources of contributions that are no local expert: the shared branch (or the one dense FFN), the way of own tokens into the
routed experts and out of them, all identity experts of a token together, a line that is not told apart further, and in a block
the tokens themselves and their attention."""
SOURCE_NAMES = {
    SHARED: "the shared expert",
    ENTRY: "the way into the experts",
    EXIT: "the way out of the experts",
    ZERO: "the identity experts",
    WHOLE: "the whole line",
    RESIDUAL: "the residual",
    ATTENTION: "the attention",
}

Lines = Mapping[str, np.ndarray] | None
"""Output name → line numbers wanted; None for all lines of all outputs."""


@dataclass(frozen=True)
class Cost:
    """Useful FLOPs and compulsory bytes of one call (design, section 4), and what it processes. Equal in every slot."""

    flops: int
    bytes: int
    weight_bytes: int
    """The part of `bytes` that is weights: what rotating copies keep out of the cache."""
    tokens: int
    rows: int
    assignments: int


@dataclass(frozen=True)
class Counts:
    """What the case alone says, without its inputs: what a record's `cost` and `skew` must be."""

    cost: Cost
    skew: dict[str, Any] | None = None


@dataclass(frozen=True)
class Contribution:
    """The parts that add up to one output: `parts[i]` [H] float64 is added to line `row[i]` and comes from `source[i]`.

    `source` is a local expert id, or negative for an always active branch; `weight` is what its size grows with: what the
    router or a gate multiplied it with.
    """

    row: np.ndarray
    source: np.ndarray
    weight: np.ndarray
    parts: np.ndarray

    def between(self, first: int, last: int) -> Contribution:
        """The contributions to lines first..last, counted from there."""
        here = (self.row >= first) & (self.row < last)
        return Contribution(self.row[here] - first, self.source[here], self.weight[here], self.parts[here])


@dataclass(frozen=True)
class Expected:
    """Float64 reference of chosen lines (tokens or rows) of one slot's outputs."""

    ids: np.ndarray | None = None
    """[T, k] selected experts of every own token (a set per token)."""
    weights: np.ndarray | None = None
    """[T, k] their routing weights, in the order of `ids`."""
    weighed: np.ndarray | None = None
    """The tokens whose weights were computed; None: all."""
    lines: dict[str, np.ndarray] = field(default_factory=dict)
    """Output name → the line numbers that were computed."""
    values: dict[str, np.ndarray] = field(default_factory=dict)
    """Output name → [len(lines), H] float64."""
    routed: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=dict)
    """Output name → (line, source, weight) of every contribution to the whole output."""
    contributions: dict[str, Contribution] = field(default_factory=dict)
    """Output name → its parts; `row` counts within `lines`."""
    exact: dict[str, np.ndarray] = field(default_factory=dict)
    """Output name → the whole output, which must be equal to the last bit: data that is moved and not computed with."""


@dataclass(frozen=True)
class Problem:
    """A case with its weights, its ring of inputs, its cost and its reference."""

    case: Case
    model: Model
    sizes: Sizes
    """Sizes of one call: all that implementations need beside the model."""
    weights: dict[str, Weight]
    ring: list[dict[str, np.ndarray]]
    """Per slot: input name → host array (float32 values on the pinned grid, int32 ids)."""
    outputs: dict[str, tuple[int, ...]]
    """Output name → shape. `ids` and `weights` [T, k] are the router's; the others but `exact` ones are [lines, H]."""
    cost: Cost
    input_digest: str
    references: Callable[[Sequence[tuple[int, Lines]]], list[Expected]]
    """Float64 references of several (slot, lines) at once: each expert's weights are read once for all of them."""
    sources: Callable[[int, str], tuple[np.ndarray, np.ndarray]]
    """(slot, output) → (line, local expert) of every assignment: what a checker draws lines from."""
    skew: dict[str, Any] | None = None
    exact: frozenset[str] = frozenset()
    """Outputs that must equal the reference to the last bit."""
    norm_factor: float = 2.0
    """What the norm of a line that is not compared may differ by from what slot 0 predicts."""
    ways: Mapping[str, frozenset[str]] | None = None
    """Output → the weights that lead to it, which say what rounding may do to it; None: all of them to each."""
    unquantised: Callable[[Sequence[tuple[int, Lines]]], list[Expected]] | None = None
    """For a quantised case the references of the same work without weight and activation formats: shows the format's error."""

    @property
    def sums(self) -> list[str]:
        """The outputs that are sums of contributions, line by line."""
        return [name for name in self.outputs if name not in ("ids", "weights") and name not in self.exact]

    def way(self, output: str | None) -> Set[str]:
        """The weights that lead to an output; without one, all."""
        return self.weights.keys() if output is None or self.ways is None else self.ways[output]

    @property
    def precision(self) -> Precision:
        """What the case's dtype says."""
        return precision_of(self.case.dtype)

    def reference(self, slot: int, lines: Lines = None) -> Expected:
        """Float64 reference of one slot."""
        return self.references([(slot, lines)])[0]

    @property
    def weight_bytes(self) -> int:
        """Bytes of one copy of all weights as stored, scales included (fp32 where a weight stays fp32)."""
        return round(sum(w.elements * self._element_bytes(w) for w in self.weights.values()))

    def _element_bytes(self, weight: Weight) -> float:
        if isinstance(weight, Quantised):
            return weight.precision.element_bytes
        return 4 if isinstance(weight, Pinned) and weight.fp32 else value_bytes(self.case.dtype)

    @property
    def input_bytes(self) -> int:
        """Bytes of the ring's inputs in the case's dtype."""
        size = value_bytes(self.case.dtype)
        return sum(a.size * (size if a.dtype == np.float32 else 4) for slot in self.ring for a in slot.values())


def input_digest(weights: dict[str, Weight], ring: list[dict[str, np.ndarray]], plan: np.ndarray | None) -> str:
    """SHA-256 (hex) over the weights, the plan and the whole ring, each array with its name and shape, little-endian."""
    state = hashlib.sha256()

    def add(name: str, array: np.ndarray, kind: str) -> None:
        state.update(f"{name}{list(array.shape)}{kind}".encode())
        state.update(np.ascontiguousarray(array, dtype=kind).data)

    for name, weight in sorted(weights.items()):
        if isinstance(weight, Quantised):
            formats = weight.precision.weights, weight.precision.activations
            state.update("/".join(one.name for one in formats if one).encode())
            weight = weight.tiled
        if isinstance(weight, Tiled):
            add(name, np.array([*weight.offsets, weight.rows, weight.columns, weight.scale]), "<i8")
            add("block", pinned.block(weight.seed, "weights"), "<i2")
        else:
            add(name, weight.values, "<i4" if weight.values.dtype == np.int32 else "<f4")
    if plan is not None:
        add("plan", plan, "<i4")
    for slot, inputs in enumerate(ring):
        for name, array in sorted(inputs.items()):
            add(f"{slot}/{name}", array, "<f4" if array.dtype == np.float32 else "<i4")
    return state.hexdigest()

"""A problem: one case made concrete. Everything here is pinned and the same on every machine.

Workloads make problems, targets put them on devices, implementations compute them, `workloads.checking` checks them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workloads.case import Case
from workloads.models import Model
from workloads.weights import Weight

__all__ = ["SLOTS", "Contribution", "Cost", "Expected", "Problem"]

SLOTS = 16
"""Slots in the ring of pinned inputs that a case cycles through."""


@dataclass(frozen=True)
class Cost:
    """Useful FLOPs and compulsory bytes (per slot) of one call, and what it processes."""

    flops: int
    bytes_by_slot: tuple[int, ...]
    weight_bytes_by_slot: tuple[int, ...]
    tokens: int
    rows: int
    assignments: int


@dataclass(frozen=True)
class Contribution:
    """The parts that add up to one output: `parts[i]` [H] float64 is added to line `row[i]` and comes from `source[i]`.

    `source` is a local expert id; `weight` is what the router multiplied it with. A checker solves for the gain of each.
    """

    row: np.ndarray
    source: np.ndarray
    weight: np.ndarray
    parts: np.ndarray


@dataclass(frozen=True)
class Expected:
    """Float64 reference of chosen lines (tokens or rows) of one slot's outputs."""

    ids: np.ndarray | None = None
    """[T, k] selected experts of every own token (a set per token)."""
    weights: np.ndarray | None = None
    """[T, k] their routing weights, in the order of `ids`."""
    lines: dict[str, np.ndarray] = field(default_factory=dict)
    """Output name → the line numbers that were computed."""
    values: dict[str, np.ndarray] = field(default_factory=dict)
    """Output name → [len(lines), H] float64."""
    contributions: dict[str, Contribution] = field(default_factory=dict)
    """Output name → its parts; `row` counts within `lines`."""


@dataclass(frozen=True)
class Problem:
    """A case with its weights, its ring of inputs, its cost and its reference."""

    case: Case
    model: Model
    weights: dict[str, Weight]
    ring: list[dict[str, np.ndarray]]
    """Per slot: input name → host array (float32 values on the pinned grid, int32 ids)."""
    outputs: tuple[str, ...]
    """Names of the outputs, all checked. `ids` and `weights` are the router's; the others are [lines, H]."""
    cost: Cost
    skew: dict[str, Any] | None
    input_digest: str
    reference: Callable[[int, Mapping[str, np.ndarray] | None], Expected]
    """(slot, lines per output or None for all) → Expected."""
    active: Callable[[int], dict[str, list[tuple[int, int]]]] = field(default=lambda slot: {})
    """Slot → output → (line, local expert) of every contribution: what a checker draws from."""
    dims: Any = None
    """The workload's own dims, for its implementations."""

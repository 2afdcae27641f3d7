"""The operations in float64 on NumPy: the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["NumpyOps"]


class NumpyOps:
    """Plain float64 formulas; ids are int64, the largest first, ties by lowest index."""

    def add(self, a: np.ndarray, b: np.ndarray | float) -> np.ndarray:
        return a + b

    def mul(self, a: np.ndarray, b: np.ndarray | float) -> np.ndarray:
        return a * b

    def div(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a / b

    def sqrt(self, a: np.ndarray) -> np.ndarray:
        return np.sqrt(a)

    def tanh(self, a: np.ndarray) -> np.ndarray:
        return np.tanh(a)

    def sigmoid(self, a: np.ndarray) -> np.ndarray:
        return 1.0 / (1.0 + np.exp(-a))

    def silu(self, a: np.ndarray) -> np.ndarray:
        return a / (1.0 + np.exp(-a))

    def gelu_tanh(self, a: np.ndarray) -> np.ndarray:
        return 0.5 * a * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (a + 0.044715 * a**3)))

    def relu(self, a: np.ndarray) -> np.ndarray:
        return np.maximum(a, 0.0)

    def softplus(self, a: np.ndarray) -> np.ndarray:
        return np.logaddexp(0.0, a)

    def softmax(self, a: np.ndarray) -> np.ndarray:
        shifted = np.exp(a - a.max(axis=-1, keepdims=True))
        return shifted / shifted.sum(axis=-1, keepdims=True)

    def at_most(self, a: np.ndarray, limit: float) -> np.ndarray:
        return np.minimum(a, limit)

    def clamp(self, a: np.ndarray, low: float, high: float) -> np.ndarray:
        return np.clip(a, low, high)

    def top(self, a: np.ndarray, k: int) -> np.ndarray:
        """Ids of the k largest along the last axis."""
        return np.argsort(-a, axis=-1, kind="stable")[..., :k]

    def top_values(self, a: np.ndarray, k: int) -> np.ndarray:
        return -np.sort(-a, axis=-1)[..., :k]

    def take(self, a: np.ndarray, ids: np.ndarray) -> np.ndarray:
        return np.take_along_axis(a, ids, axis=-1)

    def total(self, a: np.ndarray) -> np.ndarray:
        """Sum along the last axis, which stays with length 1."""
        return a.sum(axis=-1, keepdims=True)

    def largest(self, a: np.ndarray) -> np.ndarray:
        return a.max(axis=-1)

    def sub(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a - b

    def of_ids(self, a: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Values of a [E] at ids [T, k]: [T, k]."""
        return a[ids]

    def beside(self, *parts: np.ndarray) -> np.ndarray:
        """[T, n] each, joined along the last axis."""
        return np.concatenate(parts, axis=-1)

    def absolute(self, a: np.ndarray) -> np.ndarray:
        return np.abs(a)

    def maximum(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.maximum(a, b)

    def masked_beyond(self, a: np.ndarray, measure: np.ndarray, limit: float) -> np.ndarray:
        """a, minus infinity where `measure` is above the limit."""
        return np.where(measure > limit, -np.inf, a)

    def without(self, a: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """a [T, E] with minus infinity at ids [T, n]."""
        out = np.array(a)
        np.put_along_axis(out, ids, -np.inf, axis=-1)
        return out

    def from_groups(self, ids: np.ndarray, size: int, groups: int) -> np.ndarray:
        """Ids within each group [T, groups, n] → ids [T, groups * n] over all, groups being of `size`."""
        return (ids + np.arange(groups)[None, :, None] * size).reshape(len(ids), -1)

    def split_groups(self, a: np.ndarray, groups: int) -> np.ndarray:
        """[T, E] → [T, groups, E / groups]."""
        return a.reshape(a.shape[0], groups, -1)

    def join_groups(self, a: np.ndarray, experts: int) -> np.ndarray:
        """[T, groups, E / groups] → [T, E]."""
        return a.reshape(a.shape[0], experts)

    def only_groups(self, a: np.ndarray, ids: np.ndarray, groups: int) -> np.ndarray:
        """a [T, groups, n] where the group is among ids [T, g], minus infinity elsewhere."""
        kept = (ids[:, :, None] == np.arange(groups)).any(axis=1)
        return np.where(kept[:, :, None], a, -np.inf)

    def in_fp32(self, function: Callable[..., Any], *values: np.ndarray) -> np.ndarray:
        """function(ops, *values), on other backends in float32 and back in the values' dtype; float64 here."""
        return function(self, *values)

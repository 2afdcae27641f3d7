"""How far ours is from theirs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.parity.ours import Outputs
from tests.parity.theirs import Reference

__all__ = ["Difference", "difference"]


@dataclass(frozen=True)
class Difference:
    """Largest differences between two sets of outputs."""

    selected: bool
    """True where every token selected the same experts."""
    weights: float
    """Absolute, expert by expert; not a number where the selection differs."""
    y: float
    """Over the root mean square of the module's output."""

    def within(self, limit: float) -> bool:
        """True if the selection is equal and both differences are at most the limit."""
        return self.selected and self.weights <= limit and self.y <= limit


def difference(ours: Outputs, theirs: Reference) -> Difference:
    """Of ours from theirs; a token's experts are a set, so both are put in the order of ids."""
    ids, weights = _ordered(ours.ids, ours.weights)
    their_ids, their_weights = _ordered(theirs.ids.numpy(), theirs.weights.double().numpy())
    same = bool((ids == their_ids).all())
    y = theirs.y.double().numpy()
    return Difference(
        selected=same,
        weights=float(np.abs(weights - their_weights).max()) if same else float("nan"),
        y=float(np.abs(ours.y - y).max() / np.sqrt((y**2).mean())),
    )


def _ordered(ids: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(ids, axis=1)
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(weights.astype(np.float64), order, axis=1)

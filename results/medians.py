"""Medians of many small arrays: those of one shape at once, since a call of NumPy takes longer than a small median."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

__all__ = ["medians"]

MOST_VALUES = 1 << 22
"""Values held at once."""


def medians(several: Sequence[np.ndarray], axis: int) -> list[np.ndarray]:
    """The median of each array along an axis, in their order."""
    import numpy as np

    by_shape: dict[tuple[int, ...], list[int]] = {}
    for number, one in enumerate(several):
        by_shape.setdefault(one.shape, []).append(number)
    found: dict[int, np.ndarray] = {}
    for members in by_shape.values():
        step = max(1, MOST_VALUES // max(several[members[0]].size, 1))
        for begin in range(0, len(members), step):
            part = members[begin : begin + step]
            found |= zip(part, np.median(np.stack([several[number] for number in part]), axis=axis + 1), strict=True)
    return [found[number] for number in range(len(several))]

"""Many small arrays, those of one shape at once: a call of NumPy takes longer than the work on one of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

__all__ = ["medians", "stacks"]

MOST_VALUES = 1 << 22
"""Values held at once."""


def stacks(several: Sequence[np.ndarray]) -> Iterator[tuple[list[int], np.ndarray]]:
    """Numbers of arrays of one shape, and these stacked, [arrays, *shape]; so many as go together."""
    import numpy as np

    by_shape: dict[tuple[int, ...], list[int]] = {}
    for number, one in enumerate(several):
        by_shape.setdefault(one.shape, []).append(number)
    for members in by_shape.values():
        step = max(1, MOST_VALUES // max(several[members[0]].size, 1))
        for begin in range(0, len(members), step):
            part = members[begin : begin + step]
            yield part, np.stack([several[number] for number in part])


def medians(several: Sequence[np.ndarray], axis: int) -> list[np.ndarray]:
    """The median of each array along an axis, in their order."""
    import numpy as np

    found: dict[int, np.ndarray] = {}
    for numbers, stack in stacks(several):
        found |= zip(numbers, np.median(stack, axis=axis + 1), strict=True)
    return [found[number] for number in range(len(several))]

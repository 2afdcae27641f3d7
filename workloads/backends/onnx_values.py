"""Values of ONNX tensors as NumPy arrays: what carries an element type, and what a graph's placeholders hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from workloads.backends.onnx_ops import ONNX_TYPES, Placeholder
from workloads.problem import Problem
from workloads.weights import Quantised, Tiled

__all__ = ["CARRIERS", "decoded", "encoded", "placeholder_pieces", "placeholder_values"]

CARRIERS: dict[int, Any] = {
    ONNX_TYPES[name]: np.dtype(kind)
    for name, kind in (
        ("fp32", np.float32),
        ("fp16", np.float16),
        ("bf16", np.uint16),
        ("int32", np.int32),
        ("int64", np.int64),
        ("uint8", np.uint8),
    )
}
"""Element type → what NumPy holds it as: bf16, for which it has no type, as its bits."""


def encoded(array: np.ndarray, element: int) -> np.ndarray:
    """Values in the type that carries an element type, rounded to the nearest where they are not exact (ties to even)."""
    if element != ONNX_TYPES["bf16"]:
        return np.ascontiguousarray(array, dtype=CARRIERS[element])
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))) >> 16).astype(np.uint16)


def decoded(array: np.ndarray, element: int) -> np.ndarray:
    """The reverse, as float32 numbers or int64 ids."""
    if element == ONNX_TYPES["bf16"]:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32) if array.dtype.kind == "f" else array.astype(np.int64)


def placeholder_values(place: Placeholder, problem: Problem) -> np.ndarray:
    """A placeholder's value, float32 or codes; matrices transposed to (in, out), which is what MatMul wants."""
    pieces = list(placeholder_pieces(place, problem))
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def placeholder_pieces(place: Placeholder, problem: Problem) -> Iterator[np.ndarray]:
    """The same along its first axis, a matrix of a tiled stack at a time."""
    weight = problem.weights[place.weight]
    if isinstance(weight, Quantised):
        assert place.matrix is not None
        packed = weight.packed(place.matrix)
        yield packed.scales if place.part == "scales" else packed.codes.reshape(*packed.scales.shape, -1)
    elif isinstance(weight, Tiled):
        if place.matrix is not None:
            yield weight.transposed(place.matrix)
            return
        for matrix in range(len(weight.offsets)):
            yield place.arranged(weight.transposed(matrix).T[None])
    else:
        values = place.arranged(weight.values) if place.matrix is None else weight.values[place.matrix]
        yield np.ascontiguousarray(values.T) if place.transposed else values

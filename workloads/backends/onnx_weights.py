"""The values of a graph's placeholders: one matrix, or one whole stack, at a time, in the carrier's dtype."""

from __future__ import annotations

import numpy as np

from workloads.backends.onnx_ops import Placeholder
from workloads.problem import Problem
from workloads.weights import Quantised, Tiled

__all__ = ["initialiser_values"]


def initialiser_values(place: Placeholder, problem: Problem) -> np.ndarray:
    """A placeholder's value, float32 or codes; matrices transposed to (in, out), which is what MatMul wants."""
    weight = problem.weights[place.weight]
    if isinstance(weight, Quantised):
        assert place.matrix is not None
        packed = weight.packed(place.matrix)
        return packed.scales if place.part == "scales" else packed.codes.reshape(*packed.scales.shape, -1)
    if isinstance(weight, Tiled):
        return place.arranged(weight.stack()) if place.matrix is None else weight.transposed(place.matrix)
    values = place.arranged(weight.values) if place.matrix is None else weight.values[place.matrix]
    return np.ascontiguousarray(values.T) if place.transposed else values

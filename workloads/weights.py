"""Weights as recipes: a target fills them on its device, the reference reads them without copying.

A `Pinned` weight is an ordinary array (gates, biases; never tiled; stacks of matrices that come from elsewhere). A `Tiled`
weight is a stack of matrices cut from one random block, each matrix at an offset of its own: matrix m, flat element i =
block[(offset[m] + i) mod BLOCK] * 2**-scale. A `Quantised` weight is a tiled stack in a weight format: its recipe, its codes
and scales made when first asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from workloads import pinned
from workloads.formats import Packed, Precision

__all__ = ["Pinned", "Quantised", "Tiled", "Weight", "doubled_block", "in_format", "scale_for"]

BELL_STD = 147.8
STRIP = 64
QUANTISED_STRIP = 128
"""Rows quantised or decoded at a time: the tallest block of a format, and few enough for a cache."""
QUANTISED_STACKS = ("experts_in", "experts_out", "shared_in", "shared_out", "dense_in", "dense_out")
"""What a weight format applies to: the projections of FFNs. Gates, biases and all else stay as they are."""


def scale_for(fan_in: int) -> int:
    """The power of two 2**-scale that brings the block's standard deviation nearest to 1 / sqrt(fan_in)."""
    return round(math.log2(BELL_STD * math.sqrt(fan_in)))


@dataclass(frozen=True)
class Pinned:
    """A small weight, held as its float32 values; `fp32` ones stay as they are in every dtype: gates and router biases, and
    tables of int32."""

    values: np.ndarray
    fp32: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def elements(self) -> int:
        return int(self.values.size)

    def apply(self, matrix: int, x: np.ndarray) -> np.ndarray:
        """x [n, columns] times one matrix [rows, columns] of a stack, transposed: [n, rows], float64."""
        return x @ self.values[matrix].astype(np.float64).T

    def mix(self, matrix: int, x: np.ndarray) -> np.ndarray:
        """x [n, rows] times one matrix [rows, columns] of a stack: its rows added up, [n, columns], float64."""
        return x @ self.values[matrix].astype(np.float64)


@dataclass(frozen=True)
class Tiled:
    """A stack [n, rows, columns] of tiled matrices, row-major, (out, in) as checkpoints store them."""

    offsets: tuple[int, ...]
    rows: int
    columns: int
    scale: int
    seed: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        return (len(self.offsets), self.rows, self.columns)

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    def chunks(self, matrix: int) -> Iterator[tuple[int, int, np.ndarray]]:
        """(first row, last row + 1, float64 view [rows, columns] unscaled) of one matrix, without copying."""
        whole = doubled_block(self.seed)
        step = max(1, pinned.BLOCK // self.columns)
        for first in range(0, self.rows, step):
            last = min(self.rows, first + step)
            start = (self.offsets[matrix] + first * self.columns) % pinned.BLOCK
            yield first, last, whole[start : start + (last - first) * self.columns].reshape(-1, self.columns)

    def apply(self, matrix: int, x: np.ndarray) -> np.ndarray:
        """x [n, columns] times the matrix transposed: [n, rows], float64."""
        parts = [x @ view.T for _, _, view in self.chunks(matrix)]
        return np.ldexp(np.concatenate(parts, axis=1), -self.scale)

    def mix(self, matrix: int, x: np.ndarray) -> np.ndarray:
        """x [n, rows] times the matrix: its rows added up, [n, columns], float64."""
        total = np.zeros((len(x), self.columns))
        for first, last, view in self.chunks(matrix):
            total += x[:, first:last] @ view
        return np.ldexp(total, -self.scale)

    def stack(self) -> np.ndarray:
        """All matrices, float32 [n, rows, columns]."""
        return np.stack([np.ascontiguousarray(self.transposed(matrix).T) for matrix in range(len(self.offsets))])

    def transposed(self, matrix: int) -> np.ndarray:
        """One matrix as (in, out): float32 [columns, rows], laid out a strip of rows at a time (fast in cache)."""
        whole = _single_block(self.seed, self.scale)
        out = np.empty((self.columns, self.rows), dtype=np.float32)
        step = min(STRIP, pinned.BLOCK // self.columns)
        for first in range(0, self.rows, step):
            last = min(self.rows, first + step)
            start = (self.offsets[matrix] + first * self.columns) % pinned.BLOCK
            strip = whole[start : start + (last - first) * self.columns]
            out[:, first:last] = strip.reshape(-1, self.columns).T
        return out


@dataclass(frozen=True)
class Quantised:
    """A tiled stack in a weight format, with the activation format that rounds what it multiplies."""

    tiled: Tiled
    precision: Precision
    _packed: dict[int, Packed] = field(default_factory=dict, compare=False, repr=False)
    """Codes and scales of the matrices asked for so far: kept, since targets and references read the same ones."""

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.tiled.shape

    @property
    def elements(self) -> int:
        return self.tiled.elements

    def packed(self, matrix: int) -> Packed:
        """One matrix as stored."""
        if matrix not in self._packed:
            self._packed[matrix] = self._quantise(matrix)
        return self._packed[matrix]

    def _quantise(self, matrix: int) -> Packed:
        form, strips = self.precision.weights, []
        assert form is not None
        whole = _single_block(self.tiled.seed, self.tiled.scale)
        for first in range(0, self.tiled.rows, QUANTISED_STRIP):
            rows = min(QUANTISED_STRIP, self.tiled.rows - first)
            start = (self.tiled.offsets[matrix] + first * self.tiled.columns) % pinned.BLOCK
            strip = whole[start : start + rows * self.tiled.columns].reshape(rows, -1)
            strips.append(form.pack(*form.quantise(strip)))
        return Packed(np.concatenate([s.codes for s in strips]), np.concatenate([s.scales for s in strips]))

    def apply(self, matrix: int, x: np.ndarray) -> np.ndarray:
        """x [n, columns], rounded to the activation format, times the decoded matrix transposed: [n, rows], float64."""
        form, activations, packed = self.precision.weights, self.precision.activations, self.packed(matrix)
        assert form is not None
        assert activations is not None
        x, parts = activations.rounded(x), []
        for first in range(0, self.tiled.rows, QUANTISED_STRIP):
            scales = slice(first // form.block[0], (first + QUANTISED_STRIP) // form.block[0])
            strip = Packed(packed.codes[first : first + QUANTISED_STRIP], packed.scales[scales])
            parts.append(x @ form.dequantise(*form.unpack(strip)).T)
        return np.concatenate(parts, axis=1)


Weight = Pinned | Tiled | Quantised


def in_format(weights: dict[str, Weight], precision: Precision) -> dict[str, Weight]:
    """The weights with every projection of an FFN in the weight format, where the precision has one."""
    if not precision.quantised:
        return weights
    return {
        name: Quantised(weight, precision) if name in QUANTISED_STACKS and isinstance(weight, Tiled) else weight
        for name, weight in weights.items()
    }


@lru_cache(maxsize=2)
def doubled_block(seed: int) -> np.ndarray:
    """The weight block twice over as float64 [2 * BLOCK], so that every run of up to BLOCK values is one slice."""
    once = pinned.block(seed, "weights").astype(np.float64)
    whole = np.concatenate([once, once])
    whole.setflags(write=False)
    return whole


@lru_cache(maxsize=2)
def _single_block(seed: int, scale: int) -> np.ndarray:
    """The weight block twice over, scaled, float32."""
    once = np.ldexp(pinned.block(seed, "weights").astype(np.float32), -scale)
    return np.concatenate([once, once])

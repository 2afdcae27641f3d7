"""Pinned numbers: the same bits on every machine, platform and NumPy version.

Random integers come straight from the counter-based Philox generator, whose raw stream NumPy guarantees. Values lie on the
grid that bf16, fp16 and fp32 share: 8 significant bits, multiples of 2**-17, |x| < 2**15. No libm function takes part:
`exp` and `log` below use only operations that IEEE 754 rounds correctly, so they too give the same bits everywhere.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np

__all__ = [
    "BLOCK",
    "bell",
    "block",
    "exp",
    "fixed",
    "integers",
    "log",
    "on_grid",
    "permutation",
    "sigmoid",
    "softplus",
    "stream",
]

BLOCK = 4_194_319
"""Length of the tiled random block: the first prime above 2**22, so that no matrix size divides it."""
SIGNIFICANT_BITS = 8
GRID_BITS = 17
LN2_HIGH = float.fromhex("0x1.62e42fee00000p-1")
LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")


def stream(*label: object) -> np.random.Philox:
    """A Philox stream of its own for a label; equal labels give equal streams."""
    name = "/".join(str(part) for part in ("moemark", *label))
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
    return np.random.Philox(key=key)


def integers(source: np.random.Philox, count: int, below: int) -> np.ndarray:
    """`count` integers in [0, below), int64. The bias of the multiply-shift map is under below / 2**32."""
    raw = source.random_raw(count).astype(np.uint64) >> np.uint64(32)
    return ((raw * np.uint64(below)) >> np.uint64(32)).astype(np.int64)


def permutation(source: np.random.Philox, size: int) -> np.ndarray:
    """A random permutation of range(size), int64: the order of raw 64-bit keys (ties by index)."""
    return np.argsort(source.random_raw(size), kind="stable").astype(np.int64)


def bell(source: np.random.Philox, count: int) -> np.ndarray:
    """`count` integers with a bell-shaped distribution, int16, standard deviation 147.8, 8 significant bits.

    Each is the sum of four random bytes less its mean; sums beyond 255 lose their last bit.
    """
    raw = source.random_raw((count + 1) // 2).astype("<u8").view(np.uint8).astype(np.int16)
    total = raw[0::4] + raw[1::4] + raw[2::4] + raw[3::4] - np.int16(510)
    wide = np.abs(total) > 255
    return np.where(wide, total // 2 * 2, total)[:count].astype(np.int16)


@lru_cache(maxsize=4)
def block(seed: int, name: str) -> np.ndarray:
    """The random block [BLOCK] of bell-shaped integers, int16, from which weights or hidden states are tiled."""
    values = bell(stream("block", name, seed), BLOCK)
    values.setflags(write=False)
    return values


def fixed(values: np.ndarray, bits: int) -> np.ndarray:
    """Values rounded to multiples of 2**-bits (half to even), float64."""
    return np.ldexp(np.rint(np.ldexp(np.asarray(values, dtype=np.float64), bits)), -bits)


def on_grid(values: np.ndarray) -> np.ndarray:
    """Values rounded to multiples of 2**-17, then to 8 significant bits: exact in fp32, bf16 and fp16. float32."""
    mantissa, exponent = np.frexp(fixed(values, GRID_BITS))
    rounded = np.rint(np.ldexp(mantissa, SIGNIFICANT_BITS))
    return np.ldexp(rounded, exponent - SIGNIFICANT_BITS).astype(np.float32)


def exp(x: np.ndarray) -> np.ndarray:
    """e**x in float64 for |x| < 700, the same bits everywhere: Cody-Waite reduction and a Taylor polynomial."""
    n = np.rint(x * 1.4426950408889634)
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    total = np.ones_like(r)
    for k in range(14, 0, -1):
        total = total * r / k + 1.0
    return np.ldexp(total, n.astype(np.int32))


def log(x: np.ndarray) -> np.ndarray:
    """Natural logarithm in float64 for x > 0, the same bits everywhere: 2 * artanh((m - 1) / (m + 1)) by its series."""
    mantissa, exponent = np.frexp(x)
    low = mantissa < 0.7071067811865476
    mantissa = np.where(low, mantissa * 2.0, mantissa)
    exponent = exponent - low
    f = (mantissa - 1.0) / (mantissa + 1.0)
    square = f * f
    total = np.zeros_like(f)
    for k in range(23, 0, -2):
        total = total * square + 1.0 / k
    return exponent * LN2_HIGH + (2.0 * f * total + exponent * LN2_LOW)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e**-x), bit-exact everywhere."""
    return 1.0 / (1.0 + exp(-x))


def softplus(x: np.ndarray) -> np.ndarray:
    """log(1 + e**x), bit-exact everywhere."""
    return log(1.0 + exp(x))

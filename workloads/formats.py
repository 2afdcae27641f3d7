"""Number formats: what a case's dtype says of weights and activations, and how each format rounds.

`bf16` names one format for both; `w-int4g32_a-bf16` names the weights' and the activations'. A weight format holds every
projection of routed, shared and dense FFNs as codes with a scale for each block; gates, biases and all else stay in the
carrier, the dtype that hidden states come, go and are summed in. `fp8g128` activations come and go as bf16 and are rounded
before each projection: the layer's input, and the hidden values after the activation function.

    format    code                    block      scale                                               source
    fp8b128   e4m3                    128 x 128  fp32: amax / 448                                    DeepSeek-V3's checkpoints
    mxfp4     e2m1, two a byte        1 x 32     ue8m0 byte: 2**(floor(log2 amax) - 2)               OCP MX v1.0, section 6.3
    int8gN    integer + 128           1 x N      2 bytes: amax / 127 to 8 significant bits           group-wise, symmetric
    int4gN    integer + 8, two a byte 1 x N      2 bytes: amax / 7 to 8 significant bits             group-wise, symmetric
    fp8g128   e4m3                    1 x 128    fp32: amax / 448, of values rounded to fp32         DeepSeek-V3's kernels

Blocks are (rows, K), amax is a block's largest magnitude; a block of zeros has the scale 1. A code is value / scale, divided in
fp32, rounded to the nearest with ties to even, saturated. Scales of integer formats have 8 significant bits so that fp16, bf16
and fp32 kernels hold the same numbers; two bytes are counted, as checkpoints store them. The first of two codes in a byte is
the low one. Every operation here is one that IEEE 754 rounds correctly, so codes and scales are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np

__all__ = [
    "ACTIVATION_FORMATS",
    "DTYPE_BYTES",
    "E4M3_LARGEST",
    "WEIGHT_FORMATS",
    "ActivationFormat",
    "Packed",
    "Precision",
    "WeightFormat",
    "precision_of",
    "quantised",
    "unsupported_dtype",
    "value_bytes",
    "weight_bytes",
]

DTYPE_BYTES = {"fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2}
"""Bytes of one value of the dtypes that are one format for all."""
E4M3_LARGEST = 448.0
GROUPS = (32, 64, 128)


# -- codes: encode(values / scale, float32) -> uint8, and the value of every code ------------------------------------


def encode_e4m3(values: np.ndarray) -> np.ndarray:
    """Codes of float32 values: sign, 4 bits of exponent (bias 7), 3 of mantissa; beyond 448 the largest."""
    bits = np.abs(values).view(np.uint32)
    odd = (bits >> np.uint32(20)) & np.uint32(1)
    normal = ((bits + np.uint32(0x7FFFF) + odd) >> np.uint32(20)).astype(np.int32) - (120 << 3)
    small = bits < np.uint32(121 << 23)  # below 2**-6: multiples of 2**-9
    code = np.where(small, np.rint(np.abs(values) * np.float32(512)).astype(np.int32), normal)
    return (np.minimum(code, 126) | (np.signbit(values) << 7)).astype(np.uint8)


def encode_e2m1(values: np.ndarray) -> np.ndarray:
    """Codes 0..15 of float32 values: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives; beyond 6 the largest."""
    size = np.abs(values)
    code = np.zeros(values.shape, np.uint8)
    for lower, middle in enumerate((0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)):
        code += size >= middle if lower % 2 else size > middle  # a tie goes to the even code
    return code | (np.signbit(values) << 3).astype(np.uint8)


def _encode_integer(bits: int) -> Callable[[np.ndarray], np.ndarray]:
    zero, largest = 1 << (bits - 1), (1 << (bits - 1)) - 1

    def encode(values: np.ndarray) -> np.ndarray:
        return (np.clip(np.rint(values), -largest, largest) + zero).astype(np.uint8)

    return encode


@cache
def _values(kind: str) -> np.ndarray:
    """The value of every code of `e4m3`, `e2m1`, `int8` or `int4`, float32. NaN codes of e4m3 are never made."""
    if kind.startswith("int"):
        count = 1 << int(kind[3:])
        return np.arange(count, dtype=np.float32) - count // 2
    mantissa, bias, codes = (3, 7, 128) if kind == "e4m3" else (1, 1, 8)
    code = np.arange(codes)
    exponent, fraction = code >> mantissa, (code & ((1 << mantissa) - 1)).astype(np.float64)
    whole = fraction + np.where(exponent > 0, 1 << mantissa, 0)
    half = np.ldexp(whole, np.maximum(exponent, 1) - bias - mantissa).astype(np.float32)
    return np.concatenate([half, -half])


# -- scales: amax of each block, float32 -> scale, float32 -----------------------------------------------------------


def _scale_e4m3(amax: np.ndarray) -> np.ndarray:
    return amax / np.float32(E4M3_LARGEST)


def _scale_ue8m0(amax: np.ndarray) -> np.ndarray:
    _, exponent = np.frexp(amax)
    return np.ldexp(np.float32(1), exponent - 3)


def _scale_integer(bits: int) -> Callable[[np.ndarray], np.ndarray]:
    largest = float((1 << (bits - 1)) - 1)

    def scale(amax: np.ndarray) -> np.ndarray:
        mantissa, exponent = np.frexp(amax.astype(np.float64) / largest)
        return np.ldexp(np.rint(mantissa * 256), exponent - 8).astype(np.float32)

    return scale


# -- formats ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Packed:
    """A matrix in a weight format: `codes` uint8 [rows, K] (4 bits: [rows, K / 2]) and `scales` [row blocks, K blocks]."""

    codes: np.ndarray
    scales: np.ndarray
    """float32, but ue8m0 scales as bytes: exponent + 127."""


@dataclass(frozen=True)
class WeightFormat:
    """One row of the table above."""

    name: str
    code: str
    bits: int
    block: tuple[int, int]
    """(rows, columns along K) that share a scale."""
    scale_bytes: int
    encode: Callable[[np.ndarray], np.ndarray]
    scale: Callable[[np.ndarray], np.ndarray]

    @property
    def element_bytes(self) -> float:
        """Stored bytes of one element, its part of the scale included."""
        return self.bits / 8 + self.scale_bytes / (self.block[0] * self.block[1])

    @property
    def values(self) -> np.ndarray:
        """The value of every code, float32."""
        return _values(self.code)

    def quantise(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float32 [rows, K], whole blocks → codes uint8 [rows, K], scales float32 [rows / block, K / block]."""
        blocks = self._blocks(matrix)
        amax = np.abs(blocks).max(axis=(1, 3))
        scales = np.where(amax > 0, self.scale(amax), np.float32(1))
        return self.encode(blocks / scales[:, None, :, None]).reshape(matrix.shape), scales

    def dequantise(self, codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
        """Codes [rows, K] and scales as `quantise` gives them → float64 [rows, K], exact."""
        blocks = self._blocks(self.values.astype(np.float64)[codes])
        return (blocks * scales[:, None, :, None]).reshape(codes.shape)

    def pack(self, codes: np.ndarray, scales: np.ndarray) -> Packed:
        """What is stored: two 4-bit codes a byte, the first one low; a power-of-two scale as its biased exponent."""
        if self.bits == 4:
            codes = codes[:, 0::2] | (codes[:, 1::2] << 4)
        if self.scale_bytes == 1:
            scales = (np.frexp(scales)[1] - 1 + 127).astype(np.uint8)
        return Packed(np.ascontiguousarray(codes), scales)

    def unpack(self, packed: Packed) -> tuple[np.ndarray, np.ndarray]:
        """(codes, scales) as `quantise` gives them."""
        codes, scales = packed.codes, packed.scales
        if self.bits == 4:
            codes = np.stack([codes & 15, codes >> 4], axis=-1).reshape(len(codes), -1)
        if self.scale_bytes == 1:
            scales = np.ldexp(np.float32(1), scales.astype(np.int32) - 127)
        return codes, scales

    def _blocks(self, matrix: np.ndarray) -> np.ndarray:
        """[rows, K] as [row blocks, rows of a block, K blocks, K of a block]."""
        (rows, columns), (tall, wide) = matrix.shape, self.block
        return matrix.reshape(rows // tall, tall, columns // wide, wide)


@dataclass(frozen=True)
class ActivationFormat:
    """What rounds the input of every projection; its values come and go in `carrier`."""

    name: str
    carrier: str
    group: int = 0
    """Values along K that share a scale; 0: the format is the carrier itself and nothing is rounded."""

    def rounded(self, x: np.ndarray) -> np.ndarray:
        """float64 [n, K] as the format holds it: fp32 first, then e4m3 codes times their group's scale. float64, exact."""
        if not self.group:
            return x
        groups = x.astype(np.float32).reshape(len(x), -1, self.group)
        amax = np.abs(groups).max(axis=2, keepdims=True)
        scales = np.where(amax > 0, _scale_e4m3(amax), np.float32(1))
        codes = encode_e4m3(groups / scales)
        return (_values("e4m3").astype(np.float64)[codes] * scales).reshape(x.shape)


def _integer(bits: int, group: int) -> WeightFormat:
    return WeightFormat(
        f"int{bits}g{group}", f"int{bits}", bits, (1, group), 2, _encode_integer(bits), _scale_integer(bits)
    )


WEIGHT_FORMATS = {
    one.name: one
    for one in (
        WeightFormat("fp8b128", "e4m3", 8, (128, 128), 4, encode_e4m3, _scale_e4m3),
        WeightFormat("mxfp4", "e2m1", 4, (1, 32), 1, encode_e2m1, _scale_ue8m0),
        *(_integer(bits, group) for bits in (8, 4) for group in GROUPS),
    )
}
ACTIVATION_FORMATS = {
    **{name: ActivationFormat(name, name) for name in ("fp32", "bf16", "fp16")},
    "fp8g128": ActivationFormat("fp8g128", "bf16", 128),
}
FP8_ACTIVATIONS_WITH = ("fp8b128", "mxfp4")
"""Weight formats that serving multiplies with fp8 activations of this kind; integer weights are served with unrounded ones."""


@dataclass(frozen=True)
class Precision:
    """A case's dtype, understood."""

    carrier: str
    """Dtype of hidden states, biases and sums: fp32, tf32, bf16 or fp16."""
    weights: WeightFormat | None = None
    """None: weights are in the carrier."""
    activations: ActivationFormat | None = None

    @property
    def quantised(self) -> bool:
        return self.weights is not None

    @property
    def rounds_activations(self) -> bool:
        """True where the input of every projection is rounded to a format of fewer bits than the carrier's."""
        return self.activations is not None and self.activations.group > 0

    @property
    def compute(self) -> str:
        """What is multiplied: `fp8`, or the carrier."""
        return "fp8" if self.rounds_activations else self.carrier

    @property
    def element_bytes(self) -> float:
        """Stored bytes of one element of a projection, scales included."""
        return self.weights.element_bytes if self.weights else float(DTYPE_BYTES[self.carrier])

    @property
    def width_step(self) -> int:
        """Widths must be multiples of this."""
        block = self.weights.block if self.weights else (1, 1)
        return max(*block, self.activations.group if self.activations else 1)


@cache
def precision_of(dtype: str) -> Precision:
    """What a dtype says. Raises KeyError for one that `unsupported_dtype` refuses."""
    if dtype in DTYPE_BYTES:
        return Precision(dtype)
    weights, _, activations = dtype.removeprefix("w-").partition("_a-")
    found = Precision(ACTIVATION_FORMATS[activations].carrier, WEIGHT_FORMATS[weights], ACTIVATION_FORMATS[activations])
    if found.rounds_activations and weights not in FP8_ACTIVATIONS_WITH:
        raise KeyError(dtype)
    return found


def quantised(dtype: str) -> Precision | None:
    """What a dtype with a weight format says; None for the others, and for those that are not done."""
    found = None if unsupported_dtype(dtype) else precision_of(dtype)
    return found if found and found.quantised else None


def value_bytes(dtype: str) -> int:
    """Bytes of one value of a case's hidden states."""
    return DTYPE_BYTES[precision_of(dtype).carrier]


def unsupported_dtype(dtype: str, widths: Iterable[int] = ()) -> str | None:
    """The sentence that says why a dtype is not done, for FFNs of these widths (hidden and inner); None if it is."""
    try:
        found = precision_of(dtype)
    except KeyError:
        fp8 = " or ".join(FP8_ACTIVATIONS_WITH)
        return (
            f"the dtype {dtype!r} is not done: there are {', '.join(DTYPE_BYTES)} and w-WEIGHTS_a-ACTIVATIONS, weights"
            f" {', '.join(WEIGHT_FORMATS)} and activations fp32, bf16, fp16 or, with {fp8}, fp8g128"
        )
    odd = [width for width in widths if width % found.width_step]
    if odd:
        return f"{dtype} is defined for widths that are multiples of {found.width_step}: this layer has one of {odd[0]}"
    return None


def weight_bytes(dtype: str, parameters: int, projections: int) -> int:
    """Bytes of `parameters` weights, of which `projections` are elements of FFNs' projections, stored in their format."""
    return round(projections * precision_of(dtype).element_bytes) + (parameters - projections) * value_bytes(dtype)

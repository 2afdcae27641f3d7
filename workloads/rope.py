"""Rotary positions: the pinned tables of cosines and sines, and the rotation on every backend.

Frequencies f_i = theta ** (-2 i / r) for the r rotated dims, which some models stretch to more positions than they were
pre-trained on:
yarn (arXiv:2309.00071) divides those that turn less than `beta_slow` times over the pre-training's positions by `factor`,
leaves those that turn more than `beta_fast` times, and goes over from one to the other linearly in i. Its factor on cosines
and sines is m(mscale) / m(mscale_all_dim), or m(1) without these, where m(s) = 0.1 s ln(factor) + 1; DeepSeek multiplies the
softmax's scale by m(mscale_all_dim) ** 2 too.
llama3 does the same (`beta_slow` is its low_freq_factor, `beta_fast` its high_freq_factor), goes over linearly in the number of
turns, and has no factor on cosines and sines.
longrope (arXiv:2402.13753) divides each by a number of its own, one list up to the pre-training's positions and one for longer
sequences, and multiplies cosines and sines with `mscale`.

Dims i and i + r / 2 turn together. Checkpoints that let neighbours turn together (DeepSeek) differ from that by the order of
the rows of their weights alone, so pinned weights make no difference. No libm function takes part.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from workloads import pinned
from workloads.backends.numpy_ops import NumpyOps
from workloads.dims import Attention

if TYPE_CHECKING:
    from torch import Tensor

    from workloads.backends.onnx_ops import Graph

__all__ = [
    "numpy_turned",
    "onnx_tables",
    "onnx_turned",
    "query_factor",
    "rotation_tables",
    "score_bits",
    "softmax_scale",
    "torch_turned",
]

HALF_PI_HIGH = float.fromhex("0x1.921fb54400000p+0")
"""The first 33 bits of pi / 2: whole multiples up to 2**20 are exact."""
HALF_PI_LOW = float.fromhex("0x1.0b4611a626331p-34")
TERMS = 10


def rotation_tables(mixer: Attention, dims: int, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(cosines, sines) [positions, dims / 2] float32, the same bits everywhere, for positions below 10**6."""
    angles = positions.astype(np.float64)[:, None] * _frequencies(mixer, dims, int(positions.max()) + 1)
    cosine, sine = _cosine_and_sine(angles)
    factor = _table_factor(mixer)
    return (cosine * factor).astype(np.float32), (sine * factor).astype(np.float32)


def softmax_scale(mixer: Attention, width: int, position: int = 0) -> float:
    """What scores of queries at a position are multiplied with: `score_scale`, or width ** -0.5 and YaRN's factor where the
    model has `rope_mscale_all_dim`; and the queries' growth."""
    factor = _stretched(mixer, mixer.rope_mscale_all_dim) if mixer.rope_mscale_all_dim else 1.0
    return query_factor(mixer, position) * (mixer.score_scale or factor * factor / math.sqrt(width))


def query_factor(mixer: Attention, position: int) -> float:
    """What queries at a position are multiplied with; 1 without `query_growth`."""
    if not mixer.query_growth:
        return 1.0
    return 1.0 + mixer.query_growth * _log(1.0 + (position + mixer.query_first) // mixer.query_span)


def score_bits(mixer: Attention, width: int) -> int:
    """Powers of two that pinned keys are made smaller by, so that the spread of scores does not depend on the model's scale: at
    most 1.9 times that of width ** -0.5, which is what YaRN's factor of 40 gives."""
    factor = _table_factor(mixer)
    return math.frexp(softmax_scale(mixer, width) * math.sqrt(width) * factor * factor / 1.9)[1]


def _rotated(ops: Any, first: Any, second: Any, cosine: Any, sine: Any) -> tuple[Any, Any]:
    """The halves of the rotated dims, turned."""
    turned = ops.sub(ops.mul(first, cosine), ops.mul(second, sine))
    return turned, ops.add(ops.mul(second, cosine), ops.mul(first, sine))


def numpy_turned(x: np.ndarray, cosine: np.ndarray, sine: np.ndarray) -> np.ndarray:
    """x [..., d] with its first dims rotated by tables [..., r / 2]."""
    half = cosine.shape[-1]
    first, second = _rotated(NumpyOps(), x[..., :half], x[..., half : 2 * half], cosine, sine)
    return np.concatenate([first, second, x[..., 2 * half :]], axis=-1)


def torch_turned(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """As `numpy_turned`, computed in fp32, in x's dtype."""
    import torch

    from workloads.backends.torch_ops import TorchOps

    wide, half = x.float(), cosine.shape[-1]
    first, second = _rotated(TorchOps(), wide[..., :half], wide[..., half : 2 * half], cosine, sine)
    return torch.cat([first, second, wide[..., 2 * half :]], dim=-1).to(x.dtype)


def onnx_tables(graph: Graph, positions: int, dims: int) -> list[str]:
    """Cosines and sines [positions, 1, dims / 2]."""
    shape = (positions, dims // 2)
    found = (graph.weight(name, shape, dtype="fp32", transposed=False) for name in ("rope_cos", "rope_sin"))
    return [graph.reshape(table, (positions, 1, dims // 2)) for table in found]


def onnx_turned(graph: Graph, x: str, tables: list[str], dims: int, width: int, wide: bool = False) -> str:
    """x [T, heads, width] with its first `dims` rotated, in fp32, then in the graph's dtype; `wide`: x is and stays fp32."""
    x = x if wide or graph.dtype == "fp32" else graph.cast(x, "fp32")
    half, rest = dims // 2, width - dims
    sections = [half, half, rest] if rest else [half, half]
    parts = graph.node("Split", x, graph.constant(sections), outputs=len(sections), axis=-1)
    first, second = _rotated(graph.in_fp32(), parts[0], parts[1], *tables)
    turned = graph.node("Concat", first, second, *parts[2:], axis=-1)
    return turned if wide or graph.dtype == "fp32" else graph.cast(turned, graph.dtype)


def _frequencies(mixer: Attention, dims: int, longest: int) -> np.ndarray:
    """[dims / 2] float64, of a sequence of `longest` positions."""
    step = np.arange(dims // 2) * 2.0 / dims
    plain = pinned.exp(-step * _log(mixer.rope_theta))
    if mixer.rope_scaling == "longrope":
        return plain / np.array(mixer.rope_long if longest > mixer.rope_original else mixer.rope_short)
    if not mixer.rope_factor:
        return plain
    stretched = _llama3_stretched(mixer, plain) if mixer.rope_scaling == "llama3" else _yarn_stretched(mixer, dims)
    return plain / mixer.rope_factor * stretched + plain * (1.0 - stretched)


def _yarn_stretched(mixer: Attention, dims: int) -> np.ndarray:
    """[dims / 2] how much of each frequency is stretched, 0 to 1."""
    low, high = (_turning(mixer, dims, beta) for beta in (mixer.rope_beta_fast, mixer.rope_beta_slow))
    if mixer.rope_truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dims - 1)
    return np.clip((np.arange(dims // 2) - low) / (high - low or 0.001), 0.0, 1.0)


def _llama3_stretched(mixer: Attention, plain: np.ndarray) -> np.ndarray:
    turns = plain * (mixer.rope_original / (2 * math.pi))
    between = mixer.rope_beta_fast - mixer.rope_beta_slow
    return np.clip((mixer.rope_beta_fast - turns) / (between or 1e-9), 0.0, 1.0)


def _turning(mixer: Attention, dims: int, times: float) -> float:
    """The dim that turns so many times over the pre-training's positions."""
    turns = mixer.rope_original / (times * 2 * math.pi)
    return dims * _log(turns) / (2 * _log(mixer.rope_theta))


def _table_factor(mixer: Attention) -> float:
    if mixer.rope_scaling == "longrope":
        return mixer.rope_mscale
    if not mixer.rope_factor or mixer.rope_scaling == "llama3":
        return 1.0
    if mixer.rope_mscale and mixer.rope_mscale_all_dim:
        return _stretched(mixer, mixer.rope_mscale) / _stretched(mixer, mixer.rope_mscale_all_dim)
    return _stretched(mixer, 1.0)


def _stretched(mixer: Attention, scale: float) -> float:
    return 0.1 * scale * _log(mixer.rope_factor) + 1.0 if mixer.rope_factor > 1 else 1.0


def _log(value: float) -> float:
    return float(pinned.log(np.array([value]))[0])


def _cosine_and_sine(angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of angles below 1.6e6, float64: reduction by quarter turns, then Taylor polynomials."""
    quarter = np.rint(angles * (2 / math.pi))
    rest = (angles - quarter * HALF_PI_HIGH) - quarter * HALF_PI_LOW
    square = rest * rest
    cosine, sine = np.ones_like(rest), np.ones_like(rest)
    for k in range(TERMS, 0, -1):
        cosine = 1.0 - cosine * square / ((2 * k - 1) * (2 * k))
        sine = 1.0 - sine * square / ((2 * k) * (2 * k + 1))
    sine = sine * rest
    turn = quarter.astype(np.int64) % 4
    odd = turn % 2 == 1
    first = np.where(odd, sine, cosine)
    second = np.where(odd, cosine, sine)
    return np.where((turn == 1) | (turn == 2), -first, first), np.where(turn >= 2, -second, second)

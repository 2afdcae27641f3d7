"""Queries, keys and values of tokens: what grouped-query attention makes before it attends (`workloads.gqa`).

q [heads, d], k [kv_heads, d], v [kv_heads, d_v] = projections of a token, with biases where the model has them, and clipped;
an RMSNorm of q and k, over each head or all of them, with a gain or without, before the rotation or after it; the first r
dims of q and k rotated, or none. With `k_eq_v` v is k's projection before its norm, without a matrix of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.attending import Form
from workloads.backends.numpy_ops import NumpyOps
from workloads.dims import Attention, Model
from workloads.experts import norm_gain, rms_norm
from workloads.pinned import BLOCK, bell, integers
from workloads.rope import numpy_turned, onnx_tables, onnx_turned, rotation_tables, score_bits, torch_turned
from workloads.sizes import Sizes
from workloads.weights import Pinned, Tiled, Weight, scale_for

if TYPE_CHECKING:
    from torch import Tensor

    from workloads.backends.onnx_ops import Graph

__all__ = [
    "attended_width",
    "numpy_linear",
    "numpy_qkv",
    "onnx_linear",
    "onnx_qkv",
    "projections",
    "qkv_weights",
    "torch_qkv",
    "value_width",
    "widths",
]

BIAS_BITS = 9


def value_width(mixer: Attention) -> int:
    """d_v."""
    return mixer.v_head_dim or mixer.head_dim


def widths(mixer: Attention) -> tuple[int, int, int]:
    """Widths of all queries, keys and values of a token."""
    return mixer.heads * mixer.head_dim, mixer.kv_heads * mixer.head_dim, mixer.kv_heads * value_width(mixer)


def attended_width(mixer: Attention) -> int:
    """Width of all heads' outputs."""
    return mixer.heads * value_width(mixer)


def _rotated(mixer: Attention) -> int:
    """Rotated dims of a head, r."""
    return 0 if mixer.nope else mixer.rope_dim or mixer.head_dim


def _source(mixer: Attention, which: str) -> str:
    """Of "q", "k" and "v" the one whose projection it is."""
    return "k" if which == "v" and mixer.k_eq_v else which


# -- weights -------------------------------------------------------------------------------------------------------


def projections(mixer: Attention, hidden: int) -> dict[str, tuple[int, int]]:
    """Name → (rows, columns)."""
    found = {f"attention_{which}": (width, hidden) for which, width in zip("qkv", widths(mixer), strict=True)}
    if mixer.k_eq_v:
        del found["attention_v"]
    return found | {"attention_out": (hidden, attended_width(mixer))}


def qkv_weights(form: Form, about: Model, source: Any, seed: int) -> dict[str, Weight]:
    """The projections [1, rows, columns], `attention_out` among them, and NAME_bias; `q_norm`, `k_norm`; `rope_cos` and
    `rope_sin` [positions, r / 2]. Keys' weights, or their norm's gain, are what gives scores their spread."""
    mixer, made = form.mixer, dict[str, Weight]()
    bits = score_bits(mixer, mixer.head_dim)
    for name, (rows, columns) in projections(mixer, about.hidden_size).items():
        small = (1 if mixer.qk_norm else 1 + bits) if name == "attention_k" else 0
        offsets = tuple(integers(source, 1, BLOCK).tolist())
        made[name] = Tiled(offsets, rows, columns, scale_for(columns) + small, seed)
    for name, tile in tuple(made.items()):
        if mixer.bias or (mixer.qkv_bias and name != "attention_out"):
            values = np.ldexp(bell(source, tile.shape[1]).astype(np.float32), -BIAS_BITS)
            made[f"{name}_bias"] = Pinned(values)
    if mixer.qk_norm and mixer.qk_norm_gain:
        for name, width, small in zip(("q_norm", "k_norm"), _normed_widths(mixer), (0, 1 + bits), strict=True):
            made[name] = Pinned(np.ldexp(norm_gain(name, about, width, seed).values, -small), fp32=True)
    if not _rotated(mixer):
        return made
    cosine, sine = rotation_tables(mixer, _rotated(mixer), form.positions)
    return made | {"rope_cos": Pinned(cosine, fp32=True), "rope_sin": Pinned(sine, fp32=True)}


def _normed_widths(mixer: Attention) -> tuple[int, int]:
    return widths(mixer)[:2] if mixer.qk_norm == "full" else (mixer.head_dim, mixer.head_dim)


# -- on any backend ------------------------------------------------------------------------------------------------


def _finished(
    ops: Any, mixer: Attention, flat: Any, norm: Callable[[Any, Any], Any], turn: Callable[[Any], Any]
) -> Any:
    """Projected queries or keys normed and rotated, in the model's order, in fp32."""

    def wide(ops: Any, x: Any) -> Any:
        x = norm(ops, x) if mixer.qk_norm and not mixer.qk_norm_after else x
        x = turn(x) if _rotated(mixer) else x
        return norm(ops, x) if mixer.qk_norm_after else x

    return ops.in_fp32(wide, flat) if mixer.qk_norm or _rotated(mixer) else flat


# -- float64 reference ---------------------------------------------------------------------------------------------


def numpy_qkv(form: Form, made: Mapping[str, Weight], tokens: np.ndarray, which: str, lines: Any = None) -> np.ndarray:
    """[n, heads, d] float64: queries and keys normed and rotated, or values; `lines`: the tokens' places among all."""
    mixer, name = form.mixer, f"attention_{_source(form.mixer, which)}"
    flat = numpy_linear(made, name, tokens.astype(np.float64))
    if mixer.qkv_clip:
        flat = np.clip(flat, -mixer.qkv_clip, mixer.qkv_clip)
    heads = mixer.heads if which == "q" else mixer.kv_heads
    if which == "v":
        values = flat.reshape(len(tokens), heads, -1)
        return rms_norm(NumpyOps(), values, None, values.shape[2], mixer.qk_norm_eps) if mixer.v_norm else values

    def norm(ops: NumpyOps, x: np.ndarray) -> np.ndarray:
        size, gain = _normed_widths(mixer)[which == "k"], made.get(f"{which}_norm")
        values = gain.values.astype(np.float64) if isinstance(gain, Pinned) else None
        return rms_norm(ops, x.reshape(len(tokens), -1, size), values, size, mixer.qk_norm_eps)

    def turn(x: np.ndarray) -> np.ndarray:
        tables = [_table(made[name]) for name in ("rope_cos", "rope_sin")]
        if not form.context and lines is not None:
            tables = [table[lines] for table in tables]
        return numpy_turned(x.reshape(len(tokens), heads, -1), *tables)

    return _finished(NumpyOps(), mixer, flat, norm, turn).reshape(len(tokens), heads, -1)


def numpy_linear(made: Mapping[str, Weight], name: str, x: np.ndarray) -> np.ndarray:
    """x times the projection of that name, with its bias."""
    bias = made.get(f"{name}_bias")
    return made[name].apply(0, x) + (bias.values.astype(np.float64) if isinstance(bias, Pinned) else 0.0)


def _table(weight: Weight) -> np.ndarray:
    assert isinstance(weight, Pinned)
    return weight.values.astype(np.float64)[:, None]


# -- torch ---------------------------------------------------------------------------------------------------------


def torch_qkv(mixer: Attention, tokens: int) -> Callable[[Tensor, Mapping[str, Tensor]], tuple[Tensor, Tensor, Tensor]]:
    """`f(x, weights) -> q, k, v`, each [T, heads, d]."""
    import torch.nn.functional as functional

    from workloads.backends.torch_ops import TorchOps

    ops = TorchOps()

    def projected(x: Tensor, made: Mapping[str, Tensor], which: str) -> Tensor:
        flat = functional.linear(x, made[f"attention_{which}"][0], made.get(f"attention_{which}_bias"))
        return flat.clamp(-mixer.qkv_clip, mixer.qkv_clip) if mixer.qkv_clip else flat

    def finished(flat: Tensor, made: Mapping[str, Tensor], which: str) -> Tensor:
        heads = mixer.heads if which == "q" else mixer.kv_heads

        def norm(ops: TorchOps, x: Tensor) -> Tensor:
            size = _normed_widths(mixer)[which == "k"]
            return rms_norm(ops, x.view(tokens, -1, size), made.get(f"{which}_norm"), size, mixer.qk_norm_eps)

        def turn(x: Tensor) -> Tensor:
            return torch_turned(x.view(tokens, heads, -1), made["rope_cos"][:, None], made["rope_sin"][:, None])

        return _finished(ops, mixer, flat, norm, turn).view(tokens, heads, -1)

    def qkv(x: Tensor, made: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        raw = {which: projected(x, made, which) for which in ("qk" if mixer.k_eq_v else "qkv")}
        values = raw[_source(mixer, "v")].view(tokens, mixer.kv_heads, -1)
        if mixer.v_norm:
            values = rms_norm(ops, values, None, value_width(mixer), mixer.qk_norm_eps)
        return finished(raw["q"], made, "q"), finished(raw["k"], made, "k"), values

    return qkv


# -- ONNX ----------------------------------------------------------------------------------------------------------


def onnx_qkv(graph: Graph, tokens: str, about: Model, sizes: Sizes) -> tuple[str, str, str]:
    """q, k and v of `tokens`, each [T, heads, d]."""
    mixer, count = about.attention[sizes.mixer], sizes.tokens
    tables = onnx_tables(graph, 1 if sizes.context else count, _rotated(mixer)) if _rotated(mixer) else []
    raw = {which: _onnx_projected(graph, tokens, mixer, sizes, which) for which in ("qk" if mixer.k_eq_v else "qkv")}
    values = graph.reshape(raw[_source(mixer, "v")], (count, mixer.kv_heads, value_width(mixer)))
    if mixer.v_norm:
        values = rms_norm(graph.in_dtype(), values, None, value_width(mixer), mixer.qk_norm_eps)
    q, k = (_onnx_finished(graph, raw[which], mixer, count, which, tables) for which in "qk")
    return q, k, values


def onnx_linear(graph: Graph, x: str, name: str, mixer: Attention, sizes: Sizes) -> str:
    """x times the projection of that name, with its bias."""
    rows, columns = projections(mixer, sizes.hidden)[name]
    flat = graph.matmul(x, graph.weight(name, (columns, rows), 0), 2.0 * sizes.tokens * columns * rows)
    biased = mixer.bias or (mixer.qkv_bias and name != "attention_out")
    return graph.node("Add", flat, graph.weight(f"{name}_bias", (rows,))) if biased else flat


def _onnx_projected(graph: Graph, tokens: str, mixer: Attention, sizes: Sizes, which: str) -> str:
    flat = onnx_linear(graph, tokens, f"attention_{which}", mixer, sizes)
    return graph.in_dtype().clamp(flat, -mixer.qkv_clip, mixer.qkv_clip) if mixer.qkv_clip else flat


def _onnx_finished(graph: Graph, flat: str, mixer: Attention, count: int, which: str, tables: list[str]) -> str:
    """[T, heads, d]; `tables` are the cosines and the sines."""
    heads = mixer.heads if which == "q" else mixer.kv_heads
    shape = (count, heads, mixer.head_dim)

    def norm(ops: Any, x: str) -> str:
        size = _normed_widths(mixer)[which == "k"]
        gain = graph.weight(f"{which}_norm", (size,), dtype="fp32") if mixer.qk_norm_gain else None
        x = graph.reshape(x, (count, heads * mixer.head_dim // size, size))
        return rms_norm(ops, x, gain, size, mixer.qk_norm_eps)

    def turn(x: str) -> str:
        return onnx_turned(graph, graph.reshape(x, shape), tables, _rotated(mixer), mixer.head_dim, wide=True)

    return graph.reshape(_finished(graph.in_dtype(), mixer, flat, norm, turn), shape)

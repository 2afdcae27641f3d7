"""Grouped-query attention: `heads` queries share `kv_heads` keys and values; the kind `gqa` of the workload `attention`.

q [heads, d], k [kv_heads, d], v [kv_heads, d_v] of a token (`workloads.qkv`); then per head softmax(scale * q . k) v over the
attended keys, scores capped and a learned sink in the softmax's sum where the model has them; a gate on the heads' outputs
where it has one (`workloads.gates`); the output projection. Norm, rotation and softmax are computed in fp32 in every dtype;
weights of the softmax are rounded to the case's.

Pinned scores are of the size 1, not of a trained model's: a cap of 30 on them, or a clip of queries, keys and values to 8, is
computed and counts in the time, but leaving it out changes outputs by less than what the checks of bf16 allow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.attending import Form, onnx_visible, pinned_sinks, scope_of, scored, softmax_rows, visible
from workloads.backends.numpy_ops import NumpyOps
from workloads.dims import Attention, Model
from workloads.gates import GATE, gate_flops, gate_weight, gate_width, gated, onnx_gate
from workloads.pinned import BLOCK, integers, stream
from workloads.qkv import (
    attended_width,
    numpy_linear,
    numpy_qkv,
    onnx_linear,
    onnx_qkv,
    projections,
    qkv_weights,
    torch_qkv,
    value_width,
    widths,
)
from workloads.rope import score_bits, softmax_scale
from workloads.sizes import Sizes
from workloads.weights import Pinned, Tiled, Weight

if TYPE_CHECKING:
    from torch import Tensor

    from workloads.backends.onnx_ops import Graph

__all__ = [
    "CASTS",
    "KEY_BITS",
    "QUERY_ROWS",
    "VALUE_BITS",
    "attended_width",
    "cached_tile",
    "flops",
    "onnx_call",
    "outputs",
    "reference",
    "torch_call",
    "weights",
]

CASTS = ("queries and keys to fp32 for norm and rotation", "scores to fp32 for the softmax")
KEY_BITS, VALUE_BITS = 8, 7
"""Keys, cached and new, have a standard deviation of some 0.5, so that no few of them take all weight; values one of 1.15."""
QUERY_ROWS = 256
"""Queries whose scores the reference holds at once."""


def outputs(form: Form, about: Model) -> dict[str, tuple[int, ...]]:
    """y, and what the cache receives: keys (rotated) and values."""
    _, keys, values = widths(form.mixer)
    return {"y": (form.tokens, about.hidden_size), "keys": (form.tokens, keys), "values": (form.tokens, values)}


# -- cost ----------------------------------------------------------------------------------------------------------


def flops(form: Form, about: Model) -> int:
    """2 * elements of the projections * T, and 2 * (d + d_v) * heads for every attended pair."""
    mixer = form.mixer
    elements = sum(rows * columns for rows, columns in projections(mixer, about.hidden_size).values())
    pairs = 2 * (mixer.head_dim + value_width(mixer)) * mixer.heads * form.pairs
    return 2 * elements * form.tokens + pairs + gate_flops(form, about, value_width(mixer))


# -- weights -------------------------------------------------------------------------------------------------------


def weights(form: Form, about: Model, seed: int) -> dict[str, Weight]:
    """Those of queries, keys and values (`workloads.qkv`), the gate's and `sinks`; of a decode `key_cache` and `value_cache`
    [T * kv_heads, cached, d]."""
    made = qkv_weights(form, about, stream("attention", about.id, form.number, seed), seed)
    made |= gate_weight(form, about, value_width(form.mixer), seed)
    if form.mixer.sinks:
        made["sinks"] = pinned_sinks(form, seed)
    return made | (_caches(form, about, seed) if form.context else {})


def _caches(form: Form, about: Model, seed: int) -> dict[str, Weight]:
    """A cache of its own for every sequence and key head."""
    mixer, count = form.mixer, form.tokens * form.mixer.kv_heads
    label, bits = (about.id, form.number, form.context, form.tokens, seed), KEY_BITS + score_bits(mixer, mixer.head_dim)
    return {
        "key_cache": cached_tile(("key cache", *label), count, form.cached, mixer.head_dim, bits, seed),
        "value_cache": cached_tile(("value cache", *label), count, form.cached, value_width(mixer), VALUE_BITS, seed),
    }


def cached_tile(label: tuple[object, ...], count: int, rows: int, width: int, bits: int, seed: int) -> Tiled:
    """`count` caches [rows, width], tiled like weights."""
    offsets = integers(stream(*label), count, BLOCK).tolist()
    return Tiled(tuple(offsets), rows, width, bits, seed)


# -- float64 reference ---------------------------------------------------------------------------------------------

Lines = Mapping[str, np.ndarray]


def reference(
    form: Form, about: Model, made: Mapping[str, Weight], tokens: np.ndarray, lines: Lines
) -> dict[str, np.ndarray]:
    """The wanted lines of every output, float64, of tokens [T, H]."""
    keys, values = numpy_qkv(form, made, tokens, "k"), numpy_qkv(form, made, tokens, "v")
    wanted = lines["y"]
    queries = numpy_qkv(form, made, tokens[wanted], "q", wanted)
    attend = _attend_cached if form.context else _attend_causal
    heads = attend(form, made, queries, keys, values, wanted).reshape(len(wanted), form.mixer.heads, -1)
    if GATE in made:
        gate = made[GATE].apply(0, tokens[wanted].astype(np.float64))
        heads = gated(NumpyOps(), heads, gate.reshape(len(wanted), form.mixer.heads, -1))
    y = numpy_linear(made, "attention_out", heads.reshape(len(wanted), -1))
    found = {"keys": keys, "values": values}
    return {"y": y} | {name: found[name].reshape(len(tokens), -1)[lines[name]] for name in found}


def _sinks(made: Mapping[str, Weight], groups: int) -> Any:
    """[kv_heads, heads of a group, 1], or None."""
    sinks = made.get("sinks")
    return sinks.values.astype(np.float64).reshape(groups, -1, 1) if isinstance(sinks, Pinned) else None


def _attend_cached(form: Form, made: Any, queries: Any, keys: Any, values: Any, wanted: np.ndarray) -> np.ndarray:
    """[lines, kv_heads, group, d_v]: each sequence over its own cache and its new token."""
    mixer, scale = form.mixer, softmax_scale(form.mixer, form.mixer.head_dim, form.context)
    grouped = queries.reshape(len(wanted), mixer.kv_heads, -1, mixer.head_dim)
    sinks, out = _sinks(made, mixer.kv_heads), np.empty((*grouped.shape[:3], values.shape[-1]))
    for row, sequence in enumerate(wanted):
        for head in range(mixer.kv_heads):
            q, number = grouped[row, head], int(sequence) * mixer.kv_heads + head
            scores = np.concatenate([made["key_cache"].apply(number, q), q @ keys[sequence, head][:, None]], axis=1)
            scores = scored(NumpyOps(), mixer, scores, scale)
            share = softmax_rows(scores, None if sinks is None else sinks[head])
            own = share[:, -1:] * values[sequence, head]
            out[row, head] = made["value_cache"].mix(number, share[:, :-1]) + own
    return out


def _attend_causal(form: Form, made: Any, queries: Any, keys: Any, values: Any, wanted: np.ndarray) -> np.ndarray:
    """[lines, heads, d_v]: each token over itself and those before it, within the window."""
    mixer, scale = form.mixer, softmax_scale(form.mixer, form.mixer.head_dim, form.context)
    group = mixer.heads // mixer.kv_heads
    sinks, out = _sinks(made, mixer.heads), np.empty((len(wanted), mixer.heads, values.shape[-1]))
    for first in range(0, len(wanted), QUERY_ROWS):
        rows = slice(first, first + QUERY_ROWS)
        hidden = ~visible(mixer, wanted[rows], np.arange(form.tokens))
        for head in range(mixer.heads):
            scores = scored(NumpyOps(), mixer, queries[rows, head] @ keys[:, head // group].T, scale)
            share = softmax_rows(np.where(hidden, -np.inf, scores), None if sinks is None else sinks[head])
            out[rows, head] = share @ values[:, head // group]
    return out


# -- torch ---------------------------------------------------------------------------------------------------------


def torch_call(about: Model, sizes: Sizes, device: Any) -> Callable[[Tensor, Mapping[str, Tensor]], dict[str, Tensor]]:
    """`f(tokens, weights) -> outputs`. A prefill without sinks and caps is torch's own attention, all else matmuls and a
    softmax."""
    import torch
    import torch.nn.functional as functional

    from workloads.backends.torch_ops import TorchOps

    mixer, tokens, ops = about.attention[sizes.mixer], sizes.tokens, TorchOps()
    group, scale = mixer.heads // mixer.kv_heads, softmax_scale(mixer, mixer.head_dim, sizes.context)
    place = torch.arange(tokens, device=device)
    seen: Any = None if sizes.context else visible(mixer, place, place)
    qkv = torch_qkv(mixer, tokens)

    def shares(scores: Tensor, made: Mapping[str, Tensor]) -> Tensor:
        """[kv_heads or T * kv_heads, group, ...] scores to the softmax's weights, in the scores' dtype."""
        wide, keys = scored(ops, mixer, scores.float(), scale), scores.shape[-1]
        wide = wide if sizes.context else wide.masked_fill(~seen, float("-inf"))
        if mixer.sinks:
            shape = (mixer.kv_heads, group) + (1,) * (wide.ndim - 2)
            sink = made["sinks"].view(shape).repeat(wide.shape[0] // mixer.kv_heads, *(1,) * (wide.ndim - 1))
            wide = torch.cat([wide, sink.expand(*wide.shape[:-1], 1)], dim=-1)
        return wide.softmax(dim=-1)[..., :keys].to(scores.dtype)

    def decode(q: Tensor, k: Tensor, v: Tensor, made: Mapping[str, Tensor]) -> Tensor:
        rows = tokens * mixer.kv_heads
        q, k, v = q.reshape(rows, group, -1), k.reshape(rows, -1, 1), v.reshape(rows, 1, -1)
        scores = torch.cat([torch.bmm(q, made["key_cache"].transpose(1, 2)), torch.bmm(q, k)], dim=-1)
        share = shares(scores, made)
        return torch.bmm(share[..., :-1], made["value_cache"]) + share[..., -1:] * v

    def prefill(q: Tensor, k: Tensor, v: Tensor, made: Mapping[str, Tensor]) -> Tensor:
        q, k, v = q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1)
        if not (mixer.sinks or mixer.score_cap):
            mask = seen if scope_of(mixer) else None
            out = functional.scaled_dot_product_attention(
                q[None], k[None], v[None], attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=group > 1
            )
            return out[0].transpose(0, 1)
        scores = q.reshape(mixer.kv_heads, group, tokens, -1) @ k[:, None].transpose(2, 3)
        out = shares(scores, made) @ v[:, None]
        return out.permute(2, 0, 1, 3)

    def attend(x: Tensor, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
        q, k, v = qkv(x, made)
        heads = (decode if sizes.context else prefill)(q, k, v, made).reshape(tokens, mixer.heads, -1)
        if GATE in made:
            heads = gated(ops, heads, functional.linear(x, made[GATE][0]).view(tokens, mixer.heads, -1))
        y = functional.linear(heads.reshape(tokens, -1), made["attention_out"][0], made.get("attention_out_bias"))
        return {"y": y, "keys": k.reshape(tokens, -1), "values": v.reshape(tokens, -1)}

    return attend


# -- ONNX ----------------------------------------------------------------------------------------------------------


def onnx_call(graph: Graph, tokens: str, about: Model, sizes: Sizes) -> dict[str, str]:
    """y, keys and values of `tokens` [T, H]."""
    mixer, count = about.attention[sizes.mixer], sizes.tokens
    q, k, v = onnx_qkv(graph, tokens, about, sizes)
    heads = (_onnx_decode if sizes.context else _onnx_prefill)(graph, mixer, sizes, q, k, v)
    if width := gate_width(mixer, value_width(mixer)):
        heads = graph.reshape(heads, (count, mixer.heads, value_width(mixer)))
        heads = gated(graph.in_dtype(), heads, onnx_gate(graph, tokens, mixer, sizes, width))
    y = onnx_linear(graph, graph.reshape(heads, (count, attended_width(mixer))), "attention_out", mixer, sizes)
    _, keys, values = widths(mixer)
    return {"y": y, "keys": graph.reshape(k, (count, keys)), "values": graph.reshape(v, (count, values))}


def _onnx_shares(
    graph: Graph, scores: str, mixer: Attention, sizes: Sizes, shape: tuple[int, ...], seen: str | None
) -> str:
    """Scores of that shape (keys last, heads before) to the softmax's weights."""
    wide = scores if graph.dtype == "fp32" else graph.cast(scores, "fp32")
    wide = scored(graph.in_fp32(), mixer, wide, softmax_scale(mixer, mixer.head_dim, sizes.context))
    if seen is not None:
        wide = graph.node("Where", seen, wide, graph.scalar(float("-inf"), "fp32"))
    if mixer.sinks:
        sinks = graph.weight("sinks", (mixer.heads,), dtype="fp32")
        group = mixer.heads // mixer.kv_heads
        ones = (mixer.kv_heads, group) + (1,) * (len(shape) - 2 if seen else 1)
        sinks = graph.reshape(sinks, ones)
        repeats = shape[0] // mixer.kv_heads
        if repeats > 1:
            sinks = graph.node("Tile", sinks, graph.constant([repeats] + [1] * (len(ones) - 1)))
        sinks = graph.node("Expand", sinks, graph.constant([*shape[:-1], 1]))
        wide = graph.node("Concat", wide, sinks, axis=-1)
    share = graph.node("Softmax", wide, axis=-1)
    if mixer.sinks:
        share = graph.node("Slice", share, graph.constant([0]), graph.constant([shape[-1]]), graph.constant([-1]))
    return share if graph.dtype == "fp32" else graph.cast(share, graph.dtype)


def _onnx_decode(graph: Graph, mixer: Attention, sizes: Sizes, q: str, k: str, v: str) -> str:
    """Scores over the cache and over the new token in one softmax, so that the cache is not copied."""
    rows, group, cached = sizes.tokens * mixer.kv_heads, mixer.heads // mixer.kv_heads, sizes.context
    d, d_v = mixer.head_dim, value_width(mixer)
    useful = 2.0 * rows * group * cached
    q = graph.reshape(q, (rows, group, d))
    cache = graph.weight("key_cache", (rows, cached, d), transposed=False)
    behind = graph.matmul(cache, graph.node("Transpose", q, perm=[0, 2, 1]), useful * d)
    behind = graph.node("Transpose", behind, perm=[0, 2, 1])
    own = graph.matmul(q, graph.reshape(k, (rows, d, 1)), 2.0 * rows * group * d)
    scores = graph.node("Concat", behind, own, axis=-1)
    share = _onnx_shares(graph, scores, mixer, sizes, (rows, group, cached + 1), None)
    over_cache, over_own = graph.node("Split", share, graph.constant([cached, 1]), outputs=2, axis=-1)
    values = graph.weight("value_cache", (rows, cached, d_v), transposed=False)
    seen = graph.matmul(over_cache, values, useful * d_v)
    return graph.node("Add", seen, graph.matmul(over_own, graph.reshape(v, (rows, 1, d_v)), 2.0 * rows * group * d_v))


def _onnx_prefill(graph: Graph, mixer: Attention, sizes: Sizes, q: str, k: str, v: str) -> str:
    """[T, kv_heads, group, d_v]."""
    count, groups, group = sizes.tokens, mixer.kv_heads, mixer.heads // mixer.kv_heads
    useful = 2.0 * Form(mixer, 0, count, 0).pairs * mixer.heads
    q = graph.node("Transpose", graph.reshape(q, (count, groups, group, mixer.head_dim)), perm=[1, 2, 0, 3])
    k = graph.node("Unsqueeze", graph.node("Transpose", k, perm=[1, 2, 0]), graph.constant([1]))
    v = graph.node("Unsqueeze", graph.node("Transpose", v, perm=[1, 0, 2]), graph.constant([1]))
    scores = graph.matmul(q, k, useful * mixer.head_dim)
    shape = (groups, group, count, count)
    share = _onnx_shares(graph, scores, mixer, sizes, shape, onnx_visible(graph, mixer, count))
    return graph.node("Transpose", graph.matmul(share, v, useful * value_width(mixer)), perm=[2, 0, 1, 3])

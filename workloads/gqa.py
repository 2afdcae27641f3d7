"""Grouped-query attention: `heads` queries share `kv_heads` keys and values; the kind `gqa` of the workload `attention`.

q [heads, d], k [kv_heads, d], v [kv_heads, d_v] = projections of a token (with biases where the model has them); an RMSNorm of
q and k where it has one, over each head or all of them; the first r dims of q and k rotated; then per head
softmax(scale * q . k) v over the attended keys, a learned sink in the softmax's sum where it has one; the output projection.
Norm, rotation and softmax are computed in fp32 in every dtype; weights of the softmax are rounded to the case's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.attending import Form, onnx_visible, pinned_sinks, softmax_rows
from workloads.backends.numpy_ops import NumpyOps
from workloads.dims import Attention, Model
from workloads.experts import norm_gain, rms_norm
from workloads.pinned import BLOCK, bell, integers, stream
from workloads.rope import numpy_turned, onnx_tables, onnx_turned, rotation_tables, softmax_scale, torch_turned
from workloads.sizes import Sizes
from workloads.weights import Pinned, Tiled, Weight, scale_for

if TYPE_CHECKING:
    from torch import Tensor

    from workloads.backends.onnx_ops import Graph

__all__ = ["CASTS", "cached_tile", "flops", "onnx_call", "outputs", "reference", "torch_call", "weights"]

CASTS = ("queries and keys to fp32 for norm and rotation", "scores to fp32 for the softmax")
KEY_BITS, VALUE_BITS = 8, 7
"""Keys, cached and new, have a standard deviation of some 0.5, so that no few of them take all weight; values one of 1.15."""
BIAS_BITS = 9
QUERY_ROWS = 256
"""Queries whose scores the reference holds at once."""


def widths(mixer: Attention) -> tuple[int, int, int]:
    """Widths of all queries, keys and values of a token."""
    value = mixer.v_head_dim or mixer.head_dim
    return mixer.heads * mixer.head_dim, mixer.kv_heads * mixer.head_dim, mixer.kv_heads * value


def attended_width(mixer: Attention) -> int:
    """Width of all heads' outputs."""
    return mixer.heads * (mixer.v_head_dim or mixer.head_dim)


def outputs(form: Form, about: Model) -> dict[str, tuple[int, ...]]:
    """y, and what the cache receives: keys (rotated) and values."""
    _, keys, values = widths(form.mixer)
    return {"y": (form.tokens, about.hidden_size), "keys": (form.tokens, keys), "values": (form.tokens, values)}


# -- cost ----------------------------------------------------------------------------------------------------------


def flops(form: Form, about: Model) -> int:
    """2 * H * widths of the four projections * T, and 2 * (d + d_v) * heads for every attended pair."""
    mixer = form.mixer
    pairs = 2 * (mixer.head_dim + (mixer.v_head_dim or mixer.head_dim)) * mixer.heads * form.pairs
    return 2 * about.hidden_size * (sum(widths(mixer)) + attended_width(mixer)) * form.tokens + pairs


# -- weights -------------------------------------------------------------------------------------------------------


def weights(form: Form, about: Model, seed: int) -> dict[str, Weight]:
    """Projections `attention_{q,k,v}` [1, width, H] and `attention_out` [1, H, heads * d_v], NAME_bias, `q_norm` and `k_norm`,
    `sinks`, `rope_cos`, `rope_sin` [positions, r / 2]; of a decode `key_cache` and `value_cache` [T * kv_heads, cached, d]."""
    mixer, hidden = form.mixer, about.hidden_size
    source = stream("attention", about.id, form.number, seed)
    names = ("attention_q", "attention_k", "attention_v")
    made: dict[str, Weight] = {
        name: Tiled(tuple(integers(source, 1, BLOCK).tolist()), width, hidden, scale_for(hidden) + halved, seed)
        for name, width, halved in zip(names, widths(mixer), (0, 1, 0), strict=True)
    }
    inner = attended_width(mixer)
    made["attention_out"] = Tiled(tuple(integers(source, 1, BLOCK).tolist()), hidden, inner, scale_for(inner), seed)
    if mixer.bias:
        for name, tile in tuple(made.items()):
            values = np.ldexp(bell(source, tile.shape[1]).astype(np.float32), -BIAS_BITS)
            made[f"{name}_bias"] = Pinned(values)
    if mixer.qk_norm:
        for name, width, halved in zip(("q_norm", "k_norm"), _normed_widths(mixer), (0, 1), strict=True):
            made[name] = Pinned(np.ldexp(norm_gain(name, about, width, seed).values, -halved), fp32=True)
    if mixer.sinks:
        made["sinks"] = pinned_sinks(form, seed)
    cosine, sine = rotation_tables(mixer, mixer.rope_dim or mixer.head_dim, form.positions)
    made |= {"rope_cos": Pinned(cosine, fp32=True), "rope_sin": Pinned(sine, fp32=True)}
    return made | (_caches(form, about, seed) if form.context else {})


def _normed_widths(mixer: Attention) -> tuple[int, int]:
    return widths(mixer)[:2] if mixer.qk_norm == "full" else (mixer.head_dim, mixer.head_dim)


def _caches(form: Form, about: Model, seed: int) -> dict[str, Weight]:
    """A cache of its own for every sequence and key head."""
    mixer, count = form.mixer, form.tokens * form.mixer.kv_heads
    label = (about.id, form.number, form.context, form.tokens, seed)
    value = mixer.v_head_dim or mixer.head_dim
    return {
        "key_cache": cached_tile(("key cache", *label), count, form.cached, mixer.head_dim, KEY_BITS, seed),
        "value_cache": cached_tile(("value cache", *label), count, form.cached, value, VALUE_BITS, seed),
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
    keys, values = _projected(form, made, tokens, "k"), _projected(form, made, tokens, "v")
    wanted = lines["y"]
    queries = _projected(form, made, tokens[wanted], "q", wanted)
    attend = _attend_cached if form.context else _attend_causal
    heads = attend(form, made, queries, keys, values, wanted)
    y = made["attention_out"].apply(0, heads.reshape(len(wanted), -1)) + _bias(made, "attention_out")
    found = {"keys": keys, "values": values}
    return {"y": y} | {name: found[name].reshape(len(tokens), -1)[lines[name]] for name in found}


def _bias(made: Mapping[str, Weight], name: str) -> Any:
    bias = made.get(f"{name}_bias")
    return bias.values.astype(np.float64) if isinstance(bias, Pinned) else 0.0


def _projected(form: Form, made: Mapping[str, Weight], tokens: np.ndarray, which: str, lines: Any = None) -> np.ndarray:
    """[n, heads, d]: queries and keys normed and rotated, values as they are."""
    mixer = form.mixer
    heads = mixer.heads if which == "q" else mixer.kv_heads
    flat = made[f"attention_{which}"].apply(0, tokens.astype(np.float64)) + _bias(made, f"attention_{which}")
    if which == "v":
        return flat.reshape(len(tokens), heads, -1)
    gain = made.get(f"{which}_norm")
    if isinstance(gain, Pinned):
        width = gain.values.shape[0]
        shaped = flat.reshape(len(tokens), -1, width)
        flat = rms_norm(NumpyOps(), shaped, gain.values.astype(np.float64), width, mixer.qk_norm_eps)
    tables = [_table(made[name]) for name in ("rope_cos", "rope_sin")]
    if not form.context and lines is not None:
        tables = [table[lines] for table in tables]
    return numpy_turned(flat.reshape(len(tokens), heads, -1), *tables)


def _table(weight: Weight) -> np.ndarray:
    assert isinstance(weight, Pinned)
    return weight.values.astype(np.float64)[:, None]


def _sinks(made: Mapping[str, Weight], groups: int) -> Any:
    """[kv_heads, heads of a group, 1], or None."""
    sinks = made.get("sinks")
    return sinks.values.astype(np.float64).reshape(groups, -1, 1) if isinstance(sinks, Pinned) else None


def _attend_cached(form: Form, made: Any, queries: Any, keys: Any, values: Any, wanted: np.ndarray) -> np.ndarray:
    """[lines, kv_heads, group, d_v]: each sequence over its own cache and its new token."""
    mixer, scale = form.mixer, softmax_scale(form.mixer, form.mixer.head_dim)
    grouped = queries.reshape(len(wanted), mixer.kv_heads, -1, mixer.head_dim)
    sinks, out = _sinks(made, mixer.kv_heads), np.empty((*grouped.shape[:3], values.shape[-1]))
    for row, sequence in enumerate(wanted):
        for head in range(mixer.kv_heads):
            q, number = grouped[row, head], int(sequence) * mixer.kv_heads + head
            scores = np.concatenate([made["key_cache"].apply(number, q), q @ keys[sequence, head][:, None]], axis=1)
            share = softmax_rows(scores * scale, None if sinks is None else sinks[head])
            own = share[:, -1:] * values[sequence, head]
            out[row, head] = made["value_cache"].mix(number, share[:, :-1]) + own
    return out


def _attend_causal(form: Form, made: Any, queries: Any, keys: Any, values: Any, wanted: np.ndarray) -> np.ndarray:
    """[lines, heads, d_v]: each token over itself and those before it, within the window."""
    mixer, scale = form.mixer, softmax_scale(form.mixer, form.mixer.head_dim)
    group = mixer.heads // mixer.kv_heads
    sinks, out = _sinks(made, mixer.heads), np.empty((len(wanted), mixer.heads, values.shape[-1]))
    window = mixer.sliding_window or form.tokens
    for first in range(0, len(wanted), QUERY_ROWS):
        rows = slice(first, first + QUERY_ROWS)
        distance = wanted[rows, None] - np.arange(form.tokens)
        hidden = (distance < 0) | (distance >= window)
        for head in range(mixer.heads):
            scores = queries[rows, head] @ keys[:, head // group].T * scale
            share = softmax_rows(np.where(hidden, -np.inf, scores), None if sinks is None else sinks[head])
            out[rows, head] = share @ values[:, head // group]
    return out


# -- torch ---------------------------------------------------------------------------------------------------------


def torch_call(about: Model, sizes: Sizes, device: Any) -> Callable[[Tensor, Mapping[str, Tensor]], dict[str, Tensor]]:
    """`f(tokens, weights) -> outputs`. A prefill without sinks is torch's own attention, all else matmuls and a softmax."""
    import torch
    import torch.nn.functional as functional

    from workloads.backends.torch_ops import TorchOps

    mixer, tokens, ops = about.attention[sizes.mixer], sizes.tokens, TorchOps()
    group, scale = mixer.heads // mixer.kv_heads, softmax_scale(mixer, mixer.head_dim)
    visible: Any = None if sizes.context else _visible(torch, mixer, tokens, device)

    def projected(x: Tensor, made: Mapping[str, Tensor], which: str) -> Tensor:
        heads = mixer.heads if which == "q" else mixer.kv_heads
        flat = functional.linear(x, made[f"attention_{which}"][0], made.get(f"attention_{which}_bias"))
        if which == "v":
            return flat.view(tokens, heads, -1)
        wide = flat.float()
        if mixer.qk_norm:
            gain = made[f"{which}_norm"]
            wide = rms_norm(ops, wide.view(tokens, -1, gain.shape[0]), gain, gain.shape[0], mixer.qk_norm_eps)
        wide = wide.view(tokens, heads, -1)
        return torch_turned(wide, made["rope_cos"][:, None], made["rope_sin"][:, None]).to(x.dtype)

    def shares(scores: Tensor, made: Mapping[str, Tensor]) -> Tensor:
        """[kv_heads or T * kv_heads, group, ...] scores to the softmax's weights, in the scores' dtype."""
        wide, keys = scores.float() * scale, scores.shape[-1]
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
        if not mixer.sinks:
            mask = visible if mixer.sliding_window else None
            out = functional.scaled_dot_product_attention(
                q[None], k[None], v[None], attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=group > 1
            )
            return out[0].transpose(0, 1)
        scores = q.reshape(mixer.kv_heads, group, tokens, -1) @ k[:, None].transpose(2, 3)
        out = shares(scores.masked_fill(~visible, float("-inf")), made) @ v[:, None]
        return out.permute(2, 0, 1, 3)

    def attend(x: Tensor, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
        q, k, v = (projected(x, made, which) for which in "qkv")
        heads = (decode if sizes.context else prefill)(q, k, v, made).reshape(tokens, -1)
        y = functional.linear(heads, made["attention_out"][0], made.get("attention_out_bias"))
        return {"y": y, "keys": k.reshape(tokens, -1), "values": v.reshape(tokens, -1)}

    return attend


def _visible(torch: Any, mixer: Attention, tokens: int, device: Any) -> Any:
    """[T, T] whether a token attends to another."""
    place = torch.arange(tokens, device=device)
    distance = place[:, None] - place
    return (distance >= 0) & (distance < (mixer.sliding_window or tokens))


# -- ONNX ----------------------------------------------------------------------------------------------------------


def onnx_call(graph: Graph, tokens: str, about: Model, sizes: Sizes) -> dict[str, str]:
    """y, keys and values of `tokens` [T, H]."""
    mixer, count = about.attention[sizes.mixer], sizes.tokens
    tables = onnx_tables(graph, 1 if sizes.context else count, mixer.rope_dim or mixer.head_dim)
    q, k, v = (_onnx_projected(graph, tokens, about, sizes, which, tables) for which in "qkv")
    heads = (_onnx_decode if sizes.context else _onnx_prefill)(graph, mixer, sizes, q, k, v)
    flat = graph.reshape(heads, (count, attended_width(mixer)))
    y = _onnx_linear(graph, flat, "attention_out", attended_width(mixer), sizes.hidden, sizes, mixer.bias)
    _, keys, values = widths(mixer)
    return {"y": y, "keys": graph.reshape(k, (count, keys)), "values": graph.reshape(v, (count, values))}


def _onnx_linear(graph: Graph, x: str, name: str, inputs: int, width: int, sizes: Sizes, bias: bool) -> str:
    useful = 2.0 * sizes.tokens * inputs * width
    flat = graph.matmul(x, graph.weight(name, (inputs, width), 0), useful)
    return graph.node("Add", flat, graph.weight(f"{name}_bias", (width,))) if bias else flat


def _onnx_projected(graph: Graph, tokens: str, about: Model, sizes: Sizes, which: str, tables: list[str]) -> str:
    """[T, heads, d]; `tables` are the cosines and the sines."""
    mixer, count = about.attention[sizes.mixer], sizes.tokens
    width = dict(zip("qkv", widths(mixer), strict=True))[which]
    heads = mixer.heads if which == "q" else mixer.kv_heads
    flat = _onnx_linear(graph, tokens, f"attention_{which}", sizes.hidden, width, sizes, mixer.bias)
    if which == "v":
        return graph.reshape(flat, (count, heads, width // heads))
    if mixer.qk_norm:
        size = width if mixer.qk_norm == "full" else mixer.head_dim
        gain = graph.weight(f"{which}_norm", (size,), dtype="fp32")
        flat = flat if graph.dtype == "fp32" else graph.cast(flat, "fp32")
        flat = rms_norm(
            graph.in_fp32(), graph.reshape(flat, (count, width // size, size)), gain, size, mixer.qk_norm_eps
        )
    shaped = graph.reshape(flat, (count, heads, mixer.head_dim))
    return onnx_turned(
        graph, shaped, tables, mixer.rope_dim or mixer.head_dim, mixer.head_dim, wide=bool(mixer.qk_norm)
    )


def _onnx_shares(graph: Graph, scores: str, mixer: Attention, shape: tuple[int, ...], visible: str | None) -> str:
    """Scores of that shape (keys last, heads before) to the softmax's weights."""
    wide = scores if graph.dtype == "fp32" else graph.cast(scores, "fp32")
    wide = graph.in_fp32().mul(wide, softmax_scale(mixer, mixer.head_dim))
    if visible is not None:
        wide = graph.node("Where", visible, wide, graph.scalar(float("-inf"), "fp32"))
    if mixer.sinks:
        sinks = graph.weight("sinks", (mixer.heads,), dtype="fp32")
        group = mixer.heads // mixer.kv_heads
        ones = (mixer.kv_heads, group) + (1,) * (len(shape) - 2 if visible else 1)
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
    d, d_v = mixer.head_dim, mixer.v_head_dim or mixer.head_dim
    useful = 2.0 * rows * group * cached
    q = graph.reshape(q, (rows, group, d))
    cache = graph.weight("key_cache", (rows, cached, d), transposed=False)
    behind = graph.matmul(cache, graph.node("Transpose", q, perm=[0, 2, 1]), useful * d)
    behind = graph.node("Transpose", behind, perm=[0, 2, 1])
    own = graph.matmul(q, graph.reshape(k, (rows, d, 1)), 2.0 * rows * group * d)
    scores = graph.node("Concat", behind, own, axis=-1)
    share = _onnx_shares(graph, scores, mixer, (rows, group, cached + 1), None)
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
    visible = onnx_visible(graph, mixer, count)
    share = _onnx_shares(graph, scores, mixer, (groups, group, count, count), visible)
    return graph.node(
        "Transpose", graph.matmul(share, v, useful * (mixer.v_head_dim or mixer.head_dim)), perm=[2, 0, 1, 3]
    )

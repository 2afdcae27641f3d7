"""Multi-head latent attention: all heads' keys and values are made of one latent; the kind `mla` of the workload `attention`.

A token has queries [heads, d_n + d_r] (from a normed low rank where the model has one), a normed latent c [r] and one rotated
key k_r [d_r] for all heads; head h has the keys U_h c and k_r, and the values V_h c (arXiv:2405.04434, 2.1). The cache holds c
and k_r. A prefill makes keys and values of the latents, as in the formula; a decode is absorbed: scores are
(q_n U_h) . c + q_r . k_r, and V_h is applied to the weighted latents, so that no key or value is ever made. Some models
have a gate on the heads' outputs (`workloads.gates`), or rotate nothing. Norms, rotation and softmax are computed in fp32 in
every dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.attending import Form, onnx_visible, softmax_rows
from workloads.backends.numpy_ops import NumpyOps
from workloads.dims import Attention, Model
from workloads.experts import norm_gain, rms_norm
from workloads.gates import GATE, gate_flops, gate_weight, gate_width, gated, onnx_gate
from workloads.gqa import KEY_BITS, QUERY_ROWS, VALUE_BITS, cached_tile
from workloads.pinned import BLOCK, integers, stream
from workloads.rope import (
    numpy_turned,
    onnx_tables,
    onnx_turned,
    rotation_tables,
    score_bits,
    softmax_scale,
    torch_turned,
)
from workloads.sizes import Sizes
from workloads.weights import Pinned, Tiled, Weight, scale_for

if TYPE_CHECKING:
    from torch import Tensor

    from workloads.backends.onnx_ops import Graph

__all__ = ["CASTS", "attended_width", "flops", "onnx_call", "outputs", "reference", "torch_call", "weights"]

CASTS = ("latents, queries and rotated keys to fp32 for norms and rotation", "scores to fp32 for the softmax")


def attended_width(mixer: Attention) -> int:
    """Width of all heads' outputs."""
    return mixer.heads * mixer.v_head_dim


def _key(mixer: Attention) -> int:
    return mixer.qk_nope_head_dim + mixer.qk_rope_head_dim


def outputs(form: Form, about: Model) -> dict[str, tuple[int, ...]]:
    """y, and what the cache receives: normed latents and rotated keys."""
    mixer, count = form.mixer, form.tokens
    return {
        "y": (count, about.hidden_size),
        "latents": (count, mixer.kv_lora_rank),
        "rope_keys": (count, mixer.qk_rope_head_dim),
    }


# -- cost ----------------------------------------------------------------------------------------------------------


def flops(form: Form, about: Model) -> int:
    """2 T times the elements of all projections, and per attended pair and head 2 (d_n + d_r + d_v), absorbed 2 (2 r + d_r)."""
    mixer = form.mixer
    elements = sum(count * rows * columns for count, rows, columns in _projections(mixer, about.hidden_size).values())
    absorbed = 2 * mixer.kv_lora_rank + mixer.qk_rope_head_dim
    wide = absorbed if form.context else _key(mixer) + mixer.v_head_dim
    return 2 * form.tokens * elements + 2 * wide * mixer.heads * form.pairs + gate_flops(form, about, mixer.v_head_dim)


# -- weights -------------------------------------------------------------------------------------------------------


def _projections(mixer: Attention, hidden: int) -> dict[str, tuple[int, int, int]]:
    """Name → (matrices, rows, columns)."""
    rank, low = mixer.kv_lora_rank, mixer.q_lora_rank
    found = {"attention_q_a": (1, low, hidden)} if low else {}
    return found | {
        "attention_q": (1, mixer.heads * _key(mixer), low or hidden),
        "attention_kv_a": (1, rank + mixer.qk_rope_head_dim, hidden),
        "attention_uk": (mixer.heads, mixer.qk_nope_head_dim, rank),
        "attention_uv": (mixer.heads, mixer.v_head_dim, rank),
        "attention_out": (1, hidden, attended_width(mixer)),
    }


HALVED = ("attention_kv_a", "attention_uk")
"""What keys are made of, so that no few of them take all weight (the latents are normed, so for them it is no matter)."""


def weights(form: Form, about: Model, seed: int) -> dict[str, Weight]:
    """Projections (rows: outputs), `attention_uk` [heads, d_n, r] and `attention_uv` [heads, d_v, r] apart; `q_a_norm`,
    `kv_a_norm`; `rope_cos`, `rope_sin` [positions, d_r / 2]; of a decode `latent_cache` [T, cached, r], `rope_cache`."""
    mixer = form.mixer
    source = stream("attention", about.id, form.number, seed)
    made: dict[str, Weight] = {}
    for name, (count, rows, columns) in _projections(mixer, about.hidden_size).items():
        offsets = tuple(integers(source, count, BLOCK).tolist())
        small = 1 + score_bits(mixer, _key(mixer)) if name in HALVED else 0
        made[name] = Tiled(offsets, rows, columns, scale_for(columns) + small, seed)
    for name, width in (("q_a_norm", mixer.q_lora_rank), ("kv_a_norm", mixer.kv_lora_rank)):
        if width:
            made[name] = Pinned(norm_gain(name, about, width, seed).values, fp32=True)
    made |= gate_weight(form, about, mixer.v_head_dim, seed)
    if not mixer.nope:
        cosine, sine = rotation_tables(mixer, mixer.qk_rope_head_dim, form.positions)
        made |= {"rope_cos": Pinned(cosine, fp32=True), "rope_sin": Pinned(sine, fp32=True)}
    return made | (_caches(form, about, seed) if form.context else {})


def _caches(form: Form, about: Model, seed: int) -> dict[str, Weight]:
    label, mixer = (about.id, form.number, form.context, form.tokens, seed), form.mixer
    count, cached = form.tokens, form.cached
    latent = cached_tile(("latent cache", *label), count, cached, mixer.kv_lora_rank, VALUE_BITS, seed)
    bits = KEY_BITS + score_bits(mixer, _key(mixer))
    rope = cached_tile(("rope cache", *label), count, cached, mixer.qk_rope_head_dim, bits, seed)
    return {"latent_cache": latent, "rope_cache": rope}


# -- float64 reference ---------------------------------------------------------------------------------------------

Lines = Mapping[str, np.ndarray]


def reference(
    form: Form, about: Model, made: Mapping[str, Weight], tokens: np.ndarray, lines: Lines
) -> dict[str, np.ndarray]:
    """The wanted lines of every output, float64, of tokens [T, H]."""
    mixer, rank = form.mixer, form.mixer.kv_lora_rank
    x, wanted = tokens.astype(np.float64), lines["y"]
    both = made["attention_kv_a"].apply(0, x)
    latents = _normed(made, "kv_a_norm", both[:, :rank], mixer)
    rope = _turned(form, made, both[:, None, rank:])[:, 0]
    low = x[wanted]
    if mixer.q_lora_rank:
        low = _normed(made, "q_a_norm", made["attention_q_a"].apply(0, low), mixer)
    q = made["attention_q"].apply(0, low).reshape(len(wanted), mixer.heads, -1)
    q_nope, q_rope = q[..., : mixer.qk_nope_head_dim], q[..., mixer.qk_nope_head_dim :]
    q_rope = _turned(form, made, q_rope, wanted)
    attend = _attend_cached if form.context else _attend_causal
    heads = attend(form, made, q_nope, q_rope, latents, rope, wanted)
    if GATE in made:
        heads = gated(NumpyOps(), heads, made[GATE].apply(0, x[wanted]).reshape(len(wanted), mixer.heads, -1))
    y = made["attention_out"].apply(0, heads.reshape(len(wanted), -1))
    return {"y": y, "latents": latents[lines["latents"]], "rope_keys": rope[lines["rope_keys"]]}


def _turned(form: Form, made: Mapping[str, Weight], x: np.ndarray, lines: Any = None) -> np.ndarray:
    """x [n, heads, d_r] rotated; `lines`: the tokens' places among all."""
    if form.mixer.nope:
        return x
    tables = [_values(made[name])[:, None] for name in ("rope_cos", "rope_sin")]
    if not form.context and lines is not None:
        tables = [table[lines] for table in tables]
    return numpy_turned(x, *tables)


def _values(weight: Weight) -> np.ndarray:
    assert isinstance(weight, Pinned)
    return weight.values.astype(np.float64)


def _normed(made: Mapping[str, Weight], name: str, x: np.ndarray, mixer: Attention) -> np.ndarray:
    return rms_norm(NumpyOps(), x, _values(made[name]), x.shape[1], mixer.latent_norm_eps)


def _attend_cached(
    form: Form, made: Any, q_nope: Any, q_rope: Any, latents: Any, rope: Any, wanted: np.ndarray
) -> np.ndarray:
    """[lines, heads, d_v]: each sequence over its own cache and its new token."""
    mixer, scale = form.mixer, softmax_scale(form.mixer, _key(form.mixer), form.context)
    absorbed = np.empty((*q_nope.shape[:2], mixer.kv_lora_rank))
    for head in range(mixer.heads):
        absorbed[:, head] = made["attention_uk"].mix(head, q_nope[:, head])
    seen = np.empty_like(absorbed)
    for row, line in enumerate(wanted):
        behind = made["latent_cache"].apply(int(line), absorbed[row]) + made["rope_cache"].apply(int(line), q_rope[row])
        own = absorbed[row] @ latents[line] + q_rope[row] @ rope[line]
        share = softmax_rows(np.concatenate([behind, own[:, None]], axis=1) * scale)
        seen[row] = made["latent_cache"].mix(int(line), share[:, :-1]) + share[:, -1:] * latents[line]
    out = [made["attention_uv"].apply(head, seen[:, head]) for head in range(mixer.heads)]
    return np.stack(out, axis=1)


def _attend_causal(
    form: Form, made: Any, q_nope: Any, q_rope: Any, latents: Any, rope: Any, wanted: np.ndarray
) -> np.ndarray:
    """[lines, heads, d_v]: each token over itself and those before it."""
    mixer, scale = form.mixer, softmax_scale(form.mixer, _key(form.mixer), form.context)
    out = np.empty((len(wanted), mixer.heads, mixer.v_head_dim))
    for head in range(mixer.heads):
        keys, values = (made[name].apply(head, latents) for name in ("attention_uk", "attention_uv"))
        for first in range(0, len(wanted), QUERY_ROWS):
            rows = slice(first, first + QUERY_ROWS)
            scores = (q_nope[rows, head] @ keys.T + q_rope[rows, head] @ rope.T) * scale
            hidden = wanted[rows, None] < np.arange(form.tokens)
            out[rows, head] = softmax_rows(np.where(hidden, -np.inf, scores)) @ values
    return out


# -- torch ---------------------------------------------------------------------------------------------------------


def torch_call(about: Model, sizes: Sizes, device: Any) -> Callable[[Tensor, Mapping[str, Tensor]], dict[str, Tensor]]:
    """`f(tokens, weights) -> outputs`: a prefill by torch's own attention, a decode by matmuls and a softmax."""
    import torch
    import torch.nn.functional as functional

    from workloads.backends.torch_ops import TorchOps

    mixer, tokens, ops = about.attention[sizes.mixer], sizes.tokens, TorchOps()
    rank, nope, rope = mixer.kv_lora_rank, mixer.qk_nope_head_dim, mixer.qk_rope_head_dim
    scale, eps = softmax_scale(mixer, _key(mixer), sizes.context), mixer.latent_norm_eps

    def queries(x: Tensor, made: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        if mixer.q_lora_rank:
            x = rms_norm(ops, functional.linear(x, made["attention_q_a"][0]), made["q_a_norm"], mixer.q_lora_rank, eps)
        q = functional.linear(x, made["attention_q"][0]).view(tokens, mixer.heads, -1)
        return q[..., :nope], turned(q[..., nope:], made)

    def turned(x: Tensor, made: Mapping[str, Tensor]) -> Tensor:
        """x [T, heads, d_r] rotated."""
        return x if mixer.nope else torch_turned(x, made["rope_cos"][:, None], made["rope_sin"][:, None])

    def decode(q_nope: Tensor, q_rope: Tensor, latent: Tensor, key: Tensor, made: Mapping[str, Tensor]) -> Tensor:
        absorbed = torch.bmm(q_nope.transpose(0, 1), made["attention_uk"]).transpose(0, 1)
        behind = torch.bmm(absorbed, made["latent_cache"].transpose(1, 2))
        behind = torch.baddbmm(behind, q_rope, made["rope_cache"].transpose(1, 2))
        own = torch.baddbmm(torch.bmm(absorbed, latent[:, :, None]), q_rope, key[:, :, None])
        scores = torch.cat([behind, own], dim=-1)
        share = (scores.float() * scale).softmax(dim=-1).to(scores.dtype)
        seen = torch.bmm(share[..., :-1], made["latent_cache"]) + share[..., -1:] * latent[:, None]
        return torch.bmm(seen.transpose(0, 1), made["attention_uv"].transpose(1, 2)).transpose(0, 1)

    def prefill(q_nope: Tensor, q_rope: Tensor, latent: Tensor, key: Tensor, made: Mapping[str, Tensor]) -> Tensor:
        keys = functional.linear(latent, made["attention_uk"].view(-1, rank)).view(tokens, mixer.heads, nope)
        values = functional.linear(latent, made["attention_uv"].view(-1, rank)).view(tokens, mixer.heads, -1)
        keys = torch.cat([keys, key[:, None].expand(-1, mixer.heads, -1)], dim=-1)
        q = torch.cat([q_nope, q_rope], dim=-1)
        q, keys, values = (one.transpose(0, 1)[None] for one in (q, keys, values))
        out = functional.scaled_dot_product_attention(q, keys, values, is_causal=True, scale=scale)
        return out[0].transpose(0, 1)

    def attend(x: Tensor, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
        both = functional.linear(x, made["attention_kv_a"][0])
        latent = rms_norm(ops, both[:, :rank], made["kv_a_norm"], rank, eps)
        key = turned(both[:, None, rank:], made)[:, 0]
        heads = (decode if sizes.context else prefill)(*queries(x, made), latent, key, made)
        if GATE in made:
            heads = gated(ops, heads, functional.linear(x, made[GATE][0]).view(tokens, mixer.heads, -1))
        y = functional.linear(heads.reshape(tokens, -1), made["attention_out"][0])
        return {"y": y, "latents": latent, "rope_keys": key.reshape(tokens, rope)}

    return attend


# -- ONNX ----------------------------------------------------------------------------------------------------------


def onnx_call(graph: Graph, tokens: str, about: Model, sizes: Sizes) -> dict[str, str]:
    """y, latents and rotated keys of `tokens` [T, H]."""
    mixer, count, ops = about.attention[sizes.mixer], sizes.tokens, graph.in_dtype()
    rank, nope, rope = mixer.kv_lora_rank, mixer.qk_nope_head_dim, mixer.qk_rope_head_dim
    tables, eps = _onnx_tables(graph, mixer, sizes), mixer.latent_norm_eps

    def linear(x: str, name: str) -> str:
        _, rows, columns = _projections(mixer, sizes.hidden)[name]
        return graph.matmul(x, graph.weight(name, (columns, rows), 0), 2.0 * count * rows * columns)

    def normed(x: str, name: str, width: int) -> str:
        return rms_norm(ops, x, graph.weight(name, (width,), dtype="fp32"), width, eps)

    def turned(x: str) -> str:
        return onnx_turned(graph, x, tables, rope, rope) if tables else x

    both = graph.node("Split", linear(tokens, "attention_kv_a"), graph.constant([rank, rope]), outputs=2, axis=-1)
    latent = normed(both[0], "kv_a_norm", rank)
    key = turned(graph.reshape(both[1], (count, 1, rope)))
    low = normed(linear(tokens, "attention_q_a"), "q_a_norm", mixer.q_lora_rank) if mixer.q_lora_rank else tokens
    q = graph.reshape(linear(low, "attention_q"), (count, mixer.heads, _key(mixer)))
    q_nope, q_rope = graph.node("Split", q, graph.constant([nope, rope]), outputs=2, axis=-1)
    q_rope = turned(q_rope)
    heads = (_onnx_decode if sizes.context else _onnx_prefill)(graph, mixer, sizes, q_nope, q_rope, latent, key)
    if width := gate_width(mixer, mixer.v_head_dim):
        heads = gated(ops, heads, onnx_gate(graph, tokens, mixer, sizes, width))
    y = linear(graph.reshape(heads, (count, attended_width(mixer))), "attention_out")
    return {"y": y, "latents": graph.reshape(latent, (count, rank)), "rope_keys": graph.reshape(key, (count, rope))}


def _onnx_tables(graph: Graph, mixer: Attention, sizes: Sizes) -> list[str]:
    """Cosines and sines, none without a rotation."""
    return [] if mixer.nope else onnx_tables(graph, 1 if sizes.context else sizes.tokens, mixer.qk_rope_head_dim)


def _onnx_shares(graph: Graph, scores: str, mixer: Attention, sizes: Sizes, visible: str | None = None) -> str:
    wide = scores if graph.dtype == "fp32" else graph.cast(scores, "fp32")
    wide = graph.in_fp32().mul(wide, softmax_scale(mixer, _key(mixer), sizes.context))
    if visible is not None:
        wide = graph.node("Where", visible, wide, graph.scalar(float("-inf"), "fp32"))
    share = graph.node("Softmax", wide, axis=-1)
    return share if graph.dtype == "fp32" else graph.cast(share, graph.dtype)


def _swapped(graph: Graph, x: str, *order: int) -> str:
    return graph.node("Transpose", x, perm=list(order))


def _onnx_decode(graph: Graph, mixer: Attention, sizes: Sizes, q_nope: str, q_rope: str, latent: str, key: str) -> str:
    """[T, heads, d_v], absorbed; scores over the cache and over the new token in one softmax."""
    count, cached, rank, rope = sizes.tokens, sizes.context, mixer.kv_lora_rank, mixer.qk_rope_head_dim
    pairs, up = 2.0 * count * mixer.heads * cached, 2.0 * count * mixer.heads * rank
    uk = graph.weight("attention_uk", (mixer.heads, mixer.qk_nope_head_dim, rank), transposed=False)
    uv = graph.weight("attention_uv", (mixer.heads, mixer.v_head_dim, rank), transposed=False)
    latents = graph.weight("latent_cache", (count, cached, rank), transposed=False)
    ropes = graph.weight("rope_cache", (count, cached, rope), transposed=False)
    absorbed = graph.matmul(_swapped(graph, q_nope, 1, 0, 2), uk, up * mixer.qk_nope_head_dim)
    behind = graph.node(
        "Add",
        graph.matmul(latents, _swapped(graph, absorbed, 1, 2, 0), pairs * rank),
        graph.matmul(ropes, _swapped(graph, q_rope, 0, 2, 1), pairs * rope),
    )
    absorbed = _swapped(graph, absorbed, 1, 0, 2)
    own = graph.node(
        "Add",
        graph.matmul(absorbed, graph.reshape(latent, (count, rank, 1)), up),
        graph.matmul(q_rope, graph.reshape(key, (count, rope, 1)), 2.0 * count * mixer.heads * rope),
    )
    scores = graph.node("Concat", _swapped(graph, behind, 0, 2, 1), own, axis=-1)
    parts = graph.node(
        "Split", _onnx_shares(graph, scores, mixer, sizes), graph.constant([cached, 1]), outputs=2, axis=-1
    )
    new = graph.matmul(parts[1], graph.reshape(latent, (count, 1, rank)), up)
    seen = graph.node("Add", graph.matmul(parts[0], latents, pairs * rank), new)
    values = graph.matmul(_swapped(graph, seen, 1, 0, 2), _swapped(graph, uv, 0, 2, 1), up * mixer.v_head_dim)
    return _swapped(graph, values, 1, 0, 2)


def _onnx_prefill(graph: Graph, mixer: Attention, sizes: Sizes, q_nope: str, q_rope: str, latent: str, key: str) -> str:
    """[T, heads, d_v], keys and values made of the latents."""
    count, heads, rank, rope = sizes.tokens, mixer.heads, mixer.kv_lora_rank, mixer.qk_rope_head_dim
    pairs, up = 2.0 * Form(mixer, 0, count, 0).pairs * heads, 2.0 * count * heads * rank
    uk = graph.weight("attention_uk", (heads, mixer.qk_nope_head_dim, rank), transposed=False)
    uv = graph.weight("attention_uv", (heads, mixer.v_head_dim, rank), transposed=False)
    latent = graph.reshape(latent, (1, count, rank))
    keys = graph.matmul(latent, _swapped(graph, uk, 0, 2, 1), up * mixer.qk_nope_head_dim)
    values = graph.matmul(latent, _swapped(graph, uv, 0, 2, 1), up * mixer.v_head_dim)
    scores = graph.node(
        "Add",
        graph.matmul(_swapped(graph, q_nope, 1, 0, 2), _swapped(graph, keys, 0, 2, 1), pairs * mixer.qk_nope_head_dim),
        graph.matmul(_swapped(graph, q_rope, 1, 0, 2), _swapped(graph, key, 1, 2, 0), pairs * rope),
    )
    share = _onnx_shares(graph, scores, mixer, sizes, onnx_visible(graph, mixer, count))
    return _swapped(graph, graph.matmul(share, values, pairs * mixer.v_head_dim), 1, 0, 2)

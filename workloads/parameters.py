"""How many parameters a model has, counted from its dims.

Counted: embedding and head (one where tied), token mixers, gates, routed and shared experts, dense FFNs, latent
projections, hyper-connections. Not counted: norms, selection biases, multi-token-prediction layers, vision and audio
towers, n-gram tables, quantisation scales. Against published figures this is within 1 %, or the model's note in models.toml
says why not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from workloads.dims import Attention, Model

__all__ = ["Parameters", "expert_parameters", "mixer_parameters", "parameters"]


@dataclass(frozen=True)
class Parameters:
    """Counts of parameters. Publishers count active ones in three ways, so all three are given."""

    total: int
    active: int
    """Those that one token uses, with embedding and head."""
    active_no_embedding: int
    active_body: int
    """Without embedding and head."""
    routed: int
    """In routed experts, of all layers."""


def parameters(model: Model) -> Parameters:
    """Parameters of the whole model; a dense model's active ones are all of them."""
    embedding = model.vocab_size * model.hidden_size
    head = 0 if model.tied_embeddings else embedding
    expert = expert_parameters(model) if model.moe_layers else 0
    always = _mixers(model) + _dense_layers(model) + _hyper_connections(model)
    always += model.moe_layers * _around_experts(model)
    routed = model.moe_layers * model.num_experts * expert
    used = model.experts_per_token_real_mean or model.experts_per_token
    body = always + round(model.moe_layers * used * expert)
    return Parameters(
        total=embedding + head + always + routed,
        active=embedding + head + body,
        active_no_embedding=head + body,
        active_body=body,
        routed=routed,
    )


def expert_parameters(model: Model) -> int:
    """Parameters of one routed expert: three matrices if gated, else two, and its biases."""
    width, inner, matrices = _expert_width(model), model.moe_intermediate_size, 3 if model.glu else 2
    biases = (matrices - 1) * inner + width if model.expert_bias else 0
    return matrices * width * inner + biases


def mixer_parameters(mixer: Attention, hidden: int) -> int:
    """Parameters of one layer's token mixer at a hidden size."""
    return _MIXERS[mixer.kind](mixer, hidden)


def _expert_width(model: Model) -> int:
    return model.moe_latent_size or model.hidden_size


def _around_experts(model: Model) -> int:
    """What every token of an MoE layer uses: gate, shared branch, latent projections."""
    hidden, matrices = model.hidden_size, 3 if model.glu else 2
    gate = hidden * (model.num_experts + model.zero_experts + model.shared_gate)
    shared = matrices * hidden * model.shared_intermediate_size
    return gate + shared + 2 * hidden * model.moe_latent_size


def _mixers(model: Model) -> int:
    return sum(mixer.layers * mixer_parameters(mixer, model.hidden_size) for mixer in model.attention)


def _dense_layers(model: Model) -> int:
    return model.dense_layers * 3 * model.hidden_size * model.dense_intermediate_size


def _hyper_connections(model: Model) -> int:
    """Two mixers a layer; each maps n streams of H to n gates in, n out and an n x n matrix."""
    n = model.hyper_connections
    return 2 * model.num_layers * n * model.hidden_size * (n + n + n * n)


def _gqa(a: Attention, h: int) -> int:
    value = a.v_head_dim or a.head_dim
    query = h * a.heads * a.head_dim * (2 if a.output_gate else 1)
    keys_values = h * a.kv_heads * (a.head_dim + (0 if a.k_eq_v else value))
    biases = a.heads * a.head_dim + a.kv_heads * (a.head_dim + value) if a.bias or a.qkv_bias else 0
    biases += h if a.bias else 0
    return query + keys_values + a.heads * value * h + _head_gate(a, h) + biases


def _mla(a: Attention, h: int) -> int:
    """Multi-head latent attention: low-rank keys and values, query low-rank or full; DSA's indexer if there is one."""
    key, value = a.qk_nope_head_dim + a.qk_rope_head_dim, a.v_head_dim
    query = _low_rank(h, a.q_lora_rank, a.heads * key)
    latent = h * (a.kv_lora_rank + a.qk_rope_head_dim) + a.kv_lora_rank * a.heads * (a.qk_nope_head_dim + value)
    output = a.heads * value * h * (2 if a.output_gate else 1)
    indexer = (a.q_lora_rank or h) * a.index_heads * a.index_head_dim + h * (a.index_head_dim + a.index_heads)
    return query + latent + output + _head_gate(a, h) + indexer


def _mfa(a: Attention, h: int) -> int:
    """Step-3: one low-rank query for all heads, few key and value heads."""
    query = _low_rank(h, a.q_lora_rank, a.heads * a.head_dim)
    return query + 2 * h * a.kv_heads * a.head_dim + a.heads * a.head_dim * h


def _window(a: Attention, h: int) -> int:
    """DeepSeek-V4's window attention: low-rank query, one head that is key and value, grouped low-rank output."""
    width = a.heads * a.head_dim
    return _low_rank(h, a.q_lora_rank, width) + h * a.head_dim + width * a.o_lora_rank + a.o_groups * a.o_lora_rank * h


def _heavily_compressed(a: Attention, h: int) -> int:
    return _window(a, h) + 2 * h * a.head_dim + a.compress_ratio * a.head_dim


def _compressed_sparse(a: Attention, h: int) -> int:
    indexer = a.q_lora_rank * a.index_heads * a.index_head_dim + h * a.index_heads
    return _window(a, h) + 4 * h * (a.head_dim + a.index_head_dim) + indexer


def _gated_delta(a: Attention, h: int) -> int:
    keys, values = a.key_heads * a.key_head_dim, a.value_heads * a.value_head_dim
    inputs = h * (2 * keys + 2 * values + 2 * a.value_heads)
    return inputs + a.conv_kernel * (2 * keys + values) + values * h


def _kimi_delta(a: Attention, h: int) -> int:
    width = a.heads * a.head_dim
    low_rank = (h + width) * a.head_dim
    gates = (h * width if a.full_rank_gate else low_rank) + (h * width if a.full_rank_forget else low_rank)
    return 4 * h * width + gates + h * a.heads + 3 * a.conv_kernel * width


def _mamba2(a: Attention, h: int) -> int:
    width = a.heads * a.head_dim
    mixed = width + 2 * a.groups * a.state_size
    return h * (width + mixed + a.heads) + a.conv_kernel * mixed + width * h


def _low_rank(inputs: int, rank: int, outputs: int) -> int:
    return (inputs + outputs) * rank if rank else inputs * outputs


def _head_gate(a: Attention, h: int) -> int:
    return h * a.heads if a.head_gate else 0


_MIXERS: dict[str, Callable[[Attention, int], int]] = {
    "gqa": _gqa,
    "mla": _mla,
    "mfa": _mfa,
    "swa_mqa": _window,
    "csa": _compressed_sparse,
    "hca": _heavily_compressed,
    "gdn": _gated_delta,
    "kda": _kimi_delta,
    "mamba2": _mamba2,
}

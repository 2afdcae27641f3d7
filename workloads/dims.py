"""What a model's tables hold: the dims of its layers, as in models.toml (whose head explains every key).

A key that is absent has the default given here, which means "this layer has none of it". Types are strict: an unknown
key, a missing one or a wrong type is refused when the file is read (`workloads.models`).
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal

import msgspec

from workloads.activations import ACTIVATIONS
from workloads.case import canonical_digest
from workloads.rules import RULES

__all__ = ["ATTENTION_NEEDS", "CHOICES", "Attention", "Model", "flaw_of"]

Count = Annotated[int, msgspec.Meta(ge=1)]
Maybe = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Text = Annotated[str, msgspec.Meta(min_length=1)]

AttentionKind = Literal["gqa", "mla", "mfa", "swa_mqa", "csa", "hca", "gdn", "kda", "mamba2"]
CountsFrom = Literal["read", "model name", "recalled"]
CHOICES = {"kind": AttentionKind, "published_counts_from": CountsFrom}
"""Key → the type that lists its values."""

_COMPRESSED = ("heads", "head_dim", "q_lora_rank", "o_lora_rank", "o_groups")
ATTENTION_NEEDS: dict[str, tuple[str, ...]] = {
    "gqa": ("heads", "kv_heads", "head_dim"),
    "mla": ("heads", "kv_lora_rank", "qk_nope_head_dim", "v_head_dim"),
    "mfa": ("heads", "kv_heads", "head_dim", "q_lora_rank"),
    "swa_mqa": _COMPRESSED,
    "csa": (*_COMPRESSED, "compress_ratio", "index_heads", "index_head_dim"),
    "hca": (*_COMPRESSED, "compress_ratio"),
    "gdn": ("key_heads", "key_head_dim", "value_heads", "value_head_dim", "conv_kernel"),
    "kda": ("heads", "head_dim", "conv_kernel"),
    "mamba2": ("heads", "head_dim", "groups", "state_size", "conv_kernel"),
}
"""Kind of token mixer → the keys without which its work is not defined."""

_EXPERT_NEEDS = ("num_experts", "experts_per_token", "moe_intermediate_size", "router")
_NOT_WORK = ("layers", "rope_source")
"""Keys of a token mixer that do not define its work."""
_EITHER = (
    ("bias", "qkv_bias"),
    ("nope", "rope_theta"),
    ("sliding_window", "attention_chunk"),
    ("head_gate", "output_gate"),
    ("query_growth", "sliding_window"),
    ("query_growth", "attention_chunk"),
)
"""Keys of a token mixer that say different things of one."""
_WORK_KEYS = {
    "hidden_size",
    "num_experts",
    "experts_per_token",
    "moe_intermediate_size",
    "shared_intermediate_size",
    "shared_gate",
    "glu",
    "router",
    "norm_topk_prob",
    "routed_scaling_factor",
    "router_bias",
    "router_linear_bias",
    "router_input_norm_eps",
    "router_expert_scale",
    "router_logit_scale",
    "router_jitter_eps",
    "num_expert_groups",
    "topk_groups",
    "experts_per_group_selected",
    "zero_experts",
    "zero_expert_kind",
    "activation",
    "activation_limit",
    "activation_alpha",
    "activation_beta",
    "activation_linear_beta",
    "expert_bias",
    "gate_up_interleaved",
    "weight_on_input",
    "moe_latent_size",
    "entry_norm_eps",
    "expert_norm_eps",
    "exit_norm_eps",
    "shared_norm_eps",
}


class Attention(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One kind of token mixer, used by `layers` layers. Sizes are counts of elements."""

    kind: AttentionKind
    layers: Count
    heads: Maybe = 0
    kv_heads: Maybe = 0
    head_dim: Maybe = 0
    v_head_dim: Maybe = 0
    rope_dim: Maybe = 0
    rope_head_dim: Maybe = 0
    q_lora_rank: Maybe = 0
    kv_lora_rank: Maybe = 0
    qk_nope_head_dim: Maybe = 0
    qk_rope_head_dim: Maybe = 0
    o_lora_rank: Maybe = 0
    o_groups: Maybe = 0
    compress_ratio: Maybe = 0
    sliding_window: Maybe = 0
    attention_chunk: Maybe = 0
    index_heads: Maybe = 0
    index_head_dim: Maybe = 0
    index_topk: Maybe = 0
    key_heads: Maybe = 0
    key_head_dim: Maybe = 0
    value_heads: Maybe = 0
    value_head_dim: Maybe = 0
    conv_kernel: Maybe = 0
    groups: Maybe = 0
    state_size: Maybe = 0
    qk_norm: Literal["", "head", "full"] = ""
    """What an RMSNorm of queries and of keys averages over: each head, or all heads together."""
    qk_norm_eps: NotNegative = 0.0
    qk_norm_gain: bool = True
    qk_norm_after: bool = False
    """Whether queries and keys are normed after they are rotated, not before."""
    v_norm: bool = False
    """Whether each head's values are normed too, without a gain, with qk_norm_eps."""
    latent_norm_eps: NotNegative = 0.0
    """Of the RMSNorms of low-rank queries and of the latents that keys and values are made of."""
    rope_theta: NotNegative = 0.0
    """Base of the rotary frequencies. Present, or `nope`: the attention was read, and what of it is absent is not there."""
    heads_norm: bool = False
    """Whether each head's output is normed, without a gain, with qk_norm_eps."""
    nope: bool = False
    """Nothing is rotated: that was read, as a theta elsewhere."""
    rope_scaling: Literal["yarn", "llama3", "longrope"] = "yarn"
    """How frequencies are stretched, where they are."""
    rope_factor: NotNegative = 0.0
    """Stretching factor of YaRN and llama3; 0: frequencies are not stretched by one factor."""
    rope_original: Maybe = 0
    """Positions of the pre-training that are stretched."""
    rope_short: tuple[Positive, ...] = ()
    """What longrope divides each frequency by, up to rope_original positions."""
    rope_long: tuple[Positive, ...] = ()
    """The same beyond."""
    rope_beta_fast: NotNegative = 32.0
    rope_beta_slow: NotNegative = 1.0
    rope_truncate: bool = True
    """Whether the range of YaRN's ramp is rounded to whole dims."""
    rope_mscale: NotNegative = 0.0
    rope_mscale_all_dim: NotNegative = 0.0
    rope_source: str = ""
    """Where norms and rotation were read."""
    score_scale: NotNegative = 0.0
    """What scores are multiplied with; 0: the width of a key ** -0.5 (and YaRN's factor)."""
    score_cap: NotNegative = 0.0
    """c of scores c tanh(s / c); 0: they are not capped."""
    query_growth: NotNegative = 0.0
    """a of the factor 1 + a ln(1 + floor((p + query_first) / query_span)) on the queries of position p; 0: there is none."""
    query_span: Maybe = 0
    query_first: Maybe = 0
    qkv_clip: NotNegative = 0.0
    """What projected queries, keys and values are clipped to, either way; 0: they are not."""
    bias: bool = False
    """Biases of all four projections."""
    qkv_bias: bool = False
    """Biases of the projections of queries, keys and values alone."""
    sinks: bool = False
    k_eq_v: bool = False
    head_gate: bool = False
    output_gate: bool = False
    full_rank_gate: bool = False
    full_rank_forget: bool = False


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, dict=True):
    """A published model: the dims of its layers, and where they were read."""

    id: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    name: Text
    release: Text
    source: Text
    source_read: Text
    licence: str = ""
    note: str = ""
    unverified: tuple[str, ...] = ()

    hidden_size: Count
    num_layers: Count
    moe_layers: Maybe
    dense_layers: Maybe
    vocab_size: Count
    attention: Annotated[tuple[Attention, ...], msgspec.Meta(min_length=1)]
    tied_embeddings: bool = False
    dense_intermediate_size: Maybe = 0
    hyper_connections: Maybe = 0
    mtp_layers: Maybe = 0
    engram_params_b: float = 0.0
    weight_dtype: str = ""

    num_experts: Maybe = 0
    experts_per_token: Maybe = 0
    experts_per_token_real_mean: float = 0.0
    """Mean number of selected experts that compute, where some are identities; 0: all of them."""
    moe_intermediate_size: Maybe = 0
    shared_experts: Maybe = 0
    shared_intermediate_size: Maybe = 0
    shared_gate: bool = False
    glu: bool = True
    expert_bias: bool = False
    gate_up_interleaved: bool = False
    weight_on_input: bool = False
    moe_latent_size: Maybe = 0
    entry_norm_eps: NotNegative = 0.0
    """Of the RMSNorm of what goes into the routed experts, after the projection down; 0: there is none."""
    expert_norm_eps: NotNegative = 0.0
    """Of the RMSNorm of each routed expert's output, before its weight; 0: there is none."""
    exit_norm_eps: NotNegative = 0.0
    """Of the RMSNorm of the weighted sum, before the projection up; 0: there is none."""
    shared_norm_eps: NotNegative = 0.0
    """Of the two RMSNorms around the shared branch; 0: there are none."""
    zero_experts: Maybe = 0
    zero_expert_kind: str = ""
    hash_layers: Maybe = 0

    router: str = ""
    """Key of `workloads.rules.RULES`; "" of a dense model."""
    router_bias: bool = False
    router_linear_bias: bool = False
    router_input_norm_eps: NotNegative = 0.0
    """Of the RMSNorm of what the gate sees, which is then multiplied by a gain and divided by sqrt(H); 0: there is none."""
    router_expert_scale: bool = False
    router_logit_scale: Positive | None = None
    router_jitter_eps: float = 0.0
    norm_topk_prob: bool = False
    routed_scaling_factor: Positive = 1.0
    num_expert_groups: Count = 1
    topk_groups: Count = 1
    experts_per_group_selected: Maybe = 0

    activation: Text
    """Key of `workloads.activations.ACTIVATIONS`."""
    activation_limit: float = 0.0
    activation_alpha: float = 0.0
    activation_beta: float = 0.0
    activation_linear_beta: float = 0.0
    activation_note: str = ""

    block_norm_eps: NotNegative = 0.0
    """Of the RMSNorms in front of the attention and of the FFN. Present: the layer was read, and is x + A(norm(x)), then
    h + F(norm(h)), with nothing else."""
    block_source: str = ""
    """Where that was read."""
    block_note: str = ""
    """What a layer has that is put together in another way."""

    total_params_b: Positive | None = None
    """Published, in 1e9; what the dims give is `workloads.parameters.parameters`."""
    active_params_b: Positive | None = None
    published_counts_from: CountsFrom | None = None

    @cached_property
    def work_digest(self) -> str:
        """SHA-256 (hex) of the keys that define the work of the FFN layer; names, sources and counts are left out."""
        keys = msgspec.to_builtins(self)
        return canonical_digest({key: value for key, value in keys.items() if key in _WORK_KEYS})

    @cached_property
    def attention_digest(self) -> str:
        """SHA-256 (hex) of the keys that define the work of the token mixers; counts of layers and sources are left out."""
        tables = [msgspec.to_builtins(mixer) for mixer in self.attention]
        return canonical_digest([{k: v for k, v in table.items() if k not in _NOT_WORK} for table in tables])


def flaw_of(model: Model) -> str | None:
    """What is wrong with a model whose keys are well-typed: the key, its value and what it must be; None if nothing."""
    if flaw := next(filter(None, map(_flaw_of_mixer, model.attention)), None):
        return flaw
    for key, registered in (("router", RULES), ("activation", ACTIVATIONS)):
        name = getattr(model, key)
        if name and name not in registered:
            return f"key {key!r}: {name!r} is not one of {', '.join(registered)}"
    wanted = ACTIVATIONS[model.activation]
    if missing := [key for key in wanted.needs if not getattr(model, key)]:
        return f"activation {model.activation!r} needs {missing[0]}: add it"
    if model.glu != wanted.gated:
        return f"activation {model.activation!r} {'has no' if model.glu else 'has a'} gate: {_gate_mend(model)}"
    if model.block_norm_eps and not model.block_source:
        return "block_norm_eps needs block_source: say where the layer was read"
    if model.dense_layers and not model.dense_intermediate_size:
        return f"dense_layers = {model.dense_layers} needs dense_intermediate_size: add it"
    return _flaw_of_experts(model) if model.moe_layers else None


def _flaw_of_mixer(mixer: Attention) -> str | None:
    if missing := [key for key in _needs(mixer) if not getattr(mixer, key)]:
        return f"attention of kind {mixer.kind!r} needs {missing[0]}: add it to its [[model.attention]] table"
    for pair in _EITHER:
        if all(getattr(mixer, key) for key in pair):
            return f"attention of kind {mixer.kind!r} has {pair[0]} and {pair[1]}: remove one of them"
    return None


def _needs(mixer: Attention) -> tuple[str, ...]:
    """The keys without which a mixer's work is not defined: its kind's, and those that other keys ask for."""
    needs, read = ATTENTION_NEEDS[mixer.kind], mixer.rope_theta or mixer.nope
    needs += ("qk_norm_eps",) if mixer.qk_norm or mixer.v_norm else ()
    needs += ("rope_source",) if read else ()
    needs += ("latent_norm_eps",) if read and mixer.kind == "mla" else ()
    needs += ("rope_theta", "rope_original") if mixer.rope_factor or mixer.rope_short else ()
    needs += ("rope_short", "rope_long", "rope_mscale") if mixer.rope_scaling == "longrope" else ()
    needs += ("rope_factor",) if mixer.rope_scaling == "llama3" else ()
    return needs + (("query_span",) if mixer.query_growth else ())


def _gate_mend(model: Model) -> str:
    return "write glu = false" if model.glu else "remove glu = false"


def _flaw_of_experts(model: Model) -> str | None:
    if missing := [key for key in _EXPERT_NEEDS if not getattr(model, key)]:
        return f"moe_layers = {model.moe_layers} needs {missing[0]}: add it"
    if model.weight_on_input and model.experts_per_token > 1:
        return f"weight_on_input needs experts_per_token = 1, not {model.experts_per_token}: correct one of them"
    outputs, groups = model.num_experts + model.zero_experts, model.num_expert_groups
    if model.experts_per_token > outputs:
        return f"experts_per_token = {model.experts_per_token} must be at most num_experts = {outputs}"
    if outputs % groups:
        return f"num_expert_groups = {groups} must divide num_experts = {outputs}"
    if model.topk_groups > groups:
        return f"topk_groups = {model.topk_groups} must be at most num_expert_groups = {groups}"
    if model.hash_layers > model.moe_layers:
        return f"hash_layers = {model.hash_layers} must be at most moe_layers = {model.moe_layers}"
    kept = groups if model.experts_per_group_selected else model.topk_groups
    if model.experts_per_token > outputs // groups * kept:
        return f"experts_per_token = {model.experts_per_token} is more than {kept} groups hold: raise topk_groups"
    return None

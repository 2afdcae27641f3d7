"""Tiny models, one for every routing rule that is done, with the traits of the family that uses it.

H 256, E 16, k 4, I 64: every expert's weights fit a test, and H is wide enough for planting and for the statistics of checks.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

import workloads.models
from workloads.case import Case
from workloads.dims import Model
from workloads.models import read_models
from workloads.problem import Problem
from workloads.registry import workload_of

HIDDEN, EXPERTS, PER_TOKEN, INNER = 256, 16, 4, 512
_COMMON: dict[str, Any] = {
    "release": "2026",
    "source": "by hand",
    "source_read": "this file",
    "hidden_size": HIDDEN,
    "num_layers": 1,
    "moe_layers": 1,
    "dense_layers": 0,
    "vocab_size": 10,
    "num_experts": EXPERTS,
    "experts_per_token": PER_TOKEN,
    "moe_intermediate_size": INNER,
    "activation": "silu_swiglu",
    "attention": [{"kind": "gqa", "layers": 1, "heads": 2, "kv_heads": 1, "head_dim": 4}],
}
_SHARED = {"shared_experts": 1, "shared_intermediate_size": 768}
_BIASED = {"router_bias": True, "norm_topk_prob": True}
_TRAITS: dict[str, dict[str, Any]] = {
    "tiny-olmoe": {"router": "softmax_topk"},
    "tiny-qwen": {"router": "softmax_topk", "norm_topk_prob": True},
    "tiny-gpt-oss": {
        "router": "topk_softmax",
        "router_linear_bias": True,
        "expert_bias": True,
        "activation": "swiglu_oai",
        "activation_limit": 7.0,
        "activation_alpha": 1.702,
    },
    "tiny-pangu": {"router": "sigmoid_topk", "norm_topk_prob": True, "routed_scaling_factor": 2.5} | _SHARED,
    "tiny-minimax": {"router": "sigmoid_bias_topk"} | _BIASED,
    "tiny-v3": {
        "router": "sigmoid_bias_group_topk",
        "num_expert_groups": 4,
        "topk_groups": 2,
        "routed_scaling_factor": 2.5,
    }
    | _BIASED
    | _SHARED,
    "tiny-v4": {
        "router": "sqrtsoftplus_bias_topk",
        "routed_scaling_factor": 1.5,
        "activation": "clamped_silu_swiglu",
        "activation_limit": 10.0,
    }
    | _BIASED
    | _SHARED,
}
_ONE_GROUP = {"router": "sigmoid_bias_group_topk"} | _BIASED
_SITU = {"activation": "situ", "activation_beta": 4.0, "activation_linear_beta": 25.0}
_TRAITS |= {
    "tiny-qwen-next": {"router": "softmax_topk", "norm_topk_prob": True, "shared_gate": True} | _SHARED,
    "tiny-nemotron-nano": {"activation": "relu2", "glu": False} | _ONE_GROUP | _SHARED,
    "tiny-nemotron": {"activation": "relu2", "glu": False, "moe_latent_size": 128} | _ONE_GROUP | _SHARED,
    "tiny-k3": {"moe_latent_size": 128, "exit_norm_eps": 1e-5} | _SITU | _ONE_GROUP | _SHARED,
    "tiny-muse": {
        "router": "sigmoid_bias_topk",
        "moe_latent_size": 128,
        "entry_norm_eps": 1e-5,
        "expert_norm_eps": 1e-8,
    }
    | _BIASED,
    "tiny-gemma": {
        "router": "softmax_topk",
        "norm_topk_prob": True,
        "activation": "gelu_tanh_glu",
        "entry_norm_eps": 1e-6,
        "exit_norm_eps": 1e-6,
        "shared_norm_eps": 1e-6,
    }
    | _SHARED,
    "tiny-llama4": {"router": "sigmoid_topk", "experts_per_token": 1, "weight_on_input": True} | _SHARED,
}

_TRAITS |= {
    "tiny-v2": {
        "router": "softmax_group_max_topk",
        "num_expert_groups": 4,
        "topk_groups": 2,
        "routed_scaling_factor": 16.0,
    }
    | _SHARED,
    "tiny-mistral": {"router": "softmax_group_topk", "norm_topk_prob": True} | _SHARED,
    "tiny-ernie": {"router": "softmax_bias_topk", "experts_per_token": 2} | _BIASED | _SHARED,
    "tiny-longcat": {
        "router": "softmax_bias_topk",
        "router_bias": True,
        "experts_per_token": 3,
        "zero_experts": 8,
        "zero_expert_kind": "identity",
        "routed_scaling_factor": 6.0,
    },
    "tiny-pangu-pro": {
        "router": "moge_softmax_group_top1",
        "num_expert_groups": 4,
        "experts_per_group_selected": 1,
        "router_expert_scale": True,
    }
    | _SHARED,
    "tiny-phi": {"router": "sparsemixer", "router_jitter_eps": 0.01, "experts_per_token": 2},
    "tiny-scout": {"router": "topk_sigmoid", "experts_per_token": 1, "weight_on_input": True} | _SHARED,
    "tiny-gemma-router": {
        "router": "softmax_topk",
        "norm_topk_prob": True,
        "router_input_norm_eps": 1e-6,
        "router_expert_scale": True,
    },
    "tiny-muse-router": {"router": "sigmoid_bias_topk", "router_logit_scale": 0.1767766952966369} | _BIASED,
    "tiny-v4-hash": {
        "router": "sqrtsoftplus_bias_topk",
        "routed_scaling_factor": 1.5,
        "hash_layers": 1,
        "vocab_size": 1000,
    }
    | _BIASED
    | _SHARED,
}


def content() -> dict[str, Any]:
    """All tiny models in the form of models.toml."""
    return {"model": [_COMMON | {"id": name, "name": name} | traits for name, traits in _TRAITS.items()]}


def tiny(name: str, **changes: Any) -> Model:
    """The tiny model of that name, with changes."""
    return read_models({"model": [_COMMON | {"id": name, "name": name} | _TRAITS[name] | changes]}, "tiny")[0]


TINY = {name: tiny(name) for name in _TRAITS}


def install(monkeypatch: pytest.MonkeyPatch, *more: Model) -> None:
    """Makes the tiny models, and more, known beside the shipped ones for the time of a test."""
    known = {**workloads.models.models(), **TINY, **{entry.id: entry for entry in more}}
    monkeypatch.setattr(workloads.models, "models", lambda: MappingProxyType(known))


def problem_of(text: str) -> Problem:
    """The problem of a case; `MODEL/epN/tN/dtype/routing` will do for a moe-layer."""
    full = text if text.count("/") == 6 else f"moe-layer/{text}/latency"
    case = Case.parse(full)
    refusal = workload_of(case.workload).unsupported(case)
    assert refusal is None, refusal
    return workload_of(case.workload).problem(case)

"""`contrib`: com.microsoft.MoE, ONNX Runtime's own fused operator, on the layer's own routing.

The operator selects and weighs by itself: softmax over its `router_probs`, top-k, weights made to add up to 1. It gets the
logarithm of our router's weights at the selected experts and a huge negative number elsewhere, which its softmax and top-k
turn back into these very experts and their shares, whatever the model's rule; its output is scaled by the sum of the weights.
In an EP share its top-k would run k experts a row, though most rows have one: whole layers only. Its gated activations
take the gate's and up's rows in turns, so the weights are laid out so, once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.case import Case
from workloads.implementations.registering import onnx_way
from workloads.models import Model, model
from workloads.registry import TargetFacts

if TYPE_CHECKING:
    from workloads.backends.onnx_ops import Graph

__all__ = ["onnx_contrib"]

DOMAIN = "com.microsoft"
NEVER = -1e30
"""A logit whose softmax is 0; -inf would make the operator's output 0."""

ATTRIBUTES: dict[str, Callable[[Model], dict[str, Any]]] = {
    "silu_swiglu": lambda about: {"activation_alpha": 1.0, "activation_beta": 0.0},
    "clamped_silu_swiglu": lambda about: _limited(about) | {"activation_alpha": 1.0, "activation_beta": 0.0},
    "swiglu_oai": lambda about: _limited(about) | {"activation_alpha": about.activation_alpha, "activation_beta": 1.0},
}
"""Our activations that the operator's swiglu computes: gate sigmoid(alpha gate) (up + beta), both clamped at a limit."""


def _limited(about: Model) -> dict[str, Any]:
    return {"swiglu_limit": about.activation_limit}


def _cannot(case: Case, facts: TargetFacts) -> str | None:
    if case.dtype.startswith("w-"):
        return "it multiplies unquantised weights only"
    about = model(case.model)
    if about.activation not in ATTRIBUTES or not about.glu:
        return f"com.microsoft.MoE has no {about.activation}"
    if about.expert_norm_eps:
        return "com.microsoft.MoE has no norm of an expert's output"
    if case.ep > 1 or about.zero_experts:
        return "com.microsoft.MoE runs k experts for every row: for whole layers"
    return None


def onnx_contrib(graph: Graph, x: str, ids: str, shares: str | None, sizes: Any, about: Model) -> str:
    """[R, W] from x [R, W], ids [R, k] int64 and shares [R, k] in the graph's dtype (None: all 1)."""
    experts, k, width, inner = sizes.local_experts, sizes.experts_per_token, sizes.expert_hidden, sizes.inner
    into = graph.weight("experts_in", (experts, 2 * inner, width), interleaved=True)
    out = graph.weight("experts_out", (experts, width, inner))
    biases = ["", ""]
    if about.expert_bias:
        stacked = graph.weight("experts_in_bias", (experts, 2 * inner), transposed=False, interleaved=True)
        biases = [stacked, graph.weight("experts_out_bias", (experts, width), transposed=False)]
    done = graph.node(
        "MoE",
        *(x, _logits(graph, ids, shares, experts), into, biases[0], out, biases[1]),
        domain=DOMAIN,
        k=k,
        activation_type="swiglu",
        swiglu_fusion=1,
        normalize_routing_weights=1,
        **ATTRIBUTES[about.activation](about),
    )
    graph.matmul_flops[done] = sizes.ffn_flops("experts") * experts
    if shares is None:
        return done
    return graph.node("Mul", done, graph.node("ReduceSum", shares, graph.constant([1]), keepdims=1))


def _logits(graph: Graph, ids: str, shares: str | None, experts: int) -> str:
    """[R, E]: log(share) of the selected experts (0 where shares are None), NEVER elsewhere."""
    columns = graph.node("Unsqueeze", ids, graph.constant([2]))
    hits = graph.node("Equal", columns, graph.constant(np.arange(experts).reshape(1, 1, experts)))
    given = (
        graph.scalar(0.0) if shares is None else graph.node("Unsqueeze", graph.node("Log", shares), graph.constant([2]))
    )
    return graph.node(
        "ReduceMax", graph.node("Where", hits, given, graph.scalar(NEVER)), graph.constant([1]), keepdims=0
    )


onnx_way("contrib", onnx_contrib, cannot=_cannot)

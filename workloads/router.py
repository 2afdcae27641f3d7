"""Workload `router`: logits, scores, selection and weights of a model's real router.

Input `tokens` [T, H]; outputs `ids` [T, k] (a set per token) and `weights` [T, k] fp32. logits = W x (+ linear bias), then
the model's rule (`workloads.rules`; sources in seeds/README.md). In every dtype the GEMM, scores and weights are computed in
fp32; hidden states come in the case's dtype. Useful FLOPs: 2 * H * E * T.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.case import Case
from workloads.formats import value_bytes
from workloads.inputs import routed_inputs, unsupported_routing
from workloads.models import Model, model
from workloads.planting import Gate
from workloads.problem import DTYPE_BYTES, Cost, Expected, Problem, input_digest
from workloads.registry import Built, implementation, register_workload
from workloads.rules import rule_of
from workloads.sizes import Sizes
from workloads.weights import Pinned, Weight

if TYPE_CHECKING:
    from torch import Tensor

    from workloads.backends.onnx_ops import Graph

__all__ = ["RouterWorkload", "onnx_router", "router_bytes", "router_weights", "torch_router"]

CASTS = ("tokens to fp32 for the router",)


class RouterWorkload:
    """The router alone, so that planted routing is shown on real routers."""

    name = "router"
    version = 1

    def unsupported(self, case: Case) -> str | None:
        """The sentence that says why the case is not defined or not done; None if it is."""
        if case.variants:
            return f"the variant {case.variants[0]!r} of {self.name} is not done yet"
        if case.dtype not in DTYPE_BYTES or case.dtype == "tf32":
            return f"a router computes in fp32 whatever the dtype: {case.dtype} is not defined for it, write fp32, bf16 or fp16"
        return unsupported_routing(case, model(case.model))

    def problem(self, case: Case) -> Problem:
        """The pinned problem of a case."""
        about = model(case.model)
        made = routed_inputs(case, about, with_rows=False)
        weights = router_weights(made.gate)
        ring = [slot.inputs for slot in made.slots]
        sizes = Sizes(case.tokens, about.hidden_size, about.num_experts, about.experts_per_token)
        size = router_bytes(case, about)
        shape = (case.tokens, about.experts_per_token)

        def references(requests: Any) -> list[Expected]:
            return [Expected(ids=made.slots[slot].ids, weights=made.slots[slot].weights) for slot, _ in requests]

        return Problem(
            case=case,
            model=about,
            sizes=sizes,
            weights=weights,
            ring=ring,
            outputs={"ids": shape, "weights": shape},
            cost=Cost(sizes.flops, sum(size), size[0], case.tokens, 0, 0),
            input_digest=input_digest(weights, ring, made.plan),
            references=references,
            sources=lambda slot, output: (np.empty(0, np.int64), np.empty(0, np.int64)),
            skew=made.skew,
        )


register_workload(RouterWorkload())


# -- cost ----------------------------------------------------------------------------------------------------------


def router_bytes(case: Case, about: Model) -> tuple[int, int]:
    """(weights, activations): gate and biases once in the case's dtype; tokens in, ids and fp32 weights out."""
    size = value_bytes(case.dtype)
    biases = bool(about.router_bias) + bool(about.router_linear_bias)
    weights = (about.hidden_size + biases) * about.num_experts * size
    return weights, case.tokens * (about.hidden_size * size + 8 * about.experts_per_token)


# -- weights (the float64 reference is `workloads.planting.selected`, computed with the ring) ------------------------


def router_weights(gate: Gate) -> dict[str, Weight]:
    """The gate [E, H] and its biases [E]; fp32 on every target, since the router computes in fp32."""
    named = {"gate": gate.weight, "router_bias": gate.bias, "gate_bias": gate.linear_bias}
    return {n: Pinned(v.astype(np.float32), fp32=True) for n, v in named.items() if v is not None}


# -- torch ---------------------------------------------------------------------------------------------------------


def torch_router(about: Model) -> Any:
    """`f(tokens, weights) -> (ids, weights)` on torch tensors."""
    import torch.nn.functional as functional

    from workloads.backends.torch_ops import TorchOps

    select, ops = rule_of(about).select, TorchOps()

    def route(tokens: Tensor, weights: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        logits = functional.linear(tokens.float(), weights["gate"], weights.get("gate_bias"))
        return select(ops, logits, weights.get("router_bias"), about)

    return route


@implementation("router", "torch", "plain")
def build_torch(problem: Problem, on: Any) -> Built:
    """The rule with torch's own operators."""
    route = torch_router(problem.model)
    slots = [(on.inputs(slot)["tokens"], on.weights(slot)) for slot in range(len(problem.ring))]

    def call(slot: int) -> dict[str, Tensor]:
        ids, shares = route(*slots[slot])
        return {"ids": ids, "weights": shares}

    return Built(call, () if problem.case.dtype == "fp32" else CASTS)


# -- ONNX ----------------------------------------------------------------------------------------------------------


def onnx_router(graph: Graph, tokens: str, sizes: Sizes, about: Model) -> tuple[str, str]:
    """(ids int64, weights fp32) [T, k] of `tokens` [T, H]."""
    gate = graph.weight("gate", (sizes.hidden, sizes.num_experts), dtype="fp32")
    x = tokens if graph.dtype == "fp32" else graph.cast(tokens, "fp32")
    logits = graph.matmul(x, gate, sizes.router_flops)
    if about.router_linear_bias:
        logits = graph.node("Add", logits, graph.weight("gate_bias", (sizes.num_experts,), dtype="fp32"))
    bias = graph.weight("router_bias", (sizes.num_experts,), dtype="fp32") if about.router_bias else None
    return rule_of(about).select(graph.in_fp32(), logits, bias, about)


@implementation("router", "onnxruntime", "plain")
def build_onnx(about: Model, sizes: Sizes, graph: Graph) -> None:
    """The rule as standard operators."""
    tokens = graph.input("tokens", (sizes.tokens, sizes.hidden), graph.dtype)
    ids, shares = onnx_router(graph, tokens, sizes, about)
    graph.output(ids, "ids", (sizes.tokens, sizes.experts_per_token), "int64")
    graph.output(shares, "weights", (sizes.tokens, sizes.experts_per_token), "fp32")

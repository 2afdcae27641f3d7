"""Workload `router`: logits, scores, selection and weights of a model's real router.

Input `tokens` [T, H]; outputs `ids` [T, k] (a set per token) and `weights` [T, k] fp32. logits = W x (+ linear bias, times a
scale), then the model's rule (`workloads.rules`; sources in seeds/README.md); in Gemma 4 x is rmsnorm(x) * gain / sqrt(H). In
every dtype norm, GEMM, scores and weights are computed in fp32; hidden states come in the case's dtype. E counts identity
experts too. Useful FLOPs: 2 * H * E * T.

`router+hash`, the first layers of DeepSeek-V4: `input_ids` [T] int32 in too, and ids = table[input_ids] of a frozen table
[vocabulary, k]; the gate still gives the weights, without selection bias.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.case import Case
from workloads.experts import rms_norm
from workloads.formats import value_bytes
from workloads.inputs import HASH, planned, routed_inputs, unsupported_routing
from workloads.models import Model, model
from workloads.planting import Gate
from workloads.problem import DTYPE_BYTES, Cost, Counts, Expected, Problem, input_digest
from workloads.registry import Built, implementation, register_workload
from workloads.rules import Select, Terms, rule_of, weights_of
from workloads.sizes import Sizes
from workloads.weights import Pinned, Weight

if TYPE_CHECKING:
    from torch import Tensor

    from workloads.backends.onnx_ops import Graph

__all__ = ["RouterWorkload", "build_torch_router", "onnx_router", "router_bytes", "router_weights", "torch_router"]

CASTS = ("tokens to fp32 for the router",)


class RouterWorkload:
    """The router alone, so that planted routing is shown on real routers."""

    name = "router"
    version = 2

    def unsupported(self, case: Case) -> str | None:
        """The sentence that says why the case is not defined or not done; None if it is."""
        if set(case.variants) - {HASH}:
            return f"the variant {case.variants[-1]!r} of {self.name} is not done yet: {HASH} is"
        if case.dtype not in DTYPE_BYTES or case.dtype == "tf32":
            return f"a router computes in fp32 whatever the dtype: {case.dtype} is not defined for it, write fp32, bf16 or fp16"
        return unsupported_routing(case, model(case.model))

    def problem(self, case: Case) -> Problem:
        """The pinned problem of a case."""
        about = model(case.model)
        made = routed_inputs(case, about, with_rows=False)
        weights = router_weights(made.gate, made.table)
        ring = [slot.inputs for slot in made.slots]
        sizes = _sizes(case, about)
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
            cost=_cost(case, about, sizes),
            input_digest=input_digest(weights, ring, made.plan),
            references=references,
            sources=lambda slot, output: (np.empty(0, np.int64), np.empty(0, np.int64)),
            skew=made.skew,
        )

    def counts(self, case: Case) -> Counts:
        """Cost and skew, without the inputs."""
        about = model(case.model)
        return Counts(_cost(case, about, _sizes(case, about)), planned(case, about).skew)


register_workload(RouterWorkload())


def _sizes(case: Case, about: Model) -> Sizes:
    experts, hashed = about.num_experts + about.zero_experts, HASH in case.variants
    return Sizes(case.tokens, about.hidden_size, experts, about.experts_per_token, hashed=hashed)


# -- cost ----------------------------------------------------------------------------------------------------------


def _cost(case: Case, about: Model, sizes: Sizes) -> Cost:
    size = router_bytes(case, about)
    return Cost(sizes.flops, sum(size), size[0], case.tokens, 0, 0)


def router_bytes(case: Case, about: Model) -> tuple[int, int]:
    """(weights, activations): gate and biases once in the case's dtype; tokens in, ids and fp32 weights out."""
    size, hashed = value_bytes(case.dtype), HASH in case.variants
    terms = (about.router_bias and not hashed) + about.router_linear_bias + about.router_expert_scale
    weights = (about.hidden_size + terms) * (about.num_experts + about.zero_experts) * size
    weights += about.hidden_size * size if about.router_input_norm_eps else 0
    table = 4 * case.tokens * (about.experts_per_token + 1) if hashed else 0
    return weights, case.tokens * (about.hidden_size * size + 8 * about.experts_per_token) + table


# -- weights (the float64 reference is `workloads.planting.selected`, computed with the ring) ------------------------


def router_weights(gate: Gate, table: np.ndarray | None = None) -> dict[str, Weight]:
    """The gate [E, H], its biases and scale [E], the gain of its norm [H]: fp32 on every target, since the router computes in
    fp32; and the table of a hash layer [vocabulary, k] int32, which selects instead of the bias."""
    named = {"gate": gate.weight, "gate_bias": gate.linear_bias, "router_scale": gate.scale, "router_norm": gate.norm}
    if table is None:
        named["router_bias"] = gate.bias
    weights: dict[str, Weight] = {
        name: Pinned(values.astype(np.float32), fp32=True) for name, values in named.items() if values is not None
    }
    return weights if table is None else weights | {"hash_table": Pinned(table, fp32=True)}


# -- torch ---------------------------------------------------------------------------------------------------------


def torch_router(about: Model, select: Select | None = None) -> Any:
    """`f(inputs, weights) -> (ids, weights)` on torch tensors; `select` in place of the rule's own where it does just that."""
    import torch.nn.functional as functional

    from workloads.backends.torch_ops import TorchOps

    select, ops = select or rule_of(about).select, TorchOps()

    def route(inputs: dict[str, Tensor], weights: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        x = inputs["tokens"].float()
        if about.router_input_norm_eps:
            x = _normed(ops, x, weights["router_norm"], about)
        logits = functional.linear(x, weights["gate"], weights.get("gate_bias"))
        if about.router_logit_scale:
            logits = logits * about.router_logit_scale
        if "hash_table" in weights:
            ids = weights["hash_table"].index_select(0, inputs["input_ids"]).long()
            return ids, weights_of(ops, logits, ids, about)
        return select(ops, logits, Terms(weights.get("router_bias"), weights.get("router_scale")), about)

    return route


def _normed(ops: Any, x: Any, gain: Any, about: Model) -> Any:
    """rmsnorm(x) * gain / sqrt(H) in fp32."""
    width = about.hidden_size
    return ops.mul(rms_norm(ops, x, gain, width, about.router_input_norm_eps), 1.0 / math.sqrt(width))


@implementation("router", "torch", "plain")
def build_torch(problem: Problem, on: Any) -> Built:
    """The rule with torch's own operators."""
    return build_torch_router(problem, on)


def build_torch_router(problem: Problem, on: Any, select: Select | None = None) -> Built:
    """The router around one way of selecting: see `torch_router`."""
    route = torch_router(problem.model, select)
    slots = [(on.inputs(slot), on.weights(slot)) for slot in range(len(problem.ring))]

    def call(slot: int) -> dict[str, Tensor]:
        ids, shares = route(*slots[slot])
        return {"ids": ids, "weights": shares}

    return Built(call, () if problem.case.dtype == "fp32" else CASTS)


# -- ONNX ----------------------------------------------------------------------------------------------------------


def onnx_router(graph: Graph, tokens: str, sizes: Sizes, about: Model) -> tuple[str, str]:
    """(ids int64, weights fp32) [T, k] of `tokens` [T, H]."""
    ops = graph.in_fp32()

    def term(name: str) -> str:
        return graph.weight(name, (sizes.num_experts,), dtype="fp32")

    x = tokens if graph.dtype == "fp32" else graph.cast(tokens, "fp32")
    if about.router_input_norm_eps:
        x = _normed(ops, x, graph.weight("router_norm", (sizes.hidden,), dtype="fp32"), about)
    gate = graph.weight("gate", (sizes.hidden, sizes.num_experts), dtype="fp32")
    logits = graph.matmul(x, gate, sizes.router_flops)
    if about.router_linear_bias:
        logits = graph.node("Add", logits, term("gate_bias"))
    if about.router_logit_scale:
        logits = ops.mul(logits, about.router_logit_scale)
    if sizes.hashed:
        table = graph.weight("hash_table", (about.vocab_size, sizes.experts_per_token), dtype="int32", transposed=False)
        ids = graph.cast(
            graph.node("Gather", table, graph.input("input_ids", (sizes.tokens,), "int32"), axis=0), "int64"
        )
        return ids, weights_of(ops, logits, ids, about)
    terms = Terms(
        term("router_bias") if about.router_bias else None, term("router_scale") if about.router_expert_scale else None
    )
    return rule_of(about).select(ops, logits, terms, about)


@implementation("router", "onnxruntime", "plain")
def build_onnx(about: Model, sizes: Sizes, graph: Graph) -> None:
    """The rule as standard operators."""
    tokens = graph.input("tokens", (sizes.tokens, sizes.hidden), graph.dtype)
    ids, shares = onnx_router(graph, tokens, sizes, about)
    graph.output(ids, "ids", (sizes.tokens, sizes.experts_per_token), "int64")
    graph.output(shares, "weights", (sizes.tokens, sizes.experts_per_token), "fp32")

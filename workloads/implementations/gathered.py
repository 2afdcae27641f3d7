"""`gathered`: for few tokens: each assignment gathers its expert's weights, and all are one batched product.

No sort, no counts, no shape that depends on a token, at the cost of copying the chosen experts' weights in every call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.activations import activation_of
from workloads.case import Case
from workloads.experts import onnx_finish
from workloads.implementations.registering import onnx_way
from workloads.models import Model
from workloads.registry import TargetFacts

if TYPE_CHECKING:
    from workloads.backends.onnx_ops import Graph

__all__ = ["onnx_gathered"]

FEW = 16
"""Most own tokens a call: beyond, copies of the weights outweigh everything (128 tokens took 30 times `sorted`'s time)."""


def _unsuited(case: Case, facts: TargetFacts) -> str | None:
    if case.tokens > FEW:
        return f"it copies the weights of every assignment's expert: for at most {FEW} tokens"
    if facts.device_type == "cpu" or "host" in facts.features:
        return "on CPUs copying the chosen experts' weights takes longer than sorting"
    return None


def onnx_gathered(graph: Graph, x: str, ids: str, shares: str | None, sizes: Any, model: Model) -> str:
    """[R, W] from x [R, W], local ids [R, k] int64 (-1: none) and shares [R, k] in the graph's dtype (None: all 1)."""
    rows, k, width = sizes.rows, sizes.experts_per_token, sizes.expert_hidden
    present = graph.node("GreaterOrEqual", ids, graph.constant(np.int64(0)))
    counted = graph.node("Where", present, graph.scalar(1.0) if shares is None else shares, graph.scalar(0.0))
    flat = graph.reshape(graph.node("Max", ids, graph.constant(np.int64(0))), (rows * k,))
    each = graph.node("Gather", x, graph.constant(np.repeat(np.arange(rows), k)), axis=0)
    done = onnx_finish(graph, _gathered_ffn(graph, each, flat, sizes, model), width, model)
    spread = graph.reshape(done, (rows, k, width))
    weighted = graph.node("Mul", spread, graph.reshape(counted, (rows, k, 1)))
    return graph.node("ReduceSum", weighted, graph.constant([1]), keepdims=0)


def _gathered_ffn(graph: Graph, x: str, expert: str, sizes: Any, model: Model) -> str:
    """Row i of x [n, W] through the FFN of expert[i]: [n, W]."""
    stacked = sizes.inner * (2 if model.glu else 1)
    flops = sizes.ffn_flops("experts") * sizes.local_experts / sizes.matrices
    hidden = _product(
        graph, x, "experts_in", (stacked, sizes.expert_hidden), expert, sizes, flops * (sizes.matrices - 1)
    )
    hidden = _biased(graph, hidden, "experts_in_bias", stacked, expert, sizes, model)
    gate, up = graph.node("Split", hidden, outputs=2, axis=-1, num_outputs=2) if model.glu else (hidden, None)
    active = activation_of(model)(graph.in_dtype(), gate, up)
    out = _product(graph, active, "experts_out", (sizes.expert_hidden, sizes.inner), expert, sizes, flops)
    return _biased(graph, out, "experts_out_bias", sizes.expert_hidden, expert, sizes, model)


def _product(graph: Graph, x: str, name: str, shape: tuple[int, int], expert: str, sizes: Any, flops: float) -> str:
    """W[expert[i]] x[i] with W (out, in): [n, out]."""
    whole = graph.weight(name, (sizes.local_experts, *shape))
    own = graph.node("Gather", whole, expert, axis=0)
    column = graph.node("Unsqueeze", x, graph.constant([2]))
    return graph.node("Squeeze", graph.matmul(own, column, flops), graph.constant([2]))


def _biased(graph: Graph, x: str, name: str, width: int, expert: str, sizes: Any, model: Model) -> str:
    if not model.expert_bias:
        return x
    whole = graph.weight(name, (sizes.local_experts, width), transposed=False)
    return graph.node("Add", x, graph.node("Gather", whole, expert, axis=0))


onnx_way("gathered", onnx_gathered, unsuited=_unsuited)

"""`dense`: static shapes: every expert on every row, weighted by what the router gave it, 0 for most.

E / k times the useful FLOPs, but no shape depends on a token: what providers that compile a graph once (CANN's graph mode,
TensorRT) can run at all, and the naive way that the others are measured against.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.case import Case
from workloads.experts import onnx_ffn, onnx_finish
from workloads.implementations.registering import onnx_way
from workloads.models import Model
from workloads.registry import TargetFacts

if TYPE_CHECKING:
    from workloads.backends.onnx_ops import Graph

__all__ = ["onnx_dense"]

COMPILING = ("cann", "tensorrt", "nvtensorrtrtx", "qnn", "coreml")


def _unsuited(case: Case, facts: TargetFacts) -> str | None:
    if facts.device_type in COMPILING:
        return None
    return "it computes every expert on every row, for providers that compile static shapes"


def onnx_dense(graph: Graph, x: str, ids: str, shares: str | None, sizes: Any, model: Model) -> str:
    """[R, W] from x [R, W], local ids [R, k] int64 (-1: none) and shares [R, k] in the graph's dtype (None: all 1)."""
    experts, width = sizes.local_experts, sizes.expert_hidden
    columns = graph.node("Unsqueeze", ids, graph.constant([2]))
    hits = graph.node("Equal", columns, graph.constant(np.arange(experts).reshape(1, 1, experts)))
    given = graph.scalar(1.0) if shares is None else graph.node("Unsqueeze", shares, graph.constant([2]))
    chosen = graph.node("Where", hits, given, graph.scalar(0.0))
    weights = graph.node("ReduceSum", chosen, graph.constant([1]), keepdims=0)
    by_expert = graph.node("Split", weights, outputs=experts, axis=1, num_outputs=experts) if experts > 1 else [weights]
    total = ""
    for expert, weight in enumerate(by_expert):
        done = onnx_finish(graph, onnx_ffn(graph, x, "experts", expert, sizes, model), width, model)
        part = graph.node("Mul", done, weight)
        total = graph.node("Add", total, part) if total else part
    return total


onnx_way("dense", onnx_dense, unsuited=_unsuited)

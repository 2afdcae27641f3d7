"""Workload `experts`: the grouped expert FFN on rows that are already routed.

In: `rows` [R, W], `row_ids` [R, k] (local, padded with -1), `row_weights` [R, k] (`workloads.rows`); out: `partial` [R, W], the
sum of each row's weighted expert outputs, as in an EP share of `moe-layer`, whose rows these are (at ep1: all T tokens). W is
H, or the latent size. Sorting, the experts and the weighted sum are timed; router, shared branch and latent projections are
not there. Formulas: `workloads.experts`. Useful FLOPs: 2 * m * W * I * assignments, m = 3 matrices, 2 without a gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.case import Case
from workloads.experts import (
    OnnxExperts,
    TorchActivation,
    expert_weights,
    onnx_experts,
    onnx_sorted,
    reference_parts,
    sizes_follow,
    summed,
    torch_experts,
    torch_sorted,
)
from workloads.formats import precision_of, unsupported_dtype, value_bytes, weight_bytes
from workloads.inputs import Planned, planned, unsupported_routing
from workloads.models import Model, model
from workloads.parameters import expert_parameters
from workloads.problem import Contribution, Cost, Counts, Expected, Lines, Problem, input_digest
from workloads.registry import Built, implementation, register_workload
from workloads.rows import assigned, row_sizes, rows_of
from workloads.sizes import Sizes
from workloads.weights import Weight, in_format

if TYPE_CHECKING:
    from torch import Tensor

    from workloads.backends.onnx_ops import Graph

__all__ = ["ExpertsWorkload", "build_onnx_experts", "build_torch_experts"]


class ExpertsWorkload:
    """The routed experts alone."""

    name = "experts"
    version = 1

    def unsupported(self, case: Case) -> str | None:
        """The sentence that says why the case is not defined or not done; None if it is."""
        if case.variants:
            return f"the variant {case.variants[0]!r} of {self.name} is not done yet"
        about = model(case.model)
        widths = (about.moe_latent_size or about.hidden_size, about.moe_intermediate_size or 0)
        if refusal := unsupported_dtype(case.dtype, widths):
            return refusal
        return unsupported_routing(case, about)

    def problem(self, case: Case) -> Problem:
        """The pinned problem of a case."""
        about = model(case.model)
        made = rows_of(case, about)
        sizes = _sizes(case, about, made)
        plain = expert_weights(about, sizes.local_experts, case.seed)
        weights = in_format(plain, precision_of(case.dtype))
        ring = [slot.inputs for slot in made.slots]
        return Problem(
            case=case,
            model=about,
            sizes=sizes,
            weights=weights,
            ring=ring,
            outputs={"partial": (sizes.rows, sizes.hidden)},
            cost=_cost(case, about, sizes, made),
            input_digest=input_digest(weights, ring, made.plan),
            references=_Reference(about, ring, weights).references,
            sources=lambda slot, output: assigned(ring[slot])[:2],
            skew=made.skew,
            unquantised=_Reference(about, ring, plain).references if weights is not plain else None,
        )

    def counts(self, case: Case) -> Counts:
        """Cost and skew, without the inputs."""
        about = model(case.model)
        made = planned(case, about)
        return Counts(_cost(case, about, _sizes(case, about, made), made), made.skew)


register_workload(ExpertsWorkload())


def _sizes(case: Case, about: Model, made: Planned) -> Sizes:
    return replace(row_sizes(case, about, made), inner=about.moe_intermediate_size)


def _cost(case: Case, about: Model, sizes: Sizes, made: Planned) -> Cost:
    """Bytes: the touched experts' parameters once; rows, ids and weights in, sums out."""
    size = value_bytes(case.dtype)
    norm = sizes.hidden if about.expert_norm_eps else 0
    projections = made.distinct_experts * sizes.matrices * sizes.hidden * sizes.inner
    parameters = made.distinct_experts * expert_parameters(about) + norm
    weights = weight_bytes(case.dtype, parameters, projections)
    moved = 2 * sizes.rows * sizes.hidden * size + 8 * sizes.rows * sizes.experts_per_token
    return Cost(sizes.flops, weights + moved, weights, sizes.tokens, sizes.rows, sizes.assignments)


@dataclass(frozen=True)
class _Reference:
    model: Model
    ring: list[dict[str, np.ndarray]]
    weights: dict[str, Weight]

    def references(self, requests: Sequence[tuple[int, Lines]]) -> list[Expected]:
        """All requests at once, so that each expert is computed once."""
        chosen = [self._chosen(*request) for request in requests]
        inputs = [
            np.concatenate([self.ring[slot][name][lines] for slot, lines in chosen])
            for name in ("rows", "row_ids", "row_weights")
        ]
        whole = reference_parts(self.weights, self.model, inputs[0].astype(np.float64), *inputs[1:])
        starts = np.cumsum([0, *(len(lines) for _, lines in chosen)])
        return [
            self._expected(slot, lines, whole.between(first, last))
            for (slot, lines), (first, last) in zip(chosen, pairwise(starts), strict=True)
        ]

    def _chosen(self, slot: int, lines: Lines) -> tuple[int, np.ndarray]:
        rows = len(self.ring[slot]["rows"])
        return slot, np.arange(rows) if lines is None else lines.get("partial", np.empty(0, np.int64))

    def _expected(self, slot: int, lines: np.ndarray, parts: Contribution) -> Expected:
        row, expert, weight = assigned(self.ring[slot])
        return Expected(
            lines={"partial": lines},
            values={"partial": summed(parts, len(lines))},
            routed={"partial": (row, expert, sizes_follow(self.model, weight))},
            contributions={"partial": parts},
        )


# -- torch ---------------------------------------------------------------------------------------------------------


def build_torch_experts(problem: Problem, on: Any, experts: Any) -> Built:
    """The rows through one way of running the experts: `experts(x, ids, shares, weights, act) -> [R, W]`."""
    run, act = torch_experts(problem.model, experts), TorchActivation(problem.model)
    slots = [(on.inputs(slot), on.weights(slot)) for slot in range(len(problem.ring))]

    def call(slot: int) -> dict[str, Tensor]:
        inputs, weights = slots[slot]
        return {"partial": run(inputs["rows"], inputs["row_ids"], inputs["row_weights"], weights, act)}

    return Built(call)


@implementation("experts", "torch", "sorted")
def build_torch(problem: Problem, on: Any) -> Built:
    """Sort by expert and one matmul an expert."""
    return build_torch_experts(problem, on, torch_sorted)


# -- ONNX ----------------------------------------------------------------------------------------------------------


@implementation("experts", "onnxruntime", "sorted")
def build_onnx(about: Model, sizes: Sizes, graph: Graph) -> None:
    """Standard operators only: sort, Split, a MatMul on each expert's own 2-D initialiser, inverse Gather."""
    build_onnx_experts(about, sizes, graph, onnx_sorted)


def build_onnx_experts(about: Model, sizes: Sizes, graph: Graph, experts: OnnxExperts) -> None:
    """The rows through one way of running the experts as nodes."""
    rows = graph.input("rows", (sizes.rows, sizes.hidden), graph.dtype)
    ids = graph.input("row_ids", (sizes.rows, sizes.experts_per_token), "int32")
    shares = graph.input("row_weights", (sizes.rows, sizes.experts_per_token), "fp32")
    partial = onnx_experts(graph, rows, graph.cast(ids, "int64"), shares, sizes, about, experts)
    graph.output(partial, "partial", (sizes.rows, sizes.hidden), graph.dtype)

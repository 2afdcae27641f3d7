"""Workload `permute`: rows gathered in the order of their experts, ready for a grouped matmul.

In: `rows` [R, W] and `row_ids` [R, k], local expert ids padded with -1 (`workloads.rows`). Out: `gathered` [A, W], the row of
every one of the A assignments, sorted by expert and within an expert by row; `counts` [E / ep], assignments per expert;
`places` [R, k], where in that order each assignment stands, -1 where there is none: what `unpermute` takes. The order is thus
defined to the last place, and all outputs must be exact. It is local: between ranks the words are dispatch and combine. No
useful FLOPs; bytes: rows and ids in, outputs out (8 a count and a place).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.case import Case
from workloads.experts import onnx_argsort, onnx_counts, onnx_distinct_keys
from workloads.inputs import planned, unsupported_routing
from workloads.models import Model, model
from workloads.problem import DTYPE_BYTES, Cost, Counts, Expected, Problem, input_digest
from workloads.registry import Built, implementation, register_workload
from workloads.rows import row_sizes, rows_of
from workloads.sizes import Sizes

if TYPE_CHECKING:
    from torch import Tensor

    from workloads.backends.onnx_ops import Graph

__all__ = ["PermuteWorkload", "permuted"]


class PermuteWorkload:
    """Tokens sorted by expert."""

    name = "permute"
    version = 1

    def unsupported(self, case: Case) -> str | None:
        """The sentence that says why the case is not defined or not done; None if it is."""
        if case.variants:
            return f"the variant {case.variants[0]!r} of {self.name} is not done yet"
        if case.dtype not in DTYPE_BYTES or case.dtype == "tf32":
            return f"the dtype {case.dtype!r} of {self.name} is not done yet"
        return unsupported_routing(case, model(case.model))

    def problem(self, case: Case) -> Problem:
        """The pinned problem of a case."""
        about = model(case.model)
        made = rows_of(case, about)
        sizes = row_sizes(case, about, made)
        ring = [{name: slot.inputs[name] for name in ("rows", "row_ids")} for slot in made.slots]

        def references(requests: Any) -> list[Expected]:
            return [Expected(exact=permuted(**ring[slot], experts=sizes.local_experts)) for slot, _ in requests]

        return Problem(
            case=case,
            model=about,
            sizes=sizes,
            weights={},
            ring=ring,
            outputs={
                "gathered": (sizes.assignments, sizes.hidden),
                "counts": (sizes.local_experts,),
                "places": (sizes.rows, sizes.experts_per_token),
            },
            cost=_cost(case, sizes),
            input_digest=input_digest({}, ring, made.plan),
            references=references,
            sources=lambda slot, output: (np.empty(0, np.int64), np.empty(0, np.int64)),
            skew=made.skew,
            exact=frozenset({"gathered", "counts", "places"}),
        )

    def counts(self, case: Case) -> Counts:
        """Cost and skew, without the inputs."""
        about = model(case.model)
        made = planned(case, about)
        return Counts(_cost(case, row_sizes(case, about, made)), made.skew)


register_workload(PermuteWorkload())


def _cost(case: Case, sizes: Sizes) -> Cost:
    values = (sizes.rows + sizes.assignments) * sizes.hidden * DTYPE_BYTES[case.dtype]
    integers = 12 * sizes.rows * sizes.experts_per_token + 8 * sizes.local_experts
    return Cost(0, values + integers, 0, sizes.tokens, sizes.rows, sizes.assignments)


def permuted(rows: np.ndarray, row_ids: np.ndarray, experts: int) -> dict[str, np.ndarray]:
    """The reference: all three outputs."""
    flat = row_ids.ravel()
    order = np.argsort(flat, kind="stable")[int((flat < 0).sum()) :]
    places = np.full(flat.size, -1)
    places[order] = np.arange(len(order))
    counts = np.bincount(flat[order], minlength=experts)
    return {"gathered": rows[order // row_ids.shape[1]], "counts": counts, "places": places.reshape(row_ids.shape)}


@implementation("permute", "torch", "plain")
def build_torch(problem: Problem, on: Any) -> Built:
    """A stable argsort and a gather; how many assignments there are is the case's, so nothing comes to the host."""
    import torch

    sizes = problem.sizes
    slots = [on.inputs(slot) for slot in range(len(problem.ring))]

    def call(slot: int) -> dict[str, Tensor]:
        rows, ids = slots[slot]["rows"], slots[slot]["row_ids"]
        flat = ids.reshape(-1).long()
        order = flat.argsort(stable=True)[flat.numel() - sizes.assignments :]
        places = torch.full_like(flat, -1)
        places[order] = torch.arange(sizes.assignments, device=flat.device)
        counts = flat.new_zeros(sizes.local_experts + 1).index_add_(0, flat + 1, torch.ones_like(flat))
        gathered = rows.index_select(0, order // ids.shape[1])
        return {"gathered": gathered, "counts": counts[1:], "places": places.view(ids.shape)}

    return Built(call)


@implementation("permute", "onnxruntime", "plain")
def build_onnx(about: Model, sizes: Sizes, graph: Graph) -> None:
    """TopK as the sort, made stable by distinct keys, and a Gather."""
    rows, k, total = sizes.rows, sizes.experts_per_token, sizes.rows * sizes.experts_per_token
    values = graph.input("rows", (rows, sizes.hidden), graph.dtype)
    flat = graph.reshape(graph.cast(graph.input("row_ids", (rows, k), "int32"), "int64"), (total,))
    padded = graph.node("Less", flat, graph.constant(np.int64(0)))
    bucket = graph.node("Where", padded, graph.constant(np.int64(sizes.local_experts)), flat)
    order = onnx_argsort(graph, onnx_distinct_keys(graph, bucket, total), total)
    used = graph.node("Slice", order, graph.constant([0]), graph.constant([sizes.assignments]))
    gathered = graph.node("Gather", values, graph.node("Div", used, graph.constant(np.int64(k))), axis=0)
    places = graph.node("Where", padded, graph.constant(np.int64(-1)), onnx_argsort(graph, order, total))
    graph.output(gathered, "gathered", (sizes.assignments, sizes.hidden), graph.dtype)
    graph.output(onnx_counts(graph, bucket, sizes.local_experts), "counts", (sizes.local_experts,), "int64")
    graph.output(graph.reshape(places, (rows, k)), "places", (rows, k), "int64")

"""Workload `unpermute`: expert outputs back in the order of the rows, weighted and summed.

In: `done` [A, W], pinned noise in place of the outputs of every assignment, in the order of `permute`; `places` [R, k], where
each assignment stands in it, padded with -1; `row_weights` [R, k], padded with 0 (`workloads.rows`). Out: `y` [R, W], y[r] =
sum_j row_weights[r, j] * done[places[r, j]]. Where the weights go on the experts' input (Llama 4), they are no input here and
all 1. Local: between ranks the words are dispatch and combine. No useful FLOPs, as in `moe-layer`; bytes: inputs in, sums out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.case import Case
from workloads.experts import summed
from workloads.inputs import RoutedInputs, planned, unsupported_routing
from workloads.models import Model, model
from workloads.permute import permuted
from workloads.planting import hidden_noise
from workloads.problem import DTYPE_BYTES, Contribution, Cost, Counts, Expected, Lines, Problem, input_digest
from workloads.registry import Built, implementation, register_workload
from workloads.rows import assigned, row_sizes, rows_of
from workloads.sizes import Sizes

if TYPE_CHECKING:
    from torch import Tensor

    from workloads.backends.onnx_ops import Graph

__all__ = ["UnpermuteWorkload"]


class UnpermuteWorkload:
    """Expert outputs back to their tokens."""

    name = "unpermute"
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
        ring = [_inputs(case, about, sizes, made, number) for number in range(len(made.slots))]
        reference = _Reference(made, ring, about.weight_on_input)
        return Problem(
            case=case,
            model=about,
            sizes=sizes,
            weights={},
            ring=ring,
            outputs={"y": (sizes.rows, sizes.hidden)},
            cost=_cost(case, about, sizes),
            input_digest=input_digest({}, ring, made.plan),
            references=lambda requests: [reference.expected(slot, lines) for slot, lines in requests],
            sources=lambda slot, output: assigned(made.slots[slot].inputs)[:2],
            skew=made.skew,
        )

    def counts(self, case: Case) -> Counts:
        """Cost and skew, without the inputs."""
        about = model(case.model)
        made = planned(case, about)
        return Counts(_cost(case, about, row_sizes(case, about, made)), made.skew)


register_workload(UnpermuteWorkload())


def _inputs(case: Case, about: Model, sizes: Sizes, made: RoutedInputs, number: int) -> dict[str, np.ndarray]:
    label = ("done", about.id, case.routing, case.tokens, case.ep, case.seed, number)
    rows = made.slots[number].inputs
    places = permuted(rows["rows"], rows["row_ids"], sizes.local_experts)["places"].astype(np.int32)
    done = hidden_noise(sizes.assignments, sizes.hidden, label).astype(np.float32)
    inputs = {"done": done, "places": places}
    return inputs if about.weight_on_input else inputs | {"row_weights": rows["row_weights"]}


def _cost(case: Case, about: Model, sizes: Sizes) -> Cost:
    values = (sizes.rows + sizes.assignments) * sizes.hidden * DTYPE_BYTES[case.dtype]
    integers = (4 if about.weight_on_input else 8) * sizes.rows * sizes.experts_per_token
    return Cost(0, values + integers, 0, sizes.tokens, sizes.rows, sizes.assignments)


@dataclass(frozen=True)
class _Reference:
    made: RoutedInputs
    ring: list[dict[str, np.ndarray]]
    unweighted: bool

    def expected(self, slot: int, lines: Lines) -> Expected:
        """The weighted outputs of the experts are the contributions to the sums."""
        line, expert, weight = assigned(self.made.slots[slot].inputs)
        weight = np.ones(len(line)) if self.unweighted else weight
        places = self.ring[slot]["places"]
        chosen = np.arange(len(places)) if lines is None else lines.get("y", np.empty(0, np.int64))
        here = np.isin(line, chosen)
        place = places[places >= 0][here]
        parts = weight[here, None] * self.ring[slot]["done"][place].astype(np.float64)
        found = Contribution(np.searchsorted(chosen, line[here]), expert[here], weight[here], parts)
        return Expected(
            lines={"y": chosen},
            values={"y": summed(found, len(chosen))},
            routed={"y": (line, expert, weight)},
            contributions={"y": found},
        )


@implementation("unpermute", "torch", "plain")
def build_torch(problem: Problem, on: Any) -> Built:
    """A gather, a product and a sum over k; the padding's weights are 0."""
    slots = [on.inputs(slot) for slot in range(len(problem.ring))]

    def call(slot: int) -> dict[str, Tensor]:
        done, places, shares = slots[slot]["done"], slots[slot]["places"], slots[slot].get("row_weights")
        spread = done.index_select(0, places.clamp(min=0).reshape(-1)).view(*places.shape, -1)
        weighted = spread if shares is None else spread * shares.to(done.dtype).unsqueeze(-1)
        return {"y": weighted.sum(dim=1)}

    return Built(call)


@implementation("unpermute", "onnxruntime", "plain")
def build_onnx(about: Model, sizes: Sizes, graph: Graph) -> None:
    """Gather, Mul and ReduceSum."""
    rows, k = sizes.rows, sizes.experts_per_token
    done = graph.input("done", (sizes.assignments, sizes.hidden), graph.dtype)
    places = graph.cast(graph.input("places", (rows, k), "int32"), "int64")
    spread = graph.node("Gather", done, graph.node("Max", places, graph.constant(np.int64(0))), axis=0)
    if not about.weight_on_input:
        shares = graph.input("row_weights", (rows, k), "fp32")
        cast = shares if graph.dtype == "fp32" else graph.cast(shares, graph.dtype)
        spread = graph.node("Mul", spread, graph.reshape(cast, (rows, k, 1)))
    y = graph.node("ReduceSum", spread, graph.constant([1]), keepdims=0)
    graph.output(y, "y", (rows, sizes.hidden), graph.dtype)

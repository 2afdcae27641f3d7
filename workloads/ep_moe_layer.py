"""Workload `ep-moe-layer`: a whole MoE layer across real ranks: router, dispatch, local experts, combine.

n = ep ranks (`workloads.group`), all in one call; rank r has T own `tokens` [T, H] and the experts r * E / n .. Out, on each
rank: `ids` and `weights` [T, k] of its router and `y` [T, H], the layer's output for its own tokens, shared branch, identity
experts and passage (`workloads.moe_layer`) included. The routing is planted for the group, so the splits of the exchanges are
the plan's; but they are known only from the timed router, and bringing them to the host is in the call.

The reference is the float64 one of `moe-layer` at ep1 with the experts of all ranks together. So is the tolerance: a row's sum
over one rank's experts is rounded to the dtype in which it is sent, as each partial sum of a single process is, and all k terms
of a token take k - 1 additions, whichever of them are made within a rank and whichever between ranks.

Cost: of the rank with the most assignments, as of `moe-layer` at epN (useful FLOPs, bytes); it sets the pace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.case import Case
from workloads.dispatch_combine import exchanged_bytes
from workloads.experts import TorchActivation, torch_experts, torch_sorted
from workloads.group import GroupPlan, group_plan, unsupported_group
from workloads.inputs import RoutedInputs, Slot, group_of
from workloads.kept import kept
from workloads.models import Model, model
from workloads.moe_layer import LayerReference, layer_cost, layer_sizes, layer_weights
from workloads.passage import torch_enter, torch_leave
from workloads.planting import Gate, gate_of, plant, selected
from workloads.problem import DTYPE_BYTES, SLOTS, Problem, input_digest
from workloads.registry import Built, Exchange, implementation, of_ranks, register_workload
from workloads.router import CASTS, router_weights, torch_router
from workloads.shared import torch_shared
from workloads.sizes import Sizes
from workloads.weights import Pinned, Tiled, Weight

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["EpMoeLayerWorkload", "build_torch_ep_layer"]

Exchanged = Callable[["Tensor", "Tensor", "Tensor", Mapping[str, Any]], "Tensor"]
"""`f(z, ids, shares, weights) -> s`: own tokens [T, W] through all ranks' experts, summed [T, W]."""


class EpMoeLayerWorkload:
    """The MoE layer under expert parallelism."""

    name = "ep-moe-layer"
    version = 1

    def unsupported(self, case: Case) -> str | None:
        """The sentence that says why the case is not defined or not done; None if it is."""
        return unsupported_group(case, model(case.model), self.name)

    def problem(self, case: Case, rank: int = 0) -> Problem:
        """The pinned problem of one rank."""
        about = model(case.model)
        plan, gate = group_plan(case, about), gate_of(model(case.model), case.seed)
        slots = kept(("group slots", case.id, about.work_digest, rank), lambda: _slots(case, about, plan, gate, rank))
        made, whole = (
            _seen_from(plan, gate, slots, rank),
            router_weights(gate) | layer_weights(about, about.num_experts, case.seed),
        )
        ring, weights = [slot.inputs for slot in slots], _share(whole, rank * plan.width, plan.width)
        reference = LayerReference(about, made, whole, share=False)
        sizes, heaviest = layer_sizes(case, about, made), _seen_from(plan, gate, slots, plan.busiest())
        routed = (case.tokens, about.experts_per_token)
        return Problem(
            case=case,
            model=about,
            sizes=sizes,
            weights=weights,
            ring=ring,
            outputs={"ids": routed, "weights": routed, "y": (case.tokens, about.hidden_size)},
            cost=layer_cost(case, about, layer_sizes(case, about, heaviest), heaviest.distinct_experts),
            input_digest=input_digest(weights, ring, plan.base),
            references=reference.references,
            sources=reference.sources,
            skew=heaviest.skew,
            seat=plan.seat(rank),
            touched=lambda slot: plan.experts_of(slot, rank),
        )


register_workload(EpMoeLayerWorkload())


def _slots(case: Case, about: Model, plan: GroupPlan, gate: Gate, rank: int) -> list[Slot]:
    return [_slot(case, about, plan.own(number, rank), gate, (rank, number)) for number in range(SLOTS)]


def _slot(case: Case, about: Model, plan: np.ndarray, gate: Gate, where: tuple[int, int]) -> Slot:
    """A rank's own tokens, whose plan [T, k] its router selects."""
    label = ("ranks", about.id, case.routing, case.tokens, case.ep, case.seed, *where)
    tokens = plant(gate, about, group_of(about), plan, label)
    ids, weights = selected(gate, about, tokens)
    if (np.sort(ids, axis=1) != np.sort(plan, axis=1)).any():
        raise ArithmeticError(f"planting failed for {case.id}: the float64 router does not select the plan")
    return Slot({"tokens": tokens}, ids, weights)


def _seen_from(plan: GroupPlan, gate: Gate, slots: list[Slot], rank: int) -> RoutedInputs:
    """The slots with the rows and assignments that a rank has."""
    seat, distinct = plan.seat(rank), plan.distinct(rank)
    skew = plan.skew | {"distinct_experts": distinct}
    counts = (seat.rows[rank], seat.assignments[rank], distinct)
    return RoutedInputs(plan.base, rank, *counts, skew, gate, None, slots)


def _share(weights: dict[str, Weight], first: int, count: int) -> dict[str, Weight]:
    """The weights with `count` experts from `first` on of each stack of experts, all others whole."""
    return {name: _part(one, first, count) if name.startswith("experts_") else one for name, one in weights.items()}


def _part(weight: Weight, first: int, count: int) -> Weight:
    if isinstance(weight, Tiled):
        return replace(weight, offsets=weight.offsets[first : first + count])
    assert isinstance(weight, Pinned)
    return replace(weight, values=weight.values[first : first + count])


# -- torch ---------------------------------------------------------------------------------------------------------


def build_torch_ep_layer(problem: Problem, on: Any, exchanged: Exchanged, exchanges: tuple[Exchange, ...]) -> Built:
    """The layer around one way of bringing tokens to experts and back."""
    about = problem.model
    route, branch, act = torch_router(about), torch_shared(about), TorchActivation(about)
    slots = [(on.inputs(slot), on.weights(slot)) for slot in range(len(problem.ring))]
    shared = problem.sizes.shared_inner > 0

    def call(slot: int) -> dict[str, Tensor]:
        inputs, weights = slots[slot]
        tokens = inputs["tokens"]
        ids, shares = route(inputs, weights)
        s = exchanged(torch_enter(about, tokens, weights), ids, shares, weights)
        y = torch_leave(about, s, weights)
        if shared:
            y = y.add_(branch(tokens, weights, act))
        if about.zero_experts:
            identity = (shares * (ids >= about.num_experts)).sum(dim=1, keepdim=True)
            y = y.add_(tokens * identity.to(tokens.dtype))
        return {"ids": ids, "weights": shares, "y": y}

    return Built(call, () if problem.case.dtype == "fp32" else CASTS, exchanges)


@implementation("ep-moe-layer", "torch", "all-to-all", cannot=of_ranks)
def build_torch(problem: Problem, on: Any) -> Built:
    """Counts, then rows, then their ids and weights to the experts' ranks by all-to-all; a row for each comes back."""
    from workloads.backends.torch_exchange import all_to_all

    seat, sizes = problem.seat, problem.sizes
    assert seat is not None
    ranks, width = seat.ranks, sizes.local_experts
    experts, act = torch_experts(problem.model, torch_sorted), TorchActivation(problem.model)

    def exchanged(z: Tensor, ids: Tensor, shares: Tensor, weights: Mapping[str, Any]) -> Tensor:
        import torch

        owner = torch.div(ids, width, rounding_mode="floor")
        reached = z.new_zeros(len(ids), ranks + 1, dtype=torch.bool).scatter_(1, owner.clamp(max=ranks), True)
        reached = reached[:, :ranks].t()  # the last column: identity experts, which are on no rank
        destination, token = reached.nonzero(as_tuple=True)
        counts = reached.sum(dim=1)
        back = all_to_all(counts, [1] * ranks, [1] * ranks, on.group)
        sends, receives = torch.stack([counts, back]).tolist()
        here = owner[token] == destination.unsqueeze(1)
        local = torch.where(here, ids[token] - destination.unsqueeze(1) * width, -1).int()
        # Ids and weights of a row travel in one message.
        about_rows = torch.cat([local, torch.where(here, shares[token].float(), 0.0).view(torch.int32)], dim=1)
        rows = all_to_all(z.index_select(0, token), sends, receives, on.group)
        row_ids, row_shares = all_to_all(about_rows, sends, receives, on.group).chunk(2, dim=1)
        partial = experts(rows, row_ids, row_shares.contiguous().view(torch.float32), dict(weights), act)
        returned = all_to_all(partial, receives, sends, on.group)
        return z.new_zeros(z.shape).index_add_(0, token, returned)

    return build_torch_ep_layer(problem, on, exchanged, _exchanges(problem, sizes))


def _exchanges(problem: Problem, sizes: Sizes) -> tuple[Exchange, ...]:
    rows = exchanged_bytes(problem, sizes.expert_hidden, DTYPE_BYTES[problem.case.dtype])
    about_rows = exchanged_bytes(problem, 2 * sizes.experts_per_token, 4)
    assert problem.seat is not None
    sizes_bytes = (8 * problem.seat.ranks, rows, about_rows, rows)
    return tuple(Exchange("all-to-all", size) for size in sizes_bytes)

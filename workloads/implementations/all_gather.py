"""`all-gather`: every rank gets all tokens, computes what its experts have to do with them, and the sums are reduce-scattered.

No splits and no counts: nothing comes to the host. n ranks move n times the tokens, whether a rank needs them or not, so it is
for small groups, and for tokens that go to most ranks anyway. Shapes as in `workloads.dispatch_combine`, N = n * T.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from workloads.ep_moe_layer import build_torch_ep_layer
from workloads.experts import TorchActivation, torch_experts, torch_sorted
from workloads.problem import DTYPE_BYTES, Problem
from workloads.registry import Built, Exchange, implementation, of_ranks

if TYPE_CHECKING:
    from torch import Tensor

__all__: list[str] = []


@implementation("dispatch-combine", "torch", "all-gather", "closed", cannot=of_ranks)
def build_torch_exchange(problem: Problem, on: Any) -> Built:
    """All tokens gathered and this rank's rows picked; what is done added up at its tokens' places, and reduce-scattered."""
    from workloads.backends.torch_exchange import all_gather, reduce_scatter

    slots = [on.inputs(slot) for slot in range(len(problem.ring))]
    whole = _whole(problem)

    def call(slot: int) -> dict[str, Tensor]:
        inputs = slots[slot]
        picks, done = inputs["picks"], inputs["done"]
        received = all_gather(inputs["tokens"], on.group).index_select(0, picks)
        spread = done.new_zeros(whole, done.shape[1]).index_add_(0, picks, done)
        return {"received": received, "combined": reduce_scatter(spread, on.group)}

    return Built(call, exchanges=_exchanges(problem, problem.sizes.hidden))


@implementation("ep-moe-layer", "torch", "all-gather", "closed", cannot=of_ranks)
def build_torch_layer(problem: Problem, on: Any) -> Built:
    """Tokens, ids and weights gathered; each rank's experts on all of them; their sums reduce-scattered."""
    from workloads.backends.torch_exchange import all_gather, reduce_scatter

    seat = problem.seat
    assert seat is not None
    width = problem.sizes.local_experts
    first = seat.rank * width
    experts, act = torch_experts(problem.model, torch_sorted), TorchActivation(problem.model)

    def exchanged(z: Tensor, ids: Tensor, shares: Tensor, weights: Mapping[str, Any]) -> Tensor:
        every, all_ids = all_gather(z, on.group), all_gather(ids, on.group)
        here = (all_ids >= first) & (all_ids < first + width)
        local = (all_ids - first).masked_fill(~here, -1).int()
        partial = experts(every, local, all_gather(shares.float(), on.group) * here, dict(weights), act)
        return reduce_scatter(partial, on.group)

    routing = _whole(problem) * problem.sizes.experts_per_token
    gathered = Exchange("all-gather", 8 * routing), Exchange("all-gather", 4 * routing)
    return build_torch_ep_layer(problem, on, exchanged, (*_exchanges(problem, problem.sizes.expert_hidden), *gathered))


def _whole(problem: Problem) -> int:
    """Tokens of all ranks."""
    assert problem.seat is not None
    return problem.seat.ranks * problem.case.tokens


def _exchanges(problem: Problem, width: int) -> tuple[Exchange, Exchange]:
    size = _whole(problem) * width * DTYPE_BYTES[problem.case.dtype]
    return Exchange("all-gather", size), Exchange("reduce-scatter", size)

"""Workload `dispatch-combine`: the two exchanges of expert parallelism between real ranks, with a planted routing's splits.

n = ep ranks (`workloads.group`), all in one call. In, on each rank: its `tokens` [T, W] (what experts read: H, or the latent
size), `order` [S], the token of each row that it sends, by destination; `done` [R, W], pinned noise in place of what its
experts made of the R rows that it receives, by source. Out: `received` [R, W], the rows that were dispatched to it, which must
be equal to the last bit; `combined` [T, W], each token's sum over the rows that come back.

Which token goes where is given (as `places` are to `unpermute`), and so are the splits: the exchange alone is timed, with the
gather in front and the sum behind it, and no counts have to come to the host first. That, routing and experts are in
`ep-moe-layer`. `order` and, for an implementation by all-gather, `picks` [R], the place of each received row among all ranks'
tokens [n * T], are inputs on the device.

A token's sum has m <= min(k, n) terms that are exact in the case's dtype, so m - 1 additions round. Each has a root mean square
of 0.41 u of its partial sum, which after j terms is sqrt(j / m) of the line's scale: together 0.29 u sqrt(m) of that scale.
`workloads.checking` allows 8 u, which is 6.6 deviations up to m = 17, in whatever order the ranks are added.

No useful FLOPs. Bytes, of the rank with the most assignments: tokens, done and order in, received and combined out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.case import Case
from workloads.experts import summed
from workloads.group import GroupPlan, group_plan, unsupported_group
from workloads.models import Model, model
from workloads.planting import hidden_noise
from workloads.problem import DTYPE_BYTES, SLOTS, Contribution, Cost, Expected, Lines, Problem, input_digest
from workloads.registry import Built, Exchange, implementation, of_ranks, register_workload
from workloads.sizes import Sizes

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DispatchCombineWorkload", "exchanged_bytes"]


class DispatchCombineWorkload:
    """The collectives of expert parallelism."""

    name = "dispatch-combine"
    version = 1

    def unsupported(self, case: Case) -> str | None:
        """The sentence that says why the case is not defined or not done; None if it is."""
        return unsupported_group(case, model(case.model), self.name)

    def problem(self, case: Case, rank: int = 0) -> Problem:
        """The pinned problem of one rank."""
        about = model(case.model)
        plan = group_plan(case, about)
        seat = plan.seat(rank)
        width = about.moe_latent_size or about.hidden_size
        made = _Made(case, about, plan, rank, width)
        ring = [made.inputs(slot) for slot in range(SLOTS)]
        sizes = _sizes(case, about, plan, rank, width)
        return Problem(
            case=case,
            model=about,
            sizes=sizes,
            weights={},
            ring=ring,
            outputs={"received": (sizes.rows, width), "combined": (case.tokens, width)},
            cost=_cost(case, _sizes(case, about, plan, plan.busiest(), width), int(seat.sent[plan.busiest()].sum())),
            input_digest=input_digest({}, ring, plan.base),
            references=lambda requests: [made.expected(slot, lines) for slot, lines in requests],
            sources=lambda slot, output: made.sources(slot),
            skew=plan.skew | {"distinct_experts": plan.distinct(plan.busiest())},
            exact=frozenset({"received"}),
            seat=seat,
        )


register_workload(DispatchCombineWorkload())


def _sizes(case: Case, about: Model, plan: GroupPlan, rank: int, width: int) -> Sizes:
    seat = plan.seat(rank)
    return Sizes(
        tokens=case.tokens,
        hidden=width,
        experts_per_token=about.experts_per_token,
        rows=seat.rows[rank],
        assignments=seat.assignments[rank],
        local_experts=plan.width,
    )


def _cost(case: Case, sizes: Sizes, sent: int) -> Cost:
    values = 2 * (sizes.tokens + sizes.rows) * sizes.hidden * DTYPE_BYTES[case.dtype]
    return Cost(0, values + 4 * sent, 0, sizes.tokens, sizes.rows, sizes.assignments)


def exchanged_bytes(problem: Problem, width: int, value_bytes: int) -> int:
    """Bytes of rows of so many values that a rank sends in an all-to-all, those to itself included: the mean over the ranks."""
    assert problem.seat is not None
    return round(int(problem.seat.sent.sum()) * width * value_bytes / problem.seat.ranks)


# -- inputs and float64 reference ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Made:
    """What one rank sends and receives, made without asking the others: all of it is pinned."""

    case: Case
    model: Model
    plan: GroupPlan
    rank: int
    width: int

    def inputs(self, slot: int) -> dict[str, np.ndarray]:
        ranks, tokens = range(self.plan.ranks), self.case.tokens
        sources = [self.plan.rows(slot, source, self.rank) for source in ranks]
        picks = np.concatenate([source * tokens + rows for source, rows in zip(ranks, sources, strict=True)])
        done = np.concatenate([self._done(slot, source, self.rank) for source in ranks])
        return {
            "tokens": self._tokens(slot, self.rank, np.arange(tokens)).astype(np.float32),
            "order": self._order(slot).astype(np.int32),
            "done": done.astype(np.float32),
            "picks": picks.astype(np.int32),
        }

    def expected(self, slot: int, lines: Lines) -> Expected:
        """`received` from the tokens of all ranks, `combined` from what each of them sends back."""
        ranks, order = range(self.plan.ranks), self._order(slot)
        received = [self._tokens(slot, source, self.plan.rows(slot, source, self.rank)) for source in ranks]
        _, rank = self.sources(slot)
        chosen = np.arange(self.case.tokens) if lines is None else lines.get("combined", np.empty(0, np.int64))
        here = np.isin(order, chosen)
        done = np.concatenate([self._done(slot, self.rank, destination) for destination in ranks])[here]
        row = np.searchsorted(chosen, order[here])
        found = Contribution(row, rank[here], np.ones(len(row)), done)
        return Expected(
            lines={"combined": chosen},
            values={"combined": summed(found, len(chosen))},
            routed={"combined": (order, rank, np.ones(len(order)))},
            contributions={"combined": found},
            exact={"received": np.concatenate(received)},
        )

    def sources(self, slot: int) -> tuple[np.ndarray, np.ndarray]:
        """(token, rank) of every row that comes back."""
        rows = [self.plan.rows(slot, self.rank, destination) for destination in range(self.plan.ranks)]
        return np.concatenate(rows), np.repeat(np.arange(self.plan.ranks), [len(some) for some in rows])

    def _order(self, slot: int) -> np.ndarray:
        return self.sources(slot)[0]

    def _tokens(self, slot: int, rank: int, chosen: np.ndarray) -> np.ndarray:
        return hidden_noise(self.case.tokens, self.width, ("sent", *self._label(slot), rank), chosen)

    def _done(self, slot: int, source: int, destination: int) -> np.ndarray:
        """What `destination` sends back for the rows of `source`."""
        count = len(self.plan.rows(slot, source, destination))
        return hidden_noise(count, self.width, ("returned", *self._label(slot), source, destination))

    def _label(self, slot: int) -> tuple[object, ...]:
        case = self.case
        return self.model.id, case.routing, case.tokens, case.ep, case.seed, slot


# -- torch ---------------------------------------------------------------------------------------------------------


@implementation("dispatch-combine", "torch", "all-to-all", cannot=of_ranks)
def build_torch(problem: Problem, on: Any) -> Built:
    """Rows packed by destination, an uneven all-to-all there and one back, the sum of what came back."""
    from workloads.backends.torch_exchange import all_to_all

    seat, slots = problem.seat, [on.inputs(slot) for slot in range(len(problem.ring))]
    assert seat is not None
    sends, receives = seat.sends, seat.receives

    def call(slot: int) -> dict[str, Tensor]:
        inputs = slots[slot]
        tokens, order = inputs["tokens"], inputs["order"]
        received = all_to_all(tokens.index_select(0, order), sends, receives, on.group)
        returned = all_to_all(inputs["done"], receives, sends, on.group)
        return {"received": received, "combined": tokens.new_zeros(tokens.shape).index_add_(0, order, returned)}

    there = Exchange("all-to-all", exchanged_bytes(problem, problem.sizes.hidden, DTYPE_BYTES[problem.case.dtype]))
    return Built(call, exchanges=(there, there))

"""A group of real ranks: one plan for all of them, in 16 slots, and which rows each rank sends to each.

n = ep ranks with T own tokens each; rank r owns tokens r * T .. and experts r * E / n .. A row is one (token, rank) pair: a
token goes once to every rank that has one of its experts, its own rank included. Rows are packed by destination, and for one
destination in the order of tokens; so a rank receives them by source. Slot s relabels the base plan, experts inside each rank
(expert groups onto groups) and tokens inside their own rank: every rank sends as many rows to each in every slot, while other
tokens go to other experts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from workloads.case import Case
from workloads.inputs import HASH, group_of, group_skew, unsupported_routing
from workloads.models import Model, check_share
from workloads.pinned import permutation, stream
from workloads.problem import DTYPE_BYTES, SLOTS, Seat
from workloads.routing import Group, Profile, draw, nested_blocks, relabel

__all__ = ["GroupPlan", "group_plan", "unsupported_group"]


@dataclass(frozen=True)
class GroupPlan:
    """The plans of all slots, and what of them is the same in every slot."""

    base: np.ndarray
    """[T * n, k] int32 global expert ids."""
    slots: list[np.ndarray]
    ranks: int
    width: int
    """Experts of a rank."""
    skew: dict[str, Any]

    def seat(self, rank: int) -> Seat:
        """A rank's place, with every rank's rows and assignments."""
        reached = self._reached(self.base).reshape(self.ranks, -1, self.ranks)
        load = np.bincount(self._owner(self.base).ravel(), minlength=self.ranks)[: self.ranks]
        return Seat(rank, reached.sum(axis=1), tuple(int(count) for count in load))

    def busiest(self) -> int:
        """The rank with the most assignments (ties: lowest): it sets the pace."""
        return int(np.argmax(self.seat(0).assignments))

    def distinct(self, rank: int) -> int:
        """Experts of a rank that have an assignment."""
        return len(np.unique(self.base[self._owner(self.base) == rank]))

    def rows(self, slot: int, source: int, destination: int) -> np.ndarray:
        """Which of a rank's own tokens (0..T-1) go to another, in order."""
        return np.flatnonzero(self._reached(self.own(slot, source))[:, destination])

    def own(self, slot: int, rank: int) -> np.ndarray:
        """[T, k]: the plan of a rank's own tokens."""
        tokens = len(self.base) // self.ranks
        return self.slots[slot][rank * tokens : (rank + 1) * tokens]

    def experts_of(self, slot: int, rank: int) -> np.ndarray:
        """The distinct experts of a rank that a slot uses, numbered from 0 there."""
        plan = self.slots[slot]
        return np.unique(plan[self._owner(plan) == rank]) - rank * self.width

    def _owner(self, plan: np.ndarray) -> np.ndarray:
        """The rank of each assignment; identity experts, which are on none, have numbers from n on."""
        return plan // self.width

    def _reached(self, plan: np.ndarray) -> np.ndarray:
        """[tokens, n]: whether a token goes to a rank."""
        return np.asarray((self._owner(plan)[:, :, None] == np.arange(self.ranks)).any(axis=1))


def unsupported_group(case: Case, about: Model, name: str) -> str | None:
    """Why a group of real ranks cannot do this case; None if it can."""
    if case.dtype not in DTYPE_BYTES or case.dtype == "tf32":
        return f"the dtype {case.dtype!r} of {name} is not done yet"
    if case.variants:
        return f"the variant {case.variants[0]!r} of {name} is not done yet"
    if case.ep == 1:
        return "one rank has nobody to exchange with: write ep2 or more"
    if case.rank != "max":
        return f"all ranks take part in {name}: write ep{case.ep}"
    if case.scenario == "sustained":
        return "power is not read across ranks yet: latency and throughput are measured"
    return unsupported_routing(case, about)


@lru_cache(maxsize=2)
def group_plan(case: Case, about: Model) -> GroupPlan:
    """The plan of a case's whole group."""
    check_share(about, case.ep)
    group, profile = group_of(about), Profile.parse(case.routing)
    assert profile is not None, "the workload must have refused this profile"
    assert HASH not in case.variants
    base = draw(profile, group, case.tokens * case.ep, (case.seed,))
    slots = [_relabelled(base, group, case, about, number) for number in range(SLOTS)]
    return GroupPlan(base, slots, case.ep, group.real // case.ep, group_skew(base, group, case))


def _relabelled(base: np.ndarray, group: Group, case: Case, about: Model, number: int) -> np.ndarray:
    source = stream("group slot", about.id, case.routing, case.tokens, case.ep, case.seed, number)
    width = group.real // case.ep
    inside = tuple(size for size in nested_blocks(group.real, case.ep, group.groups) if size < width)
    names = [rank * width + relabel(source, width, inside) for rank in range(case.ep)]
    names += [group.real + permutation(source, group.zero)] if group.zero else []
    plan = np.concatenate(names)[base]
    own = np.split(plan, case.ep)
    return np.concatenate([tokens[permutation(source, case.tokens)] for tokens in own]).astype(np.int32)

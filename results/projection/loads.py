"""What a routing plan asks of the ranks of a group: drawn as the cases' own plans are (`workloads.routing`), seed by seed.

Experts stand contiguously: expert e is on rank floor(e P / E). With more ranks than experts rank r holds expert floor(r E / P),
and the replicas of an expert share its tokens by the sender's rank.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workloads.case import UserError
from workloads.dims import Model
from workloads.inputs import group_of
from workloads.routing import Profile, draw

__all__ = ["Loads", "loads_of"]


@dataclass(frozen=True)
class Loads:
    """Per rank [P]: assignments and distinct experts that it computes; rows that it sends to and receives from other ranks, a
    token once a rank; and of these the ones that leave or enter its node, a token once a node."""

    assignments: np.ndarray
    distinct: np.ndarray
    sent: np.ndarray
    received: np.ndarray
    sent_far: np.ndarray
    received_far: np.ndarray

    @property
    def slowest(self) -> int:
        """The rank with the most assignments (ties: lowest), as in cases `epN`."""
        return int(self.assignments.argmax())


def loads_of(about: Model, tokens: int, ranks: int, routing: str, seed: int, node: int | None = None) -> Loads:
    """The loads of one layer with T tokens a rank on P ranks, `node` of them a node (None: all).

    Raises UserError for a routing that is not known.
    """
    profile = Profile.parse(routing)
    if profile is None:
        raise UserError(f"routing {routing!r} is not done: balanced, uniform, zipf1.0, power1.2 or trace-NAME are")
    plan = draw(profile, group_of(about), tokens * ranks, (seed,))
    return _loads(plan, about.num_experts, tokens, ranks, node or ranks)


def _loads(plan: np.ndarray, experts: int, tokens: int, ranks: int, node: int) -> Loads:
    token = np.repeat(np.arange(len(plan)), plan.shape[1])
    source, chosen = token // tokens, plan.ravel().astype(np.int64)
    token, source, chosen = (one[plan.ravel() < experts] for one in (token, source, chosen))
    rank = _rank_of(chosen, source, experts, ranks)
    assignments = np.bincount(rank, minlength=ranks)
    distinct = np.bincount(np.unique(rank * experts + chosen) // experts, minlength=ranks)
    near = _moved(token, source, rank, ranks, 1)
    far = _moved(token, source, rank, ranks, node)
    return Loads(assignments, distinct, *near, *far)


def _rank_of(chosen: np.ndarray, source: np.ndarray, experts: int, ranks: int) -> np.ndarray:
    if ranks <= experts:
        return chosen * ranks // experts
    first = -(-np.arange(experts + 1) * ranks // experts)
    return first[chosen] + source % (first[chosen + 1] - first[chosen])


def _moved(token: np.ndarray, source: np.ndarray, rank: np.ndarray, ranks: int, size: int) -> tuple[np.ndarray, ...]:
    """Rows that each rank sends and receives [P] where places of `size` ranks count once a token and its own place not at all.

    What enters a node is taken in by the rank that stands there as the sender stands in its own (as DeepEP forwards).
    """
    places = -(-ranks // size)
    pairs = np.unique(token * places + rank // size)
    sender = np.empty(token.max(initial=0) + 1, dtype=np.int64)
    sender[token] = source
    whom, where = sender[pairs // places], pairs % places
    leaves = where != whom // size
    landing = np.minimum(where * size + whom % size, ranks - 1)
    sent = np.bincount(whom[leaves], minlength=ranks)
    return sent, np.bincount(landing[leaves], minlength=ranks)

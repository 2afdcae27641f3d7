"""Copies of the weights: how many keep them cold in a cache.

A fixed set of weights that fits into the last-level cache is read at the cache's speed, which no model sees. Slot s uses
copy s mod c. The cache is beaten when one revolution of the ring touches at least four times its size in distinct bytes:
copies of the experts that the slots touch (relabelled slots touch different ones) and of what is always read.
"""

from __future__ import annotations

import numpy as np

from workloads.problem import SLOTS, Problem

__all__ = ["copies_needed", "is_cold", "touched_bytes"]

CACHE_MULTIPLE = 4


def touched_bytes(problem: Problem, copies: int) -> int:
    """Distinct weight bytes that one revolution of the ring reads with that many copies."""
    each, always = _split(problem)
    if not each:
        return min(copies, SLOTS) * always
    pairs: set[tuple[int, int]] = set()
    for slot in range(SLOTS):
        pairs |= {(slot % copies, int(expert)) for expert in np.unique(_experts_of(problem, slot))}
    return len(pairs) * each + min(copies, SLOTS) * always


def _experts_of(problem: Problem, slot: int) -> np.ndarray:
    if problem.touched is not None:
        return problem.touched(slot)
    return np.concatenate([problem.sources(slot, output)[1] for output in problem.sums])


def _split(problem: Problem) -> tuple[int, int]:
    """(bytes of one routed expert, bytes that every call reads) in the case's dtype."""
    routed = [w for name, w in problem.weights.items() if name.startswith("experts_")]
    size = problem.weight_bytes / max(1, sum(w.elements for w in problem.weights.values()))
    each = sum(w.elements // w.shape[0] for w in routed) * size
    return round(each), round(problem.weight_bytes - sum(w.elements for w in routed) * size)


def copies_needed(problem: Problem, cache_bytes: int) -> int:
    """The fewest copies (1..16) with which a revolution touches four times the cache; 16 where none does, 1 of no weights."""
    if not problem.weights:
        return 1
    wanted = CACHE_MULTIPLE * cache_bytes
    return next((c for c in range(1, SLOTS) if touched_bytes(problem, c) >= wanted), SLOTS)


def is_cold(problem: Problem, copies: int, cache_bytes: int) -> bool:
    """True if the weights, if any, cannot stay in a cache of that size from one revolution to the next."""
    return not problem.weights or touched_bytes(problem, copies) >= CACHE_MULTIPLE * cache_bytes

"""Routing plans: which experts every token of the whole group goes to, drawn by a profile, and their statistics.

Shapes: N = T * ep tokens of the group, E experts, k per token; ids [N, k] int32, without repeats within a token. Experts are
placed contiguously: rank r holds experts r * E / ep ... Popularity is a seeded permutation of expert ids. All draws are
integer arithmetic on Philox streams, so a plan is the same on every machine.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path

import numpy as np

from workloads.pinned import integers, permutation, stream

__all__ = [
    "Group",
    "LoadStatistics",
    "Profile",
    "draw",
    "load_statistics",
    "nested_blocks",
    "presets",
    "relabel",
    "uniform_statistics",
]

_PRESETS = Path(__file__).resolve().parent.parent / "seeds" / "routing" / "presets.toml"
TOTAL_WEIGHT = 1 << 31
UNIFORM_DRAWS = 4
"""Uniform plans drawn to say what plain chance gives."""


@dataclass(frozen=True)
class Group:
    """What a plan must respect: E, k, the expert groups that the rule limits tokens to, and how many are kept; the last `zero`
    of the E are identity experts, which are on no rank."""

    experts: int
    per_token: int
    groups: int = 1
    kept_groups: int = 1
    zero: int = 0

    @property
    def real(self) -> int:
        """Experts that compute."""
        return self.experts - self.zero


@dataclass(frozen=True)
class Profile:
    """How popular experts are: `balanced`, `uniform`, `zipfA` (popularity of rank r is r ** -A), `powerA` (popularities drawn
    from the density x ** -A on [1, 0.8 N]) or `trace-NAME` (one of these with a parameter that was fitted to real routing)."""

    kind: str
    exponent: str = "0"

    @classmethod
    def parse(cls, text: str) -> Profile | None:
        """The profile of a routing segment; None if it is not done."""
        if text in ("balanced", "uniform"):
            return cls(text)
        if text.startswith("trace-"):
            fitted = presets().get(text.removeprefix("trace-"))
            return cls.parse(fitted["profile"]) if fitted else None
        match = re.fullmatch(r"(zipf|power)(\d+(?:\.\d+)?)", text)
        return cls(match[1], match[2]) if match else None

    def popularity(self, source: np.random.Philox, experts: int, tokens: int) -> np.ndarray:
        """Integer weights [E], at least 1 each; exact decimal powers, no libm. `source` draws those of `power`."""
        if self.kind == "power":
            raw = _power_law(integers(source, experts, 1 << 30), Decimal(self.exponent), tokens)
        else:
            raw = [Decimal(rank) ** -Decimal(self.exponent) for rank in range(1, experts + 1)]
        total = sum(raw)
        return np.array([max(1, int(w / total * TOTAL_WEIGHT)) for w in raw], dtype=np.int64)


POWER_REACH = Decimal("0.8")
"""The largest load of the power law, as a share of the tokens (aiconfigurator's sampler, seeds/routing/presets.toml)."""


def _power_law(draws: np.ndarray, exponent: Decimal, tokens: int) -> list[Decimal]:
    """Loads drawn from the density x ** -A on [1, 0.8 N] by its inverse distribution function, for draws in [0, 2**30)."""
    last = max(POWER_REACH * tokens, Decimal(2))
    shares = [(Decimal(int(one)) + Decimal("0.5")) / (1 << 30) for one in draws]
    if exponent == 1:
        return [last**share for share in shares]
    power = 1 - exponent
    return [(1 + share * (last**power - 1)) ** (1 / power) for share in shares]


@cache
def presets() -> dict[str, dict[str, str]]:
    """Name → what was fitted to real routing (`profile`) and by whom (`source`): seeds/routing/presets.toml."""
    return tomllib.loads(_PRESETS.read_text(encoding="utf-8"))


def draw(profile: Profile, group: Group, tokens: int, seed: tuple[object, ...]) -> np.ndarray:
    """A plan [tokens, k] int32 of the profile. `seed` names the stream."""
    dims = (group.experts, group.per_token, group.groups, group.kept_groups)
    source = stream("plan", profile.kind, profile.exponent, *dims, tokens, *seed)
    if profile.kind == "balanced":
        return _deal_plan(source, group, tokens)
    weights = np.empty(group.experts, dtype=np.int64)
    weights[permutation(source, group.experts)] = profile.popularity(source, group.experts, tokens)
    return _draw_plan(source, group, tokens, weights)


def _below(source: np.random.Philox, limits: np.ndarray) -> np.ndarray:
    """One integer in [0, limit) for every limit (int64, below 2**32)."""
    raw = source.random_raw(limits.size).reshape(limits.shape) >> np.uint64(32)
    return ((raw * limits.astype(np.uint64)) >> np.uint64(32)).astype(np.int64)


def _draw_distinct(source: np.random.Philox, weights: np.ndarray, tokens: int, count: int) -> np.ndarray:
    """[tokens, count] distinct indices: drawn by weight one after the other, repeats drawn again (same distribution)."""
    edges = np.cumsum(weights)
    chosen = np.full((tokens, count), -1, dtype=np.int64)
    for position in range(count):
        waiting = np.arange(tokens)
        while waiting.size:
            value = np.searchsorted(edges, _below(source, np.full(waiting.size, edges[-1])), side="right")
            fresh = ~(chosen[waiting, :position] == value[:, None]).any(axis=1)
            chosen[waiting[fresh], position] = value[fresh]
            waiting = waiting[~fresh]
    return chosen


def _draw_plan(source: np.random.Philox, group: Group, tokens: int, weights: np.ndarray) -> np.ndarray:
    if group.groups == 1:
        return _draw_distinct(source, weights, tokens, group.per_token).astype(np.int32)
    size = group.experts // group.groups
    edges = np.concatenate([[0], np.cumsum(weights)])
    group_weights = weights.reshape(group.groups, size).sum(axis=1)
    kept = _draw_distinct(source, group_weights, tokens, group.kept_groups)
    chosen = np.full((tokens, group.per_token), -1, dtype=np.int64)
    for position in range(group.per_token):
        waiting = np.arange(tokens)
        while waiting.size:
            # the first picks cover every kept group, so that the rule keeps exactly these groups
            if position < group.kept_groups:
                own = kept[waiting, position]
            else:
                reach = np.cumsum(group_weights[kept[waiting]], axis=1)
                pick = _below(source, reach[:, -1])
                own = kept[waiting, (pick[:, None] >= reach).sum(axis=1)]
            point = edges[own * size] + _below(source, group_weights[own])
            value = np.searchsorted(edges, point, side="right") - 1
            fresh = ~(chosen[waiting, :position] == value[:, None]).any(axis=1)
            chosen[waiting[fresh], position] = value[fresh]
            waiting = waiting[~fresh]
    return chosen.astype(np.int32)


def _deal(source: np.random.Philox, size: int, tokens: int, count: int) -> np.ndarray:
    """[tokens, count] indices below `size`, each token's distinct, dealt from shuffled decks: totals differ by at most 1."""
    decks = [permutation(source, size)]
    while len(decks) * size < tokens * count:
        deck, begun = permutation(source, size), len(decks) * size % count
        if begun:
            # a token that began on the last deck must not meet its experts again on this one
            free = deck[~np.isin(deck, decks[-1][-begun:])][: count - begun]
            deck = np.concatenate([free, deck[~np.isin(deck, free)]])
        decks.append(deck)
    return np.concatenate(decks)[: tokens * count].reshape(tokens, count)


def _deal_plan(source: np.random.Philox, group: Group, tokens: int) -> np.ndarray:
    if group.groups == 1:
        return _deal(source, group.experts, tokens, group.per_token).astype(np.int32)
    size = group.experts // group.groups
    each, over = divmod(group.per_token, group.kept_groups)
    if over:
        raise ValueError(f"balanced routing needs k ({group.per_token}) divisible by kept groups ({group.kept_groups})")
    kept = _deal(source, group.groups, tokens, group.kept_groups)
    plan = np.empty((tokens, group.kept_groups, each), dtype=np.int64)
    for one in range(group.groups):
        where = kept == one
        plan[where] = one * size + _deal(source, size, int(where.sum()), each)
    return plan.reshape(tokens, group.per_token).astype(np.int32)


def relabel(source: np.random.Philox, size: int, blocks: tuple[int, ...]) -> np.ndarray:
    """A random permutation [size] (old id → new id) that maps whole blocks onto whole blocks.

    `blocks` are block sizes from coarse to fine, each dividing the one before: ranks, expert groups.
    """
    if not blocks:
        return permutation(source, size)
    length = blocks[0]
    places = permutation(source, size // length)
    parts = [place * length + relabel(source, length, blocks[1:]) for place in places]
    return np.concatenate(parts)


def nested_blocks(experts: int, ep: int, groups: int) -> tuple[int, ...]:
    """Block sizes that a relabelling keeps, coarse to fine: ranks and expert groups.

    Raises ValueError where neither holds the other: then no relabelling keeps both.
    """
    sizes = sorted({experts // ep, experts // groups} - {experts}, reverse=True)
    if len(sizes) == 2 and sizes[0] % sizes[1]:
        raise ValueError(f"ranks of {experts // ep} experts and expert groups of {experts // groups} cut each other")
    return tuple(sizes)


@dataclass(frozen=True)
class LoadStatistics:
    """Expert load of a plan. `hotspot_ratio` is the largest over the mean load."""

    expert_load_min: int
    expert_load_max: int
    expert_load_mean: float
    expert_load_cv: float
    hotspot_ratio: float
    rank_hotspot_ratio: float
    empty_expert_count: int


def load_statistics(plan: np.ndarray, experts: int, ep: int) -> LoadStatistics:
    """Statistics of a plan [N, k] over the E experts that compute and `ep` ranks, empty ones included."""
    load = np.bincount(plan.ravel(), minlength=experts)[:experts]
    ranks = load.reshape(ep, -1).sum(axis=1)
    mean = float(load.mean())
    return LoadStatistics(
        expert_load_min=int(load.min()),
        expert_load_max=int(load.max()),
        expert_load_mean=mean,
        expert_load_cv=float(load.std() / mean),
        hotspot_ratio=float(load.max() / mean),
        rank_hotspot_ratio=float(ranks.max() / ranks.mean()),
        empty_expert_count=int((load == 0).sum()),
    )


def uniform_statistics(group: Group, tokens: int, ep: int) -> tuple[float, float]:
    """(expert, rank) hotspot ratio that uniform random routing of as many tokens gives, mean of a few pinned draws."""
    plans = (draw(Profile("uniform"), group, tokens, ("chance", i)) for i in range(UNIFORM_DRAWS))
    found = [load_statistics(plan, group.real, ep) for plan in plans]
    expert = sum(one.hotspot_ratio for one in found) / UNIFORM_DRAWS
    return expert, sum(one.rank_hotspot_ratio for one in found) / UNIFORM_DRAWS

"""Inputs of routed workloads: the group's plan, the measured rank, and the ring of 16 relabelled slots.

Slot s relabels the base plan: experts inside each rank, whole ranks with each other (expert groups onto groups), tokens
reshuffled. The measured rank is chosen once, on the base plan, and followed, so that every slot has the same number of
rows, assignments and distinct experts, while other weights are touched.

Per slot: `tokens` [T, H] planted hidden states; at ep > 1 also `rows` [R, H], `row_ids` [R, k] int32 local ids padded with
-1, `row_weights` [R, k] float32 padded with 0: what the whole group's plan sends to this rank, in seeded order. Rows of
models whose experts do not read hidden states (`workloads.passage`) are [R, W], noise throughout; so are those of a `block`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from workloads.case import Case
from workloads.kept import kept
from workloads.models import Model
from workloads.pinned import integers, permutation, stream
from workloads.planting import Gate, gate_of, hidden_noise, plant, selected
from workloads.problem import SLOTS
from workloads.routing import (
    Group,
    Profile,
    draw,
    load_statistics,
    nested_blocks,
    presets,
    relabel,
    uniform_statistics,
)
from workloads.rules import rule_of

__all__ = [
    "HASH",
    "Planned",
    "RoutedInputs",
    "Slot",
    "drawn_weights",
    "group_of",
    "planned",
    "routed_inputs",
    "unsupported_routing",
]


@dataclass(frozen=True)
class Slot:
    """One relabelling of the base plan, seen from the measured rank."""

    inputs: dict[str, np.ndarray]
    ids: np.ndarray
    """[T, k] global ids that the real router must select for the own tokens: planned, and the reference's."""
    weights: np.ndarray
    """[T, k] float64 routing weights of `ids`."""


@dataclass(frozen=True)
class Planned:
    """What the base plan alone says: counts are of the measured rank, and equal in every slot."""

    plan: np.ndarray
    """Base plan of the whole group, [T * ep, k]."""
    rank: int
    """The measured one, on the base plan."""
    rows: int
    assignments: int
    distinct_experts: int
    skew: dict[str, Any]


@dataclass(frozen=True)
class RoutedInputs(Planned):
    """All inputs of a routed case."""

    gate: Gate
    table: np.ndarray | None
    """[vocabulary, k] int32: the experts of every token id, of a hash layer."""
    slots: list[Slot]


def group_of(model: Model) -> Group:
    """What plans for this model must respect."""
    limit, groups, kept = rule_of(model).groups, model.num_expert_groups, model.topk_groups
    if limit is None or groups == 1:
        groups, kept = 1, 1
    elif limit == "each":
        kept = groups
    outputs = model.num_experts + model.zero_experts
    return Group(outputs, model.experts_per_token, groups, kept, model.zero_experts)


HASH = "hash"
"""The variant of a layer whose experts a frozen table of token ids selects."""


def unsupported_routing(case: Case, model: Model) -> str | None:
    """Why this case's routing is not defined or not done yet; None if it is."""
    if not model.num_experts:
        return f"{model.id} is a dense model: it has no router"
    if Profile.parse(case.routing) is None:
        known = ", ".join(f"trace-{name}" for name in presets())
        return f"there is no routing profile {case.routing!r}: balanced, uniform, zipfA, powerA and {known} are"
    if model.num_experts + model.zero_experts > model.hidden_size:
        return f"planting needs at most as many experts as hidden dims; {model.id} has {model.num_experts}"
    if model.zero_experts and model.zero_expert_kind != "identity":
        return f"zero-compute experts of kind {model.zero_expert_kind!r} of {model.id} are not done yet"
    return _unsupported_groups(case, model) or _unsupported_hash(case, model)


def _unsupported_groups(case: Case, model: Model) -> str | None:
    rule, group = rule_of(model), group_of(model)
    if rule.groups == "two highest" and rule.score == "logit" and group.groups > 1:
        return f"planting against {model.router!r} with {group.groups} groups is not done yet"
    if case.routing == "balanced" and group.per_token % group.kept_groups:
        return f"balanced routing of {group.per_token} experts over {group.kept_groups} groups is not defined: write uniform"
    try:
        nested_blocks(model.num_experts, case.ep, group.groups)
    except ValueError as error:
        return str(error)
    return None


def _unsupported_hash(case: Case, model: Model) -> str | None:
    if HASH not in case.variants:
        return None
    if not model.hash_layers:
        return f"{model.id} has no hash layers: leave +{HASH} out"
    if SLOTS * case.tokens > model.vocab_size:
        return f"a ring of {case.tokens} tokens has more of them than the {model.vocab_size} that {model.id} knows"
    return None


def routed_inputs(case: Case, model: Model, with_rows: bool, behind: Gate | None = None) -> RoutedInputs:
    """The ring of a case. `with_rows`: at ep > 1, also the rows that the group sends to the measured rank.

    `behind`: the model's gate behind what stands between the tokens and it, where they are not what it sees.
    """
    hashed, sent = HASH in case.variants, with_rows and case.ep > 1
    work = (model.id, model.work_digest, case.ep, case.rank, case.tokens, case.routing, case.seed)
    label = ("routed inputs", *work, hashed, sent, behind is not None)
    return kept(label, lambda: _routed_inputs(case, model, sent, behind))


def planned(case: Case, model: Model) -> Planned:
    """The base plan of a case with its counts: what cost and skew follow from, without any inputs."""
    group, profile = group_of(model), Profile.parse(case.routing)
    assert profile is not None, "the workload must have refused this profile"
    plan = draw(profile, group, case.tokens * case.ep, (case.seed,))
    rank = _measured_rank(plan, model.num_experts, case)
    here = plan // (model.num_experts // case.ep) == rank
    distinct = len(np.unique(plan[here]))
    skew = _skew(plan, group, case) | {"distinct_experts": distinct}
    return Planned(plan, rank, int(here.any(axis=1).sum()), int(here.sum()), distinct, skew)


def _routed_inputs(case: Case, model: Model, with_rows: bool, behind: Gate | None) -> RoutedInputs:
    group, base = group_of(model), planned(case, model)
    gate = behind or gate_of(model, case.seed)
    table = _hash_table(case, model, group) if HASH in case.variants else None
    sends_tokens = behind is None and not (model.moe_latent_size or model.entry_norm_eps)
    maker = _SlotMaker(case, model, gate, group, base.plan, base.rank, table, sends_tokens)
    slots = [maker.slot(number, with_rows) for number in range(SLOTS)]
    return RoutedInputs(**base.__dict__, gate=gate, table=table, slots=slots)


def _measured_rank(plan: np.ndarray, experts: int, case: Case) -> int:
    """The rank with the most assignments (ties: lowest), or the median one."""
    load = np.bincount(plan[plan < experts] // (experts // case.ep), minlength=case.ep)
    order = np.argsort(-load, kind="stable")
    return int(order[0] if case.rank == "max" else order[case.ep // 2])


def _skew(plan: np.ndarray, group: Group, case: Case) -> dict[str, Any]:
    found = load_statistics(plan, group.real, case.ep)
    expert, rank = uniform_statistics(group, len(plan), case.ep)
    return {**found.__dict__, "uniform_hotspot_ratio": expert, "uniform_rank_hotspot_ratio": rank}


def _hash_table(case: Case, model: Model, group: Group) -> np.ndarray:
    """[vocabulary, k] int32: uniform draws; slots write the rows of their own tokens' ids."""
    return draw(Profile("uniform"), group, model.vocab_size, ("hash table", case.seed))


@lru_cache(maxsize=4)
def _own_ids(case: Case, model: Model) -> np.ndarray:
    """[16, T]: the token ids of every slot's own tokens, all different."""
    order = permutation(stream("token ids", model.id, case.tokens, case.seed), model.vocab_size)
    return order[: SLOTS * case.tokens].reshape(SLOTS, case.tokens)


@dataclass(frozen=True)
class _SlotMaker:
    case: Case
    model: Model
    gate: Gate
    group: Group
    plan: np.ndarray
    rank: int
    table: np.ndarray | None
    sends_tokens: bool
    """Whether own tokens are sent to the experts as they come; else what they send is an output, computed from them."""

    def slot(self, number: int, with_rows: bool) -> Slot:
        label: tuple[object, ...] = (
            self.model.id,
            self.case.routing,
            self.case.tokens,
            self.case.ep,
            self.case.seed,
            number,
        )
        source = stream("slot", *label)
        real = self.group.real
        names = relabel(source, real, nested_blocks(real, self.case.ep, self.group.groups))
        if self.group.zero:
            names = np.concatenate([names, real + permutation(source, self.group.zero)])
        plan = names[self.plan][permutation(source, len(self.plan))].astype(np.int32)
        width = real // self.case.ep
        rank = int(names[self.rank * width] // width)
        own = slice(rank * self.case.tokens, (rank + 1) * self.case.tokens)
        inputs, ids, weights = self._own(number, plan[own], label)
        tokens = inputs["tokens"]
        if with_rows:
            inputs |= self._rows(plan, rank, own, tokens, label)
        return Slot(inputs, ids, weights)

    def _own(
        self, number: int, plan: np.ndarray, label: tuple[object, ...]
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """(inputs, ids, weights) of the own tokens [T], whose plan the router selects, or a table by their token ids."""
        if self.table is not None:
            wanted = _own_ids(self.case, self.model)[number]
            self.table[wanted] = plan
            noise = hidden_noise(len(plan), self.model.hidden_size, ("hashed", *label)).astype(np.float32)
            ids, weights = selected(self.gate, self.model, noise, plan.astype(np.int64))
            return {"tokens": noise, "input_ids": wanted.astype(np.int32)}, ids, weights
        tokens = plant(self.gate, self.model, self.group, plan, label)
        ids, weights = selected(self.gate, self.model, tokens)
        if (np.sort(ids, axis=1) != np.sort(plan, axis=1)).any():
            raise ArithmeticError(f"planting failed for {self.case.id}: the float64 router does not select the plan")
        return {"tokens": tokens}, ids, weights

    def _rows(
        self, plan: np.ndarray, rank: int, own: slice, tokens: np.ndarray, label: tuple[object, ...]
    ) -> dict[str, np.ndarray]:
        """Rows of the measured rank: own tokens' hidden states are the planted ones, foreign ones are noise."""
        source = stream("rows", *label)
        width = self.group.real // self.case.ep
        here = plan // width == rank
        sent = np.flatnonzero(here.any(axis=1))
        sent = sent[permutation(source, len(sent))]
        mine = (sent >= own.start) & (sent < own.stop)
        hidden = self.model.moe_latent_size or tokens.shape[1]
        rows = np.empty((len(sent), hidden), dtype=np.float32)
        if self.sends_tokens:
            rows[mine] = tokens[sent[mine] - own.start]
        else:
            mine[:] = False
        rows[~mine] = hidden_noise(int((~mine).sum()), hidden, ("foreign", *label))
        ids = np.where(here[sent], plan[sent] % width, -1).astype(np.int32)
        ids = np.take_along_axis(ids, np.argsort(ids < 0, axis=1, kind="stable"), axis=1)
        return {"rows": rows, "row_ids": ids, "row_weights": drawn_weights(source, ids, self.model)}


def drawn_weights(source: np.random.Philox, ids: np.ndarray, model: Model) -> np.ndarray:
    """Row weights [R, k] float32 on the grid for local ids (-1: none, weight 0), whose mean is scaling factor / k.

    That is what normalised routers give, to the nearest power of two.
    """
    drawn = integers(source, ids.size, 128).reshape(ids.shape) + 64
    factor = model.routed_scaling_factor or 1.0
    scale = round(float(np.log2(127.5 * model.experts_per_token / factor)))
    return np.where(ids < 0, 0.0, np.ldexp(drawn.astype(np.float64), -scale)).astype(np.float32)

"""Groups of real ranks: who sends what to whom, and one rank's problem."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_models import TINY

from workloads.case import Case
from workloads.dispatch_combine import DispatchCombineWorkload
from workloads.ep_moe_layer import EpMoeLayerWorkload
from workloads.group import GroupPlan, group_plan
from workloads.models import model
from workloads.problem import SLOTS, Problem
from workloads.registry import TargetFacts, implementations_of
from workloads.weights import Tiled

pytestmark = pytest.mark.usefixtures("tiny_models")
T, N = 8, 4


def plan_of(name: str, routing: str = "zipf1.0") -> GroupPlan:
    return group_plan(Case.parse(f"ep-moe-layer/{name}/ep{N}/t{T}/fp32/{routing}/latency"), TINY[name])


def problems(text: str) -> list[Problem]:
    case = Case.parse(text)
    workload = {one.name: one for one in (DispatchCombineWorkload(), EpMoeLayerWorkload())}[case.workload]
    assert workload.unsupported(case) is None
    return [workload.problem(case, rank) for rank in range(case.ep)]


@pytest.mark.parametrize("name", ["tiny-olmoe", "tiny-v3", "tiny-longcat"])
def test_every_slot_has_the_same_rows_between_ranks_and_the_same_load_on_each(name: str) -> None:
    plan, about = plan_of(name), TINY[name]
    seat, width = plan.seat(0), about.num_experts // N
    for slot, ids in enumerate(plan.slots):
        owner = ids // width
        for source in range(N):
            own = owner[source * T : (source + 1) * T]
            for destination in range(N):
                goes = np.flatnonzero((own == destination).any(axis=1))
                assert len(goes) == seat.sent[source, destination]
                assert plan.rows(slot, source, destination).tolist() == goes.tolist()
        assert [int((owner == rank).sum()) for rank in range(N)] == list(seat.assignments)


def test_slots_touch_other_experts() -> None:
    plan = plan_of("tiny-olmoe")
    assert len({plan.slots[slot].tobytes() for slot in range(SLOTS)}) == SLOTS


def test_relabelling_keeps_expert_groups_whole() -> None:
    plan, about = plan_of("tiny-v3"), TINY["tiny-v3"]
    size = about.num_experts // about.num_expert_groups
    for ids in plan.slots:
        assert all(len(set(token // size)) <= about.topk_groups for token in ids)


def test_identity_experts_are_sent_nowhere() -> None:
    plan = plan_of("tiny-longcat")
    real = (plan.base < TINY["tiny-longcat"].num_experts).sum()
    assert sum(plan.seat(0).assignments) == real < plan.base.size


@pytest.mark.parametrize("name", ["tiny-olmoe", "tiny-nemotron"])
def test_what_a_rank_receives_is_what_the_others_send(name: str) -> None:
    every = problems(f"dispatch-combine/{name}/ep{N}/t{T}/fp32/zipf1.0/latency")
    for slot in (0, SLOTS - 1):
        sent = [one.ring[slot]["tokens"][one.ring[slot]["order"]] for one in every]
        offsets = [np.cumsum([0, *one.seat.sends]) for one in every if one.seat]
        for rank, one in enumerate(every):
            arrives = [rows[at[rank] : at[rank + 1]] for rows, at in zip(sent, offsets, strict=True)]
            assert np.array_equal(np.concatenate(arrives), one.reference(slot).exact["received"])
            whole = np.concatenate([other.ring[slot]["tokens"] for other in every])
            assert np.array_equal(whole[one.ring[slot]["picks"]], np.concatenate(arrives))


def test_what_comes_back_is_what_the_others_made() -> None:
    every = problems(f"dispatch-combine/tiny-olmoe/ep{N}/t{T}/fp32/zipf1.0/latency")
    for rank, one in enumerate(every):
        total = np.zeros((T, one.sizes.hidden))
        order, at = one.ring[3]["order"], 0
        for destination, other in enumerate(every):
            assert other.seat is not None
            start, count = sum(other.seat.receives[:rank]), other.seat.receives[rank]
            np.add.at(total, order[at : at + count], other.ring[3]["done"][start : start + count].astype(np.float64))
            at += count
            assert count == other.seat.sent[rank, destination]
        assert np.allclose(total, one.reference(3).values["combined"], rtol=1e-12, atol=0)


def test_ranks_have_the_experts_of_one_layer_between_them() -> None:
    every = problems(f"ep-moe-layer/tiny-olmoe/ep{N}/t{T}/fp32/balanced/latency")
    whole = problems("ep-moe-layer/tiny-olmoe/ep2/t8/fp32/balanced/latency")
    offsets = [one.weights["experts_in"].offsets for one in every if isinstance(one.weights["experts_in"], Tiled)]
    halves = [one.weights["experts_in"].offsets for one in whole if isinstance(one.weights["experts_in"], Tiled)]
    assert sum(offsets, ()) == sum(halves, ())
    assert len(set(sum(offsets, ()))) == TINY["tiny-olmoe"].num_experts


def test_the_busiest_rank_is_the_cost_of_all() -> None:
    every = problems(f"ep-moe-layer/tiny-v3/ep{N}/t{T}/fp32/zipf1.0/latency")
    seat = every[0].seat
    assert seat is not None
    assert len({one.cost for one in every}) == 1
    assert every[0].cost.assignments == max(seat.assignments) > min(seat.assignments)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dispatch-combine/tiny-olmoe/ep1/t8/fp32/balanced/latency", "nobody to exchange with"),
        ("dispatch-combine/tiny-olmoe/ep4-median/t8/fp32/balanced/latency", "all ranks take part"),
        ("ep-moe-layer/tiny-olmoe/ep4/t8/fp32/balanced/sustained", "power is not read across ranks"),
        ("ep-moe-layer/tiny-olmoe/ep4/t8/w-int4g32_a-bf16/balanced/latency", "is not done yet"),
        ("ep-moe-layer+hash/tiny-v4-hash/ep4/t8/fp32/balanced/latency", "is not done yet"),
    ],
)
def test_what_ranks_do_not_do_is_refused_by_name(text: str, said: str) -> None:
    case = Case.parse(text)
    workload = DispatchCombineWorkload() if case.workload == "dispatch-combine" else EpMoeLayerWorkload()
    assert said in (workload.unsupported(case) or "")


@pytest.mark.parametrize("name", ["dispatch-combine", "ep-moe-layer"])
def test_implementations_ask_for_as_many_ranks_as_ep_says(name: str) -> None:
    case = Case.parse(f"{name}/tiny-olmoe/ep4/t8/fp32/balanced/latency")
    for one in implementations_of(name, "torch"):
        assert "--nproc 4" in (one.cannot(case, TargetFacts("torch", "cpu")) or "")
        assert one.cannot(case, TargetFacts("torch", "cpu", ranks=4)) is None
    assert model("tiny-olmoe").num_experts % case.ep == 0

import numpy as np
import pytest

from results.projection.loads import _loads, loads_of
from workloads.case import Case, UserError
from workloads.inputs import routed_inputs
from workloads.models import model

OLMOE = model("olmoe-1b-7b")


def test_loads_and_rows_of_a_small_plan_are_counted_by_hand() -> None:
    plan = np.array([[0, 1], [0, 2], [2, 3], [1, 3]])  # rank 0 has experts 0, 1 and tokens 0, 1
    found = _loads(plan, 4, tokens=2, ranks=2, node=2)
    assert found.assignments.tolist() == [4, 4]
    assert found.distinct.tolist() == [2, 2]
    assert (found.sent.tolist(), found.received.tolist()) == ([1, 1], [1, 1])
    assert found.sent_far.tolist() == [0, 0]


def test_a_token_crosses_to_a_node_once_and_is_taken_in_by_the_rank_that_stands_alike() -> None:
    plan = np.array([[2, 3], [0, 1], [0, 2], [3, 1]])  # one expert and one token a rank, two ranks a node
    found = _loads(plan, 4, tokens=1, ranks=4, node=2)
    assert found.sent.tolist() == [2, 1, 1, 1]
    assert found.sent_far.tolist() == [1, 0, 1, 1]
    assert found.received_far.tolist() == [1, 1, 1, 0]


def test_the_load_of_the_slowest_rank_is_that_of_the_case() -> None:
    case = Case.parse("experts/olmoe-1b-7b/ep8/t16/fp32/zipf1.0/latency")
    made, found = routed_inputs(case, OLMOE, with_rows=True), loads_of(OLMOE, 16, 8, "zipf1.0", 0)
    rank = found.slowest
    assert (found.assignments[rank], found.distinct[rank]) == (made.assignments, made.distinct_experts)


def test_replicas_share_the_tokens_of_an_expert() -> None:
    found = loads_of(OLMOE, 4, 128, "balanced", 0)
    assert found.assignments.sum() == 4 * 128 * OLMOE.experts_per_token
    assert found.distinct.max() == 1


def test_an_unknown_routing_is_refused() -> None:
    with pytest.raises(UserError, match="balanced, uniform"):
        loads_of(OLMOE, 4, 8, "even", 0)

"""What becomes of a case in a duel whose sides fail at it."""

import pytest

from harness.corner import Failed
from harness.duel import Contest, DuelOptions
from workloads.case import Case, UserError

CASE = Case.parse("router/olmoe-1b-7b/ep1/t4/fp32/uniform/latency")
TOO_BIG = Failed("too big", {"A": "too-big", "B": "too-big"})


@pytest.mark.parametrize(
    ("again", "measured", "left_out"), [(False, False, True), (False, True, False), (True, False, False)]
)
def test_only_what_neither_side_ever_did_is_left_out(again: bool, measured: bool, left_out: bool) -> None:
    contest = Contest(CASE, ("plain", "plain"), [[]] if measured else [], again=again)
    contest.fails(TOO_BIG)
    assert (contest.left_out, contest.failure, contest.broken) == (left_out, "too big", False)


def test_a_b_that_is_broken_where_a_is_not_has_failed() -> None:
    contest = Contest(CASE, ("plain", "plain"))
    contest.fails(Failed("wrong", {"B": "wrong"}))
    assert (contest.left_out, contest.broken) == (False, True)


def test_a_duel_takes_a_budget_and_more_than_one_round() -> None:
    assert DuelOptions(rounds=2).rounds == 2
    with pytest.raises(ValueError, match="two rounds at least"):
        DuelOptions(rounds=1)
    for budget_s in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(UserError, match="positive number of seconds"):
            DuelOptions(budget_s)

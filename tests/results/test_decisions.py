"""Decisions on many cases at once: when a case is left alone, what the others say of it, and how often that is right."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from benchmarks.campaign.replay import Fought, replayed
from results.compare import Margins
from results.duels import CaseDecision, Looks
from results.pairs import Centre, joined, look_level, pooled
from results.tables import duel_table

NINE = tuple(f"case-{number}" for number in range(9))
LOOKS, LONE = Looks(9, 5, Margins()), Looks(1, 5, Margins())
SPREAD = 0.012
"""What pairs of equal code differ by here, as standard deviation of the log ratio."""


def centre(log: float) -> Centre:
    return Centre(log, 0.004, 40)


def fought(logs: Mapping[str, Sequence[float]]) -> list[Fought]:
    return [Fought(case, [centre(log) for log in of_case]) for case, of_case in logs.items()]


def wandering(mean: float, step: float, pairs: int) -> list[float]:
    """Logs around a mean, whose spread is known."""
    return [mean + step * (number % 3 - 1) for number in range(pairs)]


def pairs_of_equal_code(count: int, seed: int) -> list[dict[str, Centre]]:
    source = random.Random(seed)
    return [{case: centre(source.gauss(0.0, SPREAD)) for case in NINE} for _ in range(count)]


# ---- one look


def test_few_cases_are_looked_at_once_many_from_their_third_pair_on() -> None:
    assert list(Looks(5, 5, Margins()).after) == [5]
    assert list(Looks(6, 5, Margins()).after) == [3, 4, 5]
    assert list(Looks(6, 2, Margins()).after) == [2]


@pytest.mark.parametrize(
    ("rounds", "after"), [(2, [2, 3, 4]), (3, [2, 3, 4, 6]), (4, [2, 3, 4, 6, 8]), (5, [2, 3, 4, 5, 7, 10])]
)
def test_second_looks_are_looked_at_pair_by_pair_then_half_way_and_at_the_end(rounds: int, after: list[int]) -> None:
    assert Looks(1, rounds, Margins()).after_again == after


def test_more_rounds_than_the_level_can_be_shared_by_are_refused_before_anything_is_measured() -> None:
    assert Looks(6, 6, Margins()).final_level > 0.025
    with pytest.raises(ValueError, match="12 looks leave the last one too little"):
        Looks(6, 7, Margins())


def test_a_change_that_only_one_case_alone_would_show_is_fought_on() -> None:
    one_of_nine = fought(
        {case: wandering(0.0, SPREAD, 3) for case in NINE[:-1]} | {NINE[-1]: wandering(0.045, SPREAD, 3)}
    )
    LOOKS.first(one_of_nine, 3)
    assert one_of_nine[-1].decision is None


def test_a_change_that_survives_all_cases_ends_its_fight_early() -> None:
    one_of_nine = fought(
        {case: wandering(0.0, SPREAD, 3) for case in NINE[:-1]} | {NINE[-1]: wandering(0.08, SPREAD, 3)}
    )
    LOOKS.first(one_of_nine, 3)
    decision = one_of_nine[-1].decision
    assert decision is not None
    assert (decision.verdict, decision.pairs) == ("slower", 3)


def test_after_the_last_round_every_case_is_closed() -> None:
    cases = fought({case: wandering(0.01, SPREAD, 5) for case in NINE})
    LOOKS.first(cases, 5)
    assert all(one.decision is not None and one.decision.pairs == 5 for one in cases)


def looked_at_once(logs: Sequence[float]) -> list[Fought]:
    """Nine cases after all rounds, one of them with these logs."""
    cases = fought({case: wandering(0.0, SPREAD, 5) for case in NINE[:-1]} | {NINE[-1]: logs})
    LOOKS.first(cases, 5)
    return cases


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (0.05, 0.05, "slower"),
        (0.05, -0.001, "unsure"),
        (0.02, 0.05, "slower"),
        (-0.06, -0.05, "faster"),
        (0.04, 0.0, "unsure"),
    ],
)
def test_a_change_is_said_by_the_pairs_of_both_looks(first: float, second: float, said: str) -> None:
    cases = looked_at_once(wandering(first, SPREAD, 5))
    again = fought({NINE[-1]: wandering(second, SPREAD, 5)})
    assert [one.case for one, leans in zip(cases, LOOKS.again(cases), strict=True) if leans] == [NINE[-1]]
    decision = LOOKS.final(cases, again)[-1]
    assert decision.verdict == said
    assert decision.pairs == 10


@pytest.mark.parametrize("second", [wandering(0.001, 0.002, 5), wandering(-0.015, 0.0005, 5)])
def test_a_change_that_the_second_look_alone_does_not_show_is_not_said(second: list[float]) -> None:
    """Nor one of which it shows the contrary."""
    lone, again = fought({"case": wandering(0.3, 0.002, 5)}), fought({"case": second})
    LONE.first(lone, 5)
    (decision,) = LONE.final(lone, again)
    assert decision.ratio
    assert decision.ratio.low > 1.01
    assert (decision.verdict, decision.reason) == ("unsure", "a second look does not show it")


def test_no_change_is_said_without_a_second_look() -> None:
    cases = looked_at_once(wandering(0.08, SPREAD, 5))
    found = LOOKS.final(cases, [])
    assert found[-1].verdict == "unsure"
    assert [one.verdict for one in found[:-1]] == [one.decision.verdict for one in cases[:-1] if one.decision]
    with pytest.raises(ValueError, match="without a first"):
        LOOKS.final(cases[:-1], fought({NINE[-1]: [0.0] * 5}))


def test_only_what_is_the_same_beyond_doubt_is_not_looked_at_again() -> None:
    calm = fought({case: wandering(0.0, 0.002, 5) for case in NINE})
    LOOKS.first(calm, 5)
    assert {one.decision.verdict for one in calm if one.decision} == {"same"}
    assert not any(LOOKS.again(calm))
    near = fought({case: wandering(0.0, 0.002, 5) for case in NINE[:-1]} | {NINE[-1]: wandering(0.013, 0.004, 5)})
    LOOKS.first(near, 5)
    assert {one.decision.verdict for one in near if one.decision} == {"same"}
    assert LOOKS.again(near) == [False] * 8 + [True]


def test_what_was_called_changed_is_looked_at_again_whatever_later_rounds_say_of_the_others() -> None:
    cases = looked_at_once(wandering(0.0, SPREAD, 5))
    early = replace(cases[-1].decision, verdict="slower", pairs=3)  # type: ignore[type-var]
    cases[-1].decision = early
    assert LOOKS.again(cases) == [False] * 8 + [True]


def test_what_is_unsure_is_looked_at_again_and_may_turn_out_the_same() -> None:
    cases = looked_at_once([0.0, 0.03, -0.01, 0.015, -0.02])
    assert cases[-1].decision
    assert cases[-1].decision.verdict == "unsure"
    assert LOOKS.again(cases) == [False] * 8 + [True]
    decision = LOOKS.final(cases, fought({NINE[-1]: wandering(-0.004, 0.008, 5)}))[-1]
    assert (decision.verdict, decision.pairs) == ("same", 10)


def test_a_second_look_ends_as_soon_as_the_pairs_of_both_decide() -> None:
    cases = looked_at_once(wandering(0.05, SPREAD, 5))
    clear, slight = (fought({NINE[-1]: wandering(mean, SPREAD / 2, 2)}) for mean in (0.05, 0.02))
    for second in (clear, slight):
        LOOKS.second(cases, second, 2)
    assert clear[0].decision
    assert (clear[0].decision.verdict, clear[0].decision.pairs) == ("slower", 2)
    assert slight[0].decision is None
    assert LOOKS.final(cases, clear)[-1].pairs == 7


def test_every_look_that_a_case_may_get_takes_its_share_of_the_level() -> None:
    """Nine cases in five rounds: after the 3rd and 4th of the first look, after the 2nd to 5th, 7th and 10th of the second."""
    cases, second = looked_at_once(wandering(0.05, SPREAD, 5)), wandering(0.045, SPREAD, 10)
    decision = LOOKS.final(cases, fought({NINE[-1]: second}))[-1]
    whole = [*cases[-1].centres, *map(centre, second)]
    known = pooled([*(one.centres for one in cases[:-1]), whole])
    assert decision.ratio == joined(whole, known).interval(look_level(8))


def test_a_second_look_goes_on_for_twice_as_many_rounds_as_the_first_while_nothing_is_decided() -> None:
    cases = looked_at_once(wandering(0.02, SPREAD, 5))
    for number in range(1, 11):
        again = fought({NINE[-1]: wandering(0.012, SPREAD, number)})
        LOOKS.second(cases, again, number)
        assert (again[0].decision is not None) is (number == 10)


def test_what_ten_pairs_leave_open_fifteen_decide() -> None:
    cases, again = looked_at_once(wandering(0.022, SPREAD, 5)), fought({NINE[-1]: []})
    for number, log in enumerate(wandering(0.022, SPREAD, 10), 1):
        assert again[0].decision is None
        again[0].centres.append(centre(log))
        LOOKS.second(cases, again, number)
    assert again[0].decision is not None
    decision = LOOKS.final(cases, again)[-1]
    assert (decision.verdict, decision.pairs) == ("slower", 15)


# ---- many duels of known truth


def test_equal_code_hardly_ever_raises_an_alarm_in_any_of_nine_cases() -> None:
    found = replayed(pairs_of_equal_code(400, 1), 0.0, 200, Margins())
    assert found.families == 200
    assert found.crying <= 4
    assert found.covered / found.decisions > 0.93


def unlike_pairs(count: int, seed: int) -> list[dict[str, Centre]]:
    """Of equal code: the pairs of one case differ five times as much as most do, the processes of another come in two kinds."""
    source = random.Random(seed)

    def log(case: str) -> float:
        if case == NINE[0]:
            return source.gauss(0.0, 5 * SPREAD)
        return source.gauss(0.0, SPREAD) + (0.3 * source.choice((-1, 0, 1)) if case == NINE[1] else 0.0)

    return [{case: centre(log(case)) for case in NINE} for _ in range(count)]


def test_a_case_noisier_than_the_others_raises_no_more_alarms() -> None:
    found = replayed(unlike_pairs(800, 6), 0.0, 400, Margins(threshold=0.0))
    assert found.crying / found.families < 0.085
    assert found.covered / found.decisions > 0.93


def test_without_a_threshold_equal_code_raises_an_alarm_as_often_as_the_level_says() -> None:
    found = replayed(pairs_of_equal_code(800, 4), 0.0, 400, Margins(threshold=0.0))
    assert 0.01 < found.crying / found.families < 0.075


def test_a_small_change_is_hardly_ever_called_the_same_at_the_edge_of_what_that_means() -> None:
    found = replayed(pairs_of_equal_code(400, 5), 0.02, 60, Margins())
    assert found.verdicts["same"] / found.decisions < 0.06


def test_one_slower_case_of_nine_is_seen() -> None:
    found = replayed(pairs_of_equal_code(400, 2), 0.04, 200, Margins(), "one of them")
    assert found.decisions == 200
    assert found.verdicts["slower"] >= 180
    assert found.wrong == 0


def test_a_change_of_all_cases_is_seen_in_either_direction() -> None:
    recorded = pairs_of_equal_code(400, 3)
    for effect, word in ((0.05, "slower"), (-0.05, "faster")):
        found = replayed(recorded, effect, 20, Margins())
        assert found.verdicts[word] >= 0.95 * found.decisions
        assert found.wrong == 0


def test_a_table_says_which_decisions_were_contended_and_what_was_set_aside() -> None:
    calm = CaseDecision(
        "moe-layer/olmoe-1b-7b/ep1/t1/fp32/balanced/latency", ("sorted", "sorted"), "unsure", None, 5, 100
    )
    table = duel_table([calm, replace(calm, contended=3), replace(calm, set_aside=1, contended=3)])
    assert [section.rows[0][-1] for section in table.sections] == ["unsure", "unsure [1]", "unsure [2] [1]"]
    assert table.notes == (
        "contended: other work used the machine during 3 of its process pairs",
        "1 of its process pairs, far from all others, set aside",
    )


# ---- pairs that lie far from all others


def test_a_pair_in_which_a_process_is_far_slower_hides_no_change_and_is_told_of() -> None:
    logs = {case: wandering(0.0, SPREAD, 5) for case in NINE}
    logs[NINE[-1]] = [*wandering(0.08, SPREAD, 4), 0.6]
    found = fought(logs)
    LOOKS.first(found, 5)
    decision = found[-1].decision
    assert decision is not None
    assert (decision.verdict, decision.pairs, decision.set_aside) == ("slower", 5, 1)


def test_pairs_of_two_kinds_all_count() -> None:
    logs = {case: wandering(0.0, SPREAD, 5) for case in NINE}
    logs[NINE[-1]] = [0.0, 0.6, 0.01, 0.6, 0.0]
    found = fought(logs)
    LOOKS.first(found, 5)
    decision = found[-1].decision
    assert decision is not None
    assert (decision.verdict, decision.set_aside) == ("unsure", 0)

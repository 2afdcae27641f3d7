"""Two runs whose machines differ: what is left when the canary is taken out, checked by simulation with a seed."""

import math

import numpy as np
import pytest
from msgspec.structs import replace

from results import two_runs
from results.parts import joined
from results.statistics import Ratio
from results.two_runs import CASES_SPREAD, PRIOR_SPREAD, Side, mean_difference, run_spread, sides_from
from tests.results.conftest import several
from tests.results.test_parts import part

SHARES, PROCESSES = 16, 5


def differences(cases: list[tuple[Side, Side]]) -> list[two_runs.Difference]:
    return two_runs.differences(cases, 0.0026)


def side(draw: np.random.Generator, machine: np.ndarray, effect: float = 0.0, response: float = 1.0) -> Side:
    """A case that takes `effect` longer, on a machine that is `machine` (log) slower in each process; shares differ by 1 %."""
    case = tuple(effect + response * pace + 0.01 * draw.standard_normal(SHARES) for pace in machine)
    return Side(case, tuple(pace + 0.01 * draw.standard_normal(SHARES) for pace in machine))


def runs(
    draw: np.random.Generator, cases: int, effect: float = 0.0, response: float = 1.0, processes: int = PROCESSES
) -> list[tuple[Side, Side]]:
    """Runs whose machines differ by 3 % and whose processes by 2 %, for all cases alike, and by 0.2 % for each alone."""
    base, new = (0.03 * draw.standard_normal() + 0.02 * draw.standard_normal(processes) for _ in range(2))
    return [
        (side(draw, base, own(draw), response), side(draw, new, own(draw) + effect, response)) for _ in range(cases)
    ]


def own(draw: np.random.Generator) -> float:
    return 0.002 * draw.standard_normal()


def interval(pair: tuple[Side, Side]) -> Ratio:
    return differences([pair])[0].joined.interval()


def test_what_the_machine_did_to_both_goes_out_to_the_digit() -> None:
    exact = np.zeros(SHARES)
    base = Side(tuple(exact + pace for pace in (0.0, 0.1, 0.3)), tuple(exact + pace for pace in (0.0, 0.1, 0.3)))
    new = Side(tuple(exact + 0.05 + pace for pace in (0.5, 0.2, 0.9)), tuple(exact + pace for pace in (0.5, 0.2, 0.9)))
    (found,) = differences([(base, new)])
    assert found.joined.log == pytest.approx(0.05)
    assert found.canary == pytest.approx(1.6 / 3 - 0.4 / 3)


@pytest.mark.parametrize("response", [1.0, 0.8, 1.2])
@pytest.mark.parametrize("cases", [1, 8])
def test_intervals_hold_the_truth_and_equal_code_is_not_called_slower(cases: int, response: float) -> None:
    draw, found = np.random.default_rng(1), []
    for _ in range(400 // cases):
        found += [one.joined.interval() for one in differences(runs(draw, cases, response=response))]
    assert np.mean([one.low <= 1 <= one.high for one in found]) >= 0.94
    assert np.mean([one.low > 1.01 for one in found]) <= 0.005


def test_five_percent_are_seen_over_a_machine_that_moves_by_as_much() -> None:
    draw = np.random.default_rng(2)
    found = [one.joined for _ in range(50) for one in differences(runs(draw, 8, math.log(1.05)))]
    assert np.mean([one.interval().low > 1.01 for one in found]) >= 0.95


def test_processes_that_agree_by_luck_are_judged_by_those_of_other_cases() -> None:
    draw = np.random.default_rng(3)
    lucky = Side((np.zeros(SHARES),) * PROCESSES, (np.zeros(SHARES),) * PROCESSES)
    others = [tuple(_lucky(draw, 0.02 * draw.standard_normal(PROCESSES)) for _ in range(2)) for _ in range(6)]
    alone = differences([(lucky, lucky)])[0].joined
    among = differences([(lucky, lucky), *others])[0].joined  # type: ignore[list-item]
    assert among.error > 2 * alone.error


def test_a_canary_that_moved_leaves_doubt_where_its_response_is_unknown() -> None:
    draw = np.random.default_rng(4)
    still = side(draw, 0.001 * draw.standard_normal(PROCESSES))
    moved = side(draw, 0.3 + 0.001 * draw.standard_normal(PROCESSES))
    near, far = interval((still, still)), interval((still, moved))
    assert math.log(far.high / far.low) > 3 * math.log(near.high / near.low)


def test_the_response_is_learnt_from_processes_that_differ() -> None:
    draw = np.random.default_rng(5)
    base, new = (side(draw, 0.1 * draw.standard_normal(PROCESSES), response=0.5) for _ in range(2))
    (found,) = differences([(base, new)])
    assert found.response == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("shared", [False, True])
def test_the_error_of_a_response_is_what_it_is_off_by(shared: bool) -> None:
    """Responses of 0.7 to 1.7 over cases whose canaries moved by 0.5 to 4 %, with luck of their own or of the process."""
    draw, off = np.random.default_rng(9), []
    for _ in range(60):
        machines = [0.02 * draw.standard_normal(PROCESSES) for _ in range(2)]
        lucks = [0.02 * draw.standard_normal(PROCESSES) for _ in range(2)]
        cases, truths = [], 1.2 + CASES_SPREAD * np.clip(draw.standard_normal(8), -1, 1)
        for truth, size in zip(truths, np.geomspace(0.25, 2, 8), strict=True):
            sides = []
            for machine, luck in zip(machines, lucks, strict=True):
                moved = size * (machine if shared else 0.02 * draw.standard_normal(PROCESSES))
                quiet = side(draw, moved, response=truth)
                own_luck = luck if shared else 0.02 * draw.standard_normal(PROCESSES)
                sides.append(Side([case + one for case, one in zip(quiet.case, own_luck, strict=True)], quiet.canary))
            cases.append((sides[0], sides[1]))
        found = two_runs._responses(two_runs._levels(cases))
        off += [(one.slope - truth) / one.error for one, truth in zip(found, truths, strict=True)]
    assert 0.7 < np.std(off) < (1.19 if shared else 1.1)


def test_one_case_whose_canary_moved_far_does_not_speak_for_all() -> None:
    draw = np.random.default_rng(10)
    others = [runs(draw, 1)[0] for _ in range(6)]
    far = tuple(side(draw, 0.5 * draw.standard_normal(PROCESSES), response=2.5) for _ in range(2))
    case, canary = two_runs._around_means(two_runs._levels([*others, far]))  # type: ignore[list-item]
    common, known = two_runs._common_response(case, canary, 1.0, 1e-4)
    assert common < 1.25 and known > 0.1


def test_the_slope_that_was_fitted_is_no_freedom_of_the_noise() -> None:
    """Canaries of two processes a run move by 1 up and down, the case by 1.1 and by 0.9 of it: a slope of 1 +- 0.1."""
    still = np.zeros(SHARES)
    canary = (still - 1, still + 1)
    base, new = (Side(tuple(b * one for one in canary), canary) for b in (1.1, 0.9))
    (found,) = two_runs._responses(two_runs._levels([(base, new)]))
    assert (found.slope, found.error) == (pytest.approx(1, abs=0.01), pytest.approx(0.1, rel=0.1))


def test_where_nothing_tells_the_response_it_stays_unknown() -> None:
    still = Side((np.zeros(SHARES),) * PROCESSES, (np.zeros(SHARES),) * PROCESSES)
    moved = Side((np.full(SHARES, 0.1),) * PROCESSES, (np.full(SHARES, 0.1),) * PROCESSES)
    (found,) = differences([(still, moved)])
    assert found.unknown == pytest.approx(0.1 * math.hypot(PRIOR_SPREAD, CASES_SPREAD), rel=0.01)


def test_what_all_cases_answer_alike_is_learnt_from_all_of_them() -> None:
    draw, alone, among = np.random.default_rng(8), [], []
    for _ in range(20):
        luck = [(0.02 * draw.standard_normal(PROCESSES), 0.02 * draw.standard_normal(PROCESSES)) for _ in range(12)]
        several = [(_lucky(draw, base, 2.0), _lucky(draw, new, 2.0)) for base, new in luck]
        alone += [differences([one])[0].response for one in several]
        among += [one.response for one in differences(several)]
    assert abs(np.mean(among) - 2) < abs(np.mean(alone) - 2) / 2
    assert np.std(among) < np.std(alone)


def test_the_mean_knows_that_cases_of_one_process_share_its_luck() -> None:
    draw, held, narrow = np.random.default_rng(6), [], []
    for _ in range(100):
        luck = [0.02 * draw.standard_normal(PROCESSES) for _ in range(2)]
        pairs = [tuple(_lucky(draw, one) for one in luck) for _ in range(8)]
        found = differences(pairs)  # type: ignore[arg-type]
        mean = mean_difference(found).interval()
        independent = math.hypot(*(math.log(one.joined.interval().high) - one.joined.log for one in found)) / 8
        held.append(mean.low <= 1 <= mean.high)
        narrow.append(independent < math.log(mean.high / mean.value))
    assert np.mean(held) >= 0.94
    assert np.mean(narrow) >= 0.95


def _lucky(draw: np.random.Generator, luck: np.ndarray, response: float | None = None) -> Side:
    """A process's luck that its canary does not see, on a machine that stands still or moves by 2 %."""
    machine = 0.02 * draw.standard_normal(PROCESSES) if response else np.zeros(PROCESSES)
    quiet = side(draw, machine, response=response or 1.0)
    return Side(tuple(case + one for case, one in zip(quiet.case, luck, strict=True)), quiet.canary)


def test_a_side_is_what_each_process_recorded_share_by_share() -> None:
    (found,) = sides_from([joined([part(number, 1000 * (number + 1)) for number in range(3)], 3, 0.01)])
    assert found is not None
    assert [len(shares) for shares in found.case] == [4, 4, 4]
    levels = [[np.exp(np.median(shares)) for shares in one] for one in found]
    assert levels == [pytest.approx([1000, 2000, 3000]), pytest.approx([50_000] * 3)]


def test_sides_of_many_measurements_are_what_each_is_alone() -> None:
    unlike = joined([part(number, 1000 * (number + 1)) for number in range(3)], 3, 0.01)
    lines = [several(seed=1), unlike, joined([part(0)], 1, 0.01), several(2_000_000, processes=3), several(seed=2)]
    for together, line in zip(sides_from(lines), lines, strict=True):
        (alone,) = sides_from([line])
        assert (together is None) == (alone is None) == (line is lines[2])
        if together and alone:
            for one, other in zip(together, alone, strict=True):
                assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_shares_of_turns_that_alternate_between_processes_go_to_their_own() -> None:
    alone = [several(seed=number, processes=2) for number in range(2)]
    lines = [replace(one, slots=None) for one in alone]
    turns = [turn for line in lines for turn in line.turns]  # of processes 0, 1, 0, 1
    both = replace(
        lines[0],
        samples_ns=[ns for line in lines for ns in line.samples_ns],
        canary_ns=[ns for line in lines for ns in line.canary_ns],
        turns=turns,
    )
    (found,) = sides_from([both])
    assert found
    for shares, name in ((found.case, "samples_ns"), (found.canary, "canary_ns")):
        for process in (0, 1):
            blocks = [np.log(np.reshape(getattr(line, name), (2, 8, -1))[process]) for line in lines]
            assert shares[process] == pytest.approx(np.concatenate([np.median(one, axis=1) for one in blocks]))


def test_a_turn_without_samples_is_no_side() -> None:
    line = several()
    empty = replace(line.turns[0], process=4, samples=0, canary=0, shares=1)
    assert sides_from([line, replace(line, turns=[*line.turns, empty])])[1] is None


def test_runs_are_known_to_differ_by_what_was_seen_beside_their_canary() -> None:
    still = Side((np.zeros(SHARES),) * PROCESSES, (np.zeros(SHARES),) * PROCESSES)
    names = (
        *("hot fp32 64x64x64, numpy 2", "cold fp32 64x64x64 and 4 of 256 MiB, numpy 2"),
        *("cold fp32 16x64x256 in 256 MiB, numpy 2", "a stranger's"),
    )
    errors = [two_runs.differences([(still, still)], run_spread(name))[0].joined.error for name in names]
    assert errors == pytest.approx([0.008, 0.008, 0.025, 0.025])


def test_without_processes_or_canary_there_is_no_side() -> None:
    bare = [part(n, canary=None, canary_ns=[], turns=[]) for n in range(3)]
    assert sides_from([joined([part(0)], 1, 0.01), joined(bare, 3, 0.01)]) == [None, None]


def test_slots_are_told_apart_by_whatever_numbers() -> None:
    found = sides_from([several(), several(slots=[7 + 3 * slot for slot in range(16)] * 10)])
    assert found[0] is not None and found[1] is not None
    assert all(np.array_equal(a, b) for a, b in zip(found[0].case, found[1].case, strict=True))

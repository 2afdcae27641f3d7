"""What earlier runs say of a machine."""

import math

import numpy as np
import pytest

from results.gate import gate
from results.history import GENERAL_WORTH, LEAST_PAIRS, learnt, spreads_of
from results.pairs import LEVEL, Joined, holm
from results.store import RunFile
from results.two_runs import SEVERAL_THREADS, run_spread
from tests.results.conftest import OLMOE, WriteRun, run_header, several

CASES = [OLMOE.replace("t16", f"t{n}") for n in range(1, 7)]
HOT = run_spread("hot planted")
"""What runs of machines in general differ by beside the planted canary."""


@pytest.fixture
def runs(write_run: WriteRun) -> list[RunFile]:
    """Ten runs, each of its own luck of 3 % that no canary sees; after the fourth one case became twice as slow for good."""
    luck = [0.0, 0.03, -0.03, 0.01, -0.02, 0.03, 0.0, -0.03, 0.02, -0.01]
    found = []
    for number, log in enumerate(luck):
        paces = [1_000_000 * math.exp(log) * (2 if case == CASES[0] and number > 3 else 1) for case in CASES]
        lines = (
            several(pace, case=case, seed=10 * number + n)
            for n, (pace, case) in enumerate(zip(paces, CASES, strict=True))
        )
        header = run_header(started_utc=f"2030-01-{number + 1:02}T00:00:00Z")
        found.append(write_run(*lines, name=f"run{number}", header=header))
    return found


def test_runs_that_follow_each_other_say_what_equal_code_differs_by(runs: list[RunFile]) -> None:
    """The nine differences are 3 to 6 %, in the middle 3 %: that is what a spread of 4.4 % gives."""
    own = 0.03 / 0.6745
    expected = math.sqrt((GENERAL_WORTH * HOT**2 + 9 * own**2) / (GENERAL_WORTH + 9))
    assert spreads_of(runs)["hot planted"] == pytest.approx(expected, rel=0.1)
    assert spreads_of(list(reversed(runs))) == spreads_of(runs)


def test_runs_on_several_threads_speak_of_themselves_alone(runs: list[RunFile]) -> None:
    for one in runs:
        one.run.environment["targets"]["torch:cpu"] = {"name": "Test CPU", "unit": "host", "threads": 2}
    assert list(spreads_of(runs)) == [f"hot planted{SEVERAL_THREADS}"]


def test_however_many_cases_they_have_too_few_runs_say_nothing(runs: list[RunFile]) -> None:
    assert spreads_of(runs[:LEAST_PAIRS]) == {}
    assert spreads_of(runs[: LEAST_PAIRS + 1])


def test_the_gate_of_a_machine_that_wanders_is_more_patient(runs: list[RunFile]) -> None:
    base, new = runs[2], runs[1]
    assert gate(base, new).of("slower")
    assert not gate(base, new, spreads=spreads_of(runs)).of("slower")


def test_calm_runs_leave_less_than_machines_have_in_general_and_more_than_nothing() -> None:
    least = HOT * math.sqrt(GENERAL_WORTH / (GENERAL_WORTH + LEAST_PAIRS))
    assert learnt([[(0.0, 0.001)] * 6] * LEAST_PAIRS, HOT) == pytest.approx(least)
    assert learnt([[(0.0, 0.001)] * 6] * 2 * LEAST_PAIRS, HOT) < least


GENERAL = run_spread("cold planted")


def gated(draw: np.random.Generator, spread: float, shared: bool, effect: float) -> list[bool]:
    """Which of nine cases is slower, by as few runs as say anything; luck of that spread is all cases' or each one's."""
    luck = spread / math.sqrt(2) * draw.standard_normal((LEAST_PAIRS + 3, 1 if shared else 9)) + np.zeros(9)
    log = np.vstack([np.diff(luck[:-2], axis=0), luck[-1] - luck[-2] + math.log1p(effect)])
    *pairs, now = (log + 0.004 * draw.standard_normal(log.shape)).tolist()
    learned = learnt([[(one, 0.004) for one in pair] for pair in pairs], GENERAL)
    return holm([Joined(one, math.hypot(0.004, learned), 40, 5).p_above(0.01) for one in now], LEVEL / 2)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("spread", [GENERAL / 2, GENERAL, 2 * GENERAL])
def test_a_history_makes_no_gate_cry_wolf(spread: float, shared: bool) -> None:
    draw = np.random.default_rng(1)
    assert np.mean([any(gated(draw, spread, shared, 0.0)) for _ in range(300)]) <= 0.05


@pytest.mark.parametrize("shared", [True, False])
def test_five_percent_are_seen_on_a_machine_whose_history_is_calm(shared: bool) -> None:
    draw = np.random.default_rng(2)
    assert np.mean([gated(draw, GENERAL / 10, shared, 0.05) for _ in range(100)]) >= 0.95

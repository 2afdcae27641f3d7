"""What earlier runs say of a machine."""

import math

import pytest

from results.gate import gate
from results.history import LEAST_DIFFERENCES, spreads_of
from results.store import RunFile
from tests.results.conftest import OLMOE, WriteRun, run_header, several

CASES = [OLMOE.replace("t16", f"t{n}") for n in range(1, 7)]


@pytest.fixture
def runs(write_run: WriteRun) -> list[RunFile]:
    """Six runs, each of its own luck of 3 % that no canary sees; after the fourth one case became twice as slow for good."""
    luck = [0.0, 0.03, -0.03, 0.01, -0.02, 0.03]
    found = []
    for number, log in enumerate(luck):
        paces = [1_000_000 * math.exp(log) * (2 if case == CASES[0] and number > 3 else 1) for case in CASES]
        lines = (
            several(pace, case=case, seed=10 * number + n)
            for n, (pace, case) in enumerate(zip(paces, CASES, strict=True))
        )
        header = run_header(started_utc=f"2030-01-0{number + 1}T00:00:00Z")
        found.append(write_run(*lines, name=f"run{number}", header=header))
    return found


def test_runs_that_follow_each_other_say_what_equal_code_differs_by(runs: list[RunFile]) -> None:
    assert spreads_of(runs)["hot planted"] == pytest.approx(0.045, rel=0.35)
    assert spreads_of(list(reversed(runs))) == spreads_of(runs)


def test_too_few_differences_say_nothing(runs: list[RunFile]) -> None:
    assert len(CASES) * 2 < LEAST_DIFFERENCES
    assert spreads_of(runs[:3]) == {}


def test_the_gate_of_a_machine_that_wanders_is_more_patient(runs: list[RunFile]) -> None:
    base, new = runs[2], runs[1]
    assert gate(base, new).of("slower")
    assert not gate(base, new, spreads=spreads_of(runs)).of("slower")


def test_calm_runs_leave_no_spread(write_run: WriteRun) -> None:
    calm = []
    for number in range(6):
        lines = [several(case=case, seed=10 * number + n) for n, case in enumerate(CASES)]
        calm.append(write_run(*lines, name=f"calm{number}"))
    assert spreads_of(calm)["hot planted"] < 0.003

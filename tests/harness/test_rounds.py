"""Rounds: every case once in each, in another order, and nothing twice."""

from __future__ import annotations

import pytest

from harness.plan import Options, Step
from harness.rounds import Rounds, order_of
from results.record import Check, Measurement, Noise, Part, Turn
from workloads.case import Case, UserError

CASES = [Case.parse(f"moe-layer/olmoe-1b-7b/ep1/t{n}/fp32/balanced/latency") for n in range(1, 9)]
STEPS = [
    Step(case, "d" * 64, target, name, "portable")
    for case in CASES
    for target in ("torch:cpu", "ort:cpu")
    for name in ("sorted", "grouped")
]


def part(step: Step, process: int, status: str = "ok") -> Part:
    fields = {
        "case": step.case.id,
        "case_digest": step.case_digest,
        "target": step.target,
        "implementation": step.implementation,
        "division": "portable",
        "status": status,
        "process": process,
    }
    if status == "ok":
        turn = Turn(process=process, samples=16, noise=Noise(wall_ns=1))
        check = Check(passed=True, before=True, after=True)
        fields |= {"samples_ns": [1000] * 16, "slots": list(range(16)), "turns": [turn], "check": check}
    return Part(**fields)  # type: ignore[arg-type]


def test_every_round_has_every_step_in_an_order_of_its_own() -> None:
    orders = [[step.key for step in order_of(STEPS, f"seed {number}")] for number in range(5)]
    assert all(sorted(order) == sorted(step.key for step in STEPS) for order in orders)
    assert len({tuple(order) for order in orders}) == 5


def test_the_order_is_the_same_for_every_run_of_a_selection() -> None:
    assert order_of(STEPS, "seed 1") == order_of(STEPS, "seed 1")


def test_what_will_be_compared_stays_together() -> None:
    order = order_of(STEPS, "seed 2")
    assert [step.case.id for step in order] == [step.case.id for step in order[::4] for _ in range(4)]
    assert [step.target for step in order] == [step.target for step in order[::2] for _ in range(2)]


def test_a_round_goes_on_where_it_was_cut_off() -> None:
    whole = Rounds(STEPS, 3, "seed").todo(1)
    before = [part(step, 0) for step in STEPS] + [part(step, 1) for step in whole[:5]]
    rounds = Rounds(STEPS, 3, "seed", before)
    assert (rounds.todo(0), rounds.todo(1)) == ([], whole[5:])
    assert (rounds.done, rounds.visits) == (len(STEPS) + 5, 3 * len(STEPS))


def test_a_process_that_failed_ends_its_case_and_no_other() -> None:
    rounds = Rounds(STEPS, 3, "seed", [part(step, 0, "crashed" if step is STEPS[3] else "ok") for step in STEPS])
    assert {step.key for step in rounds.todo(1)} == {step.key for step in STEPS if step is not STEPS[3]}
    assert rounds.measurement(STEPS[3], 0.01).status == "crashed"
    assert isinstance(rounds.measurement(STEPS[0], 0.01), Measurement)


def test_later_processes_learn_the_form_of_samples_from_an_earlier_one() -> None:
    rounds = Rounds(STEPS, 3, "seed")
    assert rounds.earlier(STEPS[0]) is None
    rounds.take(part(STEPS[0], 0))
    assert rounds.earlier(STEPS[0]) == part(STEPS[0], 0)


@pytest.mark.parametrize("processes", [0, -1, 101])
def test_a_number_of_processes_that_cannot_be_meant_is_refused(processes: int) -> None:
    with pytest.raises(UserError, match="--processes"):
        Options(processes=processes)


def test_the_budget_is_split_over_the_processes() -> None:
    assert Options(budget_s=5.0, processes=5).budget_each_s("latency") == 1.0

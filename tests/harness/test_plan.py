"""From words to steps: which cases, in which order, by which implementations."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.plan import Offer, Options, Selection, parse_targets, plan_steps, select
from workloads.case import Case, UserError

CASES = tuple(Case.parse(f"moe-layer/olmoe-1b-7b/ep1/t{n}/fp32/balanced/latency") for n in (1, 2))
QUEUED = Case.parse("moe-layer/olmoe-1b-7b/ep1/t1/fp32/balanced/throughput")


def offer(target: str, *implementations: tuple[str, str, str | None], synchronous: bool = True) -> Offer:
    facts = {"runtime": "any", "device_type": "cpu", "synchronous": synchronous}
    return Offer(target, facts, "clock", {}, {case.id: ("d" * 64, implementations) for case in (*CASES, QUEUED)})


SORTED, GROUPED = ("sorted", "portable", None), ("grouped", "closed", None)
ODD, OPEN = ("dense", "closed", "64 times the work"), ("rounded", "open", None)


def steps_of(cases: tuple[Case, ...], offers: list[Offer], asked: tuple[str, ...] = ()) -> list[tuple[str, str, str]]:
    return [step.key for step in plan_steps(Selection(("x",), "d", cases), offers, asked)[0]]


def test_cases_are_outside_targets_inside_implementations_innermost() -> None:
    found = steps_of(CASES, [offer("a", SORTED, GROUPED), offer("b", SORTED)])
    each = [("a", "sorted"), ("a", "grouped"), ("b", "sorted")]
    assert found == [(case.id, *one) for case in CASES for one in each]


def test_unsuited_and_open_ones_are_left_out_and_named_with_their_cases() -> None:
    _, left = plan_steps(Selection(("x",), "d", CASES), [offer("a", SORTED, ODD, OPEN)], ())
    assert [(one.implementation, one.reason, len(one.cases)) for one in left] == [
        ("dense", "64 times the work", 2),
        ("rounded", "open division: ask for it by name", 2),
    ]


def test_an_implementation_that_is_asked_for_runs_suited_or_not() -> None:
    found = steps_of(CASES[:1], [offer("a", SORTED, ODD, OPEN)], ("dense", "rounded"))
    assert [name for _, _, name in found] == ["dense", "rounded"]


def test_a_target_that_lacks_the_asked_implementation_is_named() -> None:
    _, left = plan_steps(Selection(("x",), "d", CASES), [offer("a", SORTED, GROUPED), offer("b", SORTED)], ("grouped",))
    assert [(one.target, one.implementation, len(one.cases)) for one in left] == [("b", "grouped", 2)]


def test_an_implementation_that_nothing_has_is_a_mistake_that_lists_what_there_is() -> None:
    with pytest.raises(UserError, match="there are grouped, sorted"):
        steps_of(CASES, [offer("a", SORTED, GROUPED)], ("magic",))


def test_a_workload_without_an_implementation_for_a_runtime_is_recorded_as_unsupported() -> None:
    steps, _ = plan_steps(Selection(("x",), "d", CASES[:1]), [offer("a")], ())
    assert [(step.implementation, step.reason) for step in steps] == [
        ("none", "moe-layer has no implementation for any yet")
    ]


@pytest.mark.parametrize(("synchronous", "count"), [(True, 0), (False, 1)])
def test_a_scenario_that_a_star_chose_runs_only_where_calls_queue(synchronous: bool, count: int) -> None:
    selection = Selection(("x",), "d", (QUEUED,), any_scenario=frozenset({QUEUED}))
    assert len(plan_steps(selection, [offer("a", SORTED, synchronous=synchronous)], ())[0]) == count


def test_a_case_named_twice_runs_once_and_the_digest_follows_the_words() -> None:
    one, two = select([CASES[0].id]), select([CASES[0].id, CASES[0].id])
    assert one.cases == two.cases == CASES[:1]
    assert one.digest == select([CASES[0].id]).digest != select([CASES[1].id]).digest


def test_a_suite_brings_its_budget_and_a_file_only_its_stem(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "workloads/suites/ci.toml").read_text()
    (tmp_path / "mine.toml").write_text(text)
    shipped, mine = select(["ci"]), select([str(tmp_path / "mine.toml")])
    assert mine.words == ("mine",)
    assert (mine.cases, mine.budget_s) == (shipped.cases, shipped.budget_s)


def test_a_target_keeps_its_interpreter_but_is_recorded_without_it() -> None:
    (name,) = parse_targets(["ort:cpu?threads=1@.venv-ov"])
    assert (name.interpreter, name.recorded) == (".venv-ov", "ort:cpu?threads=1")


@pytest.mark.parametrize(
    "wrong", [{"precision": 0.0}, {"precision": 1.0}, {"budget_s": 0.0}, {"timeout_s": -1.0}, {"sustain_s": 0.0}]
)
def test_numbers_that_cannot_be_meant_are_mistakes(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match="--"):
        Options(**wrong)

"""Duels of planted durations: verdicts to the digit, exit codes, and one side failing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from playing import Stage, drill

CASES = (drill(1), drill(4))
STARTS = "echo >> starts-of-b; starts=$(wc -l < starts-of-b)"
"""A wrapper script's line that counts how often a duel has started it: workers share a scratch folder."""
OF_TWO_KINDS = "export NULL_CALL_NS=$((800000 + starts % 2 * 400000))"
"""One process takes a fifth less than A, the next one a fifth more: no number of pairs decides which it is."""


def side(stage: Stage, name: str, *more: str, **variables: str) -> str:
    """An interpreter whose null target behaves as told: a wrapper script, as a user would write one; `more` are lines of it."""
    path = stage.folder / name
    lines = [*more, *(f"export {key}={value}" for key, value in variables.items())]
    path.write_text("\n".join(["#!/bin/sh", *lines, f'exec {sys.executable} "$@"', ""]))
    path.chmod(0o755)
    return str(path)


def fought(
    stage: Stage,
    b: dict[str, str],
    *more: str,
    a: dict[str, str] | None = None,
    script: tuple[str, ...] = (),
    cases: tuple[str, ...] = CASES,
    target: str = "null:x",
) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, decisions and standard error of a duel whose sides have these variables; `script`: more lines of B's."""
    sides = ("--a", side(stage, "a", **(a or {})), "--b", side(stage, "b", *script, **b))
    done = stage.play("duel", *cases, *sides, "--target", target, "--budget", "500ms", "--json", *more)
    rows = json.loads(done.stdout)["decisions"] if done.stdout else []
    return done.returncode, rows, done.stderr


def test_equal_sides_are_the_same_and_exit_0(stage: Stage) -> None:
    code, rows, _ = fought(stage, {})
    assert code == 0
    assert [(row["verdict"], row["ratio"]) for row in rows] == [("same", pytest.approx(1.0))] * 2


@pytest.mark.parametrize(("call_ns", "code", "word"), [("1030000", 1, "slower"), ("970000", 0, "faster")])
def test_three_percent_is_seen_to_the_digit(stage: Stage, call_ns: str, code: int, word: str) -> None:
    found, rows, said = fought(stage, {"NULL_CALL_NS": call_ns})
    assert found == code
    assert {row["verdict"] for row in rows} == {word}
    assert rows[0]["ratio"] == pytest.approx(int(call_ns) / 1e6, abs=5e-4)
    assert "a second look at 2 of 2 cases" in said
    # Over as soon as the pairs of both decide.
    assert (said.count("round 2 of 5"), said.count("round 2 of 10"), said.count("round 3 of")) == (1, 1, 1)


def test_a_change_below_the_threshold_is_no_change(stage: Stage) -> None:
    code, rows, _ = fought(stage, {"NULL_CALL_NS": "1005000"})
    assert (code, {row["verdict"] for row in rows}) == (0, {"same"})
    code, rows, _ = fought(stage, {"NULL_CALL_NS": "1005000"}, "--threshold", "0.1%")
    assert (code, {row["verdict"] for row in rows}) == (1, {"slower"})


FAILURES = [
    ("abort", "B crashed: killed by SIGABRT"),
    ("wrong", "B is wrong"),
    ("error", "B is error: RuntimeError: no kernel"),
]


@pytest.mark.parametrize(("fault", "said"), FAILURES)
def test_a_b_that_is_broken_where_a_is_not_fails_and_exits_1(stage: Stage, fault: str, said: str) -> None:
    code, rows, _ = fought(stage, {"NULL_FAULT": fault})
    assert code == 1
    assert [row["verdict"] for row in rows] == ["failed"] * 2
    assert all(row["reason"].startswith(said) for row in rows)


BLAMELESS = [
    ("abort", "", "A crashed: killed by SIGABRT"),
    ("abort", "abort", "A crashed: killed by SIGABRT; B crashed"),
    ("wrong", "wrong", "A is wrong"),
    ("", "unsupported", "B is unsupported"),
    ("", "out-of-memory", "B is out-of-memory"),
]


@pytest.mark.parametrize(("a", "b", "said"), BLAMELESS)
def test_what_is_not_b_s_fault_alone_is_not_comparable_and_exits_2(stage: Stage, a: str, b: str, said: str) -> None:
    code, rows, _ = fought(stage, {"NULL_FAULT": b}, a={"NULL_FAULT": a})
    assert code == 2
    assert [row["verdict"] for row in rows] == ["not comparable"] * 2
    assert all(row["reason"].startswith(said) for row in rows)


@pytest.mark.parametrize("beyond", [drill(1, dtype="fp16"), drill(1, workload="drill+vast")])
def test_what_neither_side_can_do_is_left_out_and_said_once(stage: Stage, beyond: str) -> None:
    code, rows, said = fought(stage, {}, cases=(beyond, drill(4)))
    assert (code, [row["case"] for row in rows]) == (0, [drill(4)])
    assert f"{beyond} is left out: A is " in said
    assert said.count(beyond) == 1


def test_a_report_names_what_was_left_out(stage: Stage) -> None:
    fought(stage, {}, "--junit", "duel.xml", cases=(drill(1, dtype="fp16"), drill(4)))
    suite = ET.fromstring((stage.folder / "duel.xml").read_text())[0]
    assert (suite.get("tests"), suite.get("skipped")) == ("2", "1")


def test_where_all_is_left_out_nothing_is_compared_and_it_exits_2(stage: Stage) -> None:
    code, rows, said = fought(stage, {}, cases=(drill(1, dtype="fp16"),))
    assert (code, rows) == (2, [])
    assert f"moemark: there is no comparable case, for instance {drill(1, dtype='fp16')}: A is unsupported" in said


def test_a_side_that_does_not_start_again_costs_only_what_is_undecided(stage: Stage) -> None:
    once, wrong = (STARTS, '[ "$starts" -ge 2 ] && exit 7'), {"NULL_FAULT": "wrong"}
    code, rows, said = fought(stage, {}, "-o", "duel.json", a=wrong, script=once, target="null:x?case=t4")
    reasons = {row["case"]: row["reason"] for row in rows}
    assert reasons[drill(1)] == "side B does not open: exited with code 7"
    assert reasons[drill(4)].startswith("A is wrong")
    assert (code, said.count("tried once more")) == (2, 1)
    assert len(json.loads((stage.folder / "duel.json").read_text())["decisions"]) == 2


def test_what_ten_more_pairs_do_not_decide_either_is_unsure(stage: Stage) -> None:
    code, rows, said = fought(stage, {}, "-o", "duel.json", script=(STARTS, OF_TWO_KINDS), cases=CASES[:1])
    assert (code, rows[0]["verdict"], rows[0]["pairs"]) == (3, "unsure", 15)
    assert "round 10 of 10: 1 of 1 cases decided" in said
    contest = json.loads((stage.folder / "duel.json").read_text())["contests"][0]
    assert (len(contest["pairs"]), contest["pairs_again"]) == (15, 10)


def test_of_a_second_look_that_a_side_does_not_start_for_any_more_the_pairs_count(stage: Stage) -> None:
    script = (STARTS, OF_TWO_KINDS, '[ "$starts" -ge 9 ] && exit 7')
    code, rows, said = fought(stage, {}, script=script, cases=CASES[:1])
    assert (code, rows[0]["verdict"], rows[0]["pairs"]) == (3, "unsure", 8)
    assert "side B does not open: exited with code 7: 1 cases are left as they are" in said


LATE = "$([ $(cat starts-of-b | wc -l) -ge 7 ] && echo wrong)"
"""A fault in the second look, whose processes are the sixth to the fifteenth."""


@pytest.mark.parametrize(
    ("a", "b", "code", "word", "reason"),
    [("", LATE, 1, "failed", "B is wrong"), (LATE, "", 3, "unsure", "its second look failed: A is wrong")],
)
def test_a_side_that_is_broken_in_a_second_look(
    stage: Stage, a: str, b: str, code: int, word: str, reason: str
) -> None:
    script = (STARTS, OF_TWO_KINDS)
    found, rows, _ = fought(stage, {"NULL_FAULT": b}, a={"NULL_FAULT": a}, script=script, cases=CASES[:1])
    assert (found, rows[0]["verdict"]) == (code, word)
    assert rows[0]["reason"].startswith(reason)


def test_a_start_that_fails_once_costs_nothing(stage: Stage) -> None:
    code, rows, said = fought(stage, {}, script=(STARTS, '[ "$starts" = 2 ] && exit 7'))
    assert (code, {row["verdict"] for row in rows}) == (0, {"same"})
    assert said.count("side B does not open: exited with code 7: tried once more") == 1


def test_calls_too_short_for_the_clock_are_batched(stage: Stage) -> None:
    slow, fast = ({"NULL_CALL_NS": ns, "NULL_STEP_NS": "10", "NULL_CLOCK_NS": "500"} for ns in ("10300", "10000"))
    sides = ("--a", side(stage, "a", **fast), "--b", side(stage, "b", **slow), "--threshold", "5%", "--same", "6%")
    done = stage.play("duel", drill(1), *sides, "--target", "null:x", "--budget", "50ms", "--json")
    (row,) = json.loads(done.stdout)["decisions"]
    assert row["verdict"] == "same"  # what is called slower would be looked at twice
    assert row["ratio"] == pytest.approx(10_375 / 10_075, abs=1e-3)  # 1.0284 if each call paid for the clock


def test_two_implementations_within_one_environment(stage: Stage) -> None:
    words = ("duel", drill(8), "--impl-a", "plain", "--impl-b", "grouped", "--target", "null:x", "--budget", "500ms")
    done = stage.play(*words)
    assert done.returncode == 0
    assert "plain / grouped" in done.stdout
    assert "same" in done.stdout


def test_a_case_that_has_no_implementation_of_the_asked_name_is_left_out_and_said(stage: Stage) -> None:
    words = ("duel", drill(1), drill(8), "--impl-a", "plain", "--impl-b", "fused", "--target", "null:x", "--json")
    done = stage.play(*words, "--budget", "500ms", NULL_FUSED="1")
    assert done.returncode == 0
    assert [row["case"] for row in json.loads(done.stdout)["decisions"]] == [drill(8)]
    assert done.stderr.count("left out (1 cases): side B has no 'fused' of drill: there are plain, grouped") == 1


def test_an_implementation_that_b_has_lost_is_not_left_out_but_not_comparable(stage: Stage) -> None:
    both = ("--impl-a", "fused", "--impl-b", "fused")
    code, rows, _ = fought(stage, {}, *both, a={"NULL_FUSED": "1"}, cases=(drill(8),))
    assert (code, rows[0]["verdict"]) == (2, "not comparable")
    assert rows[0]["reason"].startswith("side B has no 'fused' of drill")


def test_every_turn_is_written_and_no_file_is_lost(stage: Stage) -> None:
    fought(stage, {}, "-o", "duel.json")
    document = json.loads((stage.folder / "duel.json").read_text())
    turns = document["contests"][0]["pairs"][0]
    assert len(document["contests"]) == 2
    assert len(turns) >= 20
    assert {turn[0] for turn in turns} == {"A", "B"}
    code, _, said = fought(stage, {}, "-o", "duel.json")
    assert (code, said) == (2, "moemark: duel.json exists: --force replaces it\n")


def test_a_ci_gets_a_test_report_and_a_summary(stage: Stage) -> None:
    code, _, _ = fought(stage, {"NULL_CALL_NS": "1030000"}, "--junit", "duel.xml", "--summary", "summary.md")
    suite = ET.fromstring((stage.folder / "duel.xml").read_text())[0]
    assert (code, suite.get("tests"), suite.get("failures")) == (1, "2", "2")
    assert suite.get("name") == "moemark duel: B against A on null:x"
    assert "| slower |" in (stage.folder / "summary.md").read_text()


@pytest.mark.parametrize("option", ["--junit", "--summary", "-o"])
def test_a_report_that_cannot_be_written_is_refused_before_the_fight(stage: Stage, option: str) -> None:
    code, rows, said = fought(stage, {}, option, "nowhere/file")
    assert (code, rows) == (2, [])
    assert said == f"moemark: nowhere/file cannot be written: name a file in a writable folder after {option}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "nothing to compare: give --a and --b"),
        (("--impl-a", "plain", "--impl-b", "nonsense"), "side B has no 'nonsense'"),
        (("--a", "nowhere", "--b", "x"), "no python at 'nowhere'"),
        (("--a", ".", "--b", "x", "--target", "null:x@y"), "names an interpreter"),
    ],
)
def test_a_mistake_is_one_line_and_exits_2(stage: Stage, words: tuple[str, ...], said: str) -> None:
    target = () if "--target" in words else ("--target", "null:x")
    done = stage.play("duel", drill(8), *words, *target)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(Path(stage.folder).glob("*.json"))


NEIGHBOUR_SEEN = "import harness.duel; harness.duel.contended = lambda noise, cores: noise.wall_ns > 0 < cores"
GOING_ON = (
    "import functools; from harness import duel, duelling; "
    "duelling.DuelOptions = functools.partial(duel.DuelOptions, stop_early=False)"
)
SIX = tuple(drill(tokens) for tokens in (1, 2, 4, 8, 16, 32))


def of_changed(stage: Stage, lines: str, words: tuple[str, ...]) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and decisions of a moemark in which these lines of Python have changed something."""
    command = [sys.executable, "-c", f"{lines}; from harness.cli import main; main()", *words]
    done = subprocess.run(command, cwd=stage.folder, env=stage.environment, capture_output=True, text=True, timeout=200)
    return done.returncode, json.loads(done.stdout)["decisions"]


def test_decisions_during_which_a_neighbour_was_seen_are_named(stage: Stage) -> None:
    sides = ("--a", side(stage, "a"), "--b", side(stage, "b", NULL_CALL_NS="1030000"), "--target", "null:x")
    words = ("duel", *CASES, *sides, "--budget", "500ms", "--json")
    code, found = of_changed(stage, NEIGHBOUR_SEEN, words)
    assert code == 1
    assert [(row["contended"], row["verdict"]) for row in found] == [(7, "slower")] * 2


def test_of_a_second_look_that_failed_no_neighbour_is_named_either(stage: Stage) -> None:
    sides = ("--a", side(stage, "a", NULL_FAULT=LATE), "--b", side(stage, "b", STARTS, OF_TWO_KINDS))
    code, (found,) = of_changed(
        stage, NEIGHBOUR_SEEN, ("duel", CASES[0], *sides, "--target", "null:x", "--budget", "500ms", "--json")
    )
    assert (code, found["verdict"], found["pairs"], found["contended"]) == (3, "unsure", 5, 5)


def test_a_case_that_fails_after_its_decision_has_failed(stage: Stage) -> None:
    late = "$([ $(cat starts-of-b | wc -l) -ge 4 ] && echo wrong)"
    sides = ("--a", side(stage, "a"), "--b", side(stage, "b", STARTS, NULL_FAULT=late), "--target", "null:x?case=t32")
    code, found = of_changed(stage, GOING_ON, ("duel", *SIX, *sides, "--budget", "200ms", "--json"))
    assert (code, [row["verdict"] for row in found]) == (1, ["same"] * 5 + ["failed"])


def test_turns_of_what_is_decided_go_on_where_they_are_to_be_replayed(stage: Stage) -> None:
    sides = ("--a", side(stage, "a"), "--b", side(stage, "b"), "--target", "null:x", "-o", "on.json")
    code, found = of_changed(stage, GOING_ON, ("duel", *SIX, *sides, "--budget", "200ms", "--json"))
    document = json.loads((stage.folder / "on.json").read_text())
    assert (code, {(row["verdict"], row["pairs"]) for row in found}) == (0, {("same", 3)})
    assert {len(contest["pairs"]) for contest in document["contests"]} == {5}

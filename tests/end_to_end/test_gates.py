"""The gate as CI plays it: exit codes, the folder of baselines, and what it says."""

from __future__ import annotations

import json
import shutil
from xml.etree import ElementTree as ET

import pytest
from playing import Stage, drill

CASES = (drill(2), drill(8))


@pytest.fixture(scope="module")
def runs(shared_stage: Stage) -> Stage:
    """Recorded: two of equal code on machines that differ, a slower build; alone a broken and a right one."""
    conditions = {
        "base": {},
        "equal": {"NULL_MACHINE": "1.2"},
        "slower": {"NULL_CALL_NS": "1050000", "NULL_MACHINE": "0.9"},
        "broken": {"NULL_FAULT": "wrong"},
        "alone": {},
    }
    for name, variables in conditions.items():
        several = ("--processes", "1") if name in ("broken", "alone") else ("--processes", "5", "--budget", "300ms")
        words = ("run", *CASES, "--target", "null:a?canary_ns=100000&wander=0.1", *several, "-o", f"{name}.jsonl")
        done = shared_stage.play(*words, **variables)
        assert done.returncode == int(name == "broken"), done.stderr
    return shared_stage


@pytest.mark.parametrize(
    ("base", "new", "code", "said"),
    [
        ("base", "equal", 0, ""),
        ("base", "slower", 1, "3 of 3 cases are SLOWER"),
        ("slower", "base", 0, ""),
        ("base", "broken", 1, "3 of 3 cases FAILED that were ok before"),
        ("base", "alone", 0, "3 of 3 cases are UNSURE and pass"),
    ],
)
def test_the_exit_code_is_the_verdict(runs: Stage, base: str, new: str, code: int, said: str) -> None:
    done = runs.play("gate", f"{base}.jsonl", f"{new}.jsonl")
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 130


def test_unsure_fails_where_that_was_asked_for(runs: Stage) -> None:
    done = runs.play("gate", "base.jsonl", "alone.jsonl", "--undecided", "fail")
    assert done.returncode == 3
    assert "--processes 5" in done.stdout


@pytest.mark.parametrize("margins", [("--threshold", "8%", "--same", "7%"), ("--threshold", "8%")])
def test_the_margins_are_the_users(runs: Stage, margins: tuple[str, ...]) -> None:
    assert runs.play("gate", "base.jsonl", "slower.jsonl", *margins, "--undecided", "fail").returncode == 0


def test_it_speaks_json(runs: Stage) -> None:
    done = runs.play("gate", "base.jsonl", "slower.jsonl", "--json")
    rows = json.loads(done.stdout)["decisions"]
    assert [(row["outcome"], row["ratio"]) for row in rows] == [("slower", pytest.approx(1.0496, abs=2e-3))] * 3


def test_a_ci_gets_a_test_report_and_a_summary(runs: Stage) -> None:
    summary, report = runs.folder / "summary.md", runs.folder / "gate.xml"
    summary.write_text("")
    words = ("--junit", report.name, "--summary", summary.name)
    assert runs.play("gate", "base.jsonl", "slower.jsonl", *words).returncode == 1
    suite = ET.fromstring(report.read_text())[0]
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == (
        "moemark gate: slower against base",
        "3",
        "3",
    )
    assert runs.play("gate", "base.jsonl", "alone.jsonl", *words, "--undecided", "fail").returncode == 3
    assert ET.fromstring(report.read_text())[0].get("failures") == "3"
    said = summary.read_text()
    assert said.index("3 of 3 cases are SLOWER") < said.index("3 of 3 cases are UNSURE")
    shutil.rmtree(runs.folder / "first", ignore_errors=True)
    assert runs.play("gate", "--baseline", "first", "base.jsonl", *words).returncode == 0
    assert ET.fromstring(report.read_text())[0].get("skipped") == "1"
    assert "nothing was compared" in summary.read_text()
    assert runs.play("gate", "base.jsonl", "none.jsonl", *words).returncode == 2
    assert ET.fromstring(report.read_text())[0].get("errors") == "1"
    assert "none.jsonl is not there" in summary.read_text()


def test_a_run_is_the_same_as_itself_and_an_empty_file_name_is_none(runs: Stage) -> None:
    done = runs.play("gate", "base.jsonl", "base.jsonl", "--summary", "", "--junit", "")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_first_run_is_stored_and_the_next_compared_with_it(runs: Stage) -> None:
    folder = runs.folder / "baselines"
    shutil.rmtree(folder, ignore_errors=True)
    first = runs.play("gate", "--baseline", "baselines", "base.jsonl")
    assert (first.returncode, first.stdout) == (0, "")
    assert "no baseline of this machine yet: stored baselines/base.jsonl; nothing was compared" in first.stderr
    for name, code in (("equal", 0), ("slower", 1)):
        done = runs.play("gate", "--baseline", "baselines", f"{name}.jsonl")
        assert done.returncode == code, done.stderr
        assert "baseline: base, 20" in done.stderr
    assert [path.name for path in folder.iterdir()] == ["base.jsonl"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("base.jsonl",), "a gate needs two runs"),
        (("base.jsonl", "equal.jsonl", "--baseline", "."), "give one run"),
        (("base.jsonl", "none.jsonl"), "none.jsonl is not there"),
        (("--baseline", "base.jsonl", "equal.jsonl"), "--baseline needs a folder"),
    ],
)
def test_a_mistake_is_one_line_and_exits_2(runs: Stage, words: tuple[str, ...], said: str) -> None:
    done = runs.play("gate", *words)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert said in done.stderr

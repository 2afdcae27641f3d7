"""Only a record of which nothing is unknown that a ranking rests on is ranked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.stored import RECORDS, Line, forged, lines_of
from results.report.trust import Trust, judged
from results.store import read
from workloads.case import Case
from workloads.models import models
from workloads.registry import workload_names, workload_of


def renamed(lines: list[Line], old: str, new: str) -> list[Line]:
    """A word replaced wherever it stands, with the case digests that belong to it."""
    found: list[Line] = json.loads(json.dumps(lines).replace(old, new))
    for line in found:
        case = Case.parse(line["case"]) if "case" in line else None
        if case and case.workload in workload_names() and case.model in models():
            line["case_digest"] = case.digest(workload_of(case.workload).version)
    return found


def trust_in(lines: list[Line], folder: Path) -> Trust:
    (folder / "run.jsonl").write_bytes(forged(lines))
    return judged(read(folder / "run.jsonl"))


@pytest.mark.parametrize("name", ["one", "three"])
def test_what_an_honest_run_left_is_ranked(name: str) -> None:
    assert judged(read(RECORDS / f"{name}.jsonl.gz")) == Trust(True)


def test_planted_durations_are_never_ranked() -> None:
    found = judged(read(RECORDS / "power.jsonl.gz"))
    assert not found.verified and "null target" in found.reason


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("olmoe-1b-7b", "secret-1b", "not verified: cases of the model 'secret-1b', which is not known here"),
        ("moe-layer", "my-layer", "not verified: cases of the workload 'my-layer', which is not installed here"),
        ("zipf1.0", "trace-mine", "which this version cannot make (there is no routing profile 'trace-mine'"),
    ],
)
def test_work_that_cannot_be_computed_again_is_not_ranked(tmp_path: Path, old: str, new: str, said: str) -> None:
    found = trust_in(renamed(lines_of("one"), old, new), tmp_path)
    assert not found.verified and said in found.reason


def test_readings_of_a_clock_that_nobody_knows_are_not_ranked(tmp_path: Path) -> None:
    """A target of another package may have a clock of its own; what would give made up times away is unknown of it."""
    lines = renamed(lines_of("one"), "torch:cpu", "mine:cpu")
    for line in lines:
        if line.get("target") == "mine:cpu" and "clock" in line:
            line["clock"] = "events"
    found = trust_in(lines, tmp_path)
    assert not found.verified and "readings of the clock 'events'" in found.reason


def test_what_else_was_not_looked_at_is_passed_on(tmp_path: Path) -> None:
    lines = lines_of("one")
    lines[0]["selection"] = ["mine"]
    assert trust_in(lines, tmp_path) == Trust(
        True, "not verified: whether the suite 'mine', which is none of ours, was run whole"
    )

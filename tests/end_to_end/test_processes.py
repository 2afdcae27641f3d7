"""Runs of several processes: planted machines go out of the comparison, kills lose one turn, faults one case."""

from __future__ import annotations

import json
import random
import signal
import time
from collections import Counter

import numpy as np
import pytest
from playing import Stage, drill, end_of, wait_until

from results.store import RunFile, read

CASES = [drill(n) for n in (2, 3, 4)]
BESIDE = ("--processes", "5", "--budget", "500ms")
TARGET = "null:a?canary_ns=100000&wander=0.1"


def ran(stage: Stage, name: str, **variables: str) -> str:
    """A run of all cases under these planted conditions; its file."""
    done = stage.play("run", *CASES, "--target", TARGET, *BESIDE, "-o", name, **variables)
    assert done.returncode == 0, done.stderr
    return name


def compared(stage: Stage, base: str, new: str) -> list[dict[str, object]]:
    return json.loads(stage.play("compare", base, new, "--json").stdout)["comparisons"]


@pytest.fixture(scope="module")
def run_file(shared_stage: Stage) -> RunFile:
    ran(shared_stage, "run.jsonl")
    return read(shared_stage.record)


def test_each_case_has_one_measurement_in_the_plans_order_and_a_part_of_each_process(run_file: RunFile) -> None:
    assert [line.case for line in run_file.measurements] == CASES
    assert Counter((part.case, part.process) for part in run_file.parts) == Counter(
        {(case, process): 1 for case in CASES for process in range(5)}
    )


def test_every_round_visits_the_cases_in_another_order(run_file: RunFile) -> None:
    rounds = [[part.case for part in run_file.parts if part.process == number] for number in range(5)]
    assert len({tuple(order) for order in rounds}) > 1


def test_a_measurement_is_its_parts_and_each_part_was_checked(run_file: RunFile) -> None:
    for line in run_file.measurements:
        parts = sorted((part for part in run_file.parts if part.case == line.case), key=lambda part: part.process)
        assert line.samples_ns == [ns for part in parts for ns in part.samples_ns]
        assert line.canary_ns == [ns for part in parts for ns in part.canary_ns]
        assert [turn.process for turn in line.turns] == [0, 1, 2, 3, 4]
        assert all(part.check and part.check.before and part.check.after for part in parts)
        assert (line.processes, line.canary, line.canary_calls) == (5, "hot planted", 8)


def test_the_interval_is_over_processes(shared_stage: Stage, run_file: RunFile) -> None:
    """Student's t with 4 degrees of freedom over the logarithms of the planted paces."""
    row = json.loads(shared_stage.play("show", "run.jsonl", "--json").stdout)["measurements"][0]
    logs = np.log([1.0, 1.1, 0.9, 1.0, 1.1])
    half = 2.7764 * logs.std(ddof=1) / 5**0.5
    middle = 1_007_500 * np.exp(logs.mean())
    figures = (row["low_ns"], row["estimate_ns"], row["high_ns"])
    assert figures == pytest.approx((middle * np.exp(-half), middle, middle * np.exp(half)), rel=1e-3)
    assert (row["processes"], row["warnings"]) == (5, ["noisy"])


def test_a_slower_machine_goes_out_and_a_slower_build_does_not(shared_stage: Stage, run_file: RunFile) -> None:
    ran(shared_stage, "machine.jsonl", NULL_MACHINE="1.2")
    ran(shared_stage, "build.jsonl", NULL_MACHINE="1.2", NULL_CALL_NS="1050000")
    equal, slower = (compared(shared_stage, "run.jsonl", f"{name}.jsonl") for name in ("machine", "build"))
    assert {row["verdict"] for row in equal} == {"same"}
    assert [row["ratio"] for row in equal] == [pytest.approx(1.0, abs=2e-3)] * 4
    assert [row["canary_ratio"] for row in equal[:-1]] == [pytest.approx(1.2, rel=0.05)] * 3
    assert {row["verdict"] for row in slower} == {"slower"}
    assert [row["ratio"] for row in slower] == [pytest.approx(1_057_500 / 1_007_500, abs=2e-3)] * 4


def test_what_processes_cost_is_said_after_every_round(stage: Stage) -> None:
    said = stage.play("run", CASES[0], "--target", TARGET, "--processes", "2", "-o", "run.jsonl").stderr
    assert "1 measurements of 1 cases, each prepared, checked and sampled in 2 processes" in said
    assert said.count("start-up") == 2
    assert "[2/2] process 2: " in said


def test_short_calls_keep_one_form_in_all_processes(stage: Stage) -> None:
    target = "null:a?call_ns=1000&step_ns=0&clock_ns=10&canary_ns=500&wander=0.3"
    found = stage.run(target, drill(2), more=("--processes", "3", "--budget", "90ms")).measurements[0]
    assert (found.status, found.processes, found.slots) == ("ok", 3, None)
    assert found.calls_per_sample % 16 == 0


# -- faults and kills -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "status"), [("abort", "crashed"), ("wrong-later", "wrong"), ("hang", "timeout")])
def test_a_process_that_fails_ends_its_case_not_the_run(stage: Stage, fault: str, status: str) -> None:
    target = f"{TARGET}&fault={fault}&case=t3/"
    more = ("--processes", "2", "--budget", "100ms", "--timeout", "1s")
    run_file = stage.run(target, *CASES, more=more)
    assert [line.status for line in run_file.measurements] == ["ok", status, "ok"]
    assert [part.process for part in run_file.parts if part.case == CASES[1]] == [0]
    assert all(len(line.samples_ns) > 0 for line in run_file.measurements if line.status == "ok")


def parts(stage: Stage) -> int:
    return stage.record.read_bytes().count(b'"kind":"part"') if stage.record.exists() else 0


RUN = (*CASES, "--target", "null:a?real=1&call_ns=300000&canary_ns=100000", "--processes", "3", "--budget", "60ms")


def killed(stage: Stage, kept: int, after_s: float, *words: str) -> int:
    """Goes on with the run until it has more parts and is killed a little later; the parts that are left."""
    process = stage.begin("run", *words, "-o", "run.jsonl")
    wait_until(lambda: parts(stage) > kept or process.poll() is not None)
    time.sleep(after_s)
    process.kill()
    end_of(process)
    return len(read(stage.record).parts)


def test_a_kill_at_any_moment_loses_one_turn_and_resume_completes_the_same_set(stage: Stage) -> None:
    moments = random.Random(5)
    kept = killed(stage, 0, moments.uniform(0.0, 0.3), *RUN)
    for _ in range(3):
        now = killed(stage, kept, moments.uniform(0.0, 0.3), "--resume")
        assert now >= kept
        kept = now
    assert stage.play("run", "--resume", "-o", "run.jsonl").returncode == 0
    whole = read(stage.record)
    assert whole.complete
    assert [(line.case, line.status, line.processes) for line in whole.measurements] == [(c, "ok", 3) for c in CASES]
    assert Counter((part.case, part.process) for part in whole.parts) == {(c, n): 1 for c in CASES for n in range(3)}


def test_an_interrupt_keeps_the_parts_and_says_how_to_go_on(stage: Stage) -> None:
    process = stage.begin("run", *RUN, "-o", "run.jsonl")
    wait_until(lambda: parts(stage) >= 2)
    process.send_signal(signal.SIGINT)
    end_of(process)
    assert process.returncode == 130
    shown = stage.play("show", "run.jsonl")
    assert "parts of measurements by several processes are intact; --resume finishes it" in shown.stderr
    assert stage.play("run", "--resume", "-o", "run.jsonl").returncode == 0
    assert len(read(stage.record).measurements) == 3


def test_resume_with_another_number_of_processes_is_refused(stage: Stage) -> None:
    stage.run(TARGET, CASES[0], more=("--processes", "2", "--budget", "100ms"))
    done = stage.play("run", "--processes", "3", "--resume", "-o", "run.jsonl")
    assert (done.returncode, "another --processes" in done.stderr) == (2, True)

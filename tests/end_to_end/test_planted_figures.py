"""Planted durations come out as exactly the figures that a pencil gives."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playing import Stage, drill

from results.store import RunFile, read

MEAN_NS = 1_007_500
"""Slots take 1,000,000 ns + slot * 1,000 ns; the mean of 0..15 is 7.5."""


@pytest.fixture(scope="module")
def run_file(shared_stage: Stage) -> RunFile:
    return shared_stage.run("null:a", drill(2), drill(8))


@pytest.fixture(scope="module")
def row(shared_stage: Stage, run_file: RunFile) -> dict[str, Any]:
    done = shared_stage.play("show", str(shared_stage.record), "--json", "--where", "tokens==2")
    return json.loads(done.stdout)["measurements"][0]


def test_the_estimate_is_the_planted_mean(row: dict[str, Any]) -> None:
    assert (row["estimate_ns"], row["low_ns"], row["high_ns"]) == (MEAN_NS, MEAN_NS, MEAN_NS)


def test_rates_follow_from_cost_and_time(row: dict[str, Any]) -> None:
    assert row["tokens_per_s"] == pytest.approx(2 / 1_007_500e-9)
    assert row["tflop_per_s"] == pytest.approx(2000 / 1_007_500e-9 / 1e12)
    assert row["gb_per_s"] == pytest.approx(200 / 1_007_500e-9 / 1e9)


def test_three_whole_revolutions_are_enough_where_nothing_varies(run_file: RunFile) -> None:
    first = run_file.measurements[0]
    assert first.slots == list(range(16)) * 3
    assert first.samples_ns == [1_000_000 + 1000 * slot for slot in range(16)] * 3


def test_the_record_says_how_each_number_was_made(run_file: RunFile) -> None:
    first = run_file.measurements[0]
    assert first.clock == "planted, advanced by each call"
    assert (first.prepare_ns, first.first_call_ns, first.warmup_calls) == (5_000_000, 1_000_000, 32)
    assert first.check is not None
    assert (first.check.passed, first.check.before, first.check.after, first.check.slots) == (True, True, True, 16)


def test_a_suited_closed_implementation_runs_and_an_unsuited_or_open_one_does_not(run_file: RunFile) -> None:
    made = [(line.case, line.implementation) for line in run_file.measurements]
    assert made == [(drill(2), "plain"), (drill(8), "plain"), (drill(8), "grouped")]


def test_the_header_holds_plan_options_and_what_the_target_told(run_file: RunFile) -> None:
    header = run_file.run
    assert header.plan == [(drill(2), "null:a"), (drill(8), "null:a")]
    assert header.options["precision"] == 0.01
    assert header.environment["targets"]["null:a"]["tf32"] == "0"
    assert header.environment["variables"]["NVIDIA_TF32_OVERRIDE"] == "0"


def test_a_worker_imports_nothing_that_only_the_command_line_needs(run_file: RunFile) -> None:
    assert run_file.run.environment["targets"]["null:a"]["own_modules"] == []


def test_ceilings_carry_the_name_of_their_target(run_file: RunFile) -> None:
    assert {(line.what, line.target) for line in run_file.ceilings} == {("gemm", "null:a"), ("read", "null:a")}


def test_no_path_of_this_machine_is_recorded(shared_stage: Stage, run_file: RunFile) -> None:
    text = shared_stage.record.read_text()
    assert str(shared_stage.folder) not in text
    assert "/tests/" not in text


def test_an_asynchronous_device_has_a_throughput_of_queued_calls(stage: Stage) -> None:
    found = stage.run("null:a?queue=1", drill(2, scenario="throughput")).measurements[0]
    # 7 revolutions of 16.12 ms are the first whole ones that fill 105 % of a window of 100 ms.
    assert (found.status, found.slots, found.calls_per_sample) == ("ok", None, 16 * 7)
    assert found.samples_ns == [16 * 7 * MEAN_NS] * 6


def test_short_calls_are_timed_in_whole_revolutions(stage: Stage) -> None:
    target = "null:a?call_ns=1000&step_ns=0&clock_ns=10"
    found = stage.run(target, drill(2)).measurements[0]
    # One reading costs 10 ns: 0.1 % of 10,000 ns, which 16 calls of about 1,010 ns exceed.
    assert (found.calls_per_sample, found.slots) == (16, None)
    assert set(found.samples_ns) == {16 * 1000 + 10}
    assert len(found.samples_ns) >= 6


def test_two_targets_are_measured_case_by_case(stage: Stage) -> None:
    stage.play("run", drill(2), drill(4), "--target", "null:a", "--target", "null:b", "-o", "run.jsonl")
    order = [(line.case, line.target) for line in read(stage.record).measurements]
    assert order == [(drill(n), f"null:{target}") for n in (2, 4) for target in "ab"]


def test_a_named_implementation_runs_even_if_it_is_open(stage: Stage) -> None:
    found = stage.run("null:a", drill(2), more=("--implementation", "rounded"))
    assert [(line.implementation, line.division) for line in found.measurements] == [("rounded", "open")]

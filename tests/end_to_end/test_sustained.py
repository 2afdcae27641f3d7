"""Sustained work on a device with a planted meter: energy to the digit, and what the device told beside it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playing import Stage, drill

from results.record import Measurement
from results.store import RunFile, read

CASE = drill(2, scenario="sustained")
COUNTER, POWER, DISTURBED, NOBODY = (
    "null:a?watts=200",
    "null:b?queue=1&power=200",
    "null:c?watts=200&throttle=power_cap&foreign=1",
    "null:d",
)
TOKEN_S = 1_007_500e-9 / 2
"""Slots take 1,000,000 ns + slot * 1,000 ns for 2 tokens."""


@pytest.fixture(scope="module")
def run_file(shared_stage: Stage) -> RunFile:
    targets = [word for target in (COUNTER, POWER, DISTURBED, NOBODY) for word in ("--target", target)]
    shared_stage.play("run", CASE, *targets, "-o", "run.jsonl")
    return read(shared_stage.record)


@pytest.fixture(scope="module")
def rows(shared_stage: Stage, run_file: RunFile) -> dict[str, dict[str, Any]]:
    found = json.loads(shared_stage.play("show", str(shared_stage.record), "--json").stdout)["measurements"]
    return {row["target"]: row for row in found}


def of(run_file: RunFile, target: str) -> Measurement:
    return next(line for line in run_file.measurements if line.target == target)


@pytest.mark.parametrize("target", [COUNTER, POWER])
def test_joules_per_token_are_exact(rows: dict[str, dict[str, Any]], target: str) -> None:
    row = rows[target]
    assert (row["mean_w"], row["idle_w"]) == (pytest.approx(200), pytest.approx(50))
    assert row["joules_per_token"] == pytest.approx(200 * TOKEN_S)
    assert row["joules_per_token_above_idle"] == pytest.approx(150 * TOKEN_S)


def test_a_minute_of_windows_is_sampled_on_synchronous_devices_too(run_file: RunFile) -> None:
    for target in (COUNTER, POWER):
        line = of(run_file, target)
        assert 60e9 <= sum(line.samples_ns) < 60.2e9
        assert set(line.samples_ns) == {16 * 7 * 1_007_500}


def test_readings_stand_beside_every_window_and_the_idle_floor_before_them(run_file: RunFile) -> None:
    line = of(run_file, COUNTER)
    assert line.power is not None
    assert len(line.power.loaded.at_ns) == len(line.samples_ns) + 1
    assert (line.power.idle.at_ns[0], line.power.idle.at_ns[-1]) == (0, 5_000_000_000)
    assert set(line.power.loaded.clock_mhz) == {1000.0}


def test_a_held_down_clock_and_a_stranger_on_the_device_are_warnings(run_file: RunFile) -> None:
    disturbed, quiet = of(run_file, DISTURBED), of(run_file, COUNTER)
    assert {"throttled", "contended"} <= set(disturbed.warnings)
    assert "throttled" not in quiet.warnings
    assert disturbed.turns[0].noise.foreign_device_processes == 1
    assert quiet.turns[0].noise.foreign_device_processes == 0


def test_absent_is_absent(run_file: RunFile, rows: dict[str, dict[str, Any]]) -> None:
    line = of(run_file, NOBODY)
    assert (line.status, line.power, line.turns[0].noise.throttle_reasons) == ("ok", None, None)
    assert (rows[NOBODY]["joules_per_token"], rows[NOBODY]["mean_w"]) == (None, None)


def test_the_header_says_who_told_and_how_the_device_was_set(run_file: RunFile) -> None:
    told = run_file.run.environment["targets"]
    assert (told[COUNTER]["meter"], told[COUNTER]["settings"]) == ("planted", {"power_limit_w": 400.0})
    assert "meter" not in told[NOBODY]


def test_less_than_a_minute_is_measured_but_says_nothing_of_energy(stage: Stage) -> None:
    done = stage.play("run", CASE, "--target", COUNTER, "--sustain", "1s", "-o", "run.jsonl")
    assert "1.02 s of work: energy takes 60 s" in done.stdout
    assert len(read(stage.record).measurements[0].samples_ns) == 9


def test_each_of_several_processes_works_the_whole_length_and_no_canary_draws_power(stage: Stage) -> None:
    target = "null:a?watts=200&canary_ns=1000000"
    stage.play("run", CASE, "--target", target, "--processes", "2", "-o", "run.jsonl")
    (line,) = read(stage.record).measurements
    assert (line.processes, line.canary, sum(line.samples_ns) > 120e9) == (2, None, True)
    figures = json.loads(stage.play("show", str(stage.record), "--json").stdout)["measurements"][0]
    assert figures["joules_per_token"] == pytest.approx(200 * TOKEN_S)


def test_latency_has_clocks_and_no_power(stage: Stage) -> None:
    line = stage.run(COUNTER, drill(2)).measurements[0]
    assert line.power is None
    assert set(line.turns[0].noise.device_clock_mhz or ()) == {1000.0}

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_benchmark.stats import Stats

from results.exporting import write_export
from results.exporting.pytest_benchmark import render, stats
from tests.results.conftest import OLMOE, WriteRun, ceilings, failed, measurement

NAME = f"{OLMOE}[torch:cpu-sorted]"


@given(st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=40))
def test_the_statistics_are_those_of_pytest_benchmark(seconds: list[float]) -> None:
    theirs = Stats()
    for value in seconds:
        theirs.update(value)
    assert stats(seconds) == theirs.as_dict()


def test_times_are_seconds_of_a_call(write_run: WriteRun) -> None:
    line = measurement(samples_ns=[32_000] * 6, slots=None, calls_per_sample=16)
    (found,) = json.loads(render(write_run(line)))["benchmarks"]
    assert found["stats"]["data"] == [2e-6] * 6
    assert (found["stats"]["mean"], found["stats"]["rounds"], found["stats"]["iterations"]) == (2e-6, 6, 16)


def test_a_benchmark_is_named_as_the_plugin_names_its_test_and_grouped_by_case(write_run: WriteRun) -> None:
    (found,) = json.loads(render(write_run(measurement())))["benchmarks"]
    assert (found["group"], found["name"], found["fullname"]) == (OLMOE, NAME, f"moemark::{NAME}")


def test_extra_info_carries_our_figures_but_nothing_of_the_file(write_run: WriteRun) -> None:
    (found,) = json.loads(render(write_run(*ceilings(), measurement())))["benchmarks"]
    extra = found["extra_info"]
    assert (extra["estimate_ns"], extra["tokens_per_s"], extra["roofline_ratio"]) == (1e6, 16e3, 0.4)
    assert extra["case_digest"] == measurement().case_digest
    assert not {"run", "line_sha256", "p99_ns"} & set(extra)


def test_an_interval_without_end_is_left_out_of_json(write_run: WriteRun) -> None:
    line = measurement(samples_ns=[1_000_000] * 16, slots=list(range(16)))
    (found,) = json.loads(render(write_run(line)))["benchmarks"]
    assert "high_ns" not in found["extra_info"] and math.isclose(found["extra_info"]["estimate_ns"], 1e6)


def test_what_has_no_time_is_no_benchmark(write_run: WriteRun) -> None:
    assert json.loads(render(write_run(failed(), failed("wrong", target="ort:cpu"))))["benchmarks"] == []


def compare(*words: str, folder: Path) -> str:
    command = [sys.executable, "-m", "pytest_benchmark", "compare", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def two_files(write_run: WriteRun, tmp_path: Path) -> Path:
    for name, call_ns in (("base", 1_000_000), ("new", 1_100_000)):
        lines = measurement(call_ns), measurement(2 * call_ns, implementation="grouped"), failed(target="ort:cpu")
        write_export(write_run(*lines, name=name), "pytest-benchmark", tmp_path / f"{name}.json")
    return tmp_path


def test_pytest_benchmark_compares_two_exports(two_files: Path) -> None:
    shown = compare(
        "base.json", "new.json", "--group-by=fullname", "--columns=mean", "--time-unit=us", folder=two_files
    )
    assert f"benchmark 'moemark::{NAME}': 2 tests" in shown
    assert "1,000.0000 (1.0)" in shown and "1,100.0000 (1.10)" in shown
    assert "ort:cpu" not in shown

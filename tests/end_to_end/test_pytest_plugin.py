"""The pytest plugin, played in real sessions of pytest with the real pytest-benchmark."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from playing import LIMIT_S, Stage, drill

from results.exporting import write_export
from tests.results.conftest import WriteRun, measurement

CASES = (drill(2), drill(2, dtype="fp16"), drill(2, scenario="throughput"))
RIGHT, WRONG, QUEUE = "null:a?real=1&step_ns=200000", "null:b?fault=wrong-later", "null:c?queue=1"


def session(stage: Stage, *words: str, plugin: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *(["-p", "harness.pytest_plugin"] * plugin)]
    return subprocess.run(
        [*command, *words], cwd=stage.folder, env=stage.environment, capture_output=True, text=True, timeout=LIMIT_S
    )


def moemark(*cases: str, targets: tuple[str, ...]) -> list[str]:
    return [f"--moemark={case}" for case in cases] + [f"--moemark-target={target}" for target in targets]


@pytest.fixture(scope="module")
def stage(shared_stage: Stage) -> Stage:
    (shared_stage.folder / "test_own.py").write_text("def test_own(): print('own ran')\n")
    return shared_stage


@pytest.fixture(scope="module")
def played(stage: Stage) -> subprocess.CompletedProcess[str]:
    words = moemark(*CASES, targets=(RIGHT, WRONG, QUEUE))
    saved = (
        "--moemark-ceilings",
        "--benchmark-json=run.json",
        "--benchmark-autosave",
        "--benchmark-histogram=plots/run",
    )
    return session(stage, *words, *saved, "--benchmark-max-time=0.1", "-vrs")


@pytest.fixture(scope="module")
def benchmarks(stage: Stage, played: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found = json.loads((stage.folder / "run.json").read_text())["benchmarks"]
    return {entry["fullname"]: entry for entry in found}


def outcomes(text: str) -> dict[str, str]:
    return dict(re.findall(r"^moemark::(\S+\]) (\w+)", text, re.MULTILINE))


def test_each_case_on_each_target_is_a_test(played: subprocess.CompletedProcess[str]) -> None:
    expected = {
        RIGHT: ("PASSED", "SKIPPED", "SKIPPED"),
        WRONG: ("FAILED", "SKIPPED", "SKIPPED"),
        QUEUE: ("PASSED", "SKIPPED", "PASSED"),
    }
    assert outcomes(played.stdout) == {
        f"{case}[{target}-plain]": word
        for target, words in expected.items()
        for case, word in zip(CASES, words, strict=True)
    }
    assert played.returncode == 1


def test_nobody_elses_tests_are_collected_unless_a_path_is_named(played: subprocess.CompletedProcess[str]) -> None:
    assert "collected 9 items" in played.stdout
    assert "test_own" not in played.stdout


def test_a_wrong_answer_fails_with_its_reason_and_its_times_are_nowhere(
    played: subprocess.CompletedProcess[str], benchmarks: dict[str, Any]
) -> None:
    assert "wrong: slot 0 y: line 0 is not finite" in played.stdout
    assert not [name for name in benchmarks if WRONG in name]
    shown = [line for line in played.stdout.splitlines() if WRONG in line and re.search(r"\d\.\d{4}", line)]
    assert shown == []


def test_what_cannot_run_is_skipped_with_its_reason(played: subprocess.CompletedProcess[str]) -> None:
    assert "unsupported: the drill knows no fp16" in played.stdout
    assert "unsupported: calls are synchronous on null:a" in played.stdout


def test_what_is_left_out_is_said(played: subprocess.CompletedProcess[str]) -> None:
    assert re.search(
        r"left out on null:b\?fault=wrong-later: grouped \(\d cases\): made for 8 tokens or more", played.stdout
    )


def test_a_round_is_one_call_and_slots_come_in_turn(benchmarks: dict[str, Any]) -> None:
    stats = benchmarks[f"moemark::{CASES[0]}[{RIGHT}-plain]"]["stats"]
    assert stats["iterations"] == 1
    assert stats["rounds"] >= 48 and stats["rounds"] % 16 == 0
    assert all(seconds >= 1e-3 + number % 16 * 0.2e-3 for number, seconds in enumerate(stats["data"]))


@pytest.mark.parametrize("case", [CASES[0], CASES[2]])
def test_a_round_of_short_calls_or_of_a_queue_is_whole_revolutions(benchmarks: dict[str, Any], case: str) -> None:
    stats = benchmarks[f"moemark::{case}[{QUEUE}-plain]"]["stats"]
    assert stats["iterations"] % 16 == 0 and stats["rounds"] >= 6
    assert stats["median"] < 1e-3


def test_extra_info_carries_our_figures(benchmarks: dict[str, Any]) -> None:
    entry = benchmarks[f"moemark::{CASES[0]}[{RIGHT}-plain]"]
    extra = entry["extra_info"]
    assert (extra["case"], extra["target"], extra["implementation"]) == (CASES[0], RIGHT, "plain")
    assert (extra["device"], extra["check_error"], extra["flops"]) == ("null a", 0.0, 2000)
    assert len(extra["case_digest"]) == len(extra["input_digest"]) == 64
    assert extra["low_ns"] <= extra["estimate_ns"] <= extra["high_ns"]
    assert extra["tokens_per_s"] == pytest.approx(2 / extra["estimate_ns"] * 1e9)
    assert extra["samples"] == entry["stats"]["rounds"]
    assert extra["roofline_ratio"] == pytest.approx(
        200 / extra["estimate_ns"]
    )  # 200 bytes, and a ceiling of 1 byte a ns


def test_tests_are_grouped_by_case_and_plotted(played: subprocess.CompletedProcess[str], stage: Stage) -> None:
    assert f"benchmark '{CASES[0]}': 2 tests" in played.stdout
    assert len(list(stage.folder.glob("plots/run-drill*.svg"))) == 2


def test_a_saved_run_and_an_export_are_compared_with_a_new_one(
    stage: Stage, played: subprocess.CompletedProcess[str], write_run: WriteRun
) -> None:
    (saved,) = stage.folder.glob(".benchmarks/*/0001_*.json")
    recorded = write_run(measurement(case=CASES[0], target=RIGHT, implementation="plain"))
    write_export(recorded, "pytest-benchmark", saved.parent / "0002_export.json")
    words = moemark(CASES[0], targets=(RIGHT,))
    done = session(stage, *words, "--benchmark-compare=000", "--benchmark-columns=min", "test_own.py", "-s")
    assert sorted(re.findall(r"plain\] \((\w+)\)", done.stdout)) == ["0001_unversi", "0002_export", "NOW"]
    assert "own ran" in done.stdout  # a path was named
    assert done.returncode == 0


def test_options_of_pytest_and_pytest_benchmark_choose_as_ever(stage: Stage) -> None:
    words = moemark(drill(2), drill(8), targets=(WRONG,))
    done = session(stage, *words, "-v", "-k", "grouped", "-m", "moemark", "--benchmark-disable")
    assert outcomes(done.stdout) == {f"{drill(8)}[{WRONG}-grouped]": "FAILED"}  # not timed, but checked
    assert "2 deselected" in done.stdout and "Min" not in done.stdout


def test_a_real_target_is_left_as_it_was_found(tmp_path: Path) -> None:
    program = (
        "def pytest_sessionfinish():\n    import torch\n    assert torch.is_grad_enabled()\n    print('left well')\n"
    )
    (tmp_path / "conftest.py").write_text(program)
    words = moemark("router/olmoe-1b-7b/ep1/t4/fp32/balanced/latency", targets=("torch:cpu?threads=1",))
    done = session(Stage(tmp_path), *words, "--benchmark-max-time=0.05", "-s")
    assert "1 passed" in done.stdout and "left well" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--moemark=ci",), "--moemark needs a target"),
        (("--moemark-target=null:a",), "--moemark-target needs cases"),
        (("--moemark=none", "--moemark-target=null:a"), "unknown suite 'none'"),
        (("--moemark=ci", "--moemark-target=null:a", "-p", "no:benchmark"), "pip install 'moemark[pytest]'"),
    ],
)
def test_a_mistake_is_told_with_its_mend(stage: Stage, words: tuple[str, ...], said: str) -> None:
    done = session(stage, *words)
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
    assert (done.returncode, len(errors)) == (4, 1)
    assert said in errors[0]


def test_without_moemark_the_plugin_imports_nothing_more(stage: Stage) -> None:
    program = (
        "import sys, pytest\n"
        "code = pytest.main(['-q', '-p', 'no:cacheprovider', '-p', 'harness.pytest_plugin', 'test_own.py'])\n"
        "ours = [name for name in sys.modules if name.split('.')[0] in ('harness', 'results', 'workloads', 'numpy', 'torch')]\n"
        "print(int(code), ours)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=stage.folder, env=stage.environment, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "0 ['harness', 'harness.pytest_plugin']"

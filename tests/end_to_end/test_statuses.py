"""Every case ends in a status with a reason, and costs no other case anything."""

from __future__ import annotations

import pytest
from playing import Stage, drill

from results.record import Measurement
from results.store import RunFile, read

EXPECTED = {
    "wrong": ("wrong", "slot 0 y line 0: error 0.3"),
    "wrong-expert": ("wrong", "slot 0 y line 1: error 0.006"),
    "wrong-slot": ("wrong", "slot 5 y"),
    "wrong-later": ("wrong", "not finite"),
    "stale": ("wrong", "slot 1 y"),
    "hang": ("timeout", "--timeout 1s"),
    "hang-native": ("timeout", "--timeout 1s"),
    "hang-holding-the-lock": ("timeout", "--timeout 1s"),
    "abort": ("crashed", "SIGABRT"),
    "segfault": ("crashed", "SIGSEGV"),
    "exit": ("crashed", "exited with code 3"),
    "last-words": ("crashed", "exited with code 4: null driver: lost the device"),
    "out-of-memory": ("out-of-memory", "MemoryError"),
    "device-out-of-memory": ("out-of-memory", "the null device is full"),
    "unsupported": ("unsupported", "node 'TopK' ran on cpu"),
    "error": ("error", "RuntimeError: no kernel in libnull.so"),
}
STRUCK, SPARED = drill(2), drill(4)


def target_with(fault: str) -> str:
    return f"null:{fault}?fault={fault}&case=t2/"


@pytest.fixture(scope="module")
def run_file(shared_stage: Stage) -> RunFile:
    targets = [word for fault in EXPECTED for word in ("--target", target_with(fault))]
    limits = ("--timeout", "1s", "--budget", "100ms")
    done = shared_stage.play("run", STRUCK, SPARED, *targets, *limits, "-o", "run.jsonl")
    assert done.returncode == 1, done.stderr
    return read(shared_stage.record)


def found(run_file: RunFile, fault: str, case: str) -> Measurement:
    name = target_with(fault)
    return next(line for line in run_file.measurements if (line.target, line.case) == (name, case))


@pytest.mark.parametrize("fault", EXPECTED)
def test_a_fault_has_its_status_and_its_reason(run_file: RunFile, fault: str) -> None:
    status, reason = EXPECTED[fault]
    struck = found(run_file, fault, STRUCK)
    assert struck.status == status
    assert reason in (struck.reason or "")


@pytest.mark.parametrize("fault", EXPECTED)
def test_only_right_answers_are_timed(run_file: RunFile, fault: str) -> None:
    assert found(run_file, fault, STRUCK).samples_ns == []


@pytest.mark.parametrize("fault", EXPECTED)
def test_the_next_case_is_measured_all_the_same(run_file: RunFile, fault: str) -> None:
    assert found(run_file, fault, SPARED).status == "ok"


def test_an_answer_that_is_wrong_only_later_failed_the_second_check(run_file: RunFile) -> None:
    check = found(run_file, "stale", STRUCK).check
    assert check is not None
    assert (check.passed, check.before, check.after) == (False, True, False)


def test_a_hang_while_preparing_misses_its_own_deadline(stage: Stage) -> None:
    limits = ("--prepare-timeout", "1s", "--timeout", "600s")
    struck = stage.run("null:a?fault=hang-native&at=prepare", drill(2), more=limits).measurements[0]
    assert struck.status == "timeout"
    assert "--prepare-timeout 1s" in (struck.reason or "")


def test_too_big_names_the_bytes_and_the_smallest_share_that_fits(stage: Stage) -> None:
    big = stage.run("null:a", drill(2, workload="drill+vast")).measurements[0]
    assert big.status == "too-big"
    assert big.reason == (
        "needs 17179869184 bytes where 1073741824 are free; the smallest EP group whose share fits is ep16"
    )


def test_work_that_is_not_defined_is_unsupported_with_the_workloads_own_words(stage: Stage) -> None:
    line = stage.run("null:a", drill(2, dtype="fp16")).measurements[0]
    assert (line.status, line.reason) == ("unsupported", "the drill knows no fp16")


def test_throughput_that_was_asked_for_is_unsupported_where_calls_are_synchronous(stage: Stage) -> None:
    line = stage.run("null:a", drill(2, scenario="throughput")).measurements[0]
    assert (line.status, line.reason) == (
        "unsupported",
        "calls are synchronous on null:a: latency is its throughput",
    )


def test_throughput_that_a_star_chose_is_left_out_where_calls_are_synchronous(stage: Stage) -> None:
    run_file = stage.run("null:a", drill(2, scenario="*"))
    assert [line.case for line in run_file.measurements] == [drill(2)]


def test_a_device_without_ceilings_is_measured_without_them(stage: Stage) -> None:
    run_file = stage.run("null:a?fault=no-ceilings", drill(2))
    assert (run_file.ceilings, run_file.measurements[0].status) == ((), "ok")


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("null:a", 0),
        ("null:a?fault=unsupported", 1),
        ("null:a?fault=unsupported&case=t2/", 0),
        ("null:a?fault=wrong&case=t2/", 1),
    ],
)
def test_the_exit_code_is_0_only_if_all_went_well_and_something_was_measured(
    stage: Stage, target: str, code: int
) -> None:
    done = stage.play("run", STRUCK, SPARED, "--target", target, "-o", "run.jsonl")
    assert done.returncode == code

"""--resume finishes a run: everything from the header, nothing measured twice."""

from __future__ import annotations

import signal

import msgspec
import pytest
from playing import Stage, drill, end_of, wait_until

from results.record import End
from results.store import Writer, read

CASES = [drill(n) for n in (2, 3, 4, 5, 6)]
BEGIN = ("run", *CASES, "--target", "null:a?real=1", "--budget", "100ms", "-o", "run.jsonl")


def recorded(stage: Stage) -> int:
    return stage.record.read_bytes().count(b'"kind":"measurement"') if stage.record.exists() else 0


def interrupt(stage: Stage, number: signal.Signals = signal.SIGINT) -> int:
    """Begins a run and stops it after its second measurement; the exit code."""
    process = stage.begin(*BEGIN)
    wait_until(lambda: recorded(stage) >= 2)
    process.send_signal(number)
    end_of(process)
    return process.returncode


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_exits_with_130_and_keeps_what_was_measured(stage: Stage, number: signal.Signals) -> None:
    assert interrupt(stage, number) == 130
    cut = read(stage.record)
    assert cut.end is not None
    assert (cut.end.interrupted, len(cut.measurements) >= 2) == (True, True)


def test_resume_measures_the_rest_and_nothing_twice(stage: Stage) -> None:
    interrupt(stage)
    before = read(stage.record).digests
    done = stage.play("run", "--resume", "-o", "run.jsonl")
    assert done.returncode == 0, done.stderr
    whole = read(stage.record)
    assert whole.complete
    assert whole.digests[: len(before)] == before
    assert [line.case for line in whole.measurements] == CASES


def test_resuming_a_complete_run_changes_nothing(stage: Stage) -> None:
    stage.run("null:a", drill(2))
    before = stage.record.read_bytes()
    done = stage.play("run", "--resume", "-o", "run.jsonl")
    assert (done.returncode, stage.record.read_bytes()) == (0, before)


def test_a_failed_case_is_kept_and_not_tried_again(stage: Stage) -> None:
    stage.run("null:a?fault=wrong&case=t2/", *CASES)
    done = stage.play("run", "--resume", "-o", "run.jsonl")
    assert done.returncode == 1
    assert read(stage.record).measurements[0].status == "wrong"


@pytest.mark.parametrize(
    "different",
    [(drill(7),), ("--target", "null:b"), ("--precision", "2%"), ("--budget", "3s"), ("--implementation", "grouped")],
)
def test_resume_with_something_different_is_refused(stage: Stage, different: tuple[str, ...]) -> None:
    stage.run("null:a", drill(2))
    done = stage.play("run", *different, "--resume", "-o", "run.jsonl")
    assert done.returncode == 2
    assert "the file was begun with" in done.stderr


def test_resume_with_the_same_things_said_again_is_fine(stage: Stage) -> None:
    interrupt(stage)
    assert stage.play(*BEGIN, "--resume").returncode == 0


def test_resume_on_another_machine_is_refused(stage: Stage) -> None:
    here = stage.run("null:a", drill(2)).run
    machine = {**here.environment["machine"], "cpu": "another CPU"}
    stage.record.unlink()
    with Writer(stage.record) as writer:
        writer.append(msgspec.structs.replace(here, environment={**here.environment, "machine": machine}))
        writer.append(End(lines=1, ended_utc="2026-01-01T00:00:00Z", interrupted=True))
    done = stage.play("run", "--resume", "-o", "run.jsonl")
    assert done.returncode == 2
    assert "another machine" in done.stderr


def test_a_file_cut_off_before_its_header_starts_anew(stage: Stage) -> None:
    stage.record.write_bytes(b'{"environment":{"machine"')
    done = stage.play("run", drill(2), "--target", "null:a", "--resume", "-o", "run.jsonl")
    assert done.returncode == 0, done.stderr
    assert read(stage.record).complete

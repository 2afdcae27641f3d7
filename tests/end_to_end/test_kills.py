"""kill -9 at any moment, of the worker or of the conductor: no measurement lost, no broken file, --resume completes it."""

from __future__ import annotations

import random
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
from playing import Stage, drill, end_of, wait_until

from results.record import Measurement
from results.store import read

CASES = [drill(n) for n in range(1, 8)]
RUN = (*CASES, "--target", "null:a?real=1&call_ns=300000", "--budget", "50ms", "-o", "run.jsonl")
MOMENTS = [(0, 0.0), (0, 0.1), (0, 0.3), (0, 0.5), (1, 0.0), (1, 0.02), (1, 0.05), (1, 0.08)]
"""So many measurements are waited for once a worker is there, then up to so many seconds more: the moments fall before the
record is there, while a worker opens, between measurements and within them (each takes about 0.1 s)."""


def worker_of(conductor: int) -> psutil.Process | None:
    """The worker, once there is one."""
    try:
        children = psutil.Process(conductor).children()
    except psutil.NoSuchProcess:
        return None
    return next((child for child in children if "harness.worker" in " ".join(_command(child))), None)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def gone(process: psutil.Process) -> bool:
    """Whether it runs no more; its parent may not have asked for its end yet."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def intact(record: Path) -> int:
    """Whole measurement lines, counted without our own reader."""
    if not record.exists():
        return 0
    lines = record.read_bytes().splitlines(keepends=True)
    return sum(b'"kind":"measurement"' in line and line.endswith(b"\n") for line in lines)


def begun(stage: Stage) -> subprocess.Popen[str]:
    """The run, from the start or from where it was killed."""
    return stage.begin("run", *RUN, *(["--resume"] if stage.record.exists() else []))


def at_the_moment(stage: Stage, process: subprocess.Popen[str], more: int, after_s: float) -> psutil.Process | None:
    """Waits for a worker, `more` measurements and that long; the worker, None where the run has ended."""
    known = intact(stage.record)

    def ready() -> bool:
        return worker_of(process.pid) is not None and intact(stage.record) >= known + more

    wait_until(lambda: ready() or process.poll() is not None)
    time.sleep(after_s)
    return worker_of(process.pid)


def spoilt_of(stage: Stage) -> list[Measurement]:
    """What is not ok in a record that has every case once; each is the case of a worker killed at it, or coming back for it."""
    whole = read(stage.record)
    assert whole.complete
    assert [line.case for line in whole.measurements] == CASES
    spoilt = [line for line in whole.measurements if line.status != "ok"]
    assert {line.status for line in spoilt} <= {"crashed", "error"}
    assert all("killed by SIGKILL" in (line.reason or "") for line in spoilt)
    return spoilt


def test_a_kill_of_the_conductor_loses_at_most_the_case_under_way(stage: Stage) -> None:
    moments, struck = random.Random("conductor"), 0
    for more, longest_s in MOMENTS:
        process = begun(stage)
        struck += at_the_moment(stage, process, more, moments.uniform(0.0, longest_s)) is not None
        before = intact(stage.record)
        process.kill()
        end_of(process)
        assert intact(stage.record) >= before
    end_of(begun(stage))
    assert spoilt_of(stage) == []
    assert struck >= len(MOMENTS) // 2


def test_a_kill_of_the_worker_loses_at_most_the_case_under_way(stage: Stage) -> None:
    moments, struck, process = random.Random("worker"), 0, begun(stage)
    for more, longest_s in MOMENTS:
        if process.poll() is not None:  # a worker that dies while it opens ends the run
            end_of(process)
            process = begun(stage)
        worker = at_the_moment(stage, process, more, moments.uniform(0.0, longest_s))
        if worker is None:
            continue
        before = intact(stage.record)
        with suppress(psutil.NoSuchProcess):
            worker.kill()
        wait_until(lambda worker=worker: gone(worker))
        assert intact(stage.record) >= before
        struck += 1
    end_of(process)
    if not read(stage.record).complete:
        end_of(begun(stage))
    assert len(spoilt_of(stage)) <= struck
    assert struck >= len(MOMENTS) // 2


def test_a_worker_dies_with_its_conductor(stage: Stage) -> None:
    process = stage.begin("run", drill(2), "--target", "null:a?fault=hang-holding-the-lock", "-o", "run.jsonl")
    wait_until(lambda: worker_of(process.pid) is not None and stage.record.exists())
    worker = worker_of(process.pid)
    assert worker is not None
    process.kill()
    end_of(process)
    wait_until(lambda: gone(worker))

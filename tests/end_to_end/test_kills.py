"""kill -9 at any moment, of the worker or of the conductor: no measurement lost, no broken file, --resume completes it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from playing import Stage, drill, end_of, wait_until

from results.store import read

CASES = [drill(n) for n in range(1, 7)]
RUN = (*CASES, "--target", "null:a?real=1&call_ns=300000", "--budget", "50ms", "-o", "run.jsonl")
KILLS_EACH = 16
LONGEST_S = 1.2
"""A whole run takes about this long: the moments fall before, between and within measurements."""


def worker_of(conductor: int) -> int | None:
    """The worker's process id, once there is one."""
    try:
        children = psutil.Process(conductor).children()
    except psutil.NoSuchProcess:
        return None
    return next((child.pid for child in children if "harness.worker" in " ".join(_command(child))), None)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def kill_conductor(process: subprocess.Popen[str]) -> None:
    process.kill()


def kill_worker(process: subprocess.Popen[str]) -> None:
    worker = worker_of(process.pid)
    if worker is not None:
        os.kill(worker, signal.SIGKILL)


def intact(record: Path) -> int:
    """Whole measurement lines, counted without our own reader."""
    if not record.exists():
        return 0
    lines = record.read_bytes().splitlines(keepends=True)
    return sum(b'"kind":"measurement"' in line and line.endswith(b"\n") for line in lines)


def finish(stage: Stage) -> None:
    """Resumes until the run is complete."""
    words = ("run", *RUN) if not stage.record.exists() else ("run", *RUN, "--resume")
    done = stage.play(*words)
    assert done.returncode in (0, 1), done.stderr


@pytest.mark.parametrize("victim", [kill_conductor, kill_worker])
def test_a_kill_loses_at_most_the_case_under_way(stage: Stage, victim: Callable[[subprocess.Popen[str]], None]) -> None:
    moments = random.Random(victim.__name__)
    struck = 0
    for _ in range(KILLS_EACH):
        stage.record.unlink(missing_ok=True)
        process = stage.begin("run", *RUN)
        wait_until(lambda process=process: worker_of(process.pid) is not None or process.poll() is not None)
        time.sleep(moments.uniform(0.0, LONGEST_S))
        struck += process.poll() is None
        before = intact(stage.record)
        victim(process)
        end_of(process)
        assert intact(stage.record) >= before
        finish(stage)
        whole = read(stage.record)
        assert whole.complete
        assert [line.case for line in whole.measurements] == CASES
        spoilt = [line for line in whole.measurements if line.status != "ok"]
        assert len(spoilt) <= 1
        assert all((line.status, "SIGKILL" in (line.reason or "")) == ("crashed", True) for line in spoilt)
    assert struck >= KILLS_EACH // 2


def test_a_worker_dies_with_its_conductor(stage: Stage) -> None:
    process = stage.begin("run", drill(2), "--target", "null:a?fault=hang-holding-the-lock", "-o", "run.jsonl")
    wait_until(lambda: worker_of(process.pid) is not None and stage.record.exists())
    worker = psutil.Process(worker_of(process.pid))
    process.kill()
    end_of(process)
    wait_until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)

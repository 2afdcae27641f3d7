"""Plays moemark in fresh processes with the null target installed, in a folder of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from results.store import RunFile, read

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
MODEL = "olmoe-1b-7b"
LIMIT_S = 400


def drill(tokens: int, dtype: str = "fp32", scenario: str = "latency", workload: str = "drill") -> str:
    """The id of a drill."""
    return f"{workload}/{MODEL}/ep1/t{tokens}/{dtype}/balanced/{scenario}"


class Stage:
    """A folder in which commands are played; `record` is where runs go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record = folder / "run.jsonl"
        (folder / "tmp").mkdir(exist_ok=True)
        paths = os.pathsep.join((str(ROOT), str(HERE)))
        # A session of pytest played inside a worker of pytest-xdist must not think that it is one.
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        self.environment = {**ours, "PYTHONPATH": paths, "TMPDIR": str(folder / "tmp")}

    def play(self, *words: str, limit_s: float = LIMIT_S, **variables: str) -> subprocess.CompletedProcess[str]:
        """One command, to its end, with these environment variables."""
        return subprocess.run(
            self.command(*words),
            cwd=self.folder,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            timeout=limit_s,
        )

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """One command, left running."""
        return subprocess.Popen(
            self.command(*words),
            cwd=self.folder,
            env=self.environment | {"PYTHONFAULTHANDLER": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, target: str, *cases: str, more: tuple[str, ...] = ()) -> RunFile:
        """A new run of these cases on one target, and its record."""
        done = self.play("run", *cases, "--target", target, "-o", self.record.name, "--force", *more)
        assert done.returncode in (0, 1), done.stderr
        return read(self.record)

    @staticmethod
    def command(*words: str) -> list[str]:
        return [sys.executable, "-m", "harness", *words]


def end_of(process: subprocess.Popen[str], limit_s: float = LIMIT_S) -> str:
    """Waits for the end of a command that was begun; its standard error. One that hangs is shown with its stacks."""
    try:
        return process.communicate(timeout=limit_s)[1]
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        raise AssertionError(f"no end within {limit_s:g} s:\n{process.communicate()[1]}") from None


def wait_until(true: Callable[[], bool]) -> None:
    """Waits for something that will happen."""
    end = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)

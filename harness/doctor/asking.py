"""Asks a process of its own, which may abort, hang or print what it likes: what it told before counts, and what it was at.

A probe is a script that writes JSON lines to the file of its first argument: `{"asking": WHAT, "needed": BOOL}` before each
question that may end it, then the answer. What it is to leave out are its other arguments. Without a needed answer there is
nothing else to ask.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.channel import CodeFolder, end_of, kill_group, last_line
from harness.surroundings import worker_environment

__all__ = ["Deadline", "Told", "interrogate", "output_of"]


@dataclass(frozen=True)
class Deadline:
    """When an answer is too late, of `wait_s` in all."""

    at: float
    wait_s: float

    @classmethod
    def within(cls, wait_s: float, share: float = 1.0) -> Deadline:
        """`share` of so many seconds from now."""
        return cls(time.monotonic() + share * wait_s, wait_s)

    @property
    def left_s(self) -> float:
        """Seconds until then; 0 afterwards."""
        return max(0.0, self.at - time.monotonic())

    @property
    def missed(self) -> str:
        """What is said of what did not answer in time."""
        return f"no answer in time (`moemark devices --wait {4 * self.wait_s:.0f}s` waits longer)"


@dataclass
class Told:
    """What a probe answered, and which of its questions ended its process and how."""

    answers: list[dict[str, Any]] = field(default_factory=list)
    ended: dict[str, str] = field(default_factory=dict)

    def answer(self, key: str) -> Any:
        """What it told under this key; None if nothing."""
        return next((line[key] for line in self.answers if key in line), None)


def interrogate(python: str, probe: Path, folder: CodeFolder, first: Deadline, last: Deadline) -> Told:
    """Runs a probe until it comes to its end, each time without the questions that ended it before.

    The first time has until `first`, but a needed answer and all together have until `last`.
    """
    told = Told()
    source, deadline = probe.read_text(encoding="utf-8"), first
    while True:
        answers, how = _attempt([python, "-c", source], list(told.ended), folder, deadline, last)
        asked = next((line["asking"] for line in reversed(answers) if "asking" in line), "start")
        told.answers = [line for line in answers if "asking" not in line]
        if how is None:
            return told
        known = asked in told.ended
        told.ended[asked] = how
        if known or not last.left_s:
            return told
        deadline = last


def _attempt(
    command: Sequence[str], left_out: Sequence[str], folder: CodeFolder, deadline: Deadline, last: Deadline
) -> tuple[list[dict[str, Any]], str | None]:
    """All whole lines that it told, and how it ended unless well."""
    answers = folder.output_file()

    def told() -> list[dict[str, Any]]:
        lines = answers.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
        return [json.loads(line) for line in lines]

    def extended() -> Deadline:
        return last if (lines := told()) and lines[-1].get("needed") else deadline

    _, how = _run([*command, str(answers), *left_out], folder, deadline, extended)
    return told(), how


def output_of(command: Sequence[str], folder: CodeFolder, deadline: Deadline) -> str | None:
    """What a tool prints; None where it is not there, fails or hangs."""
    output, how = _run(command, folder, deadline)
    return output.read_text(encoding="utf-8", errors="replace") if how is None else None


def _run(
    command: Sequence[str], folder: CodeFolder, deadline: Deadline, extended: Callable[[], Deadline] | None = None
) -> tuple[Path, str | None]:
    """Its output, and how it ended unless well. At the deadline it is asked whether there is a later one."""
    output, environment = folder.output_file(), worker_environment(folder.code, shared_host=False)
    try:
        with output.open("wb") as file:
            process = _start(command, environment, folder, file)
    except OSError as error:
        return output, f"it does not start: {error.strerror}"
    try:
        code = _ended_by(process, deadline, extended)
    except subprocess.TimeoutExpired:
        return output, deadline.missed
    finally:
        kill_group(process.pid)  # with all that it started
        process.wait()
    words = last_line(output)
    return output, None if code == 0 else end_of(code) + (f": {words}" if words else "")


def _ended_by(process: subprocess.Popen, deadline: Deadline, extended: Callable[[], Deadline] | None) -> int:
    try:
        return process.wait(deadline.left_s)
    except subprocess.TimeoutExpired:
        if extended is None:
            raise
        return process.wait(extended().left_s)


def _start(command: Sequence[str], environment: Mapping[str, str], folder: CodeFolder, file: Any) -> subprocess.Popen:
    return subprocess.Popen(
        command,
        env=environment,
        cwd=folder.scratch,
        stdin=subprocess.DEVNULL,
        stdout=file,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )

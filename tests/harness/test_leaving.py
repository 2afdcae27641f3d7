"""The command ends as it would without what is kept: exit code, output and what is registered for the exit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.leaving import MANY

PROGRAM = """
import atexit, sys
from harness.leaving import keep, leave

class Large:
    def __del__(self):
        print("taken apart")

atexit.register(print, "registered")
keep({count}, Large())
print("output")
leave(3)
"""


def ended(count: int, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """How a process ends that keeps an object made of so many measurements."""
    words = [sys.executable, "-c", PROGRAM.format(count=count)]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        words, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60, check=False, env=buffered
    )


@pytest.mark.parametrize(
    ("count", "last"), [(MANY - 1, ["taken apart", "output", "registered"]), (MANY, ["output", "registered"])]
)
def test_only_what_was_made_of_many_measurements_is_not_taken_apart(count: int, last: list[str]) -> None:
    found = ended(count)
    assert (found.returncode, found.stdout.split("\n")[:-1], found.stderr) == (3, last, "")


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
@pytest.mark.parametrize("count", [MANY - 1, MANY])
def test_output_that_is_lost_is_said_either_way(count: int) -> None:
    with Path("/dev/full").open("w") as full:
        found = ended(count, full.fileno())
    assert found.returncode == 120 and "No space left" in found.stderr

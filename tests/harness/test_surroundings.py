"""What both sides of a duel are given, as a real torch takes it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.surroundings import side_by_side
from harness.targets import TargetName

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system binds no threads")
ROOT = Path(__file__).resolve().parents[2]
PLACES = (
    "import os; from pathlib import Path; import harness.worker; from harness.targets import TargetName, open_target\n"
    "target = open_target(TargetName.parse('torch:cpu')); import torch\n"
    "torch.ones(1 << 20).add_(1)\n"
    "print(target.describe()['threads'])\n"
    "print(*sorted({tuple(os.sched_getaffinity(int(task.name))) for task in Path('/proc/self/task').iterdir()}))"
)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_a_side_on_the_host_has_a_thread_for_every_cpu_each_at_its_own_place() -> None:
    pytest.importorskip("torch")
    environment = {**os.environ, **side_by_side(TargetName.parse("torch:cpu"))}
    done = subprocess.run([sys.executable, "-c", PLACES], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    threads, places = done.stdout.splitlines()
    cpus = sorted(os.sched_getaffinity(0))
    assert int(threads) == len(cpus)
    assert {f"({cpu},)" for cpu in cpus} <= set(places.replace(") (", ")|(").split("|"))


def test_a_side_on_an_accelerator_keeps_the_hosts_threads_free() -> None:
    assert not {"OMP_PROC_BIND", "OMP_PLACES"} & set(side_by_side(TargetName.parse("torch:cuda")))

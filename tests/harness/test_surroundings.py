"""What workers are given, and both sides of a duel on top, as a real process takes it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from harness.surroundings import TUNABLES, side_by_side, worker_environment
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


ADVISED = "x = bytearray(64 << 20); print(any(' hg' in line for line in open('/proc/self/smaps') if 'VmFlags' in line))"
THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(
    not THP.exists()
    or "[madvise]" not in THP.read_text()
    or platform.libc_ver()[0] != "glibc"
    or tuple(map(int, platform.libc_ver()[1].split("."))) < (2, 35),
    reason="needs glibc 2.35 and a kernel that leaves huge pages to programs",
)
@pytest.mark.parametrize(
    ("own", "told", "asks"),
    [
        (None, "glibc.malloc.hugetlb=1", "True"),
        ("glibc.malloc.tcache_count=7", "glibc.malloc.tcache_count=7:glibc.malloc.hugetlb=1", "True"),
        ("glibc.malloc.tcache_count=7:", "glibc.malloc.tcache_count=7:glibc.malloc.hugetlb=1", "True"),
        ("glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0", "False"),
    ],
)
def test_a_workers_memory_asks_for_huge_pages_unless_the_user_says_otherwise(
    own: str | None, told: str, asks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TUNABLES, raising=False)
    if own:
        monkeypatch.setenv(TUNABLES, own)
    environment = worker_environment(ROOT, shared_host=False)
    done = subprocess.run([sys.executable, "-c", ADVISED], env=environment, capture_output=True, text=True)
    assert (environment[TUNABLES], done.stdout.strip()) == (told, asks)

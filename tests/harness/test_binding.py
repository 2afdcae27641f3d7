"""Binding next to an accelerator, on a tree of a test's own and in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.binding import bind, cpus_in

ROOT = Path(__file__).resolve().parents[2]
PCI = "0000:c1:00.0"


def tree(root: Path, node: int, cpus: str) -> Path:
    """A /sys where the device is on that node, which has these CPUs."""
    device = root / "bus/pci/devices" / PCI
    device.mkdir(parents=True)
    (device / "numa_node").write_text(f"{node}\n")
    home = root / f"devices/system/node/node{node}"
    home.mkdir(parents=True)
    (home / "cpulist").write_text(f"{cpus}\n")
    return root


def test_lists_of_the_kernel_are_read() -> None:
    assert cpus_in("0-3,8,10-11") == {0, 1, 2, 3, 8, 10, 11}
    assert cpus_in("") == set()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_every_thread_is_bound_to_the_devices_node(tmp_path: Path) -> None:
    first = min(os.sched_getaffinity(0))
    code = (
        "import os, sys, threading; from pathlib import Path; from harness.binding import bind\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        f"print(bind({PCI!r}, Path(sys.argv[1])))\n"
        "print([os.sched_getaffinity(int(task.name)) for task in Path('/proc/self/task').iterdir()])"
    )
    made = str(tree(tmp_path, 1, f"{first}"))
    done = subprocess.run([sys.executable, "-c", code, made], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["{'numa_node': 1, 'bound_cpus': 1}", f"[{{{first}}}, {{{first}}}]"]


def test_a_node_that_has_all_of_our_cpus_or_none_binds_nothing(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    everything = tree(tmp_path / "all", 0, f"0-{max(before)}")
    nothing = tree(tmp_path / "none", 0, f"{max(before) + 1}")
    assert [bind(PCI, root) for root in (everything, nothing)] == [{"numa_node": 0}] * 2
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize("pci", [None, "0000:00:00.0"])
def test_without_a_node_nothing_is_said(pci: str | None, tmp_path: Path) -> None:
    assert bind(pci, tmp_path) == {}
    assert bind(PCI, tree(tmp_path, -1, "0")) == {}

"""Binding a worker to the CPUs next to its accelerator: on a machine with several NUMA nodes the others launch more slowly."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

__all__ = ["bind", "cpus_in"]


def bind(pci: str | None, root: Path = Path("/sys")) -> dict[str, Any]:
    """Binds this process, all of its threads, to the CPUs of the NUMA node of the device at that PCI address.

    Returns what was found and done, for the record: `numa_node`, and `bound_cpus` (a count) where it bound. A user's own
    binding is narrowed, never widened. Nothing is done where the kernel names no node, or the machine has but one.
    """
    node = _number(root / "bus/pci/devices" / (pci or "none") / "numa_node")
    if node is None or node < 0:
        return {}
    near = cpus_in(_text(root / f"devices/system/node/node{node}/cpulist"))
    now = os.sched_getaffinity(0)
    if not near & now or near >= now:
        return {"numa_node": node}
    for thread in _threads():
        os.sched_setaffinity(thread, near & now)
    return {"numa_node": node, "bound_cpus": len(near & now)}


def cpus_in(text: str) -> set[int]:
    """The CPUs of a kernel's list: `0-3,8,10-11`."""
    found: set[int] = set()
    for part in text.split(",") if text else []:
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def _threads() -> list[int]:
    return [int(task.name) for task in Path("/proc/self/task").glob("[0-9]*")]


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.lstrip("-").isdecimal() else None

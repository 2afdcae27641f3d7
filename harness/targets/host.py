"""What targets on the host's CPU share: its cache and free memory, the clock, and bytes a case needs."""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.targets import CannotRun
from workloads.formats import value_bytes
from workloads.problem import Problem

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "HOST_CLOCK",
    "cache_bytes",
    "cpu_description",
    "cpu_threads",
    "empty",
    "free_bytes",
    "give_back_memory",
    "placed",
    "threads_of",
    "working_bytes",
]

HOST_CLOCK = "host perf_counter_ns, submit to completion"
MOST_THREADS = 4096
CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""Asked before a runtime is imported: OpenMP told to bind its threads (OMP_PROC_BIND) leaves the first one CPU."""
PAGE = 4096
PLACE = 64
"""Bytes from the beginning of a page to what is timed: where glibc's own mapping, which we do without, has a large tensor of
torch. Elsewhere in the page the same product may take a tenth more."""
RESERVE_BYTES = 512 << 20
"""Left to everybody else when the pre-flight asks what is free."""


def empty(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """An array to be filled, at `PLACE` of a page."""
    import numpy as np

    size = math.prod(shape) * np.dtype(dtype).itemsize
    whole = np.empty(size + PAGE, np.uint8)
    begin = (PLACE - whole.ctypes.data) % PAGE
    return whole[begin : begin + size].view(dtype).reshape(shape)


def placed(array: np.ndarray) -> np.ndarray:
    """A copy at `PLACE` of a page."""
    found = empty(array.shape, array.dtype)
    found[...] = array
    return found


def cache_bytes() -> int:
    """Size of the last-level cache as the kernel reports it; 0 if it does not."""
    found = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    sizes = [int(text[:-1]) << 10 for path in found if (text := path.read_text().strip()).endswith("K")]
    return max(sizes, default=0)


def cpu_threads() -> int:
    """CPUs this process may use."""
    return CPUS


def threads_of(options: Mapping[str, str]) -> int:
    """The option `threads` of a target, else all CPUs. Raises CannotRun for what is no count."""
    text = options.get("threads", str(cpu_threads()))
    if not text.isdecimal() or not 0 < int(text) <= MOST_THREADS:
        raise CannotRun(f"threads={text} is no count of threads: write for instance ?threads=4")
    return int(text)


def free_bytes() -> int:
    """Memory that can be allocated now, a container's limit included, less a reserve."""
    import psutil

    free = psutil.virtual_memory().available
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        if Path(limit).exists() and Path(used).exists() and (text := Path(limit).read_text().strip()) != "max":
            free = min(free, int(text) - int(Path(used).read_text()))
    return max(0, free - RESERVE_BYTES)


def give_back_memory() -> None:
    """Returns freed heap to the kernel between cases (glibc was told to keep it)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def cpu_description() -> dict[str, Any]:
    """The host's CPU as a device."""
    import cpuinfo
    import psutil

    name = cpuinfo.get_cpu_info().get("brand_raw", "unknown CPU")
    memory = psutil.virtual_memory().total
    return {"device_id": "cpu", "name": name, "unit": "host", "memory_bytes": memory, "cache_bytes": cache_bytes()}


def working_bytes(problem: Problem) -> int:
    """Bytes of temporaries that a call may hold at once: gathered rows, both projections, expert outputs, twice over;
    an attention's scores in fp32 three times (scaled, with sinks, as weights)."""
    sizes, size = problem.sizes, value_bytes(problem.case.dtype)
    lines = max(sizes.assignments, sizes.tokens)
    widest = 2 * max(sizes.inner, sizes.shared_inner, sizes.dense_inner)
    experts = 2 * lines * (3 * sizes.hidden + 2 * widest) * size
    return experts + sizes.tokens * sizes.num_experts * 16 + sizes.scores * 12

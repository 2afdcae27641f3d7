"""What surrounds a worker: the environment variables set before its runtime is imported, and those that refuse a run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from harness.locks import VISIBLE
from harness.targets import TargetName
from workloads.case import UserError

__all__ = [
    "LINE",
    "OWN_ROOMS",
    "TOKEN",
    "recorded_variables",
    "refuse_disturbers",
    "side_by_side",
    "worker_environment",
]

LINE, TOKEN = "MOEMARK_LINE", "MOEMARK_TOKEN"
"""Of a group's first rank: where it meets the conductor, `127.0.0.1:PORT`, and what it says first to be known as ours."""
OWN_ROOMS = ("harness", "results", "workloads", "seeds")

DISTURBERS = {
    "CUDA_LAUNCH_BLOCKING": "makes every launch wait",
    "ASCEND_LAUNCH_BLOCKING": "makes every launch wait",
    "HIP_LAUNCH_BLOCKING": "makes every launch wait",
    "AMD_SERIALIZE_KERNEL": "makes every launch wait",
    "AMD_SERIALIZE_COPY": "makes every copy wait",
    "CUDA_INJECTION64_PATH": "loads a profiler",
    "NVTX_INJECTION64_PATH": "loads a profiler",
    "CUDA_PROFILE": "turns a profiler on",
    "COMPUTE_PROFILE": "turns a profiler on",
    "HSA_TOOLS_LIB": "loads a profiler",
    "PROFILING_MODE": "turns a profiler on",
    "PYTORCH_ENABLE_MPS_FALLBACK": "lets operators run on the CPU instead of the device",
}
"""Variables that change what is timed; set to anything but 0, false or nothing they refuse the run."""

NUMERICS = {"NVIDIA_TF32_OVERRIDE": "0"}
"""Always set: fp32 means IEEE fp32 (design, section 4)."""

ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(256 << 20),
}
"""glibc keeps the memory it has: else the page faults of fresh temporaries are what is compared. A user's own value stays."""

SHARED_HOST = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "MOEMARK_SHARED_HOST": "1"}
"""With --shared-host: waiting threads sleep, since spinning ones cost a neighbour, and us, ten times the time."""

BRIEF_SPINS = {"GOMP_SPINCOUNT": "30000"}
"""Threads that wait spin for some 0.1 ms: longer than the gaps within a call (where sleeping made a 0.13 ms router 6 times
slower), and much shorter than a turn of a duel, in which the other side's threads must not spin."""

TUNABLES, HUGE_PAGES = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
"""glibc asks for huge pages, as NumPy does, where the system leaves that to programs: which small pages a process got, and how
fast the machine looks them up just now, is one thing less that processes of equal code differ by, and one that a canary in huge
pages cannot see."""

RECORDED = (
    *NUMERICS,
    *ALLOCATOR,
    *SHARED_HOST,
    TUNABLES,
    "OMP_NUM_THREADS",
    "OMP_PROC_BIND",
    "OMP_PLACES",
    "KMP_AFFINITY",
    "KMP_BLOCKTIME",
    "MKL_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA",
    *VISIBLE,
    "CUDA_DEVICE_ORDER",
    "NVIDIA_VISIBLE_DEVICES",
    "ASCEND_VISIBLE_DEVICES",
    "ZE_AFFINITY_MASK",
    "ONEAPI_DEVICE_SELECTOR",
    "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "CUDA_DEVICE_MAX_CONNECTIONS",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_NPU_ALLOC_CONF",
    "TASK_QUEUE_ENABLE",
)


def refuse_disturbers(environment: Mapping[str, str]) -> None:
    """Raises UserError naming a variable that would change what is timed."""
    for name, what in DISTURBERS.items():
        if environment.get(name, "").lower() not in ("", "0", "false"):
            raise UserError(f"{name} is set and {what}: unset it, times would not be this machine's")


def worker_environment(code: Path, shared_host: bool) -> dict[str, str]:
    """Our environment with the worker's code first on its path, numerics pinned and the allocator told to keep memory.

    What the user says of the allocator and of huge pages stays.
    """
    environment = dict(os.environ)
    others = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = f"{code}{os.pathsep}{others}" if others else str(code)
    environment["PYTHONSAFEPATH"] = "1"  # the scratch folder is no place to import from
    environment |= NUMERICS
    if shared_host:
        environment |= SHARED_HOST
    own = environment.get(TUNABLES, "").strip(":")
    if HUGE_PAGES not in own:
        environment[TUNABLES] = f"{own}:{HUGE_PAGES}=1".lstrip(":")
    return ALLOCATOR | environment


def side_by_side(target: TargetName) -> dict[str, str]:
    """Variables for both sides of a duel: on the host's CPU their threads have the same places.

    With them and huge pages, pairs of processes of equal code differed by 1.6 % where they had differed by 2.5 % (a virtual
    machine, 2 CPUs).
    """
    if target.device != "cpu" or not hasattr(os, "sched_getaffinity"):
        return BRIEF_SPINS
    places = ",".join(f"{{{cpu}}}" for cpu in sorted(os.sched_getaffinity(0)))
    return BRIEF_SPINS | {"OMP_PROC_BIND": "close", "OMP_PLACES": places}


def recorded_variables(shared_host: bool) -> dict[str, str]:
    """The values that workers see of the variables that matter, for the record (none of them holds a path)."""
    seen = worker_environment(Path(), shared_host)
    return {name: seen[name] for name in RECORDED if name in seen}

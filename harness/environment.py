"""What this machine is, for the header of a run. No paths, no host name, no user name."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["environment", "moemark_version"]

PACKAGES = ("numpy", "msgspec", "torch", "torch-npu", "onnxruntime", "onnxruntime-gpu", "onnxruntime-cann", "onnx")
_ROOT = Path(__file__).resolve().parent.parent


def environment() -> dict[str, Any]:
    """Machine, system, Python, moemark's own version and git state. What could not be read is absent."""
    return {
        "machine": _known(_machine()),
        "system": _known(_system()),
        "python": {"version": platform.python_version(), "implementation": platform.python_implementation()},
        "packages": _packages(),
        "moemark": _known({"version": moemark_version(), **_git()}),
    }


def moemark_version() -> str:
    """The installed version, or the checkout's."""
    try:
        return metadata.version("moemark")
    except metadata.PackageNotFoundError:
        return "0+checkout"


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _machine() -> dict[str, Any]:
    import cpuinfo
    import psutil

    cpu = cpuinfo.get_cpu_info()
    caches = _cache_bytes()
    return {
        "cpu": cpu.get("brand_raw") or platform.processor() or platform.machine(),
        "cpu_flags": sorted(set(cpu.get("flags", ())) & _TELLING_FLAGS) or None,
        "architecture": platform.machine(),
        "cores_physical": psutil.cpu_count(logical=False),
        "cores_logical": psutil.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "sockets": _sockets(),
        "numa_nodes": len(list(Path("/sys/devices/system/node").glob("node[0-9]*"))) or None,
        "llc_bytes": max(caches, default=None) or cpu.get("l3_cache_size"),
        "memory_bytes": psutil.virtual_memory().total,
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
    }


_TELLING_FLAGS = {
    "avx2",
    "avx512f",
    "avx512_bf16",
    "avx512_fp16",
    "avx512_vnni",
    "amx_bf16",
    "amx_tile",
    "asimd",
    "sve",
}


def _system() -> dict[str, Any]:
    return {
        "name": platform.system(),
        "kernel": platform.release(),
        "distribution": _distribution(),
        "libc": " ".join(platform.libc_ver()).strip() or None,
        "governor": _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "turbo_off": _text("/sys/devices/system/cpu/intel_pstate/no_turbo"),
        "cgroup_cpu_max": _text("/sys/fs/cgroup/cpu.max"),
        "cgroup_memory_max": _text("/sys/fs/cgroup/memory.max"),
        "huge_pages": _chosen(_text("/sys/kernel/mm/transparent_hugepage/enabled")),
        "container": _container(),
    }


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # absent is absent
    return found


def _git() -> dict[str, Any]:
    """Commit of the checkout and whether it has changes; nothing where this is no checkout."""
    if not (_ROOT / ".git").exists():
        return {}
    commit, changes = _git_answer("rev-parse", "HEAD"), _git_answer("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit or None, "dirty": None if changes is None else bool(changes)}


def _git_answer(*words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(_ROOT), *words], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text().strip() or None
    except OSError:
        return None


def _chosen(options: str | None) -> str | None:
    """The bracketed one of the kernel's `always [madvise] never`."""
    return options.partition("[")[2].partition("]")[0] if options and "[" in options else options


def _cache_bytes() -> list[int]:
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    sizes = [_text(str(path)) for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    return [int(size[:-1]) * units[size[-1]] for size in sizes if size and size[-1] in units]


def _sockets() -> int | None:
    ids = {_text(str(path)) for path in Path("/sys/devices/system/cpu").glob("cpu*/topology/physical_package_id")}
    return len(ids) or None


def _distribution() -> str | None:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        return None


def _container() -> str | None:
    if Path("/.dockerenv").exists():
        return "docker"
    if Path("/run/.containerenv").exists():
        return "podman"
    return "kubernetes" if os.environ.get("KUBERNETES_SERVICE_HOST") else None

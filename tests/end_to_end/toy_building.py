"""Compiles the toy device, once for each version of its source and of torch."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["compiler", "library", "variables"]

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "tests" / "toy_device"
"""Must not be on the path of pytest itself: torch would load the device there too."""
BUILT = ROOT / ".venv-toy"
"""Where compiled libraries are kept between sessions, with the environments that tests make."""
PATHS = """
import torch
from torch.utils.cpp_extension import include_paths, library_paths
print(torch.__version__, int(torch.compiled_with_cxx11_abi()), *include_paths(), "|", *library_paths())
"""


def compiler() -> str | None:
    """The C++ compiler of this machine; None where there is none."""
    return os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")


def library() -> Path:
    """The compiled library. Raises CalledProcessError where it does not compile."""
    said = subprocess.run([sys.executable, "-c", PATHS], capture_output=True, text=True, check=True).stdout.split()
    version, abi, *paths = said
    middle = paths.index("|")
    source = HERE / "toy_device.cpp"
    BUILT.mkdir(exist_ok=True)
    built = BUILT / f"toy-{hashlib.sha256(source.read_bytes() + version.encode()).hexdigest()[:16]}.so"
    with (BUILT / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # pytest's workers want it at once
        if not built.exists():
            flags = ["-std=c++20", "-O1", "-fPIC", "-shared", f"-D_GLIBCXX_USE_CXX11_ABI={abi}"]
            where = [f"-I{path}" for path in paths[:middle]] + [f"-L{path}" for path in paths[middle + 1 :]]
            half = built.with_suffix(f".{os.getpid()}")
            command = [str(compiler()), *flags, *where, str(source), "-o", str(half), "-ltorch", "-ltorch_cpu", "-lc10"]
            subprocess.run(command, check=True)
            half.rename(built)
    return built


def variables(**planted: str) -> dict[str, str]:
    """The environment variables under which torch finds the device, with these faults."""
    paths = os.pathsep.join((str(ROOT), str(HERE)))
    return {"PYTHONPATH": paths, "TOY_LIBRARY": str(library())} | planted

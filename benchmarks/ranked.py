"""Starts a benchmark again as the ranks of a group, by torchrun."""

from __future__ import annotations

import os
import subprocess
import sys

from harness.surroundings import ALLOCATOR

__all__ = ["is_rank", "run_as_ranks"]


def is_rank() -> bool:
    """Whether torchrun started this process."""
    return "RANK" in os.environ


def run_as_ranks(module: str, count: int) -> int:
    """This command again, in `count` ranks on this host; its exit code."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    return subprocess.run([*torchrun, "-m", module, *sys.argv[1:]], env=ALLOCATOR | dict(os.environ)).returncode

"""What is dear to compute and the same in every process of a run, kept in a folder of the run's for the processes that follow.

Planted inputs and float64 references are pinned: two processes of one run compute the very same arrays. The conductor makes
the folder, which only its own user can write to, and removes it when the run ends: nothing in it outlives the code that made
it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pickle
from collections.abc import Callable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

__all__ = ["LARGEST", "keep_in", "kept"]

LARGEST = 1 << 28
"""Bytes of the largest thing kept: beyond, reading it back takes as long as computing it."""
_folder: Path | None = None
Made = TypeVar("Made")


def keep_in(folder: str | None) -> None:
    """Names the folder; None: nothing is kept."""
    global _folder
    _folder = Path(folder) if folder else None


def kept(label: tuple[object, ...], make: Callable[[], Made]) -> Made:
    """What `make` returns, or what it returned in an earlier process under the same label: one makes it, others wait."""
    if _folder is None:
        return make()
    # An array pickled by one major version of NumPy is not read by another: interpreters of both can be in one run.
    text = repr((np.__version__.split(".")[0], label))
    path = _folder / hashlib.sha256(text.encode()).hexdigest()[:32]
    handle = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if path.exists():
            found: Made = pickle.loads(path.read_bytes())
            return found
        made = make()
        _keep(path, made)
        return made
    finally:
        os.close(handle)


def _keep(path: Path, made: Any) -> None:
    if _array_bytes(made) > LARGEST:
        return
    part = path.with_suffix(".part")
    part.write_bytes(pickle.dumps(made, protocol=pickle.HIGHEST_PROTOCOL))
    part.rename(path)


def _array_bytes(value: Any) -> int:
    """Bytes of all arrays in dataclasses, lists, tuples and dicts."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if is_dataclass(value):
        value = vars(value)
    if isinstance(value, dict):
        value = list(value.values())
    return sum(map(_array_bytes, value)) if isinstance(value, list | tuple) else 0

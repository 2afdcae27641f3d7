"""A lock per physical device keeps two runs of ours apart."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

__all__ = ["VISIBLE", "device_key", "device_keys", "hold_devices"]

VISIBLE = ("CUDA_VISIBLE_DEVICES", "ASCEND_RT_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
"""Variables that say which physical devices a runtime's numbers 0, 1, ... mean."""


def device_keys(target: str, described: Mapping[str, Any], environment: Mapping[str, str]) -> list[str]:
    """What names the physical devices of a target, of all ranks on this host where it has several."""
    ranks = described.get("ranks")
    if not ranks:
        return [device_key(target, described, environment)]
    own = ({"pci": device} if "." in str(device) else {"device_id": device} for device in ranks["devices"])
    return [device_key(target, one, environment) for one in own]


def device_key(target: str, described: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """What names the physical device of a target: its PCI address where it is known, since a runtime numbers what it sees."""
    if pci := described.get("pci"):
        return str(pci)
    seen = [f"{name}={environment[name]}" for name in VISIBLE if name in environment]
    return " ".join([str(described.get("device_id", target)), *seen])


@contextmanager
def hold_devices(device_ids: Iterable[str], say: Callable[[str], None]) -> Iterator[None]:
    """Holds the locks of these devices; waits for another run to end, saying so once a device."""
    with ExitStack() as stack:
        for device in sorted(set(device_ids)):  # always in the same order, so that two runs never wait for each other
            stack.enter_context(_hold(device, say))
        yield


@contextmanager
def _hold(device: str, say: Callable[[str], None]) -> Iterator[None]:
    name = hashlib.sha256(device.encode()).hexdigest()[:16]
    handle = _open(Path(tempfile.gettempdir()) / f"moemark-{name}.lock")
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another run holds {device}: waiting until it ends")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _open(path: Path) -> int:
    """The lock file, never removed: a removed one would be two locks. Another user's is opened for reading."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
    except PermissionError:
        return os.open(path, os.O_RDONLY)

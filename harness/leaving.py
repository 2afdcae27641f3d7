"""Ending the command: what a long comparison read and made is a million objects, and nobody needs them taken apart."""

from __future__ import annotations

import atexit
import os
import sys
from typing import Any, NoReturn

__all__ = ["MANY", "keep", "leave"]

MANY = 10_000
"""Measurements from which on that takes a time that is noticed: 50 ms."""
_kept: list[Any] = []


def keep(measurements: int, *several: Any) -> None:
    """Keeps what was made of so many measurements, if they are many, until the process ends; nothing that was kept before."""
    _kept[:] = several if measurements >= MANY else ()


def leave(code: int) -> NoReturn:
    """Ends the process with this exit code: as `sys.exit` does, but at once where something is kept.

    The interpreter would free object by object, which takes a tenth of the time of a long comparison; the system takes it all
    back in one go. Output is written and what was registered for the exit is done before.
    """
    if _kept and _flushed():
        atexit._run_exitfuncs()
        if _flushed():
            os._exit(code)
    sys.exit(code)


def _flushed() -> bool:
    """Whether all output is where it goes; where not, the ordinary way out says why."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return False
    return True

"""Numbers as people type them: `10s`, `2m`, `1%`."""

from __future__ import annotations

import re

__all__ = ["fraction", "seconds"]

_SECONDS = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z%]*)\s*")


def seconds(text: str) -> float:
    """`10s`, `500ms`, `2m` or plain `10` in seconds. Raises ValueError with an example."""
    match = _NUMBER.fullmatch(text)
    if not match or match[2] not in _SECONDS:
        raise ValueError(f"{text!r} is no time: write for instance 10s, 500ms or 2m")
    return float(match[1]) * _SECONDS[match[2]]


def fraction(text: str) -> float:
    """`1%` or `0.01` as 0.01. Raises ValueError with an example."""
    match = _NUMBER.fullmatch(text)
    if not match or match[2] not in ("", "%"):
        raise ValueError(f"{text!r} is no share: write for instance 1%")
    return float(match[1]) / (100.0 if match[2] else 1.0)

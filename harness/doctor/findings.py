"""One target, and whether it can run: what the doctor finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.doctor.hosts import Seen
from harness.targets.known import hardware

__all__ = ["Finding", "candidate_first", "missing_hardware"]


@dataclass(frozen=True)
class Finding:
    """A target that a runtime reports or could have, and what came of asking."""

    target: str
    usable: bool = False
    device: str | None = None
    runtime: str | None = None
    reason: str | None = None
    """What is missing, with the next step."""
    title: str | None = None
    """Where the target's name does not tell two of them apart."""
    candidate: bool = False
    """The runtime reports it, so that opening it was tried."""
    make: str | None = None
    """The hardware that it needs, as in `harness.targets.known`."""
    told: tuple[dict[str, Any], ...] = ()
    """What the runtime told of each of its devices."""
    libraries: dict[str, str] = field(default_factory=dict)
    describe: dict[str, Any] = field(default_factory=dict)
    """What the open target tells of itself, as in records."""


def candidate_first(one: Finding) -> tuple[bool, bool, bool]:
    """Sorts usable ones first and of these accelerators, then what was tried, then the rest."""
    return not one.usable, not one.candidate, one.target.endswith(":cpu")


def missing_hardware(one: Finding, seen: Sequence[Seen]) -> str | None:
    """The reason, with the hardware that is missing in front of it, or that is there and has no driver."""
    if one.reason is None or one.make is None:
        return one.reason
    make, there = hardware()[one.make], [found for found in seen if found.make == one.make]
    if not there:
        return one.reason if one.candidate else f"no {make.name} is seen here; with one: {one.reason}"
    if not any(found.driver for found in there):
        return f"{make.name} at {there[0].address} has no driver: {make.driver}; then: {one.reason}"
    return f"{make.name} at {there[0].address}, driver {there[0].driver}: {one.reason}"

"""Which records are of one machine: what must be equal for times to be compared, and what is only said when it differs.

A gate looks for an older run of this machine. Hardware and what limits it must be equal. Versions and settings may be the very
change that is tested: they are named beside the verdict and hinder nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from results.record import Run, table_in

__all__ = ["IDENTITY", "changes", "of_one_machine", "same_machine", "several_threads"]

IDENTITY = ("machine.cpu", "machine.cores_logical", "machine.architecture", "machine.memory_gib", "system.name")
"""What must be equal for two environments to be of the same machine."""
LIMITS = ("machine.cores_usable", "system.cgroup_cpu_max")
"""What must be equal too for its times to be compared."""
DEVICE = ("name", "device_id", "unit")
"""What must be equal of each target that both runs have: a `device_id` is a place in one machine."""
NOTED = (
    "system.kernel",
    "system.libc",
    "system.huge_pages",
    "system.governor",
    "system.turbo_off",
    "system.container",
    "python.version",
    "moemark.version",
)
NOTED_OF_TARGETS = ("runtime_version", "driver", "threads")


def same_machine(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> str | None:
    """None where two environments are of the same machine; else the first difference as text."""
    return next(_differing(recorded, here, IDENTITY), None)


def of_one_machine(base: Run, new: Run) -> str | None:
    """None where the times of two runs may be compared for a gate; else the first difference as text."""
    machine = _differing(base.environment, new.environment, (*IDENTITY, *LIMITS))
    return next(chain(machine, _of_targets(base, new, DEVICE)), None)


def changes(base: Run, new: Run) -> list[str]:
    """Versions and settings that differ: each may be why times do."""
    rooms = [f"{room}.{name}" for room in ("packages", "variables") for name in _names(base, new, room)]
    machine = _differing(base.environment, new.environment, (*NOTED, *rooms))
    return [*machine, *_of_targets(base, new, NOTED_OF_TARGETS)]


def several_threads(run: Run) -> frozenset[str]:
    """The targets that compute on the host's CPU with more than one thread, as far as they say so."""
    found = ((name, table_in(table_in(run.environment, "targets"), name)) for name in run.targets)
    return frozenset(
        name
        for name, about in found
        if about.get("unit") == "host" and isinstance(threads := about.get("threads"), int) and threads > 1
    )


def _names(base: Run, new: Run, room: str) -> list[str]:
    return sorted(table_in(base.environment, room).keys() | table_in(new.environment, room).keys())


def _differing(base: Mapping[str, Any], new: Mapping[str, Any], keys: Iterable[str]) -> Iterator[str]:
    for key in keys:
        room, _, name = key.partition(".")
        yield from _change(key, table_in(base, room).get(name), table_in(new, room).get(name))


def _of_targets(base: Run, new: Run, names: Iterable[str]) -> Iterator[str]:
    both = table_in(base.environment, "targets").keys() & table_in(new.environment, "targets").keys()
    for target in sorted(both):
        before, now = (table_in(run.environment, "targets", target) for run in (base, new))
        for name in names:
            yield from _change(f"{name} of {target}", before.get(name), now.get(name))


def _change(what: str, before: Any, now: Any) -> Iterator[str]:
    if before != now:
        yield f"{what} was {before!r} and is {now!r} here"

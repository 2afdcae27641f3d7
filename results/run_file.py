"""What reading a run file gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from results import record
from results.record import table_in

__all__ = ["RunFile"]


@dataclass(frozen=True)
class RunFile:
    """The intact lines of one run."""

    stem: str
    """File name without its ending: what tables call the run."""
    run: record.Run
    ceilings: tuple[record.Ceiling, ...]
    measurements: tuple[record.Measurement, ...]
    digests: tuple[str, ...]
    """`line_sha256` of each measurement, in the same order."""
    end: record.End | None
    torn: bool
    """The last line was cut off by a kill and is left out."""
    lines: int
    """Intact lines, the header and `end` included."""
    parts: tuple[record.Part, ...] = ()
    """What single processes found; the measurements hold it too as soon as the last round is over."""
    places: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Kind of line → the line numbers, from 1, of those lines, in their order."""
    extras: Mapping[int, dict[str, Any]] = field(default_factory=dict)
    """Line number → what a newer minor version put there and this one does not know: values by their path, or a whole line."""
    newer: str | None = None
    """The sentence that says so; None of a file of this version or an older one."""
    last_digest: str = ""
    """`line_sha256` of the last intact line, of whatever kind; empty of what no file holds."""

    @cached_property
    def device_names(self) -> Mapping[str, str]:
        """Target → what its device is called, wherever devices are told apart.

        A runtime that cannot name its device repeats the target's own word (`cuda`). Another target of the run on the same
        device may know its name. If none does, it is called after its machine: the `cuda` of two machines are two devices.
        """
        reported = table_in(self.run.environment, "targets")
        facts = {target: told for target in reported if (told := table_in(reported, target))}
        cpu = str(table_in(self.run.environment, "machine").get("cpu") or "")
        named: dict[str, str] = {}
        for target, told in facts.items():
            if name := _own_name(target, told):
                named.setdefault(_place(target, told), name)
        return {
            target: _own_name(target, told) or named.get(_place(target, told)) or _after_machine(target, told, cpu)
            for target, told in facts.items()
        }

    @property
    def complete(self) -> bool:
        """True if the run came to its end; neither killed nor interrupted."""
        return self.end is not None and not self.end.interrupted

    @property
    def warning(self) -> str | None:
        """What a reader should say once; None if there is nothing to say."""
        return "; ".join(filter(None, (self._unfinished, self.newer))) or None

    @property
    def _unfinished(self) -> str | None:
        if self.complete:
            return None
        torn = " (a torn last line is left out)" if self.torn else ""
        how = "was interrupted" if self.end else f"was cut off{torn}"
        whole = f"{len(self.measurements)} measurements"
        if self.parts and not self.measurements:
            whole = f"{len(self.parts)} parts of measurements by several processes"
        return f"{self.stem} {how}: {whole} are intact; --resume finishes it"


def _own_name(target: str, told: Mapping[str, Any]) -> str | None:
    """The name that a target's runtime gave its device; None where it is a part of the target's own."""
    name = str(told.get("name") or "")
    return name if name and name.lower() not in target.lower() else None


def _place(target: str, told: Mapping[str, Any]) -> str:
    """What targets on one device have in common."""
    return str(told.get("device_id", target))


def _after_machine(target: str, told: Mapping[str, Any], cpu: str) -> str:
    if told.get("unit") == "host" and cpu:
        return cpu
    word = str(told.get("name") or target)
    return f"{word} of {cpu}" if cpu else word

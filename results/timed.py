"""What comparing times needs of a line, and nothing else: half the time to read, a fifth of the memory.

The lines are those that `results.record` describes, and their digests are tested; fields that are passed over are not.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import msgspec

from results.record import AtLeastOne, Ceiling, Count, Division, End, Measurement, Run, Status, consistent

__all__ = ["DECODER", "PassedOver", "Timed", "timed_of"]


class _Light(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Fields that it does not have are passed over."""


class _Turn(_Light, frozen=True, kw_only=True):
    process: Count
    samples: Count
    canary: Count = 0
    shares: AtLeastOne = 1


class Timed(_Light, frozen=True, kw_only=True, tag_field="kind", tag="measurement"):
    """A measurement as `results.matching`, `results.statistics` and `results.two_runs` see it, by the same names."""

    case: str
    case_digest: str
    target: str
    implementation: str
    division: Division
    status: Status
    reason: str | None = None
    input_digest: str | None = None
    samples_ns: Sequence[Count] = []
    """An array."""
    slots: list[int] | None = None
    calls_per_sample: AtLeastOne = 1
    processes: AtLeastOne = 1
    turns: list[_Turn] = []
    canary: str | None = None
    canary_calls: AtLeastOne = 1
    canary_ns: list[Count] = []
    warnings: list[str] = []
    level: msgspec.UnsetType = msgspec.UNSET
    """No record holds one: set where the level of the samples stands in for them (`results.levelled`)."""

    def __post_init__(self) -> None:
        consistent(self)
        # A list of so many numbers takes four times the memory, and NumPy four times as long to read it.
        msgspec.structs.force_setattr(self, "samples_ns", array("q", self.samples_ns))


def timed_of(line: Measurement) -> Any:
    """The `Timed` of a measurement that was read whole."""
    return Timed(**{name: getattr(line, name) for name in Timed.__struct_fields__ if name != "level"})


class PassedOver(_Light, frozen=True, kw_only=True, tag_field="kind", tag="part"):
    """A part of a measurement by several processes, which the measurement holds too."""


DECODER = msgspec.json.Decoder(Run | Ceiling | PassedOver | Timed | End)

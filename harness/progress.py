"""What the conductor tells while a run goes on. This one keeps silent; `harness.printing` has those that speak."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.plan import LeftOut, Step
from results.record import Measurement, Part

__all__ = ["Observer"]


class Observer:
    """Override what should be seen. Everything seen goes to standard error, never to standard output."""

    def say(self, text: str) -> None:
        """One line about the run as a whole."""

    def planned(self, steps: Sequence[Step], done: int, left_out: Sequence[LeftOut], processes: int) -> None:
        """The measurements of the run, how many of them are recorded already, what is left out, and processes of each."""

    def begins(self, number: int, total: int, step: Step) -> None:
        """Measurement `number` of `total` begins."""

    def phase(self, name: str) -> None:
        """The measurement under way enters a phase: inputs, prepare, check, warm-up, sample, final check."""

    def progress(self, event: dict[str, Any]) -> None:
        """How sampling goes: `ns`, `precision`, `elapsed_s`, `budget_s`."""

    def finished(self, number: int, total: int, measurement: Measurement) -> None:
        """A measurement is recorded."""

    def visited(self, number: int, total: int, part: Part) -> None:
        """One of several processes has measured a case, the visit `number` of `total`."""

    def close(self) -> None:
        """The run is over, whichever way."""

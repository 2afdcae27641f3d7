"""Where a figure stands: the line of a record that a reader can look up."""

from __future__ import annotations

from dataclasses import dataclass

from results.record import Measurement
from results.store import RunFile

__all__ = ["Row", "row_of"]


@dataclass(frozen=True)
class Row:
    """One line of a record."""

    run: str
    line: int
    """Line number in the run file, from 1."""
    case: str
    target: str
    implementation: str

    def __str__(self) -> str:
        return f"{self.run} line {self.line}: {self.case} {self.target} {self.implementation}"


def row_of(run_file: RunFile, measurement: Measurement) -> Row:
    """Where a measurement of a run stands."""
    place = next(i for i, line in enumerate(run_file.measurements) if line is measurement)
    line = run_file.places["measurement"][place]
    return Row(run_file.stem, line, measurement.case, measurement.target, measurement.implementation)

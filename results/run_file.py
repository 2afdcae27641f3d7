"""What reading a run file gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from results import record

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

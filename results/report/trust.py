"""Whether a record may be ranked: only one that `results.verify` found nothing against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from results.store import RunFile
from results.verify import verify

__all__ = ["Judge", "Trust", "judged"]


@dataclass(frozen=True)
class Trust:
    """The judgement on one record; `reason` says what is against it."""

    verified: bool
    reason: str = ""


Judge = Callable[[RunFile], Trust]


def judged(run_file: RunFile) -> Trust:
    """The judgement of `results.verify`."""
    findings = verify(run_file)
    if not findings:
        return Trust(True)
    first = findings[0]
    where = "" if first.line is None else f"line {first.line}: "
    more = f" (and {len(findings) - 1} more findings)" if len(findings) > 1 else ""
    return Trust(False, f"{where}{first.rule}: {first.evidence}{more}")

"""Whether a record may be ranked: only one in which `results.verify` found nothing that an honest run cannot leave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from results.run_file import RunFile
from results.verify import verify

__all__ = ["Judge", "Trust", "judged"]


@dataclass(frozen=True)
class Trust:
    """The judgement on one record."""

    verified: bool
    reason: str = ""
    """What is against it; of a verified one what its readers must know."""


Judge = Callable[[RunFile], Trust]


def judged(run_file: RunFile) -> Trust:
    """The judgement of `results.verify`: errors keep a record from being ranked, warnings are passed on."""
    findings = verify(run_file)
    errors = [one for one in findings if one.severity == "error"]
    told = errors or findings
    if not told:
        return Trust(True)
    where = "" if told[0].line is None else f"line {told[0].line}, "
    more = f" (and {len(told) - 1} more)" if len(told) > 1 else ""
    return Trust(not errors, f"{where}{told[0].rule}: {told[0].evidence}{more}")

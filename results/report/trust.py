"""Whether a record may be ranked: only one that `results.verify` found nothing against."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

from results.store import RunFile

__all__ = ["Judge", "Trust", "judged"]


@dataclass(frozen=True)
class Trust:
    """The judgement on one record; `reason` says what is against it."""

    verified: bool
    reason: str = ""


Judge = Callable[[RunFile], Trust]


def judged(run_file: RunFile) -> Trust:
    """The judgement of `results.verify`; where this version has none, no record is verified."""
    if importlib.util.find_spec("results.verify") is None:
        return Trust(False, "not verified: this version of moemark cannot verify records")
    findings = importlib.import_module("results.verify").verify(run_file)
    grave = [one for one in findings if one.severity != "note"]
    if not grave:
        return Trust(True)
    more = f" (and {len(grave) - 1} more findings)" if len(grave) > 1 else ""
    return Trust(False, f"line {grave[0].line}: {grave[0].rule}: {grave[0].evidence}{more}")

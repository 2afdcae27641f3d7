"""Whether a record may be ranked: only one in which `results.verify` found nothing that an honest run cannot leave, and whose
work and clock it knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from results.record import table_in
from results.run_file import RunFile
from results.verify import Finding, verification

__all__ = ["Judge", "Trust", "judged"]

NULL = "null"
"""The runtime whose durations are planted: that of the target which tests play whole runs on."""


@dataclass(frozen=True)
class Trust:
    """The judgement on one record."""

    verified: bool
    reason: str = ""
    """What is against it; of a verified one what its readers must know."""


Judge = Callable[[RunFile], Trust]


def judged(run_file: RunFile) -> Trust:
    """The judgement of `results.verify`: errors keep a record from being ranked, and so does a digest, a cost or a clock that
    nobody here can verify; warnings and what else was not looked at are passed on."""
    if NULL in [_runtime(run_file, target) for target in run_file.run.targets]:
        return Trust(False, "the durations of the null target are planted: it is never ranked")
    found = verification(run_file)
    errors = [_said(one) for one in found.findings if one.severity == "error"]
    against = errors + _not_verified(found.vital)
    told = against or [_said(one) for one in found.findings] + _not_verified(found.unchecked)
    more = f" (and {len(told) - 1} more)" if len(told) > 1 else ""
    return Trust(not against, told[0] + more if told else "")


def _runtime(run_file: RunFile, target: str) -> object:
    return table_in(run_file.run.environment, "targets", target, "facts").get("runtime")


def _said(one: Finding) -> str:
    where = "" if one.line is None else f"line {one.line}, "
    return f"{where}{one.rule}: {one.evidence}"


def _not_verified(sentences: tuple[str, ...]) -> list[str]:
    return [f"not verified: {sentence}" for sentence in sentences]

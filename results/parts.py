"""From what each process of several found to the measurement that they make together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import asdict, replace

from results.record import Check, Measurement, Part
from results.statistics import time_of

__all__ = ["joined", "part_of"]


def part_of(found: Measurement, process: int) -> Part:
    """What one process measured, as a part."""
    return Part(process=process, **asdict(found))


def joined(parts: Sequence[Part], processes: int, precision: float) -> Measurement:
    """The measurement of these parts, in the order of their processes: samples one after the other, the worst of all checks.

    The first part that failed makes the whole fail: `processes` is how many were meant. What is observed once a process
    (`prepare_ns`, `first_call_ns`, ...) is the first one's, which found the machine as a single run does. `noisy` is the whole
    whose interval, over the processes, is wider than `precision`; parts that do not fit together are an `error`. Raises
    ValueError without parts.
    """
    ordered = sorted(parts, key=lambda part: part.process)
    if not ordered:
        raise ValueError("no parts to join")
    failed = next((part for part in ordered if part.status != "ok"), None)
    if failed is not None:
        reason = f"process {failed.process + 1} of {processes}: {failed.reason}"
        return _measurement(failed, reason=reason if failed.process else failed.reason)
    unlike = next((name for name in _ALIKE if len({getattr(part, name) for part in ordered}) > 1), None)
    if unlike is not None:
        nothing: dict[str, Any] = {"samples_ns": [], "slots": None, "turns": [], "canary_ns": [], "warnings": []}
        return _measurement(
            ordered[0], status="error", reason=f"its processes differ in {unlike}: measure again", **nothing
        )
    whole = _measurement(
        ordered[0],
        processes=len(ordered),
        samples_ns=[ns for part in ordered for ns in part.samples_ns],
        slots=None if ordered[0].slots is None else [slot for part in ordered for slot in part.slots or ()],
        turns=[turn for part in ordered for turn in part.turns],
        canary_ns=[ns for part in ordered for ns in part.canary_ns],
        warnings=sorted({word for part in ordered for word in part.warnings} - {"noisy"}),
        check=_worst([part.check for part in ordered if part.check is not None]),
    )
    noisy = time_of(whole).precision > precision
    return replace(whole, warnings=["noisy", *whole.warnings]) if noisy else whole


def _measurement(part: Part, **changes: Any) -> Measurement:
    fields = asdict(part) | changes
    del fields["process"]
    return Measurement(**fields)


def _worst(checks: Sequence[Check]) -> Check:
    """Every error the largest of all, every count that of all; the seed is the first one's."""
    worst = {name: _largest([getattr(check, name) for check in checks]) for name in _ERRORS}
    tokens = sum(check.tokens for check in checks)
    return replace(checks[0], tokens=tokens, passed=all(check.passed for check in checks), **worst)


_ALIKE = ("case_digest", "input_digest", "clock", "calls_per_sample", "canary", "canary_calls")
"""What all parts must have in common: a run may have been resumed under another NumPy."""
_ERRORS = ("error", "gain", "gain_mean")


def _largest(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)

"""Rules about speed: nothing beats its device's datasheet, nor by much what the device showed, and more work takes longer."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from results.metrics import ceilings_of, compute_format, gb_per_s, tflop_per_s
from results.record import Cost
from results.statistics import Estimate
from results.verifying.device import ABOVE_SHEET, sheet_of
from results.verifying.subject import Finding, Subject, error, warning
from workloads.case import Case

__all__ = ["datasheet", "monotone", "roofline"]

ABOVE_CEILING = 2.5
"""A case may beat a ceiling that was measured beside a neighbour (`ceiling-low`, from 105 % on), but not by this."""
LONGER = 2.0
"""More work in less than half the time is no matter of which kernel was chosen."""
DISTURBED = {"contended", "throttled", "drift"}


def datasheet(subject: Subject) -> Iterator[Finding]:
    """FLOPs over time, and bytes that came from memory over time, are within what the maker says the device can do."""
    for number, line in subject.ok:
        sheet, time, case = sheet_of(subject, line.target), subject.estimates.get(number), subject.cases.get(line.case)
        if sheet is None or time is None or case is None or line.cost is None:
            continue
        peak, rate = sheet.tflops.get(compute_format(case.dtype)), tflop_per_s(line.cost.flops, time.ns)
        if peak and rate > ABOVE_SHEET * peak:
            yield error(number, f"{rate:.4g} TFLOP/s on a {sheet.name}, whose datasheet has {peak:g}")
        moved = gb_per_s(line.cost.weight_bytes, time.ns)
        if line.weights_cold and sheet.memory_gbs and moved > ABOVE_SHEET * sheet.memory_gbs:
            yield error(
                number, f"{moved:.4g} GB/s of weights on a {sheet.name}, whose datasheet has {sheet.memory_gbs:g}"
            )


def roofline(subject: Subject) -> Iterator[Finding]:
    """No case is much faster than the fastest product, or the fastest read, that the device itself showed in the run."""
    found = {target: ceilings_of(subject.file, target) for target in subject.file.run.targets}
    for number, line in subject.ok:
        time, case, shown = subject.estimates.get(number), subject.cases.get(line.case), found.get(line.target)
        if time is None or case is None or line.cost is None or shown is None:
            continue
        gemm = shown.gemm.get(compute_format(case.dtype))
        rate, moved = tflop_per_s(line.cost.flops, time.ns), gb_per_s(line.cost.weight_bytes, time.ns)
        if gemm and rate > ABOVE_CEILING * gemm.rate:
            yield error(number, f"{rate:.4g} TFLOP/s, where the fastest product of the run has {gemm.rate:.4g}")
        if line.weights_cold and shown.memory and moved > ABOVE_CEILING * shown.memory.rate:
            yield error(number, f"{moved:.4g} GB/s of weights, where the fastest read has {shown.memory.rate:.4g}")


def monotone(subject: Subject) -> Iterator[Finding]:
    """The same case with more tokens, which is more FLOPs and more bytes, does not take less than half the time."""
    families: dict[tuple[Case, str, str], list[_Sized]] = {}
    for number, line in subject.ok:
        case, time = subject.cases.get(line.case), subject.estimates.get(number)
        if case is not None and time is not None and line.cost is not None:
            family = families.setdefault((replace(case, tokens=1), line.target, line.implementation), [])
            family.append(_Sized(number, line.cost, time, not DISTURBED.isdisjoint(line.warnings)))
    for family in families.values():
        yield from _faster_with_more(family)


@dataclass(frozen=True)
class _Sized:
    """A measurement in its family; a disturbed one may have been slow for other reasons than its size."""

    number: int
    cost: Cost
    time: Estimate
    disturbed: bool


def _faster_with_more(family: Sequence[_Sized]) -> Iterator[Finding]:
    """Of each measurement that was too fast one finding, against the slowest of those with less work.

    Pairs are not gone through: a record may hold a hundred thousand sizes of one case.
    """
    slowest: list[_Sized] = []  # of those with fewer FLOPs the slowest up to so many bytes: both grow along it
    for _, equals in groupby(sorted(family, key=_flops), key=_flops):
        alike = list(equals)
        for large in alike:
            place = bisect_right(slowest, large.cost.bytes, key=_bytes)
            small = slowest[place - 1] if place else None
            if small is not None and large.time.high_ns * LONGER < small.time.low_ns:
                few = f"{small.cost.tokens} in line {small.number} took {small.time.ns:.0f}"
                yield warning(large.number, f"{large.cost.tokens} tokens took {large.time.ns:.0f} ns, and {few}")
        for one in alike:
            if not one.disturbed:
                _keep(slowest, one)


def _keep(slowest: list[_Sized], one: _Sized) -> None:
    """Puts a measurement in its place, unless a slower one has no more bytes, and takes out the faster ones behind it."""
    place = bisect_right(slowest, one.cost.bytes, key=_bytes)
    if place and slowest[place - 1].time.low_ns >= one.time.low_ns:
        return
    end = place
    while end < len(slowest) and slowest[end].time.low_ns <= one.time.low_ns:
        end += 1
    slowest[place:end] = [one]


def _flops(one: _Sized) -> int:
    return one.cost.flops


def _bytes(one: _Sized) -> int:
    return one.cost.bytes

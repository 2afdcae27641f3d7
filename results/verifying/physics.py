"""Rules about speed: nothing beats its device's datasheet, nor by much what the device showed, and more work takes longer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

from results.metrics import ceilings_of, compute_format, gb_per_s, tflop_per_s
from results.record import Measurement
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
    families: dict[tuple[Case, str, str], list[tuple[int, Measurement]]] = {}
    for number, line in subject.ok:
        case = subject.cases.get(line.case)
        if case is not None and number in subject.estimates and line.cost is not None:
            families.setdefault((replace(case, tokens=1), line.target, line.implementation), []).append((number, line))
    for members in families.values():
        for one, other in combinations(members, 2):
            small, large = sorted((one, other), key=lambda member: member[1].cost.flops)  # type: ignore[union-attr]
            yield from _faster_with_more(subject, small, large)


def _faster_with_more(
    subject: Subject, small: tuple[int, Measurement], large: tuple[int, Measurement]
) -> Iterator[Finding]:
    assert small[1].cost is not None and large[1].cost is not None
    more = large[1].cost.bytes >= small[1].cost.bytes and large[1].cost.flops > small[1].cost.flops
    less, longer = subject.estimates[large[0]], subject.estimates[small[0]]
    if more and less.high_ns * LONGER < longer.low_ns and not DISTURBED & set(small[1].warnings):
        few = f"{small[1].cost.tokens} in line {small[0]} took {longer.ns:.0f}"
        yield warning(large[0], f"{large[1].cost.tokens} tokens took {less.ns:.0f} ns, and {few}")

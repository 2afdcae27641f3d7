"""The tables of a page that are longer than a terminal's: every measurement in one row, and what each was made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from results.figures import number, percent, plain_rate, time_text
from results.report.shown import Shown
from results.statistics import samples_needed
from results.tables import EP_LABEL
from workloads.case import Case

__all__ = ["Cell", "Column", "Flat", "evidence", "measurements", "share_text"]


@dataclass(frozen=True)
class Column:
    """A heading. `pick`: readers choose rows by its values; `wrap`: sentences, which go on in further lines."""

    name: str
    right: bool = False
    pick: bool = False
    wrap: bool = False


@dataclass(frozen=True)
class Cell:
    """Text, and for figures what rows are sorted by."""

    text: str
    value: float | None = None
    whole: str | None = None
    """The text in full where `text` is cut."""
    link: str | None = None
    """A page of the same site, by a name of our making."""
    chip: bool = False
    """The text is a verdict."""


@dataclass(frozen=True)
class Flat:
    """A table without groups; the first cell of a row names it."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()


TAILS = (90, 99)
"""Percentiles that the table of measurements shows where any has them."""
_SEGMENTS: tuple[tuple[str, Callable[[Case], str | int]], ...] = (
    ("workload", lambda case: "+".join((case.workload, *case.variants))),
    ("EP", lambda case: share_text(case)),
    ("dtype", lambda case: case.dtype),
    ("routing", lambda case: case.routing),
    ("scenario", lambda case: case.scenario),
    ("seed", lambda case: case.seed),
)


def share_text(case: Case) -> str:
    """Ranks of the group, and which one's share, where it is not the most loaded one's: `32`, `32-median`."""
    return f"{case.ep}" + ("" if case.rank == "max" else f"-{case.rank}")


def measurements(lines: Sequence[Shown], several: bool) -> Flat:
    """Every measurement. Segments of the case that all have in common are in the caption."""
    varying, common = _segments(lines)
    tails = [q for q in TAILS if any(q in one.percentiles for one in lines)]
    columns = [
        Column("model", pick=True),
        *([Column("run", pick=True)] if several else []),
        *(Column(name, pick=True) for name, _ in varying),
        Column("tokens", right=True),
        Column("target", pick=True),
        Column("implementation", pick=True),
        *(
            Column(name, right=True)
            for name in ("p50", "±95%", *(f"p{q}" for q in tails), "tokens/s", "TFLOP/s", "GB/s", "roofline")
        ),
        Column("status", pick=True),
    ]
    rows = tuple(_row(one, several, [read for _, read in varying], tails) for one in lines)
    caption = f"{len(lines)} measurements" + (f", all of them {', '.join(common)}" if common and lines else "") + "."
    return Flat(caption, tuple(columns), rows, tuple(_notes(lines)))


def _segments(lines: Sequence[Shown]) -> tuple[list[Any], list[str]]:
    varying, common = [], []
    for name, read in _SEGMENTS:
        found = dict.fromkeys(read(one.case) for one in lines)
        if len(found) > 1:
            varying.append((name, read))
        elif name != "seed" or 0 not in found:
            common += [
                f"EP {value}" if name == "EP" else f"seed {value}" if name == "seed" else str(value) for value in found
            ]
    return varying, common


def _notes(lines: Sequence[Shown]) -> list[str]:
    notes = [
        f"p90 takes {samples_needed(90)} samples and p99 {samples_needed(99)}, of one call each; what none has is left out."
    ]
    if any(one.line.division == "open" for one in lines):
        notes.append("“open” implementations change the numerics or the work: they are never ranked.")
    if any(one.case.ep > 1 for one in lines):
        notes.append(f"EP > 1: {EP_LABEL}.")
    return notes


def _row(
    one: Shown, several: bool, segments: Sequence[Callable[[Case], str | int]], tails: Sequence[int]
) -> tuple[Cell, ...]:
    case, line = one.case, one.line
    words = [line.status, *(["open"] if line.division == "open" else [])]
    words += one.figures.warnings if one.figures else line.warnings
    return (
        Cell(case.model),
        *([Cell(one.run)] if several else []),
        *(Cell(str(read(case))) for read in segments),
        Cell(f"{case.tokens}", case.tokens),
        Cell(line.target),
        Cell(line.implementation),
        *_figures(one, tails),
        Cell(" ".join(words)),
    )


def _figures(one: Shown, tails: Sequence[int]) -> tuple[Cell, ...]:
    found = one.figures
    if found is None:
        return (Cell(""),) * (6 + len(tails))
    times = [_figure(one.percentiles.get(q), time_text) for q in tails]
    return (
        Cell(time_text(found.time.ns), found.time.ns),
        Cell(percent(found.time.precision), found.time.precision),
        *times,
        _figure(found.tokens_per_s, plain_rate),
        _figure(found.tflop_per_s, number),
        _figure(found.gb_per_s, number),
        _figure(found.roofline_ratio, percent),
    )


def _figure(value: float | None, text: Callable[[float], str]) -> Cell:
    return Cell("") if value is None else Cell(text(value), value)


def evidence(lines: Sequence[Shown], several: bool) -> Flat:
    """What each number was made from: samples, check, placement, digests."""
    names = ("samples", "calls each", "processes", "warm-up calls", "prepared in", "first call")
    columns = (
        Column("case, target, implementation"),
        *(Column(name, right=True) for name in names),
        Column("clock"),
        Column("weights"),
        Column("checked"),
        Column("ran on"),
        *(Column(f"{name} digest") for name in ("case", "input", "line")),
    )
    rows = tuple(_evidence(one, several) for one in lines)
    notes = (
        "Equal case and input digests are equal work on equal numbers. The line digest chains the record: it shows edits, "
        "not forgery.",
    )
    return Flat("How each measurement was made.", columns, rows, notes)


def _evidence(one: Shown, several: bool) -> tuple[Cell, ...]:
    line = one.line
    name = " ".join([*([f"{one.run}:"] if several else []), line.case, line.target, line.implementation])
    times = (line.prepare_ns, line.first_call_ns)
    return (
        Cell(name),
        Cell(f"{len(line.samples_ns)}", len(line.samples_ns)),
        Cell(f"{line.calls_per_sample}", line.calls_per_sample),
        Cell(f"{line.processes}", line.processes),
        Cell("" if line.warmup_calls is None else f"{line.warmup_calls}", line.warmup_calls),
        *(Cell("" if ns is None else time_text(ns), ns) for ns in times),
        Cell(line.clock or ""),
        Cell(_weights(one)),
        Cell(_check(one)),
        Cell(_placement(one)),
        *(Cell((digest or "")[:12], whole=digest) for digest in (line.case_digest, line.input_digest, one.digest)),
    )


def _weights(one: Shown) -> str:
    line = one.line
    if line.weights_cold is None:
        return ""
    return (
        f"{'cold' if line.weights_cold else 'cached'}, {line.copies or 1} cop{'ies' if (line.copies or 1) > 1 else 'y'}"
    )


def _check(one: Shown) -> str:
    check = one.line.check
    if check is None:
        return ""
    error = (
        ""
        if check.error is None or not check.tolerance
        else f", error {number(check.error / check.tolerance)} of the tolerance"
    )
    when = "before and after" if check.after is not None else "before"
    return f"{'right' if check.passed else 'wrong'}, {when}, {check.slots} slots, {check.tokens} tokens{error}"


def _placement(one: Shown) -> str:
    placed = one.line.placement
    if placed is None:
        return ""
    share = "" if placed.flops_on_target is None else f", {percent(placed.flops_on_target)} of FLOPs"
    return placed.device + share

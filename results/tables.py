"""Tables as plain data: what `show`, `compare` and the end of a run print, and what the report lays out in HTML.

A case id is as wide as half a terminal, so a table has one section a case and the id is its heading.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from results.compare import Comparison, Entry, Pair, SideBySide
from results.duels import CaseDecision
from results.energy import energy_of, why_no_energy
from results.figures import change, interval, number, percent, plain_rate, time_text
from results.gate import Gate
from results.metrics import metrics
from results.record import Measurement
from results.sparsity import Sparsity
from results.statistics import Estimate, Series, percentile, samples_needed
from results.store import RunFile
from workloads.case import COLLECTIVE, Case

__all__ = [
    "Column",
    "Section",
    "Table",
    "comparison_table",
    "duel_table",
    "gate_table",
    "label",
    "power_table",
    "show_table",
    "sparsity_table",
    "targets_table",
]

_Row = TypeVar("_Row")

EP_LABEL = "one rank's share of an EP group: compute only, without dispatch and combine"
DENSE_LABEL = "share over dense replica: the control is not split over the ranks of the group"


@dataclass(frozen=True)
class Column:
    """A heading; figures stand at the right."""

    name: str
    right: bool = True


@dataclass(frozen=True)
class Section:
    """Rows under one heading (empty: none). Every row has as many cells as the table has columns."""

    title: str
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Table:
    """Sections of equal columns, and notes that cells refer to as [1], [2], ..."""

    title: str
    columns: tuple[Column, ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """The table in aligned columns of plain text, without colour and without a trailing newline."""
        rows = [tuple(column.name for column in self.columns)] + [row for part in self.sections for row in part.rows]
        widths = [max(len(row[i]) for row in rows) for i in range(len(self.columns))]
        lines = [self.title, "", self._line(rows[0], widths)]
        for part in self.sections:
            lines += [part.title] if part.title else []
            lines += [self._line(row, widths) for row in part.rows]
        lines += [""] * bool(self.notes) + [f"[{i}] {note}" for i, note in enumerate(self.notes, 1)]
        return "\n".join(lines)

    def _line(self, row: Sequence[str], widths: Sequence[int]) -> str:
        pairs = zip(row, widths, self.columns, strict=True)
        cells = [cell.rjust(width) if column.right else cell.ljust(width) for cell, width, column in pairs]
        return ("  " + "  ".join(cells)).rstrip()


def label(case: Case) -> str | None:
    """What must be said of an EP share; None of a whole layer."""
    if case.ep == 1:
        return None
    if case.workload in COLLECTIVE:
        return None
    return DENSE_LABEL if case.workload == "dense-ffn" else EP_LABEL


def show_table(run_file: RunFile, measurements: Iterable[Measurement] | None = None) -> Table:
    """The measurements of a run (or these of them), a section a case, in the order of the record."""
    chosen = list(run_file.measurements if measurements is None else measurements)
    notes = _Notes()
    sections = [
        Section(_heading(case, notes), tuple(_show_row(run_file, line, notes) for line in lines))
        for case, lines in _grouped((line.case, line) for line in chosen).items()
    ]
    names = ("p50", "±95%", "p99", "tokens/s", "TFLOP/s", "GB/s", "roofline")
    columns = (_text("target"), _text("implementation"), *map(Column, names), _text("status"))
    return Table(f"{run_file.stem}: {len(chosen)} measurements", columns, tuple(sections), notes.texts)


def targets_table(cases: Sequence[SideBySide]) -> Table:
    """Per case the fastest closed or portable implementation of each target, and its time over the first target's.

    Only cases that two targets finished: `show` has the others, with the reasons.
    """
    notes = _Notes()
    rows = [_side_rows(case, notes) for case in cases if sum(entry.time is not None for entry in case.entries) > 1]
    names = ("p50", "time ratio", "95% interval")
    columns = (_text("target"), _text("implementation"), *map(Column, names))
    title = "Targets side by side: fastest exact implementation; ratio to the first target, < 1 is faster"
    return Table(title, columns, tuple(rows), notes.texts)


def sparsity_table(found: Sequence[Sparsity]) -> Table:
    """Each layer against the dense FFN of equal active FLOPs on the same target, fastest exact implementations."""
    notes = _Notes()
    cases = dict.fromkeys(one.layer.case for one in found)
    sections = [
        Section(_heading(case, notes), tuple(_sparsity_row(one, notes) for one in found if one.layer.case == case))
        for case in cases
    ]
    names = ("layer", "dense", "time ratio", "95% interval", "FLOPs ratio")
    columns = (_text("target"), *map(Column, names))
    title = (
        "What sparsity costs: MoE layer over the dense FFN of equal active FLOPs, 1 is the efficiency of a dense layer"
    )
    return Table(title, columns, tuple(sections), notes.texts)


def power_table(run_file: RunFile, measurements: Iterable[Measurement] | None = None) -> Table:
    """What sustained work drew: mean and idle power, joules per token with and without the idle floor, clock, temperature."""
    chosen = run_file.measurements if measurements is None else measurements
    shown = [line for line in chosen if line.status == "ok" and Case.parse(line.case).scenario == "sustained"]
    notes = _Notes()
    sections = [
        Section(_heading(case, notes), tuple(_power_row(line, notes) for line in shown if line.case == case))
        for case in dict.fromkeys(line.case for line in shown)
    ]
    names = ("J/token", "above idle", "mean W", "idle W", "MHz", "°C", "readings/s")
    columns = (_text("target"), _text("implementation"), *map(Column, names))
    return Table("Energy of sustained work, of what the meter covers", columns, tuple(sections), notes.texts)


def comparison_table(comparison: Comparison) -> Table:
    """Each pair with ratio, interval and verdict; the geometric mean is the last section."""
    notes = _Notes()
    rows = [(pair.case, _pair_row(pair, notes)) for pair in comparison.pairs]
    sections = [Section(case, tuple(members)) for case, members in _grouped(rows).items()]
    count = len(comparison.comparable)
    mean = Pair("", "", "", ratio=comparison.mean, verdict=comparison.mean_verdict)
    sections.append(Section(f"geometric mean of {count}", (_pair_row(mean, notes),)))
    names = ("base", "new", "change", "95% interval")
    columns = (_text("target"), _text("implementation"), *map(Column, names), _text("verdict"))
    title = f"{comparison.new} against {comparison.base}: change of time, > 0 is slower"
    return Table(title, columns, tuple(sections), notes.texts)


def gate_table(found: Gate) -> Table:
    """Each case that was ok in the base, with its change and outcome; the new ones are a note."""
    notes = _Notes()
    judged = zip(found.pairs, found.outcomes, strict=True)
    rows = [(pair.case, _gate_row(pair, word, notes)) for pair, word in judged if word != "new"]
    sections = tuple(Section(case, tuple(members)) for case, members in _grouped(rows).items())
    columns = (_text("target"), _text("implementation"), *map(Column, ("change", "95% interval")), _text("outcome"))
    title = f"{found.new} against {found.base}: change of time, > 0 is slower"
    return Table(title, columns, sections, notes.texts)


def duel_table(decisions: Sequence[CaseDecision]) -> Table:
    """Each case with B's change against A, its interval and the verdict."""
    notes = _Notes()
    sections = tuple(Section(_heading(one.case, notes), (_duel_row(one, notes),)) for one in decisions)
    columns = (_text("implementation"), *map(Column, ("change", "interval", "pairs", "turns")), _text("verdict"))
    return Table("B against A: change of time, > 0 is slower", columns, sections, notes.texts)


def _grouped(pairs: Iterable[tuple[str, _Row]]) -> dict[str, list[_Row]]:
    """Rows by their heading, both in the order in which they come first."""
    groups: dict[str, list[_Row]] = {}
    for heading, row in pairs:
        groups.setdefault(heading, []).append(row)
    return groups


@dataclass
class _Notes:
    """Long texts under a table, each once."""

    numbers: dict[str, int] = field(default_factory=dict)

    def mark(self, text: str) -> str:
        return f"[{self.numbers.setdefault(text, len(self.numbers) + 1)}]"

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(self.numbers)


def _text(name: str) -> Column:
    return Column(name, right=False)


def _heading(case: str, notes: _Notes) -> str:
    said = label(Case.parse(case))
    return f"{case} {notes.mark(said)}" if said else case


def _show_row(run_file: RunFile, line: Measurement, notes: _Notes) -> tuple[str, ...]:
    found = metrics(run_file, line)
    if found is None:
        reason = f" {notes.mark(line.reason)}" if line.reason else ""
        return (line.target, line.implementation, *[""] * 7, line.status + reason)
    return (
        line.target,
        line.implementation,
        time_text(found.time.ns),
        percent(found.time.precision),
        _tail(line, notes),
        plain_rate(found.tokens_per_s),
        number(found.tflop_per_s),
        number(found.gb_per_s),
        percent(found.roofline_ratio),
        _status(line, found.warnings),
    )


def _status(line: Measurement, warnings: tuple[str, ...]) -> str:
    words = [line.status, *(["open"] if line.division == "open" else []), *warnings]
    return " ".join(words)


def _tail(line: Measurement, notes: _Notes) -> str:
    """p99, or in short why there is none."""
    value, reason = percentile(line.samples_ns, line.slots, line.calls_per_sample, 99, Series.of(line).processes)
    if value is not None:
        return time_text(value)
    if line.calls_per_sample > 1:
        return "- " + notes.mark("no p99: a sample is many calls, since one is too short for the clock")
    return f"n={len(line.samples_ns)} " + notes.mark(f"no p99: it takes {samples_needed(99)} samples") if reason else ""


def _side_rows(case: SideBySide, notes: _Notes) -> Section:
    return Section(_heading(case.case, notes), tuple(_side_row(entry, notes) for entry in case.entries))


def _side_row(entry: Entry, notes: _Notes) -> tuple[str, ...]:
    if entry.time is None:
        return (entry.target, f"- {notes.mark(entry.reason)}" if entry.reason else "-", "", "", "")
    ratio = entry.ratio
    cells = (number(ratio.value), interval(ratio)) if ratio else ("1", "")
    return (entry.target, entry.implementation or "", time_text(entry.time.ns), *cells)


def _sparsity_row(one: Sparsity, notes: _Notes) -> tuple[str, ...]:
    mark = f" {notes.mark(DENSE_LABEL)}" if Case.parse(one.control.case).ep > 1 else ""
    times = [time_text(found.ns) for found in (one.layer_time, one.control_time)]
    return (one.target, *times, number(one.time.value) + mark, interval(one.time), number(one.flops))


def _duel_row(one: CaseDecision, notes: _Notes) -> tuple[str, ...]:
    names = " / ".join(dict.fromkeys(one.implementations))
    word = f"{one.verdict} {notes.mark(one.reason)}" if one.reason else one.verdict
    if one.ratio is None:
        return (names, "", "", "", "", word)
    low_high = f"{change(one.ratio.low)} .. {change(one.ratio.high)}"
    return (names, change(one.ratio.value), low_high, str(one.pairs), str(one.turns), word)


def _gate_row(pair: Pair, outcome: str, notes: _Notes) -> tuple[str, ...]:
    mark = f" {notes.mark(pair.reason)}" if pair.reason else ""
    word = f"{pair.verdict if outcome == 'passed' else outcome}{mark}"
    if pair.ratio is None:
        return (pair.target, pair.implementation, "", "", word)
    low_high = f"{change(pair.ratio.low)} .. {change(pair.ratio.high)}"
    return (pair.target, pair.implementation, change(pair.ratio.value), low_high, word)


def _power_row(line: Measurement, notes: _Notes) -> tuple[str, ...]:
    found, names = energy_of(line), (line.target, line.implementation)
    if found is None:
        return (*names, f"- {notes.mark(why_no_energy(line) or '')}", *[""] * 3, *_clock_and_heat(line), "")
    mark = notes.mark(f"{found.source}, of the {found.scope}, over {found.seconds:.0f} s")
    figures = (found.joules_per_token, found.joules_per_token_above_idle, found.mean_w, found.idle_w)
    cells = [number(value) for value in figures]
    return (*names, f"{cells[0]} {mark}", *cells[1:], *_clock_and_heat(line), number(found.readings_per_s))


def _clock_and_heat(line: Measurement) -> tuple[str, str]:
    """Lowest to highest clock in MHz, highest temperature in °C."""
    loaded = line.power.loaded if line.power else None
    if loaded is None:
        return "", ""
    clocks = [f"{pick(loaded.clock_mhz):.0f}" for pick in (min, max) if loaded.clock_mhz]
    heat = f"{max(loaded.temperature_c):.0f}" if loaded.temperature_c else ""
    return " .. ".join(dict.fromkeys(clocks)), heat


def _pair_row(pair: Pair, notes: _Notes) -> tuple[str, ...]:
    times = (_cell(pair.base), _cell(pair.new))
    mark = f" {notes.mark(pair.reason)}" if pair.reason else ""
    warned = f" {notes.mark('warnings: ' + ', '.join(pair.warnings))}" if pair.warnings else ""
    if pair.ratio is None:
        return (pair.target, pair.implementation, *times, "", "", "not comparable" + mark)
    low_high = f"{change(pair.ratio.low)} .. {change(pair.ratio.high)}"
    word = f"{pair.verdict}{mark}{warned}"
    return (pair.target, pair.implementation, *times, change(pair.ratio.value), low_high, word)


def _cell(time: Estimate | None) -> str:
    return time_text(time.ns) if time else ""

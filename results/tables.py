"""Tables as plain data: what `show`, `compare` and the end of a run print, and what the report lays out in HTML.

A case id is as wide as half a terminal, so a table has one section a case and the id is its heading.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

from results.compare import Comparison, Entry, Pair, SideBySide
from results.duels import CaseDecision
from results.energy import energy_of, why_no_energy
from results.figures import change, interval, number, percent, plain_rate, time_text
from results.gate import Gate, no_past
from results.layout import Column, Section, Table
from results.metrics import Metrics, metrics_of
from results.notes import Notes as _Notes
from results.origins import origin
from results.record import Measurement
from results.sparsity import Sparsity
from results.statistics import Estimate, Series, Verdict, percentile, samples_needed
from results.store import RunFile
from workloads.case import COLLECTIVE, Case

if TYPE_CHECKING:
    from results.published import Beside
    from results.verify import Verification

__all__ = [
    "Column",
    "Section",
    "Table",
    "comparison_table",
    "duel_table",
    "findings_table",
    "gate_table",
    "label",
    "power_table",
    "published_table",
    "ranking_table",
    "show_table",
    "sparsity_table",
    "targets_table",
]

_Row = TypeVar("_Row")
BAR, BAR_LENGTH = "█", 16

EP_LABEL = "one rank's share of an EP group: compute only, without dispatch and combine"
DENSE_LABEL = "share over dense replica: the control is not split over the ranks of the group"


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
    found = zip(chosen, metrics_of(run_file, chosen), strict=True)
    sections = [
        Section(
            _heading(case, notes) + _brought(run_file, lines[0][0], ("workload", "model"), notes),
            tuple(_show_row(run_file, line, figures, notes) for line, figures in lines),
        )
        for case, lines in _grouped((one[0].case, one) for one in found).items()
    ]
    minor = {"p99": 1, "TFLOP/s": 2, "GB/s": 3}
    names = ("p50", "±95%", "p99", "tokens/s", "TFLOP/s", "GB/s", "roofline")
    figures = (Column(name, minor=minor.get(name, 0)) for name in names)
    columns = (_text("target"), _text("implementation"), *figures, _text("status"))
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
    minor = {"readings/s": 3, "idle W": 2, "°C": 1}
    names = ("J/token", "above idle", "mean W", "idle W", "MHz", "°C", "readings/s")
    columns = (_text("target"), _text("implementation"), *(Column(name, minor=minor.get(name, 0)) for name in names))
    return Table("Energy of sustained work, of what the meter covers", columns, tuple(sections), notes.texts)


def comparison_table(comparison: Comparison, pairs: Sequence[Pair] | None = None) -> Table:
    """Each pair (or these of them) with ratio, interval and verdict; the geometric mean of all is the last section."""
    notes = _Notes()
    shown = comparison.pairs if pairs is None else pairs
    said_of = lru_cache(1024)(partial(_word, notes))  # thousands of pairs share a few sentences
    rows = [(pair.case, _pair_row(pair, said_of(pair.verdict, pair.reason, pair.warnings))) for pair in shown]
    sections = [Section(case, tuple(members)) for case, members in _grouped(rows).items()]
    count = len(comparison.comparable)
    said = f"{count}" if comparison.mean_is_of(shown) else f"all {count}, not only these"
    mean = Pair("", "", "", ratio=comparison.mean, verdict=comparison.mean_verdict)
    sections.append(Section(f"geometric mean of {said}", (_pair_row(mean, comparison.mean_verdict),)))
    names = (Column("base", minor=2), Column("new", minor=1), Column("change"), Column("95% interval"))
    columns = (_text("target"), _text("implementation"), *names, _text("verdict"))
    title = f"{comparison.new} against {comparison.base}: change of time, > 0 is slower"
    return Table(title, columns, tuple(sections), notes.texts)


def gate_table(found: Gate) -> Table:
    """Each case that was ok in the base, with its change and outcome; a note says how many the base does not have."""
    notes = _Notes()
    judged = zip(found.pairs, found.outcomes, strict=True)
    rows = [(pair.case, _gate_row(pair, word, notes)) for pair, word in judged if word != "new"]
    if said := no_past(found):
        notes.mark(said)
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


def ranking_table(rows: Sequence[Mapping[str, Any]], column: str, notes: tuple[str, ...] = ()) -> Table:
    """Rows of `results.tidy` in this order, each with its device, its value in a column and a bar as long as that.

    Where several rows of a case follow each other, also the ratio to the least of them.
    """
    largest = max((abs(row[column]) for row in rows if _is_number(row[column])), default=0) or 1
    several = len({row["run"] for row in rows}) > 1
    together = [
        (heading, [row for _, row in members])
        for heading, members in groupby(zip(_headings(rows), rows, strict=True), itemgetter(0))
    ]
    compared = any(len(members) > 1 for _, members in together)

    def cells(row: Mapping[str, Any], least: float | None) -> tuple[str, ...]:
        value = row[column]
        bar = BAR * round(BAR_LENGTH * abs(value) / largest) if _is_number(value) else ""
        ratio = [number(value / least) if least and _is_number(value) else ""] if compared else []
        names = (row["target"], row["implementation"], *([row["run"]] if several else []))
        return (*map(str, names), _value(column, value), *ratio, bar, str(row["status"]), str(row["device"] or ""))

    sections = tuple(
        Section(heading, tuple(cells(row, least) for row in members))
        for heading, members in together
        for least in (min((row[column] for row in members if _is_number(row[column])), default=None),)
    )
    runs = [Column("run", right=False, minor=1)] if several else []
    figures = (Column(column), *([Column("ratio")] if compared else []), Column("", right=False, minor=2))
    # The device is last: on a narrow terminal its name goes on in the next line rather than being left out.
    columns = (_text("target"), _text("implementation"), *runs, *figures, _text("status"), _text("device"))
    return Table(f"{len(rows)} measurements by {column}", columns, sections, notes)


def _headings(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The case of each row; where its id stands for several works, by other versions or methods, also which."""
    works: dict[str, set[tuple[str, int]]] = {}
    for row in rows:
        works.setdefault(row["case"], set()).add((row["case_digest"], row["method_version"]))
    for row in rows:
        which = f", digest {row['case_digest'][:12]}, method {row['method_version']}"
        yield row["case"] + (which if len(works[row["case"]]) > 1 else "")


def published_table(found: Sequence[Beside]) -> Table:
    """Measured times beside those that others published of the same case: by whom, on what, under which conditions."""
    notes = _Notes()
    rows = [(one.row["case"], _published_row(one, notes)) for one in found]
    sections = tuple(Section(case, tuple(members)) for case, members in _grouped(rows).items())
    columns = (_text("measured on"), *map(Column, ("here", "published", "time ratio")), _text("by"))
    title = "Beside what others published: their figures, not ours; another device unless it says the same"
    said = title if sections else "Beside what others published: they have no figure of these cases"
    return Table(said, columns, sections, notes.texts)


def _published_row(one: Beside, notes: _Notes) -> tuple[str, ...]:
    figure = one.figure
    where = "the same device" if one.same_device else figure.device
    mark = notes.mark(f"{figure.runtime}, {figure.dtype}: {figure.conditions} ({figure.source}, {figure.date})")
    measured = f"{one.row['target']} {one.row['implementation']}"
    return (
        measured,
        time_text(one.row["estimate_ns"]),
        time_text(figure.ns or 0),
        number(one.ratio),
        f"{where} {mark}",
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _value(column: str, value: Any) -> str:
    """A value in the form that its column's unit has."""
    if value is None:
        return "-"
    if not _is_number(value):
        return str(value)
    if column.endswith("_ns"):
        return time_text(value)
    if column.endswith("_ratio") and not column.endswith("hotspot_ratio"):
        return percent(value)
    return f"{value:,}" if isinstance(value, int) else plain_rate(value)


def findings_table(found: Verification) -> Table:
    """What is wrong with a record, the first thing first; what was not looked at are notes."""
    rows = tuple((str(one.line or ""), one.rule, one.severity, one.evidence) for one in found.findings)
    said = f"{len(rows)} finding{'s' if len(rows) > 1 else ''}" if rows else "nothing wrong was found"
    columns = (Column("line"), _text("rule"), _text("severity"), _text("evidence"))
    sections = (Section("", rows),) if rows else ()
    notes = tuple(f"not verified: {sentence}" for sentence in found.unchecked)
    return Table(f"{found.stem}: {said} in {found.measurements} measurements", columns, sections, notes)


def _grouped(pairs: Iterable[tuple[str, _Row]]) -> dict[str, list[_Row]]:
    """Rows by their heading, both in the order in which they come first."""
    groups: dict[str, list[_Row]] = {}
    for heading, row in pairs:
        groups.setdefault(heading, []).append(row)
    return groups


def _text(name: str) -> Column:
    return Column(name, right=False)


def _heading(case: str, notes: _Notes) -> str:
    said = label(Case.parse(case))
    return f"{case} {notes.mark(said)}" if said else case


def _show_row(run_file: RunFile, line: Measurement, found: Metrics | None, notes: _Notes) -> tuple[str, ...]:
    names = (
        line.target + _brought(run_file, line, ("target",), notes),
        line.implementation + _brought(run_file, line, ("implementation",), notes),
    )
    if found is None:
        reason = f" {notes.mark(line.reason)}" if line.reason else ""
        return (*names, *[""] * 7, line.status + reason)
    return (
        *names,
        time_text(found.time.ns),
        percent(found.time.precision),
        _tail(line, notes),
        plain_rate(found.tokens_per_s),
        number(found.tflop_per_s),
        number(found.gb_per_s),
        percent(found.roofline_ratio),
        _status(line, found.warnings),
    )


def _brought(run_file: RunFile, line: Measurement, what: Sequence[str], notes: _Notes) -> str:
    """Marks of what other packages brought."""
    return "".join(f" {notes.mark(said)}" for one in what if (said := origin(run_file, line, one)))


def _status(line: Measurement, warnings: tuple[str, ...]) -> str:
    words = [line.status, *(["open"] if line.division == "open" else []), *warnings]
    return " ".join(words)


def _tail(line: Measurement, notes: _Notes) -> str:
    """p99, or in short why there is none."""
    value, reason = percentile(line.samples_ns, line.slots, line.calls_per_sample, 99, Series.of(line).processes)
    if value is not None:
        return time_text(value)
    if line.calls_per_sample > 1:
        return "- " + notes.mark("no p99: a sample is many calls, since one is too short to be timed alone")
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
    beside = (
        f"contended: other work used the machine during {one.contended} of its process pairs" if one.contended else None
    )
    aside = f"{one.set_aside} of its process pairs, far from all others, set aside" if one.set_aside else None
    word = " ".join([one.verdict, *(notes.mark(text) for text in (one.reason, aside, beside) if text)])
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


def _word(notes: _Notes, verdict: Verdict | None, reason: str | None, warnings: tuple[str, ...]) -> str:
    """The verdict with the marks of its reason and of its warnings."""
    mark = f" {notes.mark(reason)}" if reason else ""
    warned = f" {notes.mark('warnings: ' + ', '.join(warnings))}" if warnings else ""
    return f"not comparable{mark}" if verdict is None else f"{verdict}{mark}{warned}"


def _pair_row(pair: Pair, word: str) -> tuple[str, ...]:
    base, new, ratio = _cell(pair.base), _cell(pair.new), pair.ratio
    if ratio is None:
        return (pair.target, pair.implementation, base, new, "", "", word)
    low_high = f"{change(ratio.low)} .. {change(ratio.high)}"
    return (pair.target, pair.implementation, base, new, change(ratio.value), low_high, word)


def _cell(time: Estimate | None) -> str:
    return time_text(time.ns) if time else ""

"""The rules by which records decide about claims, one function each, named by `rule` in `seeds/claims.toml`.

Each takes the claim, whose `settings` are its numbers, and all runs, and returns the answer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from results.claims import Answer, Claim, Finding
from results.figures import interval, number, percent
from results.hardware import Device
from results.matching import fastest
from results.metrics import datasheet, device_name
from results.places import Row, row_of
from results.prices import list_prices
from results.record import Measurement
from results.sparsity import Sparsity, sparsity
from results.statistics import Ratio, Series, geometric_mean, ratio
from results.store import RunFile
from workloads.case import Case
from workloads.models import model
from workloads.parameters import parameters

__all__ = ["RULES"]

Rule = Callable[[Claim, Sequence[RunFile]], Answer]

SUPPORTED, CONTRADICTED, UNDECIDED, NOT_TESTABLE = "supported", "contradicted", "undecided", "not testable"
UNTRIED = ("too-big", "out-of-memory", "timeout")
"""Statuses that say something of a device's size or of patience, not of what runs on it."""


@dataclass(frozen=True)
class _Line:
    """A measurement with the run that it stands in and what is published of its device."""

    run: RunFile
    measurement: Measurement
    case: Case
    sheet: Device | None

    @property
    def vendor(self) -> str | None:
        return self.sheet.vendor if self.sheet else None

    @property
    def device(self) -> str:
        return device_name(self.run, self.measurement.target) or self.measurement.target

    @property
    def row(self) -> Row:
        return row_of(self.run, self.measurement)

    @property
    def counts(self) -> bool:
        """Whether it may decide: right, exact, and not disturbed by others."""
        line = self.measurement
        return line.status == "ok" and line.division != "open" and "contended" not in line.warnings


def _lines(runs: Sequence[RunFile]) -> Iterator[_Line]:
    for run_file in runs:
        sheets = {target: datasheet(run_file, target) for target in run_file.run.targets}
        for line in run_file.measurements:
            yield _Line(run_file, line, Case.parse(line.case), sheets.get(line.target))


# -- sizes: counted from published dims -----------------------------------------------------------------------------


def _sizes(claim: Claim, _: Sequence[RunFile]) -> Answer:
    settings, findings, fits = claim.settings, [], False
    for name in settings["models"]:
        about, counts = model(name), parameters(model(name))
        wanted = settings["active_b"]
        active = min(
            (counts.active, counts.active_no_embedding, counts.active_body), key=lambda n: abs(n / 1e9 - wanted)
        )
        total_b, active_b = counts.total / 1e9, active / 1e9
        off = max(abs(total_b / settings["total_b"] - 1), abs(active_b / wanted - 1))
        fits = fits or off <= settings["within"]
        says = f"{about.name}: {total_b:,.0f} B parameters in all, {active_b:.3g} B active, counted from its dims"
        findings.append(Finding(says, total_b, source=about.source))
    claimed = f"{settings['total_b']:,} B in all and {settings['active_b']} B active"
    because = (
        f"{'one' if fits else 'no'} released DeepSeek-V4 model is within {percent(settings['within'])} of {claimed}"
    )
    return Answer(claim, SUPPORTED if fits else CONTRADICTED, because, tuple(findings))


# -- efficiency: layers against dense controls ----------------------------------------------------------------------


def _efficiency(claim: Claim, runs: Sequence[RunFile]) -> Answer:
    names, factor = claim.settings["models"], claim.settings["factor"]
    pairs = [(run, one) for run in runs for one in sparsity(run) if Case.parse(one.layer.case).model in names]
    findings = tuple(_sparsity_finding(run, one) for run, one in pairs)
    deciding = [one for run, one in pairs if _is_whole_on_accelerator(run, one)]
    over = [one for one in deciding if one.time.low > factor]
    if over:
        worst = max(over, key=lambda one: one.time.value)
        where = f"{worst.layer.case} on {worst.target}"
        because = f"the layer took {interval(worst.time)} times its dense control's time at {where}"
        return Answer(claim, CONTRADICTED, because, findings)
    missing = _missing_sizes(claim, pairs, deciding)
    if not missing and all(one.time.high < factor for one in deciding):
        because = f"at all {len(deciding)} sizes the layer took less than {factor} times its dense control's time"
        return Answer(claim, SUPPORTED, because, findings)
    because = "no record decides" if missing else f"at some size the interval holds {factor}"
    return Answer(claim, UNDECIDED, because, findings, missing)


def _is_whole_on_accelerator(run: RunFile, one: Sparsity) -> bool:
    sheet, disturbed = datasheet(run, one.target), {*one.layer.warnings, *one.control.warnings}
    whole = Case.parse(one.layer.case).ep == 1
    return whole and sheet is not None and sheet.unit != "host" and "contended" not in disturbed


def _sparsity_finding(run: RunFile, one: Sparsity) -> Finding:
    case = Case.parse(one.layer.case)
    share = f", a share of {case.ep} over a whole replica" if case.ep > 1 else ""
    device = device_name(run, one.target) or one.target
    says = f"{device}, {case.tokens} tokens{share}: layer over dense control {number(one.time.value)}"
    rows = (row_of(run, one.layer), row_of(run, one.control))
    return Finding(f"{says} ({interval(one.time)})", one.time.value, one.time.low, one.time.high, rows)


def _missing_sizes(claim: Claim, pairs: Sequence[Any], deciding: Sequence[Sparsity]) -> tuple[str, ...]:
    tokens = [Case.parse(one.layer.case).tokens for one in deciding]
    found = []
    if not deciding:
        what = "a whole DeepSeek-V4 layer (ep1) beside its dense control, both undisturbed, on an accelerator"
        seen = {device_name(run, one.target) or one.target for run, one in pairs}
        found.append(what + (f"; there are shares or other devices only: {', '.join(sorted(seen))}" if seen else ""))
    decode, prefill = claim.settings["decode_tokens"], claim.settings["prefill_tokens"]
    if not any(count <= decode for count in tokens):
        found.append(f"a size of at most {decode} tokens")
    if not any(count >= prefill for count in tokens):
        found.append(f"a size of at least {prefill:,} tokens")
    return tuple(found)


# -- list prices ----------------------------------------------------------------------------------------------------


def _list_prices(claim: Claim, _: Sequence[RunFile]) -> Answer:
    prices, findings = list_prices(), []
    for against in (prices[name] for name in claim.settings["against"]):
        for of in (prices[name] for name in claim.settings["of"]):
            ratio_ = against.output / of.output
            dates = f"output tokens, {against.model} of {against.since} over {of.model} of {of.since}"
            findings.append(
                Finding(f"{number(ratio_)} times: {dates}", ratio_, source=f"{against.source}; {of.source}")
            )
    low, high = min(f.value or 0 for f in findings), max(f.value or 0 for f in findings)
    because = (
        f"it compares list prices, which sellers decide: {number(low)} to {number(high)} times, by which two are compared;"
        " the models compared with cannot be run, so no record can decide"
    )
    return Answer(claim, NOT_TESTABLE, because, tuple(findings))


# -- runs on one vendor and not on another --------------------------------------------------------------------------


def _runs_on(claim: Claim, runs: Sequence[RunFile]) -> Answer:
    settings = claim.settings
    layers = [
        line for line in _lines(runs)
        if line.case.model in settings["models"] and line.case.workload in settings["workloads"]
    ]  # fmt: skip
    tried = {
        side: [one for one in layers if one.vendor == settings[side] and one.measurement.status not in UNTRIED]
        for side in ("on", "not_on")
    }
    good = {side: [one for one in found if one.measurement.status == "ok"] for side, found in tried.items()}
    findings = tuple(
        Finding(
            f"{len(good[side])} of {len(tried[side])} measurements on {settings[side].capitalize()} ended ok",
            rows=tuple(one.row for one in (*good[side], *(one for one in tried[side] if one not in good[side]))),
        )
        for side in ("on", "not_on")
        if tried[side]
    )
    missing = tuple(
        f"a DeepSeek-V4 layer tried on {settings[side].capitalize()}" for side in ("on", "not_on") if not tried[side]
    )
    if good["not_on"]:
        return Answer(claim, CONTRADICTED, f"it also ran right on {good['not_on'][0].device}", findings)
    if tried["on"] and not good["on"]:
        return Answer(claim, CONTRADICTED, "every layer that was tried on Ascend failed", findings)
    if good["on"] and tried["not_on"]:
        return Answer(claim, SUPPORTED, f"it ran right on {good['on'][0].device} and nowhere on Nvidia", findings)
    return Answer(claim, UNDECIDED, "the records do not hold both kinds of device", findings, missing)


# -- one vendor's time against another's ----------------------------------------------------------------------------


def _matching(claim: Claim, runs: Sequence[RunFile]) -> Answer:
    settings = claim.settings
    vendors = (settings["one"], settings["other"])
    single = _common(runs, vendors, settings["workloads"], 1)
    scale = _common(runs, vendors, settings["scale_workloads"], settings["ranks"])
    findings = tuple(_matching_finding(pair) for pair in (*single, *scale))
    if len(scale) < settings["cases"]:
        names = " and ".join(vendor.capitalize() for vendor in vendors)
        seen = {one.vendor for one in _lines(runs)}
        missing = [f"any device of {vendor.capitalize()}" for vendor in vendors if vendor not in seen]
        missing.append(
            f"{settings['cases']} cases of {' or '.join(settings['scale_workloads'])} over at least {settings['ranks']} ranks"
            f" on {names}: there are {len(scale)}"
        )
        return Answer(claim, UNDECIDED, "no record compares the two at scale", findings, tuple(missing))
    mean = geometric_mean([_ratio(pair) for pair in scale])
    one, other = (", ".join(sorted({pair[side].device for pair in scale})) for side in (0, 1))
    because = f"over {len(scale)} cases {one} took {interval(mean)} times the time of {other}"
    if any(line.measurement.processes < 2 for pair in scale for line in pair):
        because += "; of one process each, so what processes of the same code differ by is not in the interval"
    factor = settings["factor"]
    word = SUPPORTED if mean.high < factor else CONTRADICTED if mean.low > factor else UNDECIDED
    return Answer(claim, word, because, findings)


def _common(
    runs: Sequence[RunFile], vendors: tuple[str, str], workloads: Sequence[str], ranks: int
) -> list[tuple[_Line, _Line]]:
    """Cases that both vendors finished, each by its fastest exact implementation; equal work by its digest."""
    sides: list[dict[str, list[_Line]]] = [defaultdict(list), defaultdict(list)]
    for one in _lines(runs):
        if one.counts and one.case.workload in workloads and one.case.ep >= ranks and one.vendor in vendors:
            sides[vendors.index(one.vendor)][one.measurement.case_digest].append(one)
    both = [digest for digest in sides[0] if digest in sides[1]]
    return [(_fastest(sides[0][digest]), _fastest(sides[1][digest])) for digest in both]


def _fastest(lines: Sequence[_Line]) -> _Line:
    best = fastest(line.measurement for line in lines)
    return next(line for line in lines if line.measurement is best)


def _ratio(pair: tuple[_Line, _Line]) -> Ratio:
    return ratio(Series.of(pair[1].measurement), Series.of(pair[0].measurement))


def _matching_finding(pair: tuple[_Line, _Line]) -> Finding:
    found, one = _ratio(pair), pair[0]
    says = f"{one.case.id}: {one.device} took {number(found.value)} times {pair[1].device}'s time ({interval(found)})"
    return Finding(says, found.value, found.low, found.high, tuple(line.row for line in pair))


# -- porting --------------------------------------------------------------------------------------------------------


def _porting(claim: Claim, runs: Sequence[RunFile]) -> Answer:
    settings = claim.settings
    by_case = _statuses(runs, settings["from"], settings["to"])
    if len(by_case) < settings["cases"]:
        before, after = settings["from"].capitalize(), settings["to"].capitalize()
        tried = f"{settings['cases']} cases that ended ok on {before} and were tried on {after}"
        because = "no record holds both; and of an engineer's hours a record can hold nothing"
        return Answer(claim, UNDECIDED, because, missing=(f"{tried}: there are {len(by_case)}",))
    works = [digest for digest, lines in by_case.items() if _portable(lines)]
    share = len(works) / len(by_case)
    ratios = [found for digest in works if (found := _portable_over_fastest(by_case[digest]))]
    rows = tuple(line.row for lines in by_case.values() for line in lines if line.measurement.division == "portable")
    findings = [Finding(f"{percent(share)} of {len(by_case)} cases run right by portable code", share, rows=rows)]
    mean = geometric_mean(ratios) if ratios else None
    if mean:
        says = (
            f"portable code takes {number(mean.value)} times the fastest exact implementation's time ({interval(mean)})"
        )
        times = tuple(line.row for digest in works for line in by_case[digest] if line.counts)
        findings.append(Finding(says, mean.value, mean.low, mean.high, times))
    if share < settings["fails"] or (mean and mean.low > settings["far"]):
        word = SUPPORTED
    else:
        word = CONTRADICTED if share >= settings["works"] and mean and mean.high < settings["near"] else UNDECIDED
    return Answer(claim, word, "; ".join(one.says for one in findings), tuple(findings))


def _statuses(runs: Sequence[RunFile], source: str, to: str) -> Mapping[str, list[_Line]]:
    """By digest the lines on the new vendor's devices, of cases that ended `ok` on the old one's."""
    lines = list(_lines(runs))
    good = {one.measurement.case_digest for one in lines if one.vendor == source and one.measurement.status == "ok"}
    found: dict[str, list[_Line]] = defaultdict(list)
    for one in lines:
        if one.vendor == to and one.measurement.case_digest in good:
            found[one.measurement.case_digest].append(one)
    return found


def _portable(lines: Sequence[_Line]) -> list[Measurement]:
    found = [line.measurement for line in lines]
    return [line for line in found if line.status == "ok" and line.division == "portable"]


def _portable_over_fastest(lines: Sequence[_Line]) -> Ratio | None:
    counting = [line for line in lines if line.counts]
    portable, best = fastest(_portable(counting)), fastest(line.measurement for line in counting)
    if portable is None or best is None:
        return None
    return Ratio(1.0, 1.0, 1.0) if portable is best else ratio(Series.of(best), Series.of(portable))


def _untestable(claim: Claim, _: Sequence[RunFile]) -> Answer:
    return Answer(claim, NOT_TESTABLE, claim.decides.partition(": ")[2] or claim.decides)


RULES: dict[str, Rule] = {
    "sizes": _sizes,
    "efficiency": _efficiency,
    "list_prices": _list_prices,
    "runs_on": _runs_on,
    "matching": _matching,
    "porting": _porting,
    "untestable": _untestable,
}

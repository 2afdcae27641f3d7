"""The tables of a site: rankings, devices and records, as plain rows with links between its pages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

from results.compare import Pair
from results.figures import change, number, percent, plain_rate, time_text
from results.report.answer import machine_name
from results.report.ranking import Device, Entry, Place, Record, ranked
from results.report.rows import Cell, Column, Flat, share_text

__all__ = ["address", "case_rows", "device_rows", "rank_rows", "record_rows", "standing_rows", "unranked_rows"]


def address(room: str, text: str, readable: str = "") -> str:
    """The file of a page: from a digest of what it is about; of its words only plain letters and figures."""
    slug = re.sub(r"[^a-z0-9]+", "-", readable.lower())[:40].strip("-")
    digest = sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
    return f"{room}/{slug}-{digest}.html" if slug else f"{room}/{digest}.html"


Addresses = dict[str, str]
"""By case id, or by the name of a device, the page about it."""


def rank_rows(title: str, places: Sequence[Place], devices: Addresses) -> Flat:
    """One ranking of one case. A column that no entry has anything for is left out."""
    kept = [one for one in _OPTIONAL if any(one[1](place.entry) for place in places)]
    columns = (
        Column("#", right=True),
        *(Column(name) for name in ("device", "target", "implementation")),
        *(Column(name, right=True) for name in ("p50", "±95%")),
        *(column for column, _ in kept),
        *(Column(name, right=True) for name in ("change", "95% interval")),
        Column("against #1"),
        Column("record"),
    )
    rows = tuple(_place(place, devices, [make for _, make in kept]) for place in places)
    return Flat(title, columns, rows, tuple(_notes(places)))


_Make = Callable[[Entry], Cell | None]
_OPTIONAL: tuple[tuple[Column, _Make], ...] = (
    (Column("warnings", wrap=True), lambda one: _warned(one)),
    (Column("tokens/s per device", right=True), lambda one: _figure(one.figures.tokens_per_s, plain_rate)),
    (Column("roofline", right=True), lambda one: _figure(one.figures.roofline_ratio, percent)),
    (Column("tokens/J, measured", right=True), lambda one: _per_joule(one)),
    (Column("tokens/s per TDP watt", right=True), lambda one: _figure(one.tokens_per_s_per_tdp_w, number)),
    (Column("$ per M tokens", right=True), lambda one: _dollars(one)),
    (Column("error of tolerance", right=True), lambda one: _figure(_error(one), percent)),
)
"""Each with the cell of an entry; None where it has no such figure, or no warning."""


def _figure(value: float | None, text: Callable[[float | None], str]) -> Cell | None:
    return None if value is None else Cell(text(value), value)


def _warned(one: Entry) -> Cell | None:
    return Cell(", ".join(one.figures.warnings)) if one.figures.warnings else None


def _per_joule(one: Entry) -> Cell | None:
    """With what the meter covers: a figure of a card and one of a host's package are two things."""
    value, energy = one.tokens_per_joule, one.figures.energy
    return Cell(f"{number(value)} ({energy.scope})", value) if value is not None and energy else None


def _dollars(one: Entry) -> Cell | None:
    price = one.usd_per_million_tokens
    return Cell(" .. ".join(dict.fromkeys(number(usd) for usd in price)), price[0]) if price else None


def _error(one: Entry) -> float | None:
    check = one.shown.line.check
    open_one = one.shown.line.division == "open"
    return check.error / check.tolerance if open_one and check and check.error is not None and check.tolerance else None


def _place(place: Place, devices: Addresses, figures: Sequence[_Make]) -> tuple[Cell, ...]:
    one = place.entry
    time = one.figures.time
    return (
        Cell(f"{place.rank}", place.rank),
        Cell(one.device.name, link=f"../{devices[one.device.name]}"),
        Cell(one.shown.line.target),
        Cell(one.shown.line.implementation),
        Cell(time_text(time.ns), time.ns),
        Cell(percent(time.precision), time.precision),
        *(make(one) or Cell("") for make in figures),
        *_against(place.pair),
        Cell(one.record.run.name, link=f"../{one.record.page}"),
    )


def _against(pair: Pair | str | None) -> tuple[Cell, ...]:
    if pair is None:
        return (Cell(""),) * 3
    if isinstance(pair, str) or pair.ratio is None:
        return (Cell(""), Cell(""), Cell("not comparable", whole=pair if isinstance(pair, str) else pair.reason))
    found = pair.ratio
    words = f"{change(found.low)} .. {change(found.high)}"
    return (Cell(change(found.value), found.value), Cell(words), Cell(str(pair.verdict), chip=True, whole=pair.reason))


def _notes(places: Sequence[Place]) -> list[str]:
    units = sorted({f"{place.entry.device.name}: one {place.entry.device.unit}" for place in places})
    notes = ["A device is what one measurement ran on: " + "; ".join(units) + "."] if units else []
    several = [f"{place.entry.device.name} ({place.runs})" for place in places if place.runs > 1]
    if several:
        notes.append(f"Median of several runs: {', '.join(several)}.")
    prices = {place.entry.device.sheet.name: place.entry.device.price for place in places if place.entry.device.sheet}
    for name, price in prices.items():
        if price:
            asked = " .. ".join(dict.fromkeys(f"{usd:g}" for usd in (price.low, price.high)))
            notes.append(
                f"{name}: {asked} $ an hour, {price.kind}, {price.date} ({price.source}); of this work, not of a model."
            )
    return notes


def unranked_rows(title: str, entries: Iterable[Entry], devices: Addresses) -> Flat:
    """Measurements of records that are not verified, with the reason."""
    names = ("device", "target", "implementation", "division")
    columns = (
        *(Column(name) for name in names),
        Column("p50", right=True),
        Column("why not ranked", wrap=True),
        Column("record"),
    )
    rows = tuple(
        (
            Cell(one.device.name, link=f"../{devices[one.device.name]}"),
            Cell(one.shown.line.target),
            Cell(one.shown.line.implementation),
            Cell(one.shown.line.division),
            Cell(time_text(one.ns), one.ns),
            Cell(one.record.trust.reason),
            Cell(one.record.run.name, link=f"../{one.record.page}"),
        )
        for one in entries
        if not one.record.trust.verified
    )
    return Flat(title, columns, rows)


def case_rows(by_case: dict[str, list[Entry]], cases: Addresses, devices: Addresses) -> Flat:
    """Every case with its first place among exact implementations."""
    names = ("model", "dtype", "routing", "scenario")
    seeds = any(entries[0].shown.case.seed for entries in by_case.values())
    columns = (
        Column("workload", pick=True),
        *(Column(name, pick=True) for name in names),
        Column("EP", right=True, pick=True),
        Column("tokens", right=True),
        *([Column("seed", right=True, pick=True)] if seeds else []),
        Column("fastest device", pick=True),
        Column("target", pick=True),
        Column("tokens/s", right=True),
        Column("devices", right=True),
        Column("case"),
    )
    rows = tuple(_case(entries, cases[name], devices, seeds) for name, entries in by_case.items())
    return Flat("Every case, and who is first among exact implementations of verified records.", columns, rows)


def _case(entries: Sequence[Entry], page: str, devices: Addresses, seeds: bool) -> tuple[Cell, ...]:
    case, places = entries[0].shown.case, ranked(entries, "closed")
    first = places[0].entry if places else None
    count = len({place.entry.device.name for place in places})
    return (
        Cell("+".join((case.workload, *case.variants))),
        *(Cell(value) for value in (case.model, case.dtype, case.routing, case.scenario)),
        Cell(share_text(case), case.ep),
        Cell(f"{case.tokens}", case.tokens),
        *([Cell(f"{case.seed}", case.seed)] if seeds else []),
        Cell(first.device.name, link=devices[first.device.name]) if first else Cell("no verified record"),
        Cell(first.shown.line.target if first else ""),
        _figure(first.figures.tokens_per_s if first else None, plain_rate) or Cell(""),
        Cell(f"{count}", count),
        Cell("ranking", link=page),
    )


def device_rows(entries: Sequence[Entry], firsts: Sequence[Entry], devices: Addresses) -> Flat:
    """Every device, how much was measured on it, and at how many cases it is first."""
    found: dict[str, Device] = {one.device.name: one.device for one in entries}
    names = ("verified records", "cases", "first at")
    columns = (Column("device"), Column("unit"), *(Column(name, right=True) for name in names), Column("datasheet"))
    rows = []
    for name, device in found.items():
        own = [one for one in entries if one.device.name == name]
        verified = len({one.record.page for one in own if one.record.trust.verified})
        cases = len({one.shown.line.case_digest for one in own})
        wins = sum(one.device.name == name for one in firsts)
        counts = (Cell(f"{count}", count) for count in (verified, cases, wins))
        sheet = Cell(device.sheet.name if device.sheet else "")
        rows.append((Cell(name, link=devices[name]), Cell(device.unit), *counts, sheet))
    return Flat("Every device that a record is of.", columns, tuple(rows))


def record_rows(title: str, records: Sequence[Record], up: str = "") -> Flat:
    """Records with links to their pages, which lie in `up`, and what verifying found where it found anything."""
    told = any(record.trust.reason for record in records)
    columns = (
        Column("record"),
        Column("machine", pick=True),
        Column("started (UTC)"),
        Column("measurements", right=True),
        Column("ok", right=True),
        *([Column("found by verify", wrap=True)] if told else []),
    )
    rows = tuple(
        (
            Cell(record.run.name, link=up + record.page),
            Cell(machine_name(record.run.run_file)),
            Cell(record.run.run_file.run.started_utc),
            Cell(f"{len(record.run.lines)}", len(record.run.lines)),
            *(Cell(f"{count}", count) for count in [sum(one.line.status == "ok" for one in record.run.lines)]),
            *([Cell(record.trust.reason)] if told else []),
        )
        for record in records
    )
    return Flat(title, columns, rows)


def standing_rows(device: str, by_case: dict[str, list[Entry]], cases: Addresses) -> Flat:
    """Where one device stands at every case that it was measured at."""
    names = ("place", "of", "p50", "tokens/s", "roofline", "over #1")
    columns = (
        Column("case"),
        *(Column(name) for name in ("target", "implementation")),
        *(Column(n, right=True) for n in names),
    )
    rows = []
    for name, entries in by_case.items():
        places = ranked(entries, "closed")
        for place in places:
            if place.entry.device.name == device:
                rows.append(_standing(place, len(places), cases[name]))
    return Flat("Places among exact implementations of verified records.", columns, tuple(rows))


def _standing(place: Place, count: int, page: str) -> tuple[Cell, ...]:
    one = place.entry
    return (
        Cell(one.shown.line.case, link=f"../{page}"),
        Cell(one.shown.line.target),
        Cell(one.shown.line.implementation),
        Cell(f"{place.rank}", place.rank),
        Cell(f"{count}", count),
        Cell(time_text(one.ns), one.ns),
        _figure(one.figures.tokens_per_s, plain_rate) or Cell(""),
        _figure(one.figures.roofline_ratio, percent) or Cell(""),
        Cell(number(one.ns / place.first.ns), one.ns / place.first.ns),
    )

"""Who is fastest at a case over many records: portable, closed and open apart, each normalised by what its device is.

An entry is a device with a target. Of several runs of one device, target and implementation the median one counts, since the
best of many is a matter of luck and patience; of its implementations the fastest. Records that are not verified are listed
apart and never ranked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from results import hardware
from results.compare import Pair, compare
from results.energy import tokens_per_joule
from results.metrics import (
    Metrics,
    datasheet,
    device_name,
    target_facts,
    tokens_per_s_per_tdp_w,
    usd_per_million_tokens,
)
from results.prices import DevicePrice, device_prices
from results.record import table_in
from results.report.shown import Shown, ShownRun
from results.report.sides import as_run
from results.report.trust import Trust
from workloads.case import UserError

__all__ = ["DIVISIONS", "Device", "Entry", "Place", "Record", "entries_of", "ranked"]

DIVISIONS = {
    "closed": ("portable", "closed"),
    "portable": ("portable",),
    "open": ("open",),
}
"""A ranking and the divisions whose implementations may stand in it: a portable one does exactly the work too."""


@dataclass(frozen=True)
class Record:
    """One run of the folder, the name of its page, and whether it may be ranked."""

    run: ShownRun
    page: str
    trust: Trust


@dataclass(frozen=True)
class Device:
    """What an entry ran on: its name (`RunFile.device_names`), and of a host how many cores it may use."""

    name: str
    unit: str
    sheet: hardware.Device | None

    @property
    def price(self) -> DevicePrice | None:
        """The first of `prices.toml`, which is a rent where there is one."""
        return next(iter(device_prices(self.sheet.id)), None) if self.sheet else None

    @classmethod
    def of(cls, run: ShownRun, target: str) -> Device:
        """The device of a target of a run."""
        facts, machine = target_facts(run.run_file, target), table_in(run.run_file.run.environment, "machine")
        unit = str(facts.get("unit") or "device")
        name = device_name(run.run_file, target) or target
        cores = machine.get("cores_usable") or machine.get("cores_logical")
        if unit == "host" and cores:
            name = f"{name}, {cores} cores"
        sheet = datasheet(run.run_file, target)
        told = sheet and (sheet.tflops or sheet.memory_gbs or sheet.tdp_w)  # of CPUs it tells nothing
        return cls(name, unit, sheet if told else None)


@dataclass(frozen=True)
class Entry:
    """One measurement with a time."""

    record: Record
    shown: Shown
    device: Device
    figures: Metrics

    @property
    def ns(self) -> float:
        """Time of a call."""
        return self.figures.time.ns

    @property
    def tokens_per_joule(self) -> float | None:
        """Of sustained work only."""
        return tokens_per_joule(self.figures.energy) if self.figures.energy else None

    @property
    def tokens_per_s_per_tdp_w(self) -> float | None:
        """Where there is a datasheet with a board limit."""
        sheet, rate = self.device.sheet, self.figures.tokens_per_s
        return tokens_per_s_per_tdp_w(rate, sheet.tdp_w) if sheet and sheet.tdp_w and rate else None

    @property
    def usd_per_million_tokens(self) -> tuple[float, float] | None:
        """At the lowest and at the highest of the device's rents."""
        price, rate = self.device.price, self.figures.tokens_per_s
        if price is None or not rate:
            return None
        return usd_per_million_tokens(price.low, rate), usd_per_million_tokens(price.high, rate)


@dataclass(frozen=True)
class Place:
    """An entry in a ranking; `pair` compares it with the first one, whose own is None."""

    rank: int
    entry: Entry
    runs: int
    """Runs of this device, target and implementation, of which the median one counts."""
    first: Entry

    @cached_property
    def pair(self) -> Pair | str | None:
        """Against the first by `results.compare`, of this pair alone; a text says why it cannot be."""
        if self.entry is self.first:
            return None
        base, new = (as_run(one.record.run.name, [one.shown]) for one in (self.first, self.entry))
        try:
            return compare(base, new).pairs[0]
        except UserError as problem:
            return str(problem)


def entries_of(records: Iterable[Record]) -> list[Entry]:
    """Every measurement with a time."""
    found = []
    for record in records:
        devices = {target: Device.of(record.run, target) for target in record.run.targets}
        found += [
            Entry(record, one, devices[one.line.target], one.figures)
            for one in record.run.lines
            if one.figures is not None
        ]
    return found


def ranked(entries: Iterable[Entry], division: str) -> list[Place]:
    """The places of one case in one of `DIVISIONS`, fastest first; entries of records that are not verified have none."""
    fit = [one for one in entries if one.record.trust.verified and one.shown.line.division in DIVISIONS[division]]
    groups: dict[tuple[str, str, str], list[Entry]] = {}
    for one in fit:
        line = one.shown.line
        groups.setdefault((one.device.name, line.target, line.implementation), []).append(one)
    best: dict[tuple[str, str], tuple[Entry, int]] = {}
    for (device, target, _), members in groups.items():
        middle = _median(members)
        held = best.get((device, target))
        if held is None or middle.ns < held[0].ns:
            best[device, target] = (middle, len(members))
    order = sorted(best.values(), key=lambda one: one[0].ns)
    return [Place(number, entry, runs, order[0][0]) for number, (entry, runs) in enumerate(order, 1)]


def _median(members: Sequence[Entry]) -> Entry:
    """The middle one by time; of an even number the slower of the two."""
    return sorted(members, key=lambda one: one.ns)[len(members) // 2]

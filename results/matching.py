"""Which measurement of a run belongs to which of another: only equal work is matched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from results.levelled import levels_of
from results.record import Measurement
from results.revolutions import alike
from results.store import RunFile
from workloads.case import Case

__all__ = ["ONLY_BASE", "ONLY_NEW", "Key", "Match", "Side", "fastest", "matched"]

ONLY_BASE, ONLY_NEW = "only in the base run", "only in the new run"
OTHER_FORMAT = "other format: the new run has this case as {}, which --across-formats compares"

Key = tuple[str, str, str]
"""Case, target, implementation."""
Side = tuple[Measurement, str]
"""A measurement, or what is compared of it (`results.revolutions`), and its line's digest."""
_Sides = tuple[dict[Key, Side], dict[Key, Side]]


class Match(msgspec.Struct, frozen=True, gc=False):
    """One row of a comparison; `reason` says why its sides are not comparable."""

    key: Key
    base: Side | None
    new: Side | None
    reason: str | None = None


def matched(base: RunFile, new: RunFile, across_formats: bool = False) -> list[Match]:
    """Every measurement of both runs, in the order of the base.

    `across_formats`: what has no partner in the other run meets the same case in another dtype, on each target the fastest
    implementation of either that is not open.
    """
    sides = _by_key(base), _by_key(new)
    if sides[0].keys().isdisjoint(sides[1]) and (found := list(_across_targets(*sides))):
        return found
    found = [_match(key, side, sides[1].get(key)) for key, side in sides[0].items()]
    found += [_match(key, None, side) for key, side in sides[1].items() if key not in sides[0]]
    return _across_formats(found) if across_formats else _hinted(found)


def fastest(measurements: Iterable[Measurement]) -> Measurement | None:
    """The fastest `ok` one that is not `open`; None if there is none."""
    ranked = [line for line in measurements if line.status == "ok" and line.division != "open"]
    if len(ranked) < 2:
        return ranked[0] if ranked else None
    return ranked[int(levels_of(ranked)[:, 0].argmin())]


def _by_key(run_file: RunFile) -> dict[Key, Side]:
    pairs = zip(run_file.measurements, run_file.digests, strict=True)
    return {(line.case, line.target, line.implementation): (line, digest) for line, digest in pairs}


def _match(key: Key, base: Side | None, new: Side | None) -> Match:
    if base is None or new is None:
        return Match(key, base, new, ONLY_BASE if base else ONLY_NEW)
    return _pair(key, base, new, _refusal(base[0], new[0]))


def _pair(key: Key, base: Side, new: Side, reason: str | None) -> Match:
    """The two sides, where they are comparable with samples of one kind."""
    if reason is None:
        lines = alike(base[0], new[0])
        base, new = (lines[0], base[1]), (lines[1], new[1])
    return Match(key, base, new, reason)


def _refusal(base: Measurement, new: Measurement) -> str | None:
    """Why two measurements of one name must not be compared."""
    if base.status != "ok" or new.status != "ok":
        side, line = ("base", base) if base.status != "ok" else ("new", new)
        return f"{side} is {line.status}" + (f": {line.reason}" if line.reason else "")
    if base.case_digest != new.case_digest:
        return "different work: the case digests differ (another version of the workload or the model)"
    if base.input_digest != new.input_digest:
        return "different inputs: the input digests differ"
    return None


def _across_targets(base: dict[Key, Side], new: dict[Key, Side]) -> Iterator[Match]:
    """Runs without a common target or implementation: every target of one against every one of the other, each case by its
    fastest exact implementation; cases are the same by their digest."""
    ranked = [_fastest_of_each(side.values(), lambda line: (line.case_digest, line.target)) for side in (base, new)]
    for (digest, _), first in ranked[0].items():
        for (other, _), second in ranked[1].items():
            if digest == other:
                lines = first[0], second[0]
                target, how = (_both(getattr(line, name) for line in lines) for name in ("target", "implementation"))
                yield _match((lines[0].case, target, how), first, second)


def _both(names: Iterable[str]) -> str:
    return " / ".join(dict.fromkeys(names))


def _fastest_of_each(sides: Iterable[Side], group: Any) -> dict[Any, Side]:
    groups: dict[Any, list[Side]] = {}
    for side in sides:
        groups.setdefault(group(side[0]), []).append(side)
    best = {name: (fastest(line for line, _ in members), members) for name, members in groups.items()}
    return {name: next(s for s in members if s[0] is line) for name, (line, members) in best.items() if line}


def _without_format(case: str) -> Case:
    return replace(Case.parse(case), dtype="fp32")


def _hinted(found: Sequence[Match]) -> list[Match]:
    """Matches without a partner say so where the new run has the case in another format."""
    if not any(match.reason == ONLY_BASE for match in found):
        return list(found)
    formats: dict[tuple[Case, str], set[str]] = {}
    for match in found:
        if match.new is not None:
            formats.setdefault((_without_format(match.key[0]), match.key[1]), set()).add(Case.parse(match.key[0]).dtype)
    return [_hint(match, formats) if match.reason == ONLY_BASE else match for match in found]


def _hint(match: Match, formats: dict[tuple[Case, str], set[str]]) -> Match:
    case, target, _ = match.key
    others = sorted(formats.get((_without_format(case), target), set()) - {Case.parse(case).dtype})
    return msgspec.structs.replace(match, reason=OTHER_FORMAT.format(", ".join(others))) if others else match


def _across_formats(found: Sequence[Match]) -> list[Match]:
    """The matches with partners, then each lone case of the base against each lone one of the new run that differs in dtype."""
    lone = [
        _fastest_of_each(
            [side for match in found if match.reason == reason for side in (match.base or match.new,) if side],
            lambda line: (line.case, line.target),
        )
        for reason in (ONLY_BASE, ONLY_NEW)
    ]
    met = [
        (one, other)
        for (case, target), one in lone[0].items()
        for (another, where), other in lone[1].items()
        if target == where and _without_format(case) == _without_format(another)
    ]
    done = {(line.case, line.target) for pair in met for line, _ in pair}
    kept = [match for match in found if match.reason not in (ONLY_BASE, ONLY_NEW) or match.key[:2] not in done]
    return [*kept, *(_match_of_formats(one, other) for one, other in met)]


def _match_of_formats(base: Side, new: Side) -> Match:
    """One case in two formats; what defines its work beside the dtype was recorded as its cost and skew."""
    case, dtypes = base[0].case, [Case.parse(side[0].case).dtype for side in (base, new)]
    shown = case.replace(f"/{dtypes[0]}/", f"/{dtypes[0]} > {dtypes[1]}/")
    names = dict.fromkeys((base[0].implementation, new[0].implementation))
    other = _work(base[0]) != _work(new[0])
    reason = "different work: FLOPs, rows or skew differ" if other else None
    return _pair((shown, base[0].target, " > ".join(names)), base, new, reason)


def _work(line: Measurement) -> Any:
    cost = line.cost
    return (cost.flops, cost.tokens, cost.rows, cost.assignments, line.skew) if cost else None

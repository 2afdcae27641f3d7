"""Projections to be read: the figures with their bounds, then every step with where its time comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from results.figures import number, percent, plain_rate, time_text
from results.notes import Notes
from results.projection.terms import Term
from results.projection.whole import OVERLAPS, Break, Projection
from results.published.shares import clusters_text
from results.statistics import Estimate
from results.tables import Column, Section, Table

__all__ = ["breaks_table", "figures_table", "projection_rows", "steps_table", "title_of"]

_TIME = {"decode": "TPOT", "prefill": "TTFT"}
_TOKENS = {"decode": "output", "prefill": "input"}


def title_of(one: Projection) -> str:
    """What was projected, on what."""
    work = one.work
    what = (
        f"{work.tokens} sequences a device, {work.context:,} positions cached each"
        if work.phase == "decode"
        else f"prompts of {work.tokens:,} tokens" + (f", {one.batch} one after the other" if one.batch > 1 else "")
    )
    group = f"ep{work.ep}" if work.ep > 1 else "one device"
    return (
        f"{work.about.name}, {work.phase}: {what}, {group}, {work.dtype}, {work.routing} routing"
        f" on {one.target} ({one.device}), by {one.scenario} times: a projection"
    )


def figures_table(one: Projection) -> Table:
    """Time, rate, cost and energy; a column a bound of the overlap where something is communicated."""
    ways = OVERLAPS if any(term.is_communication for term in one.terms) else OVERLAPS[:1]
    heads = [f"{way} overlap" for way in ways] if len(ways) > 1 else ["projected"]
    notes = Notes()
    least, most = ("≥ ", "≤ ") if one.at_least else ("", "")
    about = " ".join(map(notes.mark, (*one.warnings, *_bounds(one), one.erred.text, clusters_text())))
    whose = _TOKENS[one.work.phase]
    rows = [
        (f"{_TIME[one.work.phase]} {about}", [least + _span(one.time(way), time_text) for way in ways]),
        (f"{whose} tokens/s a device", [most + _rate(one.tokens_per_s(way)) for way in ways]),
        (f"$/Mtok of {whose} {_priced(one, notes)}", [_dollars(one, way, least) for way in ways]),
        (f"J/{whose} token {_powered(one, notes)}", [_joules(one, way, least) for way in ways]),
    ]
    columns = (Column("", right=False), *(Column(head) for head in heads))
    cells = tuple((name, *values) for name, values in rows)
    return Table(title_of(one), columns, (Section("", cells),), notes.texts)


def steps_table(one: Projection) -> Table:
    """Every step, in the order of the pass; those that one measurement holds together share its time."""
    notes, rows = Notes(), []
    longest = max((term.each.ns * term.count for term in one.terms if term.each), default=0.0)
    total = sum(term.each.ns * term.count for term in one.terms if term.each) or longest or 1.0
    for term in one.terms:
        where = notes.mark(_from(term)) if _from(term) else ""
        first, *others = term.steps
        rows.append((first.name, str(term.count), term.how, *_cells(term, total), where))
        rows += [
            (f"  {step.name}", "", term.how, "", "", f"with {first.name}" if term.each else "", where)
            for step in others
        ]
    names = ("times", "", "each", "±", "share")
    columns = (
        Column("step", right=False),
        *(Column(name, right=name != "") for name in names),
        Column("from", right=False),
    )
    return Table("Every step of a pass", columns, (Section("", tuple(rows)),), notes.texts)


def breaks_table(found: Sequence[Break]) -> Table:
    """The price of one target over another's at which their tokens cost the same."""
    notes = Notes()
    rows = tuple(_break_row(one, notes) for one in found)
    names = ("break-even price ratio", "$/hour")
    columns = (Column("target", right=False), Column("against", right=False), *map(Column, names))
    title = "At which price, over the other's, do tokens cost the same? Below it the target is the cheaper one"
    return Table(title, columns, (Section("", rows),), notes.texts)


def projection_rows(found: Sequence[Projection], breaks: Sequence[Break] = ()) -> list[dict[str, Any]]:
    """Projections as plain dicts, with a list of steps and, of targets that have one, the break-even price in each."""
    even = {one.target: asdict(one) for one in breaks}
    return [{**_row(one), "break_even": even.get(one.target)} for one in found]


def _span(found: Estimate, text: Callable[[float], str]) -> str:
    return f"{text(found.ns)} ({text(found.low_ns)} .. {text(found.high_ns)})"


def _rate(found: tuple[float, float, float]) -> str:
    value, low, high = found
    return f"{plain_rate(value)} ({plain_rate(low)} .. {plain_rate(high)})"


def _priced(one: Projection, notes: Notes) -> str:
    if one.price is None:
        return notes.mark("no price of this device is known here: give --price DOLLARS, an hour")
    price = number(one.price.low) + (f" to {number(one.price.high)}" if one.price.high > one.price.low else "")
    return notes.mark(f"at {price} $ an hour and device ({one.price.source})")


def _powered(one: Projection, notes: Notes) -> str:
    if one.watts is None:
        return notes.mark("no sustained measurement of this model with power is in the records: moemark run sustained")
    return notes.mark(f"at the mean power of {one.watts[1]}: {number(one.watts[0])} W")


def _dollars(one: Projection, way: str, least: str) -> str:
    found = one.dollars_per_mtok(way)
    if found is None:
        return "-"
    return least + " .. ".join(dict.fromkeys(number(value) for value in found))


def _joules(one: Projection, way: str, least: str) -> str:
    found = one.joules_per_token(way)
    return "-" if found is None else least + number(found)


def _bounds(one: Projection) -> list[str]:
    missing, modelled = one.missing, [t.steps[0].name for t in one.terms if t.how == "modelled" and t.at_least]
    found = [f"missing, so times are at least and rates at most these: {', '.join(missing)}"] if missing else []
    found += [f"lower bounds: {', '.join(modelled)}"] if modelled else []
    return found + (["in brackets the interval of the bound, not of the truth beyond it"] if found else [])


def _from(term: Term) -> str:
    rows = "; ".join(map(str, term.rows[:4])) + (f"; {len(term.rows) - 4} more" if len(term.rows) > 4 else "")
    return "; ".join(filter(None, (rows, term.note)))


def _cells(term: Term, total: float) -> tuple[str, str, str]:
    if term.each is None:
        return "", "", ""
    sign = "≥ " if term.at_least else ""
    share = percent(term.each.ns * term.count / total)
    is_exact_bound = term.how == "modelled" and term.each.low_ns == term.each.high_ns
    return sign + time_text(term.each.ns), "" if is_exact_bound else percent(term.each.precision), share


def _break_row(one: Break, notes: Notes) -> tuple[str, ...]:
    mark = f" {notes.mark(one.reason)}" if one.reason else ""
    ratio, dollars = (_ends(found) for found in (one.ratio, one.dollars))
    return one.target, one.against, ratio + mark, dollars


def _ends(found: tuple[float, float] | None) -> str:
    return " .. ".join(dict.fromkeys(number(value) for value in sorted(found))) if found else "-"


def _row(one: Projection) -> dict[str, Any]:
    work = one.work
    return {
        "target": one.target,
        "device": one.device,
        "model": work.about.id,
        "phase": work.phase,
        "batch": one.batch,
        "context": work.context or work.tokens,
        "ep": work.ep,
        "dtype": work.dtype,
        "routing": work.routing,
        "scenario": one.scenario,
        "is_bound": one.at_least,
        "missing": list(one.missing),
        "warnings": list(one.warnings),
        "validation_errors": list(one.erred.errors),
        "validation_where": one.erred.where,
        "price": asdict(one.price) if one.price else None,
        "power_w": one.watts[0] if one.watts else None,
        **{f"{way}_overlap": _figures(one, way) for way in OVERLAPS},
        "steps": [_step_row(term) for term in one.terms],
    }


def _figures(one: Projection, way: str) -> dict[str, Any]:
    time, dollars = one.time(way), one.dollars_per_mtok(way)
    return {
        "time_ns": time.ns,
        "low_ns": time.low_ns,
        "high_ns": time.high_ns,
        "tokens_per_s": one.tokens_per_s(way)[0],
        "dollars_per_mtok": list(dollars) if dollars else None,
        "joules_per_token": one.joules_per_token(way),
    }


def _step_row(term: Term) -> dict[str, Any]:
    each = term.each
    return {
        "steps": [step.name for step in term.steps],
        "count": term.count,
        "how": term.how,
        "each_ns": each.ns if each else None,
        "low_ns": each.low_ns if each else None,
        "high_ns": each.high_ns if each else None,
        "is_lower_bound": term.at_least,
        "note": term.note,
        "rows": [asdict(row) for row in term.rows],
    }

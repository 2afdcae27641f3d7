"""A model's speed on one device of a group, put together from the times of its parts.

    time of a pass = sum over terms of count * time each;  tokens/s of a device = its tokens / time;
    $/Mtok = $/hour * 10^6 / (3600 * tokens/s);  J/token = mean watts * time / tokens.

Two bounds stand for the overlap of communication with computing: none (their sum) and perfect (the longer of the two). The
intervals of the terms are added up as if they erred alike, and widened by what projections were seen to err by
(`validation`). A term that is a lower bound, or missing, makes the time a lower bound and the rate an upper one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from results.hardware import Device
from results.places import Row
from results.prices import device_prices
from results.projection.terms import Pass, Term, terms_of
from results.projection.times import Times, joined_targets
from results.projection.validation import Observed, observed
from results.statistics import Estimate
from results.store import RunFile
from workloads.case import UserError
from workloads.formats import value_bytes, weight_bytes
from workloads.models import check_share, model
from workloads.parameters import parameters

__all__ = [
    "OVERLAPS",
    "Ask",
    "Break",
    "Price",
    "Projection",
    "break_even",
    "chosen",
    "disturbed",
    "measured_targets",
    "project",
    "projections",
]

OVERLAPS = ("none", "perfect")
DISTURBED = ("contended", "throttled", "drift")
"""Warnings of a measurement whose device was not left alone, or not steady."""


@dataclass(frozen=True)
class Ask:
    """What to project. `batch`: sequences of a device in decode, prompts one after the other in prefill."""

    model: str
    phase: str
    batch: int
    context: int
    ep: int = 1
    dtype: str | None = None
    routing: str | None = None
    prices: dict[str, float] = field(default_factory=dict)
    """Dollars an hour by target; "" for every other."""


@dataclass(frozen=True)
class Price:
    """Dollars an hour of one device, and who says so."""

    low: float
    high: float
    source: str


@dataclass(frozen=True)
class Projection:
    """One target's projection."""

    target: str
    device: str
    sheet: Device | None
    work: Pass
    batch: int
    scenario: str
    terms: tuple[Term, ...]
    erred: Observed
    price: Price | None
    watts: tuple[float, Row] | None
    warnings: tuple[str, ...] = ()

    @property
    def at_least(self) -> bool:
        """Whether the time is a lower bound and the rate an upper one."""
        return any(term.at_least for term in self.terms)

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the steps without a time."""
        return tuple(step.name for term in self.terms if term.how == "missing" for step in term.steps)

    @property
    def passes(self) -> int:
        """Passes behind one another: the prompts of a prefill."""
        return self.batch if self.work.phase == "prefill" else 1

    @property
    def tokens(self) -> int:
        """Of the device, in all passes."""
        return self.work.tokens * self.passes

    @cached_property
    def summed(self) -> dict[str, Estimate]:
        """Time of all passes by overlap, with the terms' own intervals."""
        compute, moved = (self._sum(which) for which in (False, True))
        together = [max(pair) for pair in zip(compute, moved, strict=True)]
        alone = [sum(pair) for pair in zip(compute, moved, strict=True)]
        return {"none": Estimate(*alone), "perfect": Estimate(*together)}

    def _sum(self, communication: bool) -> list[float]:
        found = [term for term in self.terms if term.each and term.is_communication == communication]
        parts = [(term.each.ns, term.each.low_ns, term.each.high_ns, term.count) for term in found if term.each]
        return [self.passes * sum(one[i] * one[3] for one in parts) for i in range(3)]

    def time(self, overlap: str) -> Estimate:
        """Of all passes, its interval widened by what projections were seen to err by."""
        return self.erred.widened(self.summed[overlap])

    def tokens_per_s(self, overlap: str) -> tuple[float, float, float]:
        """Rate, least and most."""
        found = self.time(overlap)
        return tuple(self.tokens / ns * 1e9 for ns in (found.ns, found.high_ns, found.low_ns))  # type: ignore[return-value]

    def dollars_per_mtok(self, overlap: str) -> tuple[float, float] | None:
        """$ per 10⁶ tokens at the lower and at the higher price; None without a price."""
        rate = self.tokens_per_s(overlap)[0]
        if self.price is None:
            return None
        low, high = (price * 1e6 / (3600 * rate) for price in (self.price.low, self.price.high))
        return low, high

    def joules_per_token(self, overlap: str) -> float | None:
        """By the mean power of a sustained measurement; None without one."""
        return self.watts[0] * self.time(overlap).ns / 1e9 / self.tokens if self.watts else None


def projections(runs: Sequence[RunFile], ask: Ask, targets: Sequence[str] = ()) -> list[Projection]:
    """Of every target that finished something of the model, or of these. Raises UserError where that is none."""
    return [project(runs, name, ask) for name in measured_targets(runs, ask.model, targets)]


def measured_targets(runs: Sequence[RunFile], name: str, targets: Sequence[str] = ()) -> list[str]:
    """The targets (of these) that finished something of a model. Raises UserError where that is none."""
    about = model(name)
    there = joined_targets(runs)
    if unknown := [name for name in targets if name not in there]:
        raise UserError(f"no run has a measurement on {unknown[0]}: there are {', '.join(there) or 'none'}")
    measured = [name for name in targets or there if Times(runs, name).of_model(about.id)]
    if not measured:
        where = ", ".join(targets or there)
        raise UserError(
            f"no case of {about.id} was finished on {where}: measure some first, for instance moemark run decode"
        )
    return measured


def project(runs: Sequence[RunFile], target: str, ask: Ask) -> Projection:
    """The projection of a target on which something of the model was measured. Raises UserError for an ask that is none."""
    about = model(ask.model)
    check_share(about, ask.ep)
    if ask.batch < 1 or ask.context < 1:
        raise UserError("--batch and --context must be at least 1")
    times = Times(runs, target)
    dtype, routing = chosen(times, ask)
    tokens = ask.batch if ask.phase == "decode" else ask.context
    work = Pass(about, ask.phase, tokens, ask.context if ask.phase == "decode" else 0, ask.ep, dtype, routing)
    terms = tuple(terms_of(times, work))
    return Projection(
        target=target,
        device=times.device,
        sheet=times.sheet,
        work=work,
        batch=ask.batch,
        scenario=times.scenario,
        terms=terms,
        erred=observed(),
        price=_price(times, ask),
        watts=times.watts(ask.model),
        warnings=(*_too_large(times, work), *disturbed(times, terms)),
    )


def chosen(times: Times, ask: Ask) -> tuple[str, str]:
    """The dtype and the routing asked for, else those of the model's layers that were measured most."""
    layers = [
        found.case for found in times.of_model(ask.model) if found.case.workload in ("block", "moe-layer", "experts")
    ]
    layers = layers or [found.case for found in times.of_model(ask.model)]
    near = [case for case in layers if case.ep == ask.ep] or layers
    dtype = ask.dtype or _most([case.dtype for case in near])
    routing = ask.routing or _most([case.routing for case in near if case.dtype == dtype] or ["uniform"])
    return dtype, routing if routing != "none" else "uniform"


def _most(names: Sequence[str]) -> str:
    return max(dict.fromkeys(names), key=names.count)


def _price(times: Times, ask: Ask) -> Price | None:
    given = ask.prices.get(times.target, ask.prices.get(""))
    if given is not None:
        return Price(given, given, "--price")
    found = device_prices(times.sheet.id) if times.sheet else ()
    return Price(found[0].low, found[0].high, f"{found[0].kind}, {found[0].date}: {found[0].source}") if found else None


def disturbed(times: Times, terms: Sequence[Term]) -> tuple[str, ...]:
    """That rows which times come from were disturbed, and by what."""
    rows = list(dict.fromkeys(row for term in terms for row in term.rows))
    seen = {row: [word for word in times.warnings(row) if word in DISTURBED] for row in rows}
    bad = [row for row in rows if seen[row]]
    if not bad:
        return ()
    words = ", ".join(dict.fromkeys(word for row in bad for word in seen[row]))
    return (f"{len(bad)} of the {len(rows)} rows that times come from were disturbed ({words}): measure them again",)


def _too_large(times: Times, work: Pass) -> tuple[str, ...]:
    """Whether a device holds its weights at all."""
    memory = times.sheet.memory_gib if times.sheet else None
    needed = _weights(work) / 2**30
    if memory is None or needed <= memory:
        return ()
    more = next((ep for ep in range(work.ep, work.about.num_experts + 1) if _fits(work, ep, memory)), None)
    mend = f"ep{more} would" if more else "no group of this dtype would"
    return (f"a device's weights take {needed:.0f} GiB, and it has {memory:g}: this cannot run; {mend} fit",)


def _fits(work: Pass, ep: int, memory: float) -> bool:
    return work.about.num_experts % ep == 0 and _weights(work, ep) / 2**30 <= memory


def _weights(work: Pass, ep: int | None = None) -> float:
    """Bytes of a device's weights: all but the routed experts whole, without caches."""
    counts = parameters(work.about)
    experts = counts.routed // (ep or work.ep)
    return (counts.total - counts.routed) * value_bytes(work.plain_dtype) + weight_bytes(work.dtype, experts, experts)


@dataclass(frozen=True)
class Break:
    """At which price of one target a token costs what it costs on another."""

    target: str
    against: str
    ratio: tuple[float, float] | None
    """Price of the one over that of the other, without and with overlap; None where it is not known."""
    reason: str | None = None
    dollars: tuple[float, float] | None = None
    """The same as the one's $/hour, least and most, at the other's price; None where that has none."""


def break_even(found: Sequence[Projection]) -> list[Break]:
    """Every target against the first: equal $/Mtok where the prices are to each other as the tokens/s are."""
    return [_break(one, found[0]) for one in found[1:]]


def _break(one: Projection, other: Projection) -> Break:
    names = one.target, other.target
    lacks = [{step.name for term in side.terms if term.at_least for step in term.steps} for side in (one, other)]
    if lacks[0] != lacks[1]:
        differ = ", ".join(sorted(lacks[0] ^ lacks[1]))
        return Break(*names, None, f"a bound on one side only, by {differ}: two bounds have no ratio")
    ratio = tuple(one.tokens_per_s(way)[0] / other.tokens_per_s(way)[0] for way in OVERLAPS)
    reason = f"of what is known: both lack a true time of {', '.join(sorted(lacks[0]))}" if lacks[0] else None
    price = other.price
    dollars = (min(ratio) * price.low, max(ratio) * price.high) if price else None
    return Break(*names, (ratio[0], ratio[1]), reason, dollars)

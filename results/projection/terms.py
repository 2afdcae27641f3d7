"""From steps to times: each step of a pass measured, interpolated, modelled or missing, none of them counted twice.

A whole layer (`block`) is taken where it was measured and every layer of the model is like it; else the MoE layer and the
attention, each by itself; else the MoE layer's parts. What stands outside these, and is made of streaming and products alone,
is modelled at the ceilings that the device showed in the run: it takes at least that long. Collectives that were not measured
are modelled by the link (`links`). A step without any time is missing. Modelled and missing ones make a pass `at_least`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from results.places import Row
from results.projection.anatomy import IN_BLOCK, IN_LAYER, Step, steps_of
from results.projection.ceilings import at_least_work
from results.projection.curves import Curve, ExpertCurve
from results.projection.links import Link, collective_ns, reached
from results.projection.loads import Loads, loads_of
from results.projection.times import Found, Times
from results.statistics import Estimate
from workloads.attending import Form, form_of, scope_of
from workloads.attention import KINDS
from workloads.case import Case
from workloads.dims import Model
from workloads.formats import precision_of, value_bytes

__all__ = ["MOST_DRAWS", "Pass", "Term", "around_experts", "expert_curve", "terms_of"]

MOST_DRAWS = 8
"""Layers whose routing is drawn anew where times are interpolated; further layers repeat their mean."""

CEILING = "at the ceilings that this device showed: it takes at least so long"


@dataclass(frozen=True)
class Pass:
    """One pass: a `decode` step of `tokens` sequences with `context` positions cached each, or the `prefill` of one prompt."""

    about: Model
    phase: str
    tokens: int
    context: int
    ep: int
    dtype: str
    routing: str

    @property
    def plain_dtype(self) -> str:
        """What attention and head are computed in: the dtype, of a quantised one what carries its activations."""
        return precision_of(self.dtype).carrier

    @property
    def form(self) -> tuple[str, ...]:
        """The variants of attention and block."""
        return ("decode", f"c{self.context}") if self.phase == "decode" else ("prefill",)

    @property
    def head_tokens(self) -> int:
        """Positions that the LM head sees: of a prompt the last one."""
        return self.tokens if self.phase == "decode" else 1

    def case(self, workload: str, scenario: str, variants: tuple[str, ...] = ()) -> Case:
        """The case that would measure a part of this pass."""
        routed = workload not in ("attention", "dense-ffn")
        dtype = self.plain_dtype if workload in ("attention", "router", "permute", "unpermute") else self.dtype
        ep = 1 if workload in ("attention", "router") else self.ep
        routing = self.routing if routed and self.about.num_experts else "none"
        return Case(workload, variants, self.about.id, ep, self.tokens, dtype, routing, scenario)


@dataclass(frozen=True)
class Term:
    """The time of one or several steps together, `count` times a pass."""

    steps: tuple[Step, ...]
    count: int
    how: str
    """`measured`, `interpolated`, `modelled`, `missing`, or `not run`."""
    each: Estimate | None = None
    at_least: bool = False
    """It takes at least so long: a lower bound, or no time at all."""
    rows: tuple[Row, ...] = ()
    note: str = ""

    @property
    def is_communication(self) -> bool:
        return any(step.kind in ("dispatch", "combine") for step in self.steps)


def terms_of(times: Times, wanted: Pass) -> list[Term]:
    """The terms of a pass: every step is in one of them."""
    return _Terms(times, wanted).all()


def around_experts(times: Times, wanted: Pass) -> list[Term]:
    """The terms of all steps outside the MoE layers and their collectives: what a device does whatever the group's size is."""
    return _Terms(times, wanted).around()


def expert_curve(found: Sequence[Found]) -> ExpertCurve | None:
    """Through the times of these cases by assignments and distinct experts; None where none has experts."""
    points = [(one.assignments, one.distinct, one.time.ns) for one in found if one.distinct]
    return ExpertCurve.through(points) if points else None


class _Terms:
    def __init__(self, times: Times, wanted: Pass) -> None:
        self._times, self._pass, self._about = times, wanted, wanted.about
        self._steps = steps_of(wanted.about, wanted.ep)

    def all(self) -> list[Term]:
        blocks = list(self._blocks())
        done = {step for term in blocks for step in term.steps}
        terms = [*blocks, *self._each([step for step in self._steps if step not in done])]
        return sorted(terms, key=lambda term: min(map(self._place, term.steps)))

    def _place(self, step: Step) -> int:
        """Where a step stands in a pass; the host gap is outside of all."""
        return self._steps.index(step) if step in self._steps else len(self._steps)

    def around(self) -> list[Term]:
        inside = (*IN_LAYER, "dispatch", "combine")
        return self._each([step for step in self._steps if step.kind not in inside])

    def _each(self, steps: Sequence[Step]) -> list[Term]:
        """The terms of these steps, each step in one of them."""
        terms: list[Term] = []
        done: set[Step] = set()
        for step in steps:
            if step not in done:
                found = list(self._of(step))
                terms += found
                done |= {one for term in found for one in term.steps}
        return [*terms, self._host_gap()]

    def _of(self, step: Step) -> Iterator[Term]:
        if step.kind in ("router", "dispatch"):
            yield from self._collectives(step.hashed) if step.kind == "dispatch" else self._layer(step.hashed)
        elif step.kind in ("attention", "indexer"):
            yield from self._attention(step)
        elif step.kind == "dense":
            yield self._dense(step)
        elif step.kind == "mtp":
            yield Term((step,), step.count, "not run", note="plain decoding, one token a step: nothing is speculated")
        else:
            yield self._at_ceiling(step)

    # -- measured wholes --------------------------------------------------------------------------------------------

    def _blocks(self) -> Iterator[Term]:
        """A term for each kind of layer, if every layer is a block and all were measured."""
        about = self._about
        if (
            about.dense_layers
            or about.hash_layers
            or sum(mixer.layers for mixer in about.attention) != about.num_layers
        ):
            return
        found = [self._exact("block", self._variants(number)) for number in range(len(about.attention))]
        shared = [step for step in self._steps if step.kind in IN_BLOCK and step.mixer is None]
        for number, one in enumerate(found if all(found) else ()):
            assert one is not None
            own = [step for step in self._steps if step.kind in IN_BLOCK and step.mixer == number]
            layers = about.attention[number].layers
            steps = sorted((*own, *(shared if number == 0 else ())), key=self._place)
            yield Term(tuple(steps), layers, "measured", one.time, rows=(one.row,))

    def _exact(self, workload: str, variants: tuple[str, ...] | None) -> Found | None:
        return None if variants is None else self._times.exact(self._case(workload, variants))

    def _case(self, workload: str, variants: tuple[str, ...] = ()) -> Case:
        return self._pass.case(workload, self._times.scenario, variants)

    def _variants(self, number: int) -> tuple[str, ...] | None:
        """The variants that ask for a token mixer in this pass; None where no case does."""
        scope = scope_of(self._about.attention[number])
        variants = (*self._pass.form, *([scope] if scope else []))
        form = form_of(self._case("attention", variants), self._about, tuple(KINDS))
        return variants if isinstance(form, Form) and form.number == number else None

    # -- the MoE layer ----------------------------------------------------------------------------------------------

    def _layer(self, hashed: bool) -> Iterator[Term]:
        steps = tuple(step for step in self._steps if step.kind in IN_LAYER and step.hashed == hashed)
        variants = ("hash",) if hashed else ()
        case = self._case("moe-layer", variants)
        if exact := self._times.exact(case):
            yield Term(steps, steps[0].count, "measured", exact.time, rows=(exact.row,))
            return
        alike = [found for found in self._times.alike(case) if (found.case.ep, found.case.rank) == (case.ep, case.rank)]
        if (term := self._interpolated(steps, alike)) is not None:
            yield term
        elif hashed:
            yield self._missing(steps, case)
        else:
            yield from self._parts(steps)

    def _parts(self, steps: tuple[Step, ...]) -> Iterator[Term]:
        for step in steps:
            if step.kind in ("shared", "latent"):
                yield self._at_ceiling(step)
            elif step.kind == "zero":
                yield Term((step,), step.count, "missing", at_least=True, note="no workload measures it alone")
            else:
                yield self._part(step)

    def _part(self, step: Step) -> Term:
        case = self._case(step.kind)
        if exact := self._times.exact(case):
            return Term((step,), step.count, "measured", exact.time, rows=(exact.row,))
        term = self._interpolated((step,), self._times.alike(case)) if step.kind == "experts" else None
        return term or self._missing((step,), self._case("moe-layer"))

    def _interpolated(self, steps: tuple[Step, ...], alike: Sequence[Found]) -> Term | None:
        """By assignments and distinct experts of each layer's own draw, on the rank that is loaded most."""
        curve, count = expert_curve(alike), steps[0].count
        if curve is None:
            return None
        asked = [(int(one.assignments[one.slowest]), int(one.distinct[one.slowest])) for one in self._loads(count)]
        found = [curve.at(*one) for one in asked]
        several = [one for one in found if one is not None]
        if len(several) < len(found):
            return None
        mean = Estimate(*(sum(part) / len(several) for part in zip(*map(_parts_of, several), strict=True)))
        sizes = (
            f"{min(a for a, _ in asked)} to {max(a for a, _ in asked)} assignments on {min(d for _, d in asked)} to "
        )
        error = curve.each.error
        note = sizes + f"{max(d for _, d in asked)} experts, from {len(alike)} measured sizes"
        note += "" if error is None else f"; a point left out is met within {100 * error:.0f} %"
        return Term(steps, count, "interpolated", mean, rows=tuple(one.row for one in alike if one.distinct), note=note)

    def _loads(self, layers: int) -> list[Loads]:
        about, wanted = self._about, self._pass
        draws = range(min(layers, MOST_DRAWS))
        return [loads_of(about, wanted.tokens, wanted.ep, wanted.routing, seed) for seed in draws]

    # -- attention --------------------------------------------------------------------------------------------------

    def _attention(self, step: Step) -> Iterator[Term]:
        number = step.mixer
        assert number is not None
        steps = tuple(one for one in self._steps if one.mixer == number)
        variants = self._variants(number)
        if variants is None:
            form = form_of(self._case("attention", self._pass.form), self._about, tuple(KINDS))
            reason = form if isinstance(form, str) else "no case asks for it"
            yield Term(steps, step.count, "missing", at_least=True, note=reason)
            return
        case = self._case("attention", variants)
        if exact := self._times.exact(case):
            yield Term(steps, step.count, "measured", exact.time, rows=(exact.row,), note=_KV)
        else:
            yield self._along(steps, case) or self._missing(steps, case)

    def _along(self, steps: tuple[Step, ...], case: Case) -> Term | None:
        """Between measured token counts at the same context, else between contexts at the same token count."""
        alike = self._times.alike(case)
        context = _context_of(case)
        lines = (
            [(one.case.tokens, one) for one in alike if _context_of(one.case) == context],
            [(_context_of(one.case), one) for one in alike if one.case.tokens == case.tokens],
        )
        for line, x in zip(lines, (case.tokens, context), strict=True):
            curve = Curve.through([(at, one.time.ns) for at, one in line], logs=not context) if len(line) > 1 else None
            found = curve.at(x) if curve else None
            if found:
                note = f"between {len(line)} measured sizes; {_KV}"
                return Term(steps, steps[0].count, "interpolated", found, rows=tuple(o.row for _, o in line), note=note)
        return None

    # -- the rest ---------------------------------------------------------------------------------------------------

    def _dense(self, step: Step) -> Term:
        about = self._about
        exact = self._times.exact(replace(self._case("dense-ffn"), ep=1))
        width = about.experts_per_token * about.moe_intermediate_size + about.shared_intermediate_size
        if exact and about.dense_intermediate_size == (width or about.dense_intermediate_size):
            return Term((step,), step.count, "measured", exact.time, rows=(exact.row,))
        return self._at_ceiling(step)

    def _at_ceiling(self, step: Step) -> Term:
        work = at_least_work(step.kind, self._pass)
        ns = self._times.at_ceiling(*work, self._pass.plain_dtype) if work else None
        if ns is None:
            note = "no ceilings in the run" if work else "no workload measures it"
            return Term((step,), step.count, "missing", at_least=True, note=note)
        return Term((step,), step.count, "modelled", Estimate(ns, ns, ns), at_least=True, note=CEILING)

    def _collectives(self, hashed: bool) -> Iterator[Term]:
        """Dispatch and combine: the recorded workload has both; else each by the link."""
        steps = tuple(one for one in self._steps if one.kind in ("dispatch", "combine") and one.hashed == hashed)
        case = self._case("dispatch-combine")
        if exact := self._times.exact(case):
            yield Term(steps, steps[0].count, "measured", exact.time, rows=(exact.row,))
            return
        sheet = self._times.sheet
        if sheet is None or not sheet.interconnect_gbs:
            yield self._missing(steps, case, "no bandwidth of its link in hardware.toml either")
            return
        link, loads = Link.of_peak(sheet.interconnect_gbs), self._first_loads
        width = self._about.moe_latent_size or self._about.hidden_size
        found = collective_ns(loads, width * value_bytes(self._pass.plain_dtype), link)
        unit = sheet.interconnect_unit or "GB/s one direction"
        shares = [round(100 * one.share) for one in reached()]
        reach = f"of which published kernels reached {min(shares)} to {max(shares)} %"
        note = f"by the link's {sheet.interconnect_gbs:g} {unit}, {reach}; start-up is not in it"
        for step in steps:
            yield Term((step,), step.count, "modelled", found, at_least=True, note=note)

    @cached_property
    def _first_loads(self) -> Loads:
        return self._loads(1)[0]

    def _host_gap(self) -> Term:
        step = Step("host gap", "host-gap", 1)
        if not self._times.queues:
            return Term(
                (step,), 1, "not run", note="calls of this target are complete when they return: it is in their times"
            )
        if gap := self._times.host_gap:
            return Term(
                (step,), 1, "measured", gap[0], rows=gap[1], note="latency less throughput of the cases that have both"
            )
        note = "no case was measured as latency and as throughput"
        return Term((step,), 1, "missing", at_least=True, note=note)

    def _missing(self, steps: tuple[Step, ...], case: Case, more: str = "") -> Term:
        note = f"measure {case.id}" + (f"; {more}" if more else "")
        return Term(steps, steps[0].count, "missing", at_least=True, note=note)


_KV = "new keys and values are written as outputs, not into a paged cache"


def _parts_of(one: Estimate) -> tuple[float, float, float]:
    return one.ns, one.low_ns, one.high_ns


def _context_of(case: Case) -> int:
    return next((int(one[1:]) for one in case.variants if one[0] == "c" and one[1:].isdigit()), 0)

"""From samples to rows: a record of the parts, the projection made from it by `moemark project`'s code, and the error."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.end_to_end.sizes import MODEL, PORTABLE, RANKS, Share, Size
from benchmarks.end_to_end.turns import Samples
from harness.environment import environment, moemark_version
from results.projection.whole import Ask, Projection, project
from results.record import METHOD_VERSION, SCHEMA_VERSION, Ceiling, Check, Cost, End, Line, Measurement, Run, Skew
from results.statistics import estimate
from results.store import Writer, read
from workloads.problem import Problem

__all__ = ["dumped", "projected", "projected_layer", "row", "write_record"]

AROUND = ("embedding", "final-norm", "head", "sampling")
"""Kinds of steps outside the layers."""
ACROSS = ("dispatch", "experts")
"""Kinds of steps that name the two measured terms of a layer across ranks."""
_FIELDS = (
    "target",
    "device",
    "model",
    "layers",
    "dtype",
    "phase",
    "tokens",
    "context",
    "by",
    "rounds",
    "measured_ns",
    "measured_low_ns",
    "measured_high_ns",
    "projected_ns",
    "layers_measured_ns",
    "layers_projected_ns",
    "experts_planted",
    "experts_met",
    "date",
)


def write_record(
    path: Path, target: str, about: Mapping[str, Any], parts: Mapping[str, tuple[Problem, Sequence[tuple[int, int]]]],
    ceilings: Sequence[Ceiling],
) -> Any:  # fmt: skip
    """A run file of these parts, read back."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    cases = [problem.case.id for problem, _ in parts.values()]
    header = Run(
        schema_version=SCHEMA_VERSION,
        method_version=METHOD_VERSION,
        moemark_version=moemark_version(),
        started_utc=now,
        selection=cases,
        selection_digest="0" * 64,
        targets=[target],
        options={},
        plan=[(case, target) for case in cases],
        environment=environment() | {"targets": {target: _plain(about)}},
    )
    with Writer(path, force=True) as writer:
        lines: list[Line] = [header, *ceilings, *(_measurement(target, *one) for one in parts.values())]
        for line in lines:
            writer.append(line)
        writer.append(End(lines=writer.lines, ended_utc=now))
    return read(path)


def _plain(about: Mapping[str, Any]) -> Any:
    """What a target tells of itself in JSON's own types: torch's version is a class of its own."""
    return json.loads(json.dumps(about))


def _measurement(target: str, problem: Problem, samples: Sequence[tuple[int, int]]) -> Measurement:
    return Measurement(
        case=problem.case.id,
        case_digest=problem.case.digest(1),
        input_digest=problem.input_digest,
        target=target,
        implementation=PORTABLE[problem.case.workload],
        division="portable",
        status="ok",
        samples_ns=[ns for _, ns in samples],
        slots=[place for place, _ in samples],
        check=Check(passed=True, before=True),
        cost=Cost(**problem.cost.__dict__),
        skew=Skew(**problem.skew) if problem.skew else None,
    )


def projected(run: Any, target: str, size: Size, dtype: str) -> tuple[Projection, float]:
    """The projection from a record, and its ns inside the layers."""
    context = size.context or size.tokens
    found = project([run], target, Ask(MODEL, size.phase, size.tokens if size.context else 1, context, dtype=dtype))
    inside = [term for term in found.terms if term.each and not any(step.kind in AROUND for step in term.steps)]
    return found, sum(term.each.ns * term.count for term in inside if term.each)


def projected_layer(run: Any, target: str, share: Share) -> float:
    """ns of one layer across ranks: of its compute and its exchanges, one after the other."""
    found = project([run], target, Ask(MODEL, "decode", share.tokens, 1, RANKS, "bf16", share.routing))
    inside = [term for term in found.terms if term.each and any(step.kind in ACROSS for step in term.steps)]
    assert all(term.how == "measured" for term in inside) and len(inside) == 2, found.terms
    return sum(term.each.ns for term in inside if term.each)


def row(
    size: Size | Share,
    samples: Samples,
    experts: Mapping[str, float],
    by: str,
    times: tuple[float, float],
    **about: Any,
) -> dict[str, Any]:
    """One row of validation.json; `times` are those of the projection: of all, and of the layers."""
    whole, layers = (estimate(samples.whole[what], samples.places, 1) for what in ("whole", "layers"))
    values = {
        "phase": size.phase,
        "tokens": size.tokens,
        "context": size.context,
        "by": by,
        "rounds": samples.rounds,
        "measured_ns": round(whole.ns),
        "measured_low_ns": round(whole.low_ns),
        "measured_high_ns": round(whole.high_ns),
        "projected_ns": round(times[0]),
        "layers_measured_ns": round(layers.ns),
        "layers_projected_ns": round(times[1]),
        "experts_planted": experts["planted"],
        "experts_met": round(experts["met"], 1),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
    } | about
    return {name: values[name] for name in _FIELDS}


def dumped(document: Any) -> str:
    """As JSON for a file."""
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"

"""The answer in words: who is faster, by how much and how sure that is, before any table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from results.compare import Comparison
from results.figures import number, percent, plain_rate, time_text
from results.metrics import device_name
from results.record import table_in
from results.report.shown import Shown, ShownRun, fastest_of_each
from results.report.sides import Contest
from results.store import RunFile
from workloads.case import Case, UserError
from workloads.models import model

__all__ = ["Answer", "Claim", "Rate", "answer", "case_text", "claims", "machine_name", "model_name"]

HEADLINE_MODEL = "deepseek-v4-flash"
"""The model that the claim behind moemark is about."""


@dataclass(frozen=True)
class Claim:
    """One side against the baseline."""

    headline: str
    detail: str
    verdict: str
    """Empty where nothing could be compared."""


@dataclass(frozen=True)
class Rate:
    """What one target got done in the headline's case; `share` of the fastest one's rate, 0..1."""

    target: str
    rate: str
    detail: str
    share: float


@dataclass(frozen=True)
class Answer:
    """`work` on `machine`: a rate a target; without any measured case, `work` says so and there are none."""

    machine: str
    work: str
    rates: tuple[Rate, ...] = ()
    label: str | None = None


def claims(found: Contest, base: int) -> list[Claim]:
    """Every other side against the baseline, in the order of the sides."""
    names = [side.name for side in found.sides]
    compared = zip(names, found.against(base), strict=True)
    return [_claim(names[base], name, one) for name, one in compared if one is not None]


def _claim(base: str, name: str, found: Comparison | str) -> Claim:
    if isinstance(found, str):
        return Claim(f"{name} and {base} cannot be compared", found, "")
    headline = {
        "faster": f"{name} is faster than {base}",
        "slower": f"{name} is slower than {base}",
        "same": f"{name} and {base} are equally fast",
        "unsure": f"Not sure whether {name} or {base} is faster",
    }[found.mean_verdict]
    count = len(found.comparable)
    over = (
        "in the one case that both finished"
        if count == 1
        else f"geometric mean over the {count} cases that both finished"
    )
    said = f"{name} took {_took(found.mean.value)} (95% interval: {_took(found.mean.low)} to {_took(found.mean.high)}), {over}."
    return Claim(headline, " ".join([said, *_why(found)]), found.mean_verdict)


def _took(ratio: float) -> str:
    """A time ratio in words: `18% less time`, `2.3 times the time`."""
    if ratio >= 2:
        return f"{number(ratio)} times the time"
    if ratio <= 0.5:
        return f"1/{number(1 / ratio)} of the time" if ratio else "no time"
    return f"{percent(abs(ratio - 1))} {'less' if ratio < 1 else 'more'} time"


def _why(found: Comparison) -> list[str]:
    """The reason that most unsure pairs share."""
    reasons = [pair.reason for pair in found.comparable if pair.reason and pair.verdict == "unsure"]
    if found.mean_verdict != "unsure" or not reasons:
        return []
    common = max(dict.fromkeys(reasons), key=reasons.count)
    return [f"Why not sure: {common}."]


def answer(run: ShownRun) -> Answer:
    """The rates of a run: of the measured layers DeepSeek-V4-Flash's, on most targets, at most tokens a call."""
    machine = machine_name(run.run_file)
    groups: dict[str, list[Shown]] = {}
    for one in fastest_of_each(run.lines):
        groups.setdefault(one.line.case, []).append(one)
    if not groups:
        return Answer(machine, "No case ended with a right answer and a time: the tables below say why.")
    chosen = max(groups.values(), key=_weight)
    case = chosen[0].case
    said = "Tokens of one rank; compute only, without dispatch and combine." if case.ep > 1 else None
    return Answer(machine, case_text(case), tuple(_rates(run, chosen)), said)


def machine_name(run_file: RunFile) -> str:
    """The accelerators of the run, else its CPU with the number of cores."""
    named = dict.fromkeys(device_name(run_file, target) for target in run_file.run.targets)
    machine = table_in(run_file.run.environment, "machine")
    cores = machine.get("cores_usable") or machine.get("cores_logical")
    cpu = f"{machine.get('cpu', 'this CPU')}" + (f", {cores} cores" if cores else "")
    others = [name for name in named if name and name != machine.get("cpu")]
    return " and ".join(others) or cpu


def model_name(name: str) -> str:
    """The model as its makers write it; the id where this version does not know it."""
    try:
        return model(name).name
    except UserError:
        return name


def case_text(case: Case) -> str:
    """A case in words."""
    share = f"one EP-{case.ep} share of " if case.ep > 1 else ""
    what = "MoE layer" if case.workload == "moe-layer" else case.workload
    variants = f" ({', '.join(case.variants)})" if case.variants else ""
    tokens = f"{case.tokens} token{'s' * (case.tokens > 1)} a call"
    return f"{share}{model_name(case.model)}’s {what}{variants}, {tokens}, {case.dtype}, {case.routing} routing"


def _weight(lines: Sequence[Shown]) -> tuple[bool, bool, int, bool, int]:
    case = lines[0].case
    layer, headline = case.workload == "moe-layer", case.model == HEADLINE_MODEL
    return (layer, headline, len(lines), case.scenario == "latency", case.tokens)


def _rates(run: ShownRun, lines: Sequence[Shown]) -> list[Rate]:
    by_target = {one.line.target: one for one in lines}
    found = [by_target[target] for target in run.targets if target in by_target]
    best = max((one.figures.tokens_per_s or 0) for one in found if one.figures)
    return [_rate(one, best) for one in found]


def _rate(one: Shown, best: float) -> Rate:
    figures = one.figures
    assert figures is not None, "only what has a time is ranked"
    parts = [one.line.implementation, f"p50 {time_text(figures.time.ns)} ± {percent(figures.time.precision)}"]
    if figures.roofline_ratio is not None:
        parts.append(f"{percent(figures.roofline_ratio)} of what this device showed ({figures.bound}-bound)")
    share = (figures.tokens_per_s or 0) / best if best else 0.0
    return Rate(one.line.target, f"{plain_rate(figures.tokens_per_s)} tokens/s", ", ".join(parts), share)

"""The answer in words: what a reader wants to know before any table."""

from __future__ import annotations

from dataclasses import dataclass

from results.compare import Entry, SideBySide, fastest, targets_side_by_side
from results.figures import percent, plain_rate, time_text
from results.metrics import device_name, metrics
from results.record import Measurement
from results.store import RunFile
from workloads.case import Case, UserError
from workloads.models import model

__all__ = ["Answer", "Line", "answer", "machine_name", "model_name"]

HEADLINE_MODEL = "deepseek-v4-flash"
"""The model that the claim behind moemark is about."""


@dataclass(frozen=True)
class Line:
    """One target's part of the answer."""

    target: str
    rate: str
    detail: str


@dataclass(frozen=True)
class Answer:
    """`work` on `machine`: a line a target; without any measured case, `work` says so and there are no lines."""

    machine: str
    work: str
    lines: tuple[Line, ...] = ()
    label: str | None = None


def answer(run_file: RunFile) -> Answer:
    """The headline of a run: of the measured layers DeepSeek-V4-Flash's, on most targets, at most tokens a call."""
    timed = [case for case in targets_side_by_side(run_file) if _timed(case)]
    if not timed:
        return Answer(machine_name(run_file), "No case ended with a right answer and a time: the tables below say why.")
    chosen = max(timed, key=_weight)
    case = Case.parse(chosen.case)
    lines = tuple(_line(run_file, chosen.case, entry) for entry in _timed(chosen))
    said = "compute only, without dispatch and combine" if case.ep > 1 else None
    return Answer(machine_name(run_file), _work(case), lines, said)


def machine_name(run_file: RunFile) -> str:
    """The accelerators of the run, else its CPU with the number of cores."""
    named = {target: device_name(run_file, target) for target in run_file.run.targets}
    # A runtime that cannot name its device repeats the target's own word (`cuda`), which says nothing.
    devices = dict.fromkeys(name for target, name in named.items() if name and name not in target)
    machine = run_file.run.environment.get("machine", {})
    cores = machine.get("cores_usable") or machine.get("cores_logical")
    cpu = f"{machine.get('cpu', 'this CPU')}" + (f", {cores} cores" if cores else "")
    others = [name for name in devices if name != machine.get("cpu")]
    return " and ".join(others) or cpu


def model_name(name: str) -> str:
    """The model as its makers write it; the id where this version does not know it."""
    try:
        return model(name).name
    except UserError:
        return name


def _timed(case: SideBySide) -> list[Entry]:
    return [entry for entry in case.entries if entry.time]


def _weight(side: SideBySide) -> tuple[bool, bool, int, bool, int]:
    case = Case.parse(side.case)
    layer, headline = case.workload == "moe-layer", case.model == HEADLINE_MODEL
    return (layer, headline, len(_timed(side)), case.scenario == "latency", case.tokens)


def _work(case: Case) -> str:
    share = f"one EP-{case.ep} share of " if case.ep > 1 else ""
    what = "MoE layer" if case.workload == "moe-layer" else case.workload
    tokens = f"{case.tokens} token{'s' * (case.tokens > 1)} a call"
    return f"{share}{model_name(case.model)}’s {what}, {tokens}, {case.dtype}, {case.routing} routing"


def _line(run_file: RunFile, case: str, entry: Entry) -> Line:
    lines = [line for line in run_file.measurements if line.case == case and line.target == entry.target]
    return _line_of(run_file, fastest(lines), entry.target)


def _line_of(run_file: RunFile, line: Measurement | None, target: str) -> Line:
    found = metrics(run_file, line) if line else None
    if line is None or found is None:
        return Line(target, "-", "")
    parts = [f"{line.implementation}", f"p50 {time_text(found.time.ns)} ± {percent(found.time.precision)}"]
    if found.roofline_ratio is not None:
        parts.append(f"{percent(found.roofline_ratio)} of what this device showed ({found.bound}-bound)")
    return Line(target, f"{plain_rate(found.tokens_per_s)} tokens/s", ", ".join(parts))

"""What stands behind the numbers: machine, failures, warnings, ceilings, digests, and the command that repeats it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from results.figures import number
from results.metrics import ceilings_of, device_id, target_facts
from results.origins import origin
from results.record import Run
from results.report.answer import machine_name
from results.report.shown import ShownRun
from results.store import RunFile
from workloads.patterns import is_pattern
from workloads.suite import load_suite, shipped_suites

__all__ = ["chapter", "citation", "command", "unheld"]

WARNINGS = {
    "noisy": "the budget ended before the interval was narrow enough",
    "drift": "the first and the last third of the samples differ",
    "contended": "other processes used the device or the cores",
    "throttled": "the device lowered its clock",
    "ceiling-low": "the case beat its own ceiling by more than 5 %: the ceiling was measured too low",
}
_TIMES = {
    "budget_s": "--budget",
    "sustain_s": "--sustain",
    "timeout_s": "--timeout",
    "prepare_timeout_s": "--prepare-timeout",
}
_COUNTS = {"processes": "--processes", "nproc": "--nproc"}


MOST_FACTS = 400
DEEPEST = 6


def chapter(run: ShownRun) -> dict[str, Any]:
    """Plain data for the template."""
    run_file = run.run_file
    facts = list(islice(_flat(run_file.run.environment), MOST_FACTS + 1))
    if len(facts) > MOST_FACTS:
        facts[MOST_FACTS:] = [("...", "more in the record")]
    return {
        "environment": facts,
        "failures": [one.line for one in run.lines if one.line.status != "ok"],
        "warned": _warned(run),
        "brought": _brought(run),
        "ceilings": _ceilings(run_file),
        "header": run_file.run,
        "end": run_file.end,
    }


def citation(run_file: RunFile) -> str:
    """What to cite: which run of what, and the digest by which its record is known."""
    run = run_file.run
    about = f"moemark {run.moemark_version} (schema {run.schema_version}, method {run.method_version})"
    measured = f"{' '.join(run.selection)} on {machine_name(run_file)} by {', '.join(run.targets)}, {run.started_utc}"
    last = f", last line SHA-256 {run_file.last_digest}" if run_file.last_digest else ""
    return f"{about}. {measured}. Record {run_file.stem}.jsonl, {len(run_file.measurements)} measurements{last}."


def command(run_file: RunFile) -> str:
    """What to type to measure the same again."""
    run = run_file.run
    words = ["moemark", "run", *run.selection]
    for target in run.targets:
        words += ["--target", target]
    implementations = run.options.get("implementations")
    for name in implementations if isinstance(implementations, list) else []:
        words += ["--implementation", name]
    precision = run.options.get("precision")
    if isinstance(precision, int | float):
        words += ["--precision", f"{_plain(100 * precision)}%"]
    for option, flag in _TIMES.items():
        value = run.options.get(option)
        words += [flag, f"{_plain(value)}s"] if isinstance(value, int | float) else []
    for option, flag in _COUNTS.items():
        value = run.options.get(option, 1)
        words += [flag, str(value)] if isinstance(value, int) and value != 1 else []
    if run.options.get("shared_host"):
        words.append("--shared-host")
    return shlex.join(words)


def _plain(value: float) -> str:
    """As command lines take it: `1000000`, not `1e+06`."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


def unheld(run_file: RunFile) -> list[str]:
    """What whoever repeats the command must know or add, as sentences: a record does not hold it."""
    found = ["A record holds no paths: of one in a target's options it has the last part."]
    found += _unheld_of_suites(run_file.run)
    for target in run_file.run.targets:
        if target_facts(run_file, target).get("own_interpreter"):
            found.append(f"{target} ran under an interpreter of its own: write {target}@INTERPRETER.")
    hosts = max((line.ranks.hosts for line in run_file.measurements if line.ranks), default=1)
    return [*found, *([f"The ranks were on {hosts} hosts: let torchrun start it there."] if hosts > 1 else [])]


def _unheld_of_suites(run: Run) -> Iterator[str]:
    shipped = set(shipped_suites())
    for word in run.selection:
        if is_pattern(word):
            continue
        if word not in shipped:
            yield f"{word} is no suite of moemark's: write the path of its file."
        elif run.selection == [word] and load_suite(word).digest != run.selection_digest:
            yield f"{word} is another one here: take moemark {run.moemark_version}, or the path of its file if it was one."


def _brought(run: ShownRun) -> list[str]:
    """What other packages brought, each with its package."""
    kinds = ("target", "workload", "model", "implementation")
    told = (origin(run.run_file, one.line, kind) for one in run.lines for kind in kinds)
    return list(dict.fromkeys(text for text in told if text))


def _warned(run: ShownRun) -> list[tuple[str, str, list[str]]]:
    """(warning, what it means, the rows that carry it)."""
    found: dict[str, list[str]] = {}
    for one in run.lines:
        line = one.line
        for word in one.figures.warnings if one.figures else line.warnings:
            found.setdefault(word, []).append(f"{line.case} on {line.target} ({line.implementation})")
    return [(word, WARNINGS.get(word, "no explanation is known to this version"), rows) for word, rows in found.items()]


def _ceilings(run_file: RunFile) -> list[tuple[str, str, str, str]]:
    """(device, what, rate, by whom)."""
    rows: list[tuple[str, str, str, str]] = []
    for device, target in {device_id(run_file, target): target for target in run_file.run.targets}.items():
        found = ceilings_of(run_file, target)
        for name, peak in sorted(found.gemm.items()):
            rows.append((device, f"GEMM {name}", f"{number(peak.rate)} TFLOP/s", peak.target))
        if found.memory:
            rows.append((device, "memory, read or copy", f"{number(found.memory.rate)} GB/s", found.memory.target))
    return rows


def _flat(value: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """Nested facts as `room.name` and text; what is nested deeper than any of ours is left out."""
    if depth > DEEPEST:
        yield name, "..."
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key), depth + 1)
    elif isinstance(value, list) and not any(isinstance(inner, list | Mapping) for inner in value):
        yield name, ", ".join(map(str, value))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _flat(inner, f"{name}.{place}", depth + 1)
    else:
        yield name, str(value)

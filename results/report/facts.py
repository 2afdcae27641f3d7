"""What stands behind the numbers: machine, failures, warnings, ceilings, digests, and the command that repeats it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from results.figures import number
from results.metrics import ceilings_of, device_id, metrics
from results.store import RunFile

__all__ = ["chapter", "command"]

WARNINGS = {
    "noisy": "the budget ended before the interval was narrow enough",
    "drift": "the first and the last third of the samples differ",
    "contended": "other processes used the device or the cores",
    "throttled": "the device lowered its clock",
    "ceiling-low": "the case beat its own ceiling by more than 5 %: the ceiling was measured too low",
}
_FLAGS = {"precision": "--precision", "budget_s": "--budget", "timeout_s": "--timeout"}


def chapter(run_file: RunFile) -> dict[str, Any]:
    """Plain data for the template."""
    return {
        "command": command(run_file),
        "environment": list(_flat(run_file.run.environment)),
        "failures": [line for line in run_file.measurements if line.status != "ok"],
        "warned": _warned(run_file),
        "ceilings": _ceilings(run_file),
        "digests": list(zip(run_file.measurements, run_file.digests, strict=True)),
        "header": run_file.run,
        "end": run_file.end,
    }


def command(run_file: RunFile) -> str:
    """What to type to measure the same again."""
    run = run_file.run
    words = ["moemark", "run", *run.selection]
    for target in run.targets:
        words += ["--target", target]
    implementations = run.options.get("implementations")
    for name in implementations if isinstance(implementations, list) else []:
        words += ["--implementation", name]
    for option, flag in _FLAGS.items():
        value = run.options.get(option)
        if isinstance(value, int | float):
            words += [flag, f"{100 * value:g}%" if option == "precision" else f"{value:g}s"]
    processes = run.options.get("processes", 1)
    words += ["--processes", str(processes)] if processes != 1 else []
    if run.options.get("shared_host"):
        words.append("--shared-host")
    return shlex.join(words)


def _warned(run_file: RunFile) -> list[tuple[str, str, list[str]]]:
    """(warning, what it means, the rows that carry it)."""
    found: dict[str, list[str]] = {}
    for line in run_file.measurements:
        figures = metrics(run_file, line)
        for word in figures.warnings if figures else line.warnings:
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


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Nested facts as `room.name` and text."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        yield name, ", ".join(map(str, value))
    else:
        yield name, str(value)

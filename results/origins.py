"""Which package a target, a workload, a model or an implementation of a run comes from, where it is not ours."""

from __future__ import annotations

from results.record import Measurement, table_in
from results.store import RunFile
from workloads.case import Case

__all__ = ["origin"]


def origin(run_file: RunFile, line: Measurement, what: str) -> str | None:
    """`implementation masked of moe-layer: from moemark-example 0.1.0`; of a target, model or workload alike; None: ours."""
    brought = table_in(run_file.run.environment, "targets", line.target, "extensions")
    case = Case.parse(line.case)
    names = {
        "implementation": f"{line.implementation} of {case.workload}",
        "target": line.target.partition(":")[0],
        "model": case.model,
        "workload": case.workload,
    }
    name = f"{what} {names[what]}"
    found = brought.get(name)
    return f"{name}: from {found}" if found else None

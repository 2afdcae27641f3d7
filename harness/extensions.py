"""What other packages bring to a run, and which: for the record."""

from __future__ import annotations

from collections.abc import Iterable

from harness.targets import origin_of_kind
from workloads.case import Case
from workloads.models import origin_of_model
from workloads.registry import implementations_of, origin_of_workload

__all__ = ["extensions"]


def extensions(kind: str, cases: Iterable[Case], runtime: str) -> dict[str, str]:
    """`implementation masked of moe-layer` → `moemark-example 0.1.0`: all that is not ours of these cases on this target."""
    cases = list(cases)
    workloads = dict.fromkeys(case.workload for case in cases)
    found: dict[str, str | None] = {f"target {kind}": origin_of_kind(kind)}
    found |= {f"model {case.model}": origin_of_model(case.model) for case in cases}
    found |= {f"workload {name}": origin_of_workload(name) for name in workloads}
    every = (entry for name in workloads for entry in implementations_of(name, runtime))
    found |= {f"implementation {entry.name} of {entry.workload}": entry.origin for entry in every}
    return {what: origin for what, origin in found.items() if origin}

"""What there is: models, suites, workloads, targets, implementations, each as rows of plain values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workloads.suite import Suite

__all__ = ["LISTINGS", "Listing"]


@dataclass(frozen=True)
class Listing:
    """How one kind is listed: its rows, and which of their keys the table shows (JSON has all)."""

    rows: Callable[[], list[dict[str, Any]]]
    columns: tuple[str, ...]

    def shown(self, rows: list[dict[str, Any]]) -> tuple[str, ...]:
        """The columns of these rows: where each comes from only if one is of another package."""
        return self.columns + (("package",) if any(row.get("package") for row in rows) else ())


def _models() -> list[dict[str, Any]]:
    from workloads.models import models, origin_of_model, parameters

    rows = []
    for entry in models().values():
        counts = parameters(entry)
        rows.append(
            {
                "model": entry.id,
                "hidden": entry.hidden_size,
                "experts": entry.num_experts,
                "top-k": entry.experts_per_token,
                "width": entry.moe_intermediate_size,
                "shared": entry.shared_intermediate_size or None,
                "layers": entry.num_layers,
                "total B": round(counts.total / 1e9, 2),
                "active B": round(counts.active / 1e9, 2),
                "router": entry.router or None,
                "activation": entry.activation,
                "source": entry.source,
                "package": origin_of_model(entry.id),
            }
        )
    return rows


def _suites() -> list[dict[str, Any]]:
    from workloads.suite import load_suite, shipped_suites

    suites = [load_suite(name) for name in shipped_suites()]
    return [
        {
            "suite": suite.name,
            "cases": len(suite.cases),
            "budget_s": suite.budget_s,
            "takes": suite.takes or _at_most(suite),
            "title": suite.title,
            "answers": suite.answers,
        }
        for suite in suites
    ]


def _at_most(suite: Suite) -> str:
    """What no measurement's budget allows to pass; preparing comes on top, and many stop before."""
    from harness.plan import Options

    usual = Options()
    each, steady = suite.budget_s or usual.budget_s, suite.sustain_s or usual.sustain_s
    seconds = sum(steady if case.scenario == "sustained" else each for case in suite.cases)
    return f"at most {max(1, round(seconds / 60))} min of sampling an implementation"


def _workloads() -> list[dict[str, Any]]:
    from workloads.registry import implementations_of, origin_of_workload, workload_names, workload_of

    rows = []
    for name in workload_names():
        workload = workload_of(name)
        about = (type(workload).__doc__ or "").strip().splitlines()
        runtimes = sorted({entry.runtime for entry in implementations_of(name)})
        first = about[0] if about else ""
        told = {"about": first, "package": origin_of_workload(name)}
        rows.append({"workload": name, "version": workload.version, "runtimes": runtimes, **told})
    return rows


def _targets() -> list[dict[str, Any]]:
    from harness.targets import OWN_TARGETS, origin_of_kind, target_kinds

    return [
        {"kind": kind, "own": kind in OWN_TARGETS, "class": where, "package": origin_of_kind(kind)}
        for kind, where in target_kinds().items()
    ]


def _implementations() -> list[dict[str, Any]]:
    from workloads.registry import implementations_of, workload_names

    return [
        {
            "workload": name,
            "runtime": entry.runtime,
            "implementation": entry.name,
            "division": entry.division,
            "package": entry.origin,
        }
        for name in workload_names()
        for entry in implementations_of(name)
    ]


def _published() -> list[dict[str, Any]]:
    from results.published import published_rows

    return published_rows()


LISTINGS = {
    "models": Listing(
        _models, ("model", "hidden", "experts", "top-k", "width", "shared", "layers", "total B", "active B")
    ),
    "suites": Listing(_suites, ("suite", "cases", "takes", "answers")),
    "workloads": Listing(_workloads, ("workload", "version", "runtimes", "about")),
    "targets": Listing(_targets, ("kind", "own", "class")),
    "implementations": Listing(_implementations, ("workload", "runtime", "implementation", "division")),
    "published": Listing(_published, ("model", "device", "phase", "dtype", "metric", "value", "unit", "source")),
}

"""Finding workloads and implementations: ours by file, a stranger's by entry point.

A workload is one module that calls `register_workload`; an implementation is one function under
`@implementation(workload, runtime, name, division)`. Other packages add theirs through the entry-point groups
`moemark.workloads` and `moemark.implementations` (each entry is a module, imported for its registrations).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Protocol

from workloads.case import Case, UserError
from workloads.origins import origin_of

__all__ = [
    "Built",
    "Exchange",
    "Implementation",
    "TargetFacts",
    "Workload",
    "implementation",
    "implementations_of",
    "of_ranks",
    "origin_of_workload",
    "register_workload",
    "workload_names",
    "workload_of",
]

OWN_WORKLOADS = {
    "router": "workloads.router",
    "permute": "workloads.permute",
    "experts": "workloads.routed_experts",
    "unpermute": "workloads.unpermute",
    "moe-layer": "workloads.moe_layer",
    "dense-ffn": "workloads.dense_ffn",
    "attention": "workloads.attention",
    "block": "workloads.block",
    "dispatch-combine": "workloads.dispatch_combine",
    "ep-moe-layer": "workloads.ep_moe_layer",
}
OWN_IMPLEMENTATIONS = (
    "workloads.implementations.all_gather",
    "workloads.implementations.compiled",
    "workloads.implementations.contrib",
    "workloads.implementations.dense",
    "workloads.implementations.dequantised",
    "workloads.implementations.gathered",
    "workloads.implementations.graph",
    "workloads.implementations.grouped",
    "workloads.implementations.int4pack",
    "workloads.implementations.nbits",
    "workloads.implementations.npu_fused",
    "workloads.implementations.packed",
)


@dataclass(frozen=True)
class TargetFacts:
    """What an implementation may ask about where it would run."""

    runtime: str
    """`torch`, `onnxruntime`, or another package's runtime."""
    device_type: str
    """`cpu`, `cuda`, `npu`, ...; for ONNX Runtime the provider in lower case (`cpu`, `cuda`, `cann`, ...)."""
    synchronous: bool = True
    """True where a call is complete when it returns."""
    features: frozenset[str] = frozenset()
    """What the runtime's build offers, such as `grouped_mm`; `host`: a provider of any name that works on the host's CPU."""
    ranks: int = 1
    """Processes that take part in every call of a collective workload, this one among them."""


class Workload(Protocol):
    """One kind of work. `workloads.moe_layer` is the example to read.

    Of a collective one, which all ranks of a group do together (`workloads.dispatch_combine`), `problem` takes the rank too.
    """

    name: str
    version: int
    """Bumped whenever the work of any of its cases changes; part of every case digest."""

    def unsupported(self, case: Case) -> str | None:
        """The sentence that says why this case's work is not defined or not done yet; None if it is."""

    def problem(self, case: Case) -> Any:
        """The pinned problem of a case (`workloads.problem.Problem`): weights, ring of inputs, cost, reference."""

    # Optional: `counts(case) -> workloads.problem.Counts`, cost and skew without the inputs, so that records are verified fast.


def _plain_only(case: Case, facts: TargetFacts) -> str | None:
    return "it multiplies unquantised weights only" if case.dtype.startswith("w-") else None


@dataclass(frozen=True)
class Implementation:
    """How a workload runs on one runtime."""

    workload: str
    runtime: str
    name: str
    division: str
    build: Callable[..., Any]
    """torch: `build(problem, on) -> Built`; onnxruntime: `build(model, sizes, graph)`, adding nodes to the graph."""
    unsuited: Callable[[Case, TargetFacts], str | None] = field(default=lambda case, facts: None)
    """Why it is left out by default for this case on this target (asked for by name it runs all the same); None if suited."""
    cannot: Callable[[Case, TargetFacts], str | None] = _plain_only
    """Why it cannot do this case on this target at all, asked for or not; None if it can."""
    more_memory: float = 0.0
    """Copies of the weights that it makes for itself of each of the target's."""
    module: str = ""
    """Where it is written."""

    @property
    def origin(self) -> str | None:
        """The package that brings it, `package version`; None: it is ours."""
        return origin_of(self.module)


def of_ranks(case: Case, facts: TargetFacts) -> str | None:
    """`cannot` of the implementations of collective workloads: there must be as many ranks as the case's ep says."""
    if facts.ranks != case.ep:
        return f"ep{case.ep} is {case.ep} real ranks and there are {facts.ranks}: run it with --nproc {case.ep}"
    return None


@dataclass(frozen=True)
class Exchange:
    """A collective that a call makes. `size_bytes` is nccl-tests' size, the mean over the ranks where they differ: of an
    all-to-all all that a rank sends, of an all-gather what it ends with, of a reduce-scatter what it begins with."""

    kind: str
    """`all-to-all`, `all-gather` or `reduce-scatter`."""
    size_bytes: int


@dataclass(frozen=True)
class Built:
    """An implementation ready for a target: what to call and what it did to prepare."""

    call: Callable[[int], Mapping[str, Any]]
    casts: tuple[str, ...] = ()
    exchanges: tuple[Exchange, ...] = ()
    """Of a collective workload."""
    compile_ns: int | None = None
    """What a compiler took, the call that set it off included."""


_WORKLOADS: dict[str, Workload] = {}
_IMPLEMENTATIONS: dict[tuple[str, str, str], Implementation] = {}


def register_workload(workload: Workload) -> Workload:
    """Makes a workload known by its name."""
    _WORKLOADS[workload.name] = workload
    return workload


def implementation(
    workload: str,
    runtime: str,
    name: str,
    division: str = "portable",
    unsuited: Callable[[Case, TargetFacts], str | None] | None = None,
    cannot: Callable[[Case, TargetFacts], str | None] = _plain_only,
    more_memory: float = 0.0,
    module: str | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers the decorated builder, which is its `module`'s unless another is named, as an implementation."""

    def register(build: Callable[..., Any]) -> Callable[..., Any]:
        suited = unsuited or (lambda case, facts: None)
        told = (suited, cannot, more_memory, module or build.__module__)
        entry = Implementation(workload, runtime, name, division, build, *told)
        _IMPLEMENTATIONS[workload, runtime, name] = entry
        return build

    return register


@cache
def _load_all() -> None:
    for module in (*OWN_WORKLOADS.values(), *OWN_IMPLEMENTATIONS):
        importlib.import_module(module)
    for group in ("moemark.workloads", "moemark.implementations"):
        for entry in entry_points(group=group):
            try:
                entry.load()
            except Exception as error:  # whatever another package's module does
                text = f"entry point {entry.name!r} of {group} cannot be loaded ({error})"
                raise UserError(f"{text}: mend or uninstall its package") from error


def workload_names() -> list[str]:
    """Names of all workloads, ours first, without importing them."""
    others = [entry.name for entry in entry_points(group="moemark.workloads")]
    return [*OWN_WORKLOADS, *sorted(others)]


def workload_of(name: str) -> Workload:
    """The workload of that name. Raises KeyError if there is none."""
    _load_all()
    return _WORKLOADS[name]


def origin_of_workload(name: str) -> str | None:
    """The package that brings a workload, `package version`; None: it is ours."""
    return origin_of(type(workload_of(name)).__module__)


def implementations_of(workload: str, runtime: str | None = None) -> list[Implementation]:
    """The implementations of a workload (on one runtime), portable ones first."""
    _load_all()
    order = {"portable": 0, "closed": 1, "open": 2}
    found = [i for i in _IMPLEMENTATIONS.values() if i.workload == workload and runtime in (None, i.runtime)]
    return sorted(found, key=lambda i: (i.runtime, order[i.division], i.name))

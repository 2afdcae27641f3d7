"""Registers one way of running the experts for every workload that runs experts: layers, blocks, and rows already routed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from workloads.block import build_onnx_block, build_torch_block
from workloads.case import Case
from workloads.experts import OnnxExperts
from workloads.models import Model
from workloads.moe_layer import build_onnx_layer, build_torch_layer
from workloads.problem import Problem
from workloads.registry import Built, TargetFacts, implementation
from workloads.routed_experts import build_onnx_experts, build_torch_experts
from workloads.rules import Select

__all__ = ["FORMATS", "onnx_way", "torch_way"]

TORCH: dict[str, Callable[..., Built]] = {
    "moe-layer": build_torch_layer,
    "experts": build_torch_experts,
    "block": build_torch_block,
}
ONNX: dict[str, Callable[..., None]] = {
    "moe-layer": build_onnx_layer,
    "experts": build_onnx_experts,
    "block": build_onnx_block,
}
FORMATS = ("moe-layer", "experts")
"""Workloads whose experts' weights can have a format of their own."""
Why = Callable[[Case, TargetFacts], str | None]
ROUTED = ("moe-layer", "block")
"""Workloads whose router is timed."""
Build = Callable[[Any], Built]
"""Builds a workload on what a target offers: its inputs and weights."""
Around = Callable[[Build, Any, Problem], Built]
Selecting = Callable[[Model], Select | None]


def torch_way(
    name: str,
    experts: Any,
    around: Around = lambda build, on, problem: build(on),
    workloads: Sequence[str] = tuple(TORCH),
    selecting: Selecting | None = None,
    **about: Any,
) -> None:
    """`experts(x, ids, shares, weights, act) -> [R, W]` as the closed implementation `name` of these workloads.

    `around(build, on, problem)` may build on something else than `on`, or change what was built; `selecting(model)` gives
    what selects in place of the model's own rule, None where nothing does.
    """
    for workload in workloads:
        chooser = selecting if workload in ROUTED else None
        build = partial(_build_torch, TORCH[workload], experts, around, chooser)
        told = {"module": experts.__module__} | _told(workload, about)
        implementation(workload, "torch", name, division="closed", **told)(build)


def _build_torch(
    plain: Callable[..., Built], experts: Any, around: Around, selecting: Selecting | None, problem: Problem, on: Any
) -> Built:
    routed = {"select": selecting(problem.model)} if selecting else {}
    return around(lambda resident: plain(problem, resident, experts, **routed), on, problem)


def onnx_way(name: str, experts: OnnxExperts, workloads: Sequence[str] = tuple(ONNX), **about: Any) -> None:
    """The same as nodes: `experts(graph, x, ids, shares, sizes, model) -> [R, W]`."""
    for workload in workloads:
        build = partial(ONNX[workload], experts=experts)
        told = {"module": experts.__module__} | _told(workload, about)
        implementation(workload, "onnxruntime", name, division="closed", **told)(build)


def _told(workload: str, about: dict[str, Any]) -> dict[str, Any]:
    """What a registration says, and that the block of a dense model has no experts to run in one way or another."""
    if workload != "block":
        return about
    unsuited: Why | None = about.get("unsuited")

    def with_dense(case: Case, facts: TargetFacts) -> str | None:
        if case.routing == "none":
            return "a dense model has no experts"
        return unsuited(case, facts) if unsuited else None

    return about | {"unsuited": with_dense}

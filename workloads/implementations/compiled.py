"""`compiled`: `grouped` with static shapes through torch.compile: router, sort, activation and combine fused around grouped_mm.

Each case is compiled for its own shapes before anything is timed; how long that took is recorded apart (`compile_ns`).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from workloads.case import Case
from workloads.implementations.grouped import lacks_grouped_mm, torch_static
from workloads.implementations.registering import torch_way
from workloads.problem import Problem
from workloads.registry import Built, TargetFacts

if TYPE_CHECKING:
    from torch import Tensor

__all__: list[str] = []


def _unsuited(case: Case, facts: TargetFacts) -> str | None:
    if facts.device_type == "cpu":
        return "on CPUs compiling a case takes longer than measuring it: ask for it by name"
    return None


def _cannot(case: Case, facts: TargetFacts) -> str | None:
    if case.dtype != "bf16":
        return "torch compiles grouped_mm in bf16 only"
    if "inductor" not in facts.features:
        return f"torch.compile has no code generator for {facts.device_type}"
    if facts.device_type == "cpu" and shutil.which("g++") is None and shutil.which("clang++") is None:
        return "torch.compile needs a C++ compiler here: install g++"
    return lacks_grouped_mm(case, facts)


class _OneSlot:
    """What an implementation is built on to be traced once: a slot's inputs and weights, put in the same two places."""

    def __init__(self, on: Any) -> None:
        self._on = on
        self._inputs: dict[str, Tensor] = {}
        self._weights: dict[str, Tensor] = {}
        self.put(0)

    def put(self, slot: int) -> None:
        self._inputs.update(self._on.inputs(slot))
        self._weights.update(self._on.weights(slot))

    def inputs(self, slot: int) -> dict[str, Tensor]:
        return self._inputs

    def weights(self, slot: int) -> dict[str, Tensor]:
        return self._weights


def _compiled(make: Callable[[Any], Built], on: Any, problem: Problem) -> Built:
    """The workload as one compiled function of a slot's inputs and weights."""
    import torch

    place = _OneSlot(on)
    plain = make(place)
    fused = torch.compile(plain.call, dynamic=False)

    def call(slot: int) -> Any:
        place.put(slot)
        return fused(0)

    begin = time.perf_counter_ns()
    call(0)
    return replace(plain, call=call, compile_ns=time.perf_counter_ns() - begin)


torch_way("compiled", torch_static, around=_compiled, unsuited=_unsuited, cannot=_cannot)

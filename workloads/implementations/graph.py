"""`graph`: `grouped` with static shapes, captured once a slot as a CUDA or NPU graph and replayed: for decode sizes, where
launching kernels takes longer than running them. Never run by this project: it needs such a device.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from workloads.case import Case
from workloads.implementations.grouped import lacks_grouped_mm, torch_static
from workloads.implementations.registering import torch_way
from workloads.problem import Problem
from workloads.registry import Built, TargetFacts

__all__: list[str] = []

CLASSES = {"cuda": "CUDAGraph", "npu": "NPUGraph"}
FEW = 512
"""Most own tokens: beyond, the kernels outlast their launches."""
WARM_UPS = 3
"""Calls before capturing, for what libraries make on first use."""


def _cannot(case: Case, facts: TargetFacts) -> str | None:
    if facts.device_type not in CLASSES:
        return f"{facts.device_type} has no graphs to capture: cuda and npu have"
    if case.dtype.startswith("w-"):
        return "it multiplies unquantised weights only"
    return lacks_grouped_mm(case, facts)


def _unsuited(case: Case, facts: TargetFacts) -> str | None:
    return f"graphs save launches: for at most {FEW} tokens" if case.tokens > FEW else None


def _captured(make: Callable[[Any], Built], on: Any, problem: Problem) -> Built:
    """The workload as one graph a slot. Replays read the slot's inputs where they lie: what is written there later is what they
    compute on."""
    import torch

    plain, slots = make(on), len(problem.ring)
    module = getattr(torch, on.device.type)
    begin = time.perf_counter_ns()
    side = module.Stream()
    side.wait_stream(module.current_stream())
    with module.stream(side):
        for slot in range(min(WARM_UPS, slots)):
            plain.call(slot)
    module.current_stream().wait_stream(side)
    graphs, outputs = [], []
    for slot in range(slots):
        graph = getattr(module, CLASSES[on.device.type])()
        with module.graph(graph):
            outputs.append(plain.call(slot))
        graphs.append(graph)
    module.synchronize()

    def call(slot: int) -> Any:
        graphs[slot].replay()
        return outputs[slot]

    return replace(plain, call=call, compile_ns=time.perf_counter_ns() - begin)


torch_way("graph", torch_static, around=_captured, unsuited=_unsuited, cannot=_cannot)

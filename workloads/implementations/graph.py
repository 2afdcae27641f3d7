"""`graph`: `grouped` with static shapes, captured once a slot as a CUDA graph and replayed: for decode sizes, where launching
kernels takes longer than running them. Never run by this project: it needs such a device. (Ascend's is `npu-graph`.)

Nothing of a capture depends on the routing: counts are computed on the device, and a kernel that asks the host for one cannot
be captured, which makes the case `unsupported`. A replay reads inputs and weights where they lie, so each slot has a graph of
its own; the final check moves the inputs on in place and compares every slot again. All slots share one pool of memory, since
replays follow each other on one stream: the outputs of a slot hold until another slot is replayed.
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

__all__ = ["captured", "too_many"]

CLASSES = {"cuda": "CUDAGraph", "npu": "NPUGraph"}
FEW = 512
"""Most own tokens: beyond, the kernels outlast their launches."""
WARM_UPS = 3
"""Calls before capturing, for what libraries make on first use."""


def too_many(case: Case, facts: TargetFacts) -> str | None:
    """Why graphs are left out for many tokens; None for few."""
    return f"graphs save launches: for at most {FEW} tokens" if case.tokens > FEW else None


def _cannot(case: Case, facts: TargetFacts) -> str | None:
    if facts.device_type != "cuda":
        return f"{facts.device_type} has no CUDA graphs"
    if case.dtype.startswith("w-"):
        return "it multiplies unquantised weights only"
    return lacks_grouped_mm(case, facts)


def captured(make: Callable[[Any], Built], on: Any, problem: Problem) -> Built:
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
    pool, graphs, outputs = module.graph_pool_handle(), [], []
    for slot in range(slots):
        graph = getattr(module, CLASSES[on.device.type])()
        with module.graph(graph, pool=pool):
            outputs.append(plain.call(slot))
        graphs.append(graph)
    module.synchronize()

    def call(slot: int) -> Any:
        graphs[slot].replay()
        return outputs[slot]

    return replace(plain, call=call, compile_ns=time.perf_counter_ns() - begin)


torch_way("graph", torch_static, around=captured, unsuited=too_many, cannot=_cannot)

"""`int4pack`: torch's own int4 kernel for CPUs, weights packed once, scales applied to each group inside the product."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from workloads.case import Case
from workloads.dense_ffn import build_torch as build_dense
from workloads.experts import torch_sorted
from workloads.formats import Precision, quantised
from workloads.implementations.registering import FORMATS, torch_way
from workloads.problem import Problem
from workloads.registry import Built, TargetFacts, implementation

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["build_ffn"]


def _cannot(case: Case, facts: TargetFacts) -> str | None:
    precision = quantised(case.dtype)
    if precision is None or precision.weights is None or precision.weights.code != "int4":
        return "torch's kernel takes int4gN weights and unrounded activations"
    if "int4pack" not in facts.features:
        return f"this torch has no int4 kernel for {facts.device_type}"
    return None


def _unsuited(case: Case, facts: TargetFacts) -> str | None:
    if not case.dtype.endswith("_a-bf16"):
        return "torch's int4 kernel for CPUs is a plain loop but for bf16 activations: ask for it by name"
    return None


@implementation("dense-ffn", "torch", "int4pack", division="closed", unsuited=_unsuited, cannot=_cannot)
def build_ffn(problem: Problem, on: Any) -> Built:
    """The int4 product for each projection."""
    from workloads.backends.torch_formats import with_stacks

    return build_dense(problem, with_stacks(on, _packed))


def _packed(codes: Tensor, scales: Tensor, precision: Precision) -> Any:
    """The kernel reads (code - 8) * scale + zero with scales in the activations' dtype; ours have zero 0."""
    import torch

    assert precision.weights is not None
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision.carrier]
    group = precision.weights.block[1]
    each = torch.stack([codes & 15, codes >> 4], dim=-1).flatten(1).int()
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(each, 1)
    by_group = scales.t().to(dtype)
    scaled = torch.stack([by_group, torch.zeros_like(by_group)], dim=-1).contiguous()

    def product(x: Tensor) -> Tensor:
        return torch.ops.aten._weight_int4pack_mm_for_cpu(x.contiguous(), packed, group, scaled)

    return product


def _around(build: Callable[[Any], Built], on: Any, problem: Problem) -> Built:
    from workloads.backends.torch_formats import with_stacks

    return build(with_stacks(on, _packed))


torch_way("int4pack", torch_sorted, around=_around, workloads=FORMATS, unsuited=_unsuited, cannot=_cannot)

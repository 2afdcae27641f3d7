"""`dequantised`: quantised weights are decoded at every call and then multiplied, on any torch device.

What a device without a kernel for a format would do. It reads the stored bytes, but multiplies in the carrier and writes every
decoded matrix to memory first: it is asked for by name, and never stands for what a format costs.
"""

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
    return None if quantised(case.dtype) else "there is nothing to decode in unquantised weights"


def _unsuited(case: Case, facts: TargetFacts) -> str | None:
    return "decodes the weights at every call and then multiplies: ask for it by name"


@implementation("dense-ffn", "torch", "dequantised", division="closed", unsuited=_unsuited, cannot=_cannot)
def build_ffn(problem: Problem, on: Any) -> Built:
    """One decoding and one matmul a projection."""
    from workloads.backends.torch_formats import with_stacks

    return build_dense(problem, with_stacks(on, _decoded))


def _decoded(codes: Tensor, scales: Tensor, precision: Precision) -> Any:
    import torch.nn.functional as functional

    from workloads.backends.torch_formats import decode, rounded

    assert precision.weights is not None
    form, activations = precision.weights, precision.activations

    def product(x: Tensor) -> Tensor:
        return functional.linear(rounded(x, activations), decode(codes, scales, form, x.dtype))

    return product


def _around(build: Callable[[Any], Built], on: Any, problem: Problem) -> Built:
    from workloads.backends.torch_formats import with_stacks

    return build(with_stacks(on, _decoded))


torch_way("dequantised", torch_sorted, around=_around, workloads=FORMATS, unsuited=_unsuited, cannot=_cannot)

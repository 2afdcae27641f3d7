"""`nbits`: com.microsoft.MatMulNBits for every projection of quantised FFNs; everything else as in the portable graph.

Accuracy level 1: products of fp32 activations are computed in fp32. (At level 4 the operator rounds activations to int8 inside,
which is another activation format.) Scales come in the activations' dtype.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workloads.case import Case
from workloads.dense_ffn import build_onnx as build_dense
from workloads.experts import onnx_sorted
from workloads.formats import quantised
from workloads.implementations.registering import FORMATS, onnx_way
from workloads.models import Model
from workloads.registry import TargetFacts, implementation
from workloads.sizes import Sizes

if TYPE_CHECKING:
    from workloads.backends.onnx_ops import Graph

__all__ = ["build_ffn"]


def _cannot(case: Case, facts: TargetFacts) -> str | None:
    precision = quantised(case.dtype)
    if precision is None or precision.weights is None or not precision.weights.code.startswith("int"):
        return "MatMulNBits takes int4gN and int8gN weights"
    return None


@implementation("dense-ffn", "onnxruntime", "nbits", division="closed", cannot=_cannot)
def build_ffn(about: Model, sizes: Sizes, graph: Graph) -> None:
    """The plain FFN likewise."""
    build_dense(about, sizes, graph)


# The graph multiplies in the weight format that it was made with, so these are the sorted experts.
onnx_way("nbits", onnx_sorted, workloads=FORMATS, cannot=_cannot)

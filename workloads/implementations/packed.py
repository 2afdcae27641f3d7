"""`packed`: every projection of an FFN laid out anew, before the clock starts, in the blocks that the CPU's library works in.

Handed plain weights, the library (oneDNN) lays them out inside every call, or multiplies with them as they are and more slowly.
For a few rows the plain product can still be the faster one; up to how many is measured while preparing, on the weights alone.
Where nothing stands between an expert's second product and its weight, the weights multiply the hidden values: one pass over
the narrower tensor.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workloads.case import Case
from workloads.dense_ffn import build_torch as build_dense
from workloads.experts import linear, sort_by_expert
from workloads.implementations.registering import torch_way
from workloads.problem import Problem
from workloads.registry import Built, TargetFacts, implementation
from workloads.weights import QUANTISED_STACKS

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["build_dense_ffn", "packed_weights", "torch_packed"]

FEW = (1, 2, 3, 4, 6, 8)
"""Row counts tried, in order, until the packed product is the faster one."""
CLEARLY = 0.97
"""The plain product is taken where it needs less than this share of the packed one's time."""
TRIED_MATRICES, TRIED_ROUNDS = 8, 5


def _cannot(case: Case, facts: TargetFacts) -> str | None:
    if facts.device_type != "cpu":
        return f"packed weights are oneDNN's, for CPUs: {facts.device_type} has layouts of its own"
    if f"packed_{case.dtype}" not in facts.features:
        return f"this torch has no packed {case.dtype} product for this CPU"
    return None


@implementation("dense-ffn", "torch", "packed", division="closed", cannot=_cannot, more_memory=1.0)
def build_dense_ffn(problem: Problem, on: Any) -> Built:
    """Two packed products and the activation."""
    return build_dense(problem, _Packed(on))


def torch_packed(x: Tensor, ids: Tensor, shares: Tensor, weights: dict[str, Any], act: Any) -> Tensor:
    """[R, W] from rows [R, W], local ids [R, k] (-1: none) and weights [R, k]; the counts come to the host."""
    order, counts, skipped = sort_by_expert(ids, len(weights["experts_in"]))
    chosen = order[skipped:]
    lines = chosen // ids.shape[1]
    rows = x.new_zeros(x.shape)
    used = [(expert, count) for expert, count in enumerate(counts) if count]
    if not used:
        return rows
    factors = shares.reshape(-1)[chosen].to(x.dtype).unsqueeze(1)
    hidden = _products(x.index_select(0, lines), used, weights["experts_in"], weights.get("experts_in_bias"))
    active = act(*act.halves(hidden))
    bias = weights.get("experts_out_bias")
    if bias is None and "expert_norm" not in weights:
        return rows.index_add_(0, lines, _products(active.mul_(factors), used, weights["experts_out"]))
    done = act.finish(_products(active, used, weights["experts_out"], bias), weights)
    return rows.index_add_(0, lines, done.mul_(factors))


def _products(x: Tensor, used: list[tuple[int, int]], stack: list[Matrix], bias: Tensor | None = None) -> Tensor:
    """Rows [A, in], sorted by expert, each times its expert's matrix: [A, out]. `used`: (expert, rows)."""
    import torch

    parts = zip(used, x.split([count for _, count in used]), strict=True)
    return torch.cat([linear(part, stack[e], None if bias is None else bias[e]) for (e, _), part in parts])


@dataclass(frozen=True, slots=True)
class Matrix:
    """One matrix (out, in) in the library's blocks, and as it came where that is faster for a few rows."""

    packed: Tensor
    plain: Tensor | None
    few: int

    def __call__(self, x: Tensor) -> Tensor:
        """x [n, in] times the matrix transposed: [n, out]."""
        import torch

        if self.plain is not None and x.shape[0] <= self.few:
            return torch.nn.functional.linear(x, self.plain)
        return _packed_product(x, self.packed)


def _packed_product(x: Tensor, packed: Tensor) -> Tensor:
    import torch

    product: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, packed, None, "none", [], "")
    return product


class _Packed:
    """Weights and inputs of a target with every projection of an FFN packed."""

    def __init__(self, on: Any) -> None:
        self.inputs: Callable[[int], dict[str, Tensor]] = on.inputs
        self.device = on.device
        few: dict[str, int] = {}
        self._copies = [packed_weights(on.weights(copy), few) for copy in range(on.copies)]

    def weights(self, slot: int) -> dict[str, Any]:
        """The weights that a slot uses, by name: tensors, and lists of matrices."""
        return self._copies[slot % len(self._copies)]


def packed_weights(weights: dict[str, Tensor], few: dict[str, int]) -> dict[str, Any]:
    """The same weights with every projection packed. A plain stack that is not needed any more is dropped from `weights`.

    `few`, filled on the way: stack → up to how many rows the plain product is the faster one.
    """
    import torch

    made: dict[str, Any] = dict(weights)
    for name in [name for name in weights if name in QUANTISED_STACKS]:
        plain = weights[name].unbind(0)
        packed = [torch.ops.mkldnn._reorder_linear_weight(matrix) for matrix in plain]
        if name not in few:
            few[name] = _few_rows(list(plain[:TRIED_MATRICES]), packed[:TRIED_MATRICES])
        kept = plain if few[name] else [None] * len(packed)
        made[name] = [Matrix(*pair, few[name]) for pair in zip(packed, kept, strict=True)]
        if not few[name]:
            del weights[name]
    return made


def _few_rows(plain: list[Tensor], packed: list[Tensor]) -> int:
    """Up to how many rows the plain product is clearly the faster one on this machine."""
    from torch.nn.functional import linear

    few = 0
    for rows in FEW:
        x = plain[0].new_ones(rows, plain[0].shape[1])
        times = [(_ns(linear, x, plain), _ns(_packed_product, x, packed)) for _ in range(TRIED_ROUNDS)]
        if min(one for one, _ in times) >= CLEARLY * min(other for _, other in times):
            break
        few = rows
    return few


def _ns(product: Callable[..., Tensor], x: Tensor, matrices: list[Tensor]) -> int:
    begin = time.perf_counter_ns()
    for matrix in matrices:
        product(x, matrix)
    return time.perf_counter_ns() - begin


torch_way(
    "packed",
    torch_packed,
    around=lambda build, on, problem: build(_Packed(on)),
    cannot=_cannot,
    more_memory=1.0,
)

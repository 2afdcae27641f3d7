"""Workload `moe-layer`: router, permute, experts (and shared expert), unpermute: one rank's compute of an MoE layer.

At ep1 the whole layer: `tokens` [T, H] in; `y` [T, H], `ids` and `weights` [T, k] out, ids and weights from the timed
router. At ep > 1 one rank's share: T own tokens enter (router and shared expert see these), its E / ep experts serve the
rows of the whole group's plan: `rows` [R, H], `row_ids` [R, k] (padded with -1), `row_weights` [R, k] in; `partial` [R, H],
`ids`, `weights` [T, k] and `shared` [T, H] out. Compute only, without dispatch and combine.

y = sum_i w_i E_i(x) + S(x) (seeds/README.md, routing and shared branch). Useful FLOPs: 6 * H * I * assignments
+ 6 * H * I_shared * T + 2 * H * E * T.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.case import Case
from workloads.experts import (
    expert_weights,
    ffn_reference,
    ffn_torch,
    ffn_weights,
    onnx_ffn,
    onnx_sorted,
    reference_parts,
    summed,
    torch_sorted,
    unsupported_experts,
)
from workloads.inputs import RoutedInputs, routed_inputs, unsupported_routing
from workloads.models import Model, check_share, model
from workloads.problem import DTYPE_BYTES, Contribution, Cost, Expected, Lines, Problem, input_digest
from workloads.registry import Built, implementation, register_workload
from workloads.router import (
    CASTS,
    onnx_router,
    router_bytes,
    router_weights,
    torch_router,
)
from workloads.sizes import Sizes
from workloads.weights import Weight

if TYPE_CHECKING:
    from torch import Tensor

    from workloads.backends.onnx_ops import Graph

__all__ = ["MoeLayerWorkload", "build_torch_layer"]


class MoeLayerWorkload:
    """The main workload."""

    name = "moe-layer"
    version = 1

    def unsupported(self, case: Case) -> str | None:
        """The sentence that says why the case is not defined or not done; None if it is."""
        if case.variants:
            return f"the variant {case.variants[0]!r} of {self.name} is not done yet"
        if case.dtype not in DTYPE_BYTES or case.dtype == "tf32":
            return f"the dtype {case.dtype!r} of {self.name} is not done yet"
        about = model(case.model)
        return unsupported_routing(case, about) or unsupported_experts(about)

    def problem(self, case: Case) -> Problem:
        """The pinned problem of a case."""
        about = model(case.model)
        check_share(about, case.ep)
        made = routed_inputs(case, about, with_rows=True)
        sizes = _sizes(case, about, made)
        weights = router_weights(made.gate) | expert_weights(about, sizes.local_experts, case.seed)
        if sizes.shared_inner:
            weights |= ffn_weights("shared", about, sizes.shared_inner, 1, case.seed)
        ring = [slot.inputs for slot in made.slots]
        reference = _Reference(about, made, weights, case.ep > 1)
        return Problem(
            case=case,
            model=about,
            sizes=sizes,
            weights=weights,
            ring=ring,
            outputs=_outputs(case, sizes),
            cost=_cost(case, about, sizes, made.distinct_experts),
            input_digest=input_digest(weights, ring, made.plan),
            references=reference.references,
            sources=reference.sources,
            skew=made.skew,
        )


register_workload(MoeLayerWorkload())


def _sizes(case: Case, about: Model, made: RoutedInputs) -> Sizes:
    return Sizes(
        tokens=case.tokens,
        hidden=about.hidden_size,
        num_experts=about.num_experts,
        experts_per_token=about.experts_per_token,
        rows=made.rows if case.ep > 1 else case.tokens,
        assignments=made.assignments,
        local_experts=about.num_experts // case.ep,
        inner=about.moe_intermediate_size,
        shared_inner=about.shared_intermediate_size or 0,
    )


def _outputs(case: Case, sizes: Sizes) -> dict[str, tuple[int, ...]]:
    routed = (sizes.tokens, sizes.experts_per_token)
    outputs: dict[str, tuple[int, ...]] = {"ids": routed, "weights": routed}
    if case.ep == 1:
        return outputs | {"y": (sizes.tokens, sizes.hidden)}
    outputs["partial"] = (sizes.rows, sizes.hidden)
    return outputs | ({"shared": (sizes.tokens, sizes.hidden)} if sizes.shared_inner else {})


# -- cost ----------------------------------------------------------------------------------------------------------


def _cost(case: Case, about: Model, sizes: Sizes, distinct: int) -> Cost:
    """Bytes: touched experts, shared expert, gate and biases once; own tokens in, rows in (ep > 1), outputs out."""
    size = DTYPE_BYTES[case.dtype]
    biases = 2 * sizes.inner + sizes.hidden if about.expert_bias else 0
    weights = distinct * (3 * sizes.hidden * sizes.inner + biases) + 3 * sizes.hidden * sizes.shared_inner
    gate, routed = router_bytes(case, about)
    moved = sizes.tokens * sizes.hidden * size  # y, or the shared expert's output at ep > 1
    if case.ep > 1:
        moved = moved if sizes.shared_inner else 0
        moved += 2 * sizes.rows * sizes.hidden * size + 8 * sizes.rows * sizes.experts_per_token
    weight_bytes = weights * size + gate
    return Cost(sizes.flops, weight_bytes + routed + moved, weight_bytes, sizes.tokens, sizes.rows, sizes.assignments)


# -- float64 reference ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Piece:
    """The lines of one output of one slot that a request asks for."""

    output: str
    lines: np.ndarray
    x: np.ndarray
    ids: np.ndarray
    shares: np.ndarray


@dataclass(frozen=True)
class _Reference:
    model: Model
    made: RoutedInputs
    weights: dict[str, Weight]
    share: bool

    def references(self, requests: Sequence[tuple[int, Lines]]) -> list[Expected]:
        pieces = [self._pieces(slot, lines) for slot, lines in requests]
        parts = iter(self._parts([piece for some in pieces for piece in some]))
        return [
            self._expected(slot, {piece: next(parts) for piece in some})
            for (slot, _), some in zip(requests, pieces, strict=True)
        ]

    def _expected(self, slot: int, found: dict[_Piece, Contribution]) -> Expected:
        return Expected(
            ids=self.made.slots[slot].ids,
            weights=self.made.slots[slot].weights,
            lines={piece.output: piece.lines for piece in found},
            values={piece.output: summed(parts, len(piece.lines)) for piece, parts in found.items()},
            routed={piece.output: self._routed(slot, piece.output) for piece in found},
            contributions={piece.output: parts for piece, parts in found.items()},
        )

    def _routed(self, slot: int, output: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(line, source, weight) of every contribution to an output; the shared expert is source -1."""
        tokens = np.arange(len(self._inputs(slot)["tokens"]))
        always = (tokens, np.full(len(tokens), -1), np.ones(len(tokens)))
        if output == "shared":
            return always
        ids, weights = self._assigned(slot)
        line, column = np.nonzero(ids >= 0)
        assigned = (line, ids[line, column], weights[line, column].astype(np.float64))
        if self.share or "shared_in" not in self.weights:
            return assigned
        return tuple(np.concatenate(pair) for pair in zip(assigned, always, strict=True))  # type: ignore[return-value]

    def _assigned(self, slot: int) -> tuple[np.ndarray, np.ndarray]:
        """Local ids and weights of the lines that go through experts."""
        made = self.made.slots[slot]
        return (made.inputs["row_ids"], made.inputs["row_weights"]) if self.share else (made.ids, made.weights)

    def sources(self, slot: int, output: str) -> tuple[np.ndarray, np.ndarray]:
        """(line, local expert) of every assignment of a slot."""
        if output == "shared":
            return np.empty(0, np.int64), np.empty(0, np.int64)
        ids, _ = self._assigned(slot)
        line, column = np.nonzero(ids >= 0)
        return line, ids[line, column]

    def _inputs(self, slot: int) -> dict[str, np.ndarray]:
        return self.made.slots[slot].inputs

    def _pieces(self, slot: int, lines: Lines) -> list[_Piece]:
        inputs = self._inputs(slot)
        whole = [("partial" if self.share else "y", inputs["rows" if self.share else "tokens"], *self._assigned(slot))]
        if self.share and "shared_in" in self.weights:
            nothing = np.empty((len(inputs["tokens"]), 0), dtype=np.int64)
            whole.append(("shared", inputs["tokens"], nothing, nothing.astype(np.float64)))
        pieces = []
        for output, x, local, weight in whole:
            chosen = np.arange(len(x)) if lines is None else lines.get(output, np.empty(0, np.int64))
            pieces.append(_Piece(output, chosen, x[chosen].astype(np.float64), local[chosen], weight[chosen]))
        return pieces

    def _parts(self, pieces: list[_Piece]) -> list[Contribution]:
        """Contributions of every piece; the pieces are joined so that each expert is computed once."""
        k = self.model.experts_per_token
        starts = np.cumsum([0, *(len(piece.x) for piece in pieces)])
        x = np.concatenate([piece.x for piece in pieces])
        ids = np.concatenate([_padded(piece.ids, k, -1) for piece in pieces])
        shares = np.concatenate([_padded(piece.shares, k, 0.0) for piece in pieces])
        joined = reference_parts(self.weights, self.model, x, ids, shares)
        if "shared_in" in self.weights:
            seen = np.concatenate([np.full(len(p.x), p.output != "partial") for p in pieces]).nonzero()[0]
            shared = ffn_reference(self.weights, "shared", self.model, 0, x[seen])
            joined = _joined(joined, Contribution(seen, np.full(len(seen), -1), np.ones(len(seen)), shared))
        return [_cut(joined, first, last) for first, last in pairwise(starts)]


def _padded(array: np.ndarray, width: int, fill: float) -> np.ndarray:
    return np.pad(array, ((0, 0), (0, width - array.shape[1])), constant_values=fill)


def _joined(a: Contribution, b: Contribution) -> Contribution:
    pairs = ((a.row, b.row), (a.source, b.source), (a.weight, b.weight), (a.parts, b.parts))
    return Contribution(*(np.concatenate(pair) for pair in pairs))


def _cut(whole: Contribution, first: int, last: int) -> Contribution:
    """The contributions to lines first..last, counted from there."""
    here = (whole.row >= first) & (whole.row < last)
    return Contribution(whole.row[here] - first, whole.source[here], whole.weight[here], whole.parts[here])


# -- torch ---------------------------------------------------------------------------------------------------------


def build_torch_layer(problem: Problem, on: Any, experts: Any, ffn: Any = ffn_torch) -> Built:
    """The layer around one way of running the experts: `experts(x, ids, shares, weights, act) -> [R, H]`.

    `ffn(x, into, out, biases, act)` runs the shared expert.
    """
    from workloads.activations import activation_of
    from workloads.backends.torch_ops import TorchOps

    route, ops, rule = torch_router(problem.model), TorchOps(), activation_of(problem.model)
    slots = [(on.inputs(slot), on.weights(slot)) for slot in range(len(problem.ring))]
    share, shared = problem.case.ep > 1, problem.sizes.shared_inner > 0

    def act(gate: Tensor, up: Tensor) -> Tensor:
        return rule(ops, gate, up)

    def call(slot: int) -> dict[str, Tensor]:
        inputs, weights = slots[slot]
        tokens = inputs["tokens"]
        ids, shares = route(tokens, weights)
        outputs = {"ids": ids, "weights": shares}
        if shared:
            outputs["shared"] = ffn(tokens, weights["shared_in"][0], weights["shared_out"][0], (None, None), act)
        if share:
            outputs["partial"] = experts(inputs["rows"], inputs["row_ids"], inputs["row_weights"], weights, act)
            return outputs
        y = experts(tokens, ids, shares, weights, act)
        outputs["y"] = y.add_(outputs.pop("shared")) if shared else y
        return outputs

    return Built(call, () if problem.case.dtype == "fp32" else CASTS)


@implementation("moe-layer", "torch", "sorted")
def build_torch(problem: Problem, on: Any) -> Built:
    """Sort by expert and one matmul an expert."""
    return build_torch_layer(problem, on, torch_sorted)


# -- ONNX ----------------------------------------------------------------------------------------------------------


@implementation("moe-layer", "onnxruntime", "sorted")
def build_onnx(about: Model, sizes: Sizes, graph: Graph) -> None:
    """Standard operators only: sort, Split, a MatMul on each expert's own 2-D initialiser, inverse Gather."""
    tokens = graph.input("tokens", (sizes.tokens, sizes.hidden), graph.dtype)
    ids, shares = onnx_router(graph, tokens, sizes, about)
    routed = (sizes.tokens, sizes.experts_per_token)
    graph.output(ids, "ids", routed, "int64")
    graph.output(shares, "weights", routed, "fp32")
    shared = onnx_ffn(graph, tokens, "shared", 0, sizes, about) if sizes.shared_inner else None
    if sizes.local_experts < sizes.num_experts:
        _onnx_share(graph, sizes, about, shared)
        return
    cast = shares if graph.dtype == "fp32" else graph.cast(shares, graph.dtype)
    y = onnx_sorted(graph, tokens, ids, cast, sizes, about)
    graph.output(graph.node("Add", y, shared) if shared else y, "y", (sizes.tokens, sizes.hidden), graph.dtype)


def _onnx_share(graph: Graph, sizes: Sizes, about: Model, shared: str | None) -> None:
    """The rows of an EP share: ids and weights are inputs."""
    rows = graph.input("rows", (sizes.rows, sizes.hidden), graph.dtype)
    ids = graph.input("row_ids", (sizes.rows, sizes.experts_per_token), "int32")
    shares = graph.input("row_weights", (sizes.rows, sizes.experts_per_token), "fp32")
    cast = shares if graph.dtype == "fp32" else graph.cast(shares, graph.dtype)
    partial = onnx_sorted(graph, rows, graph.cast(ids, "int64"), cast, sizes, about)
    graph.output(partial, "partial", (sizes.rows, sizes.hidden), graph.dtype)
    if shared:
        graph.output(shared, "shared", (sizes.tokens, sizes.hidden), graph.dtype)

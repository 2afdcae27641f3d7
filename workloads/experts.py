"""The grouped expert FFN: rows that are already routed, each through its experts, weighted and summed.

Shapes: W is what experts read and write, the hidden size H or a latent size. Rows [R, W]; local ids [R, k] (padded with -1)
and weights [R, k]; per expert `experts_in` [2I, W] (gate rows, then up rows; ungated: [I, W]) and `experts_out` [W, I], both
(out, in) as checkpoints store them; optional biases [2I] and [W]; an RMSNorm of every expert's output where the model has one
(`expert_norm` [W], Muse-Spark: out = v / rms(v), v = gain * E(x)). The sum of a row's weighted expert outputs is the row's
output [W]. Where the weight goes on the input (Llama 4, k = 1), that is E(w x), w in x's dtype. Formulas: seeds/README.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.activations import activation_of
from workloads.backends.numpy_ops import NumpyOps
from workloads.models import Model
from workloads.pinned import BLOCK, bell, integers, stream
from workloads.problem import Contribution
from workloads.weights import Pinned, Tiled, Weight, scale_for

if TYPE_CHECKING:
    from torch import Tensor

    from workloads.backends.onnx_ops import Graph

__all__ = [
    "OnnxExperts",
    "TorchActivation",
    "expert_weights",
    "ffn_reference",
    "ffn_torch",
    "ffn_weights",
    "linear",
    "norm_gain",
    "onnx_argsort",
    "onnx_counts",
    "onnx_distinct_keys",
    "onnx_experts",
    "onnx_ffn",
    "onnx_finish",
    "onnx_sorted",
    "reference_parts",
    "rms_norm",
    "sizes_follow",
    "summed",
    "torch_experts",
    "torch_sorted",
]


# -- weights -------------------------------------------------------------------------------------------------------


CLAMP_BITS = 2
"""Projections of 4 standard deviations: some 3 % of values are beyond a limit of 10, 13 % beyond one of 7."""


def ffn_weights(
    name: str, model: Model, inner: int, count: int, seed: int, hidden: int | None = None
) -> dict[str, Weight]:
    """Tiled in and out projections of `count` FFNs of width `inner` on `hidden` (H), as NAME_in and NAME_out.

    Where an activation clamps, the in projection is larger by CLAMP_BITS powers of two, so that the limits are met.
    """
    offsets = integers(stream("offsets", name, model.id, inner, count, seed), 2 * count, BLOCK).tolist()
    hidden, stacked = hidden or model.hidden_size, inner * (2 if model.glu else 1)
    clamped = CLAMP_BITS if model.activation_limit else 0
    return {
        f"{name}_in": Tiled(tuple(offsets[:count]), stacked, hidden, scale_for(hidden) - clamped, seed),
        f"{name}_out": Tiled(tuple(offsets[count:]), hidden, inner, scale_for(inner), seed),
    }


def expert_weights(model: Model, local: int, seed: int) -> dict[str, Weight]:
    """Weights of one rank's `local` experts, biases and the norm of their outputs included where the model has them."""
    inner, hidden = model.moe_intermediate_size, model.moe_latent_size or model.hidden_size
    weights = ffn_weights("experts", model, inner, local, seed, hidden)
    if model.expert_bias:
        source = stream("expert-bias", model.id, local, seed)
        # Larger projections, and products of them, ask for larger biases.
        bits = CLAMP_BITS if model.activation_limit else 0
        stacked = inner * (2 if model.glu else 1)
        for name, width, scale in (("experts_in_bias", stacked, bits), ("experts_out_bias", hidden, 2 * bits)):
            values = np.ldexp(bell(source, local * width).astype(np.float32), scale - 12)
            weights[name] = Pinned(values.reshape(local, width))
    if model.expert_norm_eps:
        weights["expert_norm"] = norm_gain("expert_norm", model, hidden, seed)
    return weights


def norm_gain(name: str, model: Model, width: int, seed: int) -> Pinned:
    """The gain [width] of a norm: between 0.75 and 1.25 in steps of 2**-7."""
    steps = integers(stream("norm", name, model.id, width, seed), width, 65) + 96
    return Pinned(np.ldexp(steps.astype(np.float32), -7))


def rms_norm(ops: Any, x: Any, gain: Any, width: int, eps: float, gain_first: bool = False) -> Any:
    """x / sqrt(mean(x**2) + eps) * gain along the last axis of length `width`, in fp32 on any backend; or of gain * x; a gain
    of None is one of ones."""

    def wide(ops: Any, x: Any, gain: Any = None) -> Any:
        x = ops.mul(x, gain) if gain_first else x
        mean = ops.mul(ops.total(ops.mul(x, x)), 1.0 / width)
        normed = ops.div(x, ops.sqrt(ops.add(mean, eps)))
        return normed if gain_first or gain is None else ops.mul(normed, gain)

    return ops.in_fp32(wide, x) if gain is None else ops.in_fp32(wide, x, gain)


def sizes_follow(model: Model, weights: Any) -> Any:
    """What the size of an expert's output grows with: its routing weight, or its square where that goes on the input."""
    return weights**2 if model.weight_on_input else weights


# -- float64 reference ---------------------------------------------------------------------------------------------


def ffn_reference(weights: dict[str, Weight], name: str, model: Model, matrix: int, x: np.ndarray) -> np.ndarray:
    """One FFN of a stack on x [n, W], float64 [n, W]."""
    into, out = weights[f"{name}_in"], weights[f"{name}_out"]
    hidden = into.apply(matrix, x) + _bias(weights, f"{name}_in_bias", matrix)
    gate, up = np.split(hidden, 2, axis=1) if model.glu else (hidden, None)
    return out.apply(matrix, activation_of(model)(NumpyOps(), gate, up)) + _bias(weights, f"{name}_out_bias", matrix)


def _bias(weights: dict[str, Weight], name: str, matrix: int) -> Any:
    bias = weights.get(name)
    return bias.values[matrix].astype(np.float64) if isinstance(bias, Pinned) else 0.0


def reference_parts(
    weights: dict[str, Weight], model: Model, x: np.ndarray, ids: np.ndarray, shares: np.ndarray
) -> Contribution:
    """Weighted expert outputs of x [n, W] for local ids [n, k] (-1: none) with weights [n, k], sorted by expert."""
    rows, sources, factors, parts = [], [], [], []
    for expert in np.unique(ids[ids >= 0]):
        row, column = np.nonzero(ids == expert)
        factor = shares[row, column].astype(np.float64)
        rows.append(row)
        sources.append(np.full(len(row), expert))
        factors.append(sizes_follow(model, factor))
        parts.append(_weighted_expert(weights, model, int(expert), x[row], factor[:, None]))
    if not rows:
        empty = np.empty(0, dtype=np.int64)
        return Contribution(empty, empty, np.empty(0), np.empty((0, x.shape[1])))
    return Contribution(*(np.concatenate(part) for part in (rows, sources, factors, parts)))


def _weighted_expert(weights: dict[str, Weight], model: Model, expert: int, x: np.ndarray, factor: Any) -> np.ndarray:
    if model.weight_on_input:
        return ffn_reference(weights, "experts", model, expert, factor * x)
    out, gain = ffn_reference(weights, "experts", model, expert, x), weights.get("expert_norm")
    if isinstance(gain, Pinned):
        eps = model.expert_norm_eps
        out = rms_norm(NumpyOps(), out, gain.values.astype(np.float64), out.shape[1], eps, gain_first=True)
    return factor * out


def summed(parts: Contribution, lines: int) -> np.ndarray:
    """The output [lines, W] that contributions add up to."""
    total = np.zeros((lines, parts.parts.shape[1]))
    for source in np.unique(parts.source):
        chosen = parts.source == source  # a source meets a line once, so this assignment adds each part
        total[parts.row[chosen]] += parts.parts[chosen]
    return total


# -- torch ---------------------------------------------------------------------------------------------------------


class TorchActivation:
    """A model's activation on torch tensors, `act(gate, up)`, and what follows each expert's second matmul, `act.finish`."""

    def __init__(self, model: Model) -> None:
        from workloads.backends.torch_ops import TorchOps

        self.model = model
        self._ops, self._rule, self._eps = TorchOps(), activation_of(model), model.expert_norm_eps
        self._gated = bool(model.glu)

    def __call__(self, gate: Tensor, up: Tensor | None) -> Tensor:
        return self._rule(self._ops, gate, up)

    def halves(self, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
        """gate and up of the stacked projection [n, 2I]; of an ungated one [n, I], that and None."""
        if not self._gated:
            return hidden, None
        gate, up = hidden.chunk(2, dim=-1)
        return gate, up

    def finish(self, done: Tensor, weights: dict[str, Tensor]) -> Tensor:
        """Expert outputs [A, W], normed where the model norms them."""
        if not self._eps:
            return done
        return rms_norm(self._ops, done, weights["expert_norm"], done.shape[1], self._eps, gain_first=True)


def ffn_torch(x: Tensor, into: Tensor, out: Tensor, biases: tuple[Tensor | None, Tensor | None], act: Any) -> Tensor:
    """One FFN on x [n, W] with weights (out, in)."""
    gate, up = act.halves(linear(x, into, biases[0]))
    return linear(act(gate, up), out, biases[1])


def linear(x: Tensor, matrix: Any, bias: Tensor | None) -> Tensor:
    """x [n, in] times a weight (out, in): a tensor, or a function of x that multiplies by a matrix in a format of its own."""
    import torch.nn.functional as functional

    if not callable(matrix):
        return functional.linear(x, matrix, bias)
    return matrix(x) if bias is None else matrix(x) + bias


def torch_experts(model: Model, experts: Any) -> Any:
    """`experts(x, ids, shares, weights, act)`, given x weighted beforehand where the model's weights go on the input."""
    if not model.weight_on_input:
        return experts

    def weighted(x: Tensor, ids: Tensor, shares: Tensor, weights: dict[str, Tensor], act: Any) -> Tensor:
        return experts(x * shares.to(x.dtype), ids, shares.new_ones(shares.shape), weights, act)

    return weighted


def torch_sorted(x: Tensor, ids: Tensor, shares: Tensor, weights: dict[str, Tensor], act: Any) -> Tensor:
    """Sort by expert, one FFN an expert on its stretch of rows, back in order, weighted, summed: [R, W].

    The per-expert counts come to the host, so a device synchronises once a call.
    """
    order, counts, skipped = sort_by_expert(ids, weights["experts_in"].shape[0])
    chosen = order[skipped:]
    gathered = x.index_select(0, chosen // ids.shape[1])
    done = gathered.new_empty(gathered.shape)
    start = 0
    for expert, count in enumerate(counts):
        if count:
            stretch = slice(start, start + count)
            done[stretch] = ffn_torch(gathered[stretch], *expert_of(weights, expert), act)
            start += count
    return combine(act.finish(done, weights), chosen, shares, ids.shape)


def expert_of(weights: dict[str, Tensor], expert: int) -> tuple[Tensor, Tensor, tuple[Tensor | None, Tensor | None]]:
    """(in, out, (in bias, out bias)) of one expert."""
    into_bias, out_bias = weights.get("experts_in_bias"), weights.get("experts_out_bias")
    biases = (
        None if into_bias is None else into_bias[expert],
        None if out_bias is None else out_bias[expert],
    )
    return weights["experts_in"][expert], weights["experts_out"][expert], biases


def sort_by_expert(ids: Tensor, experts: int) -> tuple[Tensor, list[int], int]:
    """(flat positions ordered by expert, assignments per expert on the host, padded positions at the front)."""
    flat = ids.reshape(-1)
    order = flat.argsort()
    counts = (flat + 1).bincount(minlength=experts + 1).tolist()
    return order, counts[1:], counts[0]


def combine(done: Tensor, chosen: Tensor, shares: Tensor, shape: Any) -> Tensor:
    """Expert outputs [A, W] at flat positions `chosen`, weighted and summed per row: [R, W]."""
    weighted = done * shares.reshape(-1)[chosen].to(done.dtype).unsqueeze(1)
    rows = done.new_zeros(shape[0], done.shape[1])
    return rows.index_add_(0, chosen // shape[1], weighted)


# -- ONNX ----------------------------------------------------------------------------------------------------------


OnnxExperts = Callable[..., str]
"""One way of running the experts as nodes: `experts(graph, x, ids, shares, sizes, model) -> [R, W]`; see `onnx_sorted`."""


def onnx_experts(
    graph: Graph, x: str, ids: str, shares: str, sizes: Any, model: Model, experts: OnnxExperts | None = None
) -> str:
    """`experts` (`onnx_sorted`) with fp32 `shares` [R, k], which go on x where the model says so: [R, W]."""
    run = experts or onnx_sorted
    cast = shares if graph.dtype == "fp32" else graph.cast(shares, graph.dtype)
    if model.weight_on_input:
        return run(graph, graph.node("Mul", x, cast), ids, None, sizes, model)
    return run(graph, x, ids, cast, sizes, model)


def onnx_sorted(graph: Graph, x: str, ids: str, shares: str | None, sizes: Any, model: Model) -> str:
    """The same as nodes: TopK sort, Split, a MatMul on each expert's own 2-D initialisers, inverse Gather: [R, W].

    `ids` [R, k] int64 and `shares` [R, k] in the graph's dtype (None: all 1); no per-expert count is baked in.
    """
    rows, k, experts = sizes.rows, sizes.experts_per_token, sizes.local_experts
    flat = graph.reshape(ids, (rows * k,))
    padded = graph.node("Less", flat, graph.constant(np.int64(0)))
    bucket = graph.node("Where", padded, graph.constant(np.int64(experts)), flat)
    order = onnx_argsort(graph, onnx_distinct_keys(graph, bucket, rows * k), rows * k)
    counts = onnx_counts(graph, bucket, experts)
    used = graph.node("Slice", order, graph.constant([0]), graph.node("ReduceSum", counts, keepdims=1))
    gathered = graph.node("Gather", x, graph.node("Div", used, graph.constant(np.int64(k))), axis=0)
    stretches = graph.node("Split", gathered, counts, outputs=experts, axis=0) if experts > 1 else [gathered]
    done = [onnx_ffn(graph, stretch, "experts", e, sizes, model) for e, stretch in enumerate(stretches)]
    width = sizes.expert_hidden
    joined = graph.node("Concat", *done, graph.constant(np.zeros((1, width)), graph.dtype), axis=0)
    joined = onnx_finish(graph, joined, width, model)
    places = onnx_argsort(graph, order, rows * k)
    last = graph.node("ReduceSum", counts, keepdims=1)
    back = graph.node("Gather", joined, graph.node("Min", places, last), axis=0)
    spread = graph.reshape(back, (rows, k, width))
    weighted = spread if shares is None else graph.node("Mul", spread, graph.reshape(shares, (rows, k, 1)))
    return graph.node("ReduceSum", weighted, graph.constant([1]), keepdims=0)


def onnx_finish(graph: Graph, done: str, width: int, model: Model) -> str:
    """Expert outputs [..., W], normed where the model norms them."""
    if not model.expert_norm_eps:
        return done
    gain = graph.weight("expert_norm", (width,))
    return rms_norm(graph.in_dtype(), done, gain, width, model.expert_norm_eps, gain_first=True)


def onnx_distinct_keys(graph: Graph, bucket: str, size: int) -> str:
    """bucket * size + position: a sort of these is stable whatever the runtime does with ties."""
    scaled = graph.node("Mul", bucket, graph.constant(np.int64(size)))
    return graph.node("Add", scaled, graph.constant(np.arange(size)))


def onnx_argsort(graph: Graph, keys: str, size: int) -> str:
    """Positions [size] of distinct keys in rising order."""
    return graph.node("TopK", keys, graph.constant([size]), outputs=2, axis=0, largest=0, sorted=1)[1]


def onnx_counts(graph: Graph, bucket: str, experts: int) -> str:
    """How often each of `experts` ids stands in `bucket`, int64 [experts]."""
    columns = graph.node("Unsqueeze", bucket, graph.constant([1]))
    hits = graph.node("Equal", columns, graph.constant(np.arange(experts).reshape(1, experts)))
    return graph.node("ReduceSum", graph.cast(hits, "int64"), graph.constant([0]), keepdims=0)


def onnx_ffn(graph: Graph, x: str, name: str, matrix: int, sizes: Any, model: Model) -> str:
    """One FFN on 2-D initialisers."""
    inner, outer, stacked = sizes.width(name), sizes.ffn_hidden(name), sizes.width(name) * (2 if model.glu else 1)
    share = sizes.ffn_flops(name) / sizes.matrices
    hidden = graph.linear(x, f"{name}_in", (outer, stacked), matrix, share * (sizes.matrices - 1))
    biased = name == "experts" and model.expert_bias
    if biased:
        hidden = graph.node("Add", hidden, graph.weight("experts_in_bias", (stacked,), matrix))
    gate, up = graph.node("Split", hidden, outputs=2, axis=-1, num_outputs=2) if model.glu else (hidden, None)
    active = activation_of(model)(graph.in_dtype(), gate, up)
    out = graph.linear(active, f"{name}_out", (inner, outer), matrix, share)
    return graph.node("Add", out, graph.weight("experts_out_bias", (outer,), matrix)) if biased else out

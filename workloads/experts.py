"""The grouped expert FFN: rows that are already routed, each through its experts, weighted and summed.

Shapes: rows [R, H]; local ids [R, k] (padded with -1) and weights [R, k]; per expert `experts_in` [2I, H] (gate rows, then
up rows) and `experts_out` [H, I], both (out, in) as checkpoints store them; optional biases [2I] and [H]. The sum of a
row's weighted expert outputs is the row's output [H]. Formulas: seeds/README.md (routing rules and activations).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.activations import ACTIVATIONS, activation_of
from workloads.backends.numpy_ops import NumpyOps
from workloads.models import Model
from workloads.pinned import BLOCK, bell, integers, stream
from workloads.problem import Contribution
from workloads.weights import Pinned, Tiled, Weight, scale_for

if TYPE_CHECKING:
    from torch import Tensor

    from workloads.backends.onnx_ops import Graph

__all__ = [
    "expert_weights",
    "ffn_reference",
    "ffn_torch",
    "ffn_weights",
    "onnx_sorted",
    "reference_parts",
    "summed",
    "torch_sorted",
    "unsupported_experts",
]

UNDONE_EXPERT_KEYS = {
    "moe_latent_size": "latent experts",
    "shared_gate": "a gated shared expert",
    "zero_experts": "zero-compute experts",
    "weight_on_input": "routing weights on the experts' input",
}


def unsupported_experts(model: Model) -> str | None:
    """Why this model's experts are not done yet; None if they are."""
    if model.activation not in ACTIVATIONS:
        return f"the activation {model.activation!r} of {model.id} is not done yet"
    if model.glu is False:
        return f"{model.id} has ungated experts, which are not done yet"
    undone = [what for key, what in UNDONE_EXPERT_KEYS.items() if getattr(model, key, None)]
    return f"{model.id} has {undone[0]}, which is not done yet" if undone else None


# -- weights -------------------------------------------------------------------------------------------------------


def ffn_weights(name: str, model: Model, inner: int, count: int, seed: int) -> dict[str, Weight]:
    """Tiled in and out projections of `count` gated FFNs of width `inner`, as NAME_in and NAME_out."""
    offsets = integers(stream("offsets", name, model.id, inner, count, seed), 2 * count, BLOCK).tolist()
    hidden = model.hidden_size
    return {
        f"{name}_in": Tiled(tuple(offsets[:count]), 2 * inner, hidden, scale_for(hidden), seed),
        f"{name}_out": Tiled(tuple(offsets[count:]), hidden, inner, scale_for(inner), seed),
    }


def expert_weights(model: Model, local: int, seed: int) -> dict[str, Weight]:
    """Weights of one rank's `local` experts, biases included where the model has them."""
    inner, hidden = model.moe_intermediate_size, model.hidden_size
    weights = ffn_weights("experts", model, inner, local, seed)
    if model.expert_bias:
        source = stream("expert-bias", model.id, local, seed)
        for name, width in (("experts_in_bias", 2 * inner), ("experts_out_bias", hidden)):
            values = np.ldexp(bell(source, local * width).astype(np.float32), -12)
            weights[name] = Pinned(values.reshape(local, width))
    return weights


# -- float64 reference ---------------------------------------------------------------------------------------------


def ffn_reference(weights: dict[str, Weight], name: str, model: Model, matrix: int, x: np.ndarray) -> np.ndarray:
    """One FFN of a stack on x [n, H], float64 [n, H]."""
    into, out = weights[f"{name}_in"], weights[f"{name}_out"]
    assert not isinstance(into, Pinned)
    assert not isinstance(out, Pinned)
    hidden = into.apply(matrix, x) + _bias(weights, f"{name}_in_bias", matrix)
    gate, up = np.split(hidden, 2, axis=1)
    return out.apply(matrix, activation_of(model)(NumpyOps(), gate, up)) + _bias(weights, f"{name}_out_bias", matrix)


def _bias(weights: dict[str, Weight], name: str, matrix: int) -> Any:
    bias = weights.get(name)
    return bias.values[matrix].astype(np.float64) if isinstance(bias, Pinned) else 0.0


def reference_parts(
    weights: dict[str, Weight], model: Model, x: np.ndarray, ids: np.ndarray, shares: np.ndarray
) -> Contribution:
    """Weighted expert outputs of x [n, H] for local ids [n, k] (-1: none) with weights [n, k], sorted by expert."""
    rows, sources, factors, parts = [], [], [], []
    for expert in np.unique(ids[ids >= 0]):
        row, column = np.nonzero(ids == expert)
        factor = shares[row, column].astype(np.float64)
        rows.append(row)
        sources.append(np.full(len(row), expert))
        factors.append(factor)
        parts.append(factor[:, None] * ffn_reference(weights, "experts", model, int(expert), x[row]))
    if not rows:
        empty = np.empty(0, dtype=np.int64)
        return Contribution(empty, empty, np.empty(0), np.empty((0, x.shape[1])))
    return Contribution(*(np.concatenate(part) for part in (rows, sources, factors, parts)))


def summed(parts: Contribution, lines: int) -> np.ndarray:
    """The output [lines, H] that contributions add up to."""
    total = np.zeros((lines, parts.parts.shape[1]))
    for source in np.unique(parts.source):
        chosen = parts.source == source  # a source meets a line once, so this assignment adds each part
        total[parts.row[chosen]] += parts.parts[chosen]
    return total


# -- torch ---------------------------------------------------------------------------------------------------------


def ffn_torch(x: Tensor, into: Tensor, out: Tensor, biases: tuple[Tensor | None, Tensor | None], act: Any) -> Tensor:
    """One gated FFN on x [n, H] with weights (out, in)."""
    gate, up = linear(x, into, biases[0]).chunk(2, dim=-1)
    return linear(act(gate, up), out, biases[1])


def linear(x: Tensor, matrix: Any, bias: Tensor | None) -> Tensor:
    """x [n, in] times a weight (out, in): a tensor, or a function of x that multiplies by a matrix in a format of its own."""
    import torch.nn.functional as functional

    if not callable(matrix):
        return functional.linear(x, matrix, bias)
    return matrix(x) if bias is None else matrix(x) + bias


def torch_sorted(x: Tensor, ids: Tensor, shares: Tensor, weights: dict[str, Tensor], act: Any) -> Tensor:
    """Sort by expert, one FFN an expert on its stretch of rows, back in order, weighted, summed: [R, H].

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
    return combine(done, chosen, shares, ids.shape)


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
    """Expert outputs [A, H] at flat positions `chosen`, weighted and summed per row: [R, H]."""
    weighted = done * shares.reshape(-1)[chosen].to(done.dtype).unsqueeze(1)
    rows = done.new_zeros(shape[0], done.shape[1])
    return rows.index_add_(0, chosen // shape[1], weighted)


# -- ONNX ----------------------------------------------------------------------------------------------------------


def onnx_sorted(graph: Graph, x: str, ids: str, shares: str, sizes: Any, model: Model) -> str:
    """The same as nodes: TopK sort, Split, a MatMul on each expert's own 2-D initialisers, inverse Gather: [R, H].

    `ids` [R, k] int64 and `shares` [R, k] in the graph's dtype; no per-expert count is baked in.
    """
    rows, k, experts = sizes.rows, sizes.experts_per_token, sizes.local_experts
    flat = graph.reshape(ids, (rows * k,))
    padded = graph.node("Less", flat, graph.constant(np.int64(0)))
    bucket = graph.node("Where", padded, graph.constant(np.int64(experts)), flat)
    order = _argsort(graph, _distinct_keys(graph, bucket, rows * k), rows * k)
    counts = _counts(graph, bucket, experts)
    used = graph.node("Slice", order, graph.constant([0]), graph.node("ReduceSum", counts, keepdims=1))
    gathered = graph.node("Gather", x, graph.node("Div", used, graph.constant(np.int64(k))), axis=0)
    stretches = graph.node("Split", gathered, counts, outputs=experts, axis=0) if experts > 1 else [gathered]
    done = [onnx_ffn(graph, stretch, "experts", e, sizes, model) for e, stretch in enumerate(stretches)]
    joined = graph.node("Concat", *done, graph.constant(np.zeros((1, sizes.hidden)), graph.dtype), axis=0)
    places = _argsort(graph, order, rows * k)
    last = graph.node("ReduceSum", counts, keepdims=1)
    back = graph.node("Gather", joined, graph.node("Min", places, last), axis=0)
    spread = graph.reshape(back, (rows, k, sizes.hidden))
    weighted = graph.node("Mul", spread, graph.reshape(shares, (rows, k, 1)))
    return graph.node("ReduceSum", weighted, graph.constant([1]), keepdims=0)


def _distinct_keys(graph: Graph, bucket: str, size: int) -> str:
    """bucket * size + position: a sort of these is stable whatever the runtime does with ties."""
    scaled = graph.node("Mul", bucket, graph.constant(np.int64(size)))
    return graph.node("Add", scaled, graph.constant(np.arange(size)))


def _argsort(graph: Graph, keys: str, size: int) -> str:
    return graph.node("TopK", keys, graph.constant([size]), outputs=2, axis=0, largest=0, sorted=1)[1]


def _counts(graph: Graph, bucket: str, experts: int) -> str:
    columns = graph.node("Unsqueeze", bucket, graph.constant([1]))
    hits = graph.node("Equal", columns, graph.constant(np.arange(experts).reshape(1, experts)))
    return graph.node("ReduceSum", graph.cast(hits, "int64"), graph.constant([0]), keepdims=0)


def onnx_ffn(graph: Graph, x: str, name: str, matrix: int, sizes: Any, model: Model) -> str:
    """One gated FFN on 2-D initialisers."""
    inner = sizes.width(name)
    flops = sizes.ffn_flops(name)
    hidden = graph.linear(x, f"{name}_in", (sizes.hidden, 2 * inner), matrix, flops * 2 / 3)
    if name == "experts" and model.expert_bias:
        hidden = graph.node("Add", hidden, graph.weight("experts_in_bias", (2 * inner,), matrix))
    gate, up = graph.node("Split", hidden, outputs=2, axis=-1, num_outputs=2)
    active = activation_of(model)(graph.in_dtype(), gate, up)
    out = graph.linear(active, f"{name}_out", (inner, sizes.hidden), matrix, flops / 3)
    if name == "experts" and model.expert_bias:
        out = graph.node("Add", out, graph.weight("experts_out_bias", (sizes.hidden,), matrix))
    return out

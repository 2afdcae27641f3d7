"""Workload `dense-ffn`: the control. A dense FFN of the model's hidden size, activation and dtype on the own tokens.

Input `tokens` [T, H]; output `y` [T, H]. Its width is k * I + I_shared, so that it does as many FLOPs a token as the MoE
layer's active experts; a dense model's own width otherwise. k is the mean number of selected experts that compute, where some
are identities. Latent experts (of width W instead of H) count W / H of their width, and the two latent projections as much
width as has their FLOPs, rounded down. No router, no biases, no norms.
`moe-layer` over it is what sparsity really costs; at ep > 1 that ratio is a share over a dense replica. Useful FLOPs:
2 * m * H * width * T, m = 3 matrices, 2 without a gate.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.case import Case
from workloads.experts import TorchActivation, ffn_reference, ffn_torch, ffn_weights, onnx_ffn
from workloads.formats import precision_of, unsupported_dtype, value_bytes, weight_bytes
from workloads.models import Model, model
from workloads.planting import hidden_noise
from workloads.problem import SLOTS, Contribution, Cost, Counts, Expected, Lines, Problem, input_digest
from workloads.registry import Built, implementation, register_workload
from workloads.sizes import Sizes
from workloads.weights import in_format

if TYPE_CHECKING:
    from torch import Tensor

    from workloads.backends.onnx_ops import Graph

__all__ = ["DenseFfnWorkload", "dense_width"]


def dense_width(about: Model) -> int:
    """Inner width of the control."""
    if not about.num_experts:
        return about.dense_intermediate_size or 0
    latent, matrices = about.moe_latent_size, 3 if about.glu else 2
    used = about.experts_per_token_real_mean or about.experts_per_token
    routed = round(used * about.moe_intermediate_size)
    if latent:
        routed = routed * latent // about.hidden_size + 2 * latent // matrices
    return routed + about.shared_intermediate_size


class DenseFfnWorkload:
    """The dense FFN with as many active FLOPs a token as the model's MoE layer."""

    name = "dense-ffn"
    version = 2

    def unsupported(self, case: Case) -> str | None:
        """The sentence that says why the case is not defined or not done; None if it is."""
        if case.variants:
            return f"the variant {case.variants[0]!r} of {self.name} is not done yet"
        if case.routing != "none":
            return f"{self.name} has no router: write 'none' as its routing"
        about = model(case.model)
        return unsupported_dtype(case.dtype, (about.hidden_size, dense_width(about)))

    def problem(self, case: Case) -> Problem:
        """The pinned problem of a case."""
        about = model(case.model)
        sizes = _sizes(case, about)
        plain = ffn_weights("dense", about, sizes.dense_inner, 1, case.seed)
        weights = in_format(plain, precision_of(case.dtype))
        ring = [
            {"tokens": hidden_noise(case.tokens, sizes.hidden, ("dense", case.seed, slot)).astype(np.float32)}
            for slot in range(SLOTS)
        ]

        def references_of(weights: Any, requests: Any) -> list[Expected]:
            return [_reference(weights, about, ring[slot]["tokens"], lines) for slot, lines in requests]

        return Problem(
            case=case,
            model=about,
            sizes=sizes,
            weights=weights,
            ring=ring,
            outputs={"y": (sizes.tokens, sizes.hidden)},
            cost=_cost(case, sizes),
            input_digest=input_digest(weights, ring, None),
            references=partial(references_of, weights),
            sources=lambda slot, output: (np.empty(0, np.int64), np.empty(0, np.int64)),
            unquantised=partial(references_of, plain) if weights is not plain else None,
        )

    def counts(self, case: Case) -> Counts:
        """Cost and skew, without the inputs."""
        return Counts(_cost(case, _sizes(case, model(case.model))))


register_workload(DenseFfnWorkload())


def _sizes(case: Case, about: Model) -> Sizes:
    return Sizes(case.tokens, about.hidden_size, dense_inner=dense_width(about), matrices=3 if about.glu else 2)


def _cost(case: Case, sizes: Sizes) -> Cost:
    """Bytes: both projections once, tokens in, outputs out."""
    size = value_bytes(case.dtype)
    elements = sizes.matrices * sizes.hidden * sizes.dense_inner
    weights = weight_bytes(case.dtype, elements, elements)
    return Cost(sizes.flops, weights + 2 * sizes.tokens * sizes.hidden * size, weights, sizes.tokens, 0, 0)


def _reference(weights: Any, about: Model, tokens: np.ndarray, lines: Lines) -> Expected:
    chosen = np.arange(len(tokens)) if lines is None else lines.get("y", np.empty(0, np.int64))
    values = ffn_reference(weights, "dense", about, 0, tokens[chosen].astype(np.float64))
    row = np.arange(len(chosen))
    parts = Contribution(row, np.full(len(row), -1), np.ones(len(row)), values)
    tokens_all = np.arange(len(tokens))
    routed = (tokens_all, np.full(len(tokens), -1), np.ones(len(tokens)))
    return Expected(lines={"y": chosen}, values={"y": values}, routed={"y": routed}, contributions={"y": parts})


@implementation("dense-ffn", "torch", "plain")
def build_torch(problem: Problem, on: Any) -> Built:
    """Two matmuls and the activation."""
    act = TorchActivation(problem.model)
    slots = [(on.inputs(slot)["tokens"], on.weights(slot)) for slot in range(len(problem.ring))]

    def call(slot: int) -> dict[str, Tensor]:
        tokens, weights = slots[slot]
        return {"y": ffn_torch(tokens, weights["dense_in"][0], weights["dense_out"][0], (None, None), act)}

    return Built(call)


@implementation("dense-ffn", "onnxruntime", "plain")
def build_onnx(about: Model, sizes: Sizes, graph: Graph) -> None:
    """Two MatMuls and the activation."""
    tokens = graph.input("tokens", (sizes.tokens, sizes.hidden), graph.dtype)
    y = onnx_ffn(graph, tokens, "dense", 0, sizes, about)
    graph.output(y, "y", (sizes.tokens, sizes.hidden), graph.dtype)

"""The shared branch: the FFN that every token goes through beside its routed experts.

S(x) [n, H] is one FFN of the shared experts' joint width (`shared_in`, `shared_out`). Gated (Qwen's): sigmoid(v . x) * S(x),
`shared_gate` v [1, H]; like the router's, the gate's product and sigmoid are computed in fp32 in every dtype and rounded once
to the case's. With norms (Gemma 4): norm(S(norm(x))), gains `shared_entry_norm` and `shared_exit_norm` [H].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.backends.numpy_ops import NumpyOps
from workloads.experts import ffn_reference, ffn_torch, ffn_weights, norm_gain, onnx_ffn, rms_norm
from workloads.models import Model
from workloads.pinned import bell, stream
from workloads.weights import Pinned, Weight, scale_for

if TYPE_CHECKING:
    from torch import Tensor

    from workloads.backends.onnx_ops import Graph
    from workloads.sizes import Sizes

__all__ = [
    "onnx_shared",
    "shared_factor",
    "shared_parameters",
    "shared_reference",
    "shared_weights",
    "torch_shared",
]


def shared_weights(model: Model, seed: int) -> dict[str, Weight]:
    """The branch's weights by name; empty without one."""
    hidden, inner = model.hidden_size, model.shared_intermediate_size
    if not inner:
        return {}
    weights = ffn_weights("shared", model, inner, 1, seed)
    if model.shared_gate:
        values = np.ldexp(bell(stream("shared-gate", model.id, seed), hidden).astype(np.float32), -scale_for(hidden))
        weights["shared_gate"] = Pinned(values.reshape(1, hidden), fp32=True)
    if model.shared_norm_eps:
        for name in ("shared_entry_norm", "shared_exit_norm"):
            weights[name] = norm_gain(name, model, hidden, seed)
    return weights


def shared_parameters(model: Model) -> int:
    """How many parameters these are."""
    hidden, inner = model.hidden_size, model.shared_intermediate_size
    vectors = bool(model.shared_gate) + 2 * bool(model.shared_norm_eps)
    return ((3 if model.glu else 2) * inner + vectors) * hidden if inner else 0


# -- float64 reference ---------------------------------------------------------------------------------------------


def shared_factor(weights: dict[str, Weight], x: np.ndarray) -> np.ndarray:
    """What the gate multiplies each token of x [n, H] with: [n], ones without a gate."""
    gate = weights.get("shared_gate")
    if not isinstance(gate, Pinned):
        return np.ones(len(x))
    return NumpyOps().sigmoid(x.astype(np.float64) @ gate.values[0].astype(np.float64))


def shared_reference(weights: dict[str, Weight], model: Model, x: np.ndarray) -> np.ndarray:
    """The branch's output [n, H] of x [n, H], its gate's factor included."""
    inside = _normed(weights, "shared_entry_norm", model, x)
    out = _normed(weights, "shared_exit_norm", model, ffn_reference(weights, "shared", model, 0, inside))
    return shared_factor(weights, x)[:, None] * out


def _normed(weights: dict[str, Weight], name: str, model: Model, x: np.ndarray) -> np.ndarray:
    gain = weights.get(name)
    if not isinstance(gain, Pinned):
        return x
    return rms_norm(NumpyOps(), x, gain.values.astype(np.float64), x.shape[1], model.shared_norm_eps)


# -- torch ---------------------------------------------------------------------------------------------------------


def torch_shared(model: Model) -> Any:
    """`f(tokens, weights, act) -> [n, H]` on torch tensors."""
    import torch.nn.functional as functional

    from workloads.backends.torch_ops import TorchOps

    ops, eps = TorchOps(), model.shared_norm_eps

    def branch(tokens: Tensor, weights: dict[str, Tensor], act: Any) -> Tensor:
        into, out = weights["shared_in"][0], weights["shared_out"][0]
        if not eps:
            return ffn_torch(tokens, into, out, (None, None), act)
        inside = rms_norm(ops, tokens, weights["shared_entry_norm"], tokens.shape[1], eps)
        done = ffn_torch(inside, into, out, (None, None), act)
        return rms_norm(ops, done, weights["shared_exit_norm"], tokens.shape[1], eps)

    def gated(tokens: Tensor, weights: dict[str, Tensor], act: Any) -> Tensor:
        factor = functional.linear(tokens.float(), weights["shared_gate"]).sigmoid()
        return branch(tokens, weights, act).mul_(factor.to(tokens.dtype))

    return gated if model.shared_gate else branch


# -- ONNX ----------------------------------------------------------------------------------------------------------


def onnx_shared(graph: Graph, tokens: str, sizes: Sizes, model: Model) -> str | None:
    """The branch's output [n, H]; None without one."""
    if not sizes.shared_inner:
        return None
    inside = _onnx_norm(graph, tokens, "shared_entry_norm", sizes, model)
    out = _onnx_norm(graph, onnx_ffn(graph, inside, "shared", 0, sizes, model), "shared_exit_norm", sizes, model)
    if not model.shared_gate:
        return out
    wide = tokens if graph.dtype == "fp32" else graph.cast(tokens, "fp32")
    gate = graph.weight("shared_gate", (sizes.hidden, 1), dtype="fp32")
    factor = graph.in_fp32().sigmoid(graph.matmul(wide, gate, 0.0))
    return graph.node("Mul", out, factor if graph.dtype == "fp32" else graph.cast(factor, graph.dtype))


def _onnx_norm(graph: Graph, x: str, name: str, sizes: Sizes, model: Model) -> str:
    eps = model.shared_norm_eps
    return rms_norm(graph.in_dtype(), x, graph.weight(name, (sizes.hidden,)), sizes.hidden, eps) if eps else x

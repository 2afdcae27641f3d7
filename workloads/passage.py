"""The way into the routed experts and out of them, where these do not work on the hidden states themselves.

Entry: x [n, H] to z [n, W]: the latent projection down (Nemotron-3 Super and Ultra, Kimi-K3, Muse-Spark), then an RMSNorm
(Muse-Spark; Gemma 4, which has the norm alone). Exit: the sum s [n, W] of a token's weighted expert outputs to [n, H]: an
RMSNorm (Kimi-K3, Gemma 4), then the projection up. Router and shared branch see x. An RMSNorm is v / sqrt(mean(v^2) + eps)
* gain, computed in fp32 and rounded to the case's dtype. Both are a token's own rank's work: dispatch and combine carry z
and s, which is what latent experts are for. Weights: `latent_down` [W, H], `latent_up` [H, W], `entry_norm` and `exit_norm`
[W]. Useful FLOPs: 2 * H * W a token and projection.

The reference gives the parts of an exit's output that come from each expert. Without a norm they are U p_i of the parts p_i
of s. With one they are U (gain * p_i) / rms(s): they add up to the output all the same, and an expert whose part is off by a
factor 1 + d, which moves rms(s) too, is off by d (1 - a) among them, a = <p_i, s> / <s, s> being its share of the sum, while
each of the others is off by -d a: a checker of gains sees the fault d (1 - a) in the expert that has it. (What it cannot see
is one common factor of all, which the norm takes out: such an output is right.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workloads.backends.numpy_ops import NumpyOps
from workloads.experts import norm_gain, rms_norm, summed
from workloads.models import Model
from workloads.pinned import BLOCK, integers, stream
from workloads.problem import Contribution
from workloads.weights import Pinned, Tiled, Weight, scale_for

if TYPE_CHECKING:
    from torch import Tensor

    from workloads.backends.onnx_ops import Graph
    from workloads.sizes import Sizes

__all__ = [
    "enter_reference",
    "has_entry",
    "has_exit",
    "leave_parts",
    "leave_reference",
    "leave_weights",
    "onnx_enter",
    "onnx_leave",
    "passage_parameters",
    "passage_weights",
    "torch_enter",
    "torch_leave",
]


def has_entry(model: Model) -> bool:
    """Whether the routed experts read something else than the hidden states."""
    return bool(model.moe_latent_size or model.entry_norm_eps)


def has_exit(model: Model) -> bool:
    """Whether the sum of a token's weighted expert outputs is not yet the layer's."""
    return bool(model.moe_latent_size or model.exit_norm_eps)


def passage_weights(model: Model, seed: int) -> dict[str, Weight]:
    """Projections and gains of norms, by name; empty without a passage."""
    hidden, latent = model.hidden_size, model.moe_latent_size
    weights: dict[str, Weight] = {}
    if latent:
        down, up = integers(stream("offsets", "latent", model.id, latent, 1, seed), 2, BLOCK).tolist()
        weights["latent_down"] = Tiled((down,), latent, hidden, scale_for(hidden), seed)
        weights["latent_up"] = Tiled((up,), hidden, latent, scale_for(latent), seed)
    for name, eps in (("entry_norm", model.entry_norm_eps), ("exit_norm", model.exit_norm_eps)):
        if eps:
            weights[name] = norm_gain(name, model, latent or hidden, seed)
    return weights


def passage_parameters(model: Model) -> int:
    """How many parameters these are."""
    width, latent = model.moe_latent_size or model.hidden_size, model.moe_latent_size
    return 2 * model.hidden_size * latent + width * (bool(model.entry_norm_eps) + bool(model.exit_norm_eps))


# -- float64 reference ---------------------------------------------------------------------------------------------


def enter_reference(weights: dict[str, Weight], model: Model, x: np.ndarray) -> np.ndarray:
    """z [n, W] of x [n, H]."""
    z = _project(weights, "latent_down", x)
    eps, gain = model.entry_norm_eps, _gain(weights, "entry_norm")
    return z if gain is None else rms_norm(NumpyOps(), z, gain, z.shape[1], eps)


def leave_reference(weights: dict[str, Weight], model: Model, s: np.ndarray) -> np.ndarray:
    """[n, H] of s [n, W]."""
    gain = _gain(weights, "exit_norm")
    normed = s if gain is None else rms_norm(NumpyOps(), s, gain, s.shape[1], model.exit_norm_eps)
    return _project(weights, "latent_up", normed)


def leave_parts(weights: dict[str, Weight], model: Model, parts: Contribution, lines: int) -> Contribution:
    """What each part [W] of `lines` sums contributes to the exit's output: see the module's docstring."""
    gain, values, weight = _gain(weights, "exit_norm"), parts.parts, parts.weight
    if gain is not None:
        s = summed(parts, lines)
        rms = np.sqrt((s**2).mean(axis=1) + model.exit_norm_eps)
        values, weight = values * gain / rms[parts.row, None], leave_weights(parts.row, weight, lines)
    return Contribution(parts.row, parts.source, weight, _project(weights, "latent_up", values))


def leave_weights(row: np.ndarray, weight: np.ndarray, lines: int) -> np.ndarray:
    """What the size of a normed sum's parts grows with: the weights over the root of their line's sum of squares."""
    return weight / np.sqrt(np.bincount(row, weights=weight**2, minlength=lines))[row]


def _project(weights: dict[str, Weight], name: str, x: np.ndarray) -> np.ndarray:
    matrix = weights.get(name)
    return x if matrix is None else matrix.apply(0, x)


def _gain(weights: dict[str, Weight], name: str) -> np.ndarray | None:
    gain = weights.get(name)
    return gain.values.astype(np.float64) if isinstance(gain, Pinned) else None


# -- torch ---------------------------------------------------------------------------------------------------------


def torch_enter(model: Model, x: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """z [n, W] of x [n, H]; x itself without a passage."""
    z = _linear(x, weights, "latent_down")
    return _norm(z, weights["entry_norm"], model.entry_norm_eps) if model.entry_norm_eps else z


def torch_leave(model: Model, s: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """[n, H] of s [n, W]; s itself without a passage."""
    normed = _norm(s, weights["exit_norm"], model.exit_norm_eps) if model.exit_norm_eps else s
    return _linear(normed, weights, "latent_up")


def _linear(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    import torch.nn.functional as functional

    return functional.linear(x, weights[name][0]) if name in weights else x


def _norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    from workloads.backends.torch_ops import TorchOps

    return rms_norm(TorchOps(), x, gain, x.shape[-1], eps)


# -- ONNX ----------------------------------------------------------------------------------------------------------


def onnx_enter(graph: Graph, x: str, sizes: Sizes, model: Model) -> str:
    """z [n, W] of x [n, H]; x itself without a passage."""
    z = x
    if sizes.latent:
        z = graph.matmul(x, graph.weight("latent_down", (sizes.hidden, sizes.latent), 0), sizes.projection_flops)
    return _onnx_norm(graph, z, "entry_norm", sizes.expert_hidden, model.entry_norm_eps)


def onnx_leave(graph: Graph, s: str, sizes: Sizes, model: Model) -> str:
    """[n, H] of s [n, W]; s itself without a passage."""
    normed = _onnx_norm(graph, s, "exit_norm", sizes.expert_hidden, model.exit_norm_eps)
    if not sizes.latent:
        return normed
    return graph.matmul(normed, graph.weight("latent_up", (sizes.latent, sizes.hidden), 0), sizes.projection_flops)


def _onnx_norm(graph: Graph, x: str, name: str, width: int, eps: float) -> str:
    return rms_norm(graph.in_dtype(), x, graph.weight(name, (width,)), width, eps) if eps else x

"""`npu-fused`: the MoE operators of torch_npu: gating, init routing, grouped matmul, SwiGLU, finalize routing. `npu-graph`: the
same captured as NPU graphs. Never run by this project: it needs an Ascend device.

Counts stay on the device and every shape is known beforehand. What each operator does is documented by Ascend's op-plugin
(docs/zh/custom_APIs/torch_npu); the names and arguments used here are compared with the published torch-npu wheel by
tests/workloads/test_npu_wheel.py. Each operator is used where it does just what the model asks for, else torch's own are:

- gating: softmax or sigmoid scores, a selection bias, groups by their highest or their two highest scores. Softmax scores it
  does not normalise, sigmoid scores it always does.
- init routing sorts rows by expert and counts. Ids must be below its number of experts, so the padding of an EP share becomes
  one expert more, outside of the active range; the rows behind the active ones are undefined and nothing reads them.
- grouped matmul: its documentation asks for counts that add up to all rows, which they do not where rows are padded;
  vllm-ascend calls it so too. The check decides.
- finalize routing leaves out what has the place -1, if its rows come in the layout of a capacity (here: k times R).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from workloads.case import Case
from workloads.implementations.graph import captured, too_many
from workloads.implementations.registering import torch_way
from workloads.models import Model
from workloads.problem import Problem
from workloads.registry import Built, TargetFacts, implementation
from workloads.router import build_torch_router
from workloads.rules import EPSILON, Select, Terms

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["OPERATORS", "npu_experts", "npu_select", "selecting"]

OPERATORS = (
    "npu_moe_gating_top_k",
    "npu_moe_init_routing_v2",
    "npu_grouped_matmul",
    "npu_swiglu",
    "npu_clipped_swiglu",
    "npu_moe_finalize_routing",
)

SOFTMAX, SIGMOID = 0, 1
HIGHEST, TWO_HIGHEST = 0, 1
GATINGS = {
    "softmax_topk": (SOFTMAX, HIGHEST),
    "softmax_bias_topk": (SOFTMAX, HIGHEST),
    "topk_softmax": (SOFTMAX, HIGHEST),
    "softmax_group_max_topk": (SOFTMAX, HIGHEST),
    "softmax_group_topk": (SOFTMAX, TWO_HIGHEST),
    "sigmoid_topk": (SIGMOID, HIGHEST),
    "sigmoid_bias_topk": (SIGMOID, HIGHEST),
    "sigmoid_bias_group_topk": (SIGMOID, TWO_HIGHEST),
}
"""Routing rule → the gating operator's `norm_type` and `group_select_mode`."""
MOST_EXPERTS, ALIGNED = 2048, 32
"""Experts that gating takes, each group's number rounded up to a multiple of 32."""

CLIPPED: dict[str, Callable[[Model], dict[str, float]]] = {
    "clamped_silu_swiglu": lambda about: {"alpha": 1.0, "limit": about.activation_limit, "bias": 0.0},
    "swiglu_oai": lambda about: {"alpha": about.activation_alpha, "limit": about.activation_limit, "bias": 1.0},
}
"""Our activations that the clipped SwiGLU computes: clamped gate * sigmoid(alpha gate) * (clamped up + bias)."""


def _cannot(case: Case, facts: TargetFacts) -> str | None:
    if case.dtype.startswith("w-"):
        return "it multiplies unquantised weights only"
    if facts.device_type != "npu":
        return f"{facts.device_type} has no MoE operators of torch_npu: npu has"
    return None if "npu_moe" in facts.features else f"this torch_npu lacks some of {', '.join(OPERATORS)}: upgrade it"


# -- router --------------------------------------------------------------------------------------------------------


def selecting(about: Model) -> Select | None:
    """`npu_select` where the gating operator does just what the model's rule says, else None."""
    gating, groups = GATINGS.get(about.router or ""), about.num_expert_groups
    if gating is None or (gating[0] == SIGMOID and not about.norm_topk_prob):
        return None
    size = (about.num_experts + about.zero_experts) // groups
    fits = -(-size // ALIGNED) * ALIGNED * groups <= MOST_EXPERTS and (groups == 1 or size > 2)
    return npu_select if fits else None


def npu_select(ops: Any, logits: Tensor, terms: Terms, about: Model) -> tuple[Tensor, Tensor]:
    """(ids int64, weights) [T, k] of fp32 logits [T, E], by one operator; softmax scores are normalised after it."""
    import torch

    norm_type, group_select_mode = GATINGS[about.router or ""]
    top_of_logits = about.router == "topk_softmax"  # a softmax over the selected: shares of the softmax over all
    normalised = norm_type == SOFTMAX and (about.norm_topk_prob or top_of_logits)
    scaling = 1.0 if top_of_logits else about.routed_scaling_factor or 1.0
    weights, chosen, _ = torch.ops.npu.npu_moe_gating_top_k(
        logits,
        about.experts_per_token,
        bias=terms.bias,
        k_group=about.topk_groups,
        group_count=about.num_expert_groups,
        group_select_mode=group_select_mode,
        norm_type=norm_type,
        routed_scaling_factor=1.0 if normalised else scaling,
        eps=EPSILON,
    )
    ids = chosen.long()
    if normalised:
        weights = ops.div(weights, ops.add(ops.total(weights), EPSILON))
        weights = weights if scaling == 1.0 else ops.mul(weights, scaling)
    return ids, weights if terms.scale is None else ops.mul(weights, ops.of_ids(terms.scale, ids))


@implementation("router", "torch", "npu-fused", division="closed", cannot=_cannot)
def build_router(problem: Problem, on: Any) -> Built:
    """The router with the gating operator."""
    return build_torch_router(problem, on, selecting(problem.model))


# -- experts -------------------------------------------------------------------------------------------------------


def npu_experts(x: Tensor, ids: Tensor, shares: Tensor, weights: dict[str, Tensor], act: Any) -> Tensor:
    """[R, W] from rows [R, W], local ids [R, k] (padded with -1 where they are int32) and weights [R, k]."""
    import torch

    experts, padded = weights["experts_in"].shape[0], ids.dtype == torch.int32
    gathered, places, counts, _ = torch.ops.npu.npu_moe_init_routing_v2(
        x,
        ids.masked_fill(ids < 0, experts) if padded else ids.int(),
        active_num=ids.numel(),
        expert_num=experts + padded,
        expert_tokens_num_type=1,
        expert_tokens_num_flag=True,
        quant_mode=-1,
        active_expert_range=[0, experts],
        row_idx_type=0,
    )
    expert = _expert_of_rows(counts, len(gathered)) if "experts_in_bias" in weights else None
    hidden = _biased(_grouped(gathered, weights["experts_in"], counts), weights, "experts_in_bias", expert)
    done = _grouped(_activated(hidden, act), weights["experts_out"], counts)
    done = act.finish(_biased(done, weights, "experts_out_bias", expert), weights)
    return _finalized(done, places, shares, padded)


def _grouped(rows: Tensor, stack: Tensor, counts: Tensor) -> Tensor:
    """Rows [A, in], sorted by expert, times each expert's matrix (out, in): [A, out]. `counts` [E] int64 lie on the device."""
    import torch

    product: Tensor = torch.ops.npu.npu_grouped_matmul(
        [rows],
        [stack.transpose(1, 2)],
        group_list=counts,
        split_item=2,
        group_type=0,
        group_list_type=1 if len(counts) > 1 else 0,  # counts must be two at least; a single one is its own running sum
    )[0]
    return product


def _expert_of_rows(counts: Tensor, rows: int) -> Tensor:
    """The expert [A] of each sorted row; of the undefined ones behind, the last."""
    import torch

    positions = torch.arange(rows, device=counts.device)
    return torch.searchsorted(counts.cumsum(0), positions, right=True).clamp(max=len(counts) - 1)


def _biased(rows: Tensor, weights: dict[str, Tensor], name: str, expert: Tensor | None) -> Tensor:
    return rows if expert is None else rows + weights[name][expert]


def _activated(hidden: Tensor, act: Any) -> Tensor:
    """The activation of stacked gate and up rows [A, 2I]: an operator's where there is one for it."""
    import torch

    about: Model = act.model
    if about.glu and about.activation == "silu_swiglu":
        return torch.ops.npu.npu_swiglu(hidden, dim=-1)
    if about.glu and about.activation in CLIPPED:
        return torch.ops.npu.npu_clipped_swiglu(hidden, dim=-1, interleaved=False, **CLIPPED[about.activation](about))
    return act(*act.halves(hidden))


def _finalized(done: Tensor, places: Tensor, shares: Tensor, padded: bool) -> Tensor:
    """[R, W]: each row's expert outputs, weighted and summed. `places` [R k]: each assignment's row of `done`, -1: none."""
    import torch

    rows, k = shares.shape
    return torch.ops.npu.npu_moe_finalize_routing(
        done.view(k, rows, -1) if padded else done,
        None,  # skip1, added to the sum
        None,  # skip2
        None,  # bias of each expert
        shares.to(done.dtype),
        places,
        None,  # experts of the rows, which the bias would need
        drop_pad_mode=3 if padded else 2,
    )


torch_way("npu-fused", npu_experts, selecting=selecting, cannot=_cannot)
torch_way("npu-graph", npu_experts, around=captured, selecting=selecting, unsuited=too_many, cannot=_cannot)

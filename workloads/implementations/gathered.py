"""`gathered`: for a few tokens, each assignment by itself: no sorting, no counts.

On a CPU the assignments are walked one by one, each with its expert's weights where they lie. On a device the weights of
every assignment are gathered and multiplied as one batch, so that nothing comes to the host; that copies them first: two
more passes over k experts a token, which pays only where launching is dearer than reading.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workloads.case import Case
from workloads.experts import expert_of, ffn_torch
from workloads.models import model
from workloads.moe_layer import build_torch_layer
from workloads.problem import Problem
from workloads.registry import Built, TargetFacts, implementation

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["build", "torch_gathered", "torch_walked"]

FEW_ASSIGNMENTS = 16


def _unsuited(case: Case, facts: TargetFacts) -> str | None:
    """An EP share has about as many assignments as its own tokens make."""
    if case.tokens * (model(case.model).experts_per_token or 1) > FEW_ASSIGNMENTS:
        return f"reads an expert once for every assignment: made for at most {FEW_ASSIGNMENTS} of them"
    return None


@implementation("moe-layer", "torch", "gathered", division="closed", unsuited=_unsuited)
def build(problem: Problem, on: Any) -> Built:
    """One FFN an assignment (CPU), or batched products on gathered weights (devices)."""
    return build_torch_layer(problem, on, torch_walked if on.device.type == "cpu" else torch_gathered)


def torch_walked(x: Tensor, ids: Tensor, shares: Tensor, weights: dict[str, Tensor], act: Any) -> Tensor:
    """[R, H] from rows [R, H], local ids [R, k] (-1: none) and weights [R, k]."""
    rows = x.new_zeros(x.shape)
    factors = shares.to(x.dtype)
    for line, experts in enumerate(ids.tolist()):
        for column, expert in enumerate(experts):
            if expert >= 0:
                done = ffn_torch(x[line : line + 1], *expert_of(weights, expert), act)
                rows[line : line + 1].addcmul_(done, factors[line, column])
    return rows


def torch_gathered(x: Tensor, ids: Tensor, shares: Tensor, weights: dict[str, Tensor], act: Any) -> Tensor:
    """The same, without knowing on the host which experts they are; padding computes expert 0 and is left out."""
    flat = ids.reshape(-1).long()
    experts = flat.clamp(min=0)
    lines = x.repeat_interleave(ids.shape[1], dim=0).unsqueeze(2)
    hidden = weights["experts_in"].index_select(0, experts).bmm(lines).squeeze(2)
    if "experts_in_bias" in weights:
        hidden = hidden + weights["experts_in_bias"][experts]
    active = act(*hidden.chunk(2, dim=-1)).unsqueeze(2)
    done = weights["experts_out"].index_select(0, experts).bmm(active).squeeze(2)
    if "experts_out_bias" in weights:
        done = done + weights["experts_out_bias"][experts]
    factors = shares.reshape(-1).masked_fill(flat < 0, 0.0).to(done.dtype).unsqueeze(1)
    return (done * factors).view(*ids.shape, -1).sum(dim=1)

"""`grouped`: all experts' matmuls as one `torch.nn.functional.grouped_mm` call, where the build has it.

Counts stay on the device: nothing but the padded tail of an EP share's rows comes to the host. Where the experts have
biases, each row adds its expert's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workloads.case import Case
from workloads.experts import combine
from workloads.implementations.registering import torch_way
from workloads.registry import TargetFacts

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["lacks_grouped_mm", "torch_grouped", "torch_static"]


def lacks_grouped_mm(case: Case, facts: TargetFacts) -> str | None:
    """Why implementations on grouped_mm are left out here; None if they are not."""
    if "grouped_mm" not in facts.features:
        return "this torch has no grouped_mm for this device: torch 2.10 or newer has"
    return None


def torch_grouped(x: Tensor, ids: Tensor, shares: Tensor, weights: dict[str, Tensor], act: Any) -> Tensor:
    """[R, W] from rows [R, W], local ids [R, k] (-1: none) and weights [R, k]."""
    import torch
    from torch.nn.functional import grouped_mm

    experts = weights["experts_in"].shape[0]
    flat = ids.reshape(-1)
    order = flat.argsort()
    counts = (flat + 1).bincount(minlength=experts + 1)
    if ids.dtype == torch.int32:  # only an EP share's inputs are padded, and they come as int32
        order = order[int(counts[0]) :]
    ends = counts[1:].cumsum(0).to(torch.int32)
    gathered = x.index_select(0, order // ids.shape[1])
    expert = flat.index_select(0, order).long() if "experts_in_bias" in weights else None
    hidden = grouped_mm(gathered, weights["experts_in"].transpose(1, 2), offs=ends)
    if expert is not None:
        hidden = hidden + weights["experts_in_bias"][expert]
    gate, up = act.halves(hidden)
    done = grouped_mm(act(gate, up), weights["experts_out"].transpose(1, 2), offs=ends)
    if expert is not None:
        done = done + weights["experts_out_bias"][expert]
    return combine(act.finish(done, weights), order, shares, ids.shape)


def torch_static(x: Tensor, ids: Tensor, shares: Tensor, weights: dict[str, Tensor], act: Any) -> Tensor:
    """The same with nothing brought to the host and every shape known beforehand, for compilers and captured graphs.

    Padding sorts behind all experts; `grouped_mm` leaves the rows behind the last end alone, and they count as 0.
    """
    import torch
    from torch.nn.functional import grouped_mm

    experts = weights["experts_in"].shape[0]
    flat = ids.reshape(-1)
    bucket, order = flat.masked_fill(flat < 0, experts).sort()
    firsts = torch.arange(1, experts + 1, device=ids.device, dtype=bucket.dtype)
    ends = torch.searchsorted(bucket, firsts).to(torch.int32)
    gathered = x.index_select(0, order // ids.shape[1])
    expert = bucket.clamp(max=experts - 1).long() if "experts_in_bias" in weights else None
    hidden = grouped_mm(gathered, weights["experts_in"].transpose(1, 2), offs=ends)
    if expert is not None:
        hidden = hidden + weights["experts_in_bias"][expert]
    gate, up = act.halves(hidden)
    done = grouped_mm(act(gate, up), weights["experts_out"].transpose(1, 2), offs=ends)
    if expert is not None:
        done = done + weights["experts_out_bias"][expert]
    done = act.finish(done, weights).masked_fill((bucket == experts).unsqueeze(1), 0.0)
    return combine(done, order, shares, ids.shape)


torch_way("grouped", torch_grouped, unsuited=lacks_grouped_mm)

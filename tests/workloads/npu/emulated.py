"""Stand-ins on the CPU for the Ascend operators that `npu-fused` calls: they test OUR calls, not Ascend's operators.

The schemas are torch-npu's (schemas.txt), so torch itself refuses an argument that is not among them. What each one computes,
and what it demands of its arguments, follows its page of op-plugin's documentation (docs/zh/custom_APIs/torch_npu/
torch_npu-NAME.md, 2026-08, with an equivalent computation in NumPy on most pages). What a page leaves undefined is NaN here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["emulated", "recorded_schemas"]


def recorded_schemas() -> dict[str, str]:
    """Operator → schema, as recorded."""
    lines = Path(__file__).with_name("schemas.txt").read_text().splitlines()
    return {line.partition("(")[0]: line for line in lines if not line.startswith("#")}


@contextmanager
def emulated(schemas: dict[str, str]) -> Iterator[None]:
    """torch.ops.npu with these operators, until the end of the block."""
    with torch.library._scoped_library("npu", "FRAGMENT") as library:
        for name, schema in schemas.items():
            library.define(schema)
            library.impl(name, COMPUTED[name], "CompositeExplicitAutograd")
        yield


def gating_top_k(
    x: Tensor,
    k: int,
    *,
    bias: Tensor | None = None,
    k_group: int = 1,
    group_count: int = 1,
    group_select_mode: int = 0,
    norm_type: int = 0,
    routed_scaling_factor: float = 1.0,
    eps: float = 1e-20,
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, groups, top-k; only sigmoid scores are normalised. `x` and `bias` have one dtype."""
    demand(bias is None or bias.dtype == x.dtype, "bias and x have one dtype")
    scores = (x.softmax(-1) if norm_type == 0 else x.sigmoid()).float()
    ranked = scores if bias is None else scores + bias
    if group_count > 1:
        demand(x.shape[1] // group_count > 2, "more than two experts a group")
        groups = ranked.unflatten(1, (group_count, -1))
        best = groups.amax(-1) if group_select_mode == 0 else groups.topk(2).values.sum(-1)
        kept = torch.zeros_like(best, dtype=torch.bool).scatter_(1, best.topk(k_group).indices, True)
        ranked = groups.masked_fill(~kept.unsqueeze(-1), float("-inf")).flatten(1)
    ids = ranked.topk(k).indices
    weights = scores.gather(1, ids)
    if norm_type == 1:
        weights = weights / (weights.sum(-1, keepdim=True) + eps)
    return (weights * routed_scaling_factor).to(x.dtype), ids.int(), torch.empty(0)


def init_routing_v2(
    x: Tensor,
    expert_idx: Tensor,
    *,
    active_num: int = -1,
    expert_num: int = -1,
    expert_tokens_num_type: int = 0,
    expert_tokens_num_flag: bool = False,
    quant_mode: int = -1,
    active_expert_range: tuple[int, int] = (),  # type: ignore[assignment]
    row_idx_type: int = 0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows sorted by expert, the place of each assignment among them (-1: outside of the active range), counts."""
    demand(expert_idx.dtype == torch.int32, "expert_idx is int32")
    demand(bool((expert_idx >= 0).all() and (expert_idx < expert_num).all()), "ids are below expert_num")
    demand((quant_mode, row_idx_type) == (-1, 0), "the modes that are emulated")
    demand(expert_tokens_num_flag and expert_tokens_num_type == 1, "counts are asked for")
    demand(active_num == expert_idx.numel(), "active_num is rows * k, as the older pages ask")
    first, end = active_expert_range
    flat = expert_idx.flatten()
    active = (flat >= first) & (flat < end)
    order = torch.where(active, flat, expert_num).argsort(stable=True)[: int(active.sum())]
    expanded = undefined(expert_idx.numel(), x.shape[1], x.dtype)
    expanded[: len(order)] = x[order // expert_idx.shape[1]]
    places = torch.full_like(flat, -1)
    places[order] = torch.arange(len(order), dtype=torch.int32)
    counts = (flat[active] - first).bincount(minlength=end - first)
    return expanded, places, counts, torch.empty(0)


def grouped_matmul(
    x: list[Tensor],
    weight: list[Tensor],
    *,
    group_list: Tensor,
    split_item: int = 0,
    group_type: int | None = None,
    group_list_type: int = 0,
) -> list[Tensor]:
    """Stretches of x's rows, each times its matrix (in, out); one tensor each."""
    demand((len(x), len(weight), group_type) == (1, 1, 0) and split_item in (2, 3), "single x, weight and y")
    demand(group_list.dtype == torch.int64 and len(group_list) == len(weight[0]), "a count a matrix, int64")
    demand(group_list_type == 0 or len(group_list) > 1, "counts are two at least")
    counts = group_list if group_list_type == 1 else group_list.diff(prepend=group_list.new_zeros(1))
    y = undefined(len(x[0]), weight[0].shape[2], x[0].dtype)
    start = 0
    for matrix, count in zip(weight[0], counts.tolist(), strict=True):
        y[start : start + count] = x[0][start : start + count] @ matrix
        start += count
    return [y]


def swiglu(input: Tensor, dim: int = -1) -> Tensor:
    a, b = input.chunk(2, dim)
    return torch.nn.functional.silu(a) * b


def clipped_swiglu(
    x: Tensor,
    *,
    dim: int = -1,
    alpha: float = 1.702,
    limit: float = 7.0,
    bias: float = 1.0,
    interleaved: bool = True,
) -> Tensor:
    demand(x.is_contiguous(), "x is contiguous")
    a, b = (x[..., 0::2], x[..., 1::2]) if interleaved else x.chunk(2, dim)
    a = a.clamp(max=limit)
    return a * (alpha * a).sigmoid() * (b.clamp(-limit, limit) + bias)


def finalize_routing(
    expanded_permuted_rows: Tensor,
    skip1: Tensor | None,
    skip2: Tensor | None,
    bias: Tensor | None,
    scales: Tensor | None,
    expanded_src_to_dst_row: Tensor,
    export_for_source_row: Tensor | None,
    drop_pad_mode: int = 0,
) -> Tensor:
    """Weighted sums of each row's results; places by row (modes 2 and 3), -1 only with a capacity (mode 3)."""
    demand(drop_pad_mode in (2, 3) and skip1 is None and skip2 is None and bias is None, "what is emulated")
    assert scales is not None
    places, dtype = expanded_src_to_dst_row, expanded_permuted_rows.dtype
    demand(scales.dtype == dtype and places.dtype == torch.int32, "scales in the rows' dtype, places int32")
    demand(expanded_permuted_rows.dim() == drop_pad_mode // 3 + 2, "[R k, W], or [E, capacity, W] with a capacity")
    demand(drop_pad_mode == 3 or bool((places >= 0).all()), "-1 needs a capacity")
    rows = expanded_permuted_rows.reshape(-1, expanded_permuted_rows.shape[-1])
    found = rows[places.clamp(min=0)].masked_fill((places < 0).unsqueeze(1), 0.0)
    return (scales.unsqueeze(-1) * found.view(*scales.shape, -1)).sum(1)


COMPUTED = {
    "npu_moe_gating_top_k": gating_top_k,
    "npu_moe_init_routing_v2": init_routing_v2,
    "npu_grouped_matmul": grouped_matmul,
    "npu_swiglu": swiglu,
    "npu_clipped_swiglu": clipped_swiglu,
    "npu_moe_finalize_routing": finalize_routing,
}


def undefined(rows: int, width: int, dtype: torch.dtype) -> Tensor:
    """What nothing may read."""
    return torch.full((rows, width), float("nan"), dtype=dtype)


def demand(met: bool, what: str) -> None:
    if not met:
        raise ValueError(f"against the operator's documentation: {what}")

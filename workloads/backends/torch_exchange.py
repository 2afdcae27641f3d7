"""The collectives of torch.distributed that expert parallelism needs, on rows [n, W] of any dtype.

Shapes: `x` is this rank's; counts are rows. `group` is a process group. Complete for the current stream on return.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch.distributed as dist

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup

__all__ = ["all_gather", "all_to_all", "reduce_scatter"]

# torch 2.13 renames two of them and warns of the old names.
_GATHER = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_REDUCE = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


def all_to_all(x: Tensor, sends: Sequence[int], receives: Sequence[int], group: ProcessGroup) -> Tensor:
    """The first `sends[0]` rows of x go to rank 0, and so on; [sum(receives), W] by source come back."""
    received = x.new_empty((sum(receives), *x.shape[1:]))
    dist.all_to_all_single(received, x, list(receives), list(sends), group=group)
    return received


def all_gather(x: Tensor, group: ProcessGroup) -> Tensor:
    """[n * rows, W]: all ranks' x, equally long, by rank."""
    whole = x.new_empty((x.shape[0] * group.size(), *x.shape[1:]))
    _GATHER(whole, x, group=group)
    return whole


def reduce_scatter(x: Tensor, group: ProcessGroup) -> Tensor:
    """[rows / n, W]: this rank's part of the sum of all ranks' x."""
    part = x.new_empty((x.shape[0] // group.size(), *x.shape[1:]))
    _REDUCE(part, x, group=group)
    return part

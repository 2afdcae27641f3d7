"""The operations on torch tensors, in the dtype they come in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

__all__ = ["TorchOps"]


class TorchOps:
    """Torch's own operators, so that any device's kernels are used."""

    def add(self, a: Tensor, b: Tensor | float) -> Tensor:
        return a + b

    def mul(self, a: Tensor, b: Tensor | float) -> Tensor:
        return a * b

    def div(self, a: Tensor, b: Tensor) -> Tensor:
        return a / b

    def sqrt(self, a: Tensor) -> Tensor:
        return a.sqrt()

    def tanh(self, a: Tensor) -> Tensor:
        return a.tanh()

    def sigmoid(self, a: Tensor) -> Tensor:
        return a.sigmoid()

    def silu(self, a: Tensor) -> Tensor:
        return functional.silu(a)

    def gelu_tanh(self, a: Tensor) -> Tensor:
        return functional.gelu(a, approximate="tanh")

    def relu(self, a: Tensor) -> Tensor:
        return a.relu()

    def softplus(self, a: Tensor) -> Tensor:
        return functional.softplus(a)

    def softmax(self, a: Tensor) -> Tensor:
        return a.softmax(dim=-1)

    def at_most(self, a: Tensor, limit: float) -> Tensor:
        return a.clamp(max=limit)

    def clamp(self, a: Tensor, low: float, high: float) -> Tensor:
        return a.clamp(low, high)

    def top(self, a: Tensor, k: int) -> Tensor:
        return a.topk(k, dim=-1, sorted=False).indices

    def top_values(self, a: Tensor, k: int) -> Tensor:
        return a.topk(k, dim=-1, sorted=False).values

    def take(self, a: Tensor, ids: Tensor) -> Tensor:
        return a.gather(-1, ids)

    def total(self, a: Tensor) -> Tensor:
        return a.sum(dim=-1, keepdim=True)

    def largest(self, a: Tensor) -> Tensor:
        return a.amax(dim=-1)

    def sub(self, a: Tensor, b: Tensor) -> Tensor:
        return a - b

    def of_ids(self, a: Tensor, ids: Tensor) -> Tensor:
        return a[ids]

    def beside(self, *parts: Tensor) -> Tensor:
        return torch.cat(parts, dim=-1)

    def absolute(self, a: Tensor) -> Tensor:
        return a.abs()

    def maximum(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.maximum(a, b)

    def masked_beyond(self, a: Tensor, measure: Tensor, limit: float) -> Tensor:
        return a.masked_fill(measure > limit, float("-inf"))

    def without(self, a: Tensor, ids: Tensor) -> Tensor:
        return a.scatter(-1, ids, float("-inf"))

    def from_groups(self, ids: Tensor, size: int, groups: int) -> Tensor:
        firsts = torch.arange(groups, device=ids.device).view(1, -1, 1) * size
        return (ids + firsts).flatten(1)

    def split_groups(self, a: Tensor, groups: int) -> Tensor:
        return a.unflatten(-1, (groups, -1))

    def join_groups(self, a: Tensor, experts: int) -> Tensor:
        return a.reshape(a.shape[0], experts)

    def only_groups(self, a: Tensor, ids: Tensor, groups: int) -> Tensor:
        dropped = torch.ones(a.shape[0], groups, dtype=torch.bool, device=a.device).scatter_(1, ids, False)
        return a.masked_fill(dropped.unsqueeze(-1), float("-inf"))

    def in_fp32(self, function: Callable[..., Any], *values: Tensor) -> Tensor:
        return function(self, *(value.float() for value in values)).to(values[0].dtype)

"""Weight and activation formats on torch tensors: decoding, rounding, and stacks whose matrices multiply by themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workloads.formats import E4M3_LARGEST, ActivationFormat, Precision, WeightFormat, precision_of

__all__ = ["CODES", "SCALES", "Formatted", "decode", "rounded", "with_stacks"]

CODES, SCALES = ".codes", ".scales"
"""A quantised stack NAME is resident as NAME.codes [n, rows, stored bytes] and NAME.scales [n, row blocks, K blocks]."""

Product = Callable[[Tensor], Tensor]
"""x [m, K] → x W^T [m, rows]."""


@dataclass(frozen=True)
class Formatted:
    """A stack in place of a tensor [n, rows, K]: its matrices are functions of what they multiply."""

    shape: tuple[int, int, int]
    matrices: list[Product]

    def __getitem__(self, matrix: int) -> Product:
        return self.matrices[matrix]


@dataclass(frozen=True)
class _Around:
    """What implementations are built on, with formatted stacks among its weights."""

    on: Any
    copies: list[dict[str, Any]]

    def weights(self, slot: int) -> dict[str, Any]:
        return self.copies[slot % len(self.copies)]

    def inputs(self, slot: int) -> dict[str, Tensor]:
        inputs: dict[str, Tensor] = self.on.inputs(slot)
        return inputs


def with_stacks(on: Any, product: Callable[[Tensor, Tensor, Precision], Product]) -> Any:
    """`on` with every quantised stack as a `Formatted` one; `product(codes, scales, precision)` makes a matrix's function."""
    precision = precision_of(on.problem.case.dtype)
    return _Around(on, [_formatted(on.weights(copy), product, precision) for copy in range(on.copies)])


def _formatted(weights: dict[str, Tensor], product: Any, precision: Precision) -> dict[str, Any]:
    kept: dict[str, Any] = {name: tensor for name, tensor in weights.items() if not name.endswith((CODES, SCALES))}
    for name in [name.removesuffix(CODES) for name in weights if name.endswith(CODES)]:
        codes, scales = weights[name + CODES], weights[name + SCALES]
        products = [product(one, scale, precision) for one, scale in zip(codes, scales, strict=True)]
        assert precision.weights is not None
        columns = codes.shape[2] * 8 // precision.weights.bits
        kept[name] = Formatted((codes.shape[0], codes.shape[1], columns), products)
    return kept


def decode(codes: Tensor, scales: Tensor, form: WeightFormat, dtype: torch.dtype) -> Tensor:
    """One stored matrix as [rows, K] of `dtype`: values times scales in fp32, rounded once."""
    values, (tall, wide) = _values(codes, form), form.block
    if form.scale_bytes == 1:
        scales = (scales.to(torch.int32) << 23).view(torch.float32)  # a biased exponent is what float32 holds too
    blocks = values.view(values.shape[0] // tall, tall, -1, wide)
    return (blocks * scales.float()[:, None, :, None]).to(dtype).view(values.shape)


def _values(codes: Tensor, form: WeightFormat) -> Tensor:
    """The values of stored codes, float32 [rows, K]."""
    if form.code == "e4m3":
        return codes.view(torch.float8_e4m3fn).float()
    if form.bits == 4:
        codes = torch.stack([codes & 15, codes >> 4], dim=-1).flatten(1)
    if form.code == "e2m1":
        table = torch.from_numpy(form.values).to(codes.device)
        return table.index_select(0, codes.reshape(-1).int()).view(codes.shape)
    return codes.float() - float(1 << (form.bits - 1))


def rounded(x: Tensor, form: ActivationFormat | None) -> Tensor:
    """x [m, K] as the activation format holds it, decoded to x's own dtype; x itself where nothing is rounded."""
    if form is None or not form.group:
        return x
    groups = x.float().unflatten(-1, (-1, form.group))
    amax = groups.abs().amax(dim=-1, keepdim=True)
    # A tensor as divisor: by a plain number some devices multiply with its inverse, which rounds differently.
    scales = torch.where(amax > 0, amax / torch.full_like(amax, E4M3_LARGEST), torch.ones_like(amax))
    codes = (groups / scales).clamp(-E4M3_LARGEST, E4M3_LARGEST).to(torch.float8_e4m3fn)
    return (codes.float() * scales).to(x.dtype).flatten(-2)

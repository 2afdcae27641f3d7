"""torch's switches of a process. A worker owns its process; pytest does not, and gets them back as they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["REDUCTIONS", "remembered"]

REDUCTIONS = tuple(
    name
    for name in (
        "allow_fp16_reduced_precision_reduction",
        "allow_bf16_reduced_precision_reduction",
        "allow_fp16_accumulation",  # torch 2.7
    )
    if hasattr(torch.backends.cuda.matmul, name)
)
"""Switches of `torch.backends.cuda.matmul`, off while we measure."""


def remembered() -> Callable[[], None]:
    """Remembers the switches that opening a target and preparing a case change; what is returned puts them back."""
    matmul: Any = torch.backends.cuda.matmul
    npu: Any = getattr(getattr(torch, "npu", None), "matmul", None)
    grad, threads, precision = torch.is_grad_enabled(), torch.get_num_threads(), torch.get_float32_matmul_precision()
    reductions = {name: getattr(matmul, name) for name in REDUCTIONS}
    flushes, hf32 = _flushes_denormals(), getattr(npu, "allow_hf32", None)

    def put_back() -> None:
        torch.set_grad_enabled(grad)
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
        torch.set_flush_denormal(flushes)
        for name, value in reductions.items():
            setattr(matmul, name, value)
        if hf32 is not None:
            npu.allow_hf32 = hf32

    return put_back


def _flushes_denormals() -> bool:
    """torch has a switch for it and no way to read it."""
    smallest = torch.tensor([1e-310], dtype=torch.float64)
    return bool((smallest * 1.0 == 0).item())

"""The canary of an accelerator that torch drives: torch's own, since the host cannot stand in for it; its name says whose."""

from __future__ import annotations

from collections.abc import Callable

import torch

from harness.canary import Kind

__all__ = ["DeviceCanary"]

COLD = (16, 4096, 4096)
"""[M, N, K] of one call of `cold`: 32 MiB of bf16 weights."""
HOT = (2048, 2048, 2048)
RING_BYTES = 1 << 30
LEAST_RING = 4
"""The ring of `cold` is this many times the device's cache, or a GiB where that is more."""


class DeviceCanary:
    """bf16 products on a torch device: few rows with weights that are in no cache, or one large square again and again."""

    def __init__(
        self, device: torch.device, kind: Kind, cache_bytes: int, synchronize: Callable[[], None] | None
    ) -> None:
        rows, columns, inner = HOT if kind == "hot" else COLD
        size = 2 * columns * inner
        count = 1 if kind == "hot" else -(-max(RING_BYTES, LEAST_RING * cache_bytes) // size)
        block = torch.randn(columns, inner, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
        self._weights = [block.to(device, copy=True) for _ in range(count)]
        self._rows = torch.ones(rows, inner, dtype=torch.bfloat16, device=device)
        self._out = torch.empty(rows, columns, dtype=torch.bfloat16, device=device)
        self._calls = 0
        self.synchronize = synchronize
        self.name = f"{kind} bf16 {rows}x{inner}x{columns}, torch {torch.__version__} on {device.type}"

    def submit(self, slot: int) -> None:
        """One call on the next weights of the ring."""
        torch.mm(self._rows, self._weights[self._calls % len(self._weights)].t(), out=self._out)
        self._calls += 1

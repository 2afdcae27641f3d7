"""The canary: a small fixed piece of work that takes turns with a case, so that runs of different hours can be compared.

What the machine does to both goes out of their ratio (design, section 5). There are two, since memory and arithmetic are
disturbed by different neighbours: `hot` multiplies small matrices again and again; `cold` does the same and reads as long what
is in no cache, as fast as one core can, so that what slows memory by a tenth slows it about as much as a layer at decode sizes.
(Few rows times weights from memory, which it was, was slowed half as much as the layers beside it.)
A sample of the canary is as long as one of the case, since a neighbour on the same core costs a long call its share of the time
and most short ones nothing.

Its memory has the same place within a page in every process: products elsewhere in it took a tenth longer.

A canary must not be part of what is tested, or a slower build slows both: on the host it is NumPy's, in products so small
(at most 2^18 multiplications) that its BLAS keeps to one thread, whatever threads the target has. An accelerator has nobody
else to ask: there it is the target's own (`Target.canary`), and its name holds the runtime's version.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from harness.targets import host

__all__ = ["Canary", "HostCanary", "Kind", "canary_of", "kind_of"]

Kind = Literal["cold", "hot"]
STREAMED_BYTES = 16 << 20
"""Compulsory bytes of a call from which a core's own caches do not hold them."""
COMPUTE_BOUND = 128.0
"""Useful FLOPs for each of those bytes from which a case waits for arithmetic all the same: between what a CPU core with matrix
units (70) and an accelerator (300) can do while they read a byte."""
SIDE, PRODUCTS = 64, 32
"""Of the small matrices: 2^18 multiplications each, 0.5 MiB."""
BLOCK_BYTES = 4 << 20
"""What a call of `cold` reads: where it was made, it takes a core about as long as the products."""
LEAST_RING_BYTES, MOST_RING_BYTES = 256 << 20, 1 << 30
"""Memory of `cold` until a block is read again: twice the last-level cache, within these bounds."""


class Canary(Protocol):
    """What is timed beside a case; like a prepared case it has `submit` and `synchronize`."""

    synchronize: Callable[[], None] | None

    @property
    def name(self) -> str:
        """What it does and what computes it: equal names are equal work."""

    def submit(self, slot: int) -> Any:
        """Starts one call."""


def kind_of(flops: int, bytes_: int) -> Kind:
    """Which canary resembles work of that cost."""
    return "cold" if bytes_ >= STREAMED_BYTES and flops < COMPUTE_BOUND * bytes_ else "hot"


def canary_of(target: Any, kind: Kind) -> Canary | None:
    """The canary of a target; None where it has none of its own and does not run on the host's CPU."""
    own = getattr(target, "canary", None)
    if own is not None:
        return own(kind)
    return HostCanary(kind) if target.facts.device_type == "cpu" else None


@dataclass
class HostCanary:
    """NumPy on one thread of the host's CPU."""

    kind: Kind
    synchronize: Callable[[], None] | None = None
    _calls: int = 0

    def __post_init__(self) -> None:
        made = np.random.Generator(np.random.Philox(0))
        self._weights = host.placed(made.standard_normal((PRODUCTS, SIDE, SIDE), dtype=np.float32))
        self._rows = host.placed(made.standard_normal((SIDE, SIDE), dtype=np.float32))
        self._out = host.placed(np.matmul(self._rows, self._weights))
        block = made.standard_normal(BLOCK_BYTES // 4, dtype=np.float32)
        self._ring = host.empty((_ring_bytes() // BLOCK_BYTES if self.kind == "cold" else 0, block.size), block.dtype)
        self._ring[:] = block  # copies of their own: memory is what counts, not the values
        self._largest = np.float32(0)

    @property
    def name(self) -> str:
        """For instance `cold fp32 64x64x64 and 4 of 256 MiB, aligned, numpy 2.4.6`."""
        reads = f" and {BLOCK_BYTES >> 20} of {self._ring.nbytes >> 20} MiB" if self.kind == "cold" else ""
        return f"{self.kind} fp32 {SIDE}x{SIDE}x{SIDE}{reads}, aligned, numpy {np.__version__}"

    def submit(self, slot: int) -> None:
        """One call on the next block of the ring: every call of `cold` finds its own out of the cache."""
        np.matmul(self._rows, self._weights, out=self._out)
        if self.kind == "cold":
            self._largest = np.maximum.reduce(self._ring[self._calls % len(self._ring)])
        self._calls += 1


def _ring_bytes() -> int:
    return min(max(LEAST_RING_BYTES, 2 * host.cache_bytes()), MOST_RING_BYTES)

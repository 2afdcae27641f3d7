"""A model on a device by nothing but datasheets: what peaks allow, and so a bound that no measurement of ours stands behind.

    time of a step = max(FLOPs / peak, bytes / peak bandwidth); steps add up; weights, caches and activations are read once.

For comparing published results with (`python -m benchmarks.published_check`), not for projecting: a published rate above the
bound would be an error in one of them, and how far below it lies is what software, batches and skew leave unused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from results.hardware import Device
from workloads.dims import Attention, Model
from workloads.parameters import expert_parameters, mixer_parameters

__all__ = ["Formats", "Sheet", "cached_positions"]

FULL = ("gqa", "mla", "mfa")
"""Kinds of attention that see every position before, unless they have a window or chunks."""


@dataclass(frozen=True)
class Formats:
    """`compute`: a key of the device's tflops; bytes an element of experts' weights, of other weights, and of the cache."""

    compute: str
    expert_bytes: float
    other_bytes: float
    cache_bytes: float


def cached_positions(mixer: Attention, context: float) -> float:
    """Positions whose cache entries one query reads: all, a window's, or compressed ones and a window's."""
    if mixer.kind == "csa":
        return min(context / mixer.compress_ratio, mixer.index_topk) + min(context, mixer.sliding_window)
    if mixer.kind == "hca":
        return context / mixer.compress_ratio + min(context, mixer.sliding_window)
    if mixer.kind in FULL or mixer.kind == "swa_mqa":
        seen = min(context, mixer.sliding_window) if mixer.sliding_window else context
        return min(seen, mixer.index_topk) if mixer.index_topk else seen
    return 0.0


@dataclass(frozen=True)
class Sheet:
    """A model on a device in some formats."""

    device: Device
    about: Model
    formats: Formats

    def ns(self, flops: float, bytes_: float) -> float:
        """max(FLOPs / peak, bytes / bandwidth). Raises KeyError where the datasheet has no such peak."""
        assert self.device.memory_gbs, self.device.id
        return max(flops / self.device.tflops[self.formats.compute] / 1e3, bytes_ / self.device.memory_gbs)

    @property
    def experts_ns(self) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """Times of assignments on distinct experts: weights of the touched ones once, rows in and out in two bytes."""
        one, width = expert_parameters(self.about), self.about.moe_latent_size or self.about.hidden_size
        peak, memory = self.device.tflops[self.formats.compute] * 1e3, self.device.memory_gbs or 0.0

        def times(assignments: np.ndarray, distinct: np.ndarray) -> np.ndarray:
            bytes_ = distinct * one * self.formats.expert_bytes + 2 * 2 * assignments * width
            return np.maximum(2.0 * one * assignments / peak, bytes_ / memory)

        return times

    def own_ns(self, tokens: int, context: float, prefill: bool) -> float:
        """A pass outside the routed experts: T sequences behind `context` positions, or one prompt of T tokens."""
        about, other = self.about, self.formats.other_bytes
        total = sum(mixer.layers * self._mixer_ns(mixer, tokens, context, prefill) for mixer in about.attention)
        around = (
            about.hidden_size * about.num_experts
            + (3 if about.glu else 2) * about.hidden_size * about.shared_intermediate_size
        )
        total += about.moe_layers * self.ns(2.0 * around * tokens, around * other)
        dense = 3 * about.hidden_size * about.dense_intermediate_size
        total += about.dense_layers * self.ns(2.0 * dense * tokens, dense * other)
        head = about.vocab_size * about.hidden_size
        return total + self.ns(2.0 * head * (1 if prefill else tokens), head * other)

    def _mixer_ns(self, mixer: Attention, tokens: int, context: float, prefill: bool) -> float:
        weights = mixer_parameters(mixer, self.about.hidden_size)
        # a token of a prompt sees half of the prompt before it, on average, and the cache is read once for all
        seen = cached_positions(mixer, tokens / 2 if prefill else context)
        keys, values = _cached_width(mixer)
        entries = cached_positions(mixer, tokens) if prefill else tokens * seen
        scored = tokens * (tokens / 2 if prefill else context) / mixer.compress_ratio if mixer.kind == "csa" else 0.0
        flops = 2.0 * weights * tokens + 2.0 * mixer.heads * _scored_width(mixer) * tokens * seen
        flops += 2.0 * mixer.index_heads * mixer.index_head_dim * scored
        index = 0.0 if prefill else scored * mixer.index_head_dim
        return self.ns(
            flops, weights * self.formats.other_bytes + (entries * (keys + values) + index) * self.formats.cache_bytes
        )


def _cached_width(mixer: Attention) -> tuple[int, int]:
    """Elements of keys and of values in a cache entry."""
    if mixer.kind == "mla":
        return mixer.kv_lora_rank + mixer.qk_rope_head_dim, 0
    if mixer.kind in ("csa", "hca", "swa_mqa"):
        return mixer.head_dim, 0
    return mixer.kv_heads * mixer.head_dim, mixer.kv_heads * (mixer.v_head_dim or mixer.head_dim)


def _scored_width(mixer: Attention) -> int:
    """Multiplications of a head for a (query, key) pair, scores and values."""
    if mixer.kind == "mla":
        return mixer.qk_nope_head_dim + mixer.qk_rope_head_dim + mixer.v_head_dim
    return mixer.head_dim + (mixer.v_head_dim or mixer.head_dim)

"""The least work of steps that no workload measures: (FLOPs, bytes) that must be done, whatever the code.

Counted: parameters read once, activations read once and written once, logits read once. What a real kernel does beyond it, and
that it reaches no ceiling, makes the true time longer: these are lower bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from workloads.formats import value_bytes, weight_bytes

if TYPE_CHECKING:
    from results.projection.terms import Pass

__all__ = ["at_least_work"]

Work = tuple[float, float]


def at_least_work(kind: str, wanted: Pass) -> Work | None:
    """FLOPs and bytes of one step of a kind; None where they are not known."""
    count = _WORK.get(kind)
    return count(wanted) if count else None


def _lines(wanted: Pass) -> float:
    """Bytes of the residual stream of all tokens, once."""
    return float(wanted.tokens * wanted.about.hidden_size * value_bytes(wanted.plain_dtype))


def _embedding(wanted: Pass) -> Work:
    return 0.0, 2 * _lines(wanted)


def _norm(wanted: Pass) -> Work:
    return 0.0, 2 * _lines(wanted)


def _residual(wanted: Pass) -> Work:
    return 0.0, 3 * _lines(wanted)


def _hyper(wanted: Pass) -> Work:
    """n streams of H to n gates in, n out and an n x n matrix, and these applied: the streams read and written."""
    n = wanted.about.hyper_connections
    weights = n * wanted.about.hidden_size * (2 * n + n * n)
    return 2.0 * weights * wanted.tokens, 2 * n * _lines(wanted) + weights * value_bytes(wanted.plain_dtype)


def _head(wanted: Pass) -> Work:
    about, lines, size = wanted.about, wanted.head_tokens, value_bytes(wanted.plain_dtype)
    weights = about.vocab_size * about.hidden_size
    return 2.0 * weights * lines, size * (weights + lines * (about.vocab_size + about.hidden_size))


def _sampling(wanted: Pass) -> Work:
    return 0.0, float(value_bytes(wanted.plain_dtype) * wanted.head_tokens * wanted.about.vocab_size)


def _final_norm(wanted: Pass) -> Work:
    return 0.0, 2 * _lines(wanted) / wanted.tokens * wanted.head_tokens


def _ffn(wanted: Pass, width: int) -> Work:
    about, matrices = wanted.about, 3 if wanted.about.glu else 2
    weights = matrices * about.hidden_size * width
    return 2.0 * weights * wanted.tokens, weight_bytes(wanted.dtype, weights, weights) + 2 * _lines(wanted)


def _latent(wanted: Pass) -> Work:
    weights = 2 * wanted.about.hidden_size * wanted.about.moe_latent_size
    return 2.0 * weights * wanted.tokens, weights * value_bytes(wanted.plain_dtype) + 2 * _lines(wanted)


_WORK: dict[str, Callable[[Pass], Work]] = {
    "embedding": _embedding,
    "norm": _norm,
    "residual": _residual,
    "hyper": _hyper,
    "dense": lambda wanted: _ffn(wanted, wanted.about.dense_intermediate_size),
    "shared": lambda wanted: _ffn(wanted, wanted.about.shared_intermediate_size),
    "latent": _latent,
    "final-norm": _final_norm,
    "head": _head,
    "sampling": _sampling,
}

"""What every kind of attention shares: which of a model's token mixers a case asks for, in which form, and the softmax.

Forms: `+decode+cN`: one new token of each of T sequences, behind N positions that are in the cache; `+prefill`: T tokens of one
sequence, each of which attends to itself and those before it. With `+window` at the end it is the layers with a sliding
window, with `+chunk` those that attend within chunks of so many positions, without either those that attend to all before.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.case import Case
from workloads.dims import Attention, Model
from workloads.pinned import integers, log, on_grid, stream
from workloads.rope import query_factor
from workloads.weights import Pinned

if TYPE_CHECKING:
    from workloads.backends.onnx_ops import Graph

__all__ = ["MOST_POSITIONS", "SCOPES", "Form", "form_of", "onnx_visible", "pinned_sinks", "scope_of", "scored"]
__all__ += ["softmax_rows", "visible"]

SCOPES = {"window": "has a sliding window", "chunk": "attends within chunks"}
"""Variant at the end → the layers that it asks for."""
MOST_POSITIONS = 1_000_000
_CONTEXT = re.compile(r"c([1-9][0-9]*)")
_NOT_DONE = {"index_heads": "sparse attention behind an indexer", "heads_norm": "a norm of each head's output"}
"""Key of a token mixer → what it asks for that is not done yet."""
_ONLY_GQA = (
    "bias",
    "qkv_bias",
    "qkv_clip",
    "qk_norm",
    "v_norm",
    "k_eq_v",
    "sinks",
    "score_cap",
    "sliding_window",
    "attention_chunk",
)
"""Keys that no kind but gqa has done."""


@dataclass(frozen=True)
class Form:
    """One call of a token mixer: `number` among the model's, on T `tokens`; `context` positions are cached, 0 in a prefill."""

    mixer: Attention
    number: int
    tokens: int
    context: int

    @property
    def cached(self) -> int:
        """Cached positions that are attended to: a window holds the new token too, a chunk those since it began."""
        window, chunk = self.mixer.sliding_window, self.mixer.attention_chunk
        if chunk:
            return self.context % chunk
        return min(self.context, window - 1) if window else self.context

    @property
    def positions(self) -> np.ndarray:
        """Positions of the tokens: of a decode the one that all of them have."""
        return np.array([self.context]) if self.context else np.arange(self.tokens)

    @property
    def pairs(self) -> int:
        """(query, key) pairs of one head that are attended to."""
        if self.context:
            return self.tokens * (self.cached + 1)
        if chunk := self.mixer.attention_chunk:
            whole, rest = divmod(self.tokens, chunk)
            return whole * (chunk * (chunk + 1) // 2) + rest * (rest + 1) // 2
        window = min(self.mixer.sliding_window or self.tokens, self.tokens)
        return window * (window + 1) // 2 + (self.tokens - window) * window


def scope_of(mixer: Attention) -> str:
    """The variant that asks for it; "" where all positions before are attended to."""
    return "window" if mixer.sliding_window else "chunk" if mixer.attention_chunk else ""


def form_of(case: Case, about: Model, kinds: tuple[str, ...]) -> Form | str:
    """The form that a case asks for, or the sentence why it is not defined or not done. `kinds`: those that are done."""
    context = _context(case)
    if isinstance(context, str):
        return context
    number = _mixer(about, kinds, _scope(case))
    if isinstance(number, str):
        return number
    mixer = about.attention[number]
    form = Form(mixer, number, case.tokens, context)
    return _missing(about, mixer) or _unseen(form) or form


def _scope(case: Case) -> str:
    last = case.variants[-1] if case.variants else ""
    return last if last in SCOPES else ""


def _context(case: Case) -> int | str:
    """Cached positions, 0 of a prefill."""
    form = case.variants[:-1] if _scope(case) else case.variants
    match = _CONTEXT.fullmatch(form[1]) if len(form) == 2 and form[0] == "decode" else None
    if not (match or form == ("prefill",)):
        shown, ends = "+".join((case.workload, *case.variants)), " or ".join(f"+{scope}" for scope in SCOPES)
        forms = f"{case.workload}+decode+cN and {case.workload}+prefill"
        return f"there is no {shown!r}: {forms} are, and {ends} at the end of either"
    context = int(match[1]) if match else 0
    if max(context, case.tokens if not context else 0) >= MOST_POSITIONS:
        return f"positions of {MOST_POSITIONS} and beyond are not done yet"
    return context


def _mixer(about: Model, kinds: tuple[str, ...], scope: str) -> int | str:
    """The one token mixer of a kind that is done and of a scope; of several the one that is done."""
    numbers = [number for number, mixer in enumerate(about.attention) if mixer.kind in kinds]
    if not numbers:
        there = ", ".join(dict.fromkeys(repr(mixer.kind) for mixer in about.attention))
        return f"attention of kind {there} of {about.id} is not done yet: {' and '.join(kinds)} are"
    found = [number for number in numbers if scope_of(about.attention[number]) == scope]
    done = [number for number in found if _missing(about, about.attention[number]) is None]
    if len(done) > 1:
        return f"{about.id} has {len(done)} attentions of one sort: telling them apart is not done yet"
    if found:
        return (done or found)[0]
    if scope:
        return f"no attention of {about.id} that is done {SCOPES[scope]}: leave +{scope} out"
    other = scope_of(about.attention[numbers[0]])
    return f"every attention of {about.id} that is done {SCOPES[other]}: add +{other}"


def _missing(about: Model, mixer: Attention) -> str | None:
    for key, what in _NOT_DONE.items():
        if getattr(mixer, key):
            return f"{what} ({key} of {about.id}) is not done yet"
    if mixer.kind != "gqa" and (there := [key for key in _ONLY_GQA if getattr(mixer, key)]):
        return f"{there[0]} of {about.id} is not done yet in attention of kind {mixer.kind!r}"
    if not (mixer.rope_theta or mixer.nope):
        return f"models.toml does not say how {about.id} norms and rotates queries and keys: no published text was read"
    return None


def _unseen(form: Form) -> str | None:
    mixer = form.mixer
    if form.context and not form.cached:
        what = "a window of one position" if mixer.sliding_window else "the first position of a chunk"
        return f"{what} attends to nothing cached: not done"
    if not form.context and query_factor(mixer, form.tokens - 1) > 1.0:
        most = mixer.query_span - mixer.query_first
        return (
            f"a prefill of more than {most} tokens, whose queries grow with their position (query_growth), is not done"
        )
    return None


def pinned_sinks(form: Form, seed: int) -> Pinned:
    """A sink [heads] that weighs about as much as all else attended to, e**-1 to e times: one that matters."""
    heads, keys = form.mixer.heads, max(2, form.pairs // form.tokens)
    level = float(log(np.array([float(keys)]))[0])
    steps = integers(stream("sinks", form.mixer.kind, heads, seed), heads, 129) - 64
    return Pinned(on_grid(level + np.ldexp(steps.astype(np.float64), -6)), fp32=True)


def softmax_rows(scores: np.ndarray, sinks: Any = None) -> np.ndarray:
    """Softmax along the last axis, float64; `sinks` [..., 1] take part in the sum and get no weight."""
    top = scores.max(axis=-1, keepdims=True)
    top = top if sinks is None else np.maximum(top, sinks)
    weights = np.exp(scores - top)
    total = weights.sum(axis=-1, keepdims=True) + (0.0 if sinks is None else np.exp(sinks - top))
    return weights / total


def scored(ops: Any, mixer: Attention, products: Any, scale: float) -> Any:
    """What goes into the softmax of q . k, on any backend: scaled, and capped where the model caps."""
    scores = ops.mul(products, scale)
    if not mixer.score_cap:
        return scores
    return ops.mul(ops.tanh(ops.mul(scores, 1.0 / mixer.score_cap)), mixer.score_cap)


def visible(mixer: Attention, queries: Any, keys: Any) -> Any:
    """[queries, keys] whether a token at a position attends to another: arrays of NumPy or torch."""
    distance = queries[:, None] - keys
    seen = distance >= 0
    if mixer.sliding_window:
        seen = seen & (distance < mixer.sliding_window)
    if mixer.attention_chunk:
        seen = seen & (queries[:, None] // mixer.attention_chunk == keys // mixer.attention_chunk)
    return seen


def onnx_visible(graph: Graph, mixer: Attention, tokens: int) -> str:
    """[T, T] whether a token of a prefill attends to another."""
    return graph.constant(visible(mixer, np.arange(tokens), np.arange(tokens)), "bool")


assert math.log2(MOST_POSITIONS) < 20  # what `workloads.rope` reduces exactly

"""What every kind of attention shares: which of a model's token mixers a case asks for, in which form, and the softmax.

Forms: `+decode+cN`: one new token of each of T sequences, behind N positions that are in the cache; `+prefill`: T tokens of one
sequence, each of which attends to itself and those before it. With `+window` at the end it is the layers with a sliding
window, without it those that have none.
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
from workloads.weights import Pinned

if TYPE_CHECKING:
    from workloads.backends.onnx_ops import Graph

__all__ = ["MOST_POSITIONS", "WINDOW", "Form", "form_of", "onnx_visible", "pinned_sinks", "softmax_rows"]

WINDOW = "window"
MOST_POSITIONS = 1_000_000
_CONTEXT = re.compile(r"c([1-9][0-9]*)")
_NOT_DONE = {
    "attention_chunk": "attention in chunks",
    "k_eq_v": "attention whose keys are its values",
    "head_gate": "a gate on every head's output",
    "output_gate": "a gate on the heads' outputs",
    "index_heads": "sparse attention behind an indexer",
}
"""Key of a token mixer → what it asks for that is not done yet."""


@dataclass(frozen=True)
class Form:
    """One call of a token mixer: `number` among the model's, on T `tokens`; `context` positions are cached, 0 in a prefill."""

    mixer: Attention
    number: int
    tokens: int
    context: int

    @property
    def cached(self) -> int:
        """Cached positions that are attended to: a window holds the new token too."""
        window = self.mixer.sliding_window
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
        window = min(self.mixer.sliding_window or self.tokens, self.tokens)
        return window * (window + 1) // 2 + (self.tokens - window) * window


def form_of(case: Case, about: Model, kinds: tuple[str, ...]) -> Form | str:
    """The form that a case asks for, or the sentence why it is not defined or not done. `kinds`: those that are done."""
    context = _context(case)
    if isinstance(context, str):
        return context
    number = _mixer(about, kinds, WINDOW in case.variants)
    if isinstance(number, str):
        return number
    mixer = about.attention[number]
    refusal = _missing(about, mixer) or _unseen(mixer, context)
    return refusal or Form(mixer, number, case.tokens, context)


def _context(case: Case) -> int | str:
    """Cached positions, 0 of a prefill."""
    form = tuple(variant for variant in case.variants if variant != WINDOW)
    match = _CONTEXT.fullmatch(form[1]) if len(form) == 2 and form[0] == "decode" else None
    if WINDOW in case.variants[:-1] or not (match or form == ("prefill",)):
        shown = "+".join((case.workload, *case.variants))
        forms = f"{case.workload}+decode+cN and {case.workload}+prefill"
        return f"there is no {shown!r}: {forms} are, and +{WINDOW} at the end of either"
    context = int(match[1]) if match else 0
    if max(context, case.tokens if not context else 0) >= MOST_POSITIONS:
        return f"positions of {MOST_POSITIONS} and beyond are not done yet"
    return context


def _mixer(about: Model, kinds: tuple[str, ...], windowed: bool) -> int | str:
    """The one token mixer of a kind that is done, with a window or without."""
    numbers = [number for number, mixer in enumerate(about.attention) if mixer.kind in kinds]
    if not numbers:
        there = ", ".join(dict.fromkeys(repr(mixer.kind) for mixer in about.attention))
        return f"attention of kind {there} of {about.id} is not done yet: {' and '.join(kinds)} are"
    found = [number for number in numbers if bool(about.attention[number].sliding_window) == windowed]
    if len(found) > 1:
        return f"{about.id} has {len(found)} attentions of one sort: telling them apart is not done yet"
    if not found:
        say = f"no attention of {about.id} that is done has a sliding window: leave +{WINDOW} out"
        return say if windowed else f"every attention of {about.id} that is done has a sliding window: add +{WINDOW}"
    return found[0]


def _missing(about: Model, mixer: Attention) -> str | None:
    for key, what in _NOT_DONE.items():
        if getattr(mixer, key):
            return f"{what} ({key} of {about.id}) is not done yet"
    if not mixer.rope_theta:
        return f"models.toml does not say how {about.id} norms and rotates queries and keys: no published text was read"
    return None


def _unseen(mixer: Attention, context: int) -> str | None:
    return (
        "a window of one position attends to nothing cached: not done"
        if context and mixer.sliding_window == 1
        else None
    )


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


def onnx_visible(graph: Graph, mixer: Attention, tokens: int) -> str:
    """[T, T] whether a token attends to another: itself and those before it, within the window."""
    distance = np.arange(tokens)[:, None] - np.arange(tokens)
    return graph.constant((distance >= 0) & (distance < (mixer.sliding_window or tokens)), "bool")


assert math.log2(MOST_POSITIONS) < 20  # what `workloads.rope` reduces exactly

"""Workload `attention`: a layer's attention with its KV cache.

`attention+decode+cN`: one new token of each of T sequences, with N cached positions each; `attention+prefill`: T tokens of one
sequence, causal, nothing cached; either with `+window`: the model's layers with a sliding window, or with `+chunk`: those that
attend within chunks of so many positions. Input `tokens` [T, H]; outputs `y` [T, H] and what the cache receives (`keys` and
`values` [T, width]). The cache is pinned like weights, laid out [sequence and head, position, dim], filled before the clock
starts and not written to: a call attends to it and to the new token in one softmax. A window's cache holds the window less the
new token, a chunk's the positions since it began. No norm before the attention, no residual. Kinds: `gqa` (`workloads.gqa`),
`mla` (`workloads.mla`: its cache receives `latents` and `rope_keys`).

Useful FLOPs: the projections, and 2 * (d + d_v) * heads for every (query, key) pair that is attended to. Compulsory bytes:
projections and the other weights once, the attended cache once, tokens in, outputs out.

Tolerance: beyond an FFN's 8 roundings count 8 more (`attention_out` of `checking.EXTRA_ROUNDINGS`). With u the unit and 0.41 u
the root mean square of one rounding: scores have a standard deviation of up to 1.2 (with YaRN's factor) and a root mean square
of 1.9 under the softmax's own weights (pinned keys make up for a model's scale, `rope.score_bits`), so rounding them gives 0.8
u; queries and keys are rounded twice each (projected, rotated) and give 0.7 u each; values, weights of the softmax, heads'
outputs and y 0.41 u each. In quadrature that is 1.5 u, and 1.2 u sqrt(16 / 8) = 1.7 u is what the checker takes. `mla` has 6
more (`kv_a_norm`): queries pass 5 roundings (1.1 u), keys 3 (0.9 u), values 3: 2.0 u in quadrature, and the checker takes 1.2
u sqrt(22 / 8) = 2.0 u. A gate on heads' outputs adds 0.2 u from its projection and 0.41 u from its product, and counts 2. An
output's line is one contribution: its gain error is bounded like an expert's. The norm of a line not compared is predicted by
that of slot 0's line; a head's squared output varies by about its mean, so over n heads the factor 2 becomes 2 sqrt(1 + 6 /
sqrt(n)).
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from workloads import gqa, mla
from workloads.attending import Form, form_of
from workloads.case import Case
from workloads.models import Model, model
from workloads.planting import hidden_noise
from workloads.problem import (
    DTYPE_BYTES,
    SLOTS,
    WHOLE,
    Contribution,
    Cost,
    Counts,
    Expected,
    Lines,
    Problem,
    input_digest,
)
from workloads.registry import Built, implementation, register_workload
from workloads.sizes import Sizes
from workloads.weights import Pinned, Weight

if TYPE_CHECKING:
    from torch import Tensor

    from workloads.backends.onnx_ops import Graph

__all__ = ["KINDS", "AttentionWorkload", "attention_bytes", "norm_factor", "one_part_a_line", "with_attention"]

KINDS = {"gqa": gqa, "mla": mla}
"""Kind of token mixer → the module that does it."""


class AttentionWorkload:
    """The model's attention with its KV cache."""

    name = "attention"
    version = 1

    def unsupported(self, case: Case) -> str | None:
        """The sentence that says why the case is not defined or not done; None if it is."""
        if case.dtype not in DTYPE_BYTES or case.dtype == "tf32":
            return f"the dtype {case.dtype!r} of {self.name} is not done yet"
        if case.routing != "none":
            return f"{self.name} has no router: write 'none' as its routing"
        if case.ep > 1:
            return f"attention is not shared among ranks: write ep1 instead of ep{case.ep}"
        form = form_of(case, model(case.model), tuple(KINDS))
        return form if isinstance(form, str) else None

    def problem(self, case: Case) -> Problem:
        """The pinned problem of a case."""
        about = model(case.model)
        form = form_of(case, about, tuple(KINDS))
        assert isinstance(form, Form), form
        kind = KINDS[form.mixer.kind]
        weights = kind.weights(form, about, case.seed)
        ring = [
            {"tokens": hidden_noise(case.tokens, about.hidden_size, ("attention", case.seed, slot)).astype(np.float32)}
            for slot in range(SLOTS)
        ]
        outputs = kind.outputs(form, about)
        expected = _Reference(form, about, weights, ring, outputs)
        return Problem(
            case=case,
            model=about,
            sizes=with_attention(Sizes(form.tokens, about.hidden_size), form),
            weights=weights,
            ring=ring,
            outputs=outputs,
            cost=_cost(case, kind.flops(form, about), weights, outputs),
            input_digest=input_digest(weights, ring, None),
            references=lambda requests: [expected(slot, lines) for slot, lines in requests],
            sources=lambda slot, output: (np.empty(0, np.int64), np.empty(0, np.int64)),
            norm_factor=norm_factor(form),
        )

    def counts(self, case: Case) -> Counts:
        """Cost and skew, without the inputs."""
        about = model(case.model)
        form = form_of(case, about, tuple(KINDS))
        assert isinstance(form, Form), form
        kind = KINDS[form.mixer.kind]
        weights = kind.weights(form, about, case.seed)
        return Counts(_cost(case, kind.flops(form, about), weights, kind.outputs(form, about)))


register_workload(AttentionWorkload())


def norm_factor(form: Form) -> float:
    """What the norm of a line that is not compared may differ by from slot 0's (see above)."""
    return 2.0 * math.sqrt(1.0 + 6.0 / math.sqrt(form.mixer.heads))


def with_attention(sizes: Sizes, form: Form) -> Sizes:
    """The sizes of a call that attends too."""
    keys = form.cached + 1 if form.context else form.tokens
    return replace(
        sizes,
        mixer=form.number,
        context=form.cached,
        attended=max(KINDS[form.mixer.kind].attended_width(form.mixer), keys),
        scores=form.mixer.heads * form.tokens * keys,
    )


# -- cost ----------------------------------------------------------------------------------------------------------


def attention_bytes(case: Case, weights: dict[str, Weight], outputs: dict[str, tuple[int, ...]]) -> tuple[int, int]:
    """(weights and cache once, outputs out). The tables of the rotation are fp32, as are norms and sinks."""
    size = DTYPE_BYTES[case.dtype]
    stored = sum(w.elements * (4 if isinstance(w, Pinned) and w.fp32 else size) for w in weights.values())
    return stored, size * sum(lines * width for lines, width in outputs.values())


def _cost(case: Case, flops: int, weights: dict[str, Weight], outputs: dict[str, tuple[int, ...]]) -> Cost:
    stored, made = attention_bytes(case, weights, outputs)
    tokens, hidden = outputs["y"]
    return Cost(flops, stored + made + tokens * hidden * DTYPE_BYTES[case.dtype], stored, case.tokens, 0, 0)


# -- float64 reference ---------------------------------------------------------------------------------------------


class _Reference:
    """Expected outputs. A line's size depends on its place (early tokens average over few values): slot 0's tells it."""

    def __init__(self, form: Form, about: Model, weights: Any, ring: Any, outputs: dict[str, tuple[int, ...]]) -> None:
        self._form, self._about, self._weights, self._ring = form, about, weights, ring
        self._all = {name: np.arange(shape[0]) for name, shape in outputs.items()}
        self._first = cache(lambda: self._computed(0, self._all))

    def __call__(self, slot: int, lines: Lines) -> Expected:
        wanted = self._all if lines is None else {name: lines.get(name, np.empty(0, np.int64)) for name in self._all}
        values = self._first() if lines is None and slot == 0 else self._computed(slot, wanted)
        sizes = {name: np.sqrt((first**2).sum(axis=1)) for name, first in self._first().items()}
        return Expected(
            lines=dict(wanted),
            values=values,
            routed={name: (lines, np.full(len(lines), WHOLE), sizes[name]) for name, lines in self._all.items()},
            contributions={name: one_part_a_line(values[name], sizes[name][wanted[name]]) for name in wanted},
        )

    def _computed(self, slot: int, lines: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        kind = KINDS[self._form.mixer.kind]
        return kind.reference(self._form, self._about, self._weights, self._ring[slot]["tokens"], lines)


def one_part_a_line(values: np.ndarray, sizes: np.ndarray) -> Contribution:
    """Every line [H] is one contribution of that size."""
    return Contribution(np.arange(len(values)), np.full(len(values), WHOLE), sizes, values)


# -- torch ---------------------------------------------------------------------------------------------------------


@implementation("attention", "torch", "plain")
def build_torch(problem: Problem, on: Any) -> Built:
    """Torch's own attention where it does this work, else matmuls and a softmax."""
    kind = KINDS[problem.model.attention[problem.sizes.mixer].kind]
    attend = kind.torch_call(problem.model, problem.sizes, on.device)
    slots = [(on.inputs(slot)["tokens"], on.weights(slot)) for slot in range(len(problem.ring))]

    def call(slot: int) -> dict[str, Tensor]:
        return attend(*slots[slot])

    return Built(call, () if problem.case.dtype == "fp32" else kind.CASTS)


# -- ONNX ----------------------------------------------------------------------------------------------------------


@implementation("attention", "onnxruntime", "plain")
def build_onnx(about: Model, sizes: Sizes, graph: Graph) -> None:
    """MatMuls and a Softmax."""
    tokens = graph.input("tokens", (sizes.tokens, sizes.hidden), graph.dtype)
    mixer = about.attention[sizes.mixer]
    kind, form = KINDS[mixer.kind], Form(mixer, sizes.mixer, sizes.tokens, sizes.context)
    made = kind.onnx_call(graph, tokens, about, sizes)
    for name, (lines, width) in kind.outputs(form, about).items():
        graph.output(made[name], name, (lines, sizes.hidden if name == "y" else width), graph.dtype)

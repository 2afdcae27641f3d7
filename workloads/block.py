"""Workload `block`: a whole layer of a model: norm, attention, residual; norm, MoE layer (of a dense model its FFN), residual.

h = x + A(norm(x)), y = h + F(norm(h)), with RMSNorms computed in fp32 and rounded to the case's dtype: layers that are just so
(`block_norm_eps` in models.toml), with the kinds of attention that `workloads.attention` has. Variants are attention's:
`block+decode+cN`, `block+prefill`, either with `+window` or `+chunk`. Input `tokens` [T, H], the residual stream; outputs
`attended` [T, H], which is A, and `y` [T, H]; what the cache receives; `ids` and `weights` [T, k] of the router. At ep > 1 it
is one rank's share: attention, router and shared expert on its own tokens, its experts on the rows of the whole group's plan,
as in `moe-layer`: `rows`, `row_ids`, `row_weights` in, `partial` out, and y = h + S(norm(h)), without what combine would bring.

Planting: tokens are solved so that the router behind norm(x) selects the plan. Attention comes between, so its output
projection is smaller by 2**RESIDUAL_BITS: as deep in a model, one layer adds little to the residual stream. It moves logits,
which have a deviation of 1, by 2**-7; the gap of 0.1 is 9 deviations of a difference. That float64 selects the plan, attention
included, is checked for every token that is compared.

Tolerance: of `attended` and of what the cache receives as in `attention`, with 2 roundings more for the norm; of `y` as in a
layer with 4 more (h, norm, y). What the router reads is rounded 3 times, so its weights may be off by more than one rounding
(`checking.ROUTED`). How right the attention is shows in `attended`; that it is added to the tokens shows in y, in fp32 and
fp16: a sum in bf16 absorbs most of so small a part, so there the two are one contribution.

Useful FLOPs and compulsory bytes: those of attention and layer; the tokens are read once, `attended` and y written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.attending import Form, form_of
from workloads.attention import KINDS, attention_bytes, norm_factor, one_part_a_line, with_attention
from workloads.block_halves import DenseHalf, RoutedHalf, half_counts, normed
from workloads.case import Case
from workloads.experts import (
    OnnxExperts,
    TorchActivation,
    ffn_torch,
    norm_gain,
    onnx_ffn,
    onnx_sorted,
    rms_norm,
    torch_sorted,
)
from workloads.inputs import unsupported_routing
from workloads.models import Model, check_share, model
from workloads.moe_layer import OnnxOutput, always, joined, onnx_layer, torch_layer
from workloads.problem import (
    ATTENTION,
    DTYPE_BYTES,
    RESIDUAL,
    Contribution,
    Cost,
    Counts,
    Expected,
    Lines,
    Problem,
    input_digest,
)
from workloads.registry import Built, implementation, register_workload
from workloads.router import CASTS
from workloads.rules import Select
from workloads.sizes import Sizes
from workloads.weights import Pinned, Tiled, Weight

if TYPE_CHECKING:
    from torch import Tensor

    from workloads.backends.onnx_ops import Graph

__all__ = ["BlockWorkload", "build_onnx_block", "build_torch_block"]

RESIDUAL_BITS = 7
NORMS = ("attention_norm", "ffn_norm")


class BlockWorkload:
    """A whole layer: norm, attention, residual, norm, MoE layer (or dense FFN), residual."""

    name = "block"
    version = 1

    def unsupported(self, case: Case) -> str | None:
        """The sentence that says why the case is not defined or not done; None if it is."""
        about = model(case.model)
        if case.dtype not in DTYPE_BYTES or case.dtype == "tf32":
            return f"the dtype {case.dtype!r} of {self.name} is not done yet"
        form = form_of(case, about, tuple(KINDS))
        if isinstance(form, str):
            return form
        return _unread(about) or _undone(about) or _unsupported_ffn(case, about)

    def problem(self, case: Case) -> Problem:
        """The pinned problem of a case."""
        about = model(case.model)
        check_share(about, case.ep)
        form = form_of(case, about, tuple(KINDS))
        assert isinstance(form, Form), form
        norms: dict[str, Weight] = {name: norm_gain(name, about, about.hidden_size, case.seed) for name in NORMS}
        half = (RoutedHalf if about.num_experts else DenseHalf)(case, about, norms)
        attention = _residual_sized(KINDS[form.mixer.kind].weights(form, about, case.seed))
        weights = attention | norms | half.weights
        reference = _Reference(form, about, weights, half, absorbed=case.dtype == "bf16")
        return Problem(
            case=case,
            model=about,
            sizes=with_attention(half.sizes, form),
            weights=weights,
            ring=half.ring,
            outputs=reference.outputs,
            cost=_cost(case, form, attention, half.sizes, half.cost),
            input_digest=input_digest(weights, half.ring, half.plan),
            references=reference.references,
            sources=half.sources,
            skew=half.skew,
            norm_factor=norm_factor(form),
            ways=_ways(reference.outputs, frozenset(attention), frozenset(half.weights)),
        )

    def counts(self, case: Case) -> Counts:
        """Cost and skew, without the inputs."""
        about = model(case.model)
        form = form_of(case, about, tuple(KINDS))
        assert isinstance(form, Form), form
        sizes, inside = half_counts(case, about)
        attention = KINDS[form.mixer.kind].weights(form, about, case.seed)
        return Counts(_cost(case, form, attention, sizes, inside.cost), inside.skew)


register_workload(BlockWorkload())


def _unread(about: Model) -> str | None:
    if about.hyper_connections:
        return f"hyper-connections (of {about.id}) are not done yet"
    if about.block_note:
        return f"layers with {about.block_note} (of {about.id}) are not done yet"
    if not about.block_norm_eps:
        return f"models.toml does not say how the layers of {about.id} are put together: no published text was read"
    return None


def _undone(about: Model) -> str | None:
    """What no layer of this form has so far: the traits of `workloads.passage` and others around the experts."""
    if about.moe_latent_size or about.entry_norm_eps or about.exit_norm_eps or about.shared_norm_eps:
        return f"experts behind projections or norms of their own (of {about.id}) are not done yet in a block"
    if about.zero_experts or about.router_input_norm_eps:
        what = "identity experts" if about.zero_experts else "a norm of the router's own"
        return f"{what} (of {about.id}) in a block: not done yet"
    return None


def _unsupported_ffn(case: Case, about: Model) -> str | None:
    if about.num_experts:
        return unsupported_routing(case, about)
    return None if case.routing == "none" else f"{about.id} is a dense model: write 'none' as the routing of its block"


def _residual_sized(weights: dict[str, Weight]) -> dict[str, Weight]:
    """Attention's weights with an output projection that adds little to the residual stream."""
    made = dict(weights)
    out, bias = made["attention_out"], made.get("attention_out_bias")
    assert isinstance(out, Tiled)
    made["attention_out"] = replace(out, scale=out.scale + RESIDUAL_BITS)
    if isinstance(bias, Pinned):
        made["attention_out_bias"] = replace(bias, values=np.ldexp(bias.values, -RESIDUAL_BITS))
    return made


def _ways(
    outputs: dict[str, tuple[int, ...]], attention: frozenset[str], ffn: frozenset[str]
) -> dict[str, frozenset[str]]:
    """Which weights lead to which output; what leads to y through attention is too small to count."""
    before = {"y": ffn | {"ffn_norm"}, "partial": ffn}
    return {name: before.get(name, attention | {"attention_norm"}) for name in outputs}


# -- cost ----------------------------------------------------------------------------------------------------------


def _cost(case: Case, form: Form, attention: dict[str, Weight], sizes: Sizes, inside: Cost) -> Cost:
    """Attention's and the layer's (`sizes` and cost of the second half), tokens in once, norms; a share without a shared expert
    writes y all the same."""
    about, kind = model(case.model), KINDS[form.mixer.kind]
    stored, made = attention_bytes(case, attention, kind.outputs(form, about))
    hidden = case.tokens * about.hidden_size * DTYPE_BYTES[case.dtype]
    norms = len(NORMS) * about.hidden_size * DTYPE_BYTES[case.dtype]
    own = hidden if case.ep > 1 and not sizes.shared_inner else 0
    weights = inside.weight_bytes + stored + norms
    flops = inside.flops + kind.flops(form, about)
    moved = inside.bytes - inside.weight_bytes + made + own
    return Cost(flops, weights + moved, weights, inside.tokens, inside.rows, inside.assignments)


# -- float64 reference ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _States:
    """Of some lines: what attention gives and what the second norm gives, float64."""

    attention: dict[str, np.ndarray]
    """Attention's own outputs, `attended` among them."""
    tokens: np.ndarray
    added: np.ndarray
    """What attention adds to the lines of y."""
    normed: np.ndarray


@dataclass(frozen=True)
class _Reference:
    form: Form
    about: Model
    weights: dict[str, Weight]
    half: RoutedHalf | DenseHalf
    absorbed: bool
    """Whether the sum of tokens and attention is one contribution to y."""

    @property
    def attention_outputs(self) -> dict[str, tuple[int, ...]]:
        """What attention gives and what the cache receives."""
        found = KINDS[self.form.mixer.kind].outputs(self.form, self.about)
        return {"attended" if name == "y" else name: shape for name, shape in found.items()}

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        """All outputs of the block."""
        return self.half.outputs | {"y": (self.form.tokens, self.about.hidden_size)} | self.attention_outputs

    def references(self, requests: Sequence[tuple[int, Lines]]) -> list[Expected]:
        """Each expert is computed once for all requests."""
        slots = [slot for slot, _ in requests]
        lines = [self._lines(asked) for _, asked in requests]
        states = [self._states(*one) for one in zip(slots, lines, strict=True)]
        found = self.half.references(slots, lines, [one.normed for one in states])
        return [self._expected(*one) for one in zip(slots, lines, states, found, strict=True)]

    def _lines(self, asked: Lines) -> dict[str, np.ndarray]:
        shapes = {name: shape for name, shape in self.outputs.items() if name not in ("ids", "weights")}
        if asked is None:
            return {name: np.arange(shape[0]) for name, shape in shapes.items()}
        return {name: asked.get(name, np.empty(0, np.int64)) for name in shapes}

    def _states(self, slot: int, lines: dict[str, np.ndarray]) -> _States:
        tokens = self.half.ring[slot]["tokens"].astype(np.float64)
        both = np.union1d(lines["y"], lines["attended"])
        first, second = (_gain(self.weights[name]) for name in NORMS)
        wanted = {name: lines[name] for name in self.attention_outputs if name != "attended"} | {"y": both}
        kind = KINDS[self.form.mixer.kind]
        found = kind.reference(self.form, self.about, self.weights, normed(tokens, first, self.about), wanted)
        attended = found.pop("y")
        added = attended[np.searchsorted(both, lines["y"])]
        own = tokens[lines["y"]]
        found["attended"] = attended[np.searchsorted(both, lines["attended"])]
        return _States(found, own, added, normed(own + added, second, self.about))

    @cached_property
    def _sizes(self) -> dict[str, np.ndarray]:
        """Sizes of the lines of attention's outputs, which depend on their place: slot 0's."""
        found = self._states(0, self._lines(None)).attention
        return {name: np.sqrt((values**2).sum(axis=1)) for name, values in found.items()}

    def _expected(self, slot: int, lines: dict[str, np.ndarray], states: _States, inside: Expected) -> Expected:
        values, parts = dict(states.attention), {}
        for name in self.attention_outputs:
            parts[name] = one_part_a_line(values[name], self._sizes[name][lines[name]])
        if "partial" in lines:
            values["partial"], parts["partial"] = inside.values["partial"], inside.contributions["partial"]
        values["y"] = states.tokens + states.added
        parts["y"] = self._residual(states)
        if self.half.own in inside.values:
            values["y"] = values["y"] + inside.values[self.half.own]
            parts["y"] = joined(parts["y"], inside.contributions[self.half.own])
        routed = {name: self._routed(slot, name) for name in lines}
        return replace(inside, lines=lines, values=values, routed=routed, contributions=parts)

    def _residual(self, states: _States) -> Contribution:
        own = _sized(RESIDUAL, states.tokens + states.added if self.absorbed else states.tokens, states.tokens)
        return own if self.absorbed else joined(own, always(ATTENTION, states.added))

    def _routed(self, slot: int, output: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(line, source, weight) of every contribution to a whole output."""
        if output in self.attention_outputs:
            return _listed(one_part_a_line(self._sizes[output][:, None], self._sizes[output]))
        found = [self.half.sizes_of_parts(slot, output)]
        if output == "y":
            tokens = self.half.ring[slot]["tokens"].astype(np.float64)
            found += [_listed(_sized(RESIDUAL, tokens, tokens))]
            found += [] if self.absorbed else [_listed(always(ATTENTION, tokens))]
        line, source, weight = (np.concatenate(some) for some in zip(*(one for one in found if one), strict=True))
        return line, source, weight


def _gain(weight: Weight) -> np.ndarray:
    assert isinstance(weight, Pinned)
    return weight.values.astype(np.float64)


def _sized(source: int, values: np.ndarray, like: np.ndarray) -> Contribution:
    """One contribution to every line, as large as the lines of `like` [n, H], which are known of every line."""
    lines = np.arange(len(values))
    return Contribution(lines, np.full(len(lines), source), np.sqrt((like**2).sum(axis=1)), values)


def _listed(parts: Contribution) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return parts.row, parts.source, parts.weight


# -- torch ---------------------------------------------------------------------------------------------------------


def build_torch_block(problem: Problem, on: Any, experts: Any, select: Select | None = None) -> Built:
    """The block around one way of running the experts: see `moe_layer.torch_layer`."""
    from workloads.backends.torch_ops import TorchOps

    about, sizes, ops = problem.model, problem.sizes, TorchOps()
    kind = KINDS[about.attention[sizes.mixer].kind]
    attend = kind.torch_call(about, sizes, on.device)
    ffn = torch_layer(problem, experts, select) if about.num_experts else _torch_dense(about)
    own = "shared" if problem.case.ep > 1 else "y"
    slots = [(on.inputs(slot), on.weights(slot)) for slot in range(len(problem.ring))]

    def normed(x: Tensor, gain: Tensor) -> Tensor:
        done: Tensor = rms_norm(ops, x, gain, sizes.hidden, about.block_norm_eps)
        return done

    def call(slot: int) -> dict[str, Tensor]:
        inputs, weights = slots[slot]
        tokens = inputs["tokens"]
        outputs = attend(normed(tokens, weights["attention_norm"]), weights)
        outputs["attended"] = outputs.pop("y")
        h = tokens + outputs["attended"]
        outputs |= ffn({**inputs, "tokens": normed(h, weights["ffn_norm"])}, weights)
        outputs["y"] = h.add_(outputs.pop(own)) if own in outputs else h
        return outputs

    casts = (*kind.CASTS, "norms to fp32", *(CASTS if about.num_experts else ()))
    return Built(call, () if problem.case.dtype == "fp32" else casts)


def _torch_dense(about: Model) -> Callable[[Any, Any], dict[str, Tensor]]:
    act = TorchActivation(about)

    def ffn(inputs: Any, weights: Any) -> dict[str, Tensor]:
        done = ffn_torch(inputs["tokens"], weights["dense_in"][0], weights["dense_out"][0], (None, None), act)
        return {"y": done}

    return ffn


@implementation("block", "torch", "sorted")
def build_torch(problem: Problem, on: Any) -> Built:
    """Attention as in its own workload; experts sorted, one matmul each."""
    return build_torch_block(problem, on, torch_sorted)


# -- ONNX ----------------------------------------------------------------------------------------------------------


def build_onnx_block(about: Model, sizes: Sizes, graph: Graph, experts: OnnxExperts) -> None:
    """The block around one way of running the experts as nodes."""
    hidden = (sizes.tokens, sizes.hidden)
    tokens = graph.input("tokens", hidden, graph.dtype)
    mixer = about.attention[sizes.mixer]
    kind, form = KINDS[mixer.kind], Form(mixer, sizes.mixer, sizes.tokens, sizes.context)
    made = kind.onnx_call(graph, _onnx_normed(graph, tokens, "attention_norm", about, sizes), about, sizes)
    widths = {
        name: (lines, sizes.hidden if name == "y" else width)
        for name, (lines, width) in kind.outputs(form, about).items()
    }
    outputs = {name: OnnxOutput(made[name], widths[name], graph.dtype) for name in widths}
    outputs["attended"] = outputs.pop("y")
    h = graph.node("Add", tokens, made["y"])
    inside = _onnx_ffn(about, sizes, graph, _onnx_normed(graph, h, "ffn_norm", about, sizes), experts)
    own = inside.pop("shared" if sizes.is_share else "y", None)
    outputs |= inside | {"y": OnnxOutput(graph.node("Add", h, own.value) if own else h, hidden, graph.dtype)}
    for name, output in outputs.items():
        graph.output(output.value, name, output.shape, output.dtype)


def _onnx_ffn(about: Model, sizes: Sizes, graph: Graph, x: str, experts: OnnxExperts) -> dict[str, OnnxOutput]:
    if about.num_experts:
        return onnx_layer(about, sizes, graph, x, experts)
    done = onnx_ffn(graph, x, "dense", 0, sizes, about)
    return {"y": OnnxOutput(done, (sizes.tokens, sizes.hidden), graph.dtype)}


def _onnx_normed(graph: Graph, x: str, name: str, about: Model, sizes: Sizes) -> str:
    gain = graph.weight(name, (sizes.hidden,))
    normed: str = rms_norm(graph.in_dtype(), x, gain, sizes.hidden, about.block_norm_eps)
    return normed


@implementation("block", "onnxruntime", "sorted")
def build_onnx(about: Model, sizes: Sizes, graph: Graph) -> None:
    """Standard operators only."""
    build_onnx_block(about, sizes, graph, onnx_sorted)

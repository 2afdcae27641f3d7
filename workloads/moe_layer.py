"""Workload `moe-layer`: router, permute, experts (and shared expert), unpermute: one rank's compute of an MoE layer.

At ep1 the whole layer: `tokens` [T, H] in; `y` [T, H], `ids` and `weights` [T, k] out, ids and weights from the timed
router. At ep > 1 one rank's share: T own tokens enter (router and shared expert see these), its E / ep experts serve the
rows of the whole group's plan: `rows` [R, H], `row_ids` [R, k] (padded with -1), `row_weights` [R, k] in; `partial` [R, H],
`ids`, `weights` [T, k] and `shared` [T, H] out. Compute only, without dispatch and combine.

y = leave(sum_i w_i E_i(enter(x))) + S(x) (seeds/README.md, routing and shared branch): enter and leave are nothing in most
models, and latent projections and norms in the others (`workloads.passage`), where experts read and write W values. A token
enters before dispatch and leaves after combine, both on its own rank. So at ep > 1 such a share also has `entry` [T, W] out,
what the own tokens send, and `exit` [T, H], the way out of pinned sums `combined` [T, W], which stand for what combine
brings; rows and `partial` are [R, W] then, and the rows are pinned noise, the own tokens' among them: entries are outputs.

Identity experts (LongCat-Flash) are on no rank: a token's own rank adds w x for them, at ep > 1 in the output `zero` [T, H].

`moe-layer+hash`, the first layers of DeepSeek-V4: `input_ids` [T] in too, by which a table selects (`workloads.router`).

Useful FLOPs: 2 * m * W * I * assignments + 2 * m * H * I_shared * T + 2 * H * E * T + 4 * H * W_latent * T; m = 3 matrices, 2
without a gate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.case import Case
from workloads.experts import (
    OnnxExperts,
    TorchActivation,
    expert_weights,
    onnx_experts,
    onnx_sorted,
    reference_parts,
    sizes_follow,
    summed,
    torch_experts,
    torch_sorted,
)
from workloads.formats import precision_of, unsupported_dtype, value_bytes, weight_bytes
from workloads.inputs import HASH, Planned, RoutedInputs, planned, routed_inputs, unsupported_routing
from workloads.models import Model, check_share, model
from workloads.parameters import expert_parameters
from workloads.passage import (
    enter_reference,
    has_entry,
    has_exit,
    leave_parts,
    leave_reference,
    leave_weights,
    onnx_enter,
    onnx_leave,
    passage_parameters,
    passage_weights,
    torch_enter,
    torch_leave,
)
from workloads.planting import hidden_noise
from workloads.problem import (
    ENTRY,
    EXIT,
    SHARED,
    ZERO,
    Contribution,
    Cost,
    Counts,
    Expected,
    Lines,
    Problem,
    input_digest,
)
from workloads.registry import Built, implementation, register_workload
from workloads.router import (
    CASTS,
    onnx_router,
    router_bytes,
    router_weights,
    torch_router,
)
from workloads.rules import Select
from workloads.shared import (
    onnx_shared,
    shared_factor,
    shared_parameters,
    shared_reference,
    shared_weights,
    torch_shared,
)
from workloads.sizes import Sizes
from workloads.weights import Weight, in_format

if TYPE_CHECKING:
    from torch import Tensor

    from workloads.backends.onnx_ops import Graph

__all__ = [
    "LayerReference",
    "MoeLayerWorkload",
    "OnnxOutput",
    "always",
    "build_onnx_layer",
    "build_torch_layer",
    "joined",
    "layer_cost",
    "layer_problem",
    "layer_sizes",
    "layer_weights",
    "onnx_layer",
    "torch_layer",
]


class MoeLayerWorkload:
    """The main workload."""

    name = "moe-layer"
    version = 2

    def unsupported(self, case: Case) -> str | None:
        """The sentence that says why the case is not defined or not done; None if it is."""
        if set(case.variants) - {HASH}:
            return f"the variant {case.variants[-1]!r} of {self.name} is not done yet: {HASH} is"
        about = model(case.model)
        widths = (about.hidden_size, about.moe_intermediate_size or 0, about.shared_intermediate_size or 0)
        if refusal := unsupported_dtype(case.dtype, widths):
            return refusal
        return unsupported_routing(case, about)

    def problem(self, case: Case) -> Problem:
        """The pinned problem of a case."""
        about = model(case.model)
        check_share(about, case.ep)
        made = _with_combined(case, about, routed_inputs(case, about, with_rows=True))
        sizes = layer_sizes(case, about, made)
        plain = router_weights(made.gate, made.table) | layer_weights(about, sizes.local_experts, case.seed)
        return layer_problem(case, about, made, plain)

    def counts(self, case: Case) -> Counts:
        """Cost and skew, without the inputs."""
        about = model(case.model)
        made = planned(case, about)
        return Counts(layer_cost(case, about, layer_sizes(case, about, made), made.distinct_experts), made.skew)


def layer_weights(about: Model, local: int, seed: int) -> dict[str, Weight]:
    """All weights of one rank's share of the layer, but for the router's, before any format."""
    return expert_weights(about, local, seed) | shared_weights(about, seed) | passage_weights(about, seed)


def layer_problem(case: Case, about: Model, made: RoutedInputs, plain: dict[str, Weight]) -> Problem:
    """The problem of a layer with these inputs and weights, whoever made them; these in the case's format."""
    sizes = layer_sizes(case, about, made)
    weights = in_format(plain, precision_of(case.dtype))
    ring = [slot.inputs for slot in made.slots]
    reference = LayerReference(about, made, weights, case.ep > 1)
    return Problem(
        case=case,
        model=about,
        sizes=sizes,
        weights=weights,
        ring=ring,
        outputs=_outputs(case, about, sizes),
        cost=layer_cost(case, about, sizes, made.distinct_experts),
        input_digest=input_digest(weights, ring, made.plan),
        references=reference.references,
        sources=reference.sources,
        skew=made.skew,
        unquantised=LayerReference(about, made, plain, case.ep > 1).references if weights is not plain else None,
    )


register_workload(MoeLayerWorkload())


def _with_combined(case: Case, about: Model, made: RoutedInputs) -> RoutedInputs:
    """The ring with `combined`, what combine would bring, where a share has its own tokens' way out to compute."""
    if case.ep == 1 or not has_exit(about):
        return made
    shape = (case.tokens, about.moe_latent_size or about.hidden_size)
    slots = []
    for number, slot in enumerate(made.slots):
        label = ("combined", about.id, case.routing, case.tokens, case.ep, case.seed, number)
        slots.append(replace(slot, inputs=slot.inputs | {"combined": hidden_noise(*shape, label).astype(np.float32)}))
    return replace(made, slots=slots)


def layer_sizes(case: Case, about: Model, made: Planned) -> Sizes:
    """The sizes of one call."""
    return Sizes(
        tokens=case.tokens,
        hidden=about.hidden_size,
        num_experts=about.num_experts + about.zero_experts,
        zero_experts=about.zero_experts,
        hashed=HASH in case.variants,
        experts_per_token=about.experts_per_token,
        rows=made.rows if case.ep > 1 else case.tokens,
        assignments=made.assignments,
        local_experts=about.num_experts // case.ep,
        inner=about.moe_intermediate_size,
        shared_inner=about.shared_intermediate_size or 0,
        latent=about.moe_latent_size,
        matrices=3 if about.glu else 2,
    )


def _outputs(case: Case, about: Model, sizes: Sizes) -> dict[str, tuple[int, ...]]:
    routed, hidden = (sizes.tokens, sizes.experts_per_token), (sizes.tokens, sizes.hidden)
    outputs: dict[str, tuple[int, ...]] = {"ids": routed, "weights": routed}
    if case.ep == 1:
        return outputs | {"y": hidden}
    outputs["partial"] = (sizes.rows, sizes.expert_hidden)
    outputs |= {"entry": (sizes.tokens, sizes.expert_hidden)} if has_entry(about) else {}
    outputs |= {"exit": hidden} if has_exit(about) else {}
    outputs |= {"zero": hidden} if about.zero_experts else {}
    return outputs | ({"shared": hidden} if sizes.shared_inner else {})


# -- cost ----------------------------------------------------------------------------------------------------------


def layer_cost(case: Case, about: Model, sizes: Sizes, distinct: int) -> Cost:
    """Bytes: touched experts, shared branch, passage, gate, biases and norms once, projections of FFNs as they are stored; own
    tokens in, rows in (ep > 1), outputs out."""
    size = value_bytes(case.dtype)
    weights = distinct * expert_parameters(about) + shared_parameters(about) + passage_parameters(about)
    weights += sizes.expert_hidden if about.expert_norm_eps else 0
    projections = sizes.matrices * (distinct * sizes.expert_hidden * sizes.inner + sizes.hidden * sizes.shared_inner)
    gate, routed = router_bytes(case, about)
    stored = weight_bytes(case.dtype, weights, projections) + gate
    total = stored + routed + _moved_values(case, about, sizes) * size
    if case.ep > 1:
        total += 8 * sizes.rows * sizes.experts_per_token
    return Cost(sizes.flops, total, stored, sizes.tokens, sizes.rows, sizes.assignments)


def _moved_values(case: Case, about: Model, sizes: Sizes) -> int:
    """Values of the case's dtype that go in or come out, beside the router's tokens in."""
    hidden, inside = sizes.tokens * sizes.hidden, sizes.tokens * sizes.expert_hidden
    if case.ep == 1:
        return hidden
    own = (inside if has_entry(about) else 0) + (inside + hidden if has_exit(about) else 0)
    own += hidden if about.zero_experts else 0
    return 2 * sizes.rows * sizes.expert_hidden + own + (hidden if sizes.shared_inner else 0)


# -- float64 reference ---------------------------------------------------------------------------------------------


Chosen = Sequence[tuple[int, np.ndarray]]
"""(slot, lines) of one output."""


@dataclass(frozen=True)
class LayerReference:
    """Float64 references of a layer on these inputs."""

    model: Model
    made: RoutedInputs
    weights: dict[str, Weight]
    share: bool

    def references(self, requests: Sequence[tuple[int, Lines]]) -> list[Expected]:
        """Each output of all requests at once, so that each expert is computed once."""
        chosen = {output: [self._chosen(output, *request) for request in requests] for output in self._outputs()}
        parts = {output: self._parts(output, some) for output, some in chosen.items()}
        return [
            self._expected(slot, {output: (some[i][1], parts[output][i]) for output, some in chosen.items()})
            for i, (slot, _) in enumerate(requests)
        ]

    def sources(self, slot: int, output: str) -> tuple[np.ndarray, np.ndarray]:
        """(line, local expert) of every assignment of a slot."""
        if output not in ("y", "partial"):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        ids, _ = self._assigned(slot)
        line, column = np.nonzero(ids >= 0)
        return line, ids[line, column]

    def _outputs(self) -> dict[str, tuple[str, Callable[[Chosen], Contribution]]]:
        """Output → (input that its lines are counted on, what computes its parts)."""
        if not self.share:
            return {"y": ("tokens", self._layer)}
        outputs: dict[str, tuple[str, Callable[[Chosen], Contribution]]] = {"partial": ("rows", self._routed)}
        outputs |= {"entry": ("tokens", self._entry)} if has_entry(self.model) else {}
        outputs |= {"exit": ("combined", self._exit)} if has_exit(self.model) else {}
        outputs |= {"zero": ("tokens", self._zero)} if self.model.zero_experts else {}
        return outputs | ({"shared": ("tokens", self._shared)} if "shared_in" in self.weights else {})

    def _chosen(self, output: str, slot: int, lines: Lines) -> tuple[int, np.ndarray]:
        count = len(self.made.slots[slot].inputs[self._outputs()[output][0]])
        return slot, np.arange(count) if lines is None else lines.get(output, np.empty(0, np.int64))

    def _parts(self, output: str, chosen: Chosen) -> list[Contribution]:
        whole = self._outputs()[output][1](chosen)
        starts = np.cumsum([0, *(len(lines) for _, lines in chosen)])
        return [whole.between(first, last) for first, last in pairwise(starts)]

    def _expected(self, slot: int, found: dict[str, tuple[np.ndarray, Contribution]]) -> Expected:
        return Expected(
            ids=self.made.slots[slot].ids,
            weights=self.made.slots[slot].weights,
            lines={output: lines for output, (lines, _) in found.items()},
            values={output: summed(parts, len(lines)) for output, (lines, parts) in found.items()},
            routed={output: self.sizes_of_parts(slot, output) for output in found},
            contributions={output: parts for output, (_, parts) in found.items()},
        )

    # what computes the parts of each output, for lines of several slots

    def _layer(self, chosen: Chosen) -> Contribution:
        """Of `y`: the experts' parts, all the way out, and the shared branch's."""
        x = self._input("tokens", chosen)
        inside = self._experts(enter_reference(self.weights, self.model, x), chosen)
        parts = leave_parts(self.weights, self.model, inside, len(x))
        if self.model.zero_experts:
            parts = joined(parts, self._zero(chosen))
        return joined(parts, self._shared(chosen)) if "shared_in" in self.weights else parts

    def _routed(self, chosen: Chosen) -> Contribution:
        return self._experts(self._input("rows", chosen), chosen)

    def _experts(self, x: np.ndarray, chosen: Chosen) -> Contribution:
        assigned = [(ids[lines], weights[lines]) for (slot, lines) in chosen for ids, weights in [self._assigned(slot)]]
        ids, weights = (np.concatenate(some) for some in zip(*assigned, strict=True))
        return reference_parts(self.weights, self.model, x, ids, weights)

    def _shared(self, chosen: Chosen) -> Contribution:
        x = self._input("tokens", chosen)
        return always(SHARED, shared_reference(self.weights, self.model, x), shared_factor(self.weights, x))

    def _zero(self, chosen: Chosen) -> Contribution:
        """w x of all identity experts of a token together, for tokens that have one."""
        x = self._input("tokens", chosen)
        weight = np.concatenate([self._zero_weights(slot)[lines] for slot, lines in chosen])
        row = np.flatnonzero(weight)
        return Contribution(row, np.full(len(row), ZERO), weight[row], weight[row, None] * x[row])

    def _zero_weights(self, slot: int) -> np.ndarray:
        """[T]: the weights of each own token's identity experts, summed."""
        made = self.made.slots[slot]
        return np.asarray(np.where(made.ids >= self.model.num_experts, made.weights, 0.0).sum(axis=1))

    def _entry(self, chosen: Chosen) -> Contribution:
        return always(ENTRY, enter_reference(self.weights, self.model, self._input("tokens", chosen)))

    def _exit(self, chosen: Chosen) -> Contribution:
        return always(EXIT, leave_reference(self.weights, self.model, self._input("combined", chosen)))

    def _input(self, name: str, chosen: Chosen) -> np.ndarray:
        return np.concatenate([self.made.slots[slot].inputs[name][lines] for slot, lines in chosen]).astype(np.float64)

    def _assigned(self, slot: int) -> tuple[np.ndarray, np.ndarray]:
        """Local ids and weights of the lines that go through experts."""
        made = self.made.slots[slot]
        if self.share:
            return made.inputs["row_ids"], made.inputs["row_weights"]
        return np.where(made.ids < self.model.num_experts, made.ids, -1), made.weights

    def sizes_of_parts(self, slot: int, output: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(line, source, weight) of every contribution to a whole output."""
        tokens = self.made.slots[slot].inputs["tokens"]
        factor = shared_factor(self.weights, tokens) if output in ("y", "shared") else np.ones(len(tokens))
        if output == "zero":
            return _from_source(ZERO, self._zero_weights(slot))
        if output not in ("y", "partial"):
            return _from_source({"shared": SHARED, "entry": ENTRY, "exit": EXIT}[output], factor)
        ids, weights = self._assigned(slot)
        row, column = np.nonzero(ids >= 0)
        follows = sizes_follow(self.model, weights[row, column].astype(np.float64))
        if output == "y" and self.model.exit_norm_eps:
            follows = leave_weights(row, follows, len(ids))
        found = [(row, ids[row, column], follows)]
        if output == "y" and self.model.zero_experts:
            found.append(_from_source(ZERO, self._zero_weights(slot)))
        if output == "y" and "shared_in" in self.weights:
            found.append(_from_source(SHARED, factor))
        line, source, weight = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return line, source, weight


def _from_source(source: int, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(line, source, weight) of a branch, for the lines where its weight [lines] is not 0."""
    line = np.flatnonzero(weight)
    return line, np.full(len(line), source), weight[line]


def always(source: int, values: np.ndarray, weight: np.ndarray | None = None) -> Contribution:
    """The one contribution that every line has from a branch that is always active."""
    lines = len(values)
    return Contribution(np.arange(lines), np.full(lines, source), np.ones(lines) if weight is None else weight, values)


def joined(a: Contribution, b: Contribution) -> Contribution:
    """All parts of both."""
    pairs = ((a.row, b.row), (a.source, b.source), (a.weight, b.weight), (a.parts, b.parts))
    return Contribution(*(np.concatenate(pair) for pair in pairs))


# -- torch ---------------------------------------------------------------------------------------------------------


def build_torch_layer(problem: Problem, on: Any, experts: Any, select: Select | None = None) -> Built:
    """The layer around one way of running the experts: see `torch_layer`."""
    layer = torch_layer(problem, experts, select)
    slots = [(on.inputs(slot), on.weights(slot)) for slot in range(len(problem.ring))]

    def call(slot: int) -> dict[str, Tensor]:
        return layer(*slots[slot])

    return Built(call, () if problem.precision.carrier in ("fp32", "tf32") else CASTS)


def torch_layer(
    problem: Problem, experts: Any, select: Select | None = None
) -> Callable[[Mapping[str, Tensor], dict[str, Tensor]], dict[str, Tensor]]:
    """`f(inputs, weights) -> outputs` around one way of running the experts: `experts(x, ids, shares, weights, act) -> [R, W]`.

    `act` is a `workloads.experts.TorchActivation`; `select` as in `torch_router`.
    """
    about = problem.model
    route, run, branch = torch_router(about, select), torch_experts(about, experts), torch_shared(about)
    act = TorchActivation(about)
    if problem.case.dtype == "tf32":
        route = _in_ieee(route)
    share, shared = problem.case.ep > 1, problem.sizes.shared_inner > 0
    entry, leaving, zero = has_entry(about), has_exit(about), bool(about.zero_experts)

    def layer(inputs: Mapping[str, Tensor], weights: dict[str, Tensor]) -> dict[str, Tensor]:
        tokens = inputs["tokens"]
        ids, shares = route(inputs, weights)
        outputs = {"ids": ids, "weights": shares}
        if zero:
            identity = ids >= about.num_experts
            outputs["zero"] = tokens * (shares * identity).sum(dim=1, keepdim=True).to(tokens.dtype)
            ids = ids.masked_fill(identity, -1).int()  # padding, as in an EP share's ids
        if shared:
            outputs["shared"] = branch(tokens, weights, act)
        if share:
            if entry:
                outputs["entry"] = torch_enter(about, tokens, weights)
            if leaving:
                outputs["exit"] = torch_leave(about, inputs["combined"], weights)
            outputs["partial"] = run(inputs["rows"], inputs["row_ids"], inputs["row_weights"], weights, act)
            return outputs
        y = torch_leave(about, run(torch_enter(about, tokens, weights), ids, shares, weights, act), weights)
        for branch_output in ("shared", "zero"):
            if branch_output in outputs:
                y = y.add_(outputs.pop(branch_output))
        return outputs | {"y": y}

    return layer


def _in_ieee(route: Any) -> Any:
    """The router of a tf32 case: in every dtype its product is IEEE fp32."""
    import torch

    def exact(tokens: Tensor, weights: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        torch.set_float32_matmul_precision("highest")
        try:
            return route(tokens, weights)
        finally:
            torch.set_float32_matmul_precision("high")

    return exact


@implementation("moe-layer", "torch", "sorted")
def build_torch(problem: Problem, on: Any) -> Built:
    """Sort by expert and one matmul an expert."""
    return build_torch_layer(problem, on, torch_sorted)


# -- ONNX ----------------------------------------------------------------------------------------------------------


@implementation("moe-layer", "onnxruntime", "sorted")
def build_onnx(about: Model, sizes: Sizes, graph: Graph) -> None:
    """Standard operators only: sort, Split, a MatMul on each expert's own 2-D initialiser, inverse Gather."""
    build_onnx_layer(about, sizes, graph, onnx_sorted)


def build_onnx_layer(about: Model, sizes: Sizes, graph: Graph, experts: OnnxExperts) -> None:
    """The layer around one way of running the experts as nodes."""
    tokens = graph.input("tokens", (sizes.tokens, sizes.hidden), graph.dtype)
    for name, output in onnx_layer(about, sizes, graph, tokens, experts).items():
        graph.output(output.value, name, output.shape, output.dtype)


@dataclass(frozen=True)
class OnnxOutput:
    """A value of the graph that is to be an output."""

    value: str
    shape: tuple[int, ...]
    dtype: str


def onnx_layer(about: Model, sizes: Sizes, graph: Graph, tokens: str, experts: OnnxExperts) -> dict[str, OnnxOutput]:
    """The outputs of the layer on `tokens` [T, H], by name."""
    ids, shares = onnx_router(graph, tokens, sizes, about)
    routed, hidden = (sizes.tokens, sizes.experts_per_token), (sizes.tokens, sizes.hidden)
    outputs = {"ids": OnnxOutput(ids, routed, "int64"), "weights": OnnxOutput(shares, routed, "fp32")}
    shared = onnx_shared(graph, tokens, sizes, about)
    zero = _onnx_zero(graph, tokens, ids, shares, sizes) if sizes.zero_experts else None
    branches = {name: value for name, value in (("shared", shared), ("zero", zero)) if value}
    if sizes.is_share:
        outputs |= _onnx_share(graph, tokens, sizes, about, experts)
        return outputs | {name: OnnxOutput(value, hidden, graph.dtype) for name, value in branches.items()}
    if zero:
        real = graph.node("Less", ids, graph.constant(np.int64(sizes.real_experts)))
        ids = graph.node("Where", real, ids, graph.constant(np.int64(-1)))
    s = onnx_experts(graph, onnx_enter(graph, tokens, sizes, about), ids, shares, sizes, about, experts)
    y = onnx_leave(graph, s, sizes, about)
    for branch in branches.values():
        y = graph.node("Add", y, branch)
    return outputs | {"y": OnnxOutput(y, hidden, graph.dtype)}


def _onnx_zero(graph: Graph, tokens: str, ids: str, shares: str, sizes: Sizes) -> str:
    """w x of all identity experts of a token together: [T, H]."""
    identity = graph.node("GreaterOrEqual", ids, graph.constant(np.int64(sizes.real_experts)))
    counted = graph.node("Where", identity, shares, graph.scalar(0.0, "fp32"))
    factor = graph.node("ReduceSum", counted, graph.constant([1]), keepdims=1)
    return graph.node("Mul", tokens, factor if graph.dtype == "fp32" else graph.cast(factor, graph.dtype))


def _onnx_share(graph: Graph, tokens: str, sizes: Sizes, about: Model, experts: OnnxExperts) -> dict[str, OnnxOutput]:
    """The rows of an EP share, whose ids and weights are inputs, and the own tokens' way in and out."""
    width, hidden = sizes.expert_hidden, (sizes.tokens, sizes.hidden)
    rows = graph.input("rows", (sizes.rows, width), graph.dtype)
    ids = graph.input("row_ids", (sizes.rows, sizes.experts_per_token), "int32")
    shares = graph.input("row_weights", (sizes.rows, sizes.experts_per_token), "fp32")
    partial = onnx_experts(graph, rows, graph.cast(ids, "int64"), shares, sizes, about, experts)
    outputs = {"partial": OnnxOutput(partial, (sizes.rows, width), graph.dtype)}
    if has_entry(about):
        entry = onnx_enter(graph, tokens, sizes, about)
        outputs["entry"] = OnnxOutput(entry, (sizes.tokens, width), graph.dtype)
    if has_exit(about):
        combined = graph.input("combined", (sizes.tokens, width), graph.dtype)
        outputs["exit"] = OnnxOutput(onnx_leave(graph, combined, sizes, about), hidden, graph.dtype)
    return outputs

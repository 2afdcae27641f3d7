"""The second half of a block: what stands behind its second norm, with its inputs and its float64 reference.

`RoutedHalf` is the MoE layer, whose tokens are planted behind the norm; `DenseHalf` the FFN of a dense model. Both have the
same attributes, and `references` of what the second norm gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from workloads.backends.numpy_ops import NumpyOps
from workloads.case import Case
from workloads.experts import ffn_reference, ffn_weights, rms_norm
from workloads.inputs import Slot, planned, routed_inputs
from workloads.models import Model
from workloads.moe_layer import LayerReference, always, layer_cost, layer_sizes, layer_weights
from workloads.planting import Gate, behind_norm, gate_of, hidden_noise, selected
from workloads.problem import DTYPE_BYTES, SHARED, SLOTS, Cost, Counts, Expected
from workloads.router import router_weights
from workloads.sizes import Sizes
from workloads.weights import Pinned, Weight

__all__ = ["DenseHalf", "RoutedHalf", "half_counts", "normed"]


def half_counts(case: Case, about: Model) -> tuple[Sizes, Counts]:
    """Sizes, cost and skew of the second half, without its inputs."""
    if not about.num_experts:
        sizes = _dense_sizes(case, about)
        return sizes, Counts(_dense_cost(case, about, sizes))
    made = planned(case, about)
    sizes = layer_sizes(case, about, made)
    return sizes, Counts(layer_cost(case, about, sizes, made.distinct_experts), made.skew)


def normed(x: np.ndarray, gain: np.ndarray | None, about: Model) -> np.ndarray:
    """A block's norm of x [n, H], float64."""
    done: np.ndarray = rms_norm(NumpyOps(), x.astype(np.float64), gain, x.shape[1], about.block_norm_eps)
    return done


class RoutedHalf:
    """The MoE layer behind the second norm."""

    def __init__(self, case: Case, about: Model, norms: dict[str, Weight]) -> None:
        self._about, self._share = about, case.ep > 1
        self._gate = gate_of(about, case.seed)
        self._behind = _behind(self._gate, norms["ffn_norm"], about)
        self._made = routed_inputs(case, about, with_rows=True, behind=self._behind)
        local = about.num_experts // case.ep
        self.weights = router_weights(self._gate) | layer_weights(about, local, case.seed)
        self.sizes = layer_sizes(case, about, self._made)
        self.cost = layer_cost(case, about, self.sizes, self._made.distinct_experts)
        self.ring = [slot.inputs for slot in self._made.slots]
        self.plan: np.ndarray | None = self._made.plan
        self.skew: dict[str, Any] | None = self._made.skew
        routed = (case.tokens, about.experts_per_token)
        self.outputs: dict[str, tuple[int, ...]] = {"ids": routed, "weights": routed}
        self.outputs |= {"partial": (self.sizes.rows, self.sizes.hidden)} if self._share else {}
        self.own = "shared" if self._share else "y"
        """The layer's output that is added to the own tokens' h."""

    @cached_property
    def _unattended(self) -> LayerReference:
        """The layer as if attention added nothing: which experts each line meets, with about which weights."""
        slots = [self._seen(number, slot.inputs["tokens"]) for number, slot in enumerate(self._made.slots)]
        return LayerReference(self._about, replace(self._made, slots=slots), self.weights, self._share)

    def _seen(self, number: int, tokens: np.ndarray) -> Slot:
        slot = self._made.slots[number]
        return replace(slot, inputs=slot.inputs | {"tokens": normed(tokens, self._behind.norm, self._about)})

    def sources(self, slot: int, output: str) -> tuple[np.ndarray, np.ndarray]:
        """(line, local expert) of every assignment: what a checker draws lines from."""
        if output not in self.expert_outputs:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        return self._unattended.sources(slot, output)

    @property
    def expert_outputs(self) -> tuple[str, ...]:
        """The outputs that experts contribute to."""
        return ("partial",) if self._share else ("y",)

    def sizes_of_parts(self, slot: int, output: str) -> tuple[np.ndarray, ...] | None:
        """(line, source, weight) of the layer's contributions to a whole output; None where it has none."""
        if output == "y" and self._share and not self.sizes.shared_inner:
            return None
        return self._unattended.sizes_of_parts(slot, self.own if output == "y" else output)

    def references(
        self, slots: Sequence[int], lines: Sequence[dict[str, np.ndarray]], states: Sequence[np.ndarray]
    ) -> list[Expected]:
        """Of each request the layer's outputs at these lines, given what its own tokens' lines of `y` read [n, H]."""
        made = [self._chosen(*one) for one in zip(slots, lines, states, strict=True)]
        reference = LayerReference(self._about, replace(self._made, slots=made), self.weights, self._share)
        found = reference.references([(number, None) for number in range(len(made))])
        return [self._with_routing(*one) for one in zip(slots, lines, made, found, strict=True)]

    def _chosen(self, number: int, lines: dict[str, np.ndarray], states: np.ndarray) -> Slot:
        slot, own = self._made.slots[number], lines["y"]
        ids, weights = selected(self._gate, self._about, states)
        if (np.sort(ids, axis=1) != np.sort(slot.ids[own], axis=1)).any():
            raise ArithmeticError("attention moved a token's logits so far that the router does not select the plan")
        rows = lines.get("partial", np.empty(0, np.int64))
        inputs = {name: slot.inputs[name][rows] for name in slot.inputs if name != "tokens"}
        return Slot(inputs | {"tokens": states}, ids, weights)

    def _with_routing(self, number: int, lines: dict[str, np.ndarray], made: Slot, found: Expected) -> Expected:
        """With the ids of all tokens, and the weights of those that were computed."""
        ids, weights = self._made.slots[number].ids.copy(), self._made.slots[number].weights.copy()
        ids[lines["y"]], weights[lines["y"]] = made.ids, made.weights
        return replace(found, ids=ids, weights=weights, weighed=lines["y"])


def _behind(gate: Gate, norm: Weight, about: Model) -> Gate:
    assert isinstance(norm, Pinned)
    return behind_norm(gate, norm.values.astype(np.float64), about.block_norm_eps)


def _dense_sizes(case: Case, about: Model) -> Sizes:
    inner = about.dense_intermediate_size or 0
    return Sizes(case.tokens, about.hidden_size, dense_inner=inner, matrices=3 if about.glu else 2)


def _dense_cost(case: Case, about: Model, sizes: Sizes) -> Cost:
    stored = DTYPE_BYTES[case.dtype] * sizes.matrices * sizes.hidden * sizes.dense_inner
    moved = 2 * DTYPE_BYTES[case.dtype] * case.tokens * about.hidden_size
    return Cost(sizes.flops, stored + moved, stored, case.tokens, 0, 0)


class DenseHalf:
    """The FFN of a dense model behind the second norm."""

    own = "y"
    expert_outputs: tuple[str, ...] = ()
    plan: np.ndarray | None = None
    skew: dict[str, Any] | None = None

    def __init__(self, case: Case, about: Model, norms: dict[str, Weight]) -> None:
        self._about, inner = about, about.dense_intermediate_size
        self.weights = ffn_weights("dense", about, inner, 1, case.seed)
        self.sizes = _dense_sizes(case, about)
        self.cost = _dense_cost(case, about, self.sizes)
        label = ("block", about.id, case.seed)
        shape = (case.tokens, about.hidden_size)
        self.ring = [{"tokens": hidden_noise(*shape, (*label, slot)).astype(np.float32)} for slot in range(SLOTS)]
        self.outputs: dict[str, tuple[int, ...]] = {}

    def sources(self, slot: int, output: str) -> tuple[np.ndarray, np.ndarray]:
        """None: it has no experts."""
        return np.empty(0, np.int64), np.empty(0, np.int64)

    def sizes_of_parts(self, slot: int, output: str) -> tuple[np.ndarray, ...] | None:
        """(line, source, weight) of the FFN's contribution to the whole of y."""
        count = self.sizes.tokens
        return np.arange(count), np.full(count, SHARED), np.ones(count)

    def references(
        self, slots: Sequence[int], lines: Sequence[dict[str, np.ndarray]], states: Sequence[np.ndarray]
    ) -> list[Expected]:
        """Of each request the FFN's output at the lines of `y`, given what these read [n, H]."""
        found = [ffn_reference(self.weights, "dense", self._about, 0, one) for one in states]
        return [Expected(values={"y": one}, contributions={"y": always(SHARED, one)}) for one in found]

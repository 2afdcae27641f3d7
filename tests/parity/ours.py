"""Our side: the benchmarked code, run on a reference module's weights and tokens.

Problem, targets and implementations are those of a measurement; only weights and tokens come from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import torch
from torch import Tensor

from harness.targets import Target, TargetName, open_target
from tests.parity.families import Family, State
from tests.parity.theirs import VOCABULARY, Reference
from workloads.case import Case, UserError
from workloads.dims import Model
from workloads.inputs import RoutedInputs, Slot
from workloads.moe_layer import layer_problem, layer_weights
from workloads.planting import gate_of, selected
from workloads.problem import SLOTS, Problem
from workloads.registry import Implementation, implementations_of, workload_of
from workloads.router import router_weights
from workloads.weights import Pinned

__all__ = [
    "Outputs",
    "case_of",
    "named_weights",
    "open_targets",
    "outputs_of",
    "problem_of",
    "reference_outputs",
    "tiny",
    "unsupported",
]

TOKENS = 24
HIDDEN, INNER, LATENT, ZERO = 64, 24, 32, 8
JITTER = 0.25
"""Of sparsemixer: with the published 0.01 hardly a token would keep an expert beside its largest."""
TARGETS = ("torch:cpu", "ort:cpu")
SLOW = {"compiled"}
"""Implementations that are left out: compiling is the better part of a minute."""

NAMES = {
    "gate": (
        "gate.weight",
        "gate.wg.weight",
        "router.weight",
        "router.layer.weight",
        "router.classifier.weight",
        "router.proj.weight",
    ),
    "gate_bias": ("router.bias",),
    "router_bias": (
        "gate.e_score_correction_bias",
        "e_score_correction_bias",
        "router.e_score_correction_bias",
        "gate.moe_statics.e_score_correction_bias",
        "expert_bias",
    ),
    "router_scale": ("router.per_expert_scale",),
    "router_norm": ("router.scale",),
    "hash_table": ("gate.tid2eid",),
    "experts_in": ("experts.gate_up_proj", "experts.up_proj"),
    "experts_out": ("experts.down_proj",),
    "experts_in_bias": ("experts.gate_up_proj_bias",),
    "experts_out_bias": ("experts.down_proj_bias",),
    "expert_norm": ("experts.post_expert_norm.weight",),
    "shared_in": ("shared.gate_up_proj.weight", "shared.up_proj.weight"),
    "shared_out": ("shared.down_proj.weight",),
    "shared_gate": ("shared_expert_gate.weight",),
    "shared_entry_norm": ("pre_feedforward_layernorm.weight",),
    "shared_exit_norm": ("post_feedforward_layernorm_1.weight",),
    "latent_down": ("fc1_latent_proj.weight", "pre_expert_proj.weight"),
    "latent_up": ("fc2_latent_proj.weight", "post_expert_proj.weight"),
    "entry_norm": ("pre_expert_norm.weight", "pre_feedforward_layernorm_2.weight"),
    "exit_norm": ("post_feedforward_layernorm_2.weight",),
}
"""Our weight → what modules call it, `shared` standing for any of SHARED."""
STACKED = ("shared_in", "shared_out", "latent_down", "latent_up")
"""Weights that ours holds as stacks of one."""
TERMS = {"bias": "router_bias", "linear_bias": "gate_bias", "scale": "router_scale", "norm": "router_norm"}
"""Part of our gate → its name among the weights."""
ROUTER = ("gate", "hash_table", *TERMS.values())
SHARED = ("shared_experts", "shared_expert", "shared_mlp")


@dataclass(frozen=True)
class Outputs:
    """What one implementation made of the tokens: ids and weights [T, k], y [T, H]."""

    ids: np.ndarray
    weights: np.ndarray
    y: np.ndarray


def case_of(name: str, variant: str = "") -> Case:
    """The case that stands for a model in these comparisons."""
    return Case.parse(f"moe-layer{variant}/{name}/ep1/t{TOKENS}/fp32/uniform/latency")


def unsupported(family: Family, about: Model) -> str | None:
    """Why our layer of that model is not defined or not done; None if it is, or if models.toml does not hold the model."""
    return None if family.traits else workload_of("moe-layer").unsupported(case_of(about.id, family.variant))


def tiny(about: Model) -> Model:
    """The model with small dims and all of its traits."""
    grouped = about.num_expert_groups > 1
    shared = max(1, about.shared_experts) * INNER if about.shared_intermediate_size else 0
    return msgspec.structs.replace(
        about,
        hidden_size=HIDDEN,
        num_experts=32 if grouped else min(16, about.num_experts),
        experts_per_token=min(6, about.experts_per_token),
        moe_intermediate_size=INNER,
        shared_intermediate_size=shared,
        vocab_size=VOCABULARY,
        moe_latent_size=LATENT if about.moe_latent_size else 0,
        zero_experts=ZERO if about.zero_experts else 0,
        router_jitter_eps=JITTER if about.router_jitter_eps else 0.0,
    )


# -- problem -------------------------------------------------------------------------------------------------------


def problem_of(family: Family, about: Model, theirs: Reference) -> Problem:
    """Our problem with their weights and tokens. Raises AssertionError unless they hold what ours holds."""
    named = named_weights(theirs.state)
    planted = gate_of(about, seed=0)
    terms = {ours: _maybe(named, name) for ours, name in TERMS.items()}
    gate = replace(planted, weight=_array(named["gate"]), **terms)
    table = named["hash_table"].int().numpy() if "hash_table" in named else None
    inputs = {"tokens": theirs.tokens.numpy()} | (
        {} if table is None else {"input_ids": theirs.token_ids.int().numpy()}
    )
    looked_up = None if table is None else table[inputs["input_ids"]].astype(np.int64)
    ids, weights = selected(gate, about, inputs["tokens"], looked_up)
    slot, real = Slot(inputs, ids, weights), ids[ids < about.num_experts]
    made = RoutedInputs(ids, 0, len(ids), real.size, len(np.unique(real)), {}, gate, table, [slot] * SLOTS)
    stacks = {name: Pinned(values.numpy()) for name, values in named.items() if name not in ROUTER}
    held = router_weights(gate, table) | stacks
    wanted = router_weights(planted, table) | layer_weights(about, about.num_experts, seed=0)
    assert {name: weight.shape for name, weight in held.items()} == {name: w.shape for name, w in wanted.items()}
    return layer_problem(case_of(about.id, family.variant), about, made, held)


def named_weights(state: State) -> State:
    """A module's state by our names; all of it, or AssertionError."""
    state = _gathered(state)
    named = {ours: state.pop(name) for ours, names in NAMES.items() for name in names if name in state}
    assert not state, f"the module has what ours does not: {', '.join(state)}"
    named |= {name: named[name][None] for name in STACKED if name in named}
    if "router_bias" in named:
        named["router_bias"] = named["router_bias"].reshape(-1)
    return {name: value.contiguous() for name, value in named.items()}


def _gathered(state: State) -> State:
    """The shared expert under one name, its gate and up projections as one matrix."""
    found = dict(state)
    for name in state:
        first, _, rest = name.partition(".")
        if first in SHARED:
            found[f"shared.{rest}"] = found.pop(name)
    if "shared.gate_proj.weight" in found:
        both = [found.pop(f"shared.{part}_proj.weight") for part in ("gate", "up")]
        found["shared.gate_up_proj.weight"] = torch.cat(both)
    return found


def _array(value: Tensor) -> np.ndarray:
    return value.numpy().astype(np.float64)


def _maybe(named: State, name: str) -> np.ndarray | None:
    return _array(named[name]) if name in named else None


# -- outputs -------------------------------------------------------------------------------------------------------


def reference_outputs(problem: Problem) -> Outputs:
    """The float64 reference."""
    expected = problem.reference(0)
    assert expected.ids is not None and expected.weights is not None
    return Outputs(expected.ids, expected.weights, expected.values["y"])


def outputs_of(problem: Problem, targets: Mapping[str, Target]) -> Iterator[tuple[str, Outputs]]:
    """(name, outputs) of every implementation that a target can run, prepared and called as in a measurement."""
    for target in targets.values():
        for one in implementations_of("moe-layer", target.facts.runtime):
            if one.name in SLOW or one.division == "open" or not _can(one, problem, target):
                continue
            prepared = target.prepare(problem, one, 1)
            found = prepared.fetch(prepared.submit(0))
            yield f"{target.facts.runtime} {one.name}", Outputs(found["ids"], found["weights"], found["y"])
            prepared.close()


def _can(one: Implementation, problem: Problem, target: Target) -> bool:
    """Whether it can run the case; one that asks for a model that is not ours, a module's stand-in, is left out."""
    try:
        return one.cannot(problem.case, target.facts) is None
    except UserError:
        return False


def open_targets() -> dict[str, Target]:
    """The targets of this machine that comparisons run on."""
    return {text: open_target(TargetName.parse(text)) for text in TARGETS}

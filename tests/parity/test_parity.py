"""Our layers are the models' layers: equal to transformers' own modules on the same weights and tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.targets import Target
from tests.parity.comparing import Difference, difference
from tests.parity.families import FAMILIES, NO_MODULE, Family
from tests.parity.others import NOT_COMPARED, OTHERS, subjects
from tests.parity.ours import TOKENS, open_targets, outputs_of, problem_of, reference_outputs, tiny, unsupported
from tests.parity.theirs import KEYS, Reference, default_of, reference
from workloads.dims import Model
from workloads.models import models

transformers = pytest.importorskip("transformers", reason="parity needs transformers: pip install -e .[dev]")

LIMIT = 1e-5
PLAIN = 1e-3
"""What a rule that is not the module's differs by, at least."""
SUBJECTS = subjects()
IDS = [f"{family.module}-{about.id}{family.variant}" for family, about in SUBJECTS]
each_subject = pytest.mark.parametrize(("family", "about"), SUBJECTS, ids=IDS)
EXPERTS = re.compile(r"^class \w+(Experts|MoE|SparseMLP)\(", re.MULTILINE)


@pytest.fixture(scope="module")
def targets() -> dict[str, Target]:
    return open_targets()


def refuse_undone(family: Family, about: Model) -> None:
    if reason := unsupported(family, about):
        pytest.skip(reason)


def float64(family: Family, about: Model, theirs: Reference) -> Difference:
    return difference(reference_outputs(problem_of(family, about, theirs)), theirs)


@each_subject
def test_every_implementation_is_the_module(family: Family, about: Model, targets: Mapping[str, Target]) -> None:
    refuse_undone(family, about)
    small = tiny(about)
    theirs = reference(family, small, TOKENS)
    assert float64(family, small, theirs).within(LIMIT)
    problem = problem_of(family, small, theirs)
    found = {name: difference(ours, theirs) for name, ours in outputs_of(problem, targets)}
    assert {"torch sorted", "torch grouped", "onnxruntime sorted"} <= set(found)
    assert {name: one for name, one in found.items() if not one.within(LIMIT)} == {}


def traits_left_out(about: Model) -> dict[str, dict[str, Any]]:
    """What a careless table would say of the model, one trait at a time."""
    wrong: dict[str, dict[str, Any]] = {}
    if about.routed_scaling_factor != 1.0:
        wrong["scaling"] = {"routed_scaling_factor": 1.0}
    if about.router not in WEIGHTS_FIXED:
        wrong["normalisation"] = {"norm_topk_prob": not about.norm_topk_prob}
    if about.activation_limit:
        wrong["limit"] = {"activation_limit": 1.1 * about.activation_limit}
    if about.router_logit_scale:
        wrong["scale of logits"] = {"router_logit_scale": None}
    if about.router_jitter_eps:
        wrong["jitter"] = {"router_jitter_eps": 2 * about.router_jitter_eps}
    if about.num_expert_groups > 1:
        wrong["groups"] = {"topk_groups": about.num_expert_groups}
    wrong["rule"] = {"router": OTHER_RULE.get(about.router or "", "softmax_topk")}
    if about.glu:
        wrong["activation"] = {"activation": "silu_swiglu"} if about.activation != "silu_swiglu" else CLAMPED
    return wrong


WEIGHTS_FIXED = ("topk_softmax", "topk_sigmoid", "sparsemixer")
"""Rules whose weights are normalised whatever the model says."""
OTHER_RULE = {
    "softmax_topk": "sigmoid_topk",
    "topk_softmax": "sigmoid_topk",
    "softmax_group_topk": "sigmoid_topk",
    "sqrtsoftplus_bias_topk": "sigmoid_bias_topk",
}
CLAMPED = {"activation": "clamped_silu_swiglu", "activation_limit": 0.5}


@each_subject
def test_no_trait_can_be_left_out(family: Family, about: Model) -> None:
    refuse_undone(family, about)
    small = tiny(about)
    theirs = reference(family, small, TOKENS)
    for what, change in traits_left_out(about).items():
        found = float64(family, msgspec.structs.replace(small, **change), theirs)
        assert not found.within(PLAIN), f"{about.id} without its {what} is no different"


@pytest.mark.parametrize("family", [one for one in FAMILIES if one.defaults], ids=lambda one: one.models[0])
def test_a_models_dims_are_the_defaults_of_its_configuration(family: Family) -> None:
    about = models()[family.models[0]]
    theirs = {key: default_of(family, key) for key in KEYS}
    assert {key: getattr(about, key) for key in KEYS if theirs[key] is not None} == {
        key: value for key, value in theirs.items() if value is not None
    }


def test_every_moe_model_has_a_module_or_a_reason() -> None:
    compared = {name for family in FAMILIES for name in family.covers}
    assert compared | set(NO_MODULE) == {name for name, about in models().items() if about.num_experts}
    assert not compared & set(NO_MODULE)


def test_every_moe_module_of_transformers_is_compared_or_named() -> None:
    folder = Path(transformers.__file__).parent / "models"
    there = {path.parent.name for path in folder.glob("*/modeling_*.py") if EXPERTS.search(path.read_text())}
    compared = {family.module for family in (*FAMILIES, *OTHERS)}
    assert compared | set(NOT_COMPARED) == there
    assert not compared & set(NOT_COMPARED)

"""Our attention is the models' attention: equal to transformers' own eager modules, its rotary tables and masks included."""

from __future__ import annotations

import dataclasses
import re
from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from harness.targets import TargetName, open_target
from tests.parity.attention_modules import Theirs, attention_weights, cached_by_our_names
from tests.parity.attentions import CONTEXT, HIDDEN, SUBJECTS, TOKENS, Subject
from workloads import gqa, mla
from workloads.attending import Form, form_of, scope_of
from workloads.case import Case
from workloads.dims import Attention, Model
from workloads.models import model, models, read_models
from workloads.problem import Problem
from workloads.registry import implementations_of, workload_of
from workloads.weights import Pinned, Weight

transformers = pytest.importorskip("transformers", reason="parity needs transformers: pip install -e .[dev]")

LIMIT, PLAIN = 1e-5, 1e-3
KIND = {"gqa": gqa, "mla": mla}
each_subject = pytest.mark.parametrize("subject", SUBJECTS, ids=[f"{one.model}-{one.number}" for one in SUBJECTS])
each_form = pytest.mark.parametrize("decode", [False, True], ids=["prefill", "decode"])


def inputs() -> torch.Tensor:
    return torch.randn((TOKENS, CONTEXT + 1, HIDDEN), generator=torch.Generator().manual_seed(5))


def expected(theirs: Theirs, decode: bool) -> tuple[torch.Tensor, Any, torch.Tensor]:
    """(own tokens [T, H], what was cached before them, y [T, H])."""
    x, past = inputs(), transformers.DynamicCache()
    if not decode:
        return x[0][:TOKENS], None, theirs(x[:1, :TOKENS], past)[0]
    theirs(x[:, :CONTEXT], past)
    layer = past.layers[theirs.subject.layer]
    before = (layer.keys.clone(), layer.values.clone())
    return x[:, CONTEXT], before, theirs(x[:, CONTEXT:], past)[:, 0]


@cache
def compared(number: int, decode: bool) -> tuple[Problem, torch.Tensor]:
    """(our problem with their weights, their y) of a subject."""
    theirs = Theirs(SUBJECTS[number])
    own, before, y = expected(theirs, decode)
    return ours(SUBJECTS[number], theirs, own, before, decode), y


def ours(subject: Subject, theirs: Theirs, own: torch.Tensor, before: Any, decode: bool) -> Problem:
    """Our problem of the same sizes, with their weights and caches in it."""
    mixer = subject.mixer
    about = msgspec.structs.replace(
        read_models({"model": [msgspec.to_builtins(model(subject.model))]}, "test")[0],
        hidden_size=HIDDEN,
        attention=(mixer,),
    )
    form, scope = f"decode+c{CONTEXT}" if decode else "prefill", scope_of(mixer)
    text = f"attention+{form}{scope and '+'}{scope}/{about.id}/ep1/t{TOKENS}/fp32/none/latency"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workloads.attention.model", lambda name: about)
        problem = workload_of("attention").problem(Case.parse(text))
    given = attention_weights(subject, dict(theirs.attention.named_parameters()), theirs.config)
    if before is not None:
        given |= cached_by_our_names(subject, *before)
    weights: dict[str, Weight] = dict(problem.weights)
    for name, values in given.items():
        assert values.shape == weights[name].shape, name
        weights[name] = Pinned(np.ascontiguousarray(values.detach().numpy()), fp32=True)
    assert {name for name in weights if name not in given} == (set() if mixer.nope else {"rope_cos", "rope_sin"})
    ring = [{"tokens": own.numpy()} for _ in problem.ring]
    return dataclasses.replace(problem, weights=weights, ring=ring)


def distance(found: Any, y: torch.Tensor) -> float:
    """Largest difference over the root mean square."""
    return float(np.abs(np.asarray(found) - y.numpy()).max() / y.square().mean().sqrt())


def float64_y(problem: Problem, decode: bool) -> np.ndarray:
    mixer = problem.model.attention[0]
    form = Form(mixer, 0, TOKENS, CONTEXT if decode else 0)
    lines = {name: np.arange(TOKENS) for name in problem.outputs}
    kind = KIND[mixer.kind]
    return kind.reference(form, problem.model, problem.weights, problem.ring[0]["tokens"], lines)["y"]  # type: ignore[attr-defined]


@each_form
@each_subject
def test_every_implementation_is_the_module(subject: Subject, decode: bool) -> None:
    problem, y = compared(SUBJECTS.index(subject), decode)
    assert distance(float64_y(problem, decode), y) <= LIMIT
    for runtime, target in (("torch", "torch:cpu"), ("onnxruntime", "ort:cpu")):
        [implementation] = implementations_of("attention", runtime)
        prepared = open_target(TargetName.parse(target)).prepare(problem, implementation, 1)
        assert distance(prepared.fetch(prepared.submit(0))["y"], y) <= LIMIT, runtime


LEFT_OUT: dict[str, dict[str, Any]] = {
    "qk_norm": {"qk_norm": ""},
    "qk_norm_after": {"qk_norm_after": False},
    "v_norm": {"v_norm": False},
    "sinks": {"sinks": False},
    "bias": {"bias": False},
    "qkv_bias": {"qkv_bias": False},
    "qkv_clip": {"qkv_clip": 0.0},
    "score_scale": {"score_scale": 0.0},
    "score_cap": {"score_cap": 0.0},
    "query_growth": {"query_growth": 0.0},
    "head_gate": {"head_gate": False},
    "output_gate": {"output_gate": False},
    "sliding_window": {"sliding_window": 0},
    "attention_chunk": {"attention_chunk": 0},
    "rope_dim": {"rope_dim": 0},
    "rope_factor": {"rope_factor": 0.0},
    "rope_short": {"rope_scaling": "yarn", "rope_short": ()},
    "rope_mscale_all_dim": {"rope_mscale_all_dim": 0.0},
    "rope_theta": {"rope_theta": 100.0},
    "nope": {"nope": False, "rope_theta": 1e4},
}
"""Trait → what a careless table would say."""
IN_A_DECODE = ("query_growth",)
"""What few positions do not show."""
TRAITS = [
    pytest.param(subject, trait, id=f"{subject.model}-{subject.number}-{trait}")
    for subject in SUBJECTS
    for trait in LEFT_OUT
    if getattr(subject.mixer, trait) and LEFT_OUT[trait].get(trait) != getattr(subject.mixer, trait)
]


@pytest.mark.parametrize(("subject", "trait"), TRAITS)
def test_a_trait_left_out_is_another_attention(subject: Subject, trait: str) -> None:
    decode = trait in IN_A_DECODE
    problem, y = compared(SUBJECTS.index(subject), decode)
    careless = dataclasses.replace(subject, tiny=subject.tiny | LEFT_OUT[trait])
    form = Form(careless.mixer, 0, TOKENS, CONTEXT if decode else 0)
    kind, lines = KIND[form.mixer.kind], {name: np.arange(TOKENS) for name in problem.outputs}
    made = kind.weights(form, problem.model, 0)  # type: ignore[attr-defined]
    tables = {name for name in made if name in ("rope_cos", "rope_sin")}
    weights = {name: made[name] if name in tables else problem.weights[name] for name in made}
    found = kind.reference(form, problem.model, weights, problem.ring[0]["tokens"], lines)["y"]  # type: ignore[attr-defined]
    assert distance(found, y) > PLAIN


def test_every_module_behind_a_supported_model_is_compared() -> None:
    """A table that says of transformers' module that it was read there needs a subject of it."""
    compared = {subject.module for subject in SUBJECTS}
    sources = [mixer.rope_source for about in models().values() for mixer in about.attention if done(about, mixer)]
    assert {found for source in sources for found in re.findall(r"\btf (\w+)", source)} <= compared


def done(about: Model, mixer: Attention) -> bool:
    text = f"attention+prefill{''.join(f'+{scope}' for scope in [scope_of(mixer)] if scope)}"
    form = form_of(Case.parse(f"{text}/{about.id}/ep1/t4/fp32/none/latency"), about, tuple(KIND))
    return isinstance(form, Form) and form.mixer is mixer

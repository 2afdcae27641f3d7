"""Our block is the models' layer: torch and ONNX Runtime give what transformers' decoder layers give, norms and residuals too.

The float64 reference gives the same as torch (tests/workloads/test_block.py), so it is not compared once more.
"""

from __future__ import annotations

import dataclasses
import importlib
import re

import msgspec
import numpy as np
import pytest
import torch

from harness.targets import TargetName, open_target
from tests.parity.attention_modules import CENTRED, Rotation, attention_config, attention_weights, config_of, mask_of
from tests.parity.attentions import HIDDEN, SUBJECTS, TOKENS, Subject
from tests.parity.families import FAMILIES, Family
from tests.parity.ours import named_weights, tiny
from tests.parity.test_attention_parity import distance
from tests.parity.theirs import common_config
from workloads.attending import scope_of
from workloads.case import Case
from workloads.dims import Model
from workloads.models import model, models
from workloads.problem import Problem
from workloads.registry import implementations_of, workload_of
from workloads.weights import Pinned, Weight

transformers = pytest.importorskip("transformers", reason="parity needs transformers: pip install -e .[dev]")

LIMIT, PLAIN = 1e-5, 1e-3
READ = [
    one for one in SUBJECTS if model(one.model).block_norm_eps and f"tf {one.module}" in model(one.model).block_source
]
"""Those whose own layer transformers has."""
MIXED = {"mlp_layer_types": ["sparse", "sparse"], "moe_layer_start_index": 0, "first_k_dense_replace": 0}
"""What makes every layer one with experts."""
each_subject = pytest.mark.parametrize("subject", READ, ids=[f"{one.model}-{one.number}" for one in READ])


def family_of(subject: Subject) -> Family:
    return next(one for one in FAMILIES if subject.model in one.covers and not one.variant)


def about_of(subject: Subject) -> Model:
    """The model at tiny dims, with this one token mixer and no more experts than so few dims have room to plant."""
    about, small = model(subject.model), {"hidden_size": HIDDEN, "attention": (subject.mixer,)}
    if not about.num_experts:
        return msgspec.structs.replace(about, dense_intermediate_size=48, **small)
    few = {"num_experts": min(16, about.num_experts), "experts_per_token": min(4, about.experts_per_token)}
    return msgspec.structs.replace(tiny(about), **small, **few)


class Theirs:
    """The decoder layer with random weights."""

    def __init__(self, subject: Subject, about: Model) -> None:
        self._subject = subject
        code = importlib.import_module(f"transformers.models.{subject.module}.modeling_{subject.module}")
        settings = attention_config(subject) | {"rms_norm_eps": about.block_norm_eps}
        if about.num_experts:
            settings = common_config(about) | settings | MIXED | family_of(subject).settings(about)
        else:
            settings["intermediate_size"] = about.dense_intermediate_size
        self.config = config_of(subject, settings)
        self._rotation = Rotation(subject, self.config)
        torch.manual_seed(4)
        self.layer = getattr(code, f"{subject.family}DecoderLayer")(self.config, layer_idx=subject.layer).eval()
        with torch.no_grad():
            for name, value in self.layer.state_dict().items():
                spread = 0.2 if value.ndim == 1 else value.shape[-1] ** -0.5
                gain = "norm" in name and subject.module not in CENTRED
                value.copy_(torch.randn(value.shape) * spread + (1.0 if gain else 0.0))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """y of x [tokens, H]."""
        positions = torch.arange(len(x))[None]
        mask = mask_of(self._subject, self.config, x[None], None, positions)
        tables = self._rotation(x[None], positions)
        with torch.no_grad():
            done = self.layer(x[None], attention_mask=mask, position_ids=positions, position_embeddings=tables)
        return (done[0] if isinstance(done, tuple) else done).reshape(x.shape)


def ours(subject: Subject, about: Model, theirs: Theirs, x: torch.Tensor) -> Problem:
    """Our problem of the same sizes with their weights and tokens in it."""
    scope = "".join(f"+{one}" for one in [scope_of(subject.mixer)] if one)
    routing = "uniform" if about.num_experts else "none"
    case = Case.parse(f"block+prefill{scope}/{about.id}/ep1/t{TOKENS}/fp32/{routing}/latency")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workloads.block.model", lambda name: about)
        problem = workload_of("block").problem(case)
    state = dict(theirs.layer.state_dict())
    ffn = re.compile(r"(mlp|feed_forward)\.")
    inside = {ffn.sub("", name, count=1): value for name, value in state.items() if ffn.match(name)}
    given = named_weights(family_of(subject).rename(inside)) if about.num_experts else dense_weights(inside)
    attention = {name.removeprefix("self_attn."): value for name, value in state.items() if "self_attn." in name}
    given |= attention_weights(subject, attention, theirs.config)
    centred = 1.0 if subject.module in CENTRED else 0.0
    norms = {"attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
    given |= {name: state[f"{module}.weight"] + centred for name, module in norms.items()}
    weights: dict[str, Weight] = dict(problem.weights)
    for name, values in given.items():
        assert tuple(values.shape) == tuple(weights[name].shape), name
        weights[name] = Pinned(np.ascontiguousarray(values.detach().numpy()), fp32=True)
    assert {name for name in weights if name not in given} == (
        set() if subject.mixer.nope else {"rope_cos", "rope_sin"}
    )
    return dataclasses.replace(problem, weights=weights, ring=[{"tokens": x.numpy()} for _ in problem.ring])


def dense_weights(inside: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    into = torch.cat([inside["gate_proj.weight"], inside["up_proj.weight"]])
    return {"dense_in": into[None], "dense_out": inside["down_proj.weight"][None]}


@each_subject
def test_the_block_is_the_decoder_layer(subject: Subject) -> None:
    about = about_of(subject)
    theirs = Theirs(subject, about)
    x = torch.randn((TOKENS, about.hidden_size), generator=torch.Generator().manual_seed(6))
    y, problem = theirs(x), ours(subject, about, theirs, x)
    for runtime, target in (("torch", "torch:cpu"), ("onnxruntime", "ort:cpu")):
        [sorted_one] = [one for one in implementations_of("block", runtime) if one.name == "sorted"]
        prepared = open_target(TargetName.parse(target)).prepare(problem, sorted_one, 1)
        assert distance(prepared.fetch(prepared.submit(0))["y"], y) <= LIMIT, runtime
        assert distance(prepared.fetch(prepared.submit(0))["y"] - x.numpy(), y) > PLAIN


def test_every_model_whose_layer_transformers_has_is_compared_or_likewise_its_module() -> None:
    """A model without a subject of its own names a module that another one's subject has; refused ones need none."""
    modules = {f"tf {subject.module}" for subject in READ}
    read = {about.block_source.split(";")[0] for about in models().values() if about.block_norm_eps and done(about)}
    assert {source for source in read if source.startswith("tf ")} == modules


def done(about: Model) -> bool:
    routing = "uniform" if about.num_experts else "none"
    cases = (f"block+prefill{scope}/{about.id}/ep1/t4/fp32/{routing}/latency" for scope in ("", "+window", "+chunk"))
    return any(workload_of("block").unsupported(Case.parse(case)) is None for case in cases)


@pytest.mark.parametrize("subject", READ[:1], ids=["qwen3"])
def test_another_epsilon_is_another_layer(subject: Subject) -> None:
    about = about_of(subject)
    theirs = Theirs(subject, about)
    x = 0.01 * torch.randn((TOKENS, about.hidden_size), generator=torch.Generator().manual_seed(6))
    problem = ours(subject, msgspec.structs.replace(about, block_norm_eps=1e-4), theirs, x)
    [sorted_one] = [one for one in implementations_of("block", "torch") if one.name == "sorted"]
    prepared = open_target(TargetName.parse("torch:cpu")).prepare(problem, sorted_one, 1)
    assert distance(prepared.fetch(prepared.submit(0))["y"], theirs(x)) > PLAIN

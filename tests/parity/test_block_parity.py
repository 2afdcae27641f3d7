"""Our block is the models' layer: torch and ONNX Runtime give what transformers' decoder layers give, norms and residuals too.

The float64 reference gives the same as torch (tests/workloads/test_block.py), so it is not compared once more.
"""

from __future__ import annotations

import dataclasses
import importlib

import msgspec
import numpy as np
import pytest
import torch

from harness.targets import TargetName, open_target
from tests.parity.families import FAMILIES, Family
from tests.parity.ours import named_weights, tiny
from tests.parity.test_attention_parity import SUBJECTS, TOKENS, Subject, attention_config, attention_weights, distance
from tests.parity.theirs import common_config
from workloads.case import Case
from workloads.dims import Model
from workloads.models import model, models
from workloads.problem import Problem
from workloads.registry import implementations_of, workload_of
from workloads.weights import Pinned, Weight

transformers = pytest.importorskip("transformers", reason="parity needs transformers: pip install -e .[dev]")

LIMIT, PLAIN = 1e-5, 1e-3
READ = [one for one in SUBJECTS if model(one.model).block_norm_eps]
each_subject = pytest.mark.parametrize("subject", READ, ids=[f"{one.model}-{one.number}" for one in READ])


def family_of(subject: Subject) -> Family:
    return next(one for one in FAMILIES if subject.model in one.models and not one.variant)


def about_of(subject: Subject) -> Model:
    """The model at tiny dims, with this one token mixer and no more experts' groups than the tiny attention has room for."""
    return msgspec.structs.replace(tiny(model(subject.model)), hidden_size=128, attention=(subject.mixer,))


class Theirs:
    """The decoder layer with random weights."""

    def __init__(self, subject: Subject, about: Model) -> None:
        family = family_of(subject)
        code = importlib.import_module(f"transformers.models.{subject.module}.modeling_{subject.module}")
        settings = common_config(about) | attention_config(subject) | family.settings(about)
        settings |= {"first_k_dense_replace": 0, "rms_norm_eps": about.block_norm_eps}
        config = getattr(transformers, f"{subject.family}Config")(**settings)
        config._attn_implementation, config._experts_implementation = "eager", "eager"
        self._config = config
        self._rotary = getattr(code, f"{subject.family}RotaryEmbedding")(config)
        self._window = subject.mixer.sliding_window
        torch.manual_seed(4)
        self.layer = getattr(code, f"{subject.family}DecoderLayer")(config, layer_idx=subject.number).eval()
        with torch.no_grad():
            for name, value in self.layer.state_dict().items():
                spread = 0.2 if value.ndim == 1 else value.shape[-1] ** -0.5
                value.copy_(torch.randn(value.shape) * spread + (1.0 if "norm" in name else 0.0))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """y of x [tokens, H]."""
        positions = torch.arange(len(x))[None]
        masks = transformers.masking_utils
        make = masks.create_sliding_window_causal_mask if self._window else masks.create_causal_mask
        mask = make(self._config, x[None], None, past_key_values=None, position_ids=positions)
        tables = self._rotary(x[None], positions)
        with torch.no_grad():
            done = self.layer(x[None], attention_mask=mask, position_ids=positions, position_embeddings=tables)
        return (done[0] if isinstance(done, tuple) else done).reshape(x.shape)


def ours(subject: Subject, about: Model, theirs: Theirs, x: torch.Tensor) -> Problem:
    """Our problem of the same sizes with their weights and tokens in it."""
    window = "+window" if subject.mixer.sliding_window else ""
    case = Case.parse(f"block+prefill{window}/{about.id}/ep1/t{TOKENS}/fp32/uniform/latency")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workloads.block.model", lambda name: about)
        problem = workload_of("block").problem(case)
    state = dict(theirs.layer.state_dict())
    inside = {name.removeprefix("mlp."): value for name, value in state.items() if name.startswith("mlp.")}
    given = named_weights(family_of(subject).rename(inside))
    attention = {name.removeprefix("self_attn."): value for name, value in state.items() if "self_attn." in name}
    given |= attention_weights(subject.mixer, attention)
    given |= {"attention_norm": state["input_layernorm.weight"], "ffn_norm": state["post_attention_layernorm.weight"]}
    weights: dict[str, Weight] = dict(problem.weights)
    for name, values in given.items():
        assert tuple(values.shape) == tuple(weights[name].shape), name
        weights[name] = Pinned(np.ascontiguousarray(values.detach().numpy()), fp32=True)
    assert {name for name in weights if name not in given} == {"rope_cos", "rope_sin"}
    return dataclasses.replace(problem, weights=weights, ring=[{"tokens": x.numpy()} for _ in problem.ring])


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


def test_every_model_whose_layer_was_read_is_compared_or_likewise_its_module() -> None:
    """A model without a subject of its own names a module that another one's subject has."""
    modules = {subject.module for subject in READ}
    read = {name: about.block_source for name, about in models().items() if about.block_norm_eps}
    assert {name for name, source in read.items() if not any(f"tf {module}" in source for module in modules)} == set()


@pytest.mark.parametrize("subject", READ[:1], ids=["qwen3"])
def test_another_epsilon_is_another_layer(subject: Subject) -> None:
    about = about_of(subject)
    theirs = Theirs(subject, about)
    x = 0.01 * torch.randn((TOKENS, about.hidden_size), generator=torch.Generator().manual_seed(6))
    problem = ours(subject, msgspec.structs.replace(about, block_norm_eps=1e-4), theirs, x)
    [sorted_one] = [one for one in implementations_of("block", "torch") if one.name == "sorted"]
    prepared = open_target(TargetName.parse("torch:cpu")).prepare(problem, sorted_one, 1)
    assert distance(prepared.fetch(prepared.submit(0))["y"], theirs(x)) > PLAIN

"""Our attention is the models' attention: equal to transformers' own eager modules, its rotary tables and masks included."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from harness.targets import TargetName, open_target
from workloads import gqa, mla
from workloads.attending import Form
from workloads.case import Case
from workloads.dims import Attention
from workloads.models import model, read_models
from workloads.problem import Problem
from workloads.registry import implementations_of, workload_of
from workloads.weights import Pinned, Weight

transformers = pytest.importorskip("transformers", reason="parity needs transformers: pip install -e .[dev]")

LIMIT, PLAIN = 1e-5, 1e-3
HIDDEN, TOKENS, CONTEXT = 128, 21, 37
KIND = {"gqa": gqa, "mla": mla}
_HEADS = {"heads": 8, "kv_heads": 2, "head_dim": 32}
_LATENT = {
    "heads": 8,
    "kv_lora_rank": 48,
    "q_lora_rank": 40,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "v_head_dim": 24,
}


@dataclass(frozen=True)
class Subject:
    """A shipped model's token mixer at tiny dims beside transformers' module of it."""

    model: str
    number: int
    module: str
    family: str
    tiny: dict[str, Any]
    rope: dict[str, Any]
    config: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def mixer(self) -> Attention:
        """What models.toml says of it, with other sizes."""
        return msgspec.structs.replace(model(self.model).attention[self.number], **self.tiny)


_YARN = {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False}
_YARN |= {"original_max_position_embeddings": 4096, "rope_theta": 150000.0}
_V3 = {"rope_type": "yarn", "factor": 40.0, "mscale": 1.0, "mscale_all_dim": 1.0}
_V3 |= {"original_max_position_embeddings": 4096, "rope_theta": 10000.0}
_WINDOW = {"sliding_window": 12, "rope_theta": 150000.0}
SUBJECTS = [
    Subject("qwen3-30b-a3b", 0, "qwen3_moe", "Qwen3Moe", _HEADS, {"rope_theta": 1e6}),
    Subject("mixtral-8x7b", 0, "mixtral", "Mixtral", _HEADS, {"rope_theta": 1e6}),
    Subject("olmoe-1b-7b", 0, "olmoe", "Olmoe", _HEADS | {"kv_heads": 8, "head_dim": 16}, {"rope_theta": 1e4}),
    Subject(
        "minimax-m2",
        0,
        "minimax_m2",
        "MiniMaxM2",
        _HEADS | {"rope_dim": 16},
        {"rope_theta": 5e6, "partial_rotary_factor": 0.5},
    ),
    Subject("gpt-oss-20b", 0, "gpt_oss", "GptOss", _HEADS | {"sliding_window": 12}, _YARN, {"sliding_window": 12}),
    Subject("gpt-oss-20b", 1, "gpt_oss", "GptOss", _HEADS, _YARN, {"sliding_window": 12}),
    Subject("deepseek-v3", 0, "deepseek_v3", "DeepseekV3", _LATENT, _V3),
]
each_subject = pytest.mark.parametrize("subject", SUBJECTS, ids=[f"{one.model}-{one.number}" for one in SUBJECTS])
each_form = pytest.mark.parametrize("decode", [False, True], ids=["prefill", "decode"])


class Theirs:
    """The module with random weights, its rotary embedding and its masks."""

    def __init__(self, subject: Subject) -> None:
        self.code = getattr(transformers.models, subject.module)
        self.modeling = __import__(
            f"transformers.models.{subject.module}.modeling_{subject.module}", fromlist=["modeling"]
        )
        self.config = getattr(transformers, f"{subject.family}Config")(**attention_config(subject))
        self.config._attn_implementation = "eager"
        torch.manual_seed(3)
        self.attention = getattr(self.modeling, f"{subject.family}Attention")(self.config, layer_idx=subject.number)
        self.rotary = getattr(self.modeling, f"{subject.family}RotaryEmbedding")(self.config)
        self.window = subject.mixer.sliding_window
        for name, parameter in self.attention.named_parameters():
            with torch.no_grad():
                spread = 0.3 if parameter.ndim == 1 else parameter.shape[1] ** -0.5
                parameter.copy_(torch.randn(parameter.shape) * spread + (1.0 if "norm" in name else 0.0))

    def __call__(self, x: torch.Tensor, past: Any) -> torch.Tensor:
        """y of x [batch, tokens, H] behind what `past` holds, which grows."""
        seen = past.get_seq_length(self.attention.layer_idx)
        positions = torch.arange(seen, seen + x.shape[1])[None].expand(x.shape[0], -1)
        masks = transformers.masking_utils
        make = masks.create_sliding_window_causal_mask if self.window else masks.create_causal_mask
        mask = make(self.config, x, None, past_key_values=past, position_ids=positions)
        tables = self.rotary(x, positions)
        with torch.no_grad():
            return self.attention(x, tables, mask, past_key_values=past)[0]


def attention_config(subject: Subject) -> dict[str, Any]:
    mixer = subject.mixer
    known = {"hidden_size": HIDDEN, "num_attention_heads": mixer.heads, "num_hidden_layers": 2}
    known |= {"max_position_embeddings": 4096, "rope_parameters": {"rope_type": "default"} | subject.rope}
    if mixer.kind == "mla":
        names = ("kv_lora_rank", "q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
        return known | {name: getattr(mixer, name) for name in names} | {"num_key_value_heads": mixer.heads}
    return known | {"num_key_value_heads": mixer.kv_heads, "head_dim": mixer.head_dim} | subject.config


def inputs() -> torch.Tensor:
    return torch.randn((TOKENS, CONTEXT + 1, HIDDEN), generator=torch.Generator().manual_seed(5))


def expected(theirs: Theirs, decode: bool) -> tuple[torch.Tensor, Any, torch.Tensor]:
    """(own tokens [T, H], what was cached before them, y [T, H])."""
    x, past = inputs(), transformers.DynamicCache()
    if not decode:
        return x[0][:TOKENS], None, theirs(x[:1, :TOKENS], past)[0]
    theirs(x[:, :CONTEXT], past)
    layer = past.layers[theirs.attention.layer_idx]
    before = (layer.keys.clone(), layer.values.clone())
    return x[:, CONTEXT], before, theirs(x[:, CONTEXT:], past)[:, 0]


def ours(subject: Subject, theirs: Theirs, own: torch.Tensor, before: Any, decode: bool) -> Problem:
    """Our problem of the same sizes, with their weights and caches in it."""
    mixer = subject.mixer
    about = msgspec.structs.replace(
        read_models({"model": [msgspec.to_builtins(model(subject.model))]}, "test")[0],
        hidden_size=HIDDEN,
        attention=(mixer,),
    )
    form = f"decode+c{CONTEXT}" if decode else "prefill"
    text = f"attention+{form}{'+window' if mixer.sliding_window else ''}/{about.id}/ep1/t{TOKENS}/fp32/none/latency"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workloads.attention.model", lambda name: about)
        problem = workload_of("attention").problem(Case.parse(text))
    named = dict(theirs.attention.named_parameters())
    given = attention_weights(mixer, named)
    if before is not None:
        given |= _caches(mixer, *before)
    weights: dict[str, Weight] = dict(problem.weights)
    for name, values in given.items():
        assert values.shape == weights[name].shape, name
        weights[name] = Pinned(np.ascontiguousarray(values.detach().numpy()), fp32=True)
    assert {name for name in weights if name not in given} == {"rope_cos", "rope_sin"}
    ring = [{"tokens": own.numpy()} for _ in problem.ring]
    return dataclasses.replace(problem, weights=weights, ring=ring)


def attention_weights(mixer: Attention, named: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The module's parameters by our names."""
    return (_of_mla if mixer.kind == "mla" else _of_gqa)(mixer, named)


def _of_gqa(mixer: Attention, named: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    found = {}
    for name, part in (("q", "q_proj"), ("k", "k_proj"), ("v", "v_proj"), ("out", "o_proj")):
        found[f"attention_{name}"] = named[f"{part}.weight"][None]
        if mixer.bias:
            found[f"attention_{name}_bias"] = named[f"{part}.bias"]
    norms = ("q_norm", "k_norm") if mixer.qk_norm else ()
    found |= {name: named[f"{name}.weight"] for name in norms}
    return found | ({"sinks": named["sinks"]} if mixer.sinks else {})


def _of_mla(mixer: Attention, named: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Their rotated dims are neighbours, ours the halves: the rows of the projections in another order."""
    rope, nope = mixer.qk_rope_head_dim, mixer.qk_nope_head_dim
    order = torch.cat([torch.arange(0, rope, 2), torch.arange(1, rope, 2)])
    q = named["q_b_proj.weight"].view(mixer.heads, nope + rope, -1)
    q = torch.cat([q[:, :nope], q[:, nope:][:, order]], dim=1).reshape(1, mixer.heads * (nope + rope), -1)
    kv = named["kv_a_proj_with_mqa.weight"]
    kv = torch.cat([kv[: mixer.kv_lora_rank], kv[mixer.kv_lora_rank :][order]])
    up = named["kv_b_proj.weight"].view(mixer.heads, nope + mixer.v_head_dim, -1)
    return {
        "attention_q_a": named["q_a_proj.weight"][None],
        "q_a_norm": named["q_a_layernorm.weight"],
        "attention_q": q,
        "attention_kv_a": kv[None],
        "kv_a_norm": named["kv_a_layernorm.weight"],
        "attention_uk": up[:, :nope],
        "attention_uv": up[:, nope:],
        "attention_out": named["o_proj.weight"][None],
    }


def _caches(mixer: Attention, first: torch.Tensor, second: torch.Tensor) -> dict[str, torch.Tensor]:
    """Theirs [batch, heads, position, dim] as ours; of a window the last positions."""
    kept = mixer.sliding_window - 1 if mixer.sliding_window else CONTEXT
    names = ("latent_cache", "rope_cache") if mixer.kind == "mla" else ("key_cache", "value_cache")
    return {name: values.flatten(0, 1)[:, -kept:] for name, values in zip(names, (first, second), strict=True)}


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
    theirs = Theirs(subject)
    own, before, y = expected(theirs, decode)
    problem = ours(subject, theirs, own, before, decode)
    assert distance(float64_y(problem, decode), y) <= LIMIT
    for runtime, target in (("torch", "torch:cpu"), ("onnxruntime", "ort:cpu")):
        [implementation] = implementations_of("attention", runtime)
        prepared = open_target(TargetName.parse(target)).prepare(problem, implementation, 1)
        assert distance(prepared.fetch(prepared.submit(0))["y"], y) <= LIMIT, runtime


LEFT_OUT = {
    "qk_norm": "",
    "sinks": False,
    "bias": False,
    "sliding_window": 0,
    "rope_dim": 0,
    "rope_factor": 0.0,
    "rope_mscale_all_dim": 0.0,
    "rope_theta": 100.0,
}
"""What a careless table would say."""
TRAITS = [
    pytest.param(subject, trait, id=f"{subject.model}-{subject.number}-{trait}")
    for subject in SUBJECTS
    for trait, value in LEFT_OUT.items()
    if getattr(subject.mixer, trait) not in (value, 0.0)
]


@pytest.mark.parametrize(("subject", "trait"), TRAITS)
def test_a_trait_left_out_is_another_attention(subject: Subject, trait: str) -> None:
    theirs = Theirs(subject)
    own, before, y = expected(theirs, decode=False)
    careless = dataclasses.replace(subject, tiny=subject.tiny | {trait: LEFT_OUT[trait]})
    problem = ours(subject, theirs, own, before, decode=False)
    form = Form(careless.mixer, 0, TOKENS, 0)
    kind, lines = KIND[form.mixer.kind], {name: np.arange(TOKENS) for name in problem.outputs}
    made = kind.weights(form, problem.model, 0)  # type: ignore[attr-defined]
    weights = {name: problem.weights.get(name, weight) for name, weight in made.items() if "rope" not in name}
    weights |= {name: made[name] for name in ("rope_cos", "rope_sin")}
    found = kind.reference(form, problem.model, weights, problem.ring[0]["tokens"], lines)["y"]  # type: ignore[attr-defined]
    assert distance(found, y) > PLAIN

"""Workload `attention`: every kind on torch and ONNX Runtime against the reference; each part left out is wrong."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from test_faults import check
from tiny_models import install, problem_of, tiny

from harness.targets import TargetName, open_target
from harness.targets.host import working_bytes
from workloads import gqa
from workloads.attending import Form
from workloads.case import Case
from workloads.checking import Checker, WrongAnswer
from workloads.models import model
from workloads.problem import Problem
from workloads.registry import Built, Implementation, implementations_of, workload_of
from workloads.rope import query_factor, rotation_tables

Weights = dict[str, torch.Tensor]

HEADS = {"layers": 1, "heads": 8, "kv_heads": 2, "head_dim": 32, "rope_theta": 1e4, "rope_source": "by hand"}
YARN = {"rope_factor": 32.0, "rope_original": 64, "rope_truncate": False}
LATENT = {
    "kind": "mla",
    "layers": 1,
    "heads": 8,
    "kv_lora_rank": 64,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "v_head_dim": 24,
    "latent_norm_eps": 1e-6,
    "rope_theta": 1e4,
    "rope_source": "by hand",
}
STRETCHED = {
    "q_lora_rank": 96,
    "rope_factor": 40.0,
    "rope_original": 64,
    "rope_mscale": 1.0,
    "rope_mscale_all_dim": 1.0,
}
LONG = {"rope_scaling": "longrope", "rope_original": 32, "rope_mscale": 1.2}
LONG |= {"rope_short": [1.0] * 16, "rope_long": [1.0] * 8 + [32.0] * 8}
LLAMA3 = {"rope_scaling": "llama3", "rope_factor": 8.0, "rope_original": 64, "rope_beta_fast": 4.0}
FREE = {key: value for key, value in HEADS.items() if key != "rope_theta"} | {"nope": True}
GROWING = {"query_growth": 0.5, "query_span": 32}
NORMED = {"qk_norm": "head", "qk_norm_eps": 1e-6}
MIXERS: dict[str, list[dict[str, Any]]] = {
    "plain": [{"kind": "gqa"} | HEADS],
    "normed": [{"kind": "gqa"} | NORMED | HEADS],
    "half": [{"kind": "gqa", "qk_norm": "full", "qk_norm_eps": 1e-6, "rope_dim": 16, "v_head_dim": 24} | HEADS],
    "oss": [
        {"kind": "gqa", "sliding_window": 12, "sinks": True, "bias": True} | HEADS | YARN,
        {"kind": "gqa", "sinks": True, "bias": True} | HEADS | YARN,
    ],
    "latent": [LATENT],
    "v3": [LATENT | STRETCHED],
    "windowed": [{"kind": "gqa", "sliding_window": 12} | HEADS],
    "free": [{"kind": "gqa", "qkv_bias": True, "score_scale": 0.015625} | FREE | GROWING],
    "capped": [{"kind": "gqa", "score_cap": 0.5, "qkv_clip": 1.0} | HEADS | LLAMA3],
    "gated": [{"kind": "gqa", "output_gate": True, "qk_norm_after": True} | NORMED | HEADS | LONG],
    "chunked": [{"kind": "gqa", "head_gate": True, "attention_chunk": 16, "qk_norm_gain": False} | NORMED | HEADS],
    "shared": [{"kind": "gqa", "k_eq_v": True, "v_norm": True, "score_scale": 1.0} | NORMED | HEADS],
    "half-sparse": [{"kind": "gqa", "index_heads": 1} | HEADS, {"kind": "gqa"} | HEADS],
    "biased-latent": [LATENT | {"bias": True}],
    "latent-gated": [
        {key: value for key, value in LATENT.items() if key != "rope_theta"}
        | {"nope": True, "head_gate": True}
        | GROWING
    ],
}


def both_forms(*found: tuple[str, str]) -> list[str]:
    return [f"attention+{form}{scope}/{name}" for name, scope in found for form in ("decode+c40", "prefill")]


CASES = both_forms(
    ("plain", ""),
    ("normed", ""),
    ("half", ""),
    ("oss", ""),
    ("oss", "+window"),
    ("windowed", "+window"),
    ("latent", ""),
    ("v3", ""),
)
TRAITS = both_forms(
    ("free", ""), ("capped", ""), ("gated", ""), ("chunked", "+chunk"), ("shared", ""), ("latent-gated", "")
)
"""What `tests/parity` compares in fp32 on every runtime."""


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [replace(tiny("tiny-olmoe", attention=mixers), id=name) for name, mixers in MIXERS.items()]
    install(monkeypatch, *found)


def problem(case: str, dtype: str = "fp32", tokens: int = 24) -> Problem:
    return problem_of(f"{case}/ep1/t{tokens}/{dtype}/none/latency")


def plain(runtime: str) -> Implementation:
    [found] = implementations_of("attention", runtime)
    return found


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("case", CASES)
def test_right_implementations_pass(case: str, dtype: str) -> None:
    check(problem(case, dtype), plain("torch"))


@pytest.mark.parametrize("case", TRAITS)
def test_right_implementations_of_every_trait_pass(case: str) -> None:
    check(problem(case, "bf16"), plain("torch"))


@pytest.mark.parametrize("case", CASES)
def test_right_implementations_pass_on_onnx_runtime(case: str) -> None:
    asked = problem(case)
    prepared = open_target(TargetName.parse("ort:cpu")).prepare(asked, plain("onnxruntime"), 1)
    checker = Checker(asked, "fp32")
    checker.before(prepared.fetch(prepared.submit(0)))
    prepared.rotate()
    checker.after(lambda slot: prepared.fetch(prepared.submit((slot - 1) % 16)), seed=5)
    assert prepared.placement.flops_on_target == 1.0


def broken(case: str, dtype: str, change: Callable[[Weights], None]) -> tuple[Problem, Implementation]:
    """The case with an implementation that computes on changed weights."""
    right = plain("torch")

    def build(problem: Problem, on: Any) -> Built:
        for copy in on._weights:
            change(copy)
        return right.build(problem, on)

    return problem(case, dtype), dataclasses.replace(right, build=build)


def zero(name: str) -> Callable[[Weights], None]:
    def change(weights: Weights) -> None:
        weights[name].zero_()

    return change


def last_position(name: str) -> Callable[[Weights], None]:
    """The newest cached position of every sequence is another one's."""

    def change(weights: Weights) -> None:
        weights[name][:, -1] = weights[name][:, 0]

    return change


FAULTS = [
    ("attention+prefill/plain", zero("rope_sin")),
    ("attention+decode+c40/plain", zero("rope_sin")),
    ("attention+decode+c40/plain", last_position("key_cache")),
    ("attention+decode+c40+window/oss", last_position("value_cache")),
    ("attention+prefill/v3", zero("rope_sin")),
    ("attention+decode+c40/v3", zero("rope_sin")),
    ("attention+decode+c40/latent", zero("rope_cache")),
    ("attention+decode+c40/latent", last_position("latent_cache")),
    ("attention+prefill/oss", zero("attention_q_bias")),
    ("attention+prefill/oss", zero("attention_k_bias")),
    ("attention+prefill/oss", zero("attention_v_bias")),
    ("attention+prefill/oss", zero("attention_out_bias")),
    ("attention+prefill/free", zero("attention_q_bias")),
    ("attention+decode+c40/gated", zero("attention_gate")),
    ("attention+prefill+chunk/chunked", zero("attention_gate")),
    ("attention+decode+c40/latent-gated", zero("attention_gate")),
]


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize(("case", "change"), FAULTS)
def test_changed_weights_are_wrong(case: str, change: Callable[[Weights], None], dtype: str) -> None:
    with pytest.raises(WrongAnswer):
        check(*broken(case, dtype, change))


OTHERS = [
    ("attention+prefill+window/windowed", {"sliding_window": 0}),
    ("attention+prefill+window/windowed", {"sliding_window": 13}),
    ("attention+prefill+window/oss", {"sliding_window": 0}),
    ("attention+prefill/oss", {"sinks": False}),
    ("attention+decode+c40/oss", {"sinks": False}),
    ("attention+prefill/normed", {"qk_norm": ""}),
    ("attention+prefill/v3", {"rope_mscale_all_dim": 0.0}),
    ("attention+decode+c40/v3", {"rope_mscale_all_dim": 0.0}),
    ("attention+decode+c40/v3", {"latent_norm_eps": 1.0}),
    ("attention+prefill/half", {"qk_norm": ""}),
    ("attention+prefill/free", {"score_scale": 0.0}),
    ("attention+decode+c40/free", {"query_growth": 0.0}),
    ("attention+decode+c40/latent-gated", {"query_growth": 0.0}),
    ("attention+prefill/capped", {"score_cap": 0.0}),
    ("attention+decode+c40/capped", {"score_cap": 0.0}),
    ("attention+prefill/capped", {"qkv_clip": 0.0}),
    ("attention+prefill/gated", {"qk_norm_after": False}),
    ("attention+prefill+chunk/chunked", {"attention_chunk": 0}),
    ("attention+prefill+chunk/chunked", {"qk_norm": ""}),
    ("attention+prefill/shared", {"v_norm": False}),
]


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize(("case", "changes"), OTHERS)
def test_a_part_left_out_is_wrong(case: str, changes: dict[str, Any], dtype: str) -> None:
    asked, right = problem(case, dtype), plain("torch")
    mixers = tuple(replace(mixer, **changes) for mixer in asked.model.attention)

    def build(problem: Problem, on: Any) -> Built:
        return right.build(dataclasses.replace(problem, model=replace(problem.model, attention=mixers)), on)

    with pytest.raises(WrongAnswer):
        check(asked, dataclasses.replace(right, build=build))


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("case", ["attention+decode+c40/normed", "attention+prefill/plain", "attention+prefill/oss"])
def test_another_scale_of_the_scores_is_wrong(case: str, dtype: str) -> None:
    right = plain("torch")

    def build(problem: Problem, on: Any) -> Built:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("workloads.gqa.softmax_scale", lambda mixer, width, position: 1 / width)
            return right.build(problem, on)

    with pytest.raises(WrongAnswer):
        check(problem(case, dtype), dataclasses.replace(right, build=build))


def test_flops_and_bytes_of_a_decode() -> None:
    """T 2, H 256, 8 heads and 2 key heads of 32, 40 cached: 41 keys a token and head; tables of 16 cosines and 16 sines."""
    cost = problem("attention+decode+c40/plain", "bf16", tokens=2).cost
    projections = 256 * (256 + 64 + 64) + 256 * 256
    assert cost.flops == 2 * 2 * projections + 4 * 32 * 8 * 2 * 41
    assert cost.weight_bytes == 2 * (projections + 2 * 2 * 2 * 40 * 32) + 4 * 2 * 16
    assert cost.bytes == cost.weight_bytes + 2 * 2 * (256 + 256 + 64 + 64)


def test_an_absorbed_decode_counts_latents_and_a_prefill_keys_and_values() -> None:
    """8 heads of 32 + 16 and 24, r 64: over 41 positions 2 * 64 + 16 each; over 24 tokens' 300 pairs 48 + 24 each."""
    decode, prefill = problem("attention+decode+c40/latent").cost, problem("attention+prefill/latent").cost
    elements = 256 * 8 * 48 + 256 * (64 + 16) + 8 * (32 + 24) * 64 + 8 * 24 * 256
    assert decode.flops == 2 * 24 * elements + 2 * 8 * (2 * 64 + 16) * 24 * 41
    assert prefill.flops == 2 * 24 * elements + 2 * 8 * (48 + 24) * 300
    assert decode.weight_bytes == 4 * (elements + 64 + 24 * 40 * (64 + 16) + 16)


def test_a_window_limits_what_is_read_and_computed() -> None:
    """Window 12: of 40 positions 11 are read; of 24 tokens the first 12 attend to 1 to 12 and 12 others to 12 each."""
    decode, prefill = problem("attention+decode+c40+window/windowed"), problem("attention+prefill+window/windowed")
    assert decode.weights["key_cache"].shape == (24 * 2, 11, 32)
    pairs = 12 * 13 // 2 + 12 * 12
    assert prefill.cost.flops - 2 * 24 * 256 * (256 + 64 + 64 + 256) == 4 * 32 * 8 * pairs


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("attention/plain/ep1/t4/fp32/none", "there is no 'attention': attention+decode+cN and attention+prefill are"),
        ("attention+window+prefill/oss/ep1/t4/fp32/none", "at the end of either"),
        ("attention+prefill/windowed/ep1/t4/fp32/none", "has a sliding window: add +window"),
        ("attention+prefill+window/plain/ep1/t4/fp32/none", "leave +window out"),
        ("attention+prefill/plain/ep2/t4/fp32/none", "write ep1 instead of ep2"),
        ("attention+prefill/plain/ep1/t4/fp32/uniform", "write 'none' as its routing"),
        (
            "attention+prefill/deepseek-v4-pro/ep1/t4/fp32/none",
            "attention of kind 'csa', 'hca' of deepseek-v4-pro is not done",
        ),
        ("attention+prefill/deepseek-v3.2/ep1/t4/fp32/none", "sparse attention behind an indexer (index_heads of"),
        ("attention+prefill/arctic/ep1/t4/fp32/none", "models.toml does not say how arctic norms and rotates"),
        ("attention+prefill+window/chunked/ep1/t4/fp32/none", "has a sliding window: leave +window out"),
        ("attention+prefill/chunked/ep1/t4/fp32/none", "attends within chunks: add +chunk"),
        ("attention+decode+c32+chunk/chunked/ep1/t4/fp32/none", "the first position of a chunk attends to nothing"),
        ("attention+prefill/free/ep1/t33/fp32/none", "a prefill of more than 32 tokens, whose queries grow"),
        ("attention+prefill/biased-latent/ep1/t4/fp32/none", "bias of biased-latent is not done yet in attention of"),
    ],
)
def test_what_is_not_defined_or_done_says_so(case: str, said: str) -> None:
    refusal = workload_of("attention").unsupported(Case.parse(f"{case}/latency"))
    assert refusal is not None
    assert said in refusal


def test_of_two_attentions_the_one_that_is_done_is_meant() -> None:
    """The first has an indexer, the second not."""
    assert problem("attention+prefill/half-sparse").sizes.mixer == 1


def test_a_chunk_limits_what_is_read_and_computed() -> None:
    """Chunks of 16: position 40 is the 9th of its chunk; 24 tokens are a chunk of 136 pairs and a half one of 36."""
    decode, prefill = problem("attention+decode+c40+chunk/chunked"), problem("attention+prefill+chunk/chunked")
    assert decode.weights["key_cache"].shape == (24 * 2, 8, 32)
    projections, gate = 256 * (256 + 64 + 64 + 256), 256 * 8
    assert prefill.cost.flops == 2 * 24 * (projections + gate) + 4 * 32 * 8 * (136 + 36)


def test_all_dtypes_share_one_input_digest() -> None:
    digests = {problem("attention+decode+c40/normed", dtype).input_digest for dtype in ("fp32", "bf16", "fp16")}
    assert len(digests) == 1
    assert problem("attention+decode+c41/normed").input_digest not in digests


def test_the_digest_of_a_case_holds_what_attends(monkeypatch: pytest.MonkeyPatch) -> None:
    def digest(workload: str, model: str) -> str:
        mixers = MIXERS[model]
        install(monkeypatch, replace(tiny("tiny-olmoe", attention=mixers), id="one"))
        return Case.parse(f"{workload}/one/ep1/t4/fp32/none/latency").digest(1)

    assert digest("attention+prefill", "plain") != digest("attention+prefill", "normed")
    assert digest("dense-ffn", "plain") == digest("dense-ffn", "normed")


@pytest.mark.parametrize(("theta", "factor"), [(1e4, 0.0), (1.5e5, 32.0)])
def test_rotation_tables_are_those_of_the_formula(theta: float, factor: float) -> None:
    """YaRN with 64 original positions and r = 32: by hand for the first dim (never stretched) and the last (always)."""
    mixer = replace(tiny("tiny-olmoe").attention[0], rope_theta=theta, rope_factor=factor, rope_original=64)
    cosine, sine = rotation_tables(mixer, 32, np.array([0, 7, 5000]))
    size = 1 + 0.1 * math.log(factor) if factor else 1.0
    last = theta ** (-30 / 32) / (factor or 1.0)
    expected = size * np.cos(np.outer([0, 7, 5000], [1.0, last]))
    assert np.allclose(cosine[:, [0, -1]], expected, atol=1e-6)
    assert np.allclose(cosine**2 + sine**2, size**2, atol=1e-6)


def test_llama3_stretches_what_turns_rarely() -> None:
    """64 original positions and r = 8: dims that turn 10.2, 1.02, 0.1 and 0.01 times; factor 8, between 1 and 4 turns mixed."""
    mixer = replace(tiny("tiny-olmoe").attention[0], rope_theta=1e4, **LLAMA3)
    turns = 64 / (2 * math.pi) * 0.1
    kept = (turns - 1.0) / (4.0 - 1.0)
    rates = [1.0, 0.1 * kept + 0.1 / 8 * (1 - kept), 0.01 / 8, 0.001 / 8]
    cosine, _ = rotation_tables(mixer, 8, np.array([3, 500]))
    assert np.allclose(cosine, np.cos(np.outer([3, 500], rates)), atol=1e-6)


@pytest.mark.parametrize(("longest", "divisor"), [(3999, 2.0), (4000, 5.0)])
def test_longrope_has_a_list_for_longer_sequences(longest: int, divisor: float) -> None:
    scaling = {"rope_scaling": "longrope", "rope_original": 4000, "rope_mscale": 1.5}
    mixer = replace(
        tiny("tiny-olmoe").attention[0], rope_theta=1e4, rope_short=(1.0, 2.0), rope_long=(1.0, 5.0), **scaling
    )
    cosine, _ = rotation_tables(mixer, 4, np.array([7, longest]))
    assert np.allclose(cosine[0], 1.5 * np.cos([7.0, 7 * 0.01 / divisor]), atol=1e-6)


def test_queries_grow_with_their_position() -> None:
    """1 + 0.1 ln(1 + floor(p / 8192)), p counted from `query_first`."""
    mixer = replace(tiny("tiny-olmoe").attention[0], query_growth=0.1, query_span=8192)
    from_one = replace(mixer, query_first=1)
    assert [query_factor(one, 8191) for one in (mixer, from_one)] == [1.0, pytest.approx(1 + 0.1 * math.log(2))]
    assert query_factor(mixer, 100_000) == pytest.approx(1 + 0.1 * math.log(13))


@pytest.mark.parametrize(("changes", "bits"), [({}, 0), ({"score_scale": 1.0}, 2), ({"score_scale": 2**-6}, -4)])
def test_pinned_keys_make_up_for_the_scale_of_scores(changes: dict[str, float], bits: int) -> None:
    """Heads of 32 have a scale of 0.177: 1 is 5.7 times that, 2**-6 an 11th; with the keys' powers of two both come to 1.4."""
    made = problem_weights(changes)
    assert [made[name].scale - problem_weights({})[name].scale for name in ("attention_k", "key_cache")] == [bits, bits]


def problem_weights(changes: dict[str, float]) -> Any:
    mixer = replace(model("plain").attention[0], **changes)
    return gqa.weights(Form(mixer, 0, 2, 40), model("plain"), 0)


def test_the_pre_flight_counts_the_scores() -> None:
    """8 heads, 24 tokens: 24 keys each in a prefill, 41 in a decode; three times in fp32."""
    asked = problem("attention+prefill/plain")
    assert asked.sizes.scores == 8 * 24 * 24
    assert problem("attention+decode+c40/plain").sizes.scores == 8 * 24 * 41
    without = dataclasses.replace(asked, sizes=dataclasses.replace(asked.sizes, scores=0))
    assert working_bytes(asked) - working_bytes(without) == 12 * asked.sizes.scores

"""Routing rules: the same on NumPy, torch and ONNX Runtime, and as their formulas say."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import torch
from tiny_models import TINY

from workloads.backends.numpy_ops import NumpyOps
from workloads.backends.onnx_ops import Graph
from workloads.backends.torch_ops import TorchOps
from workloads.dims import Model
from workloads.rules import RULES, Terms, rule_of, weights_of

TOKENS = 64
BY_RULE = {model.router: model for model in TINY.values()}


def drawn(model: Model, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(logits [T, E], bias [E], scale [E]) in float32; for sparsemixer some logits come close to the largest."""
    random = np.random.default_rng(seed)
    outputs = model.num_experts + model.zero_experts
    logits = random.normal(size=(TOKENS, outputs))
    if model.router == "sparsemixer":
        largest = logits.argmax(axis=1)
        other = (largest + 1) % outputs
        logits[np.arange(TOKENS), largest] += 5.0
        logits[np.arange(TOKENS), other] = logits[np.arange(TOKENS), largest] * random.choice([0.992, 0.94], TOKENS)
    span = 0.2 if model.router != "softmax_bias_topk" else 0.5 / outputs
    values = logits, random.uniform(-span, span, outputs), random.uniform(0.75, 1.25, outputs)
    return tuple(value.astype(np.float32) for value in values)  # type: ignore[return-value]


def ordered(ids: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(ids, axis=1)
    return np.take_along_axis(ids, order, 1), np.take_along_axis(weights, order, 1)


def on_numpy(model: Model, logits: np.ndarray, bias: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    wide = [value.astype(np.float64) for value in (logits, bias, scale)]
    return ordered(*rule_of(model).select(NumpyOps(), wide[0], Terms(wide[1], wide[2]), model))


def on_torch(model: Model, logits: np.ndarray, bias: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    terms = Terms(torch.from_numpy(bias), torch.from_numpy(scale))
    ids, weights = rule_of(model).select(TorchOps(), torch.from_numpy(logits), terms, model)
    return ordered(ids.numpy(), weights.numpy())


def on_onnx(model: Model, logits: np.ndarray, bias: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    graph = Graph("fp32")
    x = graph.input("x", logits.shape, "fp32")
    terms = Terms(graph.constant(bias, "fp32"), graph.constant(scale, "fp32"))
    ids, weights = rule_of(model).select(graph.in_fp32(), x, terms, model)
    shape = (TOKENS, model.experts_per_token)
    graph.output(ids, "ids", shape, "int64")
    graph.output(weights, "weights", shape, "fp32")
    session = ort.InferenceSession(graph.model().SerializeToString(), providers=["CPUExecutionProvider"])
    return ordered(*session.run(["ids", "weights"], {"x": logits}))


def test_every_rule_has_a_tiny_model() -> None:
    assert set(BY_RULE) == set(RULES)


@pytest.mark.parametrize("name", sorted(RULES))
def test_all_backends_select_and_weigh_alike(name: str) -> None:
    model = BY_RULE[name]
    reference = on_numpy(model, *drawn(model))
    for backend in (on_torch, on_onnx):
        ids, weights = backend(model, *drawn(model))
        assert (ids == reference[0]).all()
        np.testing.assert_allclose(weights, reference[1], rtol=3e-6)


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_token_selects_k_different_experts(name: str) -> None:
    ids, weights = on_numpy(BY_RULE[name], *drawn(BY_RULE[name]))
    assert (np.diff(ids, axis=1) > 0).all()
    assert (weights > 0).all()


def softmax(row: np.ndarray) -> np.ndarray:
    shifted = np.exp(row - row.max())
    return shifted / shifted.sum()


def by_token(name: str) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, dict[int, float]]]:
    """(logits, bias, scale, expert -> weight) of every token."""
    model = BY_RULE[name]
    logits, bias, scale = (value.astype(np.float64) for value in drawn(model))
    ids, weights = on_numpy(model, *drawn(model))
    return [(logits[t], bias, scale, dict(zip(ids[t].tolist(), weights[t], strict=True))) for t in range(TOKENS)]


def test_biased_softmax_ranks_with_the_bias_and_weighs_without_it() -> None:
    model = BY_RULE["softmax_bias_topk"]
    for logits, bias, _, found in by_token("softmax_bias_topk"):
        p = softmax(logits)
        best = np.argsort(-(p + bias))[: model.experts_per_token]
        total = p[best].sum() if model.norm_topk_prob else 1.0
        assert found == pytest.approx({int(i): p[i] / total * model.routed_scaling_factor * _scale(i) for i in best})


def _scale(i: int) -> float:
    return float(drawn(BY_RULE["softmax_bias_topk"])[2][i])


def test_groups_by_their_highest_drop_the_others() -> None:
    for logits, _, scale, found in by_token("softmax_group_max_topk"):
        groups = logits.reshape(4, 4).max(axis=1).argsort()[-2:]
        kept = np.isin(np.arange(16) // 4, groups)
        best = np.argsort(-np.where(kept, logits, -np.inf))[:4]
        assert found == pytest.approx({int(i): softmax(logits)[i] * 16.0 * scale[i] for i in best})


def test_each_group_selects_its_best() -> None:
    for logits, _, scale, found in by_token("moge_softmax_group_top1"):
        best = logits.reshape(4, 4).argmax(axis=1) + 4 * np.arange(4)
        assert found == pytest.approx({int(i): softmax(logits)[i] * scale[i] for i in best})


def test_sparsemixer_weighs_against_what_comes_near() -> None:
    seen = set()
    for logits, _, _, found in by_token("sparsemixer"):
        first = int(logits.argmax())
        second = int(np.where(np.arange(16) == first, -np.inf, logits).argmax())
        near = (logits[first] - logits[second]) / logits[first] <= 0.02
        seen.add(bool(near))
        weight = 1 / (1 + np.exp(logits[second] - logits[first])) if near else 1.0
        assert found == pytest.approx({first: weight, second: 1.0})
    assert seen == {True, False}


def test_llama_4_weighs_the_best_by_its_sigmoid() -> None:
    for logits, _, _, found in by_token("topk_sigmoid"):
        assert found == pytest.approx({int(logits.argmax()): 1 / (1 + np.exp(-logits.max()))})


def test_hash_layers_weigh_what_a_table_selected_without_the_bias() -> None:
    model = TINY["tiny-v4-hash"]
    logits = drawn(model)[0].astype(np.float64)
    ids = np.tile(np.arange(4), (TOKENS, 1))
    scores = np.sqrt(np.log1p(np.exp(logits[:, :4])))
    expected = 1.5 * scores / scores.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(weights_of(NumpyOps(), logits, ids, model), expected)

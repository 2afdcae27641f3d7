"""Activations: the published formulas, one function each, the same on every backend."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import tiny

from harness.targets import TargetName, open_target
from workloads.activations import ACTIVATIONS, activation_of
from workloads.backends.numpy_ops import NumpyOps
from workloads.backends.onnx_ops import Graph
from workloads.backends.torch_ops import TorchOps
from workloads.dims import Model
from workloads.models import models

KEYS: dict[str, dict[str, Any]] = {
    "clamped_silu_swiglu": {"activation_limit": 10.0},
    "swiglu_oai": {"activation_limit": 7.0, "activation_alpha": 1.702},
    "situ": {"activation_beta": 4.0, "activation_linear_beta": 25.0},
    "relu2": {"glu": False},
}


def using(name: str) -> Model:
    return tiny("tiny-olmoe", activation=name, **KEYS.get(name, {}))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def gelu_tanh(x: float) -> float:
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@pytest.mark.parametrize(
    ("name", "gate", "up", "hidden"),
    [
        ("silu_swiglu", 2.0, 3.0, 6 * sigmoid(2)),
        ("clamped_silu_swiglu", 12.0, -11.0, 10 * sigmoid(10) * -10),
        ("clamped_silu_swiglu", -12.0, 3.0, -36 * sigmoid(-12)),
        ("swiglu_oai", 8.0, -9.0, -6 * 7 * sigmoid(7 * 1.702)),
        ("relu2", -3.0, None, 0.0),
        ("relu2", 3.0, None, 9.0),
        ("gelu_tanh_glu", 2.0, 3.0, 3 * gelu_tanh(2)),
        ("situ", 2.0, 50.0, 4 * math.tanh(0.5) * sigmoid(2) * 25 * math.tanh(2)),
    ],
)
def test_an_activation_is_its_published_formula(name: str, gate: float, up: float | None, hidden: float) -> None:
    found = activation_of(using(name))(NumpyOps(), np.array([gate]), None if up is None else np.array([up]))
    assert found[0] == pytest.approx(hidden, rel=1e-12)


def test_every_activation_of_a_shipped_model_is_done() -> None:
    assert {entry.activation for entry in models().values()} <= set(ACTIVATIONS)


GATE = np.linspace(-12, 12, 97, dtype=np.float32).reshape(1, -1)


def arguments(name: str) -> list[np.ndarray]:
    return [GATE] if name == "relu2" else [GATE, GATE[:, ::-1].copy() * 3]


def padded(values: list[Any]) -> list[Any]:
    """gate and up; None for the up of an ungated activation."""
    return [*values, None][:2]


def agree(found: np.ndarray, name: str) -> None:
    wanted = reference(name)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6 * np.abs(wanted).max())


def reference(name: str) -> np.ndarray:
    values = [array.astype(np.float64) for array in arguments(name)]
    return activation_of(using(name))(NumpyOps(), *padded(values))


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_torch_computes_the_same(name: str) -> None:
    values = [torch.from_numpy(array) for array in arguments(name)]
    found = activation_of(using(name))(TorchOps(), *padded(values))
    agree(found.numpy(), name)


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_onnx_computes_the_same(name: str) -> None:
    graph = Graph("fp32")
    values = {f"x{i}": array for i, array in enumerate(arguments(name))}
    inputs: list[Any] = [graph.input(one, array.shape, "fp32") for one, array in values.items()]
    found = activation_of(using(name))(graph.in_dtype(), *padded(inputs))
    graph.output(found, "y", GATE.shape, "fp32")
    session = open_target(TargetName.parse("ort:cpu")).session(graph.model().SerializeToString(), {})
    agree(session.run(None, values)[0], name)


def test_situ_is_computed_in_fp32_and_comes_back_in_the_dtype() -> None:
    gate, up = torch.tensor([3.0], dtype=torch.bfloat16), torch.tensor([24.0], dtype=torch.bfloat16)
    found = activation_of(using("situ"))(TorchOps(), gate, up)
    wide = activation_of(using("situ"))(TorchOps(), gate.float(), up.float())
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, wide.to(torch.bfloat16))

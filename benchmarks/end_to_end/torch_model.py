"""OLMoE whole in torch on the CPU: sixteen layers with weights of their own, embedding, head."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from benchmarks.end_to_end.sizes import MODEL, PORTABLE, Size, layer_weights, told_apart
from benchmarks.end_to_end.turns import Samples, clocked, turns
from harness.targets import TargetName, open_target
from harness.targets.torch_device import DTYPES, _Resident
from workloads.block import RESIDUAL_BITS
from workloads.checking import Checker
from workloads.models import model
from workloads.problem import Problem
from workloads.registry import implementations_of
from workloads.weights import Weight

__all__ = ["DTYPE", "PARTS", "TorchModel"]

DTYPE = "bf16"
PARTS = ("block", "moe-layer", "attention")


class _Layer:
    """What implementations are built on: one layer's weights, its planted input (slot 0) and the residual stream (slot 1)."""

    device = torch.device("cpu")

    def __init__(self, problem: Problem, weights: dict[str, Any], place: int) -> None:
        self._weights = weights
        tokens = torch.from_numpy(problem.ring[place]["tokens"]).to(DTYPES[DTYPE])
        self._inputs = [{"tokens": tokens}, {"tokens": tokens}]
        self.residual = self._inputs[1]

    def weights(self, slot: int) -> dict[str, Any]:
        return self._weights

    def inputs(self, slot: int) -> dict[str, Any]:
        return self._inputs[slot]


class TorchModel:
    """Weights are filled once and kept from size to size; a size adds its caches."""

    def __init__(self) -> None:
        self.target = open_target(TargetName.parse("torch:cpu"))
        self.about = model(MODEL)
        self._filled: dict[tuple[str, int, Any], torch.Tensor] = {}
        draw = torch.Generator().manual_seed(0)
        shape = (self.about.vocab_size, self.about.hidden_size)
        self._embedding = torch.randn(shape, generator=draw).to(DTYPES[DTYPE])
        self._head = (torch.randn(shape, generator=draw) / shape[1] ** 0.5).to(DTYPES[DTYPE])

    def measure(self, size: Size) -> tuple[Samples, dict[str, Problem], dict[str, float]]:
        """Samples of a size, the parts' problems, and how many experts a layer met: planted, and in the whole."""
        problems = {part: size.problem(part, DTYPE) for part in PARTS}
        layers = [self._layer(problems, number) for number in range(self.about.num_layers)]
        for part in PARTS:
            Checker(problems[part], DTYPE).before(_fetched(part, layers[0][part][0](0)))
        ids = torch.randint(0, self.about.vocab_size, (size.tokens,), generator=torch.Generator().manual_seed(1))

        def whole() -> Mapping[str, int]:
            return self._pass(size, ids, [layer["block"] for layer in layers])

        def single(part: str) -> Callable[[int], object]:
            return lambda place: layers[place][part][0](0)

        calls = {part: clocked(single(part)) for part in PARTS}
        samples = turns(whole, calls, len(layers))
        met = [len(layer["block"][0](1)["ids"].unique()) for layer in layers]
        planted = problems["block"].skew or {}
        experts = {"planted": float(planted["distinct_experts"]), "met": sum(met) / len(met)}
        return samples, problems, experts

    def _layer(self, problems: Mapping[str, Problem], number: int) -> dict[str, tuple[Any, _Layer]]:
        """Part → (its call, what it stands on); the parts of a layer share its weights."""
        found = {}
        for part, problem in problems.items():
            weights = self._weights(problems["block"] if part != "block" else problem, number)
            on = _Layer(problem, weights, number)
            entry = next(one for one in implementations_of(part, "torch") if one.name == PORTABLE[part])
            found[part] = (entry.build(replace(problem, ring=problem.ring[:2]), on).call, on)
        return found

    def _weights(self, problem: Problem, number: int) -> dict[str, torch.Tensor]:
        recipes = layer_weights(problem.weights, number)
        return {name: self._tensor(name, number, recipe, problem) for name, recipe in recipes.items()}

    def _tensor(self, name: str, number: int, recipe: Weight, problem: Problem) -> torch.Tensor:
        key = (name, number, told_apart(recipe))
        if key not in self._filled:
            for other in [one for one in self._filled if one[:2] == key[:2]]:
                del self._filled[other]  # another size's cache or table
            alone = replace(problem, weights={name: recipe}, ring=[])
            self._filled[key] = _Resident(alone, _Layer.device, DTYPES[DTYPE], 1).weights(0)[name]
        return self._filled[key]

    def _pass(self, size: Size, ids: torch.Tensor, blocks: list[tuple[Any, _Layer]]) -> dict[str, int]:
        begin = time.perf_counter_ns()
        h = self._embedding[ids]
        entered = time.perf_counter_ns()
        for call, on in blocks:
            on.residual["tokens"] = h
            h = call(1)["y"]
        left = time.perf_counter_ns()
        last = h if size.phase == "decode" else h[-1:]
        normed = torch.nn.functional.rms_norm(last.float(), (last.shape[1],), eps=self.about.block_norm_eps)
        chosen = (normed.to(last.dtype) @ self._head.T).argmax(dim=-1)
        end = time.perf_counter_ns()
        assert chosen.shape == (last.shape[0],)
        return {"layers": left - entered, "whole": end - begin}


def _fetched(part: str, outputs: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Outputs as the checker wants them; a block's output projection is smaller than attention's own by 2**RESIDUAL_BITS."""
    kinds = {True: torch.float32, False: torch.int64}
    found = {name: value.to(kinds[value.is_floating_point()]).numpy() for name, value in outputs.items()}
    return found | ({"y": found["y"] * 2.0**RESIDUAL_BITS} if part == "attention" else {})

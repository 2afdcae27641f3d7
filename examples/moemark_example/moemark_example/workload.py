"""`rms-norm`: y = x / sqrt(mean(x^2) + 1e-6) of each token [T, H] of a model's hidden size: cost, reference, torch."""

from functools import partial

import numpy as np

from workloads.inputs import hidden_noise
from workloads.models import model
from workloads.problem import SLOTS, WHOLE, Contribution, Cost, Expected, Problem, input_digest
from workloads.registry import Built, implementation, register_workload
from workloads.sizes import Sizes


class RmsNorm:
    """Root mean square norm of hidden states, without a gain."""

    name, version = "rms-norm", 1

    def unsupported(self, case):
        return "write 'none' as its routing, and no variant" if case.routing != "none" or case.variants else None

    def problem(self, case):
        tokens, hidden = case.tokens, model(case.model).hidden_size
        drawn = (hidden_noise(tokens, hidden, ("rms-norm", case.seed, slot)) for slot in range(SLOTS))
        ring, size = [{"x": x.astype(np.float32)} for x in drawn], 2 if case.dtype in ("bf16", "fp16") else 4
        cost = Cost(4 * tokens * hidden, 2 * size * tokens * hidden, 0, tokens, tokens, 0)
        about = (case, model(case.model), Sizes(tokens, hidden), {}, ring, {"y": (tokens, hidden)})
        none = (np.empty(0, np.int64), np.empty(0, np.int64))
        return Problem(*about, cost, input_digest({}, ring, None), partial(_expected, ring), lambda slot, output: none)


def _expected(ring, requests):
    return [_slot(ring[slot]["x"].astype(np.float64), lines) for slot, lines in requests]


def _slot(x, lines):
    chosen, one = np.arange(len(x)) if lines is None else lines["y"], np.ones(len(x))
    y = x / np.sqrt((x * x).mean(1, keepdims=True) + 1e-6)
    parts = Contribution(np.arange(len(chosen)), np.full(len(chosen), WHOLE), one[: len(chosen)], y[chosen])
    routed = {"y": (np.arange(len(x)), np.full(len(x), WHOLE), one)}
    return Expected(lines={"y": chosen}, values={"y": y[chosen]}, routed=routed, contributions={"y": parts})


register_workload(RmsNorm())


@implementation("rms-norm", "torch", "plain")
def build(problem, on):
    import torch

    width, norm = problem.sizes.hidden, torch.nn.functional.rms_norm
    return Built(lambda slot: {"y": norm(on.inputs(slot)["x"], (width,), eps=1e-6)})

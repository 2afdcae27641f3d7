"""What sparsity costs: an MoE layer's time over that of the dense FFN with equal active FLOPs, within one run.

The control (`dense-ffn`) has the hidden size, activation and dtype of the model and the width k * I + I_shared, so a layer that
ran with the efficiency of a dense model would take as long. At ep > 1 the layer is one rank's share and the control a whole
replica on the same own tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from results.compare import fastest
from results.record import Measurement
from results.statistics import Estimate, Ratio, Series, ratio, time_of
from results.store import RunFile
from workloads.case import Case

__all__ = ["Sparsity", "sparsity"]


@dataclass(frozen=True)
class Sparsity:
    """One layer and its control on one target, each by its fastest exact implementation."""

    target: str
    layer: Measurement
    control: Measurement
    layer_time: Estimate
    control_time: Estimate
    time: Ratio
    """Time of the layer over time of the control: 1 is the efficiency of a dense layer."""
    flops: float
    """Useful FLOPs of the layer over those of the control: the router's, and at ep > 1 the rank's load, differ."""


def sparsity(run_file: RunFile) -> list[Sparsity]:
    """Every `moe-layer` case of a run whose `dense-ffn` control finished on the same target, in the run's order."""
    controls = _by_shape(run_file, "dense-ffn")
    found = []
    for (target, case), lines in _by_case(run_file, "moe-layer").items():
        layer, control = fastest(lines), fastest(controls.get((target, *_shape(case)), []))
        if layer and control and layer.cost and control.cost:
            pair = Series.of(layer), Series.of(control)
            times = [time_of(layer), time_of(control)]
            flops = layer.cost.flops / control.cost.flops
            found.append(Sparsity(target, layer, control, times[0], times[1], ratio(pair[1], pair[0]), flops))
    return found


Shape = tuple[str, int, int, str, str, int]


def _shape(case: Case) -> Shape:
    return case.model, case.ep, case.tokens, case.dtype, case.scenario, case.seed


def _by_case(run_file: RunFile, workload: str) -> dict[tuple[str, Case], list[Measurement]]:
    found: dict[tuple[str, Case], list[Measurement]] = {}
    for line in run_file.measurements:
        case = Case.parse(line.case)
        if case.workload == workload and not case.variants:
            found.setdefault((line.target, case), []).append(line)
    return found


def _by_shape(run_file: RunFile, workload: str) -> dict[tuple[str, *Shape], list[Measurement]]:
    return {(target, *_shape(case)): lines for (target, case), lines in _by_case(run_file, workload).items()}

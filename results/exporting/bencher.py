"""Bencher Metric Format: what `bencher run --adapter json` reads.

{benchmark: {measure: {value, lower_value, upper_value}}}, each measurement a benchmark, bounds those of the 95 % interval.
`latency` is Bencher's own measure, in ns; it makes the others when it first sees them. Schema: https://bencher.dev/bmf.json.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable

from results.exporting import benchmark_name
from results.metrics import gb_per_s, metrics, rate_per_s, tflop_per_s
from results.record import Measurement
from results.statistics import Estimate
from results.store import RunFile

__all__ = ["render"]

Bounded = dict[str, float]


def render(run_file: RunFile) -> str:
    """One JSON object. Only `ok` measurements have a value."""
    found = {
        benchmark_name(line.case, line.target, line.implementation): _measures(line, figures.time)
        for line in run_file.measurements
        if (figures := metrics(run_file, line)) is not None
    }
    return json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _measures(line: Measurement, time: Estimate) -> dict[str, Bounded]:
    found = {"latency": _bounded(lambda ns: ns, time)}
    cost = line.cost
    if cost is not None:
        found["tokens-per-second"] = _bounded(lambda ns: rate_per_s(cost.tokens, ns), time)
        found["tflop-per-second"] = _bounded(lambda ns: tflop_per_s(cost.flops, ns), time)
        found["gb-per-second"] = _bounded(lambda ns: gb_per_s(cost.bytes, ns), time)
    return found


def _bounded(figure: Callable[[float], float], time: Estimate) -> Bounded:
    """The figure of the estimate and of both ends of its interval; an interval without end has none."""
    found = {"value": figure(time.ns)}
    if math.isfinite(time.high_ns) and time.low_ns > 0:
        ends = sorted((figure(time.low_ns), figure(time.high_ns)))
        found |= {"lower_value": ends[0], "upper_value": ends[1]}
    return found

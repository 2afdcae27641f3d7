"""benchmark-action/github-action-benchmark: a JSON array for its tools `customSmallerIsBetter` and `customBiggerIsBetter`.

Times of a call in ns for the first, own tokens a second for the second; `range` is half the 95 % interval in the same unit, as
`± NUMBER`, which the action reads; `extra` is what it shows beside a point.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from results.exporting import benchmark_name
from results.figures import percent, plain_rate, time_text
from results.metrics import Metrics, metrics
from results.record import Measurement
from results.store import RunFile

__all__ = ["render", "render_tokens"]


def render(run_file: RunFile) -> str:
    """For `customSmallerIsBetter`: the time of a call."""
    return _array(run_file, "ns", lambda figures: figures.time.ns)


def render_tokens(run_file: RunFile) -> str:
    """For `customBiggerIsBetter`: tokens a second."""
    return _array(run_file, "tokens/s", lambda figures: figures.tokens_per_s)


def _array(run_file: RunFile, unit: str, figure: Callable[[Metrics], float | None]) -> str:
    found = [
        _entry(line, figures, unit, value)
        for line in run_file.measurements
        if (figures := metrics(run_file, line)) is not None and (value := figure(figures)) is not None
    ]
    return json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _entry(line: Measurement, figures: Metrics, unit: str, value: float) -> dict[str, Any]:
    half = value * figures.time.precision
    name = benchmark_name(line.case, line.target, line.implementation)
    range_ = {"range": f"± {half:.6g}"} if math.isfinite(half) else {}
    return {"name": name, "unit": unit, "value": value, **range_, "extra": _extra(line, figures)}


def _extra(line: Measurement, figures: Metrics) -> str:
    said = [f"time of a call: {time_text(figures.time.ns)}", f"samples: {len(line.samples_ns)}"]
    said += [f"tokens/s: {plain_rate(figures.tokens_per_s)}"] if figures.tokens_per_s else []
    said += [f"roofline: {percent(figures.roofline_ratio)}"] if figures.roofline_ratio else []
    said += [f"warnings: {', '.join(figures.warnings)}"] if figures.warnings else []
    return "\n".join(said)

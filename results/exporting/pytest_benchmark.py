"""pytest-benchmark's JSON, as `pytest --benchmark-json` writes it: for `pytest-benchmark compare` and whatever else reads it.

Times are seconds of one call. The statistics are pytest-benchmark's own (mean, median, quartiles over all samples, whatever
their slot), by its definitions; moemark's estimate with its interval stands in `extra_info` with all other figures. Names are
those that the pytest plugin gives, so that a recorded run can be compared with a run of pytest.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from typing import Any

from results.exporting import benchmark_name
from results.record import Measurement, table_in
from results.store import RunFile
from results.tidy import tidy_rows

__all__ = ["NODE", "extra_info", "render", "stats"]

NODE = "moemark"
"""The first part of every node id."""
FORMAT_VERSION = "5.3.1"
"""The pytest-benchmark whose fields and definitions these are."""
FENCE = 1.5
"""Tukey's: an outlier lies further from the quartiles than this many times their distance."""


def render(run_file: RunFile) -> str:
    """One JSON object. Only `ok` measurements have times."""
    pairs = zip(run_file.measurements, tidy_rows(run_file), strict=True)
    document = {
        "machine_info": _machine(run_file.run.environment),
        "commit_info": _commit(run_file.run.environment),
        "benchmarks": [_benchmark(line, row) for line, row in pairs if line.status == "ok"],
        "datetime": run_file.run.started_utc.replace("Z", "+00:00"),
        "version": FORMAT_VERSION,
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def extra_info(row: dict[str, Any]) -> dict[str, Any]:
    """All that a tidy row knows of the measurement, not of the file that it stands in; what JSON cannot hold is left out."""
    return {key: value for key, value in row.items() if _is_known(value) and key not in ("run", "line_sha256")}


def _is_known(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


def _benchmark(line: Measurement, row: dict[str, Any]) -> dict[str, Any]:
    name = benchmark_name(line.case, line.target, line.implementation)
    seconds = [ns / line.calls_per_sample / 1e9 for ns in line.samples_ns]
    return {
        "group": line.case,
        "name": name,
        "fullname": f"{NODE}::{name}",
        "params": None,
        "param": None,
        "extra_info": extra_info(row),
        "options": {"timer": line.clock, "disable_gc": True},
        "stats": stats(seconds) | {"data": seconds, "iterations": line.calls_per_sample},
    }


def stats(seconds: Sequence[float]) -> dict[str, Any]:
    """pytest-benchmark's statistics of the durations of its rounds."""
    ordered = sorted(seconds)
    mean, total = statistics.mean(ordered), sum(seconds)
    deviation = statistics.stdev(ordered) if len(ordered) > 1 else 0
    low, high = _first_quartile(ordered), _first_quartile(ordered[::-1])
    fences = low - FENCE * (high - low), high + FENCE * (high - low)
    inside = [value for value in ordered if fences[0] <= value <= fences[1]]
    beyond = sum(abs(value - mean) > deviation for value in ordered)
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": mean,
        "stddev": deviation,
        "rounds": len(ordered),
        "median": statistics.median(ordered),
        "iqr": high - low,
        "q1": low,
        "q3": high,
        "iqr_outliers": len(ordered) - len(inside),
        "stddev_outliers": beyond,
        "outliers": f"{beyond};{len(ordered) - len(inside)}",
        "ld15iqr": inside[0],
        "hd15iqr": inside[-1],
        "ops": len(ordered) / total if total else 0,
        "total": total,
    }


def _first_quartile(ordered: Sequence[float]) -> float:
    """The median of the lower half; of an odd count, weighted between the halves with and without the middle."""
    count, rest = divmod(len(ordered), 4)
    if rest % 2 == 0:
        return statistics.median(ordered[: len(ordered) // 2])
    if rest == 1:
        return 0.25 * ordered[count - 1] + 0.75 * ordered[count]
    return 0.75 * ordered[count] + 0.25 * ordered[count + 1]


def _machine(environment: dict[str, Any]) -> dict[str, Any]:
    """What pytest-benchmark says of a machine, as far as a record knows it: it holds no host name."""
    machine, system, python = (table_in(environment, room) for room in ("machine", "system", "python"))
    return {
        "node": "",
        "processor": "",
        "machine": machine.get("architecture", ""),
        "python_implementation": python.get("implementation", ""),
        "python_implementation_version": python.get("version", ""),
        "python_version": python.get("version", ""),
        "release": system.get("kernel", ""),
        "system": system.get("name", ""),
        "cpu": {"brand_raw": machine.get("cpu", ""), "count": machine.get("cores_logical")},
    }


def _commit(environment: dict[str, Any]) -> dict[str, Any]:
    """moemark's own commit where the run came from a checkout."""
    own = table_in(environment, "moemark")
    known = {"id": own.get("commit", "unversioned"), "dirty": bool(own.get("dirty")), "project": "moemark"}
    return known | {"time": None, "author_time": None, "branch": "(unknown)"}

"""Runs as tidy rows: one a measurement, units in the column names. What `--json`, pandas and the report read."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from results.energy import Energy
from results.metrics import Metrics, device_name, metrics
from results.record import Measurement, Ranks
from results.statistics import Series, percentile, slot_spread
from results.store import RunFile, read
from workloads.case import Case

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PERCENTILES", "load", "tidy_rows"]

PERCENTILES = (90, 95, 99, 99.9)
_FIGURES = (
    "tokens_per_s",
    "tflop_per_s",
    "gb_per_s",
    "intensity_flop_per_byte",
    "t_sol_ns",
    "roofline_ratio",
    "bound",
    "ceiling_target",
    "mfu_ratio",
    "mbu_ratio",
    "algbw_gb_per_s",
    "busbw_gb_per_s",
)
_RECORDED = (
    "implementation",
    "division",
    "status",
    "reason",
    "clock",
    "calls_per_sample",
    "processes",
    "sync_per_call",
)
_OBSERVED = (
    "prepare_ns",
    "compile_ns",
    "first_call_ns",
    "warmup_calls",
    "copies",
    "weights_cold",
    "memory_bytes",
    "started_utc",
)


def load(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> pd.DataFrame:
    """A data frame of one or more run files, one row a measurement. Raises UserError for what is no run file."""
    import pandas as pd

    several = [paths] if isinstance(paths, str | os.PathLike) else paths
    return pd.DataFrame([row for path in several for row in tidy_rows(read(path))])


def tidy_rows(run_file: RunFile) -> list[dict[str, Any]]:
    """One plain dict a measurement, in the order of the record. A figure that does not exist is None."""
    pairs = zip(run_file.measurements, run_file.digests, strict=True)
    return [_row(run_file, measurement, digest) for measurement, digest in pairs]


def _row(run_file: RunFile, measurement: Measurement, digest: str) -> dict[str, Any]:
    figures = metrics(run_file, measurement)
    return {
        "run": run_file.stem,
        "case": measurement.case,
        **_segments(Case.parse(measurement.case)),
        "target": measurement.target,
        "device": device_name(run_file, measurement.target),
        **{name: getattr(measurement, name) for name in _RECORDED},
        "warnings": list(figures.warnings if figures else measurement.warnings),
        "samples": len(measurement.samples_ns),
        **_times(measurement, figures),
        **{name: getattr(figures, name) if figures else None for name in _FIGURES},
        **_energy(figures.energy if figures else None),
        **{name: getattr(measurement, name) for name in _OBSERVED},
        **_parts(measurement),
        **_ranks(measurement.ranks),
        "case_digest": measurement.case_digest,
        "input_digest": measurement.input_digest,
        "line_sha256": digest,
    }


def _segments(case: Case) -> dict[str, Any]:
    return {
        "workload": "+".join((case.workload, *case.variants)),
        "model": case.model,
        "ep": case.ep,
        "rank": case.rank,
        "tokens": case.tokens,
        "dtype": case.dtype,
        "routing": case.routing,
        "scenario": case.scenario,
        "seed": case.seed,
    }


def _times(measurement: Measurement, figures: Metrics | None) -> dict[str, Any]:
    series = (measurement.samples_ns, measurement.slots, measurement.calls_per_sample)
    processes = Series.of(measurement).processes
    time = figures.time if figures else None
    found: dict[str, Any] = {
        "estimate_ns": time.ns if time else None,
        "low_ns": time.low_ns if time else None,
        "high_ns": time.high_ns if time else None,
        "precision_ratio": time.precision if time else None,
        "slot_spread_ratio": slot_spread(*series[:2]) if time else None,
        "p50_ns": time.ns if time else None,
    }
    for q in PERCENTILES:
        value, reason = percentile(*series, q, processes) if time else (None, None)
        found |= {f"p{q:g}_ns": value, f"p{q:g}_missing": reason}
    return found


def _energy(found: Energy | None) -> dict[str, Any]:
    names = ("joules_per_token", "joules_per_token_above_idle", "mean_w", "idle_w", "readings_per_s")
    figures = {name: getattr(found, name) if found else None for name in names}
    return figures | {"power_scope": found.scope if found else None}


def _ranks(found: Ranks | None) -> dict[str, Any]:
    """Of a collective workload: who took part; lists are by rank."""
    plain = ("backend", "hosts", "shared_cpu", "rows", "assignments", "cpu_ns")
    figures = {f"ranks_{name}": getattr(found, name) if found else None for name in plain}
    medians = [statistics.median(own) for own in found.samples_ns] if found else None
    return {"ranks": found.count if found else None, **figures, "ranks_p50_ns": medians}


def _parts(measurement: Measurement) -> dict[str, Any]:
    cost, skew, check = measurement.cost, measurement.skew, measurement.check
    return {
        "flops": cost.flops if cost else None,
        "bytes": cost.bytes if cost else None,
        "assignments": cost.assignments if cost else None,
        "rows": cost.rows if cost else None,
        "hotspot_ratio": skew.hotspot_ratio if skew else None,
        "uniform_hotspot_ratio": skew.uniform_hotspot_ratio if skew else None,
        "distinct_experts": skew.distinct_experts if skew else None,
        "check_error": check.error if check else None,
        "check_tolerance": check.tolerance if check else None,
        "check_gain": check.gain if check else None,
    }

"""Runs as tidy rows: one a measurement, units in the column names. What `--json`, pandas and the report read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from results.energy import Energy
from results.metrics import Metrics, device_name, metrics_of
from results.record import Measurement
from results.statistics import Series, percentile, slot_spread
from results.store import RunFile, read
from workloads.case import Case, parsed

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "PERCENTILES", "RECORDED", "load", "rows_with", "tidy_rows"]

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
)
_ABOUT = (
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

_SEGMENTS = ("workload", "model", "ep", "rank", "tokens", "dtype", "routing", "scenario", "seed")
_ENERGY = ("joules_per_token", "joules_per_token_above_idle", "mean_w", "idle_w", "readings_per_s")
_TIMES = ("estimate_ns", "low_ns", "high_ns", "precision_ratio", "slot_spread_ratio", "p50_ns")
_PERCENTILES = tuple(f"p{q:g}_{what}" for q in PERCENTILES for what in ("ns", "missing"))
_PARTS = (
    "flops",
    "bytes",
    "assignments",
    "rows",
    "hotspot_ratio",
    "uniform_hotspot_ratio",
    "distinct_experts",
    "check_error",
    "check_tolerance",
    "check_gain",
)
_LAST = ("case_digest", "input_digest", "line_sha256")
RECORDED = frozenset(("run", "case", *_SEGMENTS, "target", "device", *_ABOUT, "samples", *_OBSERVED, *_PARTS, *_LAST))
"""Columns that need no statistics."""
PERCENTILE_COLUMNS = frozenset((*_PERCENTILES, "slot_spread_ratio"))
COLUMNS = (
    *("run", "case", *_SEGMENTS, "target", "device", *_ABOUT, "warnings", "samples", *_TIMES, *_PERCENTILES),
    *(*_FIGURES, *_ENERGY, "power_scope", *_OBSERVED, *_PARTS, *_LAST),
)
"""All columns, in their order."""


def load(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> pd.DataFrame:
    """A data frame of one or more run files, one row a measurement. Raises UserError for what is no run file."""
    import pandas as pd

    several = [paths] if isinstance(paths, str | os.PathLike) else paths
    return pd.DataFrame([row for path in several for row in tidy_rows(read(path))])


def tidy_rows(run_file: RunFile, only: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """One plain dict a measurement, in the order of the record, or one for each of these numbers.

    A figure that does not exist is None.
    """
    return [{name: row[name] for name in COLUMNS} for row in rows_with(run_file, COLUMNS, only)]


def rows_with(run_file: RunFile, columns: Iterable[str], only: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """The same with these columns at least, and of the dear ones no more than that: for choosing rows by them."""
    wanted = set(columns)
    numbers = range(len(run_file.measurements)) if only is None else only
    lines = [run_file.measurements[number] for number in numbers]
    rows = [_recorded(run_file, run_file.measurements[number], run_file.digests[number]) for number in numbers]
    if wanted <= RECORDED:
        return rows
    for row, line, figures in zip(rows, lines, metrics_of(run_file, lines), strict=True):
        row |= _derived(line, figures)
        row |= _percentiles(line, figures) if wanted & PERCENTILE_COLUMNS else {}
    return rows


def _recorded(run_file: RunFile, measurement: Measurement, digest: str) -> dict[str, Any]:
    """What needs no statistics."""
    return {
        "run": run_file.stem,
        "case": measurement.case,
        **_segments(parsed(measurement.case)),
        "target": measurement.target,
        "device": device_name(run_file, measurement.target),
        **{name: getattr(measurement, name) for name in (*_ABOUT, *_OBSERVED)},
        "samples": len(measurement.samples_ns),
        **_parts(measurement),
        "case_digest": measurement.case_digest,
        "input_digest": measurement.input_digest,
        "line_sha256": digest,
    }


def _derived(measurement: Measurement, figures: Metrics | None) -> dict[str, Any]:
    time = figures.time if figures else None
    return {
        "warnings": list(figures.warnings if figures else measurement.warnings),
        "estimate_ns": time.ns if time else None,
        "low_ns": time.low_ns if time else None,
        "high_ns": time.high_ns if time else None,
        "precision_ratio": time.precision if time else None,
        "p50_ns": time.ns if time else None,
        **{name: getattr(figures, name) if figures else None for name in _FIGURES},
        **_energy(figures.energy if figures else None),
    }


def _percentiles(measurement: Measurement, figures: Metrics | None) -> dict[str, Any]:
    series = (measurement.samples_ns, measurement.slots, measurement.calls_per_sample)
    processes = Series.of(measurement).processes
    found: dict[str, Any] = {"slot_spread_ratio": slot_spread(*series[:2]) if figures else None}
    for q in PERCENTILES:
        value, reason = percentile(*series, q, processes) if figures else (None, None)
        found |= {f"p{q:g}_ns": value, f"p{q:g}_missing": reason}
    return found


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


def _energy(found: Energy | None) -> dict[str, Any]:
    figures = {name: getattr(found, name) if found else None for name in _ENERGY}
    return figures | {"power_scope": found.scope if found else None}


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

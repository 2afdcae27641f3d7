"""Runs as tidy rows: one a measurement, units in the column names. What `--json`, pandas and the report read."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from results.collector import no_cycles
from results.energy import Energy
from results.metrics import Metrics, device_name, metrics_of, times_of
from results.record import Measurement, Ranks
from results.statistics import Estimate, Series, percentiles, slot_spread, why_no_percentile
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
    "algbw_gb_per_s",
    "busbw_gb_per_s",
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
_RANKS = (
    *("ranks", "ranks_backend", "ranks_hosts", "ranks_shared_cpu", "ranks_rows", "ranks_assignments", "ranks_cpu_ns"),
    "ranks_p50_ns",
)
_LAST = ("method_version", "case_digest", "input_digest", "line_sha256")
RECORDED = frozenset(
    ("run", "case", *_SEGMENTS, "target", "device", *_ABOUT, "samples", *_OBSERVED, *_PARTS, *_RANKS, *_LAST)
)
"""Columns that need no statistics."""
PERCENTILE_COLUMNS = frozenset((*_PERCENTILES, "slot_spread_ratio"))
TIMES = frozenset(_TIMES) - PERCENTILE_COLUMNS
"""Columns that need the time alone."""
COLUMNS = (
    *("run", "case", *_SEGMENTS, "target", "device", *_ABOUT, "warnings", "samples", *_TIMES, *_PERCENTILES),
    *(*_FIGURES, *_ENERGY, "power_scope", *_OBSERVED, *_PARTS, *_RANKS, *_LAST),
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
    """The same with these columns at least, and of the dear ones hardly more than that: for choosing rows by them."""
    with no_cycles():
        return _rows_with(run_file, set(columns), only)


def _rows_with(run_file: RunFile, wanted: set[str], only: Sequence[int] | None) -> list[dict[str, Any]]:
    numbers = range(len(run_file.measurements)) if only is None else only
    lines = [run_file.measurements[number] for number in numbers]
    rows = [_recorded(run_file, run_file.measurements[number], run_file.digests[number], wanted) for number in numbers]
    if wanted <= RECORDED:
        return rows
    if wanted <= RECORDED | TIMES:
        return [row | _times(time) for row, time in zip(rows, times_of(lines), strict=True)]
    for row, line, figures in zip(rows, lines, metrics_of(run_file, lines), strict=True):
        row |= _derived(line, figures)
        row |= _percentiles(line, figures) if wanted & PERCENTILE_COLUMNS else {}
    return rows


def _recorded(run_file: RunFile, measurement: Measurement, digest: str, wanted: set[str]) -> dict[str, Any]:
    """What needs no statistics, of each group of columns all or none."""
    return {
        "run": run_file.stem,
        "case": measurement.case,
        **(_segments(parsed(measurement.case)) if not wanted.isdisjoint(_SEGMENTS) else {}),
        "target": measurement.target,
        "device": device_name(run_file, measurement.target),
        **{name: getattr(measurement, name) for name in (*_ABOUT, *_OBSERVED) if name in wanted},
        "samples": len(measurement.samples_ns),
        **(_parts(measurement) if not wanted.isdisjoint(_PARTS) else {}),
        **(_ranks(measurement.ranks) if not wanted.isdisjoint(_RANKS) else {}),
        "method_version": run_file.run.method_version,
        "case_digest": measurement.case_digest,
        "input_digest": measurement.input_digest,
        "line_sha256": digest,
    }


def _times(time: Estimate | None) -> dict[str, Any]:
    return {
        "estimate_ns": time.ns if time else None,
        "low_ns": time.low_ns if time else None,
        "high_ns": time.high_ns if time else None,
        "precision_ratio": time.precision if time else None,
        "p50_ns": time.ns if time else None,
    }


def _derived(measurement: Measurement, figures: Metrics | None) -> dict[str, Any]:
    return {
        "warnings": list(figures.warnings if figures else measurement.warnings),
        **_times(figures.time if figures else None),
        **{name: getattr(figures, name) if figures else None for name in _FIGURES},
        **_energy(figures.energy if figures else None),
    }


def _percentiles(measurement: Measurement, figures: Metrics | None) -> dict[str, Any]:
    found: dict[str, Any] = dict.fromkeys((*_PERCENTILES, "slot_spread_ratio"))
    if figures is None:
        return found
    series = Series.of(measurement)
    earned = percentiles(series, PERCENTILES, figures.time.ns)
    for q in PERCENTILES:
        missing = None if q in earned else why_no_percentile(series, q)
        found |= {f"p{q:g}_ns": earned.get(q), f"p{q:g}_missing": missing}
    return found | {"slot_spread_ratio": slot_spread(series.samples_ns, series.slots)}


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

"""Numbers that others published, with their sources and conditions, beside measured ones where the work is the same.

They are data of the CSV files here (README.md says what they are), and are never mixed with what this project measured: in
tables of their own, by others' names. What can be compared is a case, not a device: the device stands beside it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from results import hardware

__all__ = ["Beside", "Published", "comparable", "published", "published_rows"]

HERE = Path(__file__).parent
EXPERTS_SOURCE = "ai-dynamo/aiconfigurator@095f58a systems/data/*/moe/vllm/*/moe_perf.parquet"
EXPERTS_DATE = "2026-08"
MODELS = {
    "DeepSeek-V3/R1": "deepseek-v3",
    "Mixtral-8x7B": "mixtral-8x7b",
    "Qwen3-235B-A22B": "qwen3-235b-a22b",
    "Qwen3-30B-A3B": "qwen3-30b-a3b",
    "gpt-oss-120b": "gpt-oss-120b",
}
DTYPES = {"bfloat16": "bf16", "fp8_block": "w-fp8b128_a-fp8g128", "w4a16_mxfp4": "w-mxfp4_a-bf16"}
"""Their names of formats → ours; others have none here."""
ROUTINGS = {"balanced": "balanced", "power_law_1.2": "power1.2"}


@dataclass(frozen=True)
class Published:
    """One figure as it was published."""

    id: str
    model: str
    device: str
    runtime: str
    phase: str
    """`kernel`, `prefill`, `decode` or `e2e`: figures of different ones are never compared."""
    dtype: str
    metric: str
    value: float
    unit: str
    conditions: str
    source: str
    date: str
    case: str | None = None
    """The case of ours that is the same work; None: there is none."""

    @property
    def ns(self) -> float | None:
        """A latency in ns; None of other figures."""
        units = {"us": 1e3, "ms": 1e6, "s": 1e9}
        return self.value * units[self.unit] if self.metric == "latency" and self.unit in units else None


@dataclass(frozen=True)
class Beside:
    """A measured row and a published figure of the same case."""

    row: Mapping[str, Any]
    figure: Published
    ratio: float
    """Measured time over the published one."""
    same_device: bool
    """Whether both are of one kind of device, as `hardware.toml` tells them apart."""


@cache
def published() -> tuple[Published, ...]:
    """All figures, those of the general table first."""
    return (*map(_general, _rows("published.csv")), *map(_experts, _rows("experts.csv")))


def comparable(table: Iterable[Mapping[str, Any]]) -> list[Beside]:
    """For each row of `results.tidy` that has a time, the published latencies of its case, those of its own device first."""
    latencies = _latencies()
    found = []
    for row in table:
        if row["status"] != "ok" or not row["estimate_ns"]:
            continue
        sheet = hardware.find(row["device"]) if row["device"] else None
        besides = [_beside(row, figure, sheet) for figure in latencies.get(row["case"], ())]
        found += sorted(besides, key=lambda one: not one.same_device)
    return found


def published_rows() -> list[dict[str, Any]]:
    """All figures as plain dicts."""
    return [one.__dict__ for one in published()]


def _beside(row: Mapping[str, Any], figure: Published, sheet: hardware.Device | None) -> Beside:
    assert figure.ns is not None, "only latencies are compared"
    return Beside(row, figure, row["estimate_ns"] / figure.ns, sheet is not None and sheet.id == figure.device)


@cache
def _latencies() -> dict[str, Sequence[Published]]:
    found: dict[str, list[Published]] = {}
    for one in published():
        if one.case is not None and one.ns is not None:
            found.setdefault(one.case, []).append(one)
    return dict(found)


def _rows(name: str) -> list[dict[str, str]]:
    with (HERE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _general(row: dict[str, str]) -> Published:
    sizes = {"batch": row["batch"], "input": row["input_len"], "output": row["output_len"], "": row["parallelism"]}
    work = [f"{name} {value}".strip() for name, value in sizes.items() if value]
    return Published(
        id=row["id"],
        model=row["model"],
        device=row["device"],
        runtime=row["runtime"],
        phase=row["phase"],
        dtype=row["dtype"],
        metric=row["metric"],
        value=float(row["value"]),
        unit=row["unit"],
        conditions="; ".join([*work, row["conditions"]]),
        source=row["source"],
        date=row["date"] or "date not stated",
    )


def _experts(row: dict[str, str]) -> Published:
    dtype, routing = DTYPES.get(row["dtype"]), ROUTINGS.get(row["routing"])
    known = dtype and routing and not row["flag"]
    model = MODELS.get(row["model_shape"], row["model_shape"])
    flag = f"; flagged by who collected it: {row['flag']}" if row["flag"] else ""
    return Published(
        id=f"experts-{row['device']}-{model}-{row['dtype']}-{row['routing']}-t{row['tokens']}",
        model=row["model_shape"],
        device=row["device"],
        runtime=f"{row['runtime']} {row['kernel']}",
        phase="kernel",
        dtype=row["dtype"],
        metric="latency",
        value=float(row["latency_ms"]),
        unit="ms",
        conditions=f"routed experts of one layer, {_tokens(row)}, {row['routing']}, EP1 TP1{flag}",
        source=EXPERTS_SOURCE,
        date=EXPERTS_DATE,
        case=f"experts/{model}/ep1/t{row['tokens']}/{dtype}/{routing}/latency" if known else None,
    )


def _tokens(row: dict[str, str]) -> str:
    return "1 token" if row["tokens"] == "1" else f"{row['tokens']} tokens"

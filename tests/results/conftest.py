"""Builders of records with answers that can be checked by hand."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from results import record, store

OLMOE = "moe-layer/olmoe-1b-7b/ep1/t16/fp32/zipf1.0/latency"


def run_header(targets: Iterable[str] = ("torch:cpu", "ort:cpu"), **changes: Any) -> record.Run:
    """A header of two targets on one CPU."""
    device = {"name": "Test CPU", "unit": "host", "device_id": "cpu"}
    fields: dict[str, Any] = {
        "schema_version": record.SCHEMA_VERSION,
        "method_version": record.METHOD_VERSION,
        "moemark_version": "0.1.0",
        "started_utc": "2030-01-02T03:04:05Z",
        "selection": ["quick"],
        "selection_digest": "0" * 64,
        "targets": list(targets),
        "options": {"precision": 0.01},
        "plan": [(OLMOE, target) for target in targets],
        "environment": {
            "machine": {"cpu": "Test CPU", "cores_usable": 2},
            "targets": dict.fromkeys(targets, device),
        },
    }
    return record.Run(**(fields | changes))


def measurement(call_ns: int = 1_000_000, **changes: Any) -> record.Measurement:
    """48 equal samples of 16 tokens, 32 MFLOP and 4 MB a call: 16 ktok/s, 0.032 TFLOP/s and 4 GB/s at 1 ms."""
    fields: dict[str, Any] = {
        "case": OLMOE,
        "case_digest": hashlib.sha256(changes.get("case", OLMOE).encode()).hexdigest(),
        "input_digest": "d" * 64,
        "target": "torch:cpu",
        "implementation": "sorted",
        "division": "portable",
        "status": "ok",
        "samples_ns": [call_ns] * 48,
        "slots": list(range(16)) * 3,
        "check": record.Check(passed=True, before=True, after=True, slots=16, tokens=31),
        "cost": record.Cost(
            flops=32_000_000, bytes=4_000_000, weight_bytes=3_000_000, tokens=16, rows=16, assignments=128
        ),
    }
    return record.Measurement(**(fields | changes))


def several(
    call_ns: float = 1_000_000, machine: float = 1.0, processes: int = 5, seed: int = 0, **changes: Any
) -> record.Measurement:
    """Some processes of two revolutions each, in 8 shares beside a canary of 0.1 ms. The machine is `machine` times slower, by
    3 % more or less in each process, for both; on top calls differ by 0.3 %."""
    draw = np.random.default_rng([seed, round(call_ns), round(machine * 1000)])
    pace = machine * np.exp(0.03 * draw.standard_normal(processes))
    times = [np.rint(base * pace[:, None] * draw.normal(1, 0.003, (processes, 32))) for base in (call_ns, 100_000)]
    noise = record.Noise(wall_ns=1)
    turns = [record.Turn(process=n, samples=32, noise=noise, canary=32, shares=8) for n in range(processes)]
    fields: dict[str, Any] = {
        "samples_ns": times[0].astype(int).ravel().tolist(),
        "slots": list(range(16)) * 2 * processes,
        "processes": processes,
        "turns": turns,
        "canary": "hot planted",
        "canary_ns": times[1].astype(int).ravel().tolist(),
    }
    return measurement(**(fields | changes))


def failed(status: str = "unsupported", reason: str = "fp16 is upcast to fp32", **changes: Any) -> record.Measurement:
    """A measurement without samples."""
    nothing = {"samples_ns": [], "slots": None, "check": None, "input_digest": None}
    return measurement(**({"status": status, "reason": reason} | nothing | changes))


def ceilings() -> list[record.Ceiling]:
    """fp32 GEMM: 0.05 TFLOP/s by torch, 0.1 by ORT; read 10 GB/s, copy 8 GB/s."""
    here: dict[str, Any] = {"device": "cpu", "shape": [64, 64, 64]}
    gemm: dict[str, Any] = {**here, "what": "gemm", "dtype": "fp32", "flops": 10**8}
    return [
        record.Ceiling(target="torch:cpu", samples_ns=[2_000_000] * 3, **gemm),
        record.Ceiling(target="ort:cpu", samples_ns=[1_000_000] * 3, **gemm),
        record.Ceiling(target="torch:cpu", what="read", dtype="fp32", bytes=10**7, samples_ns=[1_000_000] * 3, **here),
        record.Ceiling(target="torch:cpu", what="copy", dtype="fp32", bytes=8 * 10**6, samples_ns=[1_000_000], **here),
    ]


WriteRun = Callable[..., store.RunFile]


@pytest.fixture
def write_run(tmp_path: Path) -> WriteRun:
    """Writes a whole run of these measurements and reads it back."""

    def write(*lines: record.Line, name: str = "base", header: record.Run | None = None) -> store.RunFile:
        with store.Writer(tmp_path / f"{name}.jsonl") as writer:
            for line in (header or run_header(), *lines):
                writer.append(line)
            writer.append(record.End(lines=writer.lines, ended_utc="2030-01-02T03:05:05Z"))
        return store.read(tmp_path / f"{name}.jsonl")

    return write

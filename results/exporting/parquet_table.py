"""Parquet: the tidy table with a type for every column, the same whatever the run holds, so that files can be joined."""

from __future__ import annotations

import io
from typing import Any

from results.store import RunFile
from results.tidy import tidy_rows
from workloads.case import UserError

__all__ = ["render"]

TEXT = (
    "run case workload model rank dtype routing scenario target device implementation division status reason clock bound"
    " ceiling_target started_utc case_digest input_digest line_sha256 p90_missing p95_missing p99_missing p99.9_missing"
)
WHOLE = (
    "ep tokens seed calls_per_sample processes samples prepare_ns compile_ns first_call_ns warmup_calls copies memory_bytes"
    " flops bytes assignments rows distinct_experts"
)
YES_NO = "sync_per_call weights_cold"
LISTS = "warnings"
"""Columns by type; all others are double."""


def render(run_file: RunFile) -> bytes:
    """The file, compressed with snappy. Raises UserError if pyarrow is not installed."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as problem:
        raise UserError("Parquet needs pyarrow: pip install 'moemark[parquet]'") from problem
    rows = tidy_rows(run_file)
    types = {name: kind for names, kind in _types(pa) for name in names.split()}
    schema = pa.schema([(name, types.get(name, pa.float64())) for name in (rows[0] if rows else ())])
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), file)
    return file.getvalue()


def _types(pa: Any) -> list[tuple[str, Any]]:
    return [(TEXT, pa.string()), (WHOLE, pa.int64()), (YES_NO, pa.bool_()), (LISTS, pa.list_(pa.string()))]

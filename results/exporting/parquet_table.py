"""Parquet: the tidy table with a type for every column, the same whatever the run holds, so that files can be joined."""

from __future__ import annotations

import io
from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from results.store import RunFile
from results.tidy import tidy_rows
from workloads.case import UserError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["arrow", "render", "schema_of"]

TEXT = (
    "run case workload model rank dtype routing scenario target device implementation division status reason clock bound"
    " ceiling_target started_utc case_digest input_digest line_sha256 p90_missing p95_missing p99_missing p99.9_missing"
    " power_scope"
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
    pa, pq = arrow("pyarrow"), arrow("pyarrow.parquet")
    rows = tidy_rows(run_file)
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema_of(rows[0] if rows else ())), file)
    return file.getvalue()


def schema_of(names: Iterable[str]) -> pa.Schema:
    """The types of these columns."""
    pa = arrow("pyarrow")
    kinds = [(TEXT, pa.string()), (WHOLE, pa.int64()), (YES_NO, pa.bool_()), (LISTS, pa.list_(pa.string()))]
    types = {name: kind for words, kind in kinds for name in words.split()}
    return pa.schema([(name, types.get(name, pa.float64())) for name in names])


def arrow(module: str) -> Any:
    """A module of pyarrow's. Raises UserError if it is not installed."""
    try:
        return import_module(module)
    except ImportError as problem:
        raise UserError("Parquet needs pyarrow: pip install 'moemark[parquet]'") from problem

"""What each column of a table holds: as what Parquet stores it, and what a condition may ask of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["KINDS", "kind_of", "specimen"]

TEXT = (
    "run case workload model rank dtype routing scenario target device implementation division status reason clock bound"
    " ceiling_target started_utc case_digest input_digest line_sha256 p90_missing p95_missing p99_missing p99.9_missing"
    " power_scope ranks_backend base new verdict"
)
WHOLE = (
    "ep tokens seed calls_per_sample processes samples prepare_ns compile_ns first_call_ns warmup_calls copies memory_bytes"
    " flops bytes assignments rows distinct_experts ranks ranks_hosts method_version"
)
YES_NO = "sync_per_call weights_cold ranks_shared_cpu"
TEXT_LISTS = "warnings"
WHOLE_LISTS = "ranks_rows ranks_assignments ranks_cpu_ns"
NUMBER_LISTS = "ranks_p50_ns"

KINDS: Mapping[str, Any] = {
    name: kind
    for words, kind in (
        (TEXT, str),
        (WHOLE, int),
        (YES_NO, bool),
        (TEXT_LISTS, list[str]),
        (WHOLE_LISTS, list[int]),
        (NUMBER_LISTS, list[float]),
    )
    for name in words.split()
}
"""Of every column that does not hold floating-point numbers."""


def kind_of(column: str) -> Any:
    """The type of a column's values, where there is one: `str`, `int`, `bool`, `float` or a list of them."""
    return KINDS.get(column, float)


def specimen(column: str) -> Any:
    """Some value of that kind."""
    return kind_of(column)()

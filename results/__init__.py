"""What comes out: the record, and all that is derived from it when it is read. Never imports torch or onnxruntime."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = [
    "Estimate",
    "RunFile",
    "Writer",
    "compare_runs",
    "comparison_table",
    "estimate",
    "load",
    "read",
    "schema",
    "show_table",
    "targets_side_by_side",
    "targets_table",
    "tidy_rows",
    "write_report",
]

_HOME = {
    "Estimate": "results.statistics",
    "RunFile": "results.store",
    "Writer": "results.store",
    "compare_runs": "results.compare:compare",
    "comparison_table": "results.tables",
    "estimate": "results.statistics",
    "load": "results.tidy",
    "read": "results.store",
    "schema": "results.store",
    "show_table": "results.tables",
    "targets_side_by_side": "results.compare",
    "targets_table": "results.tables",
    "tidy_rows": "results.tidy",
    "write_report": "results.report",
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first asked for."""
    if name not in _HOME:
        raise AttributeError(f"module 'results' has no attribute {name!r}")
    module, _, attribute = _HOME[name].partition(":")
    return getattr(import_module(module), attribute or name)

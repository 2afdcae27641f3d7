"""Parquet: the tidy table with a type for every column, the same whatever the run holds, so that files can be joined."""

from __future__ import annotations

import io
from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from results.kinds import kind_of
from results.store import RunFile
from results.tidy import tidy_rows
from workloads.case import UserError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["arrow", "render", "schema_of"]


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
    types = {str: pa.string(), int: pa.int64(), bool: pa.bool_(), float: pa.float64()}
    types |= {list[kind]: pa.list_(types[kind]) for kind in (str, int, float)}  # type: ignore[valid-type]
    return pa.schema([(name, types[kind_of(name)]) for name in names])


def arrow(module: str) -> Any:
    """A module of pyarrow's. Raises UserError if it is not installed."""
    try:
        return import_module(module)
    except ImportError as problem:
        raise UserError("Parquet needs pyarrow: pip install 'moemark[parquet]'") from problem

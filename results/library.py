"""Many runs as one Parquet table: exported once, then filtered and ranked in seconds, whatever their number.

The table is that of `results.tidy`, a row a measurement, its columns the same whatever the runs hold. It is derived: the
records are what counts, and the column `line_sha256` leads back to them. Nothing in it was verified: that takes longer than all
else, and a table could be edited afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results.exporting.parquet_table import arrow, schema_of
from results.kinds import kind_of
from results.store import read
from results.tidy import COLUMNS, tidy_rows
from results.where import Condition
from results.where_arrow import expression
from workloads.case import UserError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Exported", "export_folder", "fastest_rows", "query", "run_paths"]

ROWS_A_GROUP = 50_000
ENDINGS = (".jsonl", ".jsonl.gz")
WORK = ("case", "case_digest", "method_version")
"""What rows of the same work share: in another version, or by another method, an id means something else."""
REPEATED = [name for name in COLUMNS if kind_of(name) is str and not name.endswith(("digest", "sha256"))]
"""Columns of few different texts: as numbers of a dictionary they are read sooner."""
RANKED = (*WORK, "device", "target", "status", "division", "estimate_ns")
"""What rows are ranked by."""


@dataclass(frozen=True)
class Exported:
    """What went into a table, and which files did not, each with the sentence that says why."""

    runs: int
    measurements: int
    refused: tuple[str, ...]


def run_paths(folder: Path) -> list[Path]:
    """The run files in a folder and those in it, by name."""
    return sorted(path for path in folder.rglob("*.jsonl*") if path.name.endswith(ENDINGS) and path.is_file())


def export_folder(folder: Path, path: Path, tell: Callable[[str], None] = lambda text: None) -> Exported:
    """Writes the measurements of all runs in a folder as one Parquet table, in row groups: no more than that is held at once.

    A file that is no run file is left out and named. Raises UserError without any run, or where the table cannot be written.
    """
    pq = arrow("pyarrow.parquet")
    refused: list[str] = []
    part, runs, count = path.with_name(path.name + ".part"), 0, 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(part, schema_of(COLUMNS)) as writer:
            for group in _groups(_rows_of_runs(run_paths(folder), refused, tell)):
                runs, count = runs + len({row["run"] for row in group}), count + len(group)
                writer.write_table(_table(group))
        if not count:
            raise UserError(
                f"{folder} holds no measurement: " + (refused[0] if refused else "there is no .jsonl in it")
            )
        part.replace(path)
    except OSError as problem:
        raise UserError(f"cannot write {path.name}: {problem.strerror}; name another file with -o") from problem
    finally:
        part.unlink(missing_ok=True)
    return Exported(runs, count, tuple(refused))


def _rows_of_runs(
    paths: Sequence[Path], refused: list[str], tell: Callable[[str], None]
) -> Iterator[list[dict[str, Any]]]:
    for number, path in enumerate(paths, 1):
        try:
            yield tidy_rows(read(path))
        except UserError as problem:
            refused.append(str(problem))
        if number % 100 == 0:
            tell(f"{number} of {len(paths)} runs")


def _groups(runs: Iterator[list[dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
    """Rows of whole runs together until they are worth a row group."""
    group: list[dict[str, Any]] = []
    for rows in runs:
        group += rows
        if len(group) >= ROWS_A_GROUP:
            yield group
            group = []
    if group:
        yield group


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    """Column by column: twice as fast as row by row."""
    pa, schema = arrow("pyarrow"), schema_of(COLUMNS)
    return pa.table({name: pa.array([row[name] for row in rows], schema.field(name).type) for name in COLUMNS}, schema)


# ---- asking


def query(path: Path, condition: Condition, best: bool = False) -> list[dict[str, Any]]:
    """The rows of an exported table that meet a condition; `best`: of each work on each device the fastest exact one alone.

    Raises UserError for a file that is no such table, or where a text is compared with a number.
    """
    pa, ds = arrow("pyarrow"), arrow("pyarrow.dataset")
    try:
        table = ds.dataset(path, format="parquet")
        if missing := [name for name in COLUMNS if name not in table.schema.names]:
            raise UserError(f"{path.name} is no table of ours, it has no column {missing[0]}: moemark export makes one")
        wanted = expression(condition.tree, table.schema)
        if not best:
            return table.scanner(filter=wanted).to_table().to_pylist()
        known = table.scanner(columns=list({*RANKED, *condition.columns})).to_table()
        return _rows(path, _fastest(known, wanted)).to_pylist()
    except OSError as problem:
        raise UserError(f"cannot read {path.name}: {problem.strerror or problem}") from problem
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as problem:
        raise UserError(f"{path.name}: {str(problem).splitlines()[0]}") from problem


def fastest_rows(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of each work on each device (of each target, where it has no name) the fastest row that is `ok` and not `open`."""
    best: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for row in rows:
        key = (*(row[name] for name in WORK), row["device"] or row["target"])
        ranked = row["status"] == "ok" and row["division"] != "open"
        if ranked and (key not in best or row["estimate_ns"] < best[key]["estimate_ns"]):
            best[key] = row
    return list(best.values())


def _fastest(table: pa.Table, wanted: Any) -> pa.Array:
    """The same of a table, in its own way: the numbers of the rows, from 0, of a million in a second."""
    pa, pc = arrow("pyarrow"), arrow("pyarrow.compute")
    field = pc.field
    numbered = table.append_column("number", pa.array(range(len(table)), pa.int64()))
    exact = (field("status") == "ok") & (field("division") != "open") & field("estimate_ns").is_valid()
    ranked = numbered.filter(wanted & exact)
    ranked = ranked.append_column("place", pc.coalesce(ranked["device"], ranked["target"]))
    order = pc.sort_indices(ranked, sort_keys=[("estimate_ns", "ascending")])
    first = ranked.select([*WORK, "place", "number"]).take(order)
    return first.group_by([*WORK, "place"], use_threads=False).aggregate([("number", "first")])["number_first"]


def _rows(path: Path, numbers: pa.ChunkedArray) -> pa.Table:
    """These rows of a table with all their columns, which are most of its memory, from one group of rows after the other."""
    import numpy as np

    pa, pq = arrow("pyarrow"), arrow("pyarrow.parquet")
    wanted = numbers.to_numpy()
    order, found = np.argsort(wanted), []
    with pq.ParquetFile(path, read_dictionary=REPEATED) as file:
        schema = schema_of(file.schema_arrow.names)
        begin = 0
        for number in range(file.num_row_groups):
            end = begin + file.metadata.row_group(number).num_rows
            here = wanted[order][np.searchsorted(wanted[order], begin) : np.searchsorted(wanted[order], end)] - begin
            if len(here):
                found.append(file.read_row_group(number).take(here).cast(schema))
            begin = end
    whole = pa.concat_tables(found) if found else schema.empty_table()
    return whole.take(np.argsort(order))

"""Many runs as one table: nothing is lost on the way, and conditions mean the same there."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import pytest

from results.library import export_folder, fastest_rows, query, run_paths
from results.record import METHOD_VERSION
from results.store import read
from results.tidy import COLUMNS, tidy_rows
from results.where import condition_of
from tests.results.conftest import OLMOE, WriteRun, ceilings, failed, measurement, run_header, several
from workloads.case import UserError

T64 = OLMOE.replace("t16", "t64")


@pytest.fixture
def folder(tmp_path: Path, write_run: WriteRun) -> Path:
    """Three runs, one of them compressed, and a file that is none."""
    warned = measurement(900_000, target="ort:cpu", warnings=["noisy", "contended"])
    write_run(*ceilings(), measurement(), warned, name="a")
    write_run(several(2_000_000, case=T64), failed(target="ort:cpu"), name="b")
    write_run(measurement(800_000, division="open"), measurement(950_000, implementation="grouped"), name="c")
    plain = tmp_path / "c.jsonl"
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "c.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.write_text("hello\n")
    return tmp_path


@pytest.fixture
def table(folder: Path) -> Path:
    export_folder(folder, folder / "all.parquet")
    return folder / "all.parquet"


def test_a_folder_becomes_one_table_and_what_is_no_run_is_named(folder: Path) -> None:
    found = export_folder(folder, folder / "all.parquet")
    assert (found.runs, found.measurements) == (3, 6)
    assert len(found.refused) == 1 and found.refused[0].startswith("c.jsonl is not a moemark run file")
    assert not list(folder.glob("*.part"))


def test_a_row_is_the_tidy_row(folder: Path, table: Path) -> None:
    paths = [path for path in run_paths(folder) if path.name != "c.jsonl"]
    wanted = [row for path in paths for row in tidy_rows(read(path))]
    found = query(table, condition_of([], COLUMNS))
    assert [_comparable(row) for row in found] == [_comparable(row) for row in wanted]


def _comparable(row: dict[str, object]) -> dict[str, object]:
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}


CONDITIONS = [
    "tokens<=16",
    "tokens != 16",
    'target=="ort:cpu" or tokens==64',
    'not (target=="ort:cpu")',
    'target=="t*u"',
    'target!="torch*"',
    '"noisy" in warnings',
    '"noisy" not in warnings',
    '"no*" in warnings',
    '"*ois*" not in warnings',
    '"no*ed" in warnings',
    '"*" in warnings',
    '"" in warnings',
    '"torch" in target',
    "warnings",
    'target in ("ort:cpu", "null:a")',
    "tokens not in (64, 1)",
    "estimate_ns < 950000",
    "900000 <= estimate_ns < 1e6",
    "estimate_ns == None",
    "roofline_ratio != None",
    "reason == None",
    "sync_per_call",
    "not sync_per_call",
    "low_ns < high_ns",
    'run=="a" and estimate_ns > -1',
]


@pytest.mark.parametrize("text", CONDITIONS)
def test_a_condition_means_the_same_of_rows_and_of_a_table(table: Path, text: str) -> None:
    condition = condition_of([text], COLUMNS)
    every = query(table, condition_of([], COLUMNS))
    assert query(table, condition) == [row for row in every if condition.holds(row)]


@pytest.mark.parametrize("text", ["target < 3", "tokens == 'x'", "3 in tokens", "tokens in 'abc'"])
def test_what_has_no_meaning_is_a_mistake_in_a_table_too(table: Path, text: str) -> None:
    with pytest.raises(UserError):
        query(table, condition_of([text], COLUMNS))


def test_the_best_are_the_fastest_exact_ones(table: Path) -> None:
    every = query(table, condition_of([], COLUMNS))
    best = query(table, condition_of([], COLUMNS), best=True)
    assert sorted((row["case"], row["estimate_ns"]) for row in best) == [
        (OLMOE, 900_000.0),
        (T64, best[-1]["estimate_ns"]),
    ]
    key = lambda row: (row["case"], row["device"])  # noqa: E731
    assert sorted(best, key=key) == sorted(fastest_rows(every), key=key)


def test_what_is_other_work_under_the_same_name_is_ranked_apart(write_run: WriteRun, tmp_path: Path) -> None:
    """The first alone is beaten: the others are of another version of the workload, and of another method."""
    write_run(measurement(), name="a")
    write_run(measurement(900_000), name="b")
    write_run(measurement(800_000, case_digest="e" * 64), name="c")
    write_run(measurement(700_000), name="d", header=run_header(method_version=METHOD_VERSION + 1))
    export_folder(tmp_path, tmp_path / "all.parquet")
    found = query(tmp_path / "all.parquet", condition_of([], COLUMNS), best=True)
    assert sorted(row["run"] for row in found) == ["b", "c", "d"]
    every = query(tmp_path / "all.parquet", condition_of([], COLUMNS))
    assert sorted(row["run"] for row in fastest_rows(every)) == ["b", "c", "d"]


def test_what_is_no_table_is_refused(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"case": ["x"]}), folder / "other.parquet")
    for name in ("other.parquet", "a.jsonl", "nothing.parquet"):
        with pytest.raises(UserError):
            query(folder / name, condition_of([], COLUMNS))


def test_a_folder_without_runs_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no \.jsonl in it"):
        export_folder(tmp_path, tmp_path / "all.parquet")
    assert not list(tmp_path.iterdir())

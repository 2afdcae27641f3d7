import io
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from results.exporting import export
from results.store import RunFile
from results.tidy import tidy_rows
from tests.results.conftest import WriteRun, ceilings, failed, measurement
from workloads.case import UserError


def table_of(run_file: RunFile) -> pa.Table:
    return pq.read_table(io.BytesIO(export(run_file, "parquet")))


def test_it_holds_the_tidy_rows_exactly(write_run: WriteRun) -> None:
    run_file = write_run(*ceilings(), measurement(warnings=["noisy"]), failed(target="ort:cpu"))
    assert table_of(run_file).to_pylist() == tidy_rows(run_file)


def test_a_column_has_one_type_whatever_a_run_holds(write_run: WriteRun) -> None:
    whole = table_of(write_run(*ceilings(), measurement(weights_cold=True, memory_bytes=1 << 40)))
    empty = table_of(write_run(failed(), name="failed"))
    assert whole.schema == empty.schema
    assert pa.concat_tables([whole, empty]).num_rows == 2


def test_without_pyarrow_the_error_says_what_to_install(write_run: WriteRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pip install 'moemark\[parquet\]'"):
        export(write_run(measurement()), "parquet")

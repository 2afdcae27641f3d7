"""Hostile records end in a result or in our one-line error. `make fuzz` is the long form."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from markupsafe import Markup

from benchmarks.fuzz import Fuzzer, consume, seeds
from benchmarks.stored import forged

INPUTS = 400


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_no_record_crashes_its_reader(tmp_path: Path) -> None:
    fuzzer, path = Fuzzer(random.Random(7)), tmp_path / "run.jsonl"
    ends = set()
    for number in range(INPUTS):
        path.write_bytes(fuzzer.file())
        ends.add(consume(path, thorough=number % 8 == 0))
    assert ends == {"read", "read in part", "refused"}


def test_what_is_not_changed_is_read(tmp_path: Path) -> None:
    for lines in seeds():
        (tmp_path / "run.jsonl").write_bytes(forged(lines))
        assert consume(tmp_path / "run.jsonl", thorough=True) == "read"


def no_comparison(*_: object) -> bool:
    raise TypeError("a text is no number")


@pytest.mark.parametrize(
    ("where", "fault", "said"),
    [
        ("results.where._equal", no_comparison, "a text is no number"),
        ("results.exporting.csv_table._harmless", lambda text: text, "the CSV holds the formula '="),
        ("results.report.site.case_text", lambda case: Markup("<script></script>"), "the site holds cases/"),
    ],
    ids=["--where", "CSV", "site"],
)
def test_what_is_wrong_with_a_reader_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, fault: Callable[..., object], said: str
) -> None:
    lines = seeds()[0]
    for line in lines:
        line |= {"implementation": "=" + line["implementation"]} if "implementation" in line else {}
    (tmp_path / "run.jsonl").write_bytes(forged(lines))
    assert consume(tmp_path / "run.jsonl", thorough=True) == "read"
    monkeypatch.setattr(where, fault)
    with pytest.raises((TypeError, ValueError), match=said):
        consume(tmp_path / "run.jsonl", thorough=True)

"""Edited records are found out; records as they were written are not."""

from __future__ import annotations

import pytest

from benchmarks.stored import RECORDS
from results.store import read
from results.verify import verify, verify_file
from tests.results.records import NAMES
from tests.results.tamper_table import TAMPERINGS, Tampering, found_by


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_found_in_a_record_that_nobody_edited(name: str) -> None:
    found = verify_file(RECORDS / f"{name}.jsonl.gz", all_inputs=True)
    assert found.findings == ()
    assert found.measurements > 0
    assert verify(read(RECORDS / f"{name}.jsonl.gz")) == []


@pytest.mark.parametrize("one", TAMPERINGS, ids=lambda one: f"{one.kind}: {one.name}")
def test_tampering_is_found_or_it_is_said_why_not(one: Tampering) -> None:
    rules = found_by(one)
    if one.rule is None:
        assert not rules and one.unseen
    else:
        assert one.rule in rules


def test_enough_kinds_are_tried() -> None:
    assert len(TAMPERINGS) >= 40
    assert len({one.kind for one in TAMPERINGS}) >= 10

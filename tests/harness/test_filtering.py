"""`--where` on records: what no value could answer is refused, though no row comes to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.filtering import chosen, chosen_pairs
from results.compare import compare
from results.store import read
from workloads.case import UserError

RECORD = Path(__file__).parents[1] / "results" / "records" / "one.jsonl.gz"


def test_a_condition_is_refused_where_its_cheap_part_leaves_no_row() -> None:
    with pytest.raises(UserError, match="estimate_ns holds numbers"):
        chosen(read(RECORD), ['tokens<=0 and estimate_ns<"x"'])


def test_a_condition_on_pairs_is_refused_likewise() -> None:
    found = compare(read(RECORD), read(RECORD))
    assert chosen_pairs(found, ["tokens<=0"], None) == []
    with pytest.raises(UserError, match="ratio holds numbers"):
        chosen_pairs(found, ['tokens<=0 and ratio<"x"'], None)

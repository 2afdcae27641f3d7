"""What two looks say together."""

from __future__ import annotations

import pytest

from results.duels import CaseDecision, confirmed
from results.statistics import Ratio

SLOWER = CaseDecision("case", ("sorted", "sorted"), "slower", Ratio(1.03, 1.02, 1.04))


@pytest.mark.parametrize(
    ("second", "word", "reason"),
    [
        (SLOWER, "slower", None),
        (CaseDecision("case", SLOWER.implementations, "same"), "unsure", "a second look says same"),
        (CaseDecision("case", SLOWER.implementations, "not comparable", reason="A crashed"), "unsure", "A crashed"),
        (CaseDecision("case", SLOWER.implementations, "failed", reason="B crashed"), "failed", "B crashed"),
    ],
)
def test_only_what_both_looks_say_is_said_but_a_failure_counts_at_once(
    second: CaseDecision, word: str, reason: str | None
) -> None:
    found = confirmed(SLOWER, second)
    assert (found.verdict, found.reason) == (word, reason)

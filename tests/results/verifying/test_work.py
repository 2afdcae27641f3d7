"""How rules about what was worked on go through a record."""

from __future__ import annotations

from typing import Any

import pytest

from results.verifying import work
from results.verifying.subject import Subject
from tests.results.conftest import OLMOE, WriteRun, measurement
from workloads import registry


def test_the_installed_packages_are_not_looked_through_for_every_line(
    write_run: WriteRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [measurement(case=OLMOE.replace("t16", f"t{tokens}")) for tokens in range(1, 31)]
    subject, looks, look = Subject(write_run(*lines)), [], registry.entry_points

    def counted(**group: Any) -> Any:
        looks.append(group)
        return look(**group)

    monkeypatch.setattr(registry, "entry_points", counted)
    assert len(list(work.case_digests(subject))) == len(lines)
    assert len(looks) < 5

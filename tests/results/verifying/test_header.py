"""What rules about the run as a whole find, in records made for them."""

from __future__ import annotations

import pytest

from results.verifying import header
from results.verifying.subject import Subject
from tests.results.conftest import WriteRun, run_header


class Counted(str):
    """A case id that counts how often it is looked up."""

    count = 0

    def __hash__(self) -> int:
        Counted.count += 1
        return super().__hash__()


def test_the_cases_of_a_suite_are_gone_through_once_not_once_for_each_that_is_planned(
    write_run: WriteRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [f"case {number}" for number in range(100)]
    run = write_run(header=run_header(["torch:cpu"], plan=[(case, "torch:cpu") for case in cases]))
    suite = (run.run.selection_digest, list(map(Counted, cases)))
    monkeypatch.setattr(header, "_selection", lambda word, subject: suite)
    assert list(header.suite(Subject(run))) == []
    assert Counted.count < 5 * len(cases)


@pytest.mark.parametrize("changes", [{"selection": ["quick"] * 101}, {"targets": [f"torch:{n}" for n in range(101)]}])
def test_a_header_of_more_suites_or_targets_than_any_run_is_not_gone_through(
    write_run: WriteRun, changes: dict[str, list[str]]
) -> None:
    subject = Subject(write_run(header=run_header(**changes)))
    assert list(header.suite(subject)) == []
    assert len(subject.unchecked) == 1

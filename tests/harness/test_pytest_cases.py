"""What one process cannot hold is refused before pytest collects anything."""

from __future__ import annotations

import pytest

from harness.plan import parse_targets
from harness.pytest_cases import _refuse_other_processes
from workloads.case import UserError


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (["torch:cpu@.venv-other"], "pytest measures in its own process: start it by that interpreter"),
        (["torch:cpu", "torch:cuda", "torch:npu:1"], "a pytest run each for cuda and npu"),
    ],
)
def test_targets_that_one_process_cannot_hold_are_refused(targets: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        _refuse_other_processes(parse_targets(targets))


@pytest.mark.parametrize(
    "targets", [["torch:cpu", "torch:cuda:0", "torch:cuda:1"], ["torch:npu", "ort:cuda", "ort:cpu"]]
)
def test_devices_of_one_accelerator_and_other_runtimes_are_not(targets: list[str]) -> None:
    _refuse_other_processes(parse_targets(targets))

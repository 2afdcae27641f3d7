"""What several processes found becomes one measurement."""

import pytest

from results import record
from results.parts import joined, part_of
from tests.results.conftest import failed, measurement

NOISE = record.Noise(wall_ns=1)


def part(process: int, call_ns: int = 1_000_000, **changes: object) -> record.Part:
    """16 samples in 4 shares, beside as many of a canary of 0.1 ms."""
    turn = record.Turn(process=process, samples=16, noise=NOISE, canary=16, shares=4)
    beside = {"canary": "hot planted", "canary_ns": [100_000] * 16, "canary_calls": 2, "turns": [turn]}
    found = measurement(samples_ns=[call_ns] * 16, slots=list(range(16)), **(beside | changes))
    return part_of(found, process)


def test_samples_stand_one_process_after_the_other_whatever_the_order_of_the_parts() -> None:
    found = joined([part(2, 3000), part(0, 1000), part(1, 2000)], 3, 0.01)
    assert found.samples_ns == [1000] * 16 + [2000] * 16 + [3000] * 16
    assert found.slots == list(range(16)) * 3
    assert [turn.process for turn in found.turns] == [0, 1, 2]
    assert (found.processes, found.status, len(found.canary_ns), found.canary_calls) == (3, "ok", 48, 2)


def test_the_worst_of_all_checks_counts() -> None:
    checks = [record.Check(passed=True, before=True, after=True, tokens=10, error=error) for error in (0.1, 0.3, None)]
    found = joined([part(number, check=check) for number, check in enumerate(checks)], 3, 0.01).check
    assert found is not None
    assert (found.passed, found.error, found.tokens) == (True, 0.3, 30)


def test_a_part_that_failed_makes_the_whole_fail_and_says_which() -> None:
    struck = part_of(failed("crashed", "killed by SIGSEGV"), 1)
    found = joined([part(0), struck], 5, 0.01)
    assert (found.status, found.reason, found.samples_ns) == (
        "crashed",
        "process 2 of 5: killed by SIGSEGV",
        [],
    )


def test_what_is_unsupported_from_the_first_on_is_said_as_one_process_says_it() -> None:
    found = joined([part_of(failed("unsupported", "fp16 is upcast"), 0)], 5, 0.01)
    assert (found.status, found.reason) == ("unsupported", "fp16 is upcast")


def test_noisy_is_the_whole_not_its_parts() -> None:
    calm = [part(number, 1000, warnings=["noisy", "drift"]) for number in range(5)]
    assert joined(calm, 5, 0.01).warnings == ["drift"]
    apart = [part(number, 1000 + 100 * number) for number in range(5)]
    assert joined(apart, 5, 0.01).warnings == ["noisy"]


def test_parts_beside_different_canaries_do_not_make_one_measurement() -> None:
    found = joined([part(0), part(1, canary="hot planted, another")], 2, 0.01)
    assert (found.status, found.reason) == ("error", "its processes differ in canary: measure again")


def test_no_parts_make_nothing() -> None:
    with pytest.raises(ValueError, match="no parts"):
        joined([], 5, 0.01)


def test_turns_must_account_for_every_sample_and_its_shares_be_equal() -> None:
    with pytest.raises(ValueError, match="account for every sample"):
        measurement(turns=[record.Turn(process=0, samples=47, noise=NOISE)])
    with pytest.raises(ValueError, match="of the canary"):
        measurement(canary_ns=[1])
    with pytest.raises(ValueError, match="shares of a turn must be equal"):
        measurement(turns=[record.Turn(process=0, samples=48, noise=NOISE, shares=5)])

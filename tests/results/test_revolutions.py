"""Where one run has single calls as samples and the other whole revolutions, both are compared in revolutions."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from results import record
from results.compare import compare
from results.matching import matched
from results.revolutions import alike, in_revolutions
from results.timed import timed_of
from results.two_runs import sides_from
from tests.results.conftest import WriteRun, measurement, run_header, several

TAIL = 3.0


def tailed(seed: int, **changes: Any) -> record.Measurement:
    """Five processes of eight revolutions of 1 ms; one call in eight takes three times as long: a quarter more on average."""
    draw = np.random.default_rng(seed)
    calls = np.rint(1e6 * np.where(draw.random((5, 128)) < 1 / 8, TAIL, 1.0) * draw.normal(1, 0.003, (5, 128)))
    canary = np.rint(1e5 * draw.normal(1, 0.003, (5, 128)))
    turns = [
        record.Turn(process=n, samples=128, noise=record.Noise(wall_ns=1), canary=128, shares=16) for n in range(5)
    ]
    fields: dict[str, Any] = {
        "samples_ns": calls.astype(int).ravel().tolist(),
        "canary_ns": canary.astype(int).ravel().tolist(),
        "slots": list(range(16)) * 40,
        "turns": turns,
    }
    return several(**(fields | changes))


@given(st.sampled_from([1, 2, 4, 8, 16, 32, 64]), st.integers(1, 3), st.booleans())
def test_revolutions_are_sums_of_calls_in_shares_of_at_least_one(share: int, revolutions: int, canary: bool) -> None:
    count = max(share, 16) * 4 * revolutions  # shares enough for a centre
    turn = record.Turn(
        process=0, samples=count, noise=record.Noise(wall_ns=1), canary=count * canary, shares=count // share
    )
    line = several(
        samples_ns=list(range(2 * count)),
        slots=list(range(16)) * (2 * count // 16),
        canary_ns=list(range(2 * count)) if canary else [],
        canary_calls=3,
        processes=2,
        turns=[turn, msgspec.structs.replace(turn, process=1)],
    )
    found = in_revolutions(line)
    sums = [sum(range(at, at + 16)) for at in range(0, 2 * count, 16)]
    assert (found.samples_ns, found.slots, found.calls_per_sample) == (sums, None, 16)
    assert found.canary_ns == (sums if canary else [])
    assert found.canary_calls == 48
    assert [(one.samples, one.shares) for one in found.turns] == [(count // 16, count // max(share, 16))] * 2


def test_what_cannot_be_made_revolutions_of_stays_as_it_is() -> None:
    """One process; windows; turns of 7.5 revolutions; shares of three quarters of one; half as many of the canary."""
    for line in (
        measurement(),
        several(slots=None, calls_per_sample=16),
        _shared(120, 120, 120),
        _shared(144, 12, 144),
        _shared(128, 32, 64),
    ):
        assert in_revolutions(line) is line


@pytest.mark.parametrize(
    ("revolutions", "share", "changed"), [(4, 1, True), (3, 1, False), (2, 4, False), (64, 512, False)]
)
def test_too_few_shares_for_a_centre_stay_single_calls(revolutions: int, share: int, changed: bool) -> None:
    line = _shared(16 * revolutions, 16 * revolutions // share, 16 * revolutions)
    assert (in_revolutions(line) is not line) == changed


def test_a_much_slower_build_keeps_its_canary_though_its_samples_are_of_another_kind(write_run: WriteRun) -> None:
    """0.1 ms in windows against 15 ms in two revolutions a process, a share for each call."""
    slow = {"turns": [msgspec.structs.replace(one, shares=32) for one in several().turns]}
    base, new = in_revolutions(tailed(1)), several(15_000_000, **slow)
    (pair,) = compare(write_run(base), write_run(new, name="new")).pairs
    assert (pair.verdict, pair.reason) == ("slower", None)


def test_durations_of_several_ranks_stay_single_calls() -> None:
    line = _shared(64, 64, 64)
    alone = record.Ranks(count=1, backend="gloo", hosts=1, shared_cpu=True, threads=[1], rows=[1], assignments=[1])
    ranked = msgspec.structs.replace(line, ranks=alone)
    assert in_revolutions(ranked) is ranked


def test_times_that_add_up_to_more_than_a_record_holds_stay_single_calls() -> None:
    line = _shared(64, 64, 64)
    vast = msgspec.structs.replace(line, samples_ns=[1 << 60] * 128)
    assert in_revolutions(line) is not line
    assert in_revolutions(vast) is vast


def _shared(samples: int, shares: int, canary: int) -> record.Measurement:
    """Two turns of so many samples in so many shares."""
    turn = record.Turn(process=0, samples=samples, noise=record.Noise(wall_ns=1), canary=canary, shares=shares)
    return several(
        samples_ns=[10**6] * 2 * samples,
        slots=[number % 16 for number in range(2 * samples)],
        turns=[turn, msgspec.structs.replace(turn, process=1)],
        canary_ns=[10**5] * 2 * canary,
        processes=2,
    )


def test_samples_of_one_kind_stay_as_they_are() -> None:
    one, other = several(), several(1_100_000)
    assert alike(one, other) == (one, other)
    windows = in_revolutions(one), in_revolutions(other)
    assert alike(*windows) == windows


@pytest.mark.parametrize("swapped", [False, True])
def test_equal_code_is_not_called_slower_because_its_samples_are_of_another_kind(
    write_run: WriteRun, swapped: bool
) -> None:
    """By their medians, single calls with this tail take a fifth less than the revolutions of the same code."""
    sides = [tailed(1), in_revolutions(tailed(2))]
    base, new = (write_run(line, name=f"run{n}") for n, line in enumerate(reversed(sides) if swapped else sides))
    (pair,) = compare(base, new).pairs
    assert pair.ratio is not None
    assert pair.verdict in ("same", "unsure")
    assert abs(pair.ratio.value - 1) < 0.04


def test_a_record_that_was_read_for_its_times_alone_is_treated_alike() -> None:
    line = tailed(3)
    there = in_revolutions(timed_of(line))
    here = in_revolutions(line)
    assert list(there.samples_ns) == here.samples_ns
    assert [case.tolist() for case in sides_from([there])[0].case] == [  # type: ignore[union-attr]
        case.tolist()
        for case in sides_from([here])[0].case  # type: ignore[union-attr]
    ]


def test_other_formats_of_a_case_are_compared_in_revolutions_too(write_run: WriteRun) -> None:
    half = "moe-layer/olmoe-1b-7b/ep1/t16/bf16/zipf1.0/latency"
    base = write_run(tailed(4), name="base")
    new = write_run(in_revolutions(tailed(5, case=half)), name="new", header=run_header())
    (match,) = matched(base, new, across_formats=True)
    assert match.base is not None
    assert match.base[0].calls_per_sample == 16

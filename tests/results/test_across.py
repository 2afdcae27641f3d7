"""Figures of measurements by several ranks."""

from __future__ import annotations

from typing import Any

import pytest

from results.metrics import algbw_gb_per_s, busbw_gb_per_s
from results.record import Exchange, Ranks


def ranks(**changes: Any) -> Ranks:
    known: dict[str, Any] = {"count": 4, "backend": "nccl", "hosts": 1, "shared_cpu": False}
    lists = {name: [1, 2, 3, 4] for name in ("threads", "rows", "assignments")}
    return Ranks(**known | lists | changes)


def test_bandwidths_are_those_of_nccl_tests() -> None:
    # all_to_all_perf, 4 ranks, 1 GiB of each in 10 ms: algbw 107.37, busbw 80.53 (size / time, times 3 / 4).
    one = ranks(exchanges=[Exchange(kind="all-to-all", size_bytes=1 << 30)])
    assert algbw_gb_per_s(one, 10e6) == pytest.approx(107.374, rel=1e-5)
    assert busbw_gb_per_s(one, 10e6) == pytest.approx(80.531, rel=1e-5)


def test_a_call_of_several_collectives_has_the_sum_of_their_sizes() -> None:
    two = ranks(
        exchanges=[Exchange(kind="all-gather", size_bytes=300), Exchange(kind="reduce-scatter", size_bytes=100)]
    )
    assert algbw_gb_per_s(two, 100.0) == 4.0
    assert busbw_gb_per_s(two, 100.0) == 3.0


def test_without_a_collective_there_is_no_bandwidth() -> None:
    assert algbw_gb_per_s(ranks(), 100.0) is None
    assert busbw_gb_per_s(ranks(), 100.0) is None


@pytest.mark.parametrize("name", ["threads", "rows", "assignments", "samples_ns", "cpu_ns"])
def test_every_rank_has_its_entry(name: str) -> None:
    with pytest.raises(ValueError, match="as many entries as ranks"):
        ranks(**{name: [[1], [2]] if name == "samples_ns" else [1, 2]})

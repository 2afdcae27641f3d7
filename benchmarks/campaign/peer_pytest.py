"""What a user of pytest-benchmark writes."""

from __future__ import annotations

from typing import Any

from benchmarks.campaign.peer_case import prepared_call


def test_case(benchmark: Any) -> None:
    benchmark(prepared_call())

"""What the ranks of a group found, as one: noise, check, digest and who took part."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from results.record import Check, Exchange, Noise, Ranks
from workloads.problem import Seat

__all__ = ["check_of", "digest_of", "noise_of", "taken_part"]


def noise_of(told: Sequence[Noise], hosts: Sequence[str]) -> Noise:
    """Of all ranks: our own CPU time is all ranks', so that one rank is not foreign load to another; the worst host counts."""
    by_host = [
        [noise for noise, other in zip(told, hosts, strict=True) if other == host] for host in dict.fromkeys(hosts)
    ]
    merged = [_of_host(some) for some in by_host]
    return max(merged, key=lambda noise: noise.foreign_cpu_ns or 0)


def _of_host(told: Sequence[Noise]) -> Noise:
    first = told[0]
    own = _sum([noise.own_cpu_ns for noise in told])
    foreign = None
    if first.foreign_cpu_ns is not None and first.own_cpu_ns is not None and own is not None:
        foreign = max(0, first.foreign_cpu_ns + first.own_cpu_ns - own)
    return msgspec.structs.replace(
        first,
        own_cpu_ns=own,
        foreign_cpu_ns=foreign,
        run_queue_delay_ns=_sum([noise.run_queue_delay_ns for noise in told]),
        involuntary_switches=_sum([noise.involuntary_switches for noise in told]),
        minor_page_faults=_sum([noise.minor_page_faults for noise in told]),
    )


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def check_of(told: Sequence[Check]) -> Check:
    """The worst of all ranks' errors, and all their lines."""

    def worst(name: str) -> float | None:
        return max((value for one in told if (value := getattr(one, name)) is not None), default=None)

    return msgspec.structs.replace(
        told[0],
        passed=all(one.passed for one in told),
        tokens=sum(one.tokens for one in told),
        error=worst("error"),
        gain=worst("gain"),
        gain_mean=worst("gain_mean"),
    )


def digest_of(told: Sequence[str]) -> str:
    """One digest (hex) of all ranks' input digests, in their order."""
    return hashlib.sha256("".join(told).encode()).hexdigest()


def taken_part(
    seat: Seat, backend: str, hosts: Sequence[str], threads: Sequence[int], device_type: str, exchanges: Sequence[Any]
) -> Ranks:
    """The record of the ranks, without samples."""
    count = len(set(hosts))
    return Ranks(
        count=seat.ranks,
        backend=backend,
        hosts=count,
        shared_cpu=device_type == "cpu" and count < len(hosts),
        threads=list(threads),
        rows=list(seat.rows),
        assignments=list(seat.assignments),
        exchanges=[Exchange(kind=one.kind, size_bytes=one.size_bytes) for one in exchanges],
    )

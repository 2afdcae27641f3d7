"""What ranks find, merged: one rank's work is no foreign load to another, the worst error counts."""

from __future__ import annotations

from harness.across import check_of, digest_of, noise_of
from harness.agents import World
from results.record import Check, Noise


def noise(own: int, foreign: int) -> Noise:
    return Noise(wall_ns=100, own_cpu_ns=own, foreign_cpu_ns=foreign, involuntary_switches=1)


def test_the_other_ranks_of_a_host_are_not_foreign() -> None:
    # 90 busy: each rank sees its own 40 and 50 of others, of which 40 are the other rank's.
    merged = noise_of([noise(40, 50), noise(40, 50)], ["a", "a"])
    assert (merged.own_cpu_ns, merged.foreign_cpu_ns, merged.involuntary_switches) == (80, 10, 2)


def test_of_several_hosts_the_one_with_the_most_foreign_load_counts() -> None:
    merged = noise_of([noise(40, 5), noise(40, 30)], ["a", "b"])
    assert (merged.own_cpu_ns, merged.foreign_cpu_ns) == (40, 30)


def test_the_worst_rank_is_what_a_check_tells() -> None:
    one = Check(passed=True, before=True, after=True, tokens=8, error=0.1, gain=0.3)
    other = Check(passed=True, before=True, after=True, tokens=8, error=0.2, gain=0.1)
    merged = check_of([one, other])
    assert (merged.passed, merged.tokens, merged.error, merged.gain, merged.gain_mean) == (True, 16, 0.2, 0.3, None)
    assert not check_of([one, Check(passed=False, before=True)]).passed


def test_the_order_of_ranks_is_part_of_the_digest() -> None:
    assert digest_of(["a", "b"]) == digest_of(["a", "b"]) != digest_of(["b", "a"])


def test_torchrun_is_known_by_its_variables() -> None:
    told = {"TORCHELASTIC_RUN_ID": "x", "RANK": "3", "WORLD_SIZE": "8"}
    assert World.of(told) == World(3, 8)
    assert World.of({"RANK": "3", "WORLD_SIZE": "8"}) is None
    assert World.of(told | {"MOEMARK_LINE": "127.0.0.1:1"}) is None

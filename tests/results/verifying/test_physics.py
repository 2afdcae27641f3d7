"""What rules about speed find, in records made for them."""

from __future__ import annotations

import random
from typing import Any

import pytest

from results.record import Cost, Measurement
from results.verifying import physics
from results.verifying.subject import Subject
from tests.results.conftest import OLMOE, WriteRun, measurement, run_header


def test_a_datasheet_holds_for_every_target_of_its_device(write_run: WriteRun) -> None:
    """32 MFLOP in a microsecond are 32 TFLOP/s, in fp32 an A100 does 19.5."""
    here = {"device_id": "cuda:0", "unit": "device"}
    facts = {"torch:cuda": here | {"name": "NVIDIA A100-SXM4-80GB"}, "ort:cuda": here | {"name": "cuda"}}
    lines = [measurement(1000, target="ort:cuda"), measurement(2000, target="ort:cuda", implementation="other")]
    run = write_run(*lines, header=run_header(list(facts), environment={"targets": facts}))
    (found,) = physics.datasheet(Subject(run))
    assert found.line == 2 and found.evidence.startswith("32 TFLOP/s on a NVIDIA A100")


def sized(tokens: int, call_ns: int, flops: int, bytes_: int, **changes: Any) -> Measurement:
    cost = {"flops": flops, "bytes": bytes_, "weight_bytes": 0, "tokens": tokens, "rows": 0, "assignments": 0}
    return measurement(call_ns, case=OLMOE.replace("t16", f"t{tokens}"), cost=Cost(**cost), **changes)


def test_what_takes_less_than_half_the_time_of_less_work_is_found_once(write_run: WriteRun) -> None:
    lines = sized(1, 9000, 10, 10), sized(2, 4000, 20, 20), sized(4, 1000, 40, 40), sized(8, 9000, 80, 80)
    found = list(physics.monotone(Subject(write_run(*lines))))
    assert [one.line for one in found] == [3, 4]
    assert [one.evidence for one in found] == [
        "2 tokens took 4000 ns, and 1 in line 2 took 9000",
        "4 tokens took 1000 ns, and 1 in line 2 took 9000",
    ]


@pytest.mark.parametrize(("flops", "bytes_", "warnings"), [(10, 10, []), (20, 9, []), (20, 10, ["contended"])], ids=str)
def test_what_is_no_more_work_or_beside_a_neighbour_is_not_compared(
    write_run: WriteRun, flops: int, bytes_: int, warnings: list[str]
) -> None:
    run = write_run(sized(1, 9000, 10, 10, warnings=warnings), sized(2, 1000, flops, bytes_))
    assert list(physics.monotone(Subject(run))) == []


@pytest.mark.parametrize("seed", range(5))
def test_none_is_missed_of_those_that_a_search_of_all_pairs_finds(write_run: WriteRun, seed: int) -> None:
    draw = random.Random(seed)
    sizes = [[draw.randrange(1, most) for most in (9000, 30, 30)] for _ in range(80)]
    subject = Subject(write_run(*(sized(tokens, *size) for tokens, size in enumerate(sizes, 1))))
    work, times = dict(enumerate((size[1:] for size in sizes), 2)), subject.estimates

    def beaten(small: int, large: int) -> bool:
        more = work[large][0] > work[small][0] and work[large][1] >= work[small][1]
        return more and 2 * times[large].high_ns < times[small].low_ns

    wanted = {large for large in work if any(beaten(small, large) for small in work)}
    assert {one.line for one in physics.monotone(subject)} == wanted != set()

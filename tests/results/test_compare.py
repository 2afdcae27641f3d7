import math

import numpy as np
import pytest

from results import record
from results.compare import (
    CONTENDED,
    NO_CANARY,
    ONE_PROCESS,
    Comparison,
    Margins,
    Pair,
    compare,
    comparison_rows,
    fastest,
    pairs_of,
    targets_side_by_side,
)
from results.pairs import holm
from tests.results.conftest import OLMOE, WriteRun, failed, measurement, run_header, several
from workloads.case import UserError

OTHER = "moe-layer/olmoe-1b-7b/ep1/t1/fp32/balanced/latency"


def timed(call_ns: int, **changes: object) -> record.Measurement:
    """One process, with 1 % noise, whose estimate is about `call_ns`."""
    noise = np.random.default_rng(call_ns).normal(1, 0.01, 480)
    samples = np.rint(call_ns * noise).astype(int).tolist()
    return measurement(samples_ns=samples, slots=list(range(16)) * 30, **changes)


def only(comparison: Comparison) -> Pair:
    (pair,) = comparison.pairs
    return pair


@pytest.mark.parametrize("machine", [1.0, 1.1])
@pytest.mark.parametrize(("new_ns", "word"), [(1_050_000, "slower"), (950_000, "faster"), (1_001_000, "same")])
def test_runs_of_many_processes_get_a_verdict_whatever_the_machine_did_to_both(
    write_run: WriteRun, new_ns: int, word: str, machine: float
) -> None:
    found = compare(write_run(several()), write_run(several(new_ns, machine), name="new"))
    assert only(found).verdict == found.mean_verdict == word
    assert found.mean.value == pytest.approx(new_ns / 1_000_000, abs=0.006)
    assert only(found).canary_ratio == pytest.approx(machine, rel=0.1)


@pytest.mark.parametrize("changes", [{"canary": "another"}, {"canary": None, "canary_ns": [], "turns": "bare"}])
def test_without_a_common_canary_the_interval_holds_what_runs_differ_by(
    write_run: WriteRun, changes: dict[str, object]
) -> None:
    if changes.get("turns") == "bare":
        noise = record.Noise(wall_ns=1)
        changes = changes | {"turns": [record.Turn(process=n, samples=32, noise=noise) for n in range(5)]}
    runs = write_run(several()), write_run(several(1_030_000, **changes), name="new")
    pair = only(compare(*runs))
    assert (pair.verdict, pair.reason) == ("unsure", NO_CANARY)
    assert pair.ratio and pair.ratio.high / pair.ratio.low > 1.09


def test_what_a_machine_became_between_runs_does_not_average_out_over_cases(write_run: WriteRun) -> None:
    cases = [OTHER.replace("/t1/", f"/t{tokens}/") for tokens in range(1, 31)]
    base, new = (
        write_run(*(several(call_ns, seed=n, case=case, canary=name) for n, case in enumerate(cases)), name=name)
        for name, call_ns in (("base", 1_000_000), ("new", 1_025_000))
    )
    found = compare(base, new)
    assert NO_CANARY in {pair.reason for pair in found.pairs}
    assert found.mean_verdict == "unsure"
    assert found.mean.low < 1 < 1.07 < found.mean.high


def test_a_machine_that_became_another_leaves_no_verdict(write_run: WriteRun) -> None:
    runs = write_run(several()), write_run(several(1_050_000, 1.4), name="new")
    pair = only(compare(*runs))
    assert (pair.verdict, pair.p) == ("unsure", None)
    assert str(pair.reason).startswith("the canary took 14")


def test_a_machine_that_became_another_leaves_no_verdict_of_the_mean_either(write_run: WriteRun) -> None:
    base = write_run(several(), several(2_000_000, case=OTHER))
    new = write_run(several(2_000_000, 1.4), several(4_000_000, 1.4, case=OTHER), name="new")
    found = compare(base, new)
    assert found.mean.low > 1.5
    assert [pair.verdict for pair in found.pairs] == ["unsure", "unsure"]
    assert found.mean_verdict == "unsure"


def test_contention_that_no_common_canary_saw_is_not_compared(write_run: WriteRun) -> None:
    base = write_run(several(warnings=["contended"]), several(case=OTHER))
    new = write_run(several(canary="another"), several(case=OTHER), name="new")
    found = compare(base, new)
    assert (found.pairs[0].ratio, found.pairs[0].reason) == (None, CONTENDED)
    assert found.pairs[1].ratio is not None


def test_contention_that_the_canary_saw_is_in_the_interval(write_run: WriteRun) -> None:
    runs = write_run(several(warnings=["contended"])), write_run(several(1_050_000), name="new")
    assert only(compare(*runs)).verdict == "slower"


@pytest.mark.filterwarnings("error")
def test_processes_that_say_nothing_of_their_spread_decide_nothing(write_run: WriteRun) -> None:
    once = [measurement(samples_ns=[ns] * 16, slots=list(range(16)), processes=2) for ns in (1_000_000, 2_000_000)]
    (pair,) = compare(write_run(once[0]), write_run(once[1], name="new")).pairs
    assert pair.ratio and (pair.verdict, pair.ratio.low, pair.ratio.high) == ("unsure", 0.0, math.inf)


def test_over_many_cases_a_verdict_must_survive_the_correction(write_run: WriteRun) -> None:
    """One case of 40 that is just above the threshold: alone it is slower, among 39 equal ones Holm does not believe it."""
    cases = [OLMOE.replace("t16", f"t{n}") for n in range(1, 41)]
    base = write_run(*(several(case=case, seed=n) for n, case in enumerate(cases)))
    equal = [several(case=case, seed=100 + n) for n, case in enumerate(cases[1:])]
    new = write_run(several(1_031_000, case=cases[0], seed=99), *equal, name="new")
    p = compare(base, new).pairs[0].p
    assert p is not None and 0.025 / 40 < p < 0.025
    strict = pairs_of(base, new, Margins(), holm)[0]
    assert (strict.verdict, strict.reason) == ("unsure", "does not survive the correction for 40 cases")


def test_the_mean_of_cases_of_one_machine_has_an_interval_over_processes(write_run: WriteRun) -> None:
    base = write_run(several(), several(2_000_000, case=OTHER))
    new = write_run(several(1_040_000, 1.1), several(2_080_000, 1.1, case=OTHER), name="new")
    found = compare(base, new)
    assert found.mean_verdict == "slower"
    assert found.mean.value == pytest.approx(1.04, abs=0.005)


def test_two_runs_of_one_process_are_unsure_and_say_what_to_type(write_run: WriteRun) -> None:
    found = compare(write_run(measurement()), write_run(measurement(2_000_000), name="new"))
    pair = only(found)
    assert pair.ratio and pair.ratio.value == pytest.approx(2)
    assert (pair.verdict, pair.reason) == ("unsure", ONE_PROCESS)
    assert "--processes 5" in ONE_PROCESS
    assert found.mean_verdict == "unsure"


def test_a_file_and_its_copy_are_the_same(write_run: WriteRun) -> None:
    found = compare(write_run(timed(1_000_000)), write_run(timed(1_000_000), name="copy"))
    assert (only(found).verdict, found.mean_verdict, found.mean.value) == ("same", "same", 1)


@pytest.mark.parametrize("value", [-0.01, 1.0, 3.0, math.nan])
def test_a_margin_that_is_no_share_is_refused_with_an_example(value: float) -> None:
    for name in ("threshold", "same"):
        with pytest.raises(UserError, match=f"--{name} .* is not between 0 and 100 %: write for instance --{name} 3%"):
            Margins(**{name: value})


@pytest.mark.parametrize("margins", [Margins(threshold=0.1, same=0.08), Margins(threshold=0.1)])
def test_the_margins_are_the_users_and_what_is_surely_below_the_threshold_is_the_same(
    write_run: WriteRun, margins: Margins
) -> None:
    runs = write_run(several()), write_run(several(1_050_000), name="new")
    assert only(compare(*runs, margins)).verdict == "same"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"case_digest": "e" * 64}, "different work: the case digests differ"),
        ({"input_digest": "e" * 64}, "different inputs: the input digests differ"),
        ({"target": "ort:cpu"}, "only in the base run"),
    ],
)
def test_different_work_is_listed_not_compared(write_run: WriteRun, changes: dict[str, str], reason: str) -> None:
    base = write_run(measurement(), measurement(case=OTHER))
    new = write_run(measurement(**changes), measurement(case=OTHER), name="new")
    found = compare(base, new)
    assert found.pairs[0].ratio is None and str(found.pairs[0].reason).startswith(reason)
    assert [pair.case for pair in found.comparable] == [OTHER]


def test_a_failed_side_is_not_compared(write_run: WriteRun) -> None:
    found = compare(
        write_run(measurement(), measurement(case=OTHER)),
        write_run(failed("wrong", "slot 1"), measurement(case=OTHER), name="new"),
    )
    assert found.pairs[0].reason == "new is wrong: slot 1"


def test_runs_without_common_work_are_refused(write_run: WriteRun) -> None:
    with pytest.raises(UserError, match=r"base and new have no comparable case, for instance .*: only in the base run"):
        compare(write_run(measurement()), write_run(measurement(case=OTHER), name="new"))


def test_other_methods_are_refused(write_run: WriteRun) -> None:
    header = run_header(method_version=record.METHOD_VERSION + 1)
    with pytest.raises(UserError, match="different methods"):
        compare(write_run(measurement()), write_run(measurement(), name="new", header=header))


def test_the_mean_of_twice_and_half_is_one(write_run: WriteRun) -> None:
    base = write_run(measurement(), measurement(case=OTHER))
    new = write_run(measurement(2_000_000), measurement(500_000, case=OTHER), name="new")
    found = compare(base, new)
    assert found.mean.value == pytest.approx(1)
    last = comparison_rows(found)[-1]
    assert (last["case"], last["ratio"]) == ("geometric mean", pytest.approx(1))


def test_beside_a_choice_of_the_pairs_the_mean_says_that_it_is_of_all(write_run: WriteRun) -> None:
    base = write_run(measurement(), measurement(case=OTHER), failed(target="ort:cpu"))
    found = compare(base, write_run(measurement(), measurement(case=OTHER), name="new"))
    whole, chosen = (comparison_rows(found, pairs)[-1] for pairs in (found.comparable, found.pairs[:1]))
    assert (whole["reason"], chosen["reason"]) == (None, "of all 2, not only these")


def test_contention_is_said(write_run: WriteRun) -> None:
    found = compare(write_run(measurement(warnings=["contended"])), write_run(measurement(), name="new"))
    assert only(found).warnings == ("base contended",)


# ---- targets of one run


def test_the_fastest_that_is_not_open_stands_for_its_target(write_run: WriteRun) -> None:
    run = write_run(
        measurement(3_000_000),
        measurement(2_000_000, implementation="grouped", division="closed"),
        measurement(500_000, implementation="cheap", division="open"),
        measurement(1_000_000, target="ort:cpu"),
    )
    (case,) = targets_side_by_side(run)
    torch, ort = case.entries
    assert (torch.implementation, torch.time and torch.time.ns, torch.ratio) == ("grouped", 2_000_000, None)
    assert ort.ratio and ort.ratio.value == pytest.approx(0.5)


def test_a_target_without_a_time_says_why(write_run: WriteRun) -> None:
    run = write_run(measurement(), failed(target="ort:cpu"))
    (case,) = targets_side_by_side(run)
    assert case.entries[1].reason == "unsupported: fp16 is upcast to fp32"
    (alone,) = targets_side_by_side(write_run(measurement(), name="alone"))
    assert alone.entries[1].reason == "not run"


def test_nothing_is_fastest_of_nothing() -> None:
    assert fastest([failed(), measurement(division="open")]) is None


def test_runs_of_different_targets_are_compared_by_their_fastest_exact_implementations(write_run: WriteRun) -> None:
    base = write_run(measurement(2_000_000), measurement(1_000_000, implementation="grouped", division="closed"))
    there = run_header(["torch:npu"])
    new = write_run(measurement(1_500_000, target="torch:npu", implementation="fused"), name="new", header=there)
    (pair,) = compare(base, new).pairs
    assert (pair.target, pair.implementation) == ("torch:cpu / torch:npu", "grouped / fused")
    assert pair.ratio is not None
    assert pair.ratio.value == pytest.approx(1.5)
    assert pair.verdict == "unsure"


# ---- across number formats

INT4 = OLMOE.replace("/fp32/", "/w-int4g32_a-fp32/")


def test_other_formats_are_not_compared_unless_asked(write_run: WriteRun) -> None:
    runs = write_run(timed(1_000_000)), write_run(timed(500_000, case=INT4), name="new")
    with pytest.raises(UserError, match=r"other format: .* w-int4g32_a-fp32, which --across-formats compares"):
        compare(*runs)
    pair = only(compare(*runs, across_formats=True))
    assert pair.ratio and pair.ratio.value == pytest.approx(0.5, abs=0.01)
    assert "/fp32 > w-int4g32_a-fp32/" in pair.case


def test_across_formats_the_fastest_that_are_not_open_meet(write_run: WriteRun) -> None:
    slow, fast, free = (
        timed(ns, case=INT4, implementation=name, division=division)
        for ns, name, division in ((900_000, "sorted", "closed"), (500_000, "nbits", "closed"), (100_000, "x", "open"))
    )
    pair = only(compare(write_run(timed(1_000_000)), write_run(slow, fast, free, name="new"), across_formats=True))
    assert pair.implementation == "sorted > nbits"


def test_across_formats_equal_formats_stay_paired(write_run: WriteRun) -> None:
    both = timed(1_000_000), timed(500_000, case=INT4)
    found = compare(write_run(*both), write_run(*both, name="new"), across_formats=True)
    assert [(pair.case, pair.verdict) for pair in found.pairs] == [(OLMOE, "same"), (INT4, "same")]


def test_across_formats_other_work_is_not_compared(write_run: WriteRun) -> None:
    other = record.Cost(flops=1, bytes=1, weight_bytes=1, tokens=16, rows=16, assignments=128)
    runs = write_run(timed(1_000_000)), write_run(timed(500_000, case=INT4, cost=other), name="new")
    with pytest.raises(UserError, match="different work: FLOPs"):
        compare(*runs, across_formats=True)

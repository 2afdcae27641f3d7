"""The gate fails a slower build, never cries wolf, and says what it cannot compare."""

from pathlib import Path

import pytest

from results import record
from results.gate import Gate, baselines_in, gate, gate_rows, sentences, store_baseline, trusted
from results.store import RunFile, Writer, read
from results.tables import gate_table
from tests.results.conftest import OLMOE, WriteRun, failed, measurement, run_header, several
from workloads.case import UserError

OTHER = "moe-layer/olmoe-1b-7b/ep1/t1/fp32/balanced/latency"


def judged(write_run: WriteRun, *new: record.Measurement, base: tuple[record.Measurement, ...] = ()) -> Gate:
    """The gate over a base of one case (or these), and a second one that is equal in both."""
    calm = several(case=OTHER, seed=1)
    before = write_run(*(base or (several(),)), calm)
    return gate(before, write_run(*new, several(case=OTHER, seed=2), name="new"))


@pytest.mark.parametrize(
    ("new_ns", "outcome", "code"), [(1_050_000, "slower", 1), (1_001_000, "passed", 0), (950_000, "passed", 0)]
)
def test_slower_fails_and_nothing_else_does(write_run: WriteRun, new_ns: int, outcome: str, code: int) -> None:
    found = judged(write_run, several(new_ns, seed=3))
    assert (found.outcomes[0], found.exit_code(), found.exit_code("fail")) == (outcome, code, code)


@pytest.mark.parametrize(("threads", "outcome"), [(1, "slower"), (2, "unsure")])
def test_what_slows_other_cores_than_the_canarys_is_no_alarm(write_run: WriteRun, threads: int, outcome: str) -> None:
    """A target on all cores may be that much slower for a minute while the canary, on one, is not."""
    header = run_header(["torch:cpu"])
    header.environment["targets"]["torch:cpu"] = {"name": "Test CPU", "unit": "host", "threads": threads}
    base = write_run(several(), header=header)
    assert gate(base, write_run(several(1_080_000, seed=3), name="new", header=header)).outcomes == (outcome,)


@pytest.mark.parametrize(("threads", "outcome"), [(1, "slower"), (2, "unsure")])
def test_nor_is_it_one_beside_canaries_that_are_not_the_same(write_run: WriteRun, threads: int, outcome: str) -> None:
    header = run_header(["torch:cpu"])
    header.environment["targets"]["torch:cpu"] = {"name": "Test CPU", "unit": "host", "threads": threads}
    base = write_run(several(), header=header)
    new = write_run(several(1_100_000, seed=3, canary="hot other"), name="new", header=header)
    assert gate(base, new).outcomes == (outcome,)


def test_a_change_beyond_that_is_one_on_all_cores_too(write_run: WriteRun) -> None:
    header = run_header(["torch:cpu"])
    header.environment["targets"]["torch:cpu"] = {"name": "Test CPU", "unit": "host", "threads": 2}
    base = write_run(several(), header=header)
    assert gate(base, write_run(several(1_300_000, seed=3), name="new", header=header)).outcomes == ("slower",)


@pytest.mark.parametrize("status", ["wrong", "crashed", "timeout", "error", "out-of-memory"])
def test_a_case_that_broke_fails(write_run: WriteRun, status: str) -> None:
    found = judged(write_run, failed(status, "slot 3"))
    assert (found.outcomes, found.exit_code()) == (("failed", "passed"), 1)
    assert "1 of 2 cases FAILED that were ok before" in sentences(found, "warn")


@pytest.mark.parametrize("new", [(), (failed("unsupported"),), (failed("too-big"),), (several(case_digest="e" * 64),)])
def test_a_case_that_is_gone_or_other_work_cannot_be_compared(
    write_run: WriteRun, new: tuple[record.Measurement, ...]
) -> None:
    found = judged(write_run, *new)
    assert (found.outcomes[0], found.exit_code()) == ("not comparable", 2)


@pytest.mark.parametrize("status", ["unsupported", "crashed"])
def test_what_was_not_ok_before_has_nothing_to_lose(write_run: WriteRun, status: str) -> None:
    found = judged(write_run, failed(status), base=(failed(status),))
    assert (found.outcomes, found.exit_code("fail")) == (("new", "passed"), 0)
    assert sentences(found, "fail") == []


def test_a_new_case_has_no_past(write_run: WriteRun) -> None:
    extra = OLMOE.replace("t16", "t32")
    found = judged(write_run, several(seed=3), several(case=extra))
    assert (found.outcomes, found.exit_code("fail")) == (("passed", "passed", "new"), 0)
    assert sentences(found, "fail") == ["1 of 3 cases have NO PAST in base and pass"]
    assert gate_table(found).notes == ("1 of 3 cases have NO PAST in base and pass",)
    assert extra not in [section.title for section in gate_table(found).sections]


def test_unsure_passes_loudly_or_stops_where_that_was_asked_for(write_run: WriteRun) -> None:
    found = judged(write_run, measurement(2_000_000), base=(measurement(),))
    assert (found.outcomes[0], found.exit_code("warn"), found.exit_code("fail")) == ("unsure", 0, 3)
    assert sentences(found, "warn") == ["1 of 2 cases are UNSURE and pass (--undecided fail would stop here)"]
    assert sentences(found, "fail") == ["1 of 2 cases are UNSURE"]
    assert "--processes 5" in gate_table(found).text()


def test_slower_counts_more_than_what_cannot_be_compared(write_run: WriteRun) -> None:
    lost = OLMOE.replace("t16", "t32")
    found = judged(write_run, several(1_050_000, seed=3), base=(several(), several(case=lost)))
    assert (set(found.outcomes), found.exit_code()) == ({"slower", "not comparable", "passed"}, 1)


def test_equal_code_is_not_called_slower_over_twenty_cases(write_run: WriteRun) -> None:
    cases = [OLMOE.replace("t16", f"t{n}") for n in range(1, 21)]
    for trial in range(5):
        base = write_run(*(several(case=case, seed=100 * trial + n) for n, case in enumerate(cases)), name=f"a{trial}")
        new = (several(1_000_000, 1.15, case=case, seed=100 * trial + n + 50) for n, case in enumerate(cases))
        found = gate(base, write_run(*new, name=f"b{trial}"))
        assert not found.of("slower")


def test_a_run_that_was_cut_off_cannot_pass(tmp_path: Path, write_run: WriteRun) -> None:
    with Writer(tmp_path / "cut.jsonl") as writer:
        writer.append(run_header())
        writer.append(several())
    with pytest.raises(UserError, match=r"cut was cut off: .*: a gate needs a whole run"):
        gate(write_run(several()), read(tmp_path / "cut.jsonl"))


def test_a_build_whose_every_case_broke_fails(write_run: WriteRun) -> None:
    found = gate(write_run(several()), write_run(failed("wrong", "slot 3"), name="new"))
    assert (found.outcomes, found.exit_code()) == (("failed",), 1)


def test_nothing_in_common_is_refused(write_run: WriteRun) -> None:
    with pytest.raises(UserError, match="no comparable case"):
        gate(write_run(several()), write_run(several(case=OTHER), name="new"))


def test_rows_hold_the_outcome_and_how_it_was_reached(write_run: WriteRun) -> None:
    row = gate_rows(judged(write_run, several(1_050_000, seed=3)))[0]
    assert (row["outcome"], row["verdict"]) == ("slower", "slower")
    assert row["p"] < 0.001
    assert row["low_ratio"] > 1.01


def test_the_table_fits_a_terminal(write_run: WriteRun) -> None:
    found = judged(write_run, several(1_050_000, seed=3), base=(several(), several(target="ort:cpu")))
    assert max(map(len, gate_table(found).text().splitlines())) <= 80


# ---- the folder of baselines


def stored(folder: Path, name: str, *lines: record.Measurement, cut: bool = False, **changes: object) -> RunFile:
    """A run file in a folder."""
    folder.mkdir(exist_ok=True)
    with Writer(folder / f"{name}.jsonl") as writer:
        for line in (run_header(**changes), *(lines or (several(),))):
            writer.append(line)
        if not cut:
            writer.append(record.End(lines=writer.lines, ended_utc="2030-01-02T03:05:05Z"))
    return read(folder / f"{name}.jsonl")


def test_the_newest_run_of_this_machine_is_the_baseline(tmp_path: Path, write_run: WriteRun) -> None:
    folder, other = tmp_path / "baselines", {"machine": {"cpu": "Other CPU"}}
    stored(folder, "old", started_utc="2029-01-01T00:00:00Z")
    stored(folder, "newest", started_utc="2029-03-01T00:00:00Z")
    stored(folder, "elsewhere", started_utc="2029-04-01T00:00:00Z", environment=other)
    found, passed_over = baselines_in(folder, write_run(several(1_001_000), name="new"))
    assert [one.stem for one in found] == ["newest", "old"]
    assert passed_over == [
        "elsewhere is passed over: of another machine (machine.cpu was 'Other CPU' and is 'Test CPU' here)"
    ]


def test_of_two_runs_the_one_with_more_of_the_new_cases_is_the_baseline(tmp_path: Path, write_run: WriteRun) -> None:
    folder, both = tmp_path / "baselines", (several(), several(case=OTHER))
    stored(folder, "whole", *both, started_utc="2029-01-01T00:00:00Z")
    stored(folder, "part", started_utc="2029-03-01T00:00:00Z")
    found, _ = baselines_in(folder, write_run(several(1_001_000), failed("crashed", case=OTHER), name="new"))
    assert [one.stem for one in found] == ["whole", "part"]


def test_a_build_whose_every_case_broke_has_its_baseline_too(tmp_path: Path, write_run: WriteRun) -> None:
    stored(tmp_path / "baselines", "base")
    new = write_run(failed("crashed"), name="new")
    (base,), _ = baselines_in(tmp_path / "baselines", new)
    assert gate(base, new).exit_code() == 1


def test_a_copy_of_a_run_counts_once(tmp_path: Path, write_run: WriteRun) -> None:
    folder = tmp_path / "baselines"
    stored(folder, "first")
    (folder / "second.jsonl").write_bytes((folder / "first.jsonl").read_bytes())
    found, passed_over = baselines_in(folder, write_run(several(1_001_000), name="new"))
    assert ([one.stem for one in found], passed_over) == (["first"], ["second is passed over: a copy of first"])


def test_what_is_damaged_cut_off_or_of_other_work_is_passed_over(tmp_path: Path, write_run: WriteRun) -> None:
    folder = tmp_path / "baselines"
    stored(folder, "cut", cut=True)
    stored(folder, "others", several(case=OTHER))
    stored(folder, "broken", failed("crashed"))
    stored(folder, "method", method_version=0)
    (folder / "noise.jsonl").write_text("noise\n")
    found, passed_over = baselines_in(folder, write_run(several(), name="new"))
    assert found == []
    assert {text.split(" is passed over: ")[0] for text in passed_over} == {
        "cut",
        "others",
        "broken",
        "method",
        "noise",
    }


def test_a_run_is_no_baseline_of_itself(tmp_path: Path) -> None:
    folder = tmp_path / "baselines"
    new = stored(folder, "new")
    found, passed_over = baselines_in(folder, new)
    assert (found, passed_over) == ([], ["new is passed over: it is the new run itself"])


def test_the_first_run_is_stored_as_it_is_and_over_nothing(tmp_path: Path, write_run: WriteRun) -> None:
    new = write_run(several(), name="new")
    folder, path = tmp_path / "baselines" / "here", tmp_path / "new.jsonl"
    assert store_baseline(folder, path, new).read_bytes() == path.read_bytes()
    with pytest.raises(UserError, match="give the new run another name"):
        store_baseline(folder, path, new)


def test_a_run_that_failed_or_was_cut_off_is_no_first_baseline(tmp_path: Path) -> None:
    for name, lines, cut in (("broken", (failed("crashed"),), False), ("cut", (several(),), True)):
        run_file = stored(tmp_path / name, name, *lines, cut=cut)
        assert not trusted(run_file)
        with pytest.raises(UserError, match="cannot be the first baseline"):
            store_baseline(tmp_path / "baselines", tmp_path / name / f"{name}.jsonl", run_file)


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path, write_run: WriteRun) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--baseline needs a folder"):
        baselines_in(tmp_path / "file", write_run(several(), name="new"))

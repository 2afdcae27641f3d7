"""Long records are read side by side by processes of their own, and nothing that is said of them changes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import pytest

from benchmarks.stored import forged
from results import apart, store
from results.apart import read_several_times
from results.compare import Comparison, compare
from results.store import RunFile
from tests.results.conftest import WriteRun, failed, measurement, run_header, several
from tests.results.test_compare import OTHER, timed
from tests.results.test_reading import lines_of_a_run, newer_run
from workloads.case import UserError

NAMES = ("base", "new")


@pytest.fixture
def by_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records of any length get a process, on any machine, and are sent line by line."""
    monkeypatch.setattr(apart, "LONG", 1)
    monkeypatch.setattr(apart, "_helpers", lambda: 1)
    monkeypatch.setattr(apart, "PART", 1)


def both_ways(folder: Path) -> tuple[Comparison, Comparison, list[RunFile]]:
    """The comparison of two records read here and of the same read apart, and what was read apart."""
    paths = [folder / f"{name}.jsonl" for name in NAMES]
    there = read_several_times(paths)
    return compare(*map(store.read_times, paths)), compare(there[0], there[1]), there


@pytest.mark.usefixtures("by_others")
def test_records_read_apart_compare_as_those_read_here(write_run: WriteRun, tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        lines = timed(1_000_000 + number, warnings=["noisy"]), several(seed=number, implementation="grouped")
        write_run(*lines, failed(case=OTHER), measurement(implementation="lone" + name), name=name)
    here, there, files = both_ways(tmp_path)
    assert there == here
    assert {pair.verdict for pair in here.pairs} >= {"unsure", "same", None}
    assert [file.last_digest for file in files] == [
        store.read(tmp_path / f"{name}.jsonl").last_digest for name in NAMES
    ]
    alone, beside, refused, _ = files[0].measurements
    assert (len(alone.samples_ns), len(beside.samples_ns), refused.reason) == (0, 160, failed().reason)


@pytest.mark.usefixtures("by_others")
def test_records_of_several_processes_alone_are_read_apart(write_run: WriteRun, tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        write_run(several(seed=number), name=name)
    here, there, files = both_ways(tmp_path)
    assert there == here
    assert len(files[0].measurements[0].samples_ns) == 160


@pytest.mark.usefixtures("by_others")
def test_targets_are_met_by_their_levels_too(write_run: WriteRun, tmp_path: Path) -> None:
    write_run(measurement(2_000_000), measurement(1_000_000, implementation="grouped", division="closed"))
    other = measurement(1_500_000, target="torch:npu", implementation="fused")
    write_run(other, name="new", header=run_header(["torch:npu"]))
    here, there, _ = both_ways(tmp_path)
    assert there == here
    assert here.pairs[0].implementation == "grouped / fused"


@pytest.mark.usefixtures("by_others")
def test_what_is_wrong_with_a_record_is_said_as_if_it_were_read_here(write_run: WriteRun, tmp_path: Path) -> None:
    write_run(measurement())
    path, broken = tmp_path / "base.jsonl", tmp_path / "new.jsonl"
    broken.write_bytes(path.read_bytes().replace(b'"ok"', b'"OK"'))
    with pytest.raises(UserError, match=r"new\.jsonl, line 2"):
        read_several_times([path, broken])
    broken.write_bytes(path.read_bytes()[:-30])
    assert [file.warning for file in read_several_times([path, broken])] == [None, store.read(broken).warning]


@pytest.mark.usefixtures("by_others")
def test_a_reader_that_was_ended_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "_CODE", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(UserError, match=r"read new\.jsonl ended with -9: is there memory enough for both"):
        read_apart(tmp_path / "new.jsonl", forged(lines_of_a_run()))


@pytest.mark.usefixtures("by_others")
def test_a_record_that_another_program_wrote_is_read_apart_too(write_run: WriteRun, tmp_path: Path) -> None:
    write_run(measurement(1_000_000), several(implementation="grouped"), failed(case=OTHER), name="new")
    written = (tmp_path / "new.jsonl").read_text().splitlines()
    (tmp_path / "base.jsonl").write_text("".join(json.dumps(json.loads(line)) + "\n" for line in written))
    here, there, files = both_ways(tmp_path)
    assert there == here
    assert [line.implementation for line in files[0].measurements] == ["sorted", "grouped", "sorted"]


def read_apart(path: Path, content: bytes) -> RunFile:
    """A record of this content, read by another process while this one reads a good one."""
    path.write_bytes(content)
    good = path.with_name("good.jsonl")
    good.write_bytes(forged(lines_of_a_run()))
    return read_several_times([path, good])[0]


STRANGE = os.fsdecode(b"new\xff.jsonl")
"""No UTF-8."""


@pytest.mark.usefixtures("by_others")
def test_a_newer_record_is_read_apart_as_far_as_it_is_known(tmp_path: Path) -> None:
    there = read_apart(tmp_path / STRANGE, forged(newer_run()))
    here = store.read_times(tmp_path / STRANGE)
    assert here.newer and (there.newer, there.digests) == (here.newer, here.digests)


@pytest.mark.usefixtures("by_others")
def test_what_is_wrong_is_said_whatever_the_name_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="line 2"):
        read_apart(tmp_path / STRANGE, forged(lines_of_a_run()).replace(b'"ok"', b'"OK"'))


@pytest.mark.usefixtures("by_others")
@pytest.mark.parametrize("slot", [-1, 2**64])
def test_what_a_record_can_hold_is_read_apart_or_refused_in_a_sentence(tmp_path: Path, slot: int) -> None:
    lines = lines_of_a_run(msgspec.to_builtins(several(implementation="grouped")))
    lines[3]["slots"] = [slot, *lines[3]["slots"][1:]]
    if slot < 0:
        assert read_apart(tmp_path / "new.jsonl", forged(lines)).measurements[2].slots[0] == slot  # type: ignore[index]
    else:
        with pytest.raises(UserError, match="64 bits"):
            read_apart(tmp_path / "new.jsonl", forged(lines))


def test_a_reader_ends_with_whoever_waits_for_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "endless.jsonl")
    with apart._Reader(tmp_path / "endless.jsonl") as reader:
        reader._pipe.close()
        assert reader._process.wait(30) == 1
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("by_others")
def test_a_reader_runs_nothing_of_the_working_directory_and_prints_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "signal.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(apart, "_CODE", "print('a word')" + apart._CODE)
    assert read_apart(tmp_path / "new.jsonl", forged(lines_of_a_run())).complete
    assert capfd.readouterr().out == ""


@pytest.mark.usefixtures("by_others")
def test_a_record_can_be_given_twice(write_run: WriteRun, tmp_path: Path) -> None:
    write_run(measurement())
    write_run(measurement(), name="new")
    one, two, _ = read_several_times([tmp_path / f"{name}.jsonl" for name in ("base", "base", "new")])
    assert compare(one, two).mean_verdict == "same"


def test_short_records_are_read_in_this_process(write_run: WriteRun, tmp_path: Path) -> None:
    write_run(timed(1_000_000))
    (found,) = read_several_times([tmp_path / "base.jsonl"])
    assert len(found.measurements[0].samples_ns) == 480
    with pytest.raises(UserError, match="is not there"):
        read_several_times([tmp_path / "base.jsonl", tmp_path / "none.jsonl"])

"""Records of strangers: compressed, of other versions, too large, too deep, or no records at all."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks.stored import forged
from results import opening, reading, record, store, versions
from results.chain import canonical, link
from results.reading import examine
from results.record import Power, Ranks, Readings
from tests.results.conftest import failed, measurement, run_header
from tests.results.test_parts import part
from workloads.case import UserError

END = {"kind": "end", "ended_utc": "2030-01-02T03:05:05Z"}


def lines_of_a_run(*more: dict[str, Any], header: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    lines = [msgspec.to_builtins(line) for line in (run_header(), measurement(), failed())]
    lines[0] |= header or {}
    return [*lines, *more, END | {"lines": 3 + len(more)}]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.jsonl"


# ---- compressed


def test_a_compressed_record_is_read_like_a_plain_one(path: Path) -> None:
    path.write_bytes(forged(lines_of_a_run()))
    packed = path.with_suffix(".jsonl.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    plain, unpacked = store.read(path), store.read(packed)
    assert unpacked.measurements == plain.measurements == (measurement(), failed())
    assert (unpacked.stem, plain.stem) == ("run", "run")


def test_what_was_lost_of_a_compressed_record_is_said(path: Path) -> None:
    path.write_bytes(gzip.compress(forged(lines_of_a_run()))[:-20])
    with pytest.raises(UserError, match="is no whole gzip file"):
        store.read(path)


def test_a_record_is_neither_written_nor_resumed_compressed(path: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="compress it when it is done"):
        store.Writer(tmp_path / "run.jsonl.gz")
    path.write_bytes(gzip.compress(forged(lines_of_a_run()[:2])))
    before = path.read_bytes()
    with pytest.raises(UserError, match="unpack it to resume it"):
        store.Writer(path, resume=True)
    assert path.read_bytes() == before


# ---- limits


def packed_in(kind: str, content: bytes) -> bytes:
    file = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("run.jsonl", content)
    elif kind == "tar.gz":
        with tarfile.open(fileobj=file, mode="w:gz") as tar:
            about = tarfile.TarInfo("run.jsonl")
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    elif kind == "gz.gz":
        file.write(gzip.compress(gzip.compress(content)))
    else:
        file.write({"bz2": b"BZh9", "xz": b"\xfd7zXZ\x00", "zst": b"\x28\xb5\x2f\xfd", "pickle": b""}[kind])
        file.write(pickle.dumps([content]))
    return file.getvalue()


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "gz.gz", "bz2", "xz", "zst", "pickle"])
def test_archives_are_refused_in_one_line(path: Path, kind: str) -> None:
    path.write_bytes(packed_in(kind, forged(lines_of_a_run())))
    with pytest.raises(UserError, match=r"run.jsonl") as refusal:
        store.read(path)
    assert "\n" not in str(refusal.value)


def test_a_bomb_is_refused_before_it_goes_off(path: Path) -> None:
    path.write_bytes(gzip.compress(b"\0" * (40 << 20)))
    with pytest.raises(UserError, match="line 1 is longer than 32 MiB"):
        store.read(path)


@pytest.mark.parametrize(
    ("limit", "most", "said"),
    [
        ("LONGEST_LINE", 100, "is longer than"),
        ("MOST_BYTES", 1000, "is larger than"),
        ("MOST_LINES", 3, "more than 3 lines"),
    ],
)
def test_beyond_a_limit_a_file_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, most: int, said: str
) -> None:
    path.write_bytes(forged(lines_of_a_run()))
    assert store.read(path).lines == 4
    monkeypatch.setattr(opening, limit, most)
    with pytest.raises(UserError, match=said):
        store.read(path)


def test_a_bomb_of_short_lines_is_refused_by_what_it_unpacks_to(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dull = {"samples_ns": [1] * 48_000, "slots": list(range(16)) * 3_000}
    path.write_bytes(forged(lines_of_a_run(*[msgspec.to_builtins(measurement()) | dull] * 4)))
    monkeypatch.setattr(opening, "LONGEST_LINE", 500_000)
    assert store.read(path).lines == 8
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(UserError, match=r"run.jsonl unpacks to more than 100 times its size"):
        store.read(path)


READINGS = Readings(at_ns=[0, 1], power_w=[1.0, 1.0])
POWER = {"power": msgspec.to_builtins(Power(source="x", scope="x", idle=READINGS, loaded=READINGS))}
RANKS = Ranks(
    count=1, backend="x", hosts=1, shared_cpu=False, threads=[1], rows=[1], assignments=[1], samples_ns=[[1] * 48]
)


@pytest.mark.parametrize(
    ("changes", "numbers"),
    [
        ({}, 48),
        ({"slots": [*range(15), 99] * 3}, 2 * 48),
        (POWER, 48 + 5 * 4),
        ({"ranks": msgspec.to_builtins(RANKS)}, 2 * 48),
    ],
)
@pytest.mark.parametrize("read", [store.read, examine], ids=["read", "examine"])
def test_a_file_holds_no_more_samples_than_any_run(
    path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], Any], changes: dict[str, Any], numbers: int
) -> None:
    """The first measurement has 48 samples and as many slots; a second one shares these, unless it has others."""
    path.write_bytes(forged(lines_of_a_run(msgspec.to_builtins(measurement()) | changes)))
    monkeypatch.setattr(reading, "MOST_SAMPLES", 2 * 48 + numbers)
    read(path)
    monkeypatch.setattr(reading, "MOST_SAMPLES", 2 * 48 + numbers - 1)
    with pytest.raises(UserError, match="holds more than"):
        read(path)


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('"deep": ' + "[" * 100_000 + "]" * 100_000, "not a run header|no Unicode|not a moemark run file"),
        ('"large": 1e999', "JSON in UTF-8 cannot"),
        ('"half": "\\ud800"', "JSON in UTF-8 cannot"),
        ('"twice": 1, "twice": 2', "line 1 is not a run header"),
        ('"nan": NaN', "line 1 is not a run header"),
    ],
)
def test_what_two_programs_could_read_differently_is_refused(path: Path, text: str, said: str) -> None:
    header, *rest = forged(lines_of_a_run()).splitlines(keepends=True)
    path.write_bytes(header.replace(b'"environment":{', f'"environment":{{{text},'.encode()) + b"".join(rest))
    with pytest.raises(UserError, match=said):
        store.read(path)


def test_a_line_does_not_nest_deeper_than_any_of_ours(path: Path) -> None:
    path.write_bytes(forged(lines_of_a_run(header={"environment": {"deep": nested(versions.DEEPEST - 2)}})))
    assert store.read(path).complete
    path.write_bytes(forged(lines_of_a_run(header={"environment": {"deep": nested(versions.DEEPEST)}})))
    with pytest.raises(UserError, match="line 1: it nests deeper"):
        store.read(path)


def test_whole_numbers_are_such_as_other_programs_hold(path: Path) -> None:
    lines = lines_of_a_run()
    lines[1]["samples_ns"][0] = 10**30
    path.write_bytes(forged(lines))
    with pytest.raises(UserError, match=r"line 2: .*samples_ns"):
        store.read(path)


# ---- other versions


NEWER = {"schema_minor": record.SCHEMA_MINOR + 1, "moemark_version": "9.1.0", "weather": {"rain": True}}


def newer_run() -> list[dict[str, Any]]:
    lines = lines_of_a_run({"kind": "postcard", "text": "hello"}, header=NEWER)
    lines[1]["check"]["mood"] = "good"
    lines[1]["turns"] = [{"process": 0, "samples": 48, "noise": {"wall_ns": 1, "moon": 0.5}}]
    return lines


def test_a_newer_minor_version_is_read_and_what_is_unknown_is_kept(path: Path) -> None:
    path.write_bytes(forged(newer_run()))
    found = store.read(path)
    assert found.complete and found.lines == 5
    assert found.measurements[0].check == measurement().check
    assert found.extras == {
        1: {"weather": {"rain": True}},
        2: {"check.mood": "good", "turns.0.noise.moon": 0.5},
        4: {"kind": "postcard", "text": "hello"},
    }
    assert found.warning == "run was written by moemark 9.1.0: what this version does not know of it is passed over"


def test_an_edit_of_what_is_unknown_is_seen_all_the_same(path: Path) -> None:
    path.write_bytes(forged(newer_run()).replace(b'"mood":"good"', b'"mood":"fine"'))
    with pytest.raises(UserError, match="line 2: its line_sha256 does not fit"):
        store.read(path)


def test_what_this_version_should_know_is_not_passed_over(path: Path) -> None:
    lines = lines_of_a_run()
    lines[1]["mood"] = "good"
    path.write_bytes(forged(lines))
    with pytest.raises(UserError, match="unknown field `mood`"):
        store.read(path)


def test_a_newer_record_is_not_resumed_by_this_version(path: Path) -> None:
    path.write_bytes(forged(newer_run()[:3]))
    with pytest.raises(UserError, match="resume it with that version"):
        store.Writer(path, resume=True)


def test_records_of_version_1_are_read(path: Path) -> None:
    path.write_bytes(forged(lines_of_a_run(header={"schema_version": 1})))
    assert store.read(path).measurements == (measurement(), failed())


def test_an_older_record_is_brought_up_to_date_and_its_digests_stay(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if version 1 had called samples `times`."""

    def renamed(line: dict[str, Any]) -> dict[str, Any]:
        if "times" in line:
            line["samples_ns"] = line.pop("times")
        return line

    monkeypatch.setitem(versions.MIGRATIONS, 1, renamed)
    lines = lines_of_a_run(header={"schema_version": 1})
    lines[1]["times"] = lines[1].pop("samples_ns")
    path.write_bytes(forged(lines))
    found = store.read(path)
    assert found.measurements[0] == measurement()
    header = link(canonical(lines[0]), "")
    assert found.digests[0] == link(canonical(lines[1]), header)


def test_an_older_record_is_brought_up_to_date_where_it_could_be_taken_as_it_stands(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if version 1 had counted samples in tens of ns."""

    def finer(line: dict[str, Any]) -> dict[str, Any]:
        return line | {"samples_ns": [10 * ns for ns in line["samples_ns"]]} if line.get("samples_ns") else line

    monkeypatch.setitem(versions.MIGRATIONS, 1, finer)
    lines = lines_of_a_run(header={"schema_version": 1})
    path.write_bytes(forged(lines))
    (found, _) = store.read(path).measurements
    assert found.samples_ns == [10 * ns for ns in measurement().samples_ns]


# ---- all that is wrong at once


def test_reading_to_verify_goes_on_after_what_is_wrong(path: Path) -> None:
    texts = forged(lines_of_a_run()).splitlines(keepends=True)
    texts[1] = texts[1].replace(b'"sorted"', b'"packed"')
    texts[2] = b"{oops\n"
    path.write_bytes(b"".join(texts))
    found, complaints = examine(path)
    assert [one.implementation for one in found.measurements] == ["packed"]
    assert [one.line for one in complaints] == [2, 3, 4]


def test_what_is_wrong_is_said_in_one_line_whatever_a_key_is_called(path: Path) -> None:
    lines = lines_of_a_run()
    lines[1]["tar\rget\n\x1b[2J"] = 1
    path.write_bytes(forged(lines))
    with pytest.raises(UserError) as refusal:
        store.read(path)
    assert "line 2" in str(refusal.value) and str(refusal.value).isprintable()


def test_no_path_in_a_record_is_followed(path: Path, tmp_path: Path) -> None:
    """A selection is looked up among our own suites, never opened."""
    from results.verify import verify_file

    secret = tmp_path / "secret.toml"
    secret.write_text("title = 3")
    for word in (str(secret), "../secret.toml", "secret"):
        path.write_bytes(forged(lines_of_a_run(header={"selection": [word]})))
        assert "title" not in json.dumps([str(one) for one in verify_file(path).findings])


# ---- large records


def test_a_light_reading_has_the_times_and_the_digests_of_a_whole_one(path: Path) -> None:
    path.write_bytes(forged(lines_of_a_run()))
    whole, light = store.read(path), store.read_times(path)
    assert light.digests == whole.digests
    for ours, theirs in zip(light.measurements, whole.measurements, strict=True):
        names = ("case", "status", "slots", "warnings", "reason", "input_digest")
        assert [getattr(ours, name) for name in names] == [getattr(theirs, name) for name in names]
        assert list(ours.samples_ns) == theirs.samples_ns
    assert not hasattr(light.measurements[0], "check")


def test_a_light_reading_says_what_a_run_was_cut_off_at(path: Path) -> None:
    lines = [lines_of_a_run()[0], *(msgspec.to_builtins(part(number)) for number in range(3))]
    path.write_bytes(forged(lines))
    assert "3 parts of measurements" in str(store.read(path).warning)
    assert store.read_times(path).warning == store.read(path).warning


def test_a_light_reading_sees_edits_too(path: Path) -> None:
    path.write_bytes(
        forged(lines_of_a_run()).replace(b'"tolerance"', b'"tolerence"').replace(b'"before":true', b'"before":false')
    )
    with pytest.raises(UserError, match="line 2"):
        store.read_times(path)

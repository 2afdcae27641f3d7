import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from results import record, store
from tests.results.conftest import WriteRun, ceilings, failed, measurement, run_header
from workloads.case import UserError

END = "2030-01-02T03:05:05Z"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A run file of six lines: header, two ceilings, two measurements, end."""
    path = tmp_path / "quick.jsonl"
    with store.Writer(path) as writer:
        for line in (run_header(), *ceilings()[:2], measurement(), failed()):
            writer.append(line)
        writer.append(record.End(lines=5, ended_utc=END))
    return path


def cut(path: Path, lines: int, rest: bytes = b"") -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:lines]) + rest)


def edit(path: Path, number: int, **changes: Any) -> None:
    """Changes a line and leaves all digests as they are."""
    lines = path.read_text().splitlines(keepends=True)
    lines[number - 1] = json.dumps(json.loads(lines[number - 1]) | changes) + "\n"
    path.write_text("".join(lines))


def chain(path: Path) -> None:
    """Gives every line the digest it should have: a forgery."""
    previous, lines = "", []
    for text in path.read_text().splitlines():
        line = json.loads(text)
        line.pop("line_sha256", None)
        previous = hashlib.sha256((store.canonical(line) + previous).encode()).hexdigest()
        lines.append(json.dumps(line | {"line_sha256": previous}) + "\n")
    path.write_text("".join(lines))


def test_what_was_written_is_read(path: Path) -> None:
    found = store.read(path)
    assert (found.stem, found.lines, found.torn, found.complete) == ("quick", 6, False, True)
    assert found.run == run_header()
    assert list(found.ceilings) == ceilings()[:2]
    assert list(found.measurements) == [measurement(), failed()]
    assert found.warning is None


def test_each_line_digests_itself_and_the_line_before(path: Path) -> None:
    previous = ""
    for text in path.read_text().splitlines():
        line = json.loads(text)
        digest = line.pop("line_sha256")
        body = json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        previous = hashlib.sha256((body + previous).encode()).hexdigest()
        assert digest == previous
        assert text.endswith(f',"line_sha256":"{digest}"}}')


@given(st.text(), st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**53), 2**53))
def test_any_environment_survives(tmp_path_factory: pytest.TempPathFactory, text: str, real: float, whole: int) -> None:
    path = tmp_path_factory.mktemp("runs") / "run.jsonl"
    header = run_header(environment={"text": text, "real": real, "whole": whole, "nested": {text: [real]}})
    with store.Writer(path) as writer:
        writer.append(header)
    assert store.read(path).run == header


def test_text_that_is_no_unicode_does_not_cost_the_record(tmp_path: Path) -> None:
    with store.Writer(tmp_path / "run.jsonl") as writer:
        writer.append(run_header())
        writer.append(failed("crashed", "stderr: \udce4"))
    assert store.read(tmp_path / "run.jsonl").measurements[0].reason == "stderr: ?"


def test_numbers_that_are_none_are_refused_before_the_file_is_touched(tmp_path: Path) -> None:
    with store.Writer(tmp_path / "run.jsonl") as writer, pytest.raises(ValueError, match="JSON"):
        writer.append(run_header(environment={"nan": float("nan")}))
    assert (tmp_path / "run.jsonl").read_bytes() == b""


# ---- what a kill leaves


@given(keep=st.integers(1, 5), share=st.floats(0, 1, exclude_max=True))
def test_a_kill_at_any_byte_costs_the_line_under_way_at_most(
    tmp_path_factory: pytest.TempPathFactory, keep: int, share: float
) -> None:
    path = tmp_path_factory.mktemp("runs") / "run.jsonl"
    with store.Writer(path) as writer:
        for line in (run_header(), *[measurement(n) for n in (1, 2, 3, 4, 5)]):
            writer.append(line)
    under_way = path.read_bytes().splitlines(keepends=True)[keep]
    cut(path, keep, under_way[: int(share * len(under_way))])
    found = store.read(path)
    assert [m.samples_ns[0] for m in found.measurements] == list(range(1, keep))
    assert not found.complete and found.warning


def test_a_missing_end_is_said_once(path: Path) -> None:
    cut(path, 5)
    assert store.read(path).warning == "quick was cut off: 2 measurements are intact; --resume finishes it"


def test_a_torn_last_line_is_left_out_and_said(path: Path) -> None:
    cut(path, 4, b'{"kind":"measurem')
    found = store.read(path)
    assert found.torn and len(found.measurements) == 1
    assert "torn last line" in str(found.warning)


def test_resuming_takes_the_torn_line_off_and_goes_on_with_the_chain(path: Path) -> None:
    whole = path.read_bytes()
    cut(path, 4, b'{"kind":"measurem')
    with store.Writer(path, resume=True) as writer:
        assert writer.resumed and writer.resumed.measurements == (measurement(),)
        writer.append(failed())
        writer.append(record.End(lines=writer.lines, ended_utc=END))
    assert path.read_bytes() == whole


def test_resuming_an_interrupted_run_takes_its_end_off(path: Path) -> None:
    cut(path, 4)
    with store.Writer(path, resume=True) as writer:
        writer.append(record.End(lines=4, ended_utc=END, interrupted=True))
    assert not store.read(path).complete
    with store.Writer(path, resume=True) as writer:
        writer.append(failed())
        writer.append(record.End(lines=5, ended_utc=END))
    assert store.read(path).complete


def test_a_complete_run_is_not_resumed(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(UserError, match="complete, there is nothing to resume"):
        store.Writer(path, resume=True)
    assert path.read_bytes() == before


# ---- what is refused


def test_an_existing_file_is_never_clobbered(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"quick.jsonl exists: --resume .* --force"):
        store.Writer(path)
    assert path.read_bytes() == before


def test_force_replaces_a_file(path: Path) -> None:
    with store.Writer(path, force=True) as writer:
        writer.append(run_header())
    assert store.read(path).lines == 1


def test_two_runs_do_not_write_one_file(path: Path) -> None:
    cut(path, 4)
    with store.Writer(path, resume=True), pytest.raises(UserError, match="written by another run"):
        store.Writer(path, resume=True)


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write run.jsonl: .*; name another file with -o"):
        store.Writer(tmp_path / "file" / "run.jsonl")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not there"):
        store.read(tmp_path / "run.jsonl")
    with pytest.raises(UserError, match="cannot read"):
        store.read(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"hello\n", b"[1, 2]\n", b'{"kind":"end"}\n', b"\xff\xfe\x00\n", b'{"kind":"ru']
)
def test_a_file_from_elsewhere_is_no_run_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=r"other.jsonl is not a moemark run file"):
        store.read(tmp_path / "other.jsonl")


def test_an_edited_line_is_named(path: Path) -> None:
    edit(path, 4, samples_ns=[1] * 48)
    with pytest.raises(UserError, match="line 4: its line_sha256 does not fit"):
        store.read(path)


def test_a_lost_line_is_named(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2] + lines[3:]))
    with pytest.raises(UserError, match="line 3: its line_sha256 does not fit"):
        store.read(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples_ns": ["fast"]}, r"Expected `int`, got `str` - at `\$.samples_ns\[0\]`"),
        ({"status": "great"}, r"Invalid enum value 'great' - at `\$.status`"),
        ({"status": "wrong"}, "status 'wrong' must not carry samples"),
        ({"slots": [0]}, "as many slots as samples"),
        ({"speed": 1}, "unknown field `speed`"),
        ({"kind": "rumour"}, "Invalid value 'rumour'"),
    ],
)
def test_a_bad_line_is_named_with_the_path_to_the_field(path: Path, changes: dict[str, Any], message: str) -> None:
    edit(path, 4, **changes)
    with pytest.raises(UserError, match=f"quick.jsonl, line 4: .*{message}"):
        store.read(path)


def test_a_damaged_line_in_the_middle_is_no_kill(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], lines[3][:40] + b"\n", *lines[4:]]))
    with pytest.raises(UserError, match="line 4: not a JSON object, and not the last line"):
        store.read(path)


def test_a_wrong_count_in_end_is_named(path: Path) -> None:
    edit(path, 6, lines=9)
    chain(path)
    with pytest.raises(UserError, match="line 6: `end` counts 9 lines before it, there are 5"):
        store.read(path)


def test_nothing_follows_the_end_and_there_is_one_header(path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines, lines[3]]))
    with pytest.raises(UserError, match="line 7: a line after `end`"):
        store.read(path)
    path.write_text("".join([*lines[:2], lines[0]]))
    with pytest.raises(UserError, match="line 3: a second run header"):
        store.read(path)


def test_a_newer_schema_says_which_moemark_reads_it(path: Path) -> None:
    edit(path, 1, schema_version=99, moemark_version="7.0.0", new_field=1)
    with pytest.raises(UserError, match=r"schema version 99, .* read it with moemark 7.0.0 or newer"):
        store.read(path)


# ---- the schema


def test_the_schema_describes_the_lines(write_run: WriteRun) -> None:
    found = store.schema()
    assert set(found["$defs"]) >= {"Run", "Ceiling", "Measurement", "End"}
    properties = found["$defs"]["Measurement"]["properties"]
    fields = {field.encode_name for field in msgspec.structs.fields(record.Measurement)}
    assert set(properties) == {"kind", "line_sha256"} | fields
    json.dumps(found)

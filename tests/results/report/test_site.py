"""A folder of records as a site: who is ranked, by what, and what is never."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from results.record import Power, Readings
from results.report import leaderboard, page
from results.report.ranking import Record, entries_of, ranked
from results.report.rows import Cell, Flat
from results.report.shown import shown
from results.report.site import MANIFEST, write_site
from results.report.trust import Judge, Trust, judged
from results.store import RunFile
from tests.results.conftest import OLMOE, WriteRun, failed, measurement, run_header
from tests.results.report.test_report import Page
from workloads.case import UserError

SUSTAINED = measurement().case.replace("latency", "sustained")


def trusted(_: RunFile) -> Trust:
    return Trust(True)


def all_but(stem: str) -> Judge:
    return lambda run: Trust(run.stem != stem, "line 7: digest: does not fit")


@pytest.fixture(autouse=True)
def _small_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "plotly", lambda: page.Script("/* plotly */"))


def gpu(name: str, **changes: Any) -> Any:
    facts = {"name": name, "unit": "gpu", "device_id": "gpu 0"}
    return run_header(
        ["torch:cuda"], environment={"machine": {"cpu": "Test CPU"}, "targets": {"torch:cuda": facts}}, **changes
    )


def sustained() -> Any:
    """16 tokens a 1 ms call; 200 W over 100 s are 80 tokens/J."""
    readings = Readings(at_ns=[0, 100 * 10**9], power_w=[200.0, 200.0])
    power = Power(source="nvml", scope="gpu", idle=readings, loaded=readings)
    windows: dict[str, Any] = {"samples_ns": [10**9] * 70, "slots": None, "calls_per_sample": 1000}
    return measurement(case=SUSTAINED, target="torch:cuda", power=power, **windows)


def records(*run_files: RunFile, judge: Judge = trusted) -> list[Record]:
    return [Record(run, f"runs/{number}.html", judge(run.run_file)) for number, run in enumerate(shown(run_files))]


def places(*run_files: RunFile, division: str = "closed", judge: Judge = trusted) -> list[tuple[int, str, str]]:
    found = ranked(entries_of(records(*run_files, judge=judge)), division)
    return [(place.rank, place.entry.device.name, place.entry.shown.line.implementation) for place in found]


def test_devices_are_ranked_by_their_fastest_exact_implementation(write_run: WriteRun) -> None:
    slow = write_run(measurement(), measurement(900_000, implementation="grouped", division="closed"))
    fast = write_run(measurement(500_000, target="torch:cuda"), header=gpu("NVIDIA H200"), name="gpu")
    assert places(slow, fast) == [(1, "NVIDIA H200", "sorted"), (2, "Test CPU, 2 cores", "grouped")]


def test_portable_closed_and_open_stand_apart(write_run: WriteRun) -> None:
    lines = [
        measurement(),
        measurement(900_000, implementation="grouped", division="closed"),
        measurement(100_000, implementation="cheap", division="open"),
    ]
    run = write_run(*lines)
    assert [name for *_, name in places(run, division="portable")] == ["sorted"]
    assert [name for *_, name in places(run, division="closed")] == ["grouped"]
    assert [name for *_, name in places(run, division="open")] == ["cheap"]


def test_of_several_runs_of_a_device_the_median_counts(write_run: WriteRun) -> None:
    runs = [write_run(measurement(ns), name=f"run{ns}") for ns in (3_000_000, 1_000_000, 2_000_000)]
    (place,) = ranked(entries_of(records(*runs)), "closed")
    assert (place.entry.ns, place.runs) == (2_000_000, 3)


def test_what_is_not_verified_is_never_ranked(write_run: WriteRun) -> None:
    run, liar = write_run(measurement()), write_run(measurement(1_000, target="ort:cpu"), name="liar")
    assert [rank for rank, *_ in places(run, liar, judge=all_but("liar"))] == [1]
    assert places(run, liar, judge=lambda _: Trust(False, "no")) == []


def test_hosts_with_other_numbers_of_cores_are_other_devices(write_run: WriteRun) -> None:
    machine = {"cpu": "Test CPU", "cores_usable": 64}
    facts = {"torch:cpu": {"name": "Test CPU", "unit": "host", "device_id": "cpu"}}
    large = write_run(
        measurement(1000), header=run_header(environment={"machine": machine, "targets": facts}), name="large"
    )
    assert {name for _, name, _ in places(write_run(measurement()), large)} == {
        "Test CPU, 2 cores",
        "Test CPU, 64 cores",
    }


def nameless(cpu: str) -> Any:
    facts = {"ort:cuda": {"name": "cuda", "unit": "device", "device_id": "cuda:0"}}
    return run_header(["ort:cuda"], environment={"machine": {"cpu": cpu}, "targets": facts})


def test_devices_that_no_runtime_names_are_not_one_device(write_run: WriteRun) -> None:
    slow = write_run(measurement(target="ort:cuda"), header=nameless("A CPU"), name="slow")
    fast = write_run(measurement(500_000, target="ort:cuda"), header=nameless("B CPU"), name="fast")
    assert places(slow, fast) == [(1, "cuda of B CPU", "sorted"), (2, "cuda of A CPU", "sorted")]


def test_watts_and_dollars_are_those_of_record_and_datasheet_or_absent(write_run: WriteRun) -> None:
    """80 tokens/J are measured. H200: 700 W, 2.50 to 7 $ an hour."""
    known = write_run(sustained(), header=gpu("NVIDIA H200"), name="known")
    (entry,) = entries_of(records(known))
    assert entry.tokens_per_joule == pytest.approx(80)
    assert entry.tokens_per_s_per_tdp_w == pytest.approx(16_000 / 700)
    assert entry.usd_per_million_tokens == pytest.approx((2.5e6 / 3600 / 16_000, 7e6 / 3600 / 16_000))
    (unknown,) = entries_of(records(write_run(measurement())))
    assert (unknown.tokens_per_joule, unknown.tokens_per_s_per_tdp_w, unknown.usd_per_million_tokens) == (
        None,
        None,
        None,
    )


def cells(table: Flat) -> list[dict[str, Cell]]:
    """The rows of a table, each by the names of its columns."""
    names = [column.name for column in table.columns]
    return [dict(zip(names, row, strict=True)) for row in table.rows]


def ranking(run: RunFile) -> list[dict[str, Cell]]:
    """The places of a run of one case, exact work, as its page has them."""
    entries = entries_of(records(run))
    devices = {one.device.name: "devices/one.html" for one in entries}
    return cells(leaderboard.rank_rows("", ranked(entries, "closed"), devices))


def test_a_ranking_tells_under_which_warnings_a_time_was_taken(write_run: WriteRun) -> None:
    contended = measurement(warnings=["contended", "noisy"])
    first, second = ranking(write_run(contended, measurement(2_000_000, target="ort:cpu")))
    assert (first["warnings"].text, second["warnings"].text) == ("contended, noisy", "")
    (clean,) = ranking(write_run(measurement(), name="clean"))
    assert "warnings" not in clean


def test_a_ranking_tells_what_tokens_per_joule_are_of(write_run: WriteRun) -> None:
    (row,) = ranking(write_run(sustained(), header=gpu("NVIDIA H200")))
    assert row["tokens/J, measured"].text == "80.0 (gpu)"


SHARES = ("ep32/t1/fp32/zipf1.0/latency", "ep32-median/t1/fp32/zipf1.0/latency+s7")


def test_the_index_tells_cases_apart_and_counts_devices_not_targets(write_run: WriteRun) -> None:
    shares = [measurement(case=f"moe-layer/deepseek-v4-flash/{share}") for share in SHARES]
    entries = entries_of(records(write_run(*shares, measurement(case=shares[0].case, target="ort:cpu"))))
    by_case = {line.case: [one for one in entries if one.shown.line.case == line.case] for line in shares}
    rows = cells(leaderboard.case_rows(by_case, dict.fromkeys(by_case, "x"), {entries[0].device.name: "y"}))
    assert [(row["EP"].text, row["seed"].text) for row in rows] == [("32", "0"), ("32-median", "7")]
    assert [(row["devices"].text, row["devices"].value) for row in rows] == [("1", 1), ("1", 1)]


@pytest.fixture
def site(write_run: WriteRun, tmp_path: Path) -> Path:
    write_run(measurement(), measurement(900_000, implementation="grouped", division="closed"))
    write_run(measurement(500_000, target="torch:cuda"), header=gpu("NVIDIA H200"), name="gpu")
    write_run(measurement(1_000), failed(target="ort:cpu"), name="liar")
    (tmp_path / "notes.jsonl").write_text("no record")
    (tmp_path / "again.jsonl").write_bytes((tmp_path / "base.jsonl").read_bytes())
    return write_site(tmp_path, tmp_path / "site", judge=all_but("liar")).parent


def test_a_site_has_an_index_and_a_page_for_every_run_case_and_device(site: Path) -> None:
    names = sorted(str(path.relative_to(site)) for path in site.rglob("*") if path.is_file())
    rooms = [name.split("/")[0] for name in names if "/" in name]
    assert (rooms.count("runs"), rooms.count("cases"), rooms.count("devices")) == (3, 1, 2)
    assert {name for name in names if "/" not in name} == {"index.html", "plotly.min.js", MANIFEST}


def test_every_link_of_a_site_leads_to_a_page_of_it(site: Path) -> None:
    links = [
        (path, str(attributes["href"]))
        for path in site.rglob("*.html")
        for tag, attributes in Page(path.read_text()).tags
        if tag == "a"
    ]
    beside = [(path, link) for path, link in links if not link.startswith("#")]
    assert len(beside) > 10
    assert all((path.parent / link).resolve().is_file() for path, link in beside)


def test_the_index_lists_the_unverified_apart_with_the_reason(site: Path) -> None:
    text = Page((site / "index.html").read_text()).text
    assert "from 3 records, 2 of them verified" in text
    apart = text[text.index("Not ranked") :]
    assert "liar" in apart and "line 7: digest: does not fit" in apart
    assert "the same record as again" in apart and "notes.jsonl" in apart


def test_warnings_of_a_verified_record_are_passed_on(write_run: WriteRun, tmp_path: Path) -> None:
    write_run(measurement())
    write_site(tmp_path, tmp_path / "site", judge=lambda _: Trust(True, "line 3, monotone: more in less"))
    pages = [
        tmp_path / "site" / "index.html",
        *(tmp_path / "site").glob("devices/*"),
        *(tmp_path / "site").glob("runs/*"),
    ]
    assert len(pages) == 3
    for path in pages:
        text = Page(path.read_text()).text
        assert "line 3, monotone: more in less" in text and "not ranked" not in text.lower()


def test_a_case_page_ranks_and_keeps_the_unverified_apart(site: Path) -> None:
    (path,) = (site / "cases").iterdir()
    text = Page(path.read_text()).text
    assert text.index("NVIDIA H200") < text.index("Test CPU, 2 cores") < text.index("Records that are not verified")
    assert "liar" not in text[: text.index("Not ranked")] and "liar" in text
    assert "2.5 .. 7 $ an hour, on-demand, 2026-05" in text


def test_tables_of_a_site_have_an_end_and_say_so(
    write_run: WriteRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three records on three devices of one case that they share, and of one each."""
    monkeypatch.setattr("results.report.site.MOST_ROWS", 2)
    for number in range(3):
        cases = [OLMOE.replace("t16", f"t{tokens}") for tokens in (16, 1 + number)]
        lines = [measurement(10**6 + number, target="torch:cuda", case=case) for case in cases]
        write_run(*lines, header=gpu(f"Device {number}"), name=f"run{number}")
        (tmp_path / f"notes{number}.jsonl").write_text("no record")
    site = write_site(tmp_path, tmp_path / "site", judge=trusted).parent
    index, case = (Page(path.read_text()).text for path in (site / "index.html", *(site / "cases").glob("*-t16-*")))
    assert "The first 2 of 4 rows" in index and index.count("The first 2 of 3 rows") == 2
    assert "notes1.jsonl" in index and "notes2.jsonl" not in index and "1 more" in index
    assert "The first 2 of 3 rows" in case and "Device 1" in case and "Device 2" not in case


def test_pages_of_a_site_share_one_script_and_load_nothing_else(site: Path) -> None:
    for path in site.rglob("*.html"):
        sources = [attributes.get("src") for tag, attributes in Page(path.read_text()).tags if tag == "script"]
        assert set(sources) <= {None, "../plotly.min.js"}
        policy = re.search(r"style-src ([^;]*);", unescape(path.read_text()))
        assert policy and ("unsafe" in policy[1]) == (path.parent.name == "runs")


def test_writing_it_again_removes_only_pages_of_ours(site: Path, tmp_path: Path) -> None:
    (site / "cases" / "mine.txt").write_text("keep")
    manifest = json.loads((site / MANIFEST).read_text())
    (site / MANIFEST).write_text(json.dumps({"pages": [*manifest["pages"], "../base.jsonl", "runs/../../base.jsonl"]}))
    (tmp_path / "gpu.jsonl").unlink()
    write_site(tmp_path, site, judge=trusted)
    assert (tmp_path / "base.jsonl").is_file() and (site / "cases" / "mine.txt").is_file()
    assert len(list((site / "runs").iterdir())) == 2 and len(list((site / "devices").iterdir())) == 1


def test_a_folder_of_something_else_is_not_written_into(write_run: WriteRun, tmp_path: Path) -> None:
    write_run(measurement())
    with pytest.raises(UserError, match="holds something else than a site: name another folder with -o"):
        write_site(tmp_path, tmp_path)
    with pytest.raises(UserError, match="is a file"):
        write_site(tmp_path, tmp_path / "base.jsonl")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="holds no run file"):
        write_site(empty, tmp_path / "site")


def test_a_record_that_nothing_verified_is_not_verified(write_run: WriteRun) -> None:
    """The planted one has no right digests of its case, so that a verifier finds something too."""
    found = judged(write_run(measurement()))
    assert not found.verified and found.reason

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from results import read
from results.report import html, plots, write_report
from results.report.answer import answer
from results.report.facts import command
from tests.results.conftest import WriteRun, ceilings, failed, measurement, run_header
from workloads.case import UserError

FLASH = "moe-layer/deepseek-v4-flash/ep32/t{}/fp32/zipf1.0/latency"
NASTY = '</script><img src="x" onerror="alert(1)">{{ 7*7 }}'


class Page(HTMLParser):
    """Tags, and the text outside of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._silent = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._silent = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._silent = self._silent and tag not in ("script", "style")

    def handle_data(self, data: str) -> None:
        self.text += "" if self._silent else data


@pytest.fixture(autouse=True)
def _small_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five megabytes of Plotly would only slow the parser down."""
    monkeypatch.setattr(plots, "script", lambda: "/* plotly */")


def test_the_answer_comes_first(write_run: WriteRun) -> None:
    text = Page(html([write_run(*ceilings(), measurement())])).text
    assert text.index("16.0k tokens/s") < text.index("All measurements")


def test_the_headline_is_the_claimed_models_layer_at_most_tokens(write_run: WriteRun) -> None:
    lines = [measurement(), *(measurement(case=FLASH.format(t)) for t in (1, 64, 16))]
    found = answer(write_run(*lines))
    assert "EP-32 share of DeepSeek-V4-Flash" in found.work and "64 tokens a call" in found.work
    assert found.label == "compute only, without dispatch and combine"


def test_the_machine_is_its_accelerators_else_its_cpu(write_run: WriteRun) -> None:
    assert answer(write_run(measurement())).machine == "Test CPU, 2 cores"
    facts = {"torch:cuda": {"name": "NVIDIA H200"}, "ort:cuda": {"name": "cuda"}}
    header = run_header(list(facts), environment={"machine": {"cpu": "Test CPU"}, "targets": facts})
    assert answer(write_run(failed(), header=header, name="gpu")).machine == "NVIDIA H200"


def test_a_faster_exact_implementation_is_the_headline_not_the_portable_one(write_run: WriteRun) -> None:
    fast = measurement(500_000, implementation="grouped", division="closed")
    cheat = measurement(100_000, implementation="cheap", division="open")
    (line,) = answer(write_run(measurement(), fast, cheat)).lines
    assert line.rate == "32.0k tokens/s" and line.detail.startswith("grouped")


def test_a_run_without_a_number_says_so(write_run: WriteRun) -> None:
    text = Page(html([write_run(failed())])).text
    assert "No case ended with a right answer" in text
    assert "fp16 is upcast to fp32" in text


def test_nothing_of_a_record_becomes_markup(write_run: WriteRun) -> None:
    header = run_header(selection=[NASTY], environment={"machine": {"cpu": NASTY}}, targets=["torch:cpu", NASTY])
    lines = [failed("crashed", NASTY), measurement(target=NASTY, implementation=NASTY, warnings=[NASTY])]
    page = html([write_run(*lines, header=header, name="run")])
    found = Page(page)
    assert not [tag for tag, _ in found.tags if tag == "img"]
    assert len([tag for tag, _ in found.tags if tag == "script"]) == page.count("</script>") == 2
    assert "{{ 7*7 }}" in found.text and "onerror" in found.text


def test_the_page_loads_nothing(write_run: WriteRun) -> None:
    found = Page(html([write_run(*ceilings(), measurement())]))
    assert not [attributes for _, attributes in found.tags if {"src", "href"} & set(attributes)]
    policies = [a["content"] for tag, a in found.tags if tag == "meta" and "http-equiv" in a]
    assert policies and str(policies[0]).startswith("default-src 'none'")


def test_a_cut_off_run_is_marked(write_run: WriteRun, tmp_path: Path) -> None:
    write_run(measurement())
    path = tmp_path / "base.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert "base was cut off: 1 measurements are intact" in Page(html([read(path)])).text


def test_two_runs_are_compared(write_run: WriteRun) -> None:
    text = Page(html([write_run(measurement()), write_run(measurement(), name="new")])).text
    assert "new against base" in text and "geometric mean of 1" in text


def test_runs_of_different_work_say_so(write_run: WriteRun) -> None:
    other = measurement(case=FLASH.format(1))
    text = Page(html([write_run(measurement()), write_run(other, name="new")])).text
    assert "base and new have no comparable case" in text


def test_the_command_repeats_the_run(write_run: WriteRun) -> None:
    options: dict[str, str | int | float | bool | list[str] | None] = {
        "precision": 0.02,
        "budget_s": 5.0,
        "implementations": ["sorted"],
        "shared_host": True,
    }
    run = write_run(measurement(), header=run_header(selection=["moe-layer/*/t1/*"], options=options))
    assert command(run) == (
        "moemark run 'moe-layer/*/t1/*' --target torch:cpu --target ort:cpu --implementation sorted"
        " --precision 2% --budget 5s --shared-host"
    )


def test_digests_and_environment_are_in_the_page(write_run: WriteRun) -> None:
    run = write_run(measurement())
    page = html([run])
    assert "Test CPU" in page and measurement().case_digest in page and "d" * 64 in page and run.digests[0] in page


def test_the_plots_hold_every_target_and_the_ceilings(write_run: WriteRun) -> None:
    run = write_run(*ceilings(), measurement(), measurement(target="ort:cpu"), failed(case=FLASH.format(1)))
    latency, roofline = plots.latency_json([run]), plots.roofline_json([run])
    layers = ["olmoe-1b-7b · torch:cpu", "olmoe-1b-7b · ort:cpu"]
    assert [trace["name"] for trace in json.loads(latency)["data"]] == [f"{name} · fp32" for name in layers]
    assert [trace["name"] for trace in json.loads(roofline)["data"]] == ["cpu · ceiling fp32", *layers]
    assert not re.search(r"[<>&]", latency + roofline)


def test_the_roof_bends_where_memory_just_feeds_the_gemm(write_run: WriteRun) -> None:
    """10 GB/s and 0.1 TFLOP/s meet at 10 FLOP a byte."""
    run = write_run(*ceilings(), measurement())
    roof = json.loads(plots.roofline_json([run]))["data"][0]
    assert (roof["x"][1], roof["y"][1]) == (pytest.approx(10), pytest.approx(0.1))
    assert roof["y"][0] == pytest.approx(roof["x"][0] * 10 / 1000)


def test_a_run_without_numbers_has_empty_plots(write_run: WriteRun) -> None:
    run = write_run(failed())
    assert '"data":[]' in plots.latency_json([run]) and '"data":[]' in plots.roofline_json([run])


def test_a_report_is_written_and_a_bad_path_named(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run(measurement())
    assert write_report([run], tmp_path / "site" / "report.html").read_text().startswith("<!doctype html>")
    with pytest.raises(UserError, match=r"cannot write base.jsonl: .* -o"):
        write_report([run], tmp_path / "base.jsonl" / "base.jsonl")
    with pytest.raises(UserError, match="at least one run"):
        html([])

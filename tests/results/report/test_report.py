import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from harness.job import recorded_options
from harness.plan import Options
from results import read
from results.record import Ranks
from results.report import html, page, plots, roofline, spread, write_report
from results.report.answer import Answer, answer, claims
from results.report.facts import citation, command, unheld
from results.report.shown import Shown, fastest_of_each, shown, thinned
from results.report.sides import contest
from results.report.text import LONGEST
from results.store import RunFile
from tests.results.conftest import OLMOE, WriteRun, ceilings, failed, measurement, run_header, several
from tests.results.report.hostile import SKEW
from workloads.case import UserError
from workloads.suite import load_suite

FLASH = "moe-layer/deepseek-v4-flash/ep32/t{}/fp32/zipf1.0/latency"


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
    monkeypatch.setattr(page, "plotly", lambda: page.Script("/* plotly */"))


def answer_of(run_file: RunFile) -> Answer:
    return answer(shown([run_file])[0])


def points_of(*run_files: RunFile) -> tuple[list[Shown], plots.Style]:
    points = fastest_of_each(one for run in shown(run_files) for one in run.lines)
    return points, plots.Style(points, len(run_files) > 1)


def test_the_answer_comes_first(write_run: WriteRun) -> None:
    text = Page(html([write_run(*ceilings(), measurement())])).text
    assert text.index("16.0k tokens/s") < text.rindex("All measurements")


def test_the_headline_is_the_claimed_models_layer_at_most_tokens(write_run: WriteRun) -> None:
    lines = [measurement(), *(measurement(case=FLASH.format(t)) for t in (1, 64, 16))]
    found = answer_of(write_run(*lines))
    assert "EP-32 share of DeepSeek-V4-Flash" in found.work and "64 tokens a call" in found.work
    assert "compute only, without dispatch and combine" in found.label


def test_the_machine_is_its_accelerators_else_its_cpu(write_run: WriteRun) -> None:
    assert answer_of(write_run(measurement())).machine == "Test CPU, 2 cores"
    here = {"device_id": "cuda:0"}
    facts = {"torch:cuda": here | {"name": "NVIDIA H200"}, "ort:cuda": here | {"name": "cuda"}}
    header = run_header(list(facts), environment={"machine": {"cpu": "Test CPU"}, "targets": facts})
    assert answer_of(write_run(failed(), header=header, name="gpu")).machine == "NVIDIA H200"


def test_a_faster_exact_implementation_is_the_headline_not_the_portable_one(write_run: WriteRun) -> None:
    fast = measurement(500_000, implementation="grouped", division="closed")
    cheat = measurement(100_000, implementation="cheap", division="open")
    (line,) = answer_of(write_run(measurement(), fast, cheat)).rates
    assert line.rate == "32.0k tokens/s" and line.detail.startswith("grouped")


def test_a_run_without_a_number_says_so(write_run: WriteRun) -> None:
    text = Page(html([write_run(failed())])).text
    assert "No case ended with a right answer" in text
    assert "fp16 is upcast to fp32" in text


def test_the_page_loads_nothing(write_run: WriteRun) -> None:
    found = Page(html([write_run(*ceilings(), measurement())]))
    addresses = [a[name] for _, a in found.tags for name in ("src", "href") if name in a]
    assert all(str(address).startswith("#") for address in addresses)
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
    assert "new · torch:cpu and base · torch:cpu are equally fast" in text


def test_runs_of_different_work_say_so(write_run: WriteRun) -> None:
    other = measurement(case=FLASH.format(1))
    text = Page(html([write_run(measurement()), write_run(other, name="new")])).text
    assert "base and new have no comparable case" in text


def test_the_command_repeats_the_run(write_run: WriteRun) -> None:
    times = {"budget_s": 5.0, "sustain_s": 90.5, "timeout_s": 1e6, "prepare_timeout_s": 60.0}
    options = Options(precision=0.02, **times, implementations=("sorted",), shared_host=True, nproc=8)
    header = run_header(selection=["moe-layer/*/t1/*"], options=recorded_options(options))
    assert command(write_run(measurement(), header=header)) == (
        "moemark run 'moe-layer/*/t1/*' --target torch:cpu --target ort:cpu --implementation sorted --precision 2%"
        " --budget 5s --sustain 90.5s --timeout 1000000s --prepare-timeout 60s --nproc 8 --shared-host"
    )


def test_the_command_repeats_several_processes(write_run: WriteRun) -> None:
    options = recorded_options(Options(processes=5))
    assert command(write_run(measurement(), header=run_header(options=options))).endswith(" --processes 5")


RANKS = Ranks(count=1, backend="gloo", hosts=2, shared_cpu=False, threads=[1], rows=[1], assignments=[1])
APART = {"targets": {"torch:cpu": {"own_interpreter": True}}}


@pytest.mark.parametrize(
    ("line", "changes", "said"),
    [
        ({}, {"selection": ["mine"]}, "mine is no suite of moemark's: write the path of its file."),
        (
            {},
            {"selection": ["quick"]},
            "quick is another one here: take moemark 0.1.0, or the path of its file if it was one.",
        ),
        ({}, {"environment": APART}, "torch:cpu ran under an interpreter of its own: write torch:cpu@INTERPRETER."),
        ({"ranks": RANKS}, {}, "The ranks were on 2 hosts: let torchrun start it there."),
    ],
)
def test_what_a_record_does_not_hold_of_its_command_is_said(
    write_run: WriteRun, line: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    run = write_run(measurement(**line), header=run_header(**({"selection": [OLMOE]} | changes)))
    always, *others = unheld(run)
    assert always.startswith("A record holds no paths") and others == [said]
    assert f"{always} {said}" in Page(html([run])).text


def test_a_suite_of_ours_is_known_by_its_name(write_run: WriteRun) -> None:
    header = run_header(selection=["quick"], selection_digest=load_suite("quick").digest)
    assert len(unheld(write_run(measurement(), header=header))) == 1


def test_command_and_citation_are_there_in_full(write_run: WriteRun) -> None:
    words = [FLASH.format(tokens) for tokens in range(1, 101)]
    run = write_run(measurement(), header=run_header(selection=words))
    text = Page(html([run])).text
    assert len(command(run)) > LONGEST
    assert command(run) in text and citation(run) in text


def test_digests_and_environment_are_in_the_page(write_run: WriteRun) -> None:
    run = write_run(measurement())
    page = html([run])
    assert "Test CPU" in page and measurement().case_digest in page and "d" * 64 in page and run.digests[0] in page


def test_the_answer_says_who_is_faster_and_how_sure_that_is(write_run: WriteRun) -> None:
    run = write_run(several(), several(2e6, target="ort:cpu"))
    found = contest(shown([run]))
    (slower,) = claims(found, 0)
    assert (slower.headline, slower.verdict) == ("ort:cpu is slower than torch:cpu", "slower")
    assert re.search(r"took (9\d|10\d)% more time \(95% interval: .* to .*\), in the one case", slower.detail)
    (faster,) = claims(found, 1)
    assert (faster.headline, faster.verdict) == ("torch:cpu is faster than ort:cpu", "faster")


def test_one_process_each_is_never_sure(write_run: WriteRun) -> None:
    (claim,) = claims(contest(shown([write_run(measurement(), measurement(900_000, target="ort:cpu"))])), 0)
    assert claim.headline == "Not sure whether ort:cpu or torch:cpu is faster"
    assert "10% less time" in claim.detail and "Why not sure: one process each" in claim.detail


def test_sides_meet_by_their_fastest_exact_implementations(write_run: WriteRun) -> None:
    fast = measurement(500_000, implementation="grouped", division="closed")
    cheat = measurement(100_000, implementation="cheap", division="open")
    found = contest(shown([write_run(measurement(), fast, cheat, measurement(target="ort:cpu"))]))
    assert [(row.side, row.implementation) for row in found.rows] == [(0, "grouped"), (1, "sorted")]
    assert [(cell.change, cell.verdict) for cell in found.cells(0)] == [("", "base"), ("+100.0%", "unsure")]
    assert [(cell.change, cell.verdict) for cell in found.cells(1)] == [("-50.0%", "unsure"), ("", "base")]


def test_a_side_without_a_time_says_why(write_run: WriteRun) -> None:
    run = write_run(
        measurement(), measurement(target="ort:cpu"), failed(target="torch:npu"), measurement(case=FLASH.format(1))
    )
    other = write_run(
        measurement(), failed(target="ort:cpu"), measurement(case=FLASH.format(1), target="ort:cpu"), name="new"
    )
    found = contest(shown([run, other]))
    cells = dict(zip([(row.case, row.side) for row in found.rows], found.cells(0), strict=True))
    assert cells[run.measurements[0].case, 3].reason == "unsupported: fp16 is upcast to fp32"


def test_two_files_of_one_name_are_told_apart(write_run: WriteRun, tmp_path: Path) -> None:
    first = write_run(measurement())
    assert [run.name for run in shown([first, first])] == ["base", "base (2)"]


def test_of_many_measurements_whole_cases_are_shown_and_the_page_says_so(write_run: WriteRun) -> None:
    lines = [
        measurement(case=FLASH.format(t), target=target) for t in range(1, 41) for target in ("torch:cpu", "ort:cpu")
    ]
    found = Page(html([write_run(*lines)], most=20))
    assert "20 of 80 measurements, one case in 4" in found.text
    assert sum(tag == "tr" and "data-row" in attributes for tag, attributes in found.tags) == 20


def test_of_a_case_that_stands_there_many_times_some_lines_are_shown(write_run: WriteRun) -> None:
    text = Page(html([write_run(*[measurement()] * 80)], most=20)).text
    assert "20 of 80 measurements, one case in 4, and of its lines one in 4" in text


@pytest.mark.parametrize(("cases", "each"), [(1, 1000), (2, 500), (10, 100), (1000, 1)])
def test_whatever_cases_lines_have_less_than_twice_as_many_are_taken_as_asked(cases: int, each: int) -> None:
    lines = [f"case {number}" for number in range(cases) for _ in range(each)]
    found = thinned(lines, 30)
    assert 0 < len([case for case in lines if case in found.cases][:: found.each]) < 60


def test_every_run_is_drawn_and_the_page_says_of_how_much(write_run: WriteRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("results.report.MOST_DRAWN", 10)
    lines = [measurement(case=FLASH.format(tokens)) for tokens in range(1, 11)]
    text = html([write_run(*lines), write_run(*lines, name="new")])
    assert "Of 20 times 10 are drawn, one case in 2; the tables hold them all." in text
    drawn = re.search(r'id="drawn">(.*?)</script>', text)
    assert drawn
    traces = {trace["name"].split(" · ")[0]: len(trace["x"]) for trace in json.loads(drawn[1])["latency"]["data"]}
    assert traces == {"base": 5, "new": 5}


def test_every_table_has_a_caption_and_headers_with_a_scope(write_run: WriteRun) -> None:
    run = write_run(*ceilings(), measurement(), measurement(target="ort:cpu"), failed(case=FLASH.format(1)))
    tags = Page(html([run, write_run(measurement(), name="new")])).tags
    assert sum(tag == "caption" for tag, _ in tags) == sum(tag == "table" for tag, _ in tags) > 5
    assert all("scope" in attributes for tag, attributes in tags if tag == "th")


def test_the_plots_hold_every_target_and_the_ceilings(write_run: WriteRun) -> None:
    run = write_run(*ceilings(), measurement(), measurement(target="ort:cpu"), failed(case=FLASH.format(1)))
    points, style = points_of(run)
    layers = ["olmoe-1b-7b · torch:cpu", "olmoe-1b-7b · ort:cpu"]
    for figure in (plots.latency(points, style), plots.throughput(points, style)):
        assert [trace["name"] for trace in figure.data] == [f"{name} · fp32" for name in layers]
    roofs = roofline.roofline(shown([run]), points, style)
    assert [trace["name"] for trace in roofs.data] == ["cpu · ceiling fp32", *layers]


def test_the_roof_bends_where_memory_just_feeds_the_gemm(write_run: WriteRun) -> None:
    """10 GB/s and 0.1 TFLOP/s meet at 10 FLOP a byte."""
    run = write_run(*ceilings(), measurement())
    roof = roofline.roofline(shown([run]), *points_of(run)).data[0]
    assert (roof["x"][1], roof["y"][1]) == (pytest.approx(10), pytest.approx(0.1))
    assert roof["y"][0] == pytest.approx(roof["x"][0] * 10 / 1000)


def test_routings_of_one_shape_are_joined_over_their_skew(write_run: WriteRun) -> None:
    even = measurement(case=measurement().case.replace("zipf1.0", "balanced"), skew=replace(SKEW, hotspot_ratio=1.0))
    run = write_run(measurement(2_000_000, skew=SKEW), even, measurement(case=FLASH.format(1), skew=SKEW))
    (trace,) = spread.skew(*points_of(run)).data
    assert (trace["x"], trace["y"]) == ([1.0, 2.0], [1.0, 2.0])


def test_only_earned_percentiles_are_drawn(write_run: WriteRun) -> None:
    (trace,) = spread.percentiles(*points_of(write_run(measurement()))).data
    assert trace["x"] == ["p10", "p25", "p50", "p75", "p90"] and set(trace["y"]) == {1.0}


def test_a_plot_without_data_says_why(write_run: WriteRun) -> None:
    text = Page(html([write_run(failed())])).text
    assert "No case has a time." in text and "the suite `skew` does that" in text


@pytest.mark.parametrize("paper", ["#ffffff", "#121519"])
@pytest.mark.parametrize("colour", [*plots.COLOURS, roofline._GREY])
def test_colours_of_plots_are_seen_on_light_and_on_dark_paper(colour: str, paper: str) -> None:
    """WCAG 2.2, 1.4.11: 3:1."""
    light = sorted((luminance(one) for one in (colour, paper)), reverse=True)
    assert (light[0] + 0.05) / (light[1] + 0.05) >= 3


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_citation_names_version_machine_and_the_digest_of_the_last_line(
    write_run: WriteRun, tmp_path: Path
) -> None:
    text = citation(write_run(measurement()))
    last = json.loads((tmp_path / "base.jsonl").read_text().splitlines()[-1])
    assert "moemark 0.1.0 (schema 2, method 1)" in text and "Test CPU, 2 cores" in text
    assert last["kind"] == "end" and text.endswith(f"last line SHA-256 {last['line_sha256']}.")


def test_a_report_is_written_and_a_bad_path_named(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run(measurement())
    assert write_report([run], tmp_path / "site" / "report.html").read_text().startswith("<!doctype html>")
    with pytest.raises(UserError, match=r"cannot write base.jsonl: .* -o"):
        write_report([run], tmp_path / "base.jsonl" / "base.jsonl")
    with pytest.raises(UserError, match="at least one run"):
        html([])

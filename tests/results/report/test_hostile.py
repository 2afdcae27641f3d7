"""Records come from strangers: whatever their strings say, a page has the same tags, and none of their bytes unescaped."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.exporting import export
from results.report import html, page
from results.report.site import write_site
from results.report.text import LONGEST, for_script, visible
from results.report.trust import Trust
from results.store import RunFile
from tests.results.report.hostile import NASTY, written

INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\ufffe\uffff]"
)


class Tags(HTMLParser):
    """Every tag with the names of its attributes, and the values of those that can act."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, ...]] = []
        self.acting: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, *(name for name, _ in attrs)))
        self.acting += [str(value) for name, value in attrs if name in ("href", "src", "style", "srcdoc")]


@pytest.fixture(autouse=True)
def _small_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five megabytes of Plotly would only slow the parser down."""
    monkeypatch.setattr(page, "plotly", lambda: page.Script("/* plotly */"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def nasty(folder: Path) -> RunFile:
    return written(folder / "<img src=x onerror=hacked>.jsonl", NASTY)


@pytest.fixture(scope="module")
def benign(folder: Path) -> RunFile:
    return written(folder / "benign.jsonl", "words")


def test_a_page_of_a_hostile_record_has_the_tags_of_a_harmless_one(nasty: RunFile, benign: RunFile) -> None:
    found, expected = Tags(html([nasty])), Tags(html([benign]))
    assert found.found == expected.found
    assert found.acting == expected.acting


def test_nothing_invisible_of_a_record_is_in_the_page(nasty: RunFile) -> None:
    text = html([nasty])
    assert not INVISIBLE.search(text)
    assert "\\u202e" in text and "\\u0000" in text
    text.encode()


@given(st.text(st.characters(codec="utf-8") | st.sampled_from("<>&\"'`/={}%\u202e\x00"), min_size=1, max_size=40))
@settings(max_examples=25)
def test_no_text_changes_the_tags(folder: Path, text: str) -> None:
    found, expected = (Tags(html([written(folder / "run.jsonl", one, count=1)])) for one in ("x" + text, "words"))
    assert found.found == expected.found and found.acting == expected.acting


def test_a_site_of_a_hostile_record_stays_inside_its_folder(nasty: RunFile, folder: Path, tmp_path: Path) -> None:
    site = tmp_path / "outer" / "site"
    write_site(folder, site, judge=lambda run: Trust(run.stem != "benign", NASTY))
    files = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()]
    assert files and all(re.fullmatch(r"outer/site/(\w+/)?[a-z0-9.-]+", name) for name in files)
    for path in site.rglob("*.html"):
        tags = {tag for tag, *_ in Tags(path.read_text()).found}
        assert not tags & {"img", "iframe", "textarea"}, path
        assert not INVISIBLE.search(path.read_text())


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n", "＝"])
def test_no_cell_of_the_csv_begins_like_a_formula(folder: Path, begin: str) -> None:
    formula = f'{begin}HYPERLINK("http://127.0.0.1:9/","x")'
    data = export(written(folder / "formula.jsonl", formula), "csv").decode()
    cells = [cell for row in csv.reader(io.StringIO(data, newline="")) for cell in row]
    assert any(cell == "'" + formula for cell in cells)
    assert not any(cell.startswith(begin) for cell in cells)


def test_json_in_a_page_cannot_end_its_tag() -> None:
    text = str(for_script({NASTY: [NASTY, float("inf"), None, True]}))
    assert not re.search(r"[<>&\u2028]", text) and "null" in text


def test_long_texts_are_cut_and_say_so() -> None:
    assert visible("a" * (LONGEST + 5)) == "a" * LONGEST + " … (5 more characters)"


def test_what_scripts_a_page_may_run_is_named_by_their_hashes(benign: RunFile) -> None:
    text = html([benign])
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    script = dict(part.strip().split(" ", 1) for part in policy[1].replace("&#39;", "'").split(";"))["script-src"]
    assert "unsafe" not in script and script.count("'sha256-") == 3 == text.count("<script>")

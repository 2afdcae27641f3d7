"""The page as its readers have it: in a real headless Chromium."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from results.record import End
from results.report import write_report
from results.report.site import write_site
from results.report.trust import Trust
from results.store import Writer, read
from tests.results.conftest import OLMOE, ceilings, failed, measurement, run_header, several
from tests.results.report.hostile import ELSEWHERE, NASTY, SKEW, written

TOKENS = (1, 2, 16, 128)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of two targets, five processes each, and one that is hostile."""
    found = tmp_path_factory.mktemp("pages")
    for number, name in enumerate(("base", "new")):
        with Writer(found / f"{name}.jsonl") as writer:
            for line in (run_header(), *ceilings(), *_lines(1 - 0.1 * number)):
                writer.append(line)
            writer.append(End(lines=writer.lines, ended_utc="2030-01-02T03:05:05Z"))
    write_report([read(found / f"{name}.jsonl") for name in ("base", "new")], found / "report.html")
    write_report([written(found / "<img src=x onerror=hacked>.jsonl", NASTY)], found / "hostile.html")
    return found


def _lines(pace: float) -> Iterator[Any]:
    for tokens in TOKENS:
        for routing, ratio in (("zipf1.0", 2.0), ("balanced", 1.0)):
            case = OLMOE.replace("t16", f"t{tokens}").replace("zipf1.0", routing)
            skew = replace(SKEW, hotspot_ratio=ratio)
            for target, factor in (("torch:cpu", 1.0), ("ort:cpu", 1.5)):
                yield several(1e6 * pace * factor * (1 + tokens / 8), target=target, case=case, skew=skew)
    yield failed("crashed", "it fell over", case=OLMOE.replace("t16", "t4096"))


def open_page(browser: Any, path: Path, media: str = "screen", scheme: str = "light", width: int = 1280) -> None:
    """Loads a page anew under a medium, a colour scheme and a width; what was logged before is forgotten."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(path.as_uri())
    assert browser.execute_script("return document.documentElement.dataset.ready === ''")


def run(browser: Any, script: str, *arguments: Any) -> Any:
    return browser.execute_script(script, *arguments)


def scroll_through(browser: Any) -> None:
    """To the end, so that every plot is drawn."""
    browser.execute_async_script(
        """const done = arguments[0]; let at = 0;
        (function step() {
          window.scrollTo(0, at); at += 500;
          if (at < document.body.scrollHeight + 500) requestAnimationFrame(() => requestAnimationFrame(step));
          else setTimeout(done, 50);
        })();"""
    )


def console(browser: Any) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser")]


def requests(browser: Any) -> list[str]:
    """What the page asked for, itself included."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]


def column(browser: Any, name: str, table: str = "measurements") -> list[str]:
    """The cells of the rows that are seen."""
    return run(
        browser,
        """const table = document.getElementById(arguments[1]);
        const at = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent === arguments[0]);
        return [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => row.cells[at].textContent);""",
        name,
        table,
    )


def press(browser: Any, *keys: str) -> None:
    from selenium.webdriver import ActionChains, Keys

    for key in keys:
        ActionChains(browser).send_keys(getattr(Keys, key, key)).perform()


def test_everything_is_drawn_and_nothing_complained_of(browser: Any, folder: Path) -> None:
    open_page(browser, folder / "report.html")
    scroll_through(browser)
    drawn = run(
        browser, "return [...document.querySelectorAll('.plot')].map((p) => p.querySelectorAll('.point').length)"
    )
    assert len(drawn) == 5 and all(drawn)
    assert console(browser) == []
    assert requests(browser) == [(folder / "report.html").as_uri()]


CLICK = """[...document.querySelectorAll('#measurements thead button')].find((b) => b.textContent === arguments[0]).click();
return document.querySelector('#measurements [aria-sort]').getAttribute('aria-sort')"""


def test_readers_sort_by_figures_and_find_the_empty_last(browser: Any, folder: Path) -> None:
    open_page(browser, folder / "report.html")
    assert run(browser, CLICK, "tokens") == "ascending"
    assert column(browser, "tokens") == sorted(column(browser, "tokens"), key=int)
    assert run(browser, CLICK, "tokens") == "descending"
    assert column(browser, "tokens") == sorted(column(browser, "tokens"), key=int, reverse=True)
    for _ in range(2):
        run(browser, CLICK, "p50")
        assert column(browser, "p50")[-2:] == ["", ""]


def test_what_has_no_bound_is_last_whichever_way_readers_sort(browser: Any, tmp_path: Path) -> None:
    """One revolution of the ring has a time, and no interval."""
    unbounded = measurement(samples_ns=[10**6] * 16, slots=list(range(16)))
    bounded = [several(1e6, case=OLMOE.replace("t16", f"t{tokens}"), seed=tokens) for tokens in TOKENS]
    with Writer(tmp_path / "run.jsonl") as writer:
        for line in (run_header(), unbounded, *bounded):
            writer.append(line)
    open_page(browser, write_report([read(tmp_path / "run.jsonl")], tmp_path / "report.html"))
    for _ in range(2):
        run(browser, CLICK, "±95%")
        assert column(browser, "±95%")[-1] == "?"


def test_readers_filter_by_words_and_by_values(browser: Any, folder: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    open_page(browser, folder / "report.html")
    tools = browser.find_element(By.CSS_SELECTOR, "[data-tools=measurements]")
    tools.find_element(By.TAG_NAME, "input").send_keys("ORT:cpu balanced")
    assert set(column(browser, "target")) == {"ort:cpu"} and set(column(browser, "routing")) == {"balanced"}
    named = {
        label.text.split("\n")[0]: label.find_element(By.TAG_NAME, "select")
        for label in tools.find_elements(By.XPATH, "label[select]")
    }
    Select(named["run"]).select_by_visible_text("new")
    assert column(browser, "run") == ["new"] * len(TOKENS)
    assert tools.find_element(By.TAG_NAME, "output").text == "4 of 34 rows"
    tools.find_element(By.TAG_NAME, "button").click()
    assert len(column(browser, "run")) == 34


def test_readers_choose_the_baseline(browser: Any, folder: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    open_page(browser, folder / "report.html")

    def claims() -> list[str]:
        return [one.text for one in browser.find_elements(By.CSS_SELECTOR, "#claims strong")]

    assert claims()[0] == "base · ort:cpu is slower than base · torch:cpu"
    Select(browser.find_element(By.ID, "baseline")).select_by_visible_text("new · ort:cpu")
    assert claims()[0] == "base · torch:cpu is faster than new · ort:cpu"
    row = run(
        browser,
        "return [...document.querySelectorAll('#sides tr[data-row]')[0].cells].map((c) => c.textContent.trim())",
    )
    assert row[0] == "base · torch:cpu" and row[4].startswith("-") and row[6].startswith("faster")
    rows = run(
        browser, "return [...document.querySelectorAll('#sides tr[data-row]')].map((r) => r.cells[6].textContent)"
    )
    assert [row.strip() for row in rows].count("baseline") == 2 * len(TOKENS)


def test_readers_choose_what_is_plotted(browser: Any, folder: Path) -> None:
    open_page(browser, folder / "report.html")
    scroll_through(browser)
    choose = """const select = document.getElementById('case'); select.selectedIndex = arguments[0];
    select.dispatchEvent(new Event('change'));
    return document.getElementById('plot-percentiles').data.map((trace) => trace.meta.case)"""
    first, second = (set(run(browser, choose, at)) for at in (0, 1))
    assert len(first) == len(second) == 1 and first != second


def test_the_keyboard_reaches_everything_and_one_sees_where_it_is(browser: Any, folder: Path) -> None:
    open_page(browser, folder / "report.html")
    press(browser, "TAB")
    assert run(browser, "return document.activeElement.textContent") == "Skip to the answer"
    seen: list[str] = []
    for _ in range(40):
        press(browser, "TAB")
        where = run(
            browser,
            """const at = document.activeElement, style = getComputedStyle(at);
            const outlined = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
            return [at.tagName, at.id || at.textContent, outlined]""",
        )
        assert where[2], where
        seen.append(where[1])
        if where[1] == "tokens":
            break
    assert "baseline" in seen and "model" in seen
    press(browser, "ENTER")
    assert column(browser, "tokens") == sorted(column(browser, "tokens"), key=int)


@pytest.mark.parametrize("width", [320, 1280])
def test_the_page_fits_its_window(browser: Any, folder: Path, width: int) -> None:
    open_page(browser, folder / "report.html", width=width)
    scroll_through(browser)
    wide = """return [...document.body.querySelectorAll('*')]
      .filter((one) => !one.closest('.scroll, .plot, .skip') && one.getBoundingClientRect().right > innerWidth + 1)
      .map((one) => one.outerHTML.slice(0, 80))"""
    assert run(browser, wide) == []
    assert run(browser, "return document.scrollingElement.scrollWidth") <= width


CONTRAST = """
const parse = (text) => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
function behind(element) {
  for (let at = element; at; at = at.parentElement) {
    const colour = parse(getComputedStyle(at).backgroundColor);
    if (colour.length < 4 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
}
const worst = {};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.textContent.trim() || element.closest('script,noscript,svg,option')) continue;
  if (!element.checkVisibility()) continue;
  const pair = [light(parse(getComputedStyle(element).color)), light(behind(element))].sort((a, b) => b - a);
  const ratio = (pair[0] + 0.05) / (pair[1] + 0.05), name = element.tagName + '.' + element.className;
  worst[name] = Math.min(worst[name] || 99, ratio);
}
return worst;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast(browser: Any, folder: Path, scheme: str) -> None:
    """WCAG 2.2, 1.4.3: 4.5:1."""
    open_page(browser, folder / "report.html", scheme=scheme)
    run(browser, "document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    found = run(browser, CONTRAST)
    assert len(found) > 15
    assert {name: ratio for name, ratio in found.items() if ratio < 4.5} == {}


def test_dark_readers_get_a_dark_page_with_light_plots(browser: Any, folder: Path) -> None:
    open_page(browser, folder / "report.html", scheme="dark")
    scroll_through(browser)
    assert run(browser, "return getComputedStyle(document.body).backgroundColor") == "rgb(18, 21, 25)"
    assert run(browser, "return document.getElementById('plot-latency').layout.font.color") == "#e7eaee"


def test_a_print_has_everything_and_no_controls(browser: Any, folder: Path) -> None:
    open_page(browser, folder / "report.html", media="print", scheme="dark")
    seen = "return [...document.querySelectorAll(arguments[0])].filter((e) => e.checkVisibility()).length"
    assert run(browser, seen, ".tools, nav, .copyable button") == 0
    cut = """return [...document.querySelectorAll('.scroll')]
      .filter((e) => e.checkVisibility() && e.scrollHeight > e.clientHeight + 1).length"""
    assert run(browser, cut) == 0
    assert run(browser, "return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert len(re.findall(rb"/Type\s*/Page\b", base64.b64decode(browser.print_page()))) > 1
    assert run(browser, "return document.querySelectorAll('.plot .main-svg').length") > 4


def test_without_javascript_the_tables_are_whole_and_no_control_is_seen(browser: Any, folder: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get((folder / "report.html").as_uri())
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert run(browser, "return document.documentElement.dataset.ready") is None
    assert run(browser, "return getComputedStyle(document.querySelector('.tools')).display") == "none"
    assert len(column(browser, "target")) == 34
    assert "is slower than" in run(browser, "return document.getElementById('claims').textContent")


def test_a_hostile_record_runs_nothing_and_fetches_nothing(browser: Any, folder: Path) -> None:
    open_page(browser, folder / "hostile.html")
    scroll_through(browser)
    run(
        browser,
        """document.querySelectorAll('details').forEach((one) => { one.open = true; });
        for (const select of document.querySelectorAll('select')) {
          select.selectedIndex = select.options.length - 1; select.dispatchEvent(new Event('change'));
        }
        document.querySelectorAll('thead button').forEach((button) => button.click());
        for (const plot of document.querySelectorAll('.plot')) {
          if (plot.data) Plotly.Fx.hover(plot, plot.data.map((_, at) => ({ curveNumber: at, pointNumber: 0 })));
        }""",
    )
    assert run(browser, "return window.hacked") is None
    assert (
        run(browser, "return document.querySelectorAll('img, iframe, [onload], [onerror], [style*=\"9/\"]').length")
        == 0
    )
    links = run(browser, "return [...document.querySelectorAll('a')].map((one) => one.href.baseVal ?? one.href)")
    assert not [link for link in links if ELSEWHERE in link or "javascript" in link]
    assert console(browser) == []
    assert requests(browser) == [(folder / "hostile.html").as_uri()]


def test_a_hostile_site_runs_nothing_and_fetches_nothing(browser: Any, folder: Path, tmp_path: Path) -> None:
    site = write_site(folder, tmp_path / "site", judge=lambda found: Trust(found.stem != "new", NASTY)).parent
    pages = [site / "index.html", *(next((site / room).iterdir()) for room in ("cases", "devices"))]
    for path in pages:
        for log in ("browser", "performance"):
            browser.get_log(log)
        browser.get(path.as_uri())
        assert run(browser, "return window.hacked") is None
        assert console(browser) == []
        assert requests(browser) == [path.as_uri()]


def test_a_run_of_a_site_is_drawn_by_the_sites_script(browser: Any, folder: Path, tmp_path: Path) -> None:
    site = write_site(folder, tmp_path / "site", judge=lambda _: Trust(True)).parent
    path = next(path for path in (site / "runs").iterdir() if "moemark: base" in path.read_text())
    open_page(browser, path)
    scroll_through(browser)
    assert run(browser, "return document.querySelectorAll('.plot .point').length") > 10
    assert console(browser) == []
    assert requests(browser) == [path.as_uri(), (site / "plotly.min.js").as_uri()]

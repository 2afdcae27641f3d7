"""How large pages are, how long they take to make, and how long a browser takes until readers can use them.

python -m benchmarks.long_reports                          pages of 100, 1,000 and 2,000 measurements, in a headless Chromium
python -m benchmarks.long_reports --measurements 100000    `moemark report` of one long run: time and memory

A page can be used when its tables sort and filter. Plots are drawn as they are scrolled to; the first one's time is given too.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.long_records import write_run

__all__ = ["main"]


def main() -> None:
    """Writes runs into a temporary folder, makes their pages, and opens them where there is a Chromium."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--measurements", type=int, nargs="*", default=[100, 1_000, 2_000])
    with tempfile.TemporaryDirectory() as folder:
        for count in parser.parse_args().measurements:
            run, page = (Path(folder) / f"{count}.{ending}" for ending in ("jsonl", "html"))
            write_run(run, count, 1, count)
            seconds, peak = _made(run, page)
            print(
                f"{count:>7} measurements: {seconds:.1f} s, {peak:.0f} MiB at most, page {page.stat().st_size / 1e6:.2f} MB"
            )
            if shutil.which("chromedriver"):
                ready, drawn = _opened(page)
                print(f"{'':>7} in Chromium ready after {ready:.2f} s, first plot after {drawn:.2f} s")


def _made(run: Path, page: Path) -> tuple[float, float]:
    """Seconds and the peak memory (MiB) of `moemark report`."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "harness", "report", str(run), "-o", str(page)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    # Of all children so far, so runs are to be given from the shortest to the longest.
    return time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def _opened(page: Path) -> tuple[float, float]:
    """Seconds from the start of the navigation until the page can be used, and until its first plot is drawn."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        browser.get(page.as_uri())
        ready = browser.execute_script("return performance.getEntriesByName('ready')[0].startTime")
        drawn = browser.execute_async_script(
            """const done = arguments[0];
            document.querySelector('.plot').scrollIntoView();
            (function look() {
              const mark = performance.getEntriesByName('drawn')[0];
              if (mark) done(mark.startTime); else setTimeout(look, 20);
            })();"""
        )
        return ready / 1e3, drawn / 1e3
    finally:
        browser.quit()


if __name__ == "__main__":
    main()

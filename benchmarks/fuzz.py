"""Hostile records: `python -m benchmarks.fuzz [--inputs N] [--minutes M] [--seed S] [-o FOLDER]`.

Stored records of real runs are changed at random, byte by byte or part by part with digests made to fit, and read, shown,
chosen from, compared, exported, verified, made a page of and a site of. Each must give a result or our one-line error: no other
exception, no hang, nothing in a page that is more than text, no cell of a CSV that a spreadsheet would run. What fails is
written into the folder, with its traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import csv
import gzip
import io
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Set
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from benchmarks.stored import RECORDS, Line, forged, lines_of
from results import record
from workloads.case import UserError

__all__ = ["Fuzzer", "consume", "main", "seeds"]

HANG_S = 30
MEMORY = 4 << 30
"""Bytes of address space: who takes more fails, rather than the machine."""
VERIFIED_EVERY = 8
"""Inputs of which one is verified and rendered too: that takes ten times as long as reading."""

HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\ufffe\uffff]"
)
"""Signs that no reader sees, or that change the order of others."""
STRANGE_TAGS = {"img", "iframe", "object", "embed", "link", "form", "base", "video", "audio"}
FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")
"""How a cell begins that a spreadsheet runs, unless it is a number (OWASP, CSV Injection)."""
SITE_FILE = re.compile(r"(\w+/)?[a-z0-9.-]+")
WHERE = (
    'tokens <= 16 or target == "*cpu" and not "noisy" in warnings',
    "estimate_ns > 1e3 or clock != target or device == reason",
    "p99_ns == None and case in warnings",
)
"""What is asked of every record: of its texts as patterns and lists too."""
PAIRS_WHERE = 'ratio > 0 and target == "*" and not implementation in warnings'

Lines = list[Line]
HOSTILE_TEXTS = (
    "",
    "\x00",
    "\x1b[2J\x1b]0;owned\x07",
    "<script>alert(1)</script>",
    '"><svg onload=alert(1)>',
    "=cmd|' /C calc'!A0",
    "\t+1+cmd|' /C calc'!A0",
    "-2+3",
    "＠SUM(1)",
    "{{7*7}}",
    "../../../../etc/passwd",
    "a" * 5000,
    "\u202eabc",
    "\ufeff",
    "NaN",
    "moe-layer/olmoe-1b-7b/ep64/t999999999/fp32/zipf99.999999/latency+s999999999999999999",
    "attention+decode+c999999999/olmoe-1b-7b/ep1/t999999999/fp32/none/latency",
    "experts/deepseek-v3/ep7/t1/w-mxfp4_a-fp8g128/power0.0001/throughput",
    "torch:cuda:0",
    "host perf_counter_ns, submit to completion",
    "2030-13-45T99:99:99Z",
    "unsupported",
    "ok",
    "median",
)
HOSTILE_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    16,
    2**31,
    2**63 - 1,
    2**63,
    10**30,
    0.0,
    -0.0,
    1e-308,
    1e308,
    -1e308,
    0.1,
    [],
    {},
    [[]],
    [None],
    {"": None},
    {"a": {"b": {"c": {}}}},
    [0] * 48,
    [1] * 48,
    [2**63 - 1] * 48,
    list(range(16)) * 3,
)
HOSTILE_BYTES = (
    *(text.encode() for text in ("NaN", "Infinity", "-", "1e999", "1e-999", "{", "}", "[", "]", ",", ":", '"', "\\")),
    b"\\ud800",
    b"\\u0000",
    b"\xff",
    b"\n",
    b"\r",
    b"\x00",
    b"[" * 3000,
    b'{"a":' * 3000,
    b"9" * 5000,
    b'"kind":"end"',
    b'"kind":"run"',
)


def seeds() -> list[Lines]:
    """Stored records without their digests, each cut to a few lines of every kind with few samples."""
    return [_cut(lines_of(path.name.partition(".")[0])) for path in sorted(RECORDS.glob("*.jsonl.gz"))]


def _cut(lines: Lines) -> Lines:
    kept, counts = [], Counter[str]()
    for line in lines:
        kind = line["kind"] + line.get("status", "")
        counts[kind] += 1
        short = len(line.get("samples_ns", ())) < 200
        if counts[kind] <= 3 and (short or line["kind"] == "measurement"):
            kept.append(line)
    kept[-1]["lines"] = len(kept) - 1
    return kept


class Fuzzer:
    """Makes hostile files from stored records."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._seeds = seeds()
        self._bytes = [forged(lines) for lines in self._seeds]

    def file(self) -> bytes:
        """One more: bytes changed, or parts changed and digests made to fit, or both."""
        draw = self._draw
        if draw.random() < 0.2:
            return self._packed(self._spoiled(draw.choice(self._bytes)))
        lines = copy.deepcopy(draw.choice(self._seeds))
        for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
            self._change(lines)
        try:
            data = forged(lines)
        except (ValueError, RecursionError):
            return self._spoiled(draw.choice(self._bytes))
        return self._packed(self._spoiled(data) if draw.random() < 0.1 else data)

    def _packed(self, data: bytes) -> bytes:
        if self._draw.random() > 0.03:
            return data
        packed = gzip.compress(data, 1)
        return self._spoiled(packed) if self._draw.random() < 0.5 else packed

    def _spoiled(self, data: bytes) -> bytes:
        draw, changed = self._draw, bytearray(data)
        for _ in range(draw.choice((1, 1, 2, 5))):
            at, length = draw.randrange(len(changed) + 1), draw.choice((1, 1, 4, 64, 1000))
            how = draw.randrange(6)
            if how == 0 and at < len(changed):
                changed[at] ^= 1 << draw.randrange(8)
            elif how == 1:
                del changed[at : at + length]
            elif how == 2:
                changed[at:at] = draw.choice(HOSTILE_BYTES)
            elif how == 3:
                changed[at:at] = changed[at : at + length]
            elif how == 4:
                del changed[at:]
            else:
                other = draw.randrange(len(changed) + 1)
                changed[at : at + length] = changed[other : other + length]
        return bytes(changed)

    def _change(self, lines: Lines) -> None:
        """One part of one line, or the lines themselves."""
        draw = self._draw
        if draw.random() < 0.1:
            number = draw.randrange(len(lines))
            how = draw.randrange(3)
            if how == 0 and len(lines) > 1:
                del lines[number]
            elif how == 1:
                lines.insert(number, copy.deepcopy(draw.choice(lines)))
            else:
                lines.append(lines.pop(number))
            if lines[-1].get("kind") == "end" and draw.random() < 0.8:
                lines[-1]["lines"] = len(lines) - 1
            return
        where, key = self._place(draw.choice(lines))
        how = draw.randrange(8)
        if how == 0 and isinstance(where, dict):
            del where[key]
        elif how == 1 and isinstance(where, dict):
            where[draw.choice((*HOSTILE_TEXTS, "schema_minor", "warnings", "canary"))] = draw.choice(HOSTILE_VALUES)
        elif how == 2 and isinstance(where, list):
            where.append(where[key])
        elif how == 3 and isinstance(where[key], int | float) and not isinstance(where[key], bool):
            where[key] = draw.choice((where[key] * 2, where[key] + 1, -where[key], where[key] // 3))
        elif how in (4, 5, 6):
            kind = type(where[key])
            alike = [value for value in (*HOSTILE_TEXTS, *HOSTILE_VALUES) if type(value) is kind]
            where[key] = copy.deepcopy(draw.choice(alike or HOSTILE_TEXTS))
        else:
            where[key] = copy.deepcopy(draw.choice(HOSTILE_VALUES))
        if lines[0].get("kind") == "run" and draw.random() < 0.05:
            lines[0]["schema_minor"] = record.SCHEMA_MINOR + 1

    def _place(self, line: dict[str, Any]) -> tuple[Any, Any]:
        """A container somewhere in a line, and one of its keys."""
        where: Any = line
        key: Any = self._draw.choice(list(where)) if where else where.setdefault("kind", None) or "kind"
        while isinstance(where[key], dict | list) and where[key] and self._draw.random() < 0.75:
            where = where[key]
            key = self._draw.choice(list(where)) if isinstance(where, dict) else self._draw.randrange(len(where))
        return where, key


def consume(path: Path, thorough: bool) -> str:
    """Does with a file what readers do; how it ended. Raises whatever is not our one-line error."""
    from harness.filtering import chosen
    from results.compare import targets_side_by_side
    from results.exporting import export
    from results.store import read
    from results.tables import show_table, targets_table
    from results.tidy import tidy_rows

    # A light reading may take what a whole one refuses.
    _ended(lambda: _compared(path))
    try:
        run_file = read(path)
    except UserError as problem:
        _one_line(problem)
        return "refused"
    uses: list[Callable[[], object]] = [
        lambda: show_table(run_file).text(80),
        lambda: tidy_rows(run_file),
        *(partial(chosen, run_file, [condition]) for condition in WHERE),
        lambda: targets_table(targets_side_by_side(run_file)).text(80),
    ]
    if thorough:
        uses += [lambda: _verified(path), lambda: _exported(run_file, export)]
        uses += [lambda: _rendered(run_file), lambda: _sited(path)]
    ended = [_ended(use) for use in uses]
    return "read" if all(ended) else "read in part"


def _ended(use: Callable[[], object]) -> bool:
    """Whether it gave a result, rather than our one-line error."""
    try:
        use()
    except UserError as problem:
        _one_line(problem)
        return False
    return True


def _one_line(problem: UserError) -> None:
    if len(str(problem).splitlines()) > 1:
        raise ValueError(f"a mistake of several lines: {problem}")


def _compared(path: Path) -> None:
    from harness.filtering import chosen_pairs
    from results.compare import compare, comparison_rows
    from results.store import read_times

    found = compare(read_times(path), read_times(path))
    comparison_rows(found)
    chosen_pairs(found, [PAIRS_WHERE], "p")


def _verified(path: Path) -> None:
    from results.tables import findings_table
    from results.verify import verify_file

    findings_table(verify_file(path)).text(80)


def _exported(run_file: Any, export: Callable[[Any, str], bytes]) -> None:
    from results.gate import gate
    from results.machine import changes, of_one_machine

    _refuse_formulas(export(run_file, "csv").decode())
    for name in ("markdown", "junit", "github-action", "bencher", "pytest-benchmark"):
        export(run_file, name)
    of_one_machine(run_file.run, run_file.run)
    changes(run_file.run, run_file.run)
    gate(run_file, run_file)


def _refuse_formulas(table: str) -> None:
    for row in csv.reader(io.StringIO(table, newline="")):
        for cell in row:
            if FORMULA.match(cell) and not _is_number(cell):
                raise ValueError(f"the CSV holds the formula {cell!r}")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _rendered(run_file: Any) -> None:
    from results.report import html, page

    wrong = unescaped(html([run_file], plotly=page.Script("/* plotly */")))
    if wrong:
        raise ValueError(f"the page holds {wrong}")


def _sited(path: Path) -> None:
    """A site of the folder of the record; of its pages what was found of one, and no file but its own."""
    from results.report.site import write_site

    site = path.parent / "site"
    try:
        write_site(path.parent, site)
        names = {str(one.relative_to(site)) for one in site.rglob("*") if one.is_file()}
        for name in names:
            beside = {f"../{other}" if "/" in name else other for other in names}
            wrong = unescaped((site / name).read_text(encoding="utf-8"), beside) if name.endswith(".html") else None
            if wrong or not SITE_FILE.fullmatch(name):
                raise ValueError(f"the site holds {name} with {wrong}")
    finally:
        shutil.rmtree(site, ignore_errors=True)


class _Tags(HTMLParser):
    """What a page has that none of ours may have; `beside` are the files that it may lead to."""

    def __init__(self, text: str, beside: Set[str]) -> None:
        super().__init__()
        self._beside = beside
        self.scripts = Counter[str]()
        self.policy = ""
        self.strange: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        if tag == "script":
            kind = "data" if told.get("type") == "application/json" else "file" if "src" in told else "code"
            self.scripts[kind] += 1
        if told.get("http-equiv") == "Content-Security-Policy":
            self.policy = self.policy or str(told["content"])
        acting = [name for name, _ in attrs if name.startswith("on") or name in ("srcdoc", "style", "action")]
        addresses = [str(value) for name, value in attrs if name.endswith(("href", "src"))]
        leading = [address for address in addresses if not address.startswith("#")]
        if acting or not self._beside >= set(leading) or tag in STRANGE_TAGS:
            self.strange.append(f"<{tag}> with {attrs}")


def unescaped(text: str, beside: Set[str] = frozenset()) -> str | None:
    """What of a record stands in a page as more than text: a tag, a script, an address, a hidden sign; None: nothing."""
    found = _Tags(text, beside)
    if found.strange:
        return found.strange[0]
    named = found.policy.partition("script-src ")[2].partition(";")[0].count("'sha256-")
    if found.scripts["code"] != named or found.scripts["data"] not in (
        0,
        2,
    ):  # two tables of data, in the page of a run
        return f"{dict(found.scripts)}, where the policy names {named}"
    hidden = HIDDEN.search(text)
    return f"{hidden.group()!r}" if hidden else None


@contextlib.contextmanager
def _deadline() -> Iterator[None]:
    def hang(*_: object) -> None:
        raise TimeoutError(f"no end within {HANG_S} s")

    signal.signal(signal.SIGALRM, hang)
    signal.alarm(HANG_S)
    try:
        yield
    finally:
        signal.alarm(0)


def main(words: list[str]) -> int:
    """Tries inputs until their number or the time is up; 0 if all ended well."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=200_000)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/fuzz"))
    asked = parser.parse_args(words)
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    end, ends, failures = time.monotonic() + 60 * asked.minutes, Counter[str](), Counter[str]()
    fuzzer, slowest, number = Fuzzer(random.Random(asked.seed)), 0.0, 0
    with tempfile.TemporaryDirectory(prefix="moemark-fuzz-") as folder:
        path = Path(folder) / "run.jsonl"
        for number in range(1, asked.inputs + 1):
            data, began = fuzzer.file(), time.monotonic()
            path.write_bytes(data)
            try:
                with _deadline(), contextlib.redirect_stdout(io.StringIO()):
                    ends[consume(path, number % VERIFIED_EVERY == 0)] += 1
            except Exception as failure:
                where = traceback.extract_tb(failure.__traceback__)[-1]
                failures[f"{type(failure).__name__} in {Path(where.filename).name}:{where.lineno}"] += 1
                _keep(asked.output, number, data, failures)
            slowest = max(slowest, time.monotonic() - began)
            if number % 10_000 == 0:
                print(f"{number} inputs: {dict(ends)}, {sum(failures.values())} failures", file=sys.stderr, flush=True)
            if time.monotonic() > end:
                break
    print(f"{number} inputs: {dict(ends)}; slowest {slowest:.2f} s; {sum(failures.values())} failures")
    for what, count in failures.most_common():
        print(f"  {count} {what}")
    return 1 if failures else 0


def _keep(folder: Path, number: int, data: bytes, failures: Counter[str]) -> None:
    """The first few inputs of each failure, with its traceback."""
    if max(failures.values()) > 3 and sum(failures.values()) > 30:
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{number}.jsonl").write_bytes(data)
    (folder / f"{number}.txt").write_text(traceback.format_exc())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A package of someone else's adds a target, a workload, an implementation and a model, and stays named as theirs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "moemark_example"
PACKAGE = "moemark-example 0.1.0"
CASES = (
    "moe-layer/example-moe/ep1/t4/fp32/balanced/latency",
    "rms-norm/example-moe/ep1/t4/fp32/none/latency",
)
OURS = "router/olmoe-1b-7b/ep1/t4/fp32/balanced/latency"
ENTRIES = {
    "targets": ("kind", {"single"}),
    "workloads": ("workload", {"rms-norm"}),
    "implementations": ("implementation", {"masked", "plain"}),
    "models": ("model", {"example-moe"}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("extended")


@pytest.fixture(scope="module")
def python(folder: Path) -> Path:
    """An environment that sees the packages of this one, and into which pip installed the example."""
    environment = folder / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    packages = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    Path(packages, "parent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    source = folder / "source"  # setuptools writes beside what it builds
    subprocess.run(["cp", "-r", EXAMPLE, source], check=True)
    options = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    done = subprocess.run([python, "-m", "pip", "install", *options, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return python


def play(python: Path, folder: Path, *words: str) -> str:
    done = subprocess.run(
        [python, "-m", "harness", *words], cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", ENTRIES)
def test_what_a_package_adds_is_listed_with_the_package(python: Path, folder: Path, kind: str) -> None:
    key, names = ENTRIES[kind]
    rows = json.loads(play(python, folder, "list", kind, "--json"))[kind]
    theirs = [row for row in rows if row["package"]]
    assert {(row[key], row["package"]) for row in theirs} == {(name, PACKAGE) for name in names}
    assert len(theirs) < len(rows)


def test_it_runs_and_the_record_and_the_report_say_whose_it_is(python: Path, folder: Path) -> None:
    targets = ("--target", "single:cpu", "--target", "torch:cpu")
    ways = ("--implementation", "plain", "--implementation", "masked", "--implementation", "sorted")
    shown = play(python, folder, "run", *CASES, *targets, *ways, "--budget", "10ms", "-o", "run.jsonl")
    play(python, folder, "report", "run.jsonl", "-o", "report.html")
    lines = [json.loads(line) for line in (folder / "run.jsonl").read_text().splitlines()]
    measured = [line for line in lines if line["kind"] == "measurement"]
    assert {(line["target"], line["implementation"], line["status"]) for line in measured} == {
        (target, way, "ok") for target in ("single:cpu", "torch:cpu") for way in ("plain", "masked", "sorted")
    }
    told = lines[0]["environment"]["targets"]
    ours = {"model example-moe", "workload rms-norm"}
    ours |= {"implementation masked of moe-layer", "implementation plain of rms-norm"}
    assert set(told["torch:cpu"]["extensions"]) == ours
    assert told["single:cpu"]["extensions"] == dict.fromkeys((*ours, "target single"), PACKAGE)
    page = (folder / "report.html").read_text()
    for what in (*ours, "target single"):
        assert f"{what}: from {PACKAGE}" in shown
        assert f"{what}: from {PACKAGE}" in page


@pytest.mark.parametrize("group", ["workloads", "implementations"])
@pytest.mark.parametrize("words", [("list", "implementations"), ("run", OURS, "--target", "torch:cpu")])
def test_a_package_whose_module_breaks_is_named_in_one_line(group: str, words: tuple[str, ...], tmp_path: Path) -> None:
    about = tmp_path / "broken-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[moemark.{group}]\ntheirs = not_there\n")
    paths = os.pathsep.join((str(ROOT), str(tmp_path)))
    done = subprocess.run(
        [sys.executable, "-m", "harness", *words],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr
    assert f"entry point 'theirs' of moemark.{group} cannot be loaded" in done.stderr


def test_the_example_takes_no_more_than_60_lines_of_python() -> None:
    text = "\n".join(file.read_text() for file in EXAMPLE.rglob("*.py"))
    assert len([line for line in text.splitlines() if line.strip()]) <= 60

"""`target@interpreter`: a real second ONNX Runtime, with another provider, in an environment of its own that has no moemark."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from environments import environment, measured_in, refused, wanted

from results.store import read

ROOT = Path(__file__).resolve().parents[2]
NAME = ".venv-ov"
CASES = ("router/olmoe-1b-7b/ep1/t4/fp32/balanced/latency", "moe-layer/olmoe-1b-7b/ep64/t2/fp32/uniform/latency")

pytestmark = wanted(NAME)


@pytest.fixture(scope="module")
def openvino() -> Path:
    return environment(NAME, "onnxruntime-openvino==1.24.1", "numpy")


def test_another_runtime_does_the_same_work_rightly(openvino: Path, tmp_path: Path) -> None:
    words = ("run", *CASES, "--target", f"ort:openvino@{openvino}", "--budget", "50ms", "-o", str(tmp_path / "x.jsonl"))
    done = subprocess.run([sys.executable, "-m", "harness", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    there = read(tmp_path / "x.jsonl")
    work = [("ort:cpu", case, way) for case, way in zip(CASES, ("plain", "sorted"), strict=True)]
    ours = {line.case: line for line in measured_in(Path(sys.prefix), *work)}
    others = [*there.measurements, *measured_in(openvino, *work)]
    assert [line.case for line in others] == [*CASES, *CASES]
    for other in others:
        one = ours[other.case]
        assert other.status == "ok", other.reason
        assert (one.case_digest, one.input_digest) == (other.case_digest, other.input_digest)
        assert other.placement is not None
        assert other.placement.nodes == other.placement.nodes_on_target
    assert {name: told["runtime_version"] for name, told in there.run.environment["targets"].items()} == {
        "ort:openvino": "1.24.1"
    }
    assert str(openvino) not in (tmp_path / "x.jsonl").read_text()


def test_compiled_graphs_are_kept_where_asked_and_found_by_the_next_run(openvino: Path, tmp_path: Path) -> None:
    target = f"ort:openvino?cache={tmp_path / 'kept'}"
    notes = []
    for _ in range(2):
        (line,) = measured_in(openvino, (target, CASES[1], "sorted"))
        assert line.status == "ok", line.reason
        assert line.placement is not None
        notes.append(line.placement.note)
    assert notes == ["compiled graphs are kept for later runs", "compiled graphs of an earlier run were at hand"]
    (folder,) = (tmp_path / "kept").iterdir()
    assert any(folder.rglob("*.blob"))


def test_a_provider_that_keeps_no_compiled_graphs_says_so(openvino: Path, tmp_path: Path) -> None:
    done = refused(openvino, f"ort:cpu?cache={tmp_path}", tmp_path / "x.jsonl")
    assert (done.returncode, (tmp_path / "x.jsonl").exists()) == (2, False)
    assert "ort:cpu keeps no compiled graphs" in done.stderr


@pytest.mark.parametrize("option", ["nonsense=1", "precision=bogus"])
def test_an_option_that_the_provider_refuses_is_named_as_the_cause(openvino: Path, option: str, tmp_path: Path) -> None:
    done = refused(openvino, f"ort:openvino?{option}", tmp_path / "x.jsonl")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert f"try without {option.partition('=')[0]}: what is not ours goes to the provider" in done.stderr
    assert "pip install" not in done.stderr


def test_an_environment_that_lacks_a_package_is_refused_with_what_to_install(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    words = ["run", CASES[0], "--target", f"ort:cpu@{bare}", "-o", str(tmp_path / "x.jsonl")]
    done = subprocess.run([sys.executable, "-m", "harness", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "its interpreter needs numpy, msgspec, psutil, py-cpuinfo" in done.stderr
    assert not (tmp_path / "x.jsonl").exists()

"""`moemark onnx`: a folder that other tools can run and check by themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from tiny_models import install

from harness.onnx_folder import take_along
from workloads.case import UserError

ROOT = Path(__file__).resolve().parents[2]
ROUTER = "router/gpt-oss-20b/ep1/t4/fp32/balanced/latency"
"""32 experts: onnx 1.23 refuses GatherElements along more in its reference evaluator."""
LAYER = "moe-layer/tiny-v4/ep1/t8/fp32/uniform/latency"
SHARE = "moe-layer/tiny-gpt-oss/ep4/t4/fp32/uniform/latency"
Outputs = dict[str, np.ndarray]
PLAIN = """
import numpy, onnxruntime
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
numpy.savez("found.npz", *session.run(None, dict(numpy.load("given.npz"))))
"""


@pytest.fixture
def tiny_models(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)


def taken(case: str, folder: Path, **options: Any) -> Path:
    return take_along(case, folder, say=lambda text: None, **options).folder


def data(folder: Path, what: str) -> list[TensorProto]:
    files = sorted((folder / "test_data_set_0").glob(f"{what}_*.pb"), key=lambda file: int(file.stem.split("_")[1]))
    return [onnx.load_tensor(str(file)) for file in files]


def by_onnxruntime(folder: Path, inputs: Outputs) -> list[np.ndarray]:
    """In a process of its own, in which nothing of ours has set up the runtime."""
    np.savez(folder / "given.npz", **inputs)
    subprocess.run([sys.executable, "-c", PLAIN], cwd=folder, check=True)
    with np.load(folder / "found.npz") as found:
        return list(found.values())


def by_the_reference_evaluator(folder: Path, inputs: Outputs) -> list[np.ndarray]:
    return ReferenceEvaluator(str(folder / "model.onnx")).run(None, inputs)


def assert_right(folder: Path, run: Callable[[Path, Outputs], list[np.ndarray]]) -> None:
    """What anybody can do who has the folder and nothing else."""
    about = json.loads((folder / "moemark.json").read_text())
    inputs = {tensor.name: numpy_helper.to_array(tensor) for tensor in data(folder, "input")}
    expected = [numpy_helper.to_array(tensor) for tensor in data(folder, "output")]
    found = run(folder, inputs)
    for told, got, want in zip(about["outputs"], found, expected, strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=told["rtol"], atol=told["atol"], err_msg=told["name"])


@pytest.mark.usefixtures("tiny_models")
@pytest.mark.parametrize("run", [by_onnxruntime, by_the_reference_evaluator])
@pytest.mark.parametrize(
    ("case", "options"),
    [
        (LAYER, {}),
        (LAYER, {"name": "dense", "slot": 3}),
        (LAYER, {"name": "gathered", "slot": 15}),
        (SHARE, {"slot": 1}),
        ("permute/tiny-v4/ep1/t8/fp32/uniform/latency", {}),
        ("experts/tiny-llama4/ep1/t8/fp32/uniform/latency", {}),
    ],
)
def test_another_tool_gets_the_expected_outputs(run: Any, case: str, options: dict[str, Any], tmp_path: Path) -> None:
    assert_right(taken(case, tmp_path / "case", **options), run)


@pytest.mark.usefixtures("tiny_models")
def test_a_weight_that_is_off_is_beyond_the_stated_tolerance(tmp_path: Path) -> None:
    folder = taken(LAYER, tmp_path / "case")
    weights = np.fromfile(folder / "weights.bin", np.float32)
    weights[: len(weights) // 2] *= 1.001
    weights.tofile(folder / "weights.bin")
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_right(folder, by_onnxruntime)


@pytest.mark.usefixtures("tiny_models")
def test_the_model_says_which_case_it_is_and_holds_no_weights(tmp_path: Path) -> None:
    folder = taken(LAYER, tmp_path / "case", slot=2)
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    about = json.loads((folder / "moemark.json").read_text())
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert said["moemark.case"] == LAYER
    assert (said["moemark.case_digest"], said["moemark.slot"]) == (about["case_digest"], "2")
    assert len(said["moemark.input_digest"]) == 64
    assert (folder / "model.onnx").stat().st_size < 200_000 < (folder / "weights.bin").stat().st_size
    assert model.graph.value_info


@pytest.mark.usefixtures("tiny_models")
@pytest.mark.parametrize("name", ["dense", "gathered"])
def test_no_shape_of_a_static_form_depends_on_a_token(name: str, tmp_path: Path) -> None:
    model = onnx.load(taken(LAYER, tmp_path / "case", name=name) / "model.onnx", load_external_data=False)
    shapes = {info.name: info.type.tensor_type.shape for info in model.graph.value_info}
    values = [
        value for node in model.graph.node for value in node.output if value not in {o.name for o in model.graph.output}
    ]
    assert values
    assert [value for value in values if not all(dim.HasField("dim_value") for dim in shapes[value].dim)] == []


@pytest.mark.usefixtures("tiny_models")
@pytest.mark.parametrize("dtype", ["bf16", "fp16", "w-int4g32_a-fp32"])
def test_other_dtypes_are_written_too(dtype: str, tmp_path: Path) -> None:
    name = "nbits" if dtype.startswith("w-") else "sorted"
    folder = taken(f"moe-layer/tiny-v4/ep1/t4/{dtype}/uniform/latency", tmp_path / "case", name=name)
    (y,) = [tensor for tensor in data(folder, "output") if tensor.name == "y"]
    carrier = dtype if not dtype.startswith("w-") else "fp32"
    assert (
        y.data_type == {"bf16": TensorProto.BFLOAT16, "fp16": TensorProto.FLOAT16, "fp32": TensorProto.FLOAT}[carrier]
    )
    if carrier == "fp32":
        assert_right(folder, by_onnxruntime)


def test_a_real_case_from_the_command_line_runs_from_the_folder_alone(tmp_path: Path) -> None:
    words = ["onnx", ROUTER, "-o", str(tmp_path / "router")]
    done = subprocess.run([sys.executable, "-m", "harness", *words], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    assert "GB of weights go to" in done.stderr.splitlines()[0]
    assert_right(tmp_path / "router", by_onnxruntime)
    assert_right(tmp_path / "router", by_the_reference_evaluator)
    assert str(tmp_path) not in "".join(file.read_text() for file in (tmp_path / "router").glob("*.[jt]*"))


MISTAKES = {
    "unknown workload": ("rooter/olmoe-1b-7b/ep1/t4/fp32/balanced/latency", {}, "router"),
    "no case": ("olmoe-1b-7b", {}, "write all seven"),
    "no such slot": (ROUTER, {"slot": 16}, "0 to 15"),
    "no such implementation": (ROUTER, {"name": "magic"}, "there are plain"),
    "a format that no operator takes": (
        "moe-layer/olmoe-1b-7b/ep64/t1/w-mxfp4_a-bf16/uniform/latency",
        {"name": "nbits"},
        "MatMulNBits takes",
    ),
    "not in ONNX": ("moe-layer/olmoe-1b-7b/ep64/t4/tf32/balanced/latency", {}, "ONNX has no tf32"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_names_its_mend_and_writes_nothing(mistake: str, tmp_path: Path) -> None:
    case, options, mend = MISTAKES[mistake]
    with pytest.raises(UserError, match=mend):
        taken(case, tmp_path / "case", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("tiny_models")
def test_a_folder_is_replaced_only_by_force_and_only_one_of_ours(tmp_path: Path) -> None:
    folder = taken(LAYER, tmp_path / "case")
    with pytest.raises(UserError, match="--force"):
        taken(LAYER, folder)
    taken(LAYER, folder, slot=1, force=True)
    assert json.loads((folder / "moemark.json").read_text())["slot"] == 1
    other = tmp_path / "other"
    other.mkdir()
    (other / "precious").write_text("kept")
    with pytest.raises(UserError, match="is a file"):
        taken(LAYER, other / "precious" / "below")
    with pytest.raises(UserError, match="was not written by"):
        taken(LAYER, other, force=True)
    assert (other / "precious").read_text() == "kept"

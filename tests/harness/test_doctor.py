"""The doctor answers whatever vendors' libraries do. They are real processes here, and modules that misbehave on import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from environments import environment, wanted

from harness.doctor.findings import Finding, missing_hardware
from harness.doctor.hosts import Seen, accelerators, with_tools

ROOT = Path(__file__).resolve().parents[2]
ABORTS = 'import os\nprint(\'{"kind": "cuda"}\', flush=True)\nos.abort()\n'
HANGS = "import subprocess, time\nprint('loading', flush=True)\nsubprocess.Popen(['sleep', '600'])\ntime.sleep(600)\n"
EXITS = "import sys\nprint('no licence', flush=True)\nsys.exit(3)\n"
PRINTS = """
import os, types
print('{"kind": "cuda", "available": true}')
os.write(1, b"driver 1.2.3 loaded\\n")
__version__ = "9.9"
version = types.SimpleNamespace(cuda=None, hip=None)
backends = types.SimpleNamespace(mps=types.SimpleNamespace(is_built=lambda: False))
_C = types.SimpleNamespace(_get_privateuse1_backend_name=lambda: "paper")
paper = types.SimpleNamespace(is_available=lambda: True, device_count=lambda: 1, get_device_name=lambda index: "Paper 1")
"""
ORT = """
import os
print("opening the device ...")
__version__ = "8.8"
get_available_providers = lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
get_all_providers = lambda: [*get_available_providers(), "PaperExecutionProvider"]
"""


def devices(*words: str, path: Path | None = None, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    folders = [str(folder) for folder in (ROOT, path) if folder]
    return subprocess.run(
        [python, "-m", "harness", "devices", *words], cwd=ROOT, env=os.environ | {"PYTHONPATH": os.pathsep.join(folders)},
        capture_output=True, text=True,
    )  # fmt: skip


def found(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    """Target → what was found, of a command that went well."""
    assert done.returncode == 0, done.stderr
    return {row["title"] or row["target"]: row for row in json.loads(done.stdout)["targets"]}


@pytest.fixture
def modules(tmp_path: Path):
    """Writes modules into a folder for PYTHONPATH."""

    def write(**sources: str) -> Path:
        for name, source in sources.items():
            (tmp_path / f"{name}.py").write_text(source)
        return tmp_path

    return write


def test_runtimes_that_abort_or_exit_on_import_cost_themselves_only(modules) -> None:
    rows = found(devices("--json", "--wait", "60s", path=modules(torch=ABORTS, onnxruntime=EXITS)))
    assert not any(row["usable"] for row in rows.values())
    assert "torch does not import here (killed by SIGABRT" in rows["torch:cpu"]["reason"]
    assert "onnxruntime does not import here (exited with code 3: no licence)" in rows["ort:cpu"]["reason"]
    assert "then: install an Nvidia driver" in rows["torch:cuda"]["reason"]


def test_a_runtime_that_hangs_on_import_is_left_with_its_children(modules) -> None:
    rows = found(devices("--json", "--wait", "6s", path=modules(torch=HANGS, onnxruntime=ABORTS)))
    assert "no answer in time (`moemark devices --wait 24s` waits longer)" in rows["torch:cpu"]["reason"]
    assert "killed by SIGABRT" in rows["ort:cpu"]["reason"]


def test_a_runtime_that_is_slow_to_import_has_the_time_of_questions_that_nobody_can_ask_without_it(modules) -> None:
    slow = "import time\ntime.sleep(8)\n" + PRINTS  # beyond a third of the wait, within two
    rows = found(devices("--json", "--wait", "18s", path=modules(torch=slow, onnxruntime=ABORTS)))
    assert rows["torch:paper"]["candidate"]


def test_what_libraries_print_is_no_answer_and_devices_nobody_knows_are_reported(modules) -> None:
    rows = found(devices("--json", "--wait", "60s", path=modules(torch=PRINTS, onnxruntime=ORT)))
    paper = rows["torch:paper"]
    assert (paper["candidate"], paper["runtime"], paper["told"]) == (True, "torch 9.9", [{"name": "Paper 1"}])
    assert not rows["torch:cuda"]["candidate"]
    assert rows["ort:cuda"]["candidate"]
    assert "name it after @" in rows["ort:paper"]["reason"]
    assert not rows["torch:cpu"]["usable"]  # it reports itself and cannot be opened: it is no torch


def test_a_back_end_that_aborts_when_torch_loads_it_is_blamed_for_it(tmp_path: Path) -> None:
    about = tmp_path / "vendor-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: vendor\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[torch.backends]\nvendor_npu = vendor:load\n")
    (tmp_path / "vendor.py").write_text(
        "import os\ndef load():\n    print('driver lost', flush=True)\n    os.abort()\n"
    )
    rows = found(devices("--json", "--wait", "120s", path=tmp_path))
    assert "vendor_npu does not load (killed by SIGABRT" in rows["torch:npu"]["reason"]
    assert "install CANN" in rows["torch:npu"]["reason"]
    assert "leave it out with TORCH_DEVICE_BACKEND_AUTOLOAD=0" in rows["torch:cpu"]["reason"]
    assert rows["ort:cpu"]["usable"]


def test_here_it_names_what_runs_and_a_next_step_for_all_the_rest() -> None:
    done = devices("--wait", "120s")
    assert (done.returncode, done.stderr) == (0, "")
    text = done.stdout
    for title in ("Accelerators on the PCI bus", "Can run here", "Not here"):
        assert title in text
    for target in ("torch:cpu", "ort:cpu", "torch:cuda", "torch:npu", "torch:xpu", "torch:mps", "ort:cann", "ort:qnn"):
        assert f"\n  {target} " in text
    assert max(len(line) for line in text.split("Not here")[1].splitlines()) <= 80


def test_an_interpreter_without_the_runtimes_is_told_what_to_install(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    rows = found(devices("--json", "--wait", "60s", "--python", str(tmp_path / "bare")))
    assert rows["torch:cpu"]["reason"] == "torch is not installed: pip install torch"
    assert rows["ort:cpu"]["reason"] == "onnxruntime is not installed: pip install onnxruntime onnx"


def test_an_interpreter_that_is_none_is_a_mistake() -> None:
    done = devices("--python", "nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no python at 'nowhere'" in done.stderr


# -- the machine ----------------------------------------------------------------------------------------------------


def pci(root: Path, address: str, kind: str, vendor: str, driver: str = "", **files: str) -> None:
    folder = root / "sys/bus/pci/devices" / address
    folder.mkdir(parents=True)
    for name, text in {"class": kind, "vendor": vendor, **files}.items():
        (folder / name).write_text(text + "\n")
    if driver:
        name, _, version = driver.partition(" ")
        (root / "sys/module" / name).mkdir(parents=True)
        (root / "sys/module" / name / "version").write_text(version + "\n")
        (root / "drivers" / name).mkdir(parents=True)
        (folder / "driver").symlink_to(root / "drivers" / name)


def test_accelerators_are_found_on_the_bus_with_and_without_a_driver(tmp_path: Path) -> None:
    pci(tmp_path, "0000:00:02.0", "0x030000", "0x1234")  # an emulated display
    pci(tmp_path, "0000:01:00.0", "0x030200", "0x10de", "nvidia 570.86")
    pci(tmp_path, "0000:02:00.0", "0x038000", "0x1002", mem_info_vram_total=str(64 << 30), vbios_version="113-X")
    pci(tmp_path, "0000:03:00.0", "0x120000", "0x19e5")
    pci(tmp_path, "0000:04:00.0", "0x120000", "0xabcd")
    (tmp_path / "usr/local/Ascend/firmware").mkdir(parents=True)
    (tmp_path / "usr/local/Ascend/firmware/version.info").write_text("Version=7.5.0\nx=1\n")
    assert accelerators(tmp_path) == [
        Seen("0000:01:00.0", "nvidia", "Nvidia GPU", "nvidia 570.86", {}),
        Seen("0000:02:00.0", "amd", "AMD GPU", None, {"vbios": "113-X", "memory": "65536 MiB"}),
        Seen("0000:03:00.0", "ascend", "Ascend NPU", None, {"firmware": "7.5.0"}),
        Seen("0000:04:00.0", None, "accelerator of PCI vendor 0xabcd", None, {}),
    ]


def test_what_nvidia_smi_tells_is_added_to_the_gpu_it_tells_it_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nvidia-smi").write_text("")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    told = "00000000:01:00.0, NVIDIA H200, 570.86, 143771 MiB, 9.0, 96.00.B9\n"
    (one,) = with_tools([Seen("0000:01:00.0", "nvidia", "Nvidia GPU")], lambda command: told)
    assert one.facts == {
        "name": "NVIDIA H200", "driver": "570.86", "memory": "143771 MiB", "capability": "9.0", "vbios": "96.00.B9",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ([], "no Nvidia GPU is seen here; with one: pip install it"),
        (
            [Seen("a", "nvidia", "")],
            "Nvidia GPU at a has no driver: install Nvidia's driver until `nvidia-smi` lists the GPU;",
        ),
        ([Seen("a", "nvidia", "", "nvidia 570")], "Nvidia GPU at a, driver nvidia 570: pip install it"),
    ],
)
def test_the_next_step_depends_on_the_hardware_that_is_there(seen: list[Seen], said: str) -> None:
    reason = missing_hardware(Finding("torch:cuda", reason="pip install it", make="nvidia"), seen)
    assert str(reason).startswith(said)


# -- real wheels, where there is no driver ----------------------------------------------------------------------------

WHEELS = {
    ".venv-ov": (("onnxruntime-openvino==1.24.1", "numpy"), "ort:openvino", None),
    ".venv-ort-gpu": (("onnxruntime-gpu==1.31.1", "numpy"), "ort:cuda", "libcu"),
    ".venv-ort-cann": (("onnxruntime-cann==1.24.4", "numpy<2"), "ort:cann", "libascendcl.so"),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=wanted(name)) for name in WHEELS])
def test_another_environments_wheel_is_opened_there_or_says_what_it_lacks(name: str) -> None:
    packages, target, lacks = WHEELS[name]
    rows = found(devices("--json", "--wait", "120s", "--python", str(environment(name, *packages))))
    assert rows["ort:cpu"]["usable"]
    assert rows[target]["candidate"]
    assert rows[target]["usable"] == (lacks is None)
    assert (lacks or "") in str(rows[target]["reason"])
    assert rows["torch:cpu"]["reason"] == "torch is not installed: pip install torch"

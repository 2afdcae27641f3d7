"""The small parts of the harness, each by its promise."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.channel import find_interpreter
from harness.environment import environment
from harness.interrupts import Interrupts
from harness.locks import device_key, hold_devices
from harness.noise import Watch, contended
from harness.privacy import without_paths
from harness.surroundings import recorded_variables, refuse_disturbers, worker_environment
from harness.units import fraction, seconds
from results.machine import same_machine
from results.record import Noise
from workloads.case import UserError

# -- units ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "value"), [("10s", 10.0), ("500ms", 0.5), ("2m", 120.0), ("1h", 3600.0), ("7", 7.0)])
def test_times_as_people_type_them(text: str, value: float) -> None:
    assert seconds(text) == value


@given(st.integers(1, 9999))
def test_a_share_is_a_percentage_or_a_fraction(hundredths: int) -> None:
    assert fraction(f"{hundredths / 100}%") == pytest.approx(fraction(f"{hundredths / 10000:.6f}"))


@pytest.mark.parametrize("text", ["", "-1s", "s", "10 parsecs", "1e3s", "nan"])
def test_what_is_no_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="10s"):
        seconds(text)


# -- privacy --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("no such file: /usr/lib/python3/libnull.so", "no such file: libnull.so"),
        ("'/tmp/a-b/c.onnx' and /etc/passwd", "'c.onnx' and passwd"),
        ("node /layer/experts/MatMul_3 on cpu", "node /layer/experts/MatMul_3 on cpu"),
        ("3 tokens/s", "3 tokens/s"),
    ],
)
def test_paths_of_this_machine_lose_their_folders_and_node_names_do_not(text: str, kept: str) -> None:
    assert without_paths(text) == kept


# -- surroundings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["", "0", "false", "False"])
def test_a_disturber_that_is_off_does_not_refuse(value: str) -> None:
    refuse_disturbers({"CUDA_LAUNCH_BLOCKING": value})


def test_a_workers_path_begins_with_our_code_and_keeps_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "mine")
    assert worker_environment(Path("code"), False)["PYTHONPATH"] == f"code{os.pathsep}mine"


def test_a_users_allocator_setting_stays_and_tf32_never_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TOP_PAD_", "1")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    seen = recorded_variables(False)
    assert (seen["MALLOC_TOP_PAD_"], seen["NVIDIA_TF32_OVERRIDE"]) == ("1", "0")


# -- interpreters ---------------------------------------------------------------------------------------------------


def test_an_interpreter_is_an_environments_folder_a_file_or_a_command(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.touch()
    assert find_interpreter(str(tmp_path)) == find_interpreter(str(python)) == str(python)
    assert Path(find_interpreter("sh")).is_absolute()


def test_an_empty_folder_is_no_environment(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="environment's folder"):
        find_interpreter(str(tmp_path))


# -- interrupts -----------------------------------------------------------------------------------------------------


def write_while_interrupted(written: list[str]) -> None:
    with Interrupts() as interrupts, interrupts.held_back():
        signal.raise_signal(signal.SIGINT)
        written.append("line")


def test_an_interrupt_waits_until_the_line_is_written() -> None:
    written: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        write_while_interrupted(written)
    assert written == ["line"]


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interrupts():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


# -- locks ----------------------------------------------------------------------------------------------------------


def _hold(folder: str, held: multiprocessing.Queue) -> None:
    os.environ["TMPDIR"] = folder
    with hold_devices(["device"], held.put):
        held.put("held")


def test_a_second_run_on_a_device_waits_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    context = multiprocessing.get_context("spawn")
    heard = context.Queue()
    with hold_devices(["device", "other"], print):
        other = context.Process(target=_hold, args=(str(tmp_path), heard))
        other.start()
        assert heard.get(timeout=60) == "another run holds device: waiting until it ends"
    assert heard.get(timeout=60) == "held"
    other.join()


@pytest.mark.parametrize(
    ("described", "variables", "key"),
    [
        ({"device_id": "cuda:0", "pci": "0000:c1:00.0"}, {"CUDA_VISIBLE_DEVICES": "3"}, "0000:c1:00.0"),
        ({"device_id": "cuda:0"}, {"CUDA_VISIBLE_DEVICES": "3"}, "cuda:0 CUDA_VISIBLE_DEVICES=3"),
        ({"device_id": "cpu"}, {}, "cpu"),
        ({}, {}, "null:a"),
    ],
)
def test_a_lock_is_of_the_physical_device_as_far_as_it_is_known(
    described: dict[str, str], variables: dict[str, str], key: str
) -> None:
    assert device_key("null:a", described, variables) == key


# -- environment and noise --------------------------------------------------------------------------------------------


def test_the_environment_names_the_machine_but_neither_its_host_nor_its_user() -> None:
    text = str(environment())
    assert environment()["machine"]["cores_logical"] >= 1
    assert os.uname().nodename not in text
    assert str(Path.home()) + "/" not in text


def test_a_machine_is_itself_and_not_one_with_another_cpu() -> None:
    here = environment()
    other = {**here, "machine": {**here["machine"], "cpu": "another"}}
    assert same_machine(here, environment()) is None
    assert "machine.cpu" in str(same_machine(here, other))


def test_a_watch_counts_own_work() -> None:
    watch = Watch()
    sum(range(2_000_000))
    noise = watch.stop()
    assert (noise.own_cpu_ns or 0) > 0
    assert noise.wall_ns > 0


SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("noise", "marked"),
    [
        (Noise(wall_ns=SECOND, own_cpu_ns=SECOND), False),
        (Noise(wall_ns=SECOND, own_cpu_ns=SECOND, foreign_cpu_ns=SECOND), True),
        (Noise(wall_ns=SECOND, own_cpu_ns=SECOND, steal_ns=SECOND // 10), True),
        (Noise(wall_ns=SECOND, own_cpu_ns=SECOND, run_queue_delay_ns=SECOND // 10), True),
        (Noise(wall_ns=SECOND // 1000, own_cpu_ns=1, foreign_cpu_ns=SECOND), False),
    ],
)
def test_foreign_work_steal_and_waiting_mark_a_measurement(noise: Noise, marked: bool) -> None:
    assert contended(noise, cores=2) is marked

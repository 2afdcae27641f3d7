"""Whoever measures on a device keeps all others of ours away from it, whichever command they are."""

from __future__ import annotations

import subprocess
import sys

import pytest
from playing import Stage, drill

from harness.locks import device_key, hold_devices

PLUGIN = ("-s", "-p", "no:cacheprovider", "-p", "harness.pytest_plugin", "--benchmark-max-time=0.1")
MEASURING = {
    "run": ("harness", "run", drill(1), "--target", "null:x"),
    "duel": ("harness", "duel", drill(1), "--impl-a", "plain", "--impl-b", "plain", "--target", "null:x"),
    "pytest": ("pytest", *PLUGIN, f"--moemark={drill(1)}", "--moemark-target=null:x"),
}


@pytest.mark.parametrize("words", MEASURING.values(), ids=MEASURING)
def test_all_commands_wait_for_a_device_under_one_name(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", stage.environment["TMPDIR"])
    variables = stage.environment | {"CUDA_VISIBLE_DEVICES": "3", "PYTHONUNBUFFERED": "1"}
    device = device_key("null:x", {"device_id": "null-x"}, variables)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with hold_devices([device], print):
        process = subprocess.Popen([sys.executable, "-m", *words], cwd=stage.folder, env=variables, **pipes)
        waits = any(f"another run holds {device}: waiting" in line for line in process.stdout or ())
    rest, _ = process.communicate()
    assert (waits, process.returncode) == (True, 0), rest

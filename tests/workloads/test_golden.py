"""The pinned numbers are the same everywhere: golden digests, also under another NumPy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from seeds.golden.pin import computed, differences, input_digest, stored

ROOT = Path(__file__).resolve().parents[2]


def test_every_golden_value_is_computed_again() -> None:
    assert differences(computed(), stored()) == []


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_all_dtypes_share_one_input_digest(dtype: str) -> None:
    case = "moe-layer/olmoe-1b-7b/ep8/t8/{}/balanced/latency"
    assert input_digest(case.format(dtype)) == input_digest(case.format("fp32"))


def test_another_seed_is_another_input() -> None:
    case = "moe-layer/olmoe-1b-7b/ep8/t8/fp32/balanced/latency"
    assert input_digest(f"{case}+s7") != input_digest(case)


@pytest.mark.skipif(not os.environ.get("CI"), reason="makes an environment with numpy 1.26: set CI=true")
def test_numpy_1_computes_the_same() -> None:
    folder = ROOT / ".venv-numpy1"
    if not folder.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "numpy<2", "msgspec"], check=True)
    done = subprocess.run([python, "-m", "seeds.golden.pin", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "numpy 1." in done.stdout

"""The wheels for accelerators, for real, where there is no driver: refused with the right sentence, and no number."""

from __future__ import annotations

from pathlib import Path

import pytest
from environments import environment, refused, wanted

WHEELS = {
    ".venv-ort-cann": ("onnxruntime-cann==1.24.4", "numpy<2"),
    ".venv-ort-gpu": ("onnxruntime-gpu==1.31.1", "numpy"),
}


@pytest.mark.parametrize(
    ("name", "target", "lacks", "mend"),
    [
        pytest.param(*row, marks=wanted(row[0]))
        for row in (
            (".venv-ort-cann", "ort:cann", "libascendcl.so", "source CANN's set_env.sh"),
            (".venv-ort-gpu", "ort:cuda", "libcu", "install CUDA and cuDNN"),
            (".venv-ort-gpu", "ort:tensorrt", "libcu", "CUDA, cuDNN and TensorRT"),
        )
    ],
)
def test_a_provider_without_its_driver_is_refused_naming_what_is_missing(
    name: str, target: str, lacks: str, mend: str, tmp_path: Path
) -> None:
    done = refused(environment(name, *WHEELS[name]), target, tmp_path / "run.jsonl")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert f"the {target.partition(':')[2]!r} provider of onnxruntime" in line
    assert lacks in line
    assert mend in line
    assert not (tmp_path / "run.jsonl").exists()

"""What rules about speed find, in records made for them."""

from __future__ import annotations

from results.verifying import physics
from results.verifying.subject import Subject
from tests.results.conftest import WriteRun, measurement, run_header


def test_a_datasheet_holds_for_every_target_of_its_device(write_run: WriteRun) -> None:
    """32 MFLOP in a microsecond are 32 TFLOP/s, in fp32 an A100 does 19.5."""
    here = {"device_id": "cuda:0", "unit": "device"}
    facts = {"torch:cuda": here | {"name": "NVIDIA A100-SXM4-80GB"}, "ort:cuda": here | {"name": "cuda"}}
    lines = [measurement(1000, target="ort:cuda"), measurement(2000, target="ort:cuda", implementation="other")]
    run = write_run(*lines, header=run_header(list(facts), environment={"targets": facts}))
    (found,) = physics.datasheet(Subject(run))
    assert found.line == 2 and found.evidence.startswith("32 TFLOP/s on a NVIDIA A100")

from typing import Any

import msgspec
import pytest

from results import metrics as m
from results import record
from tests.results.conftest import WriteRun, ceilings, failed, measurement, run_header


def gpu_header(name: str) -> record.Run:
    facts = {"name": name, "unit": "gpu", "device_id": "gpu-0"}
    return run_header(["torch:cuda"], environment={"targets": {"torch:cuda": facts}})


def test_rates_are_count_over_time() -> None:
    assert m.rate_per_s(16, 1_000_000) == 16_000
    assert m.tflop_per_s(2 * 3 * 4 * 10**9, 1_000_000_000) == pytest.approx(0.024)
    assert m.gb_per_s(4_000_000, 1_000_000) == 4
    assert m.tokens_per_s_per_tdp_w(14_000, 700) == 20


def test_the_speed_of_light_is_the_slower_of_multiplying_and_reading() -> None:
    # 32 MFLOP at 0.1 TFLOP/s = 320 us; 4 MB at 10 GB/s = 400 us
    assert m.sol_ns(32e6, 4e6, 0.1, 10) == pytest.approx(400_000)
    assert m.sol_ns(64e6, 4e6, 0.1, 10) == pytest.approx(640_000)


@pytest.mark.parametrize(
    ("dtype", "fmt"), [("fp32", "fp32"), ("bf16", "bf16"), ("w-mxfp4_a-bf16", "bf16"), ("w-fp8b128_a-fp8g128", "fp8")]
)
def test_a_case_multiplies_in_its_activations_format(dtype: str, fmt: str) -> None:
    assert m.compute_format(dtype) == fmt


def test_a_measurement_of_a_millisecond_is_divided_by_hand(write_run: WriteRun) -> None:
    run = write_run(*ceilings(), measurement())
    found = m.metrics(run, run.measurements[0])
    assert found is not None
    assert (found.time.ns, found.tokens_per_s, found.gb_per_s) == (1_000_000, 16_000, 4)
    assert found.tflop_per_s == pytest.approx(0.032)
    assert found.intensity_flop_per_byte == 8
    assert (found.t_sol_ns, found.roofline_ratio, found.bound) == (pytest.approx(400_000), pytest.approx(0.4), "memory")
    assert found.warnings == ()


def test_the_ceiling_is_the_devices_whoever_reached_it(write_run: WriteRun) -> None:
    run = write_run(*ceilings(), measurement())
    found = m.ceilings_of(run, "torch:cpu")
    assert (found.gemm["fp32"].target, found.gemm["fp32"].rate) == ("ort:cpu", pytest.approx(0.1))
    assert found.memory == m.Peak(10, "torch:cpu")


def test_another_devices_ceiling_does_not_count(write_run: WriteRun) -> None:
    here, there = ceilings()[0], msgspec.structs.replace(ceilings()[1], device="cuda:0")
    run = write_run(here, there, measurement())
    assert m.ceilings_of(run, "torch:cpu").gemm["fp32"].rate == pytest.approx(0.05)


def test_a_ceiling_is_the_fastest_sample(write_run: WriteRun) -> None:
    line = msgspec.structs.replace(ceilings()[0], samples_ns=[4_000_000, 1_000_000, 3_000_000])
    assert m.ceilings_of(write_run(line), "torch:cpu").gemm["fp32"].rate == pytest.approx(0.1)


@pytest.mark.parametrize("nothing", [{"flops": 0}, {"samples_ns": []}])
def test_a_ceiling_without_work_or_time_is_none(write_run: WriteRun, nothing: dict[str, Any]) -> None:
    gemm, *_, move = ceilings()
    run = write_run(msgspec.structs.replace(gemm, **nothing), move, measurement())
    found = m.metrics(run, run.measurements[0])
    assert found is not None and found.roofline_ratio is None


def test_a_case_above_its_ceiling_is_marked(write_run: WriteRun) -> None:
    run = write_run(*ceilings(), measurement(call_ns=380_000), measurement(call_ns=385_000))
    found = [m.metrics(run, line) for line in run.measurements]
    assert [f.warnings for f in found if f] == [("ceiling-low",), ()]


def test_without_a_ceiling_there_is_no_roofline(write_run: WriteRun) -> None:
    run = write_run(*ceilings()[:2], measurement())
    found = m.metrics(run, run.measurements[0])
    assert found and found.roofline_ratio is None and found.tokens_per_s == 16_000


def test_only_an_ok_measurement_has_figures(write_run: WriteRun) -> None:
    run = write_run(failed())
    assert m.metrics(run, run.measurements[0]) is None


def test_mfu_and_mbu_are_against_the_datasheet(write_run: WriteRun) -> None:
    """A100 80GB SXM: 19.5 TFLOP/s in fp32 and 2,039 GB/s."""
    line = measurement(target="torch:cuda")
    run = write_run(line, header=gpu_header("NVIDIA A100-SXM4-80GB"))
    found = m.metrics(run, line)
    assert found
    assert found.mfu_ratio == pytest.approx(0.032 / 19.5)
    assert found.mbu_ratio == pytest.approx(4 / 2039)


def test_a_runtime_that_cannot_name_its_device_borrows_the_name(write_run: WriteRun) -> None:
    nameless = {"device_id": "cuda:0"}
    facts = {"torch:cuda": nameless | {"name": "NVIDIA A100-SXM4-80GB"}, "ort:cuda": nameless}
    header = run_header(["torch:cuda", "ort:cuda"], environment={"targets": facts})
    line = measurement(target="ort:cuda")
    run = write_run(line, header=header)
    found = m.metrics(run, line)
    assert found and found.mfu_ratio == pytest.approx(0.032 / 19.5)
    assert m.device_name(run, "ort:cuda") == "NVIDIA A100-SXM4-80GB"


@pytest.mark.parametrize("told", [{"name": "cuda"}, {"name": None}, {}])
def test_a_device_that_no_runtime_names_is_called_after_its_machine(write_run: WriteRun, told: dict[str, Any]) -> None:
    facts = {"ort:cuda": told | {"device_id": "cuda:0", "unit": "device"}}
    header = run_header(["ort:cuda"], environment={"machine": {"cpu": "AMD EPYC 9B14"}, "targets": facts})
    run = write_run(header=header)
    assert m.device_name(run, "ort:cuda") == f"{told.get('name') or 'ort:cuda'} of AMD EPYC 9B14"
    assert m.datasheet(run, "ort:cuda") is None


def test_a_host_without_a_name_has_its_cpus(write_run: WriteRun) -> None:
    facts = {"ort:cpu": {"device_id": "cpu", "unit": "host"}}
    run = write_run(header=run_header(["ort:cpu"], environment={"machine": {"cpu": "Test CPU"}, "targets": facts}))
    assert m.device_name(run, "ort:cpu") == "Test CPU"


def test_of_a_target_that_told_nothing_no_device_is_known(write_run: WriteRun) -> None:
    assert m.device_name(write_run(header=run_header(environment={"targets": {}})), "torch:cpu") is None


@pytest.mark.parametrize("name", ["Abacus 3000", "cpu"])
def test_a_device_without_a_datasheet_has_neither(write_run: WriteRun, name: str) -> None:
    line = measurement(target="torch:cuda")
    found = m.metrics(write_run(line, header=gpu_header(name)), line)
    assert found and (found.mfu_ratio, found.mbu_ratio) == (None, None)

import pytest

from results.sparsity import sparsity
from results.tables import DENSE_LABEL, sparsity_table
from tests.results.conftest import WriteRun, failed, measurement

LAYER = "moe-layer/olmoe-1b-7b/ep{}/t16/fp32/uniform/latency"
CONTROL = "dense-ffn/olmoe-1b-7b/ep{}/t16/fp32/none/latency"


def test_a_layer_is_set_against_its_control_by_the_fastest_exact_implementations(write_run: WriteRun) -> None:
    run = write_run(
        measurement(4_000_000, case=LAYER.format(1)),
        measurement(3_000_000, case=LAYER.format(1), implementation="grouped", division="closed"),
        measurement(1_000_000, case=LAYER.format(1), implementation="drops", division="open"),
        measurement(2_000_000, case=CONTROL.format(1), implementation="plain"),
    )
    (one,) = sparsity(run)
    assert (one.layer.implementation, one.flops) == ("grouped", 1.0)
    assert one.time.value == pytest.approx(1.5)


def test_without_a_control_of_the_same_shape_and_target_there_is_no_ratio(write_run: WriteRun) -> None:
    control = CONTROL.format(1)
    run = write_run(
        measurement(case=LAYER.format(1)),
        measurement(case=control, target="ort:cpu", implementation="plain"),
        measurement(case=control.replace("t16", "t8"), implementation="plain"),
        failed(case=control, implementation="plain"),
    )
    assert sparsity(run) == []
    assert sparsity_table([]).sections == ()


def test_a_share_over_a_whole_replica_is_labelled(write_run: WriteRun) -> None:
    run = write_run(measurement(case=LAYER.format(8)), measurement(case=CONTROL.format(8), implementation="plain"))
    table = sparsity_table(sparsity(run))
    assert table.sections[0].rows == (("torch:cpu", "1.00 ms", "1.00 ms", "1.00 [2]", "1.00 .. 1.00", "1.00"),)
    assert DENSE_LABEL in table.notes

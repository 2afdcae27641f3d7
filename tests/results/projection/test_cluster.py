"""The model of groups fed by records: labelled as a model, and exact where the record's own points are met."""

import pytest

from results.projection.cluster import LABEL, ClusterAsk, check_table, scale, scale_rows, scale_table
from results.projection.whole import Ask
from tests.results.conftest import WriteRun, ceilings
from tests.results.projection.test_whole import LAYER, accelerator, timed
from workloads.case import UserError

SIZES = [(4, 32, 20), (16, 128, 56), (64, 512, 64)]
GROUPS = ClusterAsk((1, 8), near_gbs=100.0, draws=1)
ASK = Ask("olmoe-1b-7b", "decode", 16, 512, routing="balanced")


def lines() -> list[object]:
    return [timed(LAYER.replace("t16", f"t{t}"), d * 0.1, d, a) for t, a, d in SIZES]


def test_one_device_takes_its_measured_time_and_a_group_waits_for_its_links(write_run: WriteRun) -> None:
    found = scale([write_run(*ceilings(), *lines())], "torch:cpu", ASK, GROUPS)  # type: ignore[arg-type]
    alone, eight = found.points
    own_ns = sum(term.each.ns * term.count for term in found.own if term.each) / 16
    assert alone.none.mean == pytest.approx(own_ns + 64 * 1e5) and alone.dispatch.mean == 0
    assert eight.compute.mean == pytest.approx(own_ns + 8 * 1e5)
    assert eight.none.mean == pytest.approx(eight.compute.mean + 2 * eight.dispatch.mean)
    assert found.at_least


def test_everything_that_is_shown_says_that_it_is_a_model(write_run: WriteRun) -> None:
    found = scale([write_run(*ceilings(), *lines())], "torch:cpu", ASK, GROUPS)  # type: ignore[arg-type]
    assert scale_table(found).text().startswith(LABEL) and "≤" in scale_table(found).text()
    assert {row["label"] for row in scale_rows([found])} == {LABEL}
    assert "attention (gqa)" in scale_table(found).text()
    assert "cloudmatrix-decode" in check_table().text() and "infx-v4pro-gb300" in check_table().text()


def test_group_sizes_beyond_the_measured_rows_an_expert_are_named(write_run: WriteRun) -> None:
    groups = ClusterAsk((1, 64), near_gbs=100.0, draws=1)
    found = scale([write_run(*ceilings(), *lines())], "torch:cpu", ASK, groups)  # type: ignore[arg-type]
    assert any("groups of 64" in note for note in found.notes)


def test_links_come_from_the_datasheet_and_are_discounted_by_what_kernels_reach(write_run: WriteRun) -> None:
    layer = timed(LAYER.replace("latency", "throughput"), 1.0, 56, target="torch:cuda")
    found = scale([write_run(layer, header=accelerator())], "torch:cuda", ASK, ClusterAsk((8,), draws=1))
    assert 0.44 * 450 < found.fabric.near_gbs < 0.8 * 450
    assert any("450" in note for note in found.notes)


@pytest.mark.parametrize(
    ("ask", "groups", "mend"),
    [
        (ASK, ClusterAsk((2048,), near_gbs=1.0), "1,024"),
        (ASK, ClusterAsk((8,)), "--near-gbs"),
        (ASK, ClusterAsk((8,), near_gbs=-1.0), "above 0"),
    ],
)
def test_mistakes_name_the_mend(write_run: WriteRun, ask: Ask, groups: ClusterAsk, mend: str) -> None:
    with pytest.raises(UserError, match=mend):
        scale([write_run(*lines())], "torch:cpu", ask, groups)  # type: ignore[arg-type]

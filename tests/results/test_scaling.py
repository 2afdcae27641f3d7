"""The model of a group is exact where a closed form is known."""

import math

import msgspec
import numpy as np
import pytest

from results import scaling
from results.scaling import Fabric, Layer, Point, simulate
from workloads.models import model

OLMOE = model("olmoe-1b-7b")
EVERY = msgspec.structs.replace(OLMOE, experts_per_token=64)
"""Every token goes to every expert, and so to every rank."""
ENDLESS = Fabric(math.inf, math.inf, 8)


def planted(assignments: np.ndarray, distinct: np.ndarray) -> np.ndarray:
    """3 ns an assignment and 100 ns an expert."""
    return 3.0 * assignments + 100.0 * distinct


LAYER = Layer(planted, own_ns=500.0, row_bytes=4096.0)


def group(devices: int, routing: str = "balanced", fabric: Fabric = ENDLESS, tokens: int = 16) -> Point:
    return simulate(OLMOE, tokens, devices, routing, fabric, LAYER)


@pytest.mark.parametrize("devices", [1, 2, 8, 64])
def test_without_skew_and_with_infinite_bandwidth_both_bounds_are_the_closed_form(devices: int) -> None:
    point, exact = group(devices), 500 + 3 * 16 * 8 + 100 * 64 / devices
    assert point.hotspot.mean == 1.0
    assert point.none == point.perfect == point.compute
    assert (point.compute.low, point.compute.high, point.ideal) == (exact, exact, exact)


@pytest.mark.parametrize(("devices", "node"), [(4, 4), (8, 4), (8, 1), (1, 1)])
def test_rows_over_bandwidth_are_the_closed_form_where_every_token_goes_everywhere(devices: int, node: int) -> None:
    point = simulate(EVERY, 4, devices, "uniform", Fabric(100.0, 10.0, node), LAYER)
    near, far = 4 * (devices - 1) * 4096 / 100, 4 * (devices / node - 1) * 4096 / 10
    assert point.dispatch.mean == point.combine.mean == pytest.approx(max(near, far))
    assert point.none.mean == pytest.approx(point.compute.mean + 2 * max(near, far))
    assert point.perfect.mean == pytest.approx(max(point.compute.mean, 2 * max(near, far)))


def test_skew_makes_the_slowest_rank_slower_and_nothing_is_faster_than_without() -> None:
    even, skewed = group(8), group(8, "zipf1.0")
    assert skewed.hotspot.mean > 1.2
    assert skewed.compute.mean > even.compute.mean and skewed.perfect.low >= even.compute.mean


def test_the_same_seed_draws_the_same_group() -> None:
    assert group(8, "zipf1.0") == group(8, "zipf1.0")


def test_larger_draws_are_sampled_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "MOST_ASSIGNMENTS", 8000)
    tokens = 2 * 1000
    point = group(1, "uniform", tokens=tokens)
    assert point.sampled == 0.5 and group(1).sampled == 1.0
    assert point.compute.mean == pytest.approx(500 + 3 * 8 * tokens + 100 * 64)


def test_a_thousand_devices_share_256_experts_by_replicas() -> None:
    point = simulate(model("deepseek-v3"), 32, 1024, "uniform", Fabric(450.0, 50.0, 8), LAYER, draws=1)
    assert point.ideal == 500 + 3 * 32 * 8 + 100
    assert point.hotspot.mean > 1 and point.none.mean > point.perfect.mean > point.ideal

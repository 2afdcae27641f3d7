import numpy as np
import pytest

from results.projection.curves import Curve, ExpertCurve

POINTS = [(8, 8, 80.0), (64, 16, 240.0), (256, 16, 600.0)]
"""(assignments, distinct experts, ns): 10, 15 and 37.5 ns an expert at 1, 4 and 16 rows an expert."""


@pytest.mark.parametrize(("assignments", "distinct", "ns"), POINTS)
def test_the_curve_goes_through_every_measured_point(assignments: int, distinct: int, ns: float) -> None:
    found = ExpertCurve.through(POINTS).at(assignments, distinct)
    assert found is not None and found.ns == pytest.approx(ns)


def test_between_points_the_time_of_an_expert_is_linear_in_its_rows() -> None:
    found = ExpertCurve.through(POINTS).at(100, 10)
    assert found is not None and found.ns == pytest.approx(10 * (15 + 6 / 12 * 22.5))


@pytest.mark.parametrize(("assignments", "distinct"), [(4, 8), (17 * 16, 16), (3 * 4, 3), (4 * 33, 33)])
def test_outside_what_was_measured_there_is_no_time(assignments: int, distinct: int) -> None:
    assert ExpertCurve.through(POINTS).at(assignments, distinct) is None


def test_the_error_is_that_of_a_point_left_out() -> None:
    curve = Curve.through([(1, 10.0), (2, 12.0), (3, 20.0)])
    assert curve.error == pytest.approx(15 / 12 - 1)
    found = curve.at(1.5)
    assert found is not None and (found.ns, found.high_ns) == (pytest.approx(11.0), pytest.approx(11 * 1.25))


def test_two_points_bound_what_lies_between_them() -> None:
    curve = Curve.through([(4, 40.0), (1, 10.0)])
    found = curve.at(2)
    assert curve.error is None
    assert found is not None and (found.ns, found.low_ns, found.high_ns) == (20.0, 10.0, 40.0)
    quadratic = Curve.through([(1, 1.0), (100, 10_000.0)], logs=True).at(10)
    assert quadratic is not None and quadratic.ns == pytest.approx(100)


def test_many_ranks_at_once_go_on_with_the_last_slope_and_idle_ones_take_nothing() -> None:
    values = ExpertCurve.through(POINTS).values(np.array([8, 0, 28 * 16]), np.array([8, 0, 16]))
    assert values == pytest.approx([80.0, 0.0, 16 * (37.5 + 12 * 22.5 / 12)])

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.student import f_above, t_above, t_quantile


@pytest.mark.parametrize(
    ("degrees", "table"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (5, 2.5706), (10, 2.2281), (30, 2.0423), (120, 1.9799), (1e6, 1.9600)],
)
def test_the_quantile_is_that_of_the_printed_tables(degrees: float, table: float) -> None:
    assert t_quantile(0.975, degrees) == pytest.approx(table, abs=6e-5)


def test_other_probabilities_are_those_of_the_printed_tables() -> None:
    assert t_quantile(0.95, 4) == pytest.approx(2.1318, abs=6e-5)
    assert t_quantile(0.995, 4) == pytest.approx(4.6041, abs=6e-5)
    assert t_quantile(0.5, 4) == pytest.approx(0, abs=1e-9)


@given(st.floats(0.3, 500), st.floats(1.01, 3))
def test_more_degrees_of_freedom_never_widen(degrees: float, factor: float) -> None:
    assert t_quantile(0.975, degrees * factor) <= t_quantile(0.975, degrees)


@given(st.floats(0.5, 0.99999), st.floats(0.3, 1e6))
def test_as_much_lies_above_the_quantile_as_was_asked_for(probability: float, degrees: float) -> None:
    assert t_above(t_quantile(probability, degrees), degrees) == pytest.approx(1 - probability, rel=1e-8, abs=1e-12)


def test_next_to_the_median_the_quantile_grows_as_the_density_says() -> None:
    assert t_quantile(0.5 + 1e-9, 1e6) == pytest.approx(1e-9 * math.sqrt(2 * math.pi), rel=1e-6)


@pytest.mark.parametrize(("probability", "degrees"), [(0.4, 3), (1.0, 3), (0.9, 0), (0.9, float("nan"))])
def test_nonsense_is_refused(probability: float, degrees: float) -> None:
    with pytest.raises(ValueError, match="no t quantile"):
        t_quantile(probability, degrees)


@pytest.mark.parametrize("degrees", [1e5, 1e9, 1e30, math.inf])
def test_with_endless_degrees_it_is_the_normal_distribution(degrees: float) -> None:
    assert t_quantile(0.975, degrees) == pytest.approx(1.959964, abs=1e-4)
    assert t_above(1.959964, degrees) == pytest.approx(0.025, abs=1e-5)


@pytest.mark.parametrize(("above", "below", "table"), [(1, 4, 7.709), (4, 4, 6.388), (4, 10, 3.478), (10, 4, 5.964)])
def test_a_twentieth_of_the_ratios_of_variances_lies_beyond_the_printed_value(
    above: int, below: int, table: float
) -> None:
    assert f_above(table, above, below) == pytest.approx(0.05, abs=1e-5)


def test_every_ratio_of_variances_is_at_least_zero() -> None:
    assert f_above(0.0, 4, 4) == 1

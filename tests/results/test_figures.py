import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.figures import change, interval, number, percent, plain_rate, time_text
from results.statistics import Ratio


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0.5, "0.500 ns"),
        (12, "12.0 ns"),
        (1234, "1.23 µs"),
        (999_960, "1.00 ms"),
        (5_770_000, "5.77 ms"),
        (157_400_000, "157 ms"),
        (2.5e9, "2.50 s"),
    ],
)
def test_times_take_the_unit_that_fits(ns: float, text: str) -> None:
    assert time_text(ns) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.00867, "0.00867"), (0.032, "0.0320"), (9.996, "10.0"), (1234.5, "1,234"), (2e-6, "2e-06"), (None, "-")],
)
def test_numbers_have_three_digits(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(("value", "text"), [(999, "999"), (16_000, "16.0k"), (999_960, "1.00M"), (3e9, "3.00G")])
def test_rates_carry_k_m_g(value: float, text: str) -> None:
    assert plain_rate(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0081, "0.8%"), (0.63, "63%"), (0.0999, "10%"), (math.inf, "?"), (None, "-")]
)
def test_shares_are_percent(value: float | None, text: str) -> None:
    assert percent(value) == text


def test_a_ratio_is_a_signed_change() -> None:
    assert [change(r) for r in (1.03, 0.99999, 0.5, math.inf)] == ["+3.0%", "+0.0%", "-50.0%", "?"]
    assert interval(Ratio(0.5, 0.48, 0.52)) == "0.480 .. 0.520"


@given(st.floats(1e-3, 1e15))
def test_what_is_printed_is_within_half_a_percent(ns: float) -> None:
    text, unit = time_text(ns).replace(",", "").split()
    assert float(text) * {"s": 1e9, "ms": 1e6, "µs": 1e3, "ns": 1}[unit] == pytest.approx(ns, rel=0.0051)

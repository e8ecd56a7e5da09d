"""Axes hold their values, and their ticks are what people expect."""

import numpy as np
import pytest

from onnxprune.report.html.scales import linear, logarithmic, number, percent, power, tight


@pytest.mark.parametrize("values", [[0.1, 0.97], [3, 3], [0], [-5, 5], [1e-9, 2e-9], [], [1e12]])
def test_a_linear_axis_holds_its_values(values: list[float]) -> None:
    scale = linear("x", values)
    places = [scale.at(value) for value in values]
    assert all(0 <= place <= 100 for place in places)
    assert 2 <= len(scale.ticks) <= 9 and scale.ticks[0] == scale.low < scale.high
    assert np.allclose(np.diff(scale.ticks), scale.ticks[1] - scale.ticks[0])
    assert (scale.at(scale.low), scale.at(scale.high)) == (0, 100)


def test_an_axis_from_zero() -> None:
    assert linear("x", [7.0, 9.0], zero=True).ticks == (0, 2, 4, 6, 8, 10)
    assert linear("x", [np.inf, np.nan, 1.0], zero=True).high == 1


def test_powers_of_ten() -> None:
    scale = logarithmic("x", [0.0, 2e-5, 0.3])
    assert (scale.low, scale.high) == (1e-5, 1) and scale.at(1e-3) == pytest.approx(40)
    assert scale.at(0) == 0 and scale.at(5) == 100
    assert logarithmic("x", [1e-30, 1.0]).low == 1e-8
    assert logarithmic("x", []).at(1.0) == 100


def test_an_axis_that_begins_at_its_first_value() -> None:
    scale = tight("ms", 0.07, 0.33)
    assert (scale.low, scale.high) == (0.07, 0.33)
    assert scale.ticks == pytest.approx((0.1, 0.2, 0.3))
    assert tight("ms", 1.0, 1.0).at(1.0) == 0


def test_numbers_as_text() -> None:
    assert (
        number(1234.5) == "1,234"
        and number(0.0012345) == "0.00123"
        and percent(0.996) == "99.6%"
        and percent(1.0) == "100%"
    )
    assert power(0.001) == "0.001" and power(1e-6) == "10⁻⁶" and power(1e12) == "10¹²"

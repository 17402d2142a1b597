"""Numbers as a person reads them."""

import pytest

from laminar_tui.render.numbers import limit, number


@pytest.mark.parametrize(
    ("value", "measured", "set_by_hand"),
    [
        *[(0.6, "0.600", "0.6"), (0.0089, "0.00890", "0.0089"), (1.0, "1.00", "1"), (60.0, "60.0", "60")],
        *[(100.0, "100", "100"), (999.9, "1,000", "1,000"), (1234.5, "1,234", "1,234"), (0.0, "0", "0")],
        *[(-0.25, "-0.250", "-0.25"), (5e-4, "5.0e-4", "5.0e-4"), (float("nan"), "–", "–")],
    ],
)
def test_what_is_measured_keeps_three_digits_and_a_limit_does_not(
    value: float, measured: str, set_by_hand: str
) -> None:
    assert (number(value), limit(value)) == (measured, set_by_hand)


@pytest.mark.parametrize(("value", "text"), [(0.9996, "0.9996"), (0.999999, "0.999999"), (0.994, "0.994"), (1.0, "1")])
def test_a_limit_below_one_is_not_called_one(value: float, text: str) -> None:
    assert limit(value) == text

"""Numbers and shares as a person reads them."""

import pytest

from laminar_tui.render.numbers import percent


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.00001, "<0.01 %"),
        (0.005, "0.50 %"),
        (0.025, "2.5 %"),
        (0.5, "50 %"),
        (0.998, "99.8 %"),
        (float("nan"), "–"),
    ],
)
def test_shares_never_round_to_none_or_all(share: float, text: str) -> None:
    assert percent(share) == text

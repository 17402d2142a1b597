"""Small numbers in words."""

import pytest

from laminar_tui.profile.wording import part, percent


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (1.0, "100 %"),
        (0.4, "40.0 %"),
        (0.0031, "0.31 %"),
        (5e-4, "1 part in 2,000"),
        (1.2e-5, "1 part in 83,000"),
        (3.6e-7, "1 part in 2.8 million"),
        (1e-6, "1 part in 1 million"),
        (8e-8, "1 part in 12 million"),
        (1.1e-16, "1 part in 9,100,000 billion"),
    ],
)
def test_an_error_is_said_as_a_part_of_the_whole(share: float, words: str) -> None:
    assert part(share) == words


@pytest.mark.parametrize("share", [0.0, -1e-3, float("nan"), float("inf")])
def test_no_share_is_no_part(share: float) -> None:
    with pytest.raises(ValueError, match="no share"):
        part(share)


@pytest.mark.parametrize(
    ("share", "text"),
    [
        *[(0.0, "0 %"), (1.0, "100 %"), (1.0000001, "100 %"), (float("nan"), "–")],
        *[(0.00001, "<0.01 %"), (0.00031, "0.031 %"), (0.0031, "0.31 %"), (0.005, "0.50 %")],
        *[(0.025, "2.5 %"), (0.5, "50.0 %"), (0.9716, "97.2 %"), (0.998, "99.8 %")],
        *[(0.9996, "99.96 %"), (0.999999, ">99.99 %")],
    ],
)
def test_shares_never_round_to_none_or_all(share: float, text: str) -> None:
    assert percent(share) == text

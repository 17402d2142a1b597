"""What is typed after `/` is read as a place, a weight or a token's text."""

import pytest

from laminar_tui.ui.find import Target, find_tokens, parse_target


@pytest.mark.parametrize(
    ("typed", "target"),
    [
        ("20", Target(20)),
        (" L20 ", Target(20)),
        ("20.7", Target(20, 7)),
        ("L20H7", Target(20, 7)),
        ("l20 h7", Target(20, 7)),
        ("H7", Target(None, 7)),
        (".7", Target(None, 7)),
        (">0.6", Target(weight=0.6)),
        (">=.6", Target(weight=0.6)),
        ("18>.6", Target(18, weight=0.6)),
        ("18.3 > 1e-4", Target(18, 3, 1e-4)),
        ("the", Target(text="the")),
        ("'20", Target(text="20")),
        ('" a', Target(text=" a")),
        ("layer 3", Target(text="layer 3")),
        ("1,000", Target(text="1,000")),
        ("", None),
        ("  ", None),
        ("'", None),
        (">1.5", None),
        ("９", Target(9)),
    ],
)
def test_a_goal_is_read(typed: str, target: Target | None) -> None:
    assert parse_target(typed) == target


def test_tokens_are_found_wherever_they_are_cut() -> None:
    tokens = ["Photos", "ynthesis", " is", " the", " İn", "", " The", " process"]
    assert find_tokens(tokens, "photosyn") == [0]
    assert find_tokens(tokens, "the") == [1, 3, 6]
    assert find_tokens(tokens, "The") == [6]
    assert find_tokens(tokens, "is the") == [2]
    assert find_tokens(tokens, "process") == [7]
    assert find_tokens(tokens, "x") == []
    assert find_tokens([], "x") == []

"""The prompt in colour, and its heaviest tokens."""

import numpy as np
import pytest
from rich.cells import cell_len

from laminar_tui.profile.profile import Profile
from laminar_tui.render.palette import make_ramp
from laminar_tui.render.prompt import token_rows, top_keys
from laminar_tui.render.rows import row_text, row_width


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("width", [10, 33, 80])
def test_tokens_fill_whole_rows(width: int, ascii_only: bool) -> None:
    tokens = [
        "The",
        " cat",
        " 漢字",
        "",
        "\x1b[31m",
        " \u202e",
        "\n",
        " a very long token that is wider than a row",
        ".",
    ]
    weights = np.linspace(0, 1, len(tokens), dtype=np.float32)
    rows = token_rows(tokens, weights, make_ramp("viridis", "truecolor"), width, ascii_only=ascii_only)
    assert {row_width(row) for row in rows} == {width}
    text = "".join(map(row_text, rows))
    assert all(c >= " " and c != "\u202e" for c in text)
    assert text.isascii() or not ascii_only
    assert cell_len(text) == width * len(rows)


def test_the_heaviest_token_has_the_top_colour_and_none_have_none() -> None:
    ramp = make_ramp("viridis", "truecolor")
    (row,) = token_rows(["a", "b"], np.array([0.0, 0.5], np.float32), ramp, 10)
    styles = {segment.text.strip(): segment.style for segment in row if segment.text.strip()}
    assert styles["b"].bgcolor == ramp.colors[-1]
    assert styles["a"] is None
    (plain,) = token_rows(["a", "b"], None, ramp, 10)
    assert all(segment.style is None for segment in plain)


def test_the_top_keys_are_the_heaviest_in_order(small_profile: Profile) -> None:
    weights = small_profile.layer(2).final_weights
    assert weights is not None
    heaviest = np.argsort(-weights[1], kind="stable")[:3]
    said = top_keys(small_profile, 2, 1, 3)
    assert len(said) == 3
    assert all(f"({key}) " in text for key, text in zip(heaviest, said, strict=True))

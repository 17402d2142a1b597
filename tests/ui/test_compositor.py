"""A partial update sends the cells that changed and sets each style once: what a terminal shows stays the same."""

import random

import pyte
import pytest
from rich.style import Style

from laminar_tui.ui.compositor import without_repeats

STYLES = [
    Style(color="#010203", bgcolor="#040506"),
    Style(color="#010203", bgcolor="#0a0b0c"),
    Style(color="#010203", bgcolor="#040506", bold=True),
    Style(color="#040000"),
    Style(bgcolor="color(17)"),
    Style(color="red", bgcolor="bright_blue"),
    Style(reverse=True),
    Style(underline=True, color="color(4)"),
    Style(italic=True, color="#000000", bgcolor="#000004"),
    Style(dim=True, color="#010203", bgcolor="#040506"),
    Style(dim=True, bold=True, underline2=True, color="bright_red"),
    Style(strike=True, bgcolor="color(200)"),
    Style(),
]


def shown(written: str) -> list[list[tuple[object, ...]]]:
    screen = pyte.Screen(40, 12)
    pyte.Stream(screen).feed(written)
    return [[tuple(screen.buffer[y][x]) for x in range(40)] for y in range(12)]


@pytest.mark.parametrize("seed", range(20))
def test_a_terminal_shows_the_same_without_the_repeats(seed: int) -> None:
    some = random.Random(seed)
    written = ""
    for _ in range(40):
        written += f"\x1b[{some.randrange(1, 13)};{some.randrange(1, 35)}H"
        for _ in range(some.randrange(1, 4)):
            text = some.choice(["x", "··", "漢", "ab 12", "▀"])
            written += some.choice(STYLES).render(text) if some.random() < 0.9 else text
    assert shown(without_repeats(written)) == shown(written)
    assert len(without_repeats(written)) < len(written)


def test_a_style_is_set_once_where_it_stays_the_same() -> None:
    piece = STYLES[0].render("x")
    assert without_repeats(piece + "\x1b[3;4H" + piece).count("38;2;1;2;3") == 1
    assert without_repeats(piece).endswith("\x1b[0m")

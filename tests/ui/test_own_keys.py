"""A user's own keys do what they are put for, everywhere but where text is typed, and are what the screen shows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from textual.command import CommandPalette

from laminar_tui.profile.profile import Profile
from laminar_tui.ui.compare import CompareScreen
from laminar_tui.ui.dialogs import FindLine, LongText
from laminar_tui.ui.heads import HeadsScreen
from laminar_tui.ui.keymap import make_keymap
from laminar_tui.ui.picker import PickerScreen
from laminar_tui.ui.scene import Terminal
from laminar_tui.ui.widgets import HeatmapView

Drive = Callable[..., Any]
OWN = Terminal(
    keymap=make_keymap({"population": "B", "sink": "p", "help": "E", "heads": "f6", "out": "X"}, Path("config.toml"))
)


async def test_own_keys_do_it_and_those_before_them_do_not(drive: Drive, walk: Profile) -> None:
    async with drive(walk, terminal=OWN) as driven:
        await driven.press("s")
        assert driven.state.look.sink == "with"
        await driven.press("p")
        assert driven.state.look.sink == "without"
        assert driven.state.look.population == "final"
        await driven.press("B")
        assert driven.state.look.population == "self"
        await driven.press("2", "escape")
        assert driven.state.view == "layer"
        await driven.press("X")
        assert driven.state.view == "overview"


async def test_the_line_of_keys_the_help_and_the_palette_show_them(drive: Drive, walk: Profile) -> None:
    async with drive(walk, terminal=OWN, size=(160, 48)) as driven:
        line = driven.row("keys")
        assert "B Population" in line
        assert "E Help" in line
        assert "? Help" not in line
        assert "key: f6" in {command.help for command in driven.app.explorer.commands()}
        await driven.press("E")
        assert "       B  next population of weights\n" in driven.app.screen.query_one(LongText)._text.plain


async def test_a_screen_of_its_own_has_them_too(drive: Drive, walk: Profile) -> None:
    async with drive(walk, terminal=OWN) as driven:
        await driven.press("f6")
        assert isinstance(driven.app.screen, HeadsScreen)
        assert "E Help" in driven.text().splitlines()[-1]
        await driven.press("5")
        assert isinstance(driven.app.screen, CompareScreen)
        before = driven.app.screen.now.look.population
        await driven.press("p")
        assert driven.app.screen.now.look.population == before
        await driven.press("B")
        assert driven.app.screen.now.look.population != before


async def test_what_is_typed_is_text_whatever_the_keys_are(drive: Drive, walk: Profile) -> None:
    async with drive(walk, terminal=OWN) as driven:
        await driven.press("slash", "B", "E")
        assert driven.app.explorer.query_one(FindLine).value == "BE"
        assert driven.state.look.population == "final"
        await driven.press("enter", "O", "B", "E", "X")
        assert isinstance(driven.app.screen, PickerScreen)
        assert "BEX" in driven.text()
        assert "F1 Help" in driven.text().splitlines()[-1]


async def test_a_colon_lists_every_action(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        await driven.press("colon")
        assert isinstance(driven.app.screen, CommandPalette)
        await driven.press("escape", "6", "colon")
        assert isinstance(driven.app.screen, CommandPalette)


async def test_f_gives_the_picture_all_the_width_and_takes_it_back(drive: Drive, walk: Profile) -> None:
    async with drive(walk, size=(80, 24)) as driven:
        heat, side = driven.app.explorer.query_one(HeatmapView), driven.app.explorer.query_one("#side")
        before = heat.size.width
        await driven.press("f")
        assert not side.display
        assert before < 60 < heat.size.width
        await driven.press("tab")  # a list has to be seen
        assert side.display
        await driven.press("tab", "m")
        assert driven.state.view == "map"
        assert not side.display
        await driven.press("1", "f")
        assert side.display
        assert heat.size.width == before


async def test_the_head_and_the_lines_are_nothing_but_their_side(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        await driven.press("f", "3")
        assert driven.app.explorer.query_one("#side").display
        await driven.press("4")
        assert driven.app.explorer.query_one("#side").display

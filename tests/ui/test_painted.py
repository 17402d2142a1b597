"""Rows reach the screen as Textual's own way for lines would bring them there, cell for cell."""

from collections.abc import Iterator
from typing import ClassVar

import pytest
from rich.segment import Segment
from rich.style import Style
from textual.app import App, ComposeResult
from textual.filter import LineFilter, Monochrome
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from laminar_tui.render.rows import Row
from laminar_tui.ui.widgets import Lines

ROWS: list[Row] = [
    [Segment("plain "), Segment("bold", Style(bold=True)), Segment(" faint", Style(dim=True))],
    [Segment("▀" * 8, Style(color="#ff8800", bgcolor="#102030")), Segment("注意 "), Segment("x", Style(reverse=True))],
    [],
    [Segment("of the xterm table", Style(color="color(74)", bgcolor="color(3)"))],
    [Segment("wider than all the room that there is for a row")],
]


class Rows(App[None]):
    CSS = """
    #bare { width: 30; height: 6; background: $primary-background; text-style: bold; }
    #padded { width: 30; height: 9; padding: 1 2 1 3; color: $text-muted; }
    """
    ENABLE_COMMAND_PALETTE: ClassVar[bool] = False

    def __init__(self, filters: list[LineFilter]) -> None:
        super().__init__()
        self._filters += filters

    def compose(self) -> ComposeResult:
        yield Lines(id="bare")
        yield Lines(id="padded")


def cells(strip: Strip) -> Iterator[tuple[str, Style]]:
    """Each character with its style; of a blank only what is seen."""
    for text, style, _ in strip:
        style = style or Style()
        seen = style if text.strip() or style.reverse else Style(bgcolor=style.bgcolor)
        yield from ((character, seen) for character in text)


@pytest.mark.parametrize("filters", [[], [Monochrome()]], ids=["colours", "no colours"])
@pytest.mark.parametrize("name", ["bare", "padded"])
async def test_rows_look_as_textual_would_show_them(name: str, filters: list[LineFilter]) -> None:
    app = Rows(filters)
    async with app.run_test(size=(60, 20)) as pilot:
        widget = app.query_one(f"#{name}", Lines)
        widget.display_rows(lambda _width, _height: ROWS)
        for theme in ("textual-dark", "textual-light"):
            app.theme = theme
            await pilot.pause()
            whole = widget.outer_size.region
            for crop in (whole, Region(4, 1, 11, 3)):
                ours, theirs = widget.render_lines(crop), Widget.render_lines(widget, crop)
                assert [list(cells(strip)) for strip in ours] == [list(cells(strip)) for strip in theirs]
            assert all(strip.cell_length == whole.width for strip in widget.render_lines(whole))


async def test_only_what_changed_is_made_again() -> None:
    app = Rows([])
    async with app.run_test(size=(60, 20)) as pilot:
        widget = app.query_one("#padded", Lines)
        widget.display_rows(lambda _width, _height: ROWS)
        await pilot.pause()
        before = widget.render_lines(widget.outer_size.region)
        widget.display_rows(lambda _width, _height: [ROWS[0], [Segment("new")], *ROWS[2:]])
        after = widget.render_lines(widget.outer_size.region)
        assert [y for y, (old, new) in enumerate(zip(before, after, strict=True)) if old is not new] == [2]
        assert after[2].text.strip() == "new"

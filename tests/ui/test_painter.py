"""The terminal is sent what it does not show yet; what it shows is the same as if it were sent everything."""

import io
import random
import re
from collections.abc import Callable
from typing import Any

import pyte
import pytest
from rich.color import ColorSystem
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual._compositor import ChopsUpdate, CompositorUpdate, InlineUpdate, LayoutUpdate
from textual.app import App
from textual.geometry import Region, Size
from textual.strip import Strip

from laminar_tui.profile.profile import Profile
from laminar_tui.ui.explorer import Terminal as ExplorerTerminal
from laminar_tui.ui.painter import PLAIN, PaintAnew, Painter, ThriftyUpdate, _look_of, _of_blanks, change

Drive = Callable[..., Any]
WIDTH, HEIGHT = 32, 6
STYLES: list[Style | None] = [
    Style(color="#010203", bgcolor="#040506"),
    Style(color="#010203", bgcolor="#0a0b0c"),
    Style(color="#040506", bgcolor="#010203", bold=True),
    Style(color="#040000"),
    Style(bgcolor="color(17)"),
    Style(color="red", bgcolor="bright_blue"),
    Style(reverse=True, color="#010203"),
    Style(underline=True, color="color(4)"),
    Style(italic=True, color="#000000", bgcolor="#000004"),
    Style(dim=True, color="#010203", bgcolor="#040506"),
    Style(dim=True, bold=True, color="#010203", bgcolor="#040506"),
    Style(dim=True, bold=True, underline2=True, color="bright_red"),
    Style(strike=True, bgcolor="color(200)"),
    Style(),
    None,
]
BLANKS = [" " * 8, " " * 20, "a" + " " * 13 + "b", "漢" + " " * 9]
"""Texts with blanks that a terminal may be asked to erase."""
TEXTS = ["x", " ", "   ", "a b", "▀", "▄▄", "漢", "字", "·", "⣿", "->", "e\u0301", "✨"]
Piece = tuple[str, Style | None, int]
"""A text that is not cut, its style and its cells."""


class Terminal:
    """What a terminal makes of what it is sent."""

    def __init__(self, width: int = WIDTH, height: int = HEIGHT) -> None:
        self.screen = pyte.Screen(width, height)
        self._stream = pyte.Stream(self.screen)
        self._stream.feed("\x1b[?7l")  # as Textual does: what reaches the right edge goes no further
        self.sent = 0

    def feed(self, written: str) -> None:
        self.sent += len(written.encode())
        self._stream.feed(written)

    def shows(self) -> list[list[tuple[Any, ...]]]:
        """Each cell as it is seen: of a blank only the ground, unless it is reversed or a line goes through it."""
        return [[seen(self.screen.buffer[y][x]) for x in range(self.screen.columns)] for y in range(self.screen.lines)]


def seen(cell: Any) -> tuple[Any, ...]:
    if cell.data == " " and not (cell.reverse or cell.underscore or cell.strikethrough):
        return (" ", cell.bg)
    return tuple(cell)


def console(system: str = "truecolor") -> Console:
    return Console(file=io.StringIO(), force_terminal=True, color_system=system, _environ={})  # type: ignore[arg-type]


def some_row(some: random.Random) -> list[Piece]:
    """Pieces that fill a row; not all of them of characters on whose width everybody agrees."""
    pieces: list[Piece] = []
    room = WIDTH
    while room:
        text = some.choice(BLANKS if some.random() < 0.1 else TEXTS if some.random() < 0.3 else TEXTS[:10])
        width = Segment(text).cell_length
        if width <= room:
            pieces.append((text, some.choice(STYLES), width))
            room -= width
    return pieces


def changed_row(some: random.Random, row: list[Piece]) -> list[Piece]:
    """The same row with other styles, other characters, or another end."""
    if some.random() < 0.3:
        keep = some.randrange(len(row))
        left = WIDTH - sum(width for *_, width in row[:keep])
        return [*row[:keep], ("." * left, some.choice(STYLES), left)]
    changed: list[Piece] = []
    for text, style, width in row:
        text = some.choice("漢字") if text in ("漢", "字") else text
        changed.append((text, some.choice(STYLES) if some.random() < 0.2 else style, width))
    return changed


def edges(row: list[Piece]) -> set[int]:
    """The cells at which a row can be cut."""
    at, found = 0, {0}
    for *_, width in row:
        at += width
        found.add(at)
    return found


def strips(row: list[Piece], cuts: list[int]) -> list[Strip]:
    whole = Strip([Segment(text, style) for text, style, _ in row], WIDTH)
    return list(whole.divide(cuts[1:]))


class Walk:
    """Updates as Textual makes them, of a screen that changes in places."""

    def __init__(self, seed: int) -> None:
        self.some = random.Random(seed)
        self.rows = [some_row(self.some) for _ in range(HEIGHT)]

    def everything(self) -> LayoutUpdate:
        return LayoutUpdate([strips(row, [0, WIDTH]) for row in self.rows], Region(0, 0, WIDTH, HEIGHT))

    def step(self) -> CompositorUpdate:
        """Change some rows; gives an update of what has changed, and of more."""
        chops: list[dict[int, Strip | None]] = []
        spans, ends = [], []
        for y in range(HEIGHT):
            before = self.rows[y]
            is_changed = self.some.random() < 0.5
            after = before
            if is_changed:
                after = some_row(self.some) if self.some.random() < 0.2 else changed_row(self.some, before)
            self.rows[y] = after
            where = sorted(edges(before) & edges(after) - {0, WIDTH})
            cuts = [0, *sorted(self.some.sample(where, min(2, len(where)))), WIDTH]
            chops.append(dict(zip(cuts[:-1], strips(after, cuts), strict=True)))
            ends.append(cuts[1:])
            if is_changed:
                spans.append((y, 0, WIDTH))
        if not spans or self.some.random() < 0.1:
            return self.everything()
        return ChopsUpdate(chops, spans, ends)


@pytest.mark.parametrize("system", ["truecolor", "256", "standard"])
@pytest.mark.parametrize("seed", range(8))
def test_a_terminal_shows_what_it_would_show_without_thrift(system: str, seed: int) -> None:
    walk, painter, to = Walk(seed), Painter(erases=seed % 2 == 0), console(system)
    plain, thrifty = Terminal(), Terminal()
    for step in range(150):
        update = walk.step() if step else walk.everything()
        written = painter.paint(update, to)
        thrifty.feed(written)
        plain.feed(update.render_segments(to))
        assert thrifty.shows() == plain.shows(), (step, written)
    assert thrifty.sent < plain.sent * 0.8


def test_half_of_a_wide_character_that_was_painted_over_is_not_taken_for_whole() -> None:
    painter, terminal = Painter(), Terminal(4, 1)

    def update(row: str, start: int) -> ChopsUpdate:
        return ChopsUpdate([{0: Strip([Segment(row)])}], [(0, start, 4)], [[4]])

    for row, start in (("漢bc", 0), ("xybc", 1), ("漢bc", 0)):
        written = painter.paint(update(row, start), console())
        terminal.feed(written)
    assert "漢" in written, "its first half was blanked by what was painted over the second"
    assert terminal.screen.display[0].startswith("漢bc")


def attributes_after(codes: str, attributes: frozenset[int]) -> frozenset[int]:
    """Which attributes are on after some sequences, by ECMA-48; colours are left out."""
    ended_by = {22: {1, 2}, 23: {3}, 24: {4, 21}, 25: {5, 6}, 27: {7}, 28: {8}, 29: {9}}
    for sequence in re.findall(r"\x1b\[([\d;]*)m", codes):
        for code in re.sub(r"[34]8;(5;\d+|2;\d+;\d+;\d+)", "39", sequence).split(";"):
            number = int(code or 0)
            attributes = frozenset() if not number else attributes - ended_by.get(number, set())
            attributes |= {number} if 0 < number < 22 else set()
    return attributes


def test_from_each_style_to_each_other_attributes_begin_and_end() -> None:
    looks = [_look_of(style, ColorSystem.TRUECOLOR) for style in STYLES]
    for before in looks:
        for wanted in looks:
            codes, now = change(before, wanted)
            assert now == wanted
            assert attributes_after(codes, before.attributes) == wanted.attributes
            assert (codes == "") == (before is wanted)
            assert len(codes) <= len(change(PLAIN, wanted)[0] or "\x1b[m") + 1


def test_blanks_take_the_ground_only() -> None:
    blank = _of_blanks(_look_of(Style(color="#010203", bgcolor="#040506", bold=True), ColorSystem.TRUECOLOR))
    before = _look_of(Style(color="#0a0a0a", bgcolor="#040506"), ColorSystem.TRUECOLOR)
    assert change(before, blank) == ("", change(before, blank)[1])
    underlined = _look_of(Style(color="#010203", underline=True), ColorSystem.TRUECOLOR)
    assert _of_blanks(underlined) is underlined
    assert change(underlined, blank)[0].startswith("\x1b[24;")


def full(*rows: list[Segment]) -> LayoutUpdate:
    return LayoutUpdate([[Strip(row)] for row in rows], Region(0, 0, 4, len(rows)))


def test_what_is_shown_is_not_sent_again_until_it_is_forgotten() -> None:
    painter, to = Painter(), console()
    update = full([Segment("abcd", STYLES[0])], [Segment("efgh")])
    first = painter.paint(update, to)
    assert painter.paint(update, to) == ""
    assert painter.paint(full([Segment("abXd", STYLES[0])], [Segment("efgh")]), to).count("X") == 1
    painter.paint(update, to)
    painter.forget()
    assert painter.paint(update, to) == first
    assert painter.paint(InlineUpdate([Strip([Segment("abcd")])]), to).startswith("abcd")
    assert painter.paint(update, to) == first
    assert painter.paint(full([Segment("abcd", STYLES[0])]), to).count("abcd") == 1


def test_the_same_colours_are_set_once() -> None:
    a, b = STYLES[0], STYLES[5]
    rows = [[Segment("ab", a), Segment("cd", b)]] * 3
    written = Painter().paint(full(*rows), console())
    assert written.count("38;2;1;2;3") == 1
    assert written.endswith("\x1b[0m")
    assert "\x1b[0m" not in written[4:-4]


def test_what_is_not_understood_is_let_through_and_its_row_forgotten() -> None:
    painter, to = Painter(), console()
    linked = [Segment("ab", Style(link="https://example.org")), Segment("cd")]
    for row in ([Segment("e\u0301bcd")], linked):
        update = LayoutUpdate([[Strip(row, 4)]], Region(0, 0, 4, 1))
        first, second = painter.paint(update, to), painter.paint(update, to)
        assert Strip(row).render(to) in first
        assert Strip(row).render(to) in second


def test_blanks_are_erased_where_that_is_shorter_and_the_terminal_gives_them_their_ground() -> None:
    a, lined = STYLES[0], Style(bgcolor="#040506", underline=True)
    wide = [Segment("ab" + " " * 20 + "cd" + " " * 16, a), Segment("e" + " " * 7, a), Segment(" " * 12, lined)]
    update = LayoutUpdate([[Strip(wide)]], Region(0, 0, 60, 1))
    assert "\x1b[20X" not in Painter().paint(update, console())
    painter, terminal, plain = Painter(erases=True), Terminal(60, 1), Terminal(60, 1)
    written = painter.paint(update, console())
    assert re.findall(r"\x1b\[\d+X", written) == ["\x1b[20X", "\x1b[16X"], "7 are as short as they are"
    terminal.feed(written)
    plain.feed(update.render_segments(console()))
    assert terminal.shows() == plain.shows()
    assert " " * 12 in written, "a line under blanks is no ground"


KEYS = (
    "l k right_square_bracket p s z c t space tab down escape 2 l o a plus 3 l m l k 1 4 escape 5 l x enter"
    " escape escape 6 down escape 7 escape question_mark j escape slash 1 enter i escape t ctrl+l"
)


@pytest.mark.parametrize("erases", [False, True])
async def test_on_a_walk_through_all_screens_a_terminal_shows_the_same(
    drive: Drive, hostile: Profile, monkeypatch: pytest.MonkeyPatch, erases: bool
) -> None:
    plain, thrifty, to = Terminal(100, 36), Terminal(100, 36), console()
    seen_updates: list[int] = []

    def display(_app: App[None], _screen: object, update: object) -> None:
        if isinstance(update, ThriftyUpdate):
            thrifty.feed(update.render_segments(to))
            plain.feed(update._update.render_segments(to))
            seen_updates.append(len(seen_updates))
            assert thrifty.shows() == plain.shows()

    monkeypatch.setattr(App, "_display", display)
    async with drive(hostile, size=(100, 36), terminal=ExplorerTerminal(erases=erases)) as driven:
        for key in KEYS.split():
            await driven.press(key)
            await driven.pilot.pause(0.05)
    assert len(seen_updates) > len(KEYS.split())
    assert thrifty.sent < plain.sent / (5 if erases else 3)


async def test_to_paint_anew_sends_everything(drive: Drive, hostile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    def display(_app: App[None], _screen: object, update: object) -> None:
        if isinstance(update, ThriftyUpdate):
            written.append(update.render_segments(console()))

    monkeypatch.setattr(App, "_display", display)
    async with drive(hostile, size=(100, 36)) as driven:
        await driven.pilot.pause(0.2)
        await repaint(lambda: driven.app.screen.refresh(layout=True), driven.pilot.pause)
        written.clear()
        await repaint(lambda: driven.app.screen.refresh(layout=True), driven.pilot.pause)
        assert "laminar" not in "".join(written)
        for again in (
            lambda: driven.app.screen.post_message(PaintAnew()),
            lambda: driven.app.app_resume_signal.publish(driven.app),
            lambda: driven.app.post_message(events.Resize(Size(100, 36), Size(100, 36))),
        ):
            written.clear()
            await repaint(again, driven.pilot.pause)
            assert "laminar" in "".join(written)


async def repaint(ask: Callable[[], object], pause: Callable[[float], Any]) -> None:
    ask()
    await pause(0.2)

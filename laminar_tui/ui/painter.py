"""What the terminal shows already is not sent again, and what is sent sets each style once.

Textual repaints regions, Rich sets a whole style before each piece of text and resets it after: over SSH that is
most of what a key costs. A `Painter` knows every cell that was sent, sends the cells that differ, and of their styles
what differs from the style in force. What it does not understand it lets through, and forgets what it touches.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from operator import itemgetter, ne

from rich.cells import split_graphemes
from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.message import Message
from textual.strip import Strip

_CODES = re.compile(r"[34]8;5;\d+|[34]8;2;\d+;\d+;\d+|\d+")
_ENDS = {1: 22, 2: 22, 3: 23, 4: 24, 5: 25, 6: 25, 7: 27, 8: 28, 9: 29, 21: 24, 51: 54, 52: 54, 53: 55}
"""What ends an attribute (ECMA-48, 8.3.117); bold and dim have one end."""
_SEEN_ON_BLANKS = frozenset({4, 7, 9, 21, 51, 52, 53})
"""Underlined, reversed, struck, framed, overlined: of all else a blank shows its ground only."""
_ANY = ""
"""An ink that nobody sees."""
_NARROW = re.compile(r"[ -~\xa1-\xac\xae-\u02ff\u2010-\u2027\u2030-\u205e\u2500-\u259f\u2800-\u28ff]*")
"""Text in which each character takes a cell."""
_CERTAIN = re.compile(
    r"[ -~\xa1-\xac\xae-\u02ff\u0386-\u0482\u2010-\u2027\u2030-\u205e\u2190-\u21ff\u2400-\u2426\u2500-\u25fc"
    r"\u2800-\u28ff\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff\uac00-\ud7a3]*"
)
"""Text in which all terminals agree with Rich on how many cells each character takes."""
_MANY_BLANKS = 8
_BLANKS = re.compile(r" {12,}")
"""Blanks that take more bytes than to erase the cells; within a text the cursor has to be moved on, too."""
_JOINED_WITHIN = 4
"""Unchanged cells that are sent again between two changed ones of the same style: to move the cursor costs as much."""


@dataclass(frozen=True, eq=False)
class Look:
    """How a cell looks: attributes by their numbers, colours as the codes that set them.

    One object a look, as far as it matters: two for the same only cost bytes.
    """

    attributes: frozenset[int]
    ink: str
    ground: str
    is_blank: bool


Cell = tuple[str, Look]
"""A character and its look; the second cell of a wide character holds no text."""
Run = tuple[str, str, int, int, int, str, Look]
"""Cells of one look beside one another: ground and ink, row, column, how many cells, their text, and the look."""
_ORDER = itemgetter(0, 1, 2, 3)


@lru_cache(maxsize=16384)
def _look(attributes: frozenset[int], ink: str, ground: str, is_blank: bool = False) -> Look:
    return Look(attributes, ink, ground, is_blank)


PLAIN = _look(frozenset(), "39", "49")


@lru_cache(maxsize=16384)
def _read_look(codes: str) -> Look:
    """The look that a sequence of Rich's sets, which always begins from nothing."""
    attributes, ink, ground = set(), PLAIN.ink, PLAIN.ground
    for code in _CODES.findall(codes):
        number = int(code.partition(";")[0])
        if number in _ENDS:
            attributes.add(number)
        elif 30 <= number <= 39 or 90 <= number <= 97:
            ink = code
        elif 40 <= number <= 49 or 100 <= number <= 107:
            ground = code
    return _look(frozenset(attributes), ink, ground)


@lru_cache(maxsize=16384)
def _of_blanks(look: Look) -> Look:
    """The look of blanks, as far as it is seen."""
    if look.attributes & _SEEN_ON_BLANKS:
        return look
    return _look(frozenset(), _ANY, look.ground, True)


@lru_cache(maxsize=65536)
def change(before: Look, wanted: Look) -> tuple[str, Look]:
    """The shortest sequence that leads from one look to another, and the look that is in force then."""
    if wanted.is_blank:
        wanted = _look(before.attributes - _SEEN_ON_BLANKS, before.ink, wanted.ground)
    ended = {_ENDS[each] for each in before.attributes - wanted.attributes}
    begun = {each for each in wanted.attributes if each not in before.attributes or _ENDS[each] in ended}
    codes = [str(each) for each in (*sorted(ended), *sorted(begun))]
    codes += [wanted.ink] if wanted.ink != before.ink else []
    codes += [wanted.ground] if wanted.ground != before.ground else []
    anew = ["", *map(str, sorted(wanted.attributes))]
    anew += [wanted.ink] if wanted.ink != PLAIN.ink else []
    anew += [wanted.ground] if wanted.ground != PLAIN.ground else []
    shortest = min(";".join(codes), ";".join(anew), key=len)
    return (f"\x1b[{shortest}m" if codes else ""), wanted


def _cells(strip: Strip, system: ColorSystem) -> list[Cell] | None:
    """The cells of a strip; None where there is something in it that cannot be seen as cells."""
    cells: list[Cell] = []
    for text, style, control in strip:
        characters = _characters(text)
        if control or (style and style.link) or characters is None:
            return None
        look = _look_of(style, system)
        if text.isspace():
            look = _of_blanks(look)
        cells += zip(characters, repeat(look))
    return cells


@lru_cache(maxsize=4096)
def _characters(text: str) -> Sequence[str] | None:
    """What each cell of a text holds; None where terminals may not agree on that."""
    if not _CERTAIN.fullmatch(text):
        return None
    return text if _NARROW.fullmatch(text) else tuple(_halves(text))


def _look_of(style: Style | None, system: ColorSystem) -> Look:
    if style is None:
        return PLAIN
    codes = style._ansi
    return _read_look(Strip.render_ansi(style, system) if codes is None else codes)


def _halves(text: str) -> Iterator[str]:
    """The characters of a text, a wide one followed by nothing for its second cell."""
    for start, end, width in split_graphemes(text)[0]:
        yield text[start:end]
        yield from repeat("", width - 1)


def _pieces(update: LayoutUpdate | ChopsUpdate) -> Iterator[tuple[int, int, Strip, int, int]]:
    """What an update paints: row, column where a strip begins, the strip, and which of its cells."""
    if isinstance(update, LayoutUpdate):
        for y, line in enumerate(update.strips, update.region.y):
            x = update.region.x
            for part in line:
                yield y, x, part, 0, part.cell_length
                x += part.cell_length
        return
    for y, x1, x2 in update.spans:
        for end, (x, strip) in zip(update.chop_ends[y], update.chops[y].items(), strict=False):
            start, stop = max(x, x1), min(end, x2)
            if strip is not None and start < stop:
                yield y, x, strip, start - x, stop - x


class PaintAnew(Message):
    """The whole screen is to be painted again, whatever the terminal seems to show."""


class Painter:
    """Writes what differs from what the terminal shows, one colour after the other.

    To move the cursor takes 8 bytes, to set two colours of 24 bits up to 39: so all that has the same colours is
    written together, wherever it is. On a picture that halves the bytes.

    Args:
        erases: whether the terminal can erase cells and gives them the ground that is set (bce of terminfo).
    """

    def __init__(self, *, erases: bool = False) -> None:
        self._erases = erases
        self._rows: list[list[Cell | None]] = []
        self._width = 0
        self._is_lost = True

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of what was painted, in cells."""
        return self._width, len(self._rows)

    def forget(self) -> None:
        """Know nothing of what the terminal shows: somebody else has written to it, or it has another size."""
        self._rows = [[None] * self._width for _ in self._rows]
        self._is_lost = True

    def paint(self, update: CompositorUpdate, console: Console) -> str:
        """Write an update as text with escape sequences, which begin and end with no style."""
        if not isinstance(update, LayoutUpdate | ChopsUpdate):
            self.forget()
            return update.render_segments(console)
        self._fit(update)
        written = ["\x1b[0m"] if self._is_lost else []
        self._is_lost = False
        system = console._color_system or ColorSystem.TRUECOLOR
        runs: list[Run] = []
        for y, x, strip, start, stop in _pieces(update):
            cells = _cells(strip, system)
            if cells is None or len(cells) != strip.cell_length:
                written.append(f"\x1b[{y + 1};{x + start + 1}H{strip.crop(start, stop).render(console)}")
                self._rows[y] = [None] * self._width  # how many cells that takes only the terminal knows
                continue
            while start and not cells[start][0]:
                start -= 1
            while stop < len(cells) and not cells[stop][0]:
                stop += 1
            runs += self._differing(y, x + start, cells[start:stop])
        return "".join([*written, *_write(runs, erases=self._erases)])

    def _fit(self, update: LayoutUpdate | ChopsUpdate) -> None:
        if isinstance(update, LayoutUpdate):
            width, height = update.region.right, update.region.bottom
        else:
            width, height = max((ends[-1] for ends in update.chop_ends if ends), default=0), len(update.chops)
        if (width, height) != self.size:
            self._width = width
            self._rows = [[None] * width for _ in range(height)]
            self._is_lost = True

    def _differing(self, y: int, x: int, cells: list[Cell]) -> Iterator[Run]:
        """The runs among some cells of a row that the terminal does not show; it does from then on."""
        row, end = self._rows[y], x + len(cells)
        shown = row[x:end]
        if shown == cells:
            return
        for cut, left in ((x, x - 1), (end, end)):  # half of a wide character takes the other half with it
            if 0 < cut < self._width and (half := row[cut]) is not None and not half[0]:
                row[left] = None
        row[x:end] = cells
        for start, stop in _changed(shown, cells):
            for first, last in _alike(cells, start, stop):
                look = cells[first][1]
                text = "".join([each for each, _ in cells[first:last]])
                yield look.ground, look.ink, y, x + first, last - first, text, look


class ThriftyUpdate(CompositorUpdate):
    """An update that is written by a painter."""

    def __init__(self, update: CompositorUpdate, painter: Painter) -> None:
        self._update = update
        self._painter = painter
        self._written: str | None = None

    def render_segments(self, console: Console) -> str:
        """Write it as text with escape sequences, once: from then on the painter takes it as shown."""
        if self._written is None:
            self._written = self._painter.paint(self._update, console)
        return self._written


def _write(runs: list[Run], *, erases: bool) -> Iterator[str]:
    """Write runs, those of the same colours together."""
    now, row, column = PLAIN, -1, -1
    for _, _, y, x, width, text, look in sorted(runs, key=_ORDER):
        codes, now = change(now, look)
        if y != row or x != column:
            yield f"\x1b[{x - column}C" if y == row and x > column else f"\x1b[{y + 1};{x + 1}H"
        yield codes
        row, column = y, x + width
        if erases and width >= _MANY_BLANKS and not now.attributes & _SEEN_ON_BLANKS:
            text, left = _erase(text)
            column -= left
        yield text
    if now is not PLAIN:
        yield "\x1b[0m"


def _erase(text: str) -> tuple[str, int]:
    """Erase the blanks of a text where that is shorter; how many cells before its end the cursor stands then."""
    end = len(text.rstrip(" "))
    n_last = len(text) - end
    start = _BLANKS.sub(_pass_over, text[:end])
    return (f"{start}\x1b[{n_last}X", n_last) if n_last >= _MANY_BLANKS else (start + text[end:], 0)


def _pass_over(blanks: re.Match[str]) -> str:
    n = len(blanks[0])
    return f"\x1b[{n}X\x1b[{n}C"


def _alike(cells: list[Cell], start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Cut some cells where their look changes."""
    first, look = start, cells[start][1]
    for at in range(start + 1, stop):
        if cells[at][1] is not look:
            yield first, at
            first, look = at, cells[at][1]
    yield first, stop


def _changed(shown: list[Cell | None], cells: list[Cell]) -> list[tuple[int, int]]:
    """The runs of cells to write, each by its first cell and the one after its last."""
    runs: list[tuple[int, int]] = []
    start = stop = -1
    for at in [at for at, differs in enumerate(map(ne, shown, cells)) if differs]:
        if at < stop:  # the second cell of a wide character
            continue
        if start < 0:
            start = at
        elif at > stop and (at - stop > _JOINED_WITHIN or not _is_alike(cells, stop - 1, at)):
            runs.append((start, stop))
            start = at
        stop = at + 1
        while stop < len(cells) and not cells[stop][0]:  # to the end of a wide character
            stop += 1
    return [*runs, (start, stop)] if stop > 0 else runs


def _is_alike(cells: list[Cell], start: int, stop: int) -> bool:
    """Whether it takes a byte a cell to write those between two."""
    return all(look is cells[start][1] and text.isascii() for text, look in cells[start + 1 : stop])

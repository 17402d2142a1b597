"""A heatmap as a figure for paper or screen: one layout of rectangles, lines and texts, to be written as SVG or PNG.

The layout is in whole pixels, so that cells have crisp edges in both. Texts are cut to the room they have by who writes
them: by an estimate in the SVG, whose fonts are the reader's, and by measuring in the PNG.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len

from laminar_tui.render.palette import GAP, NOTHING, make_ramp, to_levels
from laminar_tui.render.text import visible
from laminar_tui.render.ticks import axis_ticks, fraction, tick_labels

Anchor = Literal["start", "middle", "end"]

PICTURE_WIDTH, PICTURE_HEIGHT = 640, 400
"""About the size of the picture, in pixels; a cell is a whole number of them."""
LEFT, TOP, RIGHT, BOTTOM = 80, 74, 112, 62
NOTE_HEIGHT = 24
MARGIN = 16
BAR_GAP, BAR_WIDTH = 24, 16
TICK = 5
HATCH_STEP = 8
TITLE_SIZE, TEXT_SIZE, SUPERSCRIPT = 17.0, 12.0, 0.75
NARROW, MIDDLE, CAPITAL, WIDE = 0.40, 0.64, 0.77, 1.05
"""Widths of characters as a share of the size, at least those of DejaVu Sans, a wide sans serif."""
TICK_ROOM = 54
LABEL_ROOM = 34
"""The least distance between two labelled columns: four digits and a blank."""
BACKGROUND, INK, FAINT_INK = "#ffffff", "#1a1a1a", "#555555"
GAP_FILL, GAP_INK = "#ececec", "#a8a8a8"


@dataclass(frozen=True)
class Rect:
    """A filled rectangle without a border."""

    x: int
    y: int
    width: int
    height: int
    fill: str


@dataclass(frozen=True)
class Line:
    """A line one pixel wide."""

    x1: int
    y1: int
    x2: int
    y2: int
    color: str


@dataclass(frozen=True)
class Text:
    """One line of text; (x, y) is on its base line.

    Attributes:
        text: visible, see `render.text`.
        superscript: follows the text, smaller and raised.
        room: pixels it may take; more than that is cut.
        is_upright: reads from bottom to top.
    """

    x: int
    y: int
    text: str
    room: int
    size: float = TEXT_SIZE
    anchor: Anchor = "start"
    superscript: str = ""
    color: str = INK
    is_upright: bool = False


Primitive: TypeAlias = Rect | Line | Text


@dataclass(frozen=True, eq=False)
class Figure:
    """What is to be drawn. Texts may hold anything: they are made visible here.

    Attributes:
        density: [n_columns, n_cells], cell 0 the lowest weight; NaN where a column was not measured.
        low, high: densities at which the colours begin and end, 0 < low < high; the scale is logarithmic.
        x_labels: one per column, usually its number.
        y_low, y_high: at the lower and the upper edge; exponents of ten where y_log.
        y_log: the y axis is log10 of the weight.
        title, subtitle, x_title, y_title, bar_title: texts.
        gap_note: what a NaN column means.
        color_map: a name from `palette.COLOR_MAPS`; dense is dark, since the background is white.
    """

    density: NDArray[np.float64]
    low: float
    high: float
    x_labels: Sequence[str]
    title: str
    subtitle: str = ""
    x_title: str = "layer"
    y_title: str = "attention weight"
    bar_title: str = "density"
    y_low: float = 0.0
    y_high: float = 1.0
    y_log: bool = False
    gap_note: str = "not read or without attention"
    color_map: str = "magma"


@dataclass(frozen=True)
class _Frame:
    """Where the picture is, in pixels: the corner at the top left, and whole cells from there."""

    n_columns: int
    n_cells: int
    cell_width: int
    cell_height: int
    has_note: bool

    @property
    def right(self) -> int:
        return LEFT + self.n_columns * self.cell_width

    @property
    def bottom(self) -> int:
        return TOP + self.n_cells * self.cell_height

    @property
    def size(self) -> tuple[int, int]:
        return self.right + RIGHT, self.bottom + BOTTOM + (NOTE_HEIGHT if self.has_note else 0)


@dataclass(frozen=True, eq=False)
class Sheet:
    """A figure laid out: its size in pixels and what is on it, the undermost first."""

    width: int
    height: int
    primitives: tuple[Primitive, ...]


def lay_out(figure: Figure) -> Sheet:
    """Turn a figure into drawing primitives."""
    n_columns, n_cells = figure.density.shape
    gaps = np.asarray(np.isnan(figure.density).any(axis=1))
    frame = _Frame(
        n_columns,
        n_cells,
        max(1, round(PICTURE_WIDTH / n_columns)),
        max(1, round(PICTURE_HEIGHT / n_cells)),
        bool(gaps.any()),
    )
    width, height = frame.size
    primitives: list[Primitive] = [Rect(0, 0, width, height, BACKGROUND)]
    for first, last in _runs(gaps):
        left, stop = LEFT + first * frame.cell_width, LEFT + (last + 1) * frame.cell_width
        primitives += _hatch(left, TOP, stop - left, frame.bottom - TOP)
    primitives += _cells(figure, frame)
    primitives += _border(LEFT, TOP, frame.right, frame.bottom)
    primitives += _titles(figure, frame)
    primitives += _x_axis(figure, frame)
    primitives += _y_axis(figure, frame)
    primitives += _color_bar(figure, frame)
    primitives += _gap_note(figure, frame, gaps)
    return Sheet(width, height, tuple(primitives))


def _colors(figure: Figure) -> list[str]:
    ramp = make_ramp(figure.color_map, "truecolor", reverse=True)
    return [color.get_truecolor().hex for color in ramp.colors]


def _cells(figure: Figure, frame: _Frame) -> list[Rect]:
    """Equal neighbours of a column as one rectangle, ordered by colour."""
    colors = _colors(figure)
    levels = to_levels(figure.density, figure.low, figure.high, "log", len(colors))
    rects = []
    for column, line in enumerate(levels):
        starts = np.flatnonzero(np.diff(line, prepend=line[0] - 1))
        for start, stop in zip(starts, [*starts[1:], frame.n_cells], strict=True):
            level = int(line[start])
            if level in (NOTHING, GAP):
                continue
            top = frame.bottom - int(stop) * frame.cell_height
            height = int(stop - start) * frame.cell_height
            rects.append(Rect(LEFT + column * frame.cell_width, top, frame.cell_width, height, colors[level]))
    return sorted(rects, key=lambda rect: rect.fill)


def _runs(marked: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The first and the last index of each run of marked ones."""
    steps = np.diff(marked.astype(np.int8), prepend=0, append=0)
    firsts, stops = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    return [(int(first), int(stop) - 1) for first, stop in zip(firsts, stops, strict=True)]


def _hatch(x: int, y: int, width: int, height: int) -> Iterator[Primitive]:
    yield Rect(x, y, width, height, GAP_FILL)
    for offset in range(HATCH_STEP, width + height, HATCH_STEP):
        begin, end = max(0, offset - height), min(width, offset)
        yield Line(x + begin, y + offset - begin, x + end, y + offset - end, GAP_INK)


def _border(left: int, top: int, right: int, bottom: int) -> list[Line]:
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    return [Line(*corners[i], *corners[i + 1], INK) for i in range(4)]


def _titles(figure: Figure, frame: _Frame) -> list[Text]:
    room = frame.size[0] - LEFT - MARGIN
    middle_x, middle_y = (LEFT + frame.right) // 2, (TOP + frame.bottom) // 2
    height = frame.bottom - TOP
    texts = [
        Text(LEFT, 34, visible(figure.title), room, TITLE_SIZE),
        Text(LEFT, 56, visible(figure.subtitle), room, color=FAINT_INK),
        Text(middle_x, frame.bottom + 44, visible(figure.x_title), frame.right - LEFT, anchor="middle"),
        Text(26, middle_y, visible(figure.y_title), height, anchor="middle", is_upright=True),
        Text(frame.size[0] - 14, middle_y, visible(figure.bar_title), height, anchor="middle", is_upright=True),
    ]
    if not np.any(figure.density > 0) and not np.isnan(figure.density).all():
        texts.append(Text(middle_x, middle_y, "no weights", frame.right - LEFT, TITLE_SIZE, "middle"))
    return texts


def _x_axis(figure: Figure, frame: _Frame) -> Iterator[Primitive]:
    labels = [visible(label) for label in figure.x_labels]
    widest = max(estimate_width(label) for label in labels) * TEXT_SIZE + TEXT_SIZE
    step = _column_step(max(LABEL_ROOM, widest) / frame.cell_width)
    for column in range(0, frame.n_columns, step):
        x = LEFT + column * frame.cell_width + frame.cell_width // 2
        yield Line(x, frame.bottom, x, frame.bottom + TICK, INK)
        yield Text(x, frame.bottom + 20, labels[column], step * frame.cell_width, anchor="middle")


def _column_step(at_least: float) -> int:
    """The round number of columns between two labels: 1, 2, 4, 5, 8, 10, then 2, 5, 10 times a power of ten."""
    steps: list[int] = [1, 2, 4, 5, 8, *(digit * 10**power for power in range(1, 6) for digit in (1, 2, 5))]
    return next((step for step in steps if step >= at_least), steps[-1])


def _y_axis(figure: Figure, frame: _Frame) -> Iterator[Primitive]:
    low, high = (10**figure.y_low, 10**figure.y_high) if figure.y_log else (figure.y_low, figure.y_high)
    ticks = axis_ticks(low, high, 11, log=figure.y_log)
    for label, y in _place_ticks(ticks, low, high, frame, log=figure.y_log):
        yield Line(LEFT - TICK, y, LEFT, y, INK)
        yield replace(label, x=LEFT - TICK - 4, anchor="end")


def _place_ticks(
    ticks: Sequence[float], low: float, high: float, frame: _Frame, *, log: bool
) -> list[tuple[Text, int]]:
    """The label of each tick, with its base line beside it but no place across yet, and the tick's y."""
    labels = tick_labels(ticks, log=log)
    exponents = [math.log10(value) if value > 0 else math.nan for value in ticks]
    decades = all(abs(exponent - round(exponent)) < 1e-9 for exponent in exponents if not math.isnan(exponent))
    as_powers = log and decades and any(not -3 < exponent < 4 for exponent in exponents)
    placed = []
    for label, exponent, at in zip(labels, exponents, fraction(ticks, low, high, log=log), strict=True):
        y = frame.bottom - round(float(at) * (frame.bottom - TOP))
        text = Text(0, y + 4, label, TICK_ROOM)
        if as_powers:
            text = replace(text, text="10", superscript=str(round(exponent)).replace("-", "−"))
        placed.append((text, y))
    return placed


def _color_bar(figure: Figure, frame: _Frame) -> Iterator[Primitive]:
    colors = _colors(figure)
    left, right = frame.right + BAR_GAP, frame.right + BAR_GAP + BAR_WIDTH
    edges = [frame.bottom - round(i * (frame.bottom - TOP) / len(colors)) for i in range(len(colors) + 1)]
    for i, color in enumerate(colors):
        yield Rect(left, edges[i + 1], BAR_WIDTH, edges[i] - edges[i + 1], color)
    yield from _border(left, TOP, right, frame.bottom)
    ticks = axis_ticks(figure.low, figure.high, 9, log=True)
    for label, y in _place_ticks(ticks, figure.low, figure.high, frame, log=True):
        yield Line(right, y, right + TICK, y, INK)
        yield replace(label, x=right + TICK + 4)


def _gap_note(figure: Figure, frame: _Frame, gaps: NDArray[np.bool_]) -> Iterator[Primitive]:
    runs = _runs(gaps)
    if not runs:
        return
    labels = [visible(label) for label in figure.x_labels]
    names = [labels[a] if a == b else f"{labels[a]}–{labels[b]}" for a, b in runs]
    more = f" and {len(names) - 6} more" if len(names) > 7 else ""
    names = names[:6] if more else names
    x, y = LEFT, frame.bottom + BOTTOM - 4
    yield from _hatch(x, y, 22, 14)
    yield from _border(x, y, x + 22, y + 14)
    note = f"{figure.gap_note}: {', '.join(names)}{more}"
    yield Text(x + 30, y + 11, visible(note), frame.size[0] - x - 30 - MARGIN)


def estimate_width(text: str) -> float:
    """The width in an unknown sans serif, as a multiple of the size."""
    width = 0.0
    for character in text:
        if character in "iljtfrI .,:;!|'()[]/\\-·":
            width += NARROW
        elif character in "mwMW@%…→" or cell_len(character) > 1:
            width += WIDE
        else:
            width += CAPITAL if character.isupper() else MIDDLE
    return width


def cut(text: str, measure: Callable[[str], float], room: float) -> str:
    """Shorten a text to its room, measured in any unit, and mark the cut."""
    if measure(text) <= room:
        return text
    kept = bisect_right(range(len(text)), room, key=lambda n: measure(text[:n].rstrip() + "…"))
    return text[: max(kept - 1, 0)].rstrip() + "…"

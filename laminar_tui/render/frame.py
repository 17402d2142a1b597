"""What stands around a picture: the axis at its left, ruler and labels under it, the colour bar at its right.

All of it is made of labels and a layout, whatever the picture is of.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style

from laminar_tui.render.palette import Ramp, Scale, level_values, scale_fraction
from laminar_tui.render.pixels import picture_row
from laminar_tui.render.rows import Row, merge_runs
from laminar_tui.render.text import fit
from laminar_tui.render.ticks import axis_ticks, place_labels, short_number, tick_cells, tick_labels

BAR_WIDTH = 9
"""Cells of the colour bar at the right: two blanks, the bar, a blank, and a number of five characters."""
NAME_WIDTH = 2
"""Cells of the weight axis's name at the left: a letter a row, and a blank."""

_MARK = Style(bold=True)
_FAINT = Style(dim=True)
# Steps between labelled columns. Powers of two and round numbers: models have 12, 24, 32, 80 layers.
COLUMN_STEPS = (1, 2, 4, 5, 8, 10, 20, 25, 50, 100, 200, 500, 1000, 2000, 5000)


@dataclass(frozen=True)
class Signs:
    """The characters of the frame."""

    tick_y: str
    line_y: str
    corner: str
    tick_x: str
    line_x: str
    cursor: str
    crosshair: str
    more_left: str
    more_right: str


SIGNS = Signs("┤", "│", "└", "┴", "─", "▲", "►", "◄", "►")
SIGNS_ASCII = Signs("+", "|", "+", "+", "-", "^", ">", "<", ">")


def signs_for(*, ascii_only: bool) -> Signs:
    """The characters that can be shown."""
    return SIGNS_ASCII if ascii_only else SIGNS


@dataclass(frozen=True)
class Layout:
    """Where things go, in cells.

    Attributes:
        width, height: of the whole drawing.
        rows: rows of the picture; two more (ruler, labels) are below.
        gutter: columns left of the picture, the axis line included.
        cell_width: characters a column of the picture takes.
        n_columns: columns there are.
        n_visible: columns shown at once.
        bar: columns of the colour bar at the right, 0 without one.
        y_name: what the axis at the left is of, a letter a row in a column of its own; empty where that has no room.
    """

    width: int
    height: int
    rows: int
    gutter: int
    cell_width: int
    n_columns: int
    n_visible: int
    bar: int
    y_name: str = ""

    @property
    def n_pixels(self) -> int:
        """Pixels a column of the density must have: two a row, for every colour depth."""
        return 2 * self.rows

    @property
    def picture_width(self) -> int:
        """Cells across the visible columns."""
        return self.n_visible * self.cell_width

    @property
    def used_width(self) -> int:
        """Cells up to the end of the colour bar: what is to the right of it may be given away."""
        return self.gutter + self.picture_width + self.bar

    def column_at(self, x: int, first_column: int) -> int | None:
        """The column under cell `x` of the drawing, for the mouse."""
        inside = 0 <= x - self.gutter < self.picture_width
        return first_column + (x - self.gutter) // self.cell_width if inside else None


@dataclass(frozen=True)
class View:
    """Where one stands.

    Attributes:
        first_column: the leftmost visible column.
        cursor: the marked column, or None.
        crosshair: the marked row of the picture counted from the top, or None.
    """

    first_column: int = 0
    cursor: int | None = None
    crosshair: int | None = None


@dataclass(frozen=True)
class Axis:
    """What is written under a picture.

    Attributes:
        labels: [n_columns] short visible texts, usually numbers.
        name: what a column is; beside the labels where there is room.
        apart: blanks between two labels at least.
    """

    labels: Sequence[str]
    name: str = ""
    apart: int = 2

    @cached_property
    def _widest(self) -> int:
        return max((cell_len(label) for label in self.labels), default=1)

    def step(self, cell_width: int) -> int:
        """Every how many columns a label fits."""
        return column_step(self._widest + self.apart, cell_width)


def y_tick_labels(rows: int, y_low: float, y_high: float, y_log: bool) -> dict[int, str]:
    """Labels of the weight axis by row, counted from the top; about one every three rows."""
    ticks = axis_ticks(y_low, y_high, rows // 3 + 1, log=y_log)
    cells = tick_cells(ticks, y_low, y_high, rows, log=y_log)
    return {rows - 1 - cell: label for cell, label in zip(cells, tick_labels(ticks, log=y_log), strict=True)}


def gutter_row(
    labels: dict[int, str], row: int, gutter: int, signs: Signs, *, crosshair: bool = False, letter: str = ""
) -> Row:
    """The weight axis at the left of one row of the picture; the crosshair replaces one character of it.

    Args:
        letter: of the axis's name, at the very left; empty where the axis has none.
    """
    if gutter <= 0:
        return []
    if letter:
        axis = gutter_row(labels, row, gutter - NAME_WIDTH, signs, crosshair=crosshair)
        return merge_runs([(f"{letter} ", _FAINT), *((segment.text, segment.style) for segment in axis)])
    label = labels.get(row, "")
    line = signs.tick_y if label else signs.line_y
    text = fit(label, gutter - 1, align="right", ascii_only=True)
    return merge_runs([(text, None), (signs.crosshair, _MARK) if crosshair else (line, None)])


def name_letters(name: str, rows: int) -> str:
    """The letters of an axis's name, one for each row from the top, in the middle; nothing where there is no name."""
    return name.center(rows) if name else ""


def bar_levels(n_pixels: int, ramp: Ramp) -> NDArray[np.int16]:
    """The colour bar as a picture of one column, [1, n_pixels], from the lowest level to the highest."""
    levels = ((np.arange(n_pixels) + 0.5) / n_pixels * ramp.n_levels).astype(np.int16)
    return levels[np.newaxis, :]


def bar_labels(rows: int, low: float, high: float, scale: Scale) -> dict[int, str]:
    """Round densities beside the colour bar, by row from the top; a blank row between any two."""
    if not high > low:
        return {0: short_number(high)}
    if scale == "sqrt":  # equal steps of the density would crowd at the top of the bar
        ticks = _round_levels(low, high, max(2, min(5, rows // 3)))
    else:
        ticks = axis_ticks(low, high, max(2, rows // 3 + 1), log=scale == "log")
    at = np.floor(scale_fraction(np.array(ticks), low, high, scale) * rows + 1e-6)
    words = tick_labels(ticks) if scale == "linear" else [short_number(value) for value in ticks]
    labels: dict[int, str] = {}
    for cell, label in zip(np.clip(at, 0, rows - 1), words, strict=True):
        row = rows - 1 - int(cell)
        # A number too long for its place is left out: cut, it would be another number.
        if cell_len(label) <= BAR_WIDTH - 4 and all(abs(row - other) > 1 for other in labels):
            labels[row] = label
    return labels


def _round_levels(low: float, high: float, n: int) -> list[float]:
    """Values at equal steps of the square root, each rounded to one digit, inside [low, high]."""
    values = level_values(low, high, "sqrt", n).tolist()
    rounded = {float(f"{value:.1g}") for value in values}
    return sorted(value for value in rounded if low <= value <= high)


class ColorBar:
    """The colour bar at the right of a picture of so many rows, and its numbers; made once, drawn row by row."""

    def __init__(self, rows: int, low: float, high: float, scale: Scale, ramp: Ramp) -> None:
        self._ramp = ramp
        self._levels = bar_levels(rows * ramp.pixels_per_row, ramp)
        self._labels = bar_labels(max(1, rows), low, high, scale)

    def row(self, row: int) -> Row:
        """One row from the top, BAR_WIDTH cells."""
        number = fit(" " + self._labels.get(row, ""), BAR_WIDTH - 3, ascii_only=True)
        return [Segment("  "), *picture_row(self._levels, self._ramp, row, 1), Segment(number)]


def column_step(cells: int, cell_width: int) -> int:
    """Every how many columns something of so many cells fits."""
    return next((step for step in COLUMN_STEPS if step * cell_width >= cells), COLUMN_STEPS[-1])


def _cell_of(column: int, layout: Layout, first_column: int) -> int:
    """The cell of the picture in which a column's tick stands: the middle, the left one of two."""
    return (column - first_column) * layout.cell_width + (layout.cell_width - 1) // 2


def ruler_row(axis: Axis, layout: Layout, view: View, signs: Signs) -> Row:
    """The line under the picture with a tick at every labelled column and the cursor's mark."""
    step = axis.step(layout.cell_width)
    line = [signs.line_x] * layout.picture_width
    last = view.first_column + layout.n_visible
    for column in range(-(-view.first_column // step) * step, last, step):
        line[_cell_of(column, layout, view.first_column)] = signs.tick_x
    if line and last < layout.n_columns:
        line[-1] = signs.more_right
    corner = signs.more_left if view.first_column > 0 else signs.corner
    before, mark, after = "".join(line), "", ""
    if view.cursor is not None and view.first_column <= view.cursor < last:
        start = (view.cursor - view.first_column) * layout.cell_width
        stop = start + layout.cell_width
        sides = (layout.cell_width - 1) // 2, layout.cell_width // 2
        before, mark, after = before[: start + sides[0]], signs.cursor, before[stop - sides[1] :]
    left = " " * (layout.gutter - 1) + corner if layout.gutter else ""
    rest = " " * (layout.width - layout.gutter - layout.picture_width)
    return merge_runs([(left + before, None), (mark, _MARK), (after + rest, None)])


def label_row(axis: Axis, layout: Layout, view: View) -> Row:
    """The row of column labels; the cursor's stands in brackets and its neighbours make room."""
    step = axis.step(layout.cell_width)
    last = view.first_column + layout.n_visible
    columns = range(-(-view.first_column // step) * step, last, step)
    marks = [(_cell_of(c, layout, view.first_column) + layout.gutter, axis.labels[c]) for c in columns]
    kept = None
    if view.cursor is not None and view.first_column <= view.cursor < last:
        label = f"[{axis.labels[view.cursor]}]"
        kept = (_cell_of(view.cursor, layout, view.first_column) + layout.gutter, label)
        marks = [mark for mark in marks if mark[0] != kept[0]]
    name = (layout.gutter + layout.picture_width + 2 + cell_len(axis.name) // 2, axis.name)
    marks += [name] if axis.name else []
    pieces: list[tuple[str, Style | None]] = []
    end = 0
    for start, label in place_labels(marks, 0, layout.width, kept=kept):
        pieces.append((" " * (start - end), None))
        pieces.append((label, _MARK if kept is not None and label == kept[1] else _FAINT if label == name[1] else None))
        end = start + cell_len(label)
    return merge_runs([*pieces, (" " * (layout.width - end), None)])

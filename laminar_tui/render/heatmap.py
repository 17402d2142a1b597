"""The grid of columns (layers, heads) by weight, drawn in half-block cells: two pixels a character row.

Everything is a function from values to rows, and every row can be made on its own: a widget repaints only the
rows that changed. Moving the cursor changes the ruler and the row of labels under the picture, never the
picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style

from laminar_tui.render.palette import (
    GAP,
    NOTHING,
    Ramp,
    Scale,
    level_values,
    paint,
    scale_fraction,
    to_levels,
)
from laminar_tui.render.rows import Row, merge_runs
from laminar_tui.render.text import fit
from laminar_tui.render.ticks import axis_ticks, place_labels, short_number, tick_cells, tick_labels

MAX_CELL_WIDTH = 8
BAR_WIDTH = 9
"""Cells of the colour bar at the right: two blanks, the bar, a blank, and a number of five characters."""
NAME_WIDTH = 2
"""Cells of the weight axis's name at the left: a letter a row, and a blank."""
MIN_ROWS_WITH_BAR = 3
_MIN_Y_LABEL_WIDTH = 3

_UPPER, _LOWER = "▀", "▄"
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


@dataclass(frozen=True, eq=False)
class Heatmap:
    """What is to be drawn.

    Attributes:
        density: [n_columns, n_pixels] float64, >= 0, pixel 0 the lowest weight; NaN where a column was not
            measured. n_pixels is `Layout.n_pixels`: make the layout first, then average the density over that
            many cells.
        low, high: densities at which the colours begin and end; low is positive on the log scale.
        scale: how densities between them become colours.
        x_labels: [n_columns] short visible texts, usually the numbers of layers or heads.
        y_low, y_high: weights at the lower and the upper edge of the picture (both positive when y_log).
        y_log: equal steps upwards multiply the weight.
        x_name: what a column is; beside the labels where there is room.
    """

    density: NDArray[np.float64]
    low: float
    high: float
    scale: Scale
    x_labels: Sequence[str]
    y_low: float = 0.0
    y_high: float = 1.0
    y_log: bool = False
    x_name: str = ""


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


def plan(
    width: int,
    height: int,
    n_columns: int,
    *,
    y_low: float = 0.0,
    y_high: float = 1.0,
    y_log: bool = False,
    max_cell_width: int = MAX_CELL_WIDTH,
    y_name: str = "",
) -> Layout:
    """Divide a rectangle of width x height cells.

    A column gets as many whole characters as fit for all of them, at most `max_cell_width`. The colour
    bar gives way when that brings all columns into sight, and when it would leave less than half of the width. The
    name of the weight axis is there only if it takes nothing from the picture.
    """
    if y_name:
        wide, narrow = (
            plan(
                each,
                height,
                n_columns,
                y_low=y_low,
                y_high=y_high,
                y_log=y_log,
                max_cell_width=max_cell_width,
            )
            for each in (width, width - NAME_WIDTH)
        )
        is_free = (wide.cell_width, wide.n_visible, wide.bar) == (narrow.cell_width, narrow.n_visible, narrow.bar)
        if not is_free or wide.rows < len(y_name):
            return wide
        return replace(wide, gutter=wide.gutter + NAME_WIDTH, y_name=y_name)
    rows = max(1, height - 2)
    labels = y_tick_labels(rows, y_low, y_high, y_log)
    gutter = max([_MIN_Y_LABEL_WIDTH, *(cell_len(label) for label in labels.values())]) + 1
    gutter = min(gutter, max(0, width - 1))
    room = max(1, width - gutter)
    bar = BAR_WIDTH if rows >= MIN_ROWS_WITH_BAR and room >= 2 * BAR_WIDTH else 0
    if room - bar < n_columns <= room:
        bar = 0
    room -= bar
    n_columns = max(0, n_columns)
    cell_width = min(max_cell_width, max(1, room // max(1, n_columns)))
    n_visible = min(n_columns, room // cell_width)
    return Layout(width, height, rows, gutter, cell_width, n_columns, n_visible, bar)


def scroll_to(first_column: int, cursor: int, layout: Layout) -> int:
    """The first visible column, moved just enough to show the cursor and one column on either side."""
    margin = 1 if layout.n_visible >= 3 else 0
    first_column = min(first_column, cursor - margin)
    first_column = max(first_column, cursor + margin - layout.n_visible + 1)
    return max(0, min(first_column, layout.n_columns - layout.n_visible))


def picture_levels(heatmap: Heatmap, layout: Layout, ramp: Ramp) -> NDArray[np.int16]:
    """The levels of every pixel that the ramp can show.

    Where a cell shows one pixel only, its density is the mean of the two: the average over the cell then is
    still what the cell shows, and a column still holds all its mass, which the larger of the two would
    overstate.

    Returns:
        [n_columns, rows * ramp.pixels_per_row], lowest weight first.

    Raises:
        ValueError: the density has not the number of pixels of the layout.
    """
    density = np.asarray(heatmap.density, dtype=np.float64)
    expected = (layout.n_columns, layout.n_pixels)
    if density.shape != expected:
        raise ValueError(f"density has shape {density.shape}, the layout needs {expected}")
    if ramp.pixels_per_row == 1:
        density = density.reshape(layout.n_columns, layout.rows, 2).mean(axis=2)
    return to_levels(density, heatmap.low, heatmap.high, heatmap.scale, ramp.n_levels)


def picture_row(levels: NDArray[np.int16], ramp: Ramp, row: int, cell_width: int) -> Row:
    """One row of the picture alone.

    Args:
        levels: [n_columns, n_pixels] of the columns to show, as from `picture_levels`.
        ramp: what the levels look like.
        row: counted from the top.
        cell_width: characters a column takes.
    """
    n_pixels = levels.shape[1]
    first = n_pixels - ramp.pixels_per_row * (row + 1)
    pixels: list[list[int]] = levels[:, first : first + ramp.pixels_per_row].tolist()
    pieces: list[tuple[str, Style | None]] = []
    for pixel in pixels:
        glyph, style = draw_cell(pixel[-1], pixel[0], ramp)
        pieces.append((glyph * cell_width, style))
    return merge_runs(pieces)


def draw_cell(upper: int, lower: int, ramp: Ramp) -> tuple[str, Style | None]:
    """The character of one cell; upper and lower are the same pixel where a cell holds one."""
    drawn = ramp.cells.get((upper, lower))
    if drawn is None:
        drawn = ramp.cells[upper, lower] = _draw_cell(upper, lower, ramp)
    return drawn


def _draw_cell(upper: int, lower: int, ramp: Ramp) -> tuple[str, Style | None]:
    if upper == GAP or lower == GAP:
        return ramp.gap_glyph, _FAINT
    if ramp.glyphs:
        return (" " if upper == NOTHING else ramp.glyphs[upper]), None
    if upper == lower:
        return " ", (None if upper == NOTHING else paint(None, ramp.colors[upper]))
    if upper == NOTHING:
        return _LOWER, paint(ramp.colors[lower], None)
    return _UPPER, paint(ramp.colors[upper], None if lower == NOTHING else ramp.colors[lower])


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


def bar_levels(layout: Layout, ramp: Ramp) -> NDArray[np.int16]:
    """The colour bar as a picture of one column, [1, n_pixels], from the lowest level to the highest."""
    n_pixels = layout.rows * ramp.pixels_per_row
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


def bar_row(levels: NDArray[np.int16], labels: dict[int, str], ramp: Ramp, row: int) -> Row:
    """The colour bar and its number at the right of one row, BAR_WIDTH cells."""
    number = fit(" " + labels.get(row, ""), BAR_WIDTH - 3, ascii_only=True)
    return [Segment("  "), *picture_row(levels, ramp, row, 1), Segment(number)]


def column_step(x_labels: Sequence[str], cell_width: int) -> int:
    """Every how many columns a label fits, with two blanks between neighbours."""
    widest = max((cell_len(label) for label in x_labels), default=1)
    return next((step for step in COLUMN_STEPS if step * cell_width >= widest + 2), COLUMN_STEPS[-1])


def _cell_of(column: int, layout: Layout, first_column: int) -> int:
    """The cell of the picture in which a column's tick stands: the middle, the left one of two."""
    return (column - first_column) * layout.cell_width + (layout.cell_width - 1) // 2


def ruler_row(heatmap: Heatmap, layout: Layout, view: View, signs: Signs) -> Row:
    """The line under the picture with a tick at every labelled column and the cursor's mark."""
    step = column_step(heatmap.x_labels, layout.cell_width)
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


def label_row(heatmap: Heatmap, layout: Layout, view: View) -> Row:
    """The row of column labels; the cursor's stands in brackets and its neighbours make room."""
    step = column_step(heatmap.x_labels, layout.cell_width)
    last = view.first_column + layout.n_visible
    columns = range(-(-view.first_column // step) * step, last, step)
    marks = [(_cell_of(c, layout, view.first_column) + layout.gutter, heatmap.x_labels[c]) for c in columns]
    kept = None
    if view.cursor is not None and view.first_column <= view.cursor < last:
        label = f"[{heatmap.x_labels[view.cursor]}]"
        kept = (_cell_of(view.cursor, layout, view.first_column) + layout.gutter, label)
        marks = [mark for mark in marks if mark[0] != kept[0]]
    name = (layout.gutter + layout.picture_width + 2 + cell_len(heatmap.x_name) // 2, heatmap.x_name)
    marks += [name] if heatmap.x_name else []
    pieces: list[tuple[str, Style | None]] = []
    end = 0
    for start, label in place_labels(marks, 0, layout.width, kept=kept):
        pieces.append((" " * (start - end), None))
        pieces.append((label, _MARK if kept is not None and label == kept[1] else _FAINT if label == name[1] else None))
        end = start + cell_len(label)
    return merge_runs([*pieces, (" " * (layout.width - end), None)])


class Drawing:
    """A heatmap laid out for one size and one ramp, whose rows are made one at a time, in any order.

    What costs (levels, ticks) is made once here; nothing of it depends on the view.
    """

    def __init__(self, heatmap: Heatmap, layout: Layout, ramp: Ramp, *, ascii_only: bool = False) -> None:
        """Prepare the picture; raises ValueError where density and layout do not fit together."""
        self.heatmap = heatmap
        self.layout = layout
        self.ramp = ramp
        self.ascii_only = ascii_only
        self.signs = SIGNS_ASCII if ascii_only else SIGNS
        self.levels = picture_levels(heatmap, layout, ramp)
        self._letters = name_letters(layout.y_name, layout.rows)
        self._y_labels = y_tick_labels(layout.rows, heatmap.y_low, heatmap.y_high, heatmap.y_log)
        self._bar_levels = bar_levels(layout, ramp)
        self._bar_labels = bar_labels(layout.rows, heatmap.low, heatmap.high, heatmap.scale)

    def row(self, y: int, view: View) -> Row:
        """Row `y` of the drawing, from the top; layout.width cells; blank below the last."""
        if y < self.layout.rows:
            return self._picture_row(y, view)
        if y == self.layout.rows and y < self.layout.height:
            return ruler_row(self.heatmap, self.layout, view, self.signs)
        if y == self.layout.rows + 1 and y < self.layout.height:
            return label_row(self.heatmap, self.layout, view)
        return [Segment(" " * self.layout.width)]

    def rows(self, view: View) -> list[Row]:
        """All rows, from the top."""
        return [self.row(y, view) for y in range(self.layout.height)]

    def changed_rows(self, old: View, new: View) -> list[int]:
        """The rows that look different after a move; after scrolling, all of them."""
        layout = self.layout
        if old.first_column != new.first_column:
            return list(range(layout.height))
        changed: set[int] = set()
        if old.crosshair != new.crosshair:
            changed |= {row for row in (old.crosshair, new.crosshair) if row is not None}
        if old.cursor != new.cursor:
            changed |= {layout.rows, layout.rows + 1}
        return sorted(y for y in changed if y < layout.height)

    def _picture_row(self, row: int, view: View) -> Row:
        layout = self.layout
        levels = self.levels[view.first_column : view.first_column + layout.n_visible]
        marked = view.crosshair == row
        letter = self._letters[row] if self._letters else ""
        gutter = gutter_row(self._y_labels, row, layout.gutter, self.signs, crosshair=marked, letter=letter)
        picture = picture_row(levels, self.ramp, row, layout.cell_width)
        bar = bar_row(self._bar_levels, self._bar_labels, self.ramp, row) if layout.bar else []
        rest = layout.width - layout.used_width
        return [*gutter, *picture, *bar, Segment(" " * rest)] if rest else [*gutter, *picture, *bar]

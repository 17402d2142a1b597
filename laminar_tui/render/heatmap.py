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

from laminar_tui.render.frame import (
    BAR_WIDTH,
    NAME_WIDTH,
    Axis,
    ColorBar,
    Layout,
    View,
    gutter_row,
    label_row,
    name_letters,
    ruler_row,
    signs_for,
    y_tick_labels,
)
from laminar_tui.render.palette import Ramp, Scale, to_levels
from laminar_tui.render.pixels import picture_row
from laminar_tui.render.rows import Row

MAX_CELL_WIDTH = 8
MIN_ROWS_WITH_BAR = 3
_MIN_Y_LABEL_WIDTH = 3


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
        self.signs = signs_for(ascii_only=ascii_only)
        self.axis = Axis(heatmap.x_labels, heatmap.x_name)
        self.levels = picture_levels(heatmap, layout, ramp)
        self._letters = name_letters(layout.y_name, layout.rows)
        self._y_labels = y_tick_labels(layout.rows, heatmap.y_low, heatmap.y_high, heatmap.y_log)
        self._bar = ColorBar(layout.rows, heatmap.low, heatmap.high, heatmap.scale, ramp)

    def row(self, y: int, view: View) -> Row:
        """Row `y` of the drawing, from the top; layout.width cells; blank below the last."""
        if y < self.layout.rows:
            return self._picture_row(y, view)
        if y == self.layout.rows and y < self.layout.height:
            return ruler_row(self.axis, self.layout, view, self.signs)
        if y == self.layout.rows + 1 and y < self.layout.height:
            return label_row(self.axis, self.layout, view)
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
        bar = self._bar.row(row) if layout.bar else []
        rest = layout.width - layout.used_width
        return [*gutter, *picture, *bar, Segment(" " * rest)] if rest else [*gutter, *picture, *bar]

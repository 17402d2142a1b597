"""Every head as a cell, layer by layer, and the same heads as a sorted table: which head has how much of a number.

A layer is a column, as in the overview, so that a look goes from one picture to the other; head 0 is on top, as in the
table. Where a row for each head does not fit, half blocks show two heads a row.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from rich.segment import Segment
from rich.style import Style

from laminar_tui.profile.wording import percent
from laminar_tui.render.frame import (
    BAR_WIDTH,
    Axis,
    ColorBar,
    Layout,
    View,
    gutter_row,
    label_row,
    ruler_row,
    signs_for,
)
from laminar_tui.render.numbers import number
from laminar_tui.render.palette import GAP, NOTHING, Ramp, Scale, letter_on, scale_fraction
from laminar_tui.render.pixels import picture_row
from laminar_tui.render.rows import Row, cut_row, first_visible, merge_runs, restyle
from laminar_tui.render.text import fit

MAX_ROWS_A_HEAD = 8
MAX_LAYER_WIDTH = 16
"""Cells of a layer at most: twice a column of the overview, since no curve stands beside the matrix."""
TABLE_WIDTH = 34
"""Cells of the table: rank, layer, head, value, and a bar of the rest."""
MAX_BAR = 8
"""Cells of the bar in the table: when another page of it comes into sight, all of its rows are sent."""
LOG_FLOOR = 1e-4
"""The log scale begins at most this far below its top: a share of 1e-9 is as good as none."""

_BOLD = Style(bold=True)
_DIM = Style(dim=True)
_MARKED = Style(reverse=True)
Place = tuple[int, int]
"""A layer and a head."""


def value_range(values: NDArray[np.float64], scale: Scale, *, is_share: bool = False) -> tuple[float, float]:
    """Where the colours of a matrix begin and end: at its least and its greatest value, shares at zero."""
    finite = values[np.isfinite(values)]
    if len(finite) == 0:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    if scale == "log":
        positive = finite[finite > 0]
        low = max(float(positive.min()), high * LOG_FLOOR) if len(positive) and high > 0 else 0.0
    elif is_share and low >= 0:
        low = 0.0
    return low, high


def value_levels(
    values: NDArray[np.float64], low: float, high: float, scale: Scale, n_levels: int
) -> NDArray[np.int16]:
    """Turn numbers into levels: GAP where there is none, else 0 to n_levels - 1; below `low` is the first level."""
    clipped = np.clip(np.nan_to_num(values, nan=low), low, high)
    share = scale_fraction(clipped, low, high, usable_scale(scale, low)) if high > low else np.ones_like(clipped)
    levels = np.clip(np.floor(share * n_levels + 1e-9), 0, n_levels - 1).astype(np.int16)
    levels[~np.isfinite(values)] = GAP
    return levels


def usable_scale(scale: Scale, low: float) -> Scale:
    """The scale for a range that begins at `low`: no root of what is negative, no logarithm of zero."""
    return scale if low > 0 or (low == 0 and scale == "sqrt") else "linear"


@dataclass(frozen=True, eq=False)
class Matrix:
    """Numbers of heads to be drawn.

    Attributes:
        values: float64 [n_layers, n_heads]; NaN where a layer has no such head or was not read.
        scale: how numbers become colours.
        is_share: the numbers are shares: their colours begin at zero, and they are written in percent.
    """

    values: NDArray[np.float64]
    scale: Scale = "linear"
    is_share: bool = False

    @cached_property
    def ends(self) -> tuple[float, float]:
        """Where the colours begin and end."""
        return value_range(self.values, self.scale, is_share=self.is_share)

    def text(self, value: float) -> str:
        """Write one of the numbers: all with the same decimals, unless they are very large or very small."""
        size = max(map(abs, self.ends))
        if self.is_share:
            return percent(value)
        return f"{value:.{2 - math.floor(math.log10(size))}f}" if 0.01 <= size < 1000 else number(value)


class MatrixDrawing:
    """A matrix laid out for one size and one ramp; nothing but marks depends on where the cursor is.

    Args:
        matrix: the numbers.
        width, height: in cells; two rows are the ruler and the numbers of the layers.
        ramp: colours or glyphs.
        ascii_only: no character beyond ASCII.
    """

    def __init__(self, matrix: Matrix, width: int, height: int, ramp: Ramp, *, ascii_only: bool = False) -> None:
        self.matrix, self.ramp, self.ascii_only = matrix, ramp, ascii_only
        self.signs = signs_for(ascii_only=ascii_only)
        n_layers, n_heads = matrix.values.shape
        room = max(1, height - 2)
        fits = n_heads <= room or ramp.pixels_per_row == 1
        self.heads_a_row = 1 if fits else 2
        self.rows_a_head = max(1, min(MAX_ROWS_A_HEAD, room // max(1, n_heads))) if fits else 1
        self.n_rows = min(room // self.rows_a_head, -(-n_heads // self.heads_a_row)) * self.rows_a_head
        gutter = min(width - 1, max(4, len(str(max(0, n_heads - 1))) + 3))
        bar = BAR_WIDTH if width - gutter >= 2 * BAR_WIDTH and self.n_rows >= 3 else 0
        across = max(1, width - gutter - bar)
        cell_width = max(1, min(MAX_LAYER_WIDTH, across // max(1, n_layers)))
        n_visible = min(n_layers, across // cell_width)
        self.layout = Layout(width, height, self.n_rows, gutter, cell_width, n_layers, n_visible, bar)
        low, high = matrix.ends
        self._levels = value_levels(matrix.values, low, high, matrix.scale, ramp.n_levels)
        self._axis = Axis([str(layer) for layer in range(n_layers)])
        self._bar = ColorBar(self.n_rows, low, high, usable_scale(matrix.scale, low), ramp)

    @property
    def used_width(self) -> int:
        """Cells up to the end of the colour bar."""
        return self.layout.used_width

    def rows(self, cursor: Place) -> list[Row]:
        """Draw it with a mark on one head; `height` rows."""
        first_layer, first_head = self._first(cursor)
        view = View(first_layer, cursor[0])
        rows = [self._picture_row(y, first_layer, first_head, cursor) for y in range(self.n_rows)]
        rows += [
            ruler_row(self._axis, self.layout, view, self.signs),
            label_row(self._axis, self.layout, view),
        ]
        blank: Row = [Segment(" " * self.layout.width)]
        return (rows + [blank] * (self.layout.height - len(rows)))[: self.layout.height]

    def place_at(self, x: int, y: int, cursor: Place) -> Place | None:
        """The head under a cell of the drawing, for the mouse."""
        first_layer, first_head = self._first(cursor)
        layer = self.layout.column_at(x, first_layer)
        if layer is None or not 0 <= y < self.n_rows:
            return None
        head = first_head + y // self.rows_a_head * self.heads_a_row
        return (layer, head) if head < self.matrix.values.shape[1] else None

    def _first(self, cursor: Place) -> Place:
        """The layer and the head in the upper left corner, so that the cursor is in sight."""
        n_rows, n_heads = self.n_rows // self.rows_a_head, self.matrix.values.shape[1]
        row = first_visible(cursor[1] // self.heads_a_row, n_rows, -(-n_heads // self.heads_a_row))
        return first_visible(cursor[0], self.layout.n_visible, self.layout.n_columns), row * self.heads_a_row

    def _picture_row(self, y: int, first_layer: int, first_head: int, cursor: Place) -> Row:
        layout = self.layout
        head = first_head + y // self.rows_a_head * self.heads_a_row
        heads = range(head, min(head + self.heads_a_row, self.matrix.values.shape[1]))
        is_middle = y % self.rows_a_head == (self.rows_a_head - 1) // 2
        marked = cursor[1] in heads
        levels = self._levels[first_layer : first_layer + layout.n_visible, head : head + self.heads_a_row]
        if levels.shape[1] < self.ramp.pixels_per_row:  # one head fills a row that could hold two, or is the last
            last = levels if self.heads_a_row == 1 else np.full_like(levels, NOTHING)
            levels = np.concatenate([levels, last], axis=1)
        # `picture_row` counts pixels from below.
        picture = picture_row(levels[:, ::-1], self.ramp, 0, layout.cell_width)
        if marked and self.heads_a_row == 1 and first_layer <= cursor[0] < first_layer + layout.n_visible:
            picture = self._with_mark(picture, cursor, first_layer, is_middle)
        label = f"[{cursor[1]}]" if marked else f"{head} " if self._is_labelled(head, cursor[1]) else ""
        gutter = gutter_row({y: label} if is_middle else {}, y, layout.gutter, self.signs)
        if marked:
            gutter = [Segment(segment.text, _BOLD) for segment in gutter]
        bar = self._bar.row(y) if layout.bar else []
        rest = Segment(" " * (layout.width - layout.used_width))
        return merge_runs((segment.text, segment.style) for segment in (*gutter, *picture, *bar, rest))

    def _is_labelled(self, head: int, cursor: int) -> bool:
        step = self.heads_a_row if self.rows_a_head > 1 else 2 * self.heads_a_row
        return head % step == 0 and (
            self.rows_a_head > 1 or abs(head // self.heads_a_row - cursor // self.heads_a_row) > 1
        )

    def _with_mark(self, picture: Row, cursor: Place, first_layer: int, is_middle: bool) -> Row:
        """Put the cursor's sign into its cell; on glyphs, the cell is shown in reverse."""
        start = (cursor[0] - first_layer) * self.layout.cell_width
        level = int(self._levels[cursor])
        if not self.ramp.colors or level < 0:
            return restyle(picture, start, start + self.layout.cell_width, _MARKED)
        if not is_middle:
            return picture
        at = start + (self.layout.cell_width - 1) // 2
        color = self.ramp.colors[level]
        sign = "+" if self.ascii_only else "◆"
        return [*cut_row(picture, 0, at), Segment(sign, letter_on(color, bold=True)), *cut_row(picture, at + 1)]


# -- the table -------------------------------------------------------------------------------------------------------


def rank_heads(values: NDArray[np.float64], *, descending: bool = True) -> list[Place]:
    """Sort the heads by their number; those of equal number by layer and head; those without one are left out."""
    layers, heads = np.nonzero(np.isfinite(values))
    found = values[layers, heads]
    order = np.lexsort((heads, layers, -found if descending else found))
    return [(int(layers[i]), int(heads[i])) for i in order]


def table_rows(
    matrix: Matrix,
    order: Sequence[Place],
    cursor: Place,
    width: int,
    height: int,
    *,
    title: str = "value",
    ascii_only: bool = False,
) -> list[Row]:
    """Draw the sorted table: a heading, then a page of it with the cursor's row in reverse.

    Args:
        order: the heads, the first rank first.
        cursor: the head whose page is shown.
        title: of the column of numbers; `value` stands for one that is too wide.
    """
    rank = order.index(cursor) if cursor in order else -1
    room = max(1, height - 1)
    first = max(0, rank) // room * room
    left = f"{'rank':>5}{'layer':>7}{'head':>6}"
    title = title if len(left) + len(title) + 1 <= width else "value"  # a number is never cut for its name's sake
    cells = max(10, min(len(title) + 2, width - len(left)))
    head = f"{left}{title:>{cells}}"
    rows: list[Row] = [[Segment(fit(head, width, ascii_only=ascii_only), _DIM)]]
    low, high = matrix.ends
    for at in range(first, min(first + room, len(order))):
        layer, head_index = order[at]
        value = float(matrix.values[layer, head_index])
        text = f"{at + 1:>5}{layer:>7}{head_index:>6}{matrix.text(value):>{cells}}"
        share = min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 1.0
        bar = share_bar(share, min(MAX_BAR, max(0, width - len(text) - 3)), ascii_only=ascii_only)
        line = f"{text}  {bar}" if bar else text
        rows.append([Segment(fit(line, width, ascii_only=ascii_only), _MARKED if at == rank else None)])
    blank: Row = [Segment(" " * max(0, width))]
    return (rows + [blank] * (height - len(rows)))[:height]


def share_bar(share: float, width: int, *, ascii_only: bool = False) -> str:
    """A bar of a share of `width` cells, in half cells where the characters for it are there."""
    halves = round(share * 2 * width)
    return "#" * ((halves + 1) // 2) if ascii_only else "━" * (halves // 2) + "╸" * (halves % 2)

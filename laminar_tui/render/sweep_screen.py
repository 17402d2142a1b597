"""A sweep on a screen: the picture of its steps, one number of them as a curve below it, and a list beside it."""

from dataclasses import replace

import numpy as np
from rich.segment import Segment
from rich.style import Style

from laminar_tui.profile.measures import Measure
from laminar_tui.profile.sweep import Sweep
from laminar_tui.profile.wording import percent
from laminar_tui.render.columns import CURVE_COLOR, CURVE_COLOR_ON_LIGHT, Columns
from laminar_tui.render.curve import Curve, Mode, draw_curves
from laminar_tui.render.frame import View, label_row, ruler_row
from laminar_tui.render.heatmap import Drawing, plan, scroll_to
from laminar_tui.render.numbers import number
from laminar_tui.render.palette import Ramp
from laminar_tui.render.rows import Row, cut_row
from laminar_tui.render.text import fit

GUTTER = 8
"""Cells left of the picture and of the curve: room for a number like `0.0125`, so that both begin at one place."""
MAX_STEP_WIDTH = 24
"""Cells of a step at most: a sweep of few steps fills its place, with the curve below it."""
LIST_WIDTH = 48
"""Cells of the list of steps."""
_BOLD = Style(bold=True)
_MARKED = Style(reverse=True)


class SweepDrawing:
    """The picture and the curve laid out for a size, the columns of one over those of the other.

    Args:
        columns: one a step.
        width, height: of the picture, in cells; two rows of it are ruler and labels.
        ramp: of the densities.
        ascii_only: no character beyond ASCII.
    """

    def __init__(self, columns: Columns, width: int, height: int, ramp: Ramp, *, ascii_only: bool = False) -> None:
        look = columns.look
        low, high = look.weights
        n = len(columns.labels)
        layout = plan(
            width - GUTTER + 4,
            max(3, height),
            n,
            y_low=low,
            y_high=high,
            y_log=look.method.is_log,
            max_cell_width=MAX_STEP_WIDTH,
        )
        self.layout = replace(layout, gutter=GUTTER, width=width)
        while self.layout.used_width > width and self.layout.n_visible > 1:
            narrower = self.layout.cell_width - 1
            self.layout = (
                replace(self.layout, cell_width=narrower)
                if narrower
                else replace(self.layout, n_visible=self.layout.n_visible - 1)
            )
        self.ascii_only = ascii_only
        self._drawing = Drawing(columns.heatmap(self.layout), self.layout, ramp, ascii_only=ascii_only)
        self._first = 0

    def view(self, cursor: int) -> View:
        """Which columns are in sight with the cursor on one of them."""
        self._first = scroll_to(self._first, cursor, self.layout)
        return View(self._first, cursor)

    def rows(self, cursor: int) -> list[Row]:
        """Draw the picture."""
        return self._drawing.rows(self.view(cursor))

    def column_at(self, x: int) -> int | None:
        """The column under cell `x`; for the mouse."""
        column = self.layout.column_at(x, self._first)
        return column if column is not None and column < self.layout.n_columns else None

    def curve_rows(
        self, measure: Measure, cursor: int, height: int, *, mode: Mode, is_colored: bool, is_dark: bool = True
    ) -> list[Row]:
        """Draw a number of the steps under the picture's columns, with the same ruler: `height` rows."""
        layout = replace(self.layout, rows=max(1, height - 2), height=height)
        view = self.view(cursor)
        values = 100 * measure.values if measure.is_share else measure.values
        at = np.arange(len(values), dtype=np.float64)
        sight = view.first_column - 0.5, view.first_column + layout.n_visible - 0.5
        within = (at > sight[0]) & (at < sight[1])
        color = (CURVE_COLOR if is_dark else CURVE_COLOR_ON_LIGHT) if is_colored else ""
        curve = Curve(at, np.where(within, values, np.nan), measure.title, color)
        drawn = draw_curves(
            [curve],
            GUTTER + layout.picture_width + 1,
            height + 1,  # the frame's upper edge is cut off
            x_range=sight,
            mode="ascii" if self.ascii_only else mode,
            label_width=GUTTER - 1,
        )
        rest: Row = [Segment(" " * max(0, layout.width - GUTTER - layout.picture_width))]
        canvas = drawn[1:-2] if height >= 5 else drawn[:-2]
        cut = [[*cut_row(row, 0, GUTTER + layout.picture_width), *rest] for row in canvas]
        axis = self._drawing.axis
        return [*cut, ruler_row(axis, layout, view, self._drawing.signs), label_row(axis, layout, view)][:height]


def value_text(measure: Measure, at: int) -> str:
    """Write a number of a step with its unit."""
    value = float(measure.values[at])
    return percent(value) if measure.is_share else f"{number(value)} {measure.unit}".strip()


def step_rows(
    sweep: Sweep, labels: tuple[str, ...], measure: Measure, cursor: int, width: int, height: int, *, ascii_only: bool
) -> list[Row]:
    """List the steps with a number and the distances to the step before; the page with the cursor, its row reversed."""
    title = measure.title if len(measure.title) <= 18 else "value"
    rows: list[Row] = [_list_row(("step", title, "JS bits", "W1"), width, ascii_only, _BOLD)]
    room = max(1, height - 1)
    first = cursor // room * room
    for at in range(first, min(first + room, len(sweep.steps))):
        value = value_text(measure, at).removesuffix(f" {measure.unit}") if measure.unit else value_text(measure, at)
        distances = (number(float(sweep.jensen_shannon[at])), number(float(sweep.wasserstein[at])))
        rows.append(_list_row((labels[at], value, *distances), width, ascii_only, _MARKED if at == cursor else None))
    blank: Row = [Segment(" " * width)]
    return (rows + [blank] * (height - len(rows)))[:height]


def _list_row(cells: tuple[str, ...], width: int, ascii_only: bool, style: Style | None) -> Row:
    sizes = (12, 19, 8, 8)
    words = [fit(cell, size, align="right", ascii_only=ascii_only) for cell, size in zip(cells, sizes, strict=True)]
    return [Segment(fit(" ".join(words)[: LIST_WIDTH + 2], width, ascii_only=ascii_only), style)]

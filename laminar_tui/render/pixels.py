"""Levels as half-block characters: two pixels a character row where colours stand for levels, one where glyphs do."""

import numpy as np
from numpy.typing import NDArray
from rich.style import Style

from laminar_tui.render.palette import GAP, NOTHING, Ramp, paint
from laminar_tui.render.rows import Row, merge_runs

_UPPER, _LOWER = "▀", "▄"
_FAINT = Style(dim=True)


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

"""The pattern of one head: a map of its weights, query by key, in half-block cells; two queries a character row.

Levels are made for the rows that are asked for only: the pattern of 4,000 tokens has 16 million pixels, of which a
screen shows some thousand.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.segment import Segment
from rich.style import Style

from laminar_tui.render.frame import (
    BAR_WIDTH,
    Axis,
    ColorBar,
    Layout,
    View,
    column_step,
    label_row,
    ruler_row,
    signs_for,
)
from laminar_tui.render.palette import GAP, Ramp, Scale, letter_on, to_levels
from laminar_tui.render.pixels import draw_cell
from laminar_tui.render.rows import Row, merge_runs
from laminar_tui.render.text import fit

FAINTEST = 1e-4
"""Where the logarithmic colours begin: uniform attention over 10,000 keys."""
MAX_PIXEL = 4
"""Cells across one key at most."""
_MARK = Style(bold=True)


@dataclass(frozen=True, eq=False)
class Rows:
    """The weights of some queries of a head.

    Attributes:
        first: the number of the first query.
        weights: float32 [n_queries, n_tokens]; NaN where the mask hides, and for queries that are not at hand.
    """

    first: int
    weights: NDArray[np.float32]

    def of(self, query: int) -> NDArray[np.float32] | None:
        """The weights of one query; None if they are not at hand."""
        at = query - self.first
        if not 0 <= at < len(self.weights) or np.isnan(self.weights[at]).all():
            return None
        row: NDArray[np.float32] = np.nan_to_num(self.weights[at])
        return row


@dataclass(frozen=True)
class MapLayout:
    """Where things go, in cells.

    Attributes:
        width, height: of the whole drawing.
        rows: rows of the picture; two more (ruler, labels) are below.
        gutter: cells left of the picture, the axis line included.
        across: cells a key takes.
        down: pixels a query takes.
        per_row: pixels in a character row, 1 or 2.
        n_queries, n_keys: how many are in sight.
        bar: cells of the colour bar, 0 without one.
    """

    width: int
    height: int
    rows: int
    gutter: int
    across: int
    down: int
    per_row: int
    n_queries: int
    n_keys: int
    bar: int

    @property
    def used_width(self) -> int:
        """Cells up to the end of the colour bar."""
        return self.gutter + self.n_keys * self.across + self.bar

    def keys(self, n_tokens: int) -> Layout:
        """The keys as columns of a picture: what ruler and labels are made of."""
        return Layout(self.width, self.height, self.rows, self.gutter, self.across, n_tokens, self.n_keys, self.bar)


@dataclass(frozen=True)
class MapView:
    """Where one stands: the first query and key in sight, and those under the crosshair."""

    first_query: int = 0
    first_key: int = 0
    query: int = 0
    key: int = 0


def plan_map(width: int, height: int, n_tokens: int, per_row: int) -> MapLayout:
    """Divide a rectangle: pixels as large as let the whole pattern be seen, single ones where that is not to be."""
    rows = max(1, height - 2)
    gutter = max(3, len(str(max(0, n_tokens - 1)))) + 2
    bar = BAR_WIDTH if width - gutter >= 3 * BAR_WIDTH and rows >= 3 else 0
    room = max(1, width - gutter - bar)
    n = max(1, n_tokens)
    across = max(1, min(MAX_PIXEL, room // n, 2 * rows // n))
    down = max(1, across if per_row == 2 else across // 2)
    n_queries = min(n_tokens, max(1, per_row * rows // down))
    n_keys = min(n_tokens, max(1, room // across))
    return MapLayout(width, height, rows, gutter, across, down, per_row, n_queries, n_keys, bar)


def scroll_map(view: MapView, layout: MapLayout, n_tokens: int) -> MapView:
    """Bring the crosshair into sight: by half a picture at once, since each scroll sends all of it."""
    first_query = _scrolled(view.first_query, view.query, layout.n_queries, n_tokens)
    first_key = _scrolled(view.first_key, view.key, layout.n_keys, n_tokens)
    return MapView(first_query, first_key, view.query, view.key)


def _scrolled(first: int, at: int, n_visible: int, n: int) -> int:
    if not first <= at < first + n_visible:
        first = at - n_visible // 2
    return max(0, min(first, n - n_visible))


class PatternDrawing:
    """A pattern laid out for one size and one ramp, whose rows are made one at a time, and kept."""

    def __init__(
        self, rows: Rows, n_tokens: int, layout: MapLayout, ramp: Ramp, scale: Scale, *, ascii_only: bool = False
    ) -> None:
        self.rows = rows
        self.n_tokens = n_tokens
        self.layout = layout
        self._ramp = ramp
        self._scale: Scale = scale
        self._signs = signs_for(ascii_only=ascii_only)
        self._low = FAINTEST if scale == "log" else 0.0
        self._bar = ColorBar(layout.rows, self._low, 1.0, scale, ramp)
        # Three blanks: the brackets of the crosshair's key, and one beside them.
        self._axis = Axis([str(key) for key in range(n_tokens)], apart=3)
        self._kept: dict[tuple[int, int, int], list[tuple[str, Style | None]]] = {}

    def row(self, y: int, view: MapView) -> Row:
        """Row `y` of the drawing, from the top; layout.width cells."""
        layout = self.layout
        if y < layout.rows:
            return self._picture_row(y, view)
        if y == layout.rows and y < layout.height:
            return ruler_row(self._axis, layout.keys(self.n_tokens), View(view.first_key, view.key), self._signs)
        if y == layout.rows + 1 and y < layout.height:
            return label_row(self._axis, layout.keys(self.n_tokens), View(view.first_key, view.key))
        return [Segment(" " * layout.width)]

    def cell_at(self, x: int, y: int, view: MapView) -> tuple[int, int] | None:
        """The query and the key under a cell of the drawing, for the mouse; the upper one of two queries."""
        layout = self.layout
        across, queries = x - layout.gutter, self._queries_in(y, view)
        if not 0 <= across < layout.n_keys * layout.across or y >= layout.rows or not queries:
            return None
        query, key = queries[0], view.first_key + across // layout.across
        return (query, key) if key <= query else None

    def changed_cells(self, old: MapView, new: MapView) -> list[tuple[int, int, int]]:
        """The cells that look different after a move, as (row, first cell, cells); all of them after scrolling."""
        layout = self.layout
        if (old.first_query, old.first_key) != (new.first_query, new.first_key):
            return [(y, 0, layout.width) for y in range(layout.height)]
        changed = set()
        for view in (old, new):
            for y in self._rows_of(view):
                changed.add((y, layout.gutter + (view.key - view.first_key) * layout.across, layout.across))
                if old.query != new.query:
                    changed.add((y, 0, layout.gutter))
        if old.key != new.key:
            changed |= {(y, 0, layout.width) for y in (layout.rows, layout.rows + 1) if y < layout.height}
        return sorted(changed)

    def _rows_of(self, view: MapView) -> range:
        """The character rows in which the crosshair's query stands."""
        layout = self.layout
        first = (view.query - view.first_query) * layout.down
        return range(first // layout.per_row, (first + layout.down - 1) // layout.per_row + 1)

    def _queries_in(self, y: int, view: MapView) -> range:
        layout = self.layout
        first = y * layout.per_row // layout.down
        last = ((y + 1) * layout.per_row - 1) // layout.down
        return range(view.first_query + first, view.first_query + min(last, layout.n_queries - 1) + 1)

    def _picture_row(self, y: int, view: MapView) -> Row:
        layout = self.layout
        key = (y, view.first_query, view.first_key)
        if key not in self._kept:
            self._kept[key] = self._cells(y, view)
        cells = list(self._kept[key])
        at = view.key - view.first_key
        if y in self._rows_of(view) and 0 <= at < len(cells):
            cells[at] = (self._signs.line_y.replace("│", "┼").replace("|", "+") * layout.across, _crossed(cells[at][1]))
        gutter = self._gutter(y, view)
        bar = self._bar.row(y) if layout.bar else []
        rest = layout.width - layout.used_width
        pieces = [*gutter, *cells, *((each.text, each.style) for each in bar), (" " * rest, None)]
        return merge_runs(pieces)

    def _cells(self, y: int, view: MapView) -> list[tuple[str, Style | None]]:
        layout, ramp = self.layout, self._ramp
        keys = slice(view.first_key, view.first_key + layout.n_keys)
        levels = [self._levels(y * layout.per_row + half, view, keys) for half in range(layout.per_row)]
        gaps = [bool((line == GAP).any()) for line in levels]
        if any(gaps) and not all(gaps) and (y + 1) * layout.per_row <= layout.n_queries * layout.down:
            levels = [levels[gaps.index(False)]]  # a query that is at hand is not hatched with its neighbour
        pieces = []
        for upper, lower in zip(levels[0].tolist(), levels[-1].tolist(), strict=True):
            glyph, style = draw_cell(upper, lower, ramp)
            pieces.append((glyph * layout.across, style))
        return pieces

    def _levels(self, pixel: int, view: MapView, keys: slice) -> NDArray[np.int16]:
        """The levels of one line of pixels; what the mask hides is nothing, what is not at hand a gap."""
        query = view.first_query + pixel // self.layout.down
        seen = np.arange(self.n_tokens)[keys] <= query
        at = query - self.rows.first
        if pixel // self.layout.down >= self.layout.n_queries:
            return np.full(len(seen), -1, np.int16)
        if not 0 <= at < len(self.rows.weights) or np.isnan(self.rows.weights[at]).all():
            return np.where(seen, GAP, -1).astype(np.int16)
        weights = np.nan_to_num(self.rows.weights[at, keys].astype(np.float64))
        return to_levels(weights, self._low, 1.0, self._scale, self._ramp.n_levels)

    def _gutter(self, y: int, view: MapView) -> list[tuple[str, Style | None]]:
        layout = self.layout
        queries = self._queries_in(y, view)
        room = layout.gutter - 1
        if y in self._rows_of(view):
            return [(fit(str(view.query), room, align="right"), _MARK), (self._signs.crosshair, _MARK)]
        step = column_step(3 * layout.per_row, layout.down)
        marked = [q for q in queries if q % step == 0 and self._begins(q, y, view)]
        near = any(abs(y - row) <= 1 for row in self._rows_of(view)) if marked else False
        label = str(marked[0]) if marked and not near else ""
        sign = self._signs.tick_y if marked else self._signs.line_y
        return [(fit(label, room, align="right"), None), (sign if queries else " ", None)]

    def _begins(self, query: int, y: int, view: MapView) -> bool:
        return (query - view.first_query) * self.layout.down // self.layout.per_row == y


def _crossed(style: Style | None) -> Style:
    """The crosshair on a cell: a light or dark sign on the cell's own colour."""
    ground = style.bgcolor or style.color if style else None
    if ground is None or ground.is_default:
        return _MARK
    return letter_on(ground, bold=True)

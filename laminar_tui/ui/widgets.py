"""Widgets that are given values and draw them by the line: a line that did not change is not made again.

What of a line is sent, the painter decides.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import zip_longest
from typing import Self

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region, Size, Spacing
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from laminar_tui.render.columns import Columns
from laminar_tui.render.frame import Layout, View
from laminar_tui.render.heatmap import MAX_CELL_WIDTH, Drawing, plan, scroll_to
from laminar_tui.render.palette import Ramp, Scale
from laminar_tui.render.pattern import MapView, PatternDrawing, Rows, plan_map, scroll_map
from laminar_tui.render.rows import Row

DrawRows = Callable[[int, int], list[Row]]


def _draw_nothing(_width: int, _height: int) -> list[Row]:
    return []


class Painted(Widget):
    """A widget of rows, all on the same ground, with padding at most: each row becomes a strip once.

    Textual's own way from a line to the screen, which also knows frames, titles, tints and opacity, makes five strips
    of each.
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._strips: dict[int, Strip] = {}
        self._made_for: tuple[object, ...] = ()
        self._styles: dict[Style | None, Style | None] = {}

    def make_row(self, y: int) -> Row:
        """Make one row of the content, as wide as `self.size`."""
        raise NotImplementedError

    def render_lines(self, crop: Region) -> list[Strip]:
        """Give the lines in a region of the widget, its padding included."""
        ground, filters = self.rich_style, tuple(self.get_line_filters())
        outer, padding = self.outer_size, self.styles.padding
        made_for = ground, filters, outer, padding, self.background_colors[1]
        if made_for != self._made_for:
            self._made_for = made_for
            self._strips.clear()
            self._styles.clear()
        strips = []
        for y in crop.line_range:
            if y not in self._strips:
                inside = padding.top <= y < outer.height - padding.bottom
                row = self.make_row(y - padding.top) if inside else []
                self._strips[y] = self._strip(row, padding, outer.width)
            strips.append(self._strips[y])
        if crop.column_span == (0, outer.width):
            return strips
        return [strip.crop(*crop.column_span) for strip in strips]

    def render_line(self, y: int) -> Strip:
        """Give one line of the content, without filters: for who wants a line alone."""
        return Strip(self.make_row(y)).adjust_cell_length(self.size.width).apply_style(self.rich_style)

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False) -> Self:
        """Make lines anew: those of some regions of the content, or all."""
        top = self.styles.padding.top
        for region in regions:
            for y in region.line_range:
                self._strips.pop(y + top, None)
        if not regions:
            self._strips.clear()
        return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)

    def _strip(self, row: Row, padding: Spacing, width: int) -> Strip:
        """Put a row on the ground, cut or filled up to the width of the content, with the padding beside it."""
        known = self._styles.get
        blank = known(None) or self._on_ground(None)
        strip = Strip([Segment(text, known(style) or self._on_ground(style)) for text, style, _ in row])
        if strip.cell_length != width - padding.width:
            strip = strip.adjust_cell_length(width - padding.width, blank)
        if not padding.width:
            return strip
        return Strip([Segment(" " * padding.left, blank), *strip, Segment(" " * padding.right, blank)], width)

    def _on_ground(self, style: Style | None) -> Style | None:
        """A style on the ground, as the app's filters leave it."""
        segments = [Segment(" ", self.rich_style if style is None else self.rich_style + style)]
        for each in self.get_line_filters():
            segments = each.apply(segments, self.background_colors[1])
        self._styles[style] = segments[0].style
        return segments[0].style


class Lines(Painted):
    """Rows made by a function of width and height; only those that differ from what is shown are repainted."""

    DEFAULT_CSS = "Lines { height: 1; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._draw: DrawRows = _draw_nothing
        self._rows: list[Row] = []
        self._drawn_for = Size(0, 0)

    def display_rows(self, draw: DrawRows, *, is_moved: bool = False) -> None:
        """Show what `draw(width, height)` gives from now on; where the widget gets another size, once it has it."""
        self._draw = draw
        if is_moved or not self.display or not self.size.area:
            self._drawn_for = Size(0, 0)
            self.refresh()
            return
        before = self._rows
        if self._drawn_for != self.size:
            self.refresh()
        self._make_rows()
        for y, (old, new) in enumerate(zip_longest(before, self._rows)):
            if old != new:
                self.refresh(Region(0, y, self.size.width, 1))

    def make_row(self, y: int) -> Row:
        """Give one row; the size may have changed before any resize event."""
        if self._drawn_for != self.size:
            self._make_rows()
        return self._rows[y] if y < len(self._rows) else []

    def _make_rows(self) -> None:
        self._drawn_for = self.size
        self._rows = self._draw(self.size.width, self.size.height)


class HeatmapView(Painted):
    """The picture, with a cursor on its ruler and a crosshair on its axis."""

    DEFAULT_CSS = "HeatmapView { width: auto; height: 1fr; }"

    class Picked(Message):
        """A cell was clicked: its column, and its height on the weight axis from 0 to 1."""

        def __init__(self, column: int, height: float) -> None:
            super().__init__()
            self.column = column
            self.height = height

    class Opened(Message):
        """A cell was clicked twice."""

    class Wheeled(Message):
        """The wheel was turned: columns to go."""

        def __init__(self, step: int) -> None:
            super().__init__()
            self.step = step

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._columns: Columns | None = None
        self._ramp: Ramp | None = None
        self._ascii = False
        self._is_alone = False
        self._drawing: Drawing | None = None
        self._view = View()
        self._height = 0.0
        self._drawn_for = Size(0, 0)

    @property
    def rows(self) -> int:
        """How many rows the picture has: steps of the crosshair. The drawing may still be of an earlier size.

        A picture that is out of sight has those that it had.
        """
        size = self.size if self.size.area else self._drawn_for
        if self._columns is None or not size.area:
            return 1
        return self._plan(size.width, size.height).rows

    @property
    def band(self) -> tuple[float, float]:
        """The crosshair's row as positions on the weight axis, 0 to 1."""
        row = min(int(self._height * self.rows), self.rows - 1)
        return row / self.rows, (row + 1) / self.rows

    def show_columns(
        self, columns: Columns, ramp: Ramp, cursor: int, height: float, *, ascii_only: bool, is_alone: bool = False
    ) -> None:
        """Show these columns, with the cursor on one of them and the crosshair at a height from 0 to 1.

        Where the picture is alone, its columns take all the width.
        """
        resized = self._columns is None or len(self._columns.labels) != len(columns.labels)
        resized |= self._is_alone != is_alone
        same = self._columns is columns and self._ramp is ramp and self._ascii == ascii_only and not resized
        self._is_alone = is_alone
        self._columns, self._ramp, self._ascii, self._height = columns, ramp, ascii_only, height
        before, drawing = self._view, self._drawing
        if not same or drawing is None:
            self._drawing = None
            self._view = View(self._view.first_column, cursor)
            self.refresh(layout=resized)
            return
        self._view = self._placed(cursor)
        scrolled = before.first_column != self._view.first_column
        ruler = drawing.layout.rows
        for y in drawing.changed_rows(before, self._view):
            # The crosshair stands on the weight axis: the picture beside it is not sent again.
            width = self.size.width if scrolled or y >= ruler else drawing.layout.gutter
            self.refresh(Region(0, y, width, 1))

    def get_content_width(self, container: Size, viewport: Size) -> int:
        """As wide as the columns need, and as leaves room for the curve, where one is shown."""
        del viewport
        if self._columns is None:
            return max(20, container.width // 2)
        curve = 0 if self._is_alone else max(34, container.width * 5 // 16)
        return self._plan(max(20, container.width - curve), container.height).used_width + 2

    def make_row(self, y: int) -> Row:
        """Draw one row; the drawing is made anew when size, columns or colours have changed."""
        drawing = self._drawing
        if drawing is None or (drawing.layout.width, drawing.layout.height) != (self.size.width, self.size.height):
            drawing = self._make_drawing()
        return [] if drawing is None else drawing.row(y, self._view)

    def _plan(self, width: int, height: int) -> Layout:
        assert self._columns is not None
        look = self._columns.look
        low, high = look.weights
        n_columns = len(self._columns.labels)
        is_log = look.method.is_log
        return plan(
            width,
            max(3, height),
            n_columns,
            y_low=low,
            y_high=high,
            y_log=is_log,
            max_cell_width=width if self._is_alone else MAX_CELL_WIDTH,
            y_name=look.axis_name,
        )

    def _make_drawing(self) -> Drawing | None:
        if self._columns is None or self._ramp is None or not self.size.area:
            return None
        self._drawn_for = self.size
        layout = self._plan(self.size.width, self.size.height)
        self._drawing = Drawing(self._columns.heatmap(layout), layout, self._ramp, ascii_only=self._ascii)
        self._view = self._placed(self._view.cursor or 0)
        return self._drawing

    def _placed(self, cursor: int) -> View:
        assert self._drawing is not None
        layout = self._drawing.layout
        row = min(int(self._height * layout.rows), layout.rows - 1)
        first = scroll_to(self._view.first_column, cursor, layout)
        return View(first, cursor, layout.rows - 1 - row)

    def on_click(self, event: events.Click) -> None:
        """Put the cursor where the mouse is; a second click opens."""
        if self._drawing is None:
            return
        layout = self._drawing.layout
        column = layout.column_at(event.x, self._view.first_column)
        if column is None or column >= layout.n_columns:
            return
        row = layout.rows - 1 - event.y
        height = (row + 0.5) / layout.rows if 0 <= row < layout.rows else self._height
        self.post_message(self.Picked(column, height))
        if event.chain == 2:
            self.post_message(self.Opened())

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Go on by one column."""
        event.stop()
        self.post_message(self.Wheeled(1))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Go back by one column."""
        event.stop()
        self.post_message(self.Wheeled(-1))

    def forget_scroll(self) -> None:
        """Begin at the first column again: the columns are of another view."""
        self._view = replace(self._view, first_column=0)


class PatternView(Painted):
    """The map of one head, query by key, with a crosshair; only what the crosshair left and reached is sent again."""

    DEFAULT_CSS = "PatternView { width: 1fr; height: 1fr; }"

    class Picked(Message):
        """A cell was clicked."""

        def __init__(self, query: int, key: int) -> None:
            super().__init__()
            self.query = query
            self.key = key

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._rows: Rows | None = None
        self._n_tokens = 0
        self._ramp: Ramp | None = None
        self._scale: Scale = "log"
        self._ascii = False
        self._drawing: PatternDrawing | None = None
        self._view = MapView()

    def show_pattern(
        self, rows: Rows, n_tokens: int, ramp: Ramp, scale: Scale, query: int, key: int, *, ascii_only: bool
    ) -> None:
        """Show these weights, with the crosshair on one of them."""
        same = self._rows is rows and self._ramp is ramp and self._scale == scale and self._n_tokens == n_tokens
        self._rows, self._n_tokens, self._ramp, self._scale, self._ascii = rows, n_tokens, ramp, scale, ascii_only
        before, drawing = self._view, self._drawing
        self._view = replace(before, query=query, key=key)
        if not same or drawing is None or not self._fits(drawing):
            self._drawing = None
            self.refresh()
            return
        self._view = scroll_map(self._view, drawing.layout, n_tokens)
        for y, x, width in drawing.changed_cells(before, self._view):
            self.refresh(Region(x, y, width, 1))

    def make_row(self, y: int) -> Row:
        """Draw one row; the drawing is made anew when size, weights or colours have changed."""
        drawing = self._drawing
        if drawing is None or not self._fits(drawing):
            drawing = self._make_drawing()
        return [] if drawing is None else drawing.row(y, self._view)

    def _fits(self, drawing: PatternDrawing) -> bool:
        return (drawing.layout.width, drawing.layout.height) == (self.size.width, self.size.height)

    def _make_drawing(self) -> PatternDrawing | None:
        if self._rows is None or self._ramp is None or not self.size.area:
            return None
        layout = plan_map(self.size.width, self.size.height, self._n_tokens, self._ramp.pixels_per_row)
        self._drawing = PatternDrawing(
            self._rows, self._n_tokens, layout, self._ramp, self._scale, ascii_only=self._ascii
        )
        self._view = scroll_map(self._view, layout, self._n_tokens)
        return self._drawing

    def on_click(self, event: events.Click) -> None:
        """Put the crosshair where the mouse is."""
        if self._drawing is not None and (cell := self._drawing.cell_at(event.x, event.y, self._view)) is not None:
            self.post_message(self.Picked(*cell))

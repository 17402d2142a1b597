"""Density curves on a frame with round ticks; plotext draws the lines, the frame is drawn here.

plotext is asked for the bare canvas only: its axes put unrounded numbers at the ticks and its legend covers
the peak at 0. It is a compiled library with a figure per process; here every drawing has a figure of its own,
made under a lock.
"""

import math
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style

from laminar_tui.render.rows import Row, merge_runs
from laminar_tui.render.ticks import axis_ticks, fraction, place_labels, tick_cells, tick_labels

Mode = Literal["braille", "quadrant", "ascii"]
MODES: tuple[Mode, ...] = ("braille", "quadrant", "ascii")

Float64 = NDArray[np.float64]
Range = tuple[float, float]
_Piece = tuple[str, Style | None]
_Dot = tuple[int, int]

# Dots across and down in one character.
_DOTS = {"braille": (2, 4), "quadrant": (2, 2), "ascii": (1, 1)}
_MARKERS = {"braille": "braille", "quadrant": "hd", "ascii": "*"}
_ASCII_BAND = "."
_MAX_DECADES = 8.0
_EMPTY_NOTE = "nothing to draw"
# plotext writes one colour per run of characters; the colour carries the number of the curve.
_RUN = re.compile(r"\x1b\[([0-9;]*)m([^\x1b]*)")

# Two figures may be built at the same time only if the compiled part keeps no state, which it does not
# promise.
_plotext_lock = threading.Lock()
_plotter_imported = threading.Event()


@dataclass(frozen=True, eq=False)
class Curve:
    """One line.

    Attributes:
        x: [n_points] float64, ascending.
        y: [n_points] float64; points that are not finite (or not positive on a log axis) interrupt the line.
        label: for the caller's legend; it is not drawn.
        color: a Rich colour or style such as `#ff8800` or `bold cyan`, empty for the terminal's own.
        low, high: [n_points] float64, the ends of a band that is dotted behind all lines; None for no band.
    """

    x: Float64
    y: Float64
    label: str = ""
    color: str = ""
    low: Float64 | None = None
    high: Float64 | None = None


@dataclass(frozen=True)
class _Frame:
    """The signs around the canvas."""

    horizontal: str
    vertical: str
    corners: str  # upper left, upper right, lower left, lower right
    tick_x: str
    tick_y: str


_FRAME = _Frame("─", "│", "┌┐└┘", "┬", "┤")
_FRAME_ASCII = _Frame("-", "|", "++++", "+", "+")


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    log: bool


def has_plotter() -> bool:
    """Whether plotext is imported already, which happens when the first curve is drawn."""
    return _plotter_imported.is_set()


def draw_curves(
    curves: Sequence[Curve],
    width: int,
    height: int,
    *,
    x_log: bool = False,
    y_log: bool = False,
    x_range: Range | None = None,
    y_range: Range | None = None,
    mode: Mode = "braille",
    label_width: int = 0,
    title: str = "",
) -> list[Row]:
    """Draw curves into a frame of width x height cells.

    Args:
        curves: drawn in order, later ones over earlier ones.
        width: in cells, the y labels included.
        height: in rows, the frame and the x labels included.
        x_log: equal steps to the right multiply x.
        y_log: equal steps upwards multiply y; at most eight decades are shown.
        x_range: the ends of the x axis; by default those of the data.
        y_range: the ends of the y axis; by default from 0 to the highest point in x_range.
        mode: which characters the lines are made of; `ascii` keeps the frame in ASCII too.
        label_width: the least width for the y labels, so that the canvas does not move when the labels get
            shorter.
        title: what the axes are of; in the upper border of the frame where there is room.

    Returns:
        `height` rows of `width` cells. Data of one point, of one value, or without any finite value give a
        frame with ticks, never an error; a rectangle too small for a frame comes back blank.
    """
    if width <= 0 or height <= 0:
        return [[] for _ in range(max(0, height))]
    x_axis = _x_axis(curves, x_range, x_log)
    y_axis = _y_axis(curves, x_axis, y_range, y_log)
    top = 1 if height >= 6 else 0
    rows = height - 2 - top
    y_labels = _y_labels(y_axis, rows)
    gutter = max([label_width, *(cell_len(label) for label in y_labels.values())])
    columns = width - gutter - 2
    if rows < 1 or columns < 2:
        return [[Segment(" " * width)] for _ in range(height)]
    canvas = _draw_canvas(curves, x_axis, y_axis, columns, rows, mode)
    frame = _FRAME_ASCII if mode == "ascii" else _FRAME
    out: list[Row] = []
    if top:
        line = f" {title} ".center(columns, frame.horizontal) if title else ""
        line = line if title and len(title) + 4 <= columns else frame.horizontal * columns
        out.append(_border(" " * gutter, frame.corners[:2], line))
    for row in range(rows):
        label = y_labels.get(row, "")
        left = label.rjust(gutter) + (frame.tick_y if label else frame.vertical)
        out.append(merge_runs([(left, None), *canvas[row], (frame.vertical, None)]))
    return [*out, *_x_rows(x_axis, gutter, columns, frame)]


def _x_axis(curves: Sequence[Curve], x_range: Range | None, log: bool) -> _Axis:
    if x_range is not None and _is_range(*x_range, log):
        return _Axis(*x_range, log)
    values = _finite([curve.x for curve in curves], log)
    if not values.size:
        return _Axis(0.1, 1.0, log) if log else _Axis(0.0, 1.0, log)
    return _widen(float(values.min()), float(values.max()), log)


def _y_axis(curves: Sequence[Curve], x_axis: _Axis, y_range: Range | None, log: bool) -> _Axis:
    if y_range is not None and _is_range(*y_range, log):
        return _Axis(*y_range, log)
    inside = [_inside(curve, x_axis) for curve in curves]
    values = _finite(inside, log)
    if not values.size:
        return _Axis(0.1, 1.0, log) if log else _Axis(0.0, 1.0, log)
    low, high = float(values.min()), float(values.max())
    if log:
        return _widen(max(low, high * 10.0**-_MAX_DECADES), high, log)
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return _Axis(0.0, 1.0, log)
    # A line along the upper edge reads as part of the frame: a little air above it.
    return _Axis(low, high + 0.03 * (high - low), log)


def _is_range(low: float, high: float, log: bool) -> bool:
    return math.isfinite(low) and math.isfinite(high) and low < high and (low > 0 or not log)


def _finite(arrays: Sequence[Float64], log: bool) -> Float64:
    values: Float64 = np.concatenate([np.empty(0), *(np.asarray(a, dtype=np.float64) for a in arrays)])
    usable = np.isfinite(values) & (values > 0) if log else np.isfinite(values)
    return np.asarray(values[usable], dtype=np.float64)


def _inside(curve: Curve, x_axis: _Axis) -> Float64:
    """What of a curve and of its band's upper end lies on the x axis."""
    n = min(len(curve.x), len(curve.y))
    x = np.asarray(curve.x[:n], dtype=np.float64)
    values = np.asarray(curve.y[:n], dtype=np.float64)
    tops = values if curve.high is None else np.fmax(values, curve.high[:n])
    within = (x >= x_axis.low) & (x <= x_axis.high)
    return np.concatenate([values[within], tops[within]])


def _widen(low: float, high: float, log: bool) -> _Axis:
    """An axis that is not empty, also where all values are (nearly) the same."""
    if log:
        return _Axis(low, high, log) if high > low * (1 + 1e-9) else _Axis(low / 3.0, low * 3.0, log)
    least = 1e-9 * max(abs(low), abs(high), 1e-300)
    if high - low > least:
        return _Axis(low, high, log)
    half = 0.5 * abs(low) or 0.5
    return _Axis(low - half, high + half, log)


def _y_labels(axis: _Axis, rows: int) -> dict[int, str]:
    ticks = axis_ticks(axis.low, axis.high, max(2, rows // 3 + 1), log=axis.log)
    cells = tick_cells(ticks, axis.low, axis.high, max(1, rows), log=axis.log)
    labels: dict[int, str] = {}
    for cell, label in zip(cells, tick_labels(ticks, log=axis.log), strict=True):
        labels.setdefault(rows - 1 - cell, label)
    return labels


def _border(gutter: str, corners: str, line: str) -> Row:
    return [Segment(gutter + corners[0] + line + corners[1])]


def _x_rows(axis: _Axis, gutter: int, columns: int, frame: _Frame) -> list[Row]:
    """The lower border with ticks, and the labels below it."""
    ticks, labels = _x_ticks(axis, columns, gutter + columns + 2)
    cells = tick_cells(ticks, axis.low, axis.high, columns, log=axis.log)
    line = [frame.horizontal] * columns
    for cell in cells:
        line[cell] = frame.tick_x
    origin = gutter + 1
    marks = [(cell + origin, label) for cell, label in zip(cells, labels, strict=True)]
    border = [Segment(" " * gutter + frame.corners[2] + "".join(line) + frame.corners[3])]
    return [border, _label_row(marks, gutter + columns + 2)]


def _x_ticks(axis: _Axis, columns: int, width: int) -> tuple[list[float], list[str]]:
    """As many ticks as have room for their labels with two blanks between them."""
    for n_max in range(max(1, columns // 4), 0, -1):
        ticks = axis_ticks(axis.low, axis.high, n_max, log=axis.log)
        labels = tick_labels(ticks, log=axis.log)
        cells = tick_cells(ticks, axis.low, axis.high, columns, log=axis.log)
        gaps = [b - a for a, b in pairwise(cells)]
        widest = max((cell_len(label) for label in labels), default=0)
        if widest <= width and all(gap >= widest + 2 for gap in gaps):
            return ticks, labels
    return [], []


def _label_row(marks: list[tuple[int, str]], width: int) -> Row:
    line, end = "", 0
    for start, label in place_labels(marks, 0, width):
        line += " " * (start - end) + label
        end = start + cell_len(label)
    return [Segment(line + " " * (width - end))]


def _draw_canvas(
    curves: Sequence[Curve], x_axis: _Axis, y_axis: _Axis, columns: int, rows: int, mode: Mode
) -> list[list[_Piece]]:
    """The lines alone: rows of (characters, style), each `columns` wide."""
    across, down = _DOTS[mode]
    lines: list[tuple[int, bool, list[_Dot]]] = []
    for number, curve in enumerate(curves):
        dots = _band_dots(curve, x_axis, y_axis, columns * across, rows * down, every=1 if mode == "ascii" else 2)
        lines += [(len(curves) + number, False, dots)] if dots else []
    for number, curve in enumerate(curves):
        for line in _dots(curve, x_axis, y_axis, columns * across, rows * down):
            lines.append((number, True, line))
    if not lines:
        note = _EMPTY_NOTE if columns >= len(_EMPTY_NOTE) else "-"
        middle = rows // 2
        return [[(note.center(columns) if row == middle else " " * columns, None)] for row in range(rows)]
    text = _plotext_canvas(lines, columns * across, rows * down, columns, rows, _MARKERS[mode])
    styles = [_style(curve.color) for curve in curves] + [_style(f"{curve.color} dim".strip()) for curve in curves]
    return [_read_canvas_row(line, columns, styles) for line in text.split("\n")[:rows]]


def _dots(curve: Curve, x_axis: _Axis, y_axis: _Axis, n_x: int, n_y: int) -> list[list[_Dot]]:
    """The dots a curve passes through, in pieces that hang together; dots that repeat are left out.

    Values above or below the y axis are held at its ends, so a zoomed curve leaves through the edge instead
    of stopping short of it.
    """
    n = min(len(curve.x), len(curve.y))
    x = fraction(np.asarray(curve.x[:n], dtype=np.float64), x_axis.low, x_axis.high, log=x_axis.log)
    values = np.asarray(curve.y[:n], dtype=np.float64)
    y = fraction(values, y_axis.low, y_axis.high, log=y_axis.log)
    usable = np.isfinite(x) & np.isfinite(y) & (x >= -1e-9) & (x <= 1 + 1e-9)
    columns = np.clip(np.floor(np.where(usable, x, 0.0) * n_x), 0, n_x - 1).astype(int)
    rows = np.clip(np.floor(np.where(usable, y, 0.0) * n_y), 0, n_y - 1).astype(int)
    pieces: list[list[_Dot]] = []
    previous_usable = False
    for ok, dot in zip(usable.tolist(), zip(columns.tolist(), rows.tolist(), strict=True), strict=True):
        if ok and not previous_usable:
            pieces.append([dot])
        elif ok and dot != pieces[-1][-1]:
            pieces[-1].append(dot)
        previous_usable = ok
    return pieces


def _band_dots(curve: Curve, x_axis: _Axis, y_axis: _Axis, n_x: int, n_y: int, every: int) -> list[_Dot]:
    """The dots of a curve's band, or every second of them, like the fields of a board."""
    if curve.low is None or curve.high is None:
        return []
    n = min(len(curve.x), len(curve.low), len(curve.high))
    x = fraction(np.asarray(curve.x[:n], dtype=np.float64), x_axis.low, x_axis.high, log=x_axis.log)
    # On a log axis the band of a patch that some draws do not have at all goes down to the lower edge.
    ends = [np.maximum(each[:n], y_axis.low if y_axis.log else -np.inf) for each in (curve.low, curve.high)]
    low, high = (fraction(each, y_axis.low, y_axis.high, log=y_axis.log) for each in ends)
    usable = np.isfinite(x) & np.isfinite(low) & np.isfinite(high) & (x >= -1e-9) & (x <= 1 + 1e-9)
    usable &= np.isfinite(curve.y[:n]) & (high > 0)
    columns = np.clip(np.floor(x[usable] * n_x), 0, n_x - 1).astype(int)
    first, last = (np.clip(np.floor(each[usable] * n_y), 0, n_y - 1).astype(int) for each in (low, high))
    dots = {
        (column, row)
        for column, bottom, top in zip(columns.tolist(), first.tolist(), last.tolist(), strict=True)
        for row in range(bottom, top + 1)
        if (column + row) % every == 0
    }
    return sorted(dots)


def _plotext_canvas(
    lines: Sequence[tuple[int, bool, Sequence[_Dot]]], n_x: int, n_y: int, columns: int, rows: int, marker: str
) -> str:
    """Draw lines of dots with plotext: the adapter, and the only code that knows it.

    Args:
        lines: (number below 65536, whether the dots are joined, dots); the number comes back as the colour of the
            characters.
        n_x, n_y: dots across and up.
        columns, rows: characters across and down.
        marker: plotext's name for what a line is made of.

    Returns:
        Rows with a newline after each, with escape sequences.
    """
    # Imported when a curve is drawn: it takes 0.1 s, which the first frame of the program need not wait for.
    import plotext

    _plotter_imported.set()
    with _plotext_lock:
        # A terminal and a figure of our own: those of the module are shared by the whole process.
        terminal: Any = type(plotext.terminal)()
        terminal.limit(False, False)
        figure: Any = type(plotext.figure)(parent=terminal)
        figure.plot_size(columns, rows).canvas("default").axes(False)
        for name in ("x", "y"):
            figure.ruler(name).frequency(0).lim(0, 1).alignment(lim="edge")
        for number, is_joined, dots in lines:
            x = [(column + 0.5) / n_x for column, _ in dots]
            y = [(row + 0.5) / n_y for _, row in dots]
            color = (1, number >> 8, number & 255)
            sign = marker if is_joined or marker != _MARKERS["ascii"] else _ASCII_BAND
            signal = figure.signal(x, y, marker=plotext.marker(sign, (color,))).lines(is_joined)
            # It looks at the colour of every point to choose the next curve's, and every curve here has one: half of
            # the time that a picture of 64 curves takes.
            signal._get_unique_pixels = list
            figure.draw(signal)
        return str(figure.build().string())


def _read_canvas_row(line: str, columns: int, styles: Sequence[Style | None]) -> list[_Piece]:
    """A row of the canvas in pieces; blanks take their left neighbour's style, since each change of it costs bytes."""
    pieces: list[_Piece] = []
    for code, text in _RUN.findall(line):
        parts = code.split(";")
        is_curve = len(parts) == 5 and parts[0] == "38"
        style = styles[int(parts[3]) * 256 + int(parts[4])] if is_curve else None
        pieces.append((text, pieces[-1][1] if pieces and text.isspace() else style))
    taken = sum(len(text) for text, _ in pieces)
    return [*pieces, (" " * (columns - taken), None)]


@lru_cache(maxsize=1024)
def _style(color: str) -> Style | None:
    return Style.parse(color) if color else None

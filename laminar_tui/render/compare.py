"""Two profiles side by side, their signed difference and their lift: pictures on one axis, with one cursor."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style

from laminar_tui.profile.counts import HIGH, LOW
from laminar_tui.profile.density import DEFAULT_GRID
from laminar_tui.profile.pairs import Change, Matching
from laminar_tui.profile.profile import NULL
from laminar_tui.profile.wording import percent, points
from laminar_tui.render.columns import BAND_SIGN, Columns, color_range, weight_at
from laminar_tui.render.curve import Curve, Mode
from laminar_tui.render.frame import (
    Axis,
    Layout,
    View,
    bar_levels,
    gutter_row,
    label_row,
    ruler_row,
    signs_for,
    y_tick_labels,
)
from laminar_tui.render.heatmap import MAX_CELL_WIDTH
from laminar_tui.render.numbers import number
from laminar_tui.render.palette import NOTHING, Ramp, letter_on, to_levels, to_signed_levels
from laminar_tui.render.pixels import picture_row
from laminar_tui.render.rows import Row, cut_row, first_visible, merge_runs
from laminar_tui.render.text import fit
from laminar_tui.render.ticks import short_number
from laminar_tui.render.views import draw_column_curves

Side = Literal["A", "B", "B-A", "B/A"]
ARRANGEMENTS: dict[str, tuple[Side, ...]] = {
    "side by side": ("A", "B", "B-A"),
    "A": ("A",),
    "B": ("B",),
    "difference": ("B-A",),
    "lift": ("B/A",),
}
"""Which pictures are shown at once; the single ones stand in the same place, so that going through them flips."""

# Of the xterm table: over a slow connection a colour of 24 bits is twice as long, and curves are full of them.
A_COLOR, B_COLOR = "color(74)", "color(208)"
COLORS_ON_LIGHT = ("color(25)", "color(130)")
"""Of A and B where the ground is light."""
MAX_LEGEND_BAR = 24
MOST_LIFT = 8
"""From this factor on, and from its inverse, the colours of the lift are the last ones."""
NOWHERE = "nowhere do both hold a weight"
ROUNDING = 1e-6
"""Two numbers closer than this, of their size, are the same: sums of rounded weights differ by as much."""
NAME_WIDTH = 17
NUMBERS_WIDTH = NAME_WIDTH + 32
"""Cells of the table of numbers: a name, A, B, and B - A."""
BETWEEN = 2
"""Cells between two pictures: a blank and the axis line."""
GUTTERS = 5 + 2 * BETWEEN
"""Cells of three pictures beside one another that are not columns, at most."""
_BOLD = Style(bold=True)
_MARKED = Style(reverse=True)


@dataclass(frozen=True, eq=False)
class Pair:
    """The columns of A and B that stand side by side.

    Attributes:
        a, b: the columns of each profile, looked at in the same way.
        matching: which belong together.
        names: of A and B, visible text.
    """

    a: Columns
    b: Columns
    matching: Matching
    names: tuple[str, str]
    _made: dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=dict)

    @property
    def n_columns(self) -> int:
        """How many columns stand side by side."""
        return len(self.matching.labels)

    def densities(self, n_cells: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The densities of A and B, [n_columns, n_cells] each; NaN where a column was not measured."""
        if n_cells not in self._made:
            self._made.clear()  # of another size
            a, b = self.a.densities(n_cells), self.b.densities(n_cells)
            self._made[n_cells] = a[self.matching.a], b[self.matching.b]
        return self._made[n_cells]

    def ranges(self, n_cells: int) -> tuple[tuple[float, float], tuple[float, float]]:
        """Where the colours of the densities, and those of their difference, begin and end."""
        a, b = self.densities(n_cells)
        scale = self.a.look.scale
        faintest = min(self.a.faintest(n_cells), self.b.faintest(n_cells))
        both = color_range(np.concatenate([a, b]), faintest, scale)
        return both, color_range(np.abs(b - a), max(self.a.faintest(n_cells), self.b.faintest(n_cells)), scale)

    def lift(self, n_cells: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """How many times as dense B is as A, as log2, and where both hold a weight, [n_columns, n_cells] each.

        0 where either side has less than one weight, of which no ratio says anything; NaN where a column was not
        measured.
        """
        a, b = self.densities(n_cells)
        one, other = self.a.one_weight(n_cells)[self.matching.a], self.b.one_weight(n_cells)[self.matching.b]
        some = (a >= one[:, np.newaxis]) & (b >= other[:, np.newaxis])
        lift = np.log2(np.divide(b, a, out=np.ones_like(a), where=some))
        lift[np.isnan(a) | np.isnan(b)] = np.nan
        return lift, some

    def curves(self, column: int, colors: tuple[str, str] = ("", "")) -> tuple[list[Curve], list[Curve]]:
        """The density curve of A and that of B; empty for what was not measured."""
        place_a, place_b = int(self.matching.a[column]), int(self.matching.b[column])
        one = [self.a.curve(place_a, colors[0])] if self.a.measured[place_a] else []
        other = [self.b.curve(place_b, colors[1])] if self.b.measured[place_b] else []
        return one, other


def columns_cells(width: int, n_columns: int, n_sides: int, gutter: int = GUTTERS - 2 * BETWEEN) -> int:
    """How many cells each column gets where so many pictures stand beside one another."""
    room = max(n_sides, width - gutter - BETWEEN * (n_sides - 1)) // n_sides
    return max(1, min(MAX_CELL_WIDTH, room // max(1, n_columns)))


class PairDrawing:
    """The pictures laid out for a size; only ruler and labels depend on where the cursor is.

    Args:
        pair: what is compared.
        width, height: in cells; a row each is heading, ruler, labels and legend.
        ramp: of the densities.
        two_sided: of the difference, or of the lift, for which it has a middle.
        sides: which pictures are shown.
        ascii_only: no character beyond ASCII.
    """

    def __init__(
        self,
        pair: Pair,
        width: int,
        height: int,
        ramp: Ramp,
        two_sided: Ramp,
        *,
        sides: Sequence[Side] = ("A", "B", "B-A"),
        ascii_only: bool = False,
    ) -> None:
        self.pair, self.width, self.height, self.sides = pair, width, height, tuple(sides)
        self.ramp, self.two_sided, self.ascii_only = ramp, two_sided, ascii_only
        self.signs = signs_for(ascii_only=ascii_only)
        method = pair.a.look.method
        ends = weight_at(method.low, method), weight_at(method.high, method)
        self.n_rows = max(1, height - 4)
        self._y_labels = y_tick_labels(self.n_rows, *ends, method.is_log)
        gutter = max([3, *(cell_len(label) for label in self._y_labels.values())]) + 1
        room = max(len(self.sides), width - gutter - BETWEEN * (len(self.sides) - 1)) // len(self.sides)
        cell_width = columns_cells(width, pair.n_columns, len(self.sides), gutter)
        n_visible = min(pair.n_columns, room // cell_width)
        self.layouts = [
            self._layout(gutter if at == 0 else BETWEEN, cell_width, n_visible) for at in range(len(self.sides))
        ]
        self._axis = Axis(pair.matching.labels)
        n_pixels = 2 * self.n_rows
        self.range, self.signed_range = pair.ranges(n_pixels)
        self._levels = [self._make_levels(side, n_pixels) for side in self.sides]
        self._pictures: dict[int, list[Row]] = {}

    def _layout(self, gutter: int, cell_width: int, n_visible: int) -> Layout:
        width = gutter + n_visible * cell_width
        return Layout(width, self.height, self.n_rows, gutter, cell_width, self.pair.n_columns, n_visible, 0)

    def _make_levels(self, side: Side, n_pixels: int) -> NDArray[np.int16]:
        ramp = self._ramp_of(side)
        if side == "B/A":
            lift, some = self.pair.lift(self.n_rows * ramp.pixels_per_row)
            levels = to_signed_levels(lift, 0.0, math.log2(MOST_LIFT), "linear", ramp.n_levels)
            levels[~some & np.isfinite(lift)] = NOTHING
            return levels
        a, b = self.pair.densities(n_pixels)
        values = {"A": a, "B": b, "B-A": b - a}[side]
        if ramp.pixels_per_row == 1:
            values = values.reshape(len(values), self.n_rows, 2).mean(axis=2)
        scale = self.pair.a.look.scale
        if side == "B-A":
            return to_signed_levels(values, *self.signed_range, scale, ramp.n_levels)
        return to_levels(values, *self.range, scale, ramp.n_levels)

    def _ramp_of(self, side: Side) -> Ramp:
        return self.ramp if side in ("A", "B") else self.two_sided

    @property
    def used_width(self) -> int:
        """Cells up to the end of the last picture."""
        return sum(layout.width for layout in self.layouts)

    def rows(self, cursor: int) -> list[Row]:
        """Draw it with the cursor on a column; `height` rows."""
        first = first_visible(cursor, self.layouts[0].n_visible, self.pair.n_columns)
        view = View(first, cursor)
        ruler = [ruler_row(self._axis, layout, view, self.signs) for layout in self.layouts]
        labels = [label_row(self._axis, layout, view) for layout in self.layouts]
        rows = [self._heading(), *self._picture(first), self._joined(ruler), self._joined(labels), self._legend()]
        return rows[: self.height]

    def column_at(self, x: int, cursor: int) -> int | None:
        """The column under cell `x`, in whichever picture it is; for the mouse."""
        first = first_visible(cursor, self.layouts[0].n_visible, self.pair.n_columns)
        for layout in self.layouts:
            if x < layout.width:
                return layout.column_at(x, first)
            x -= layout.width
        return None

    def _heading(self) -> Row:
        glyphs = self.two_sided.glyphs
        alike = f" {glyphs[3]} alike," if len(glyphs) % 2 else ""
        signs = f" ({glyphs[:3][::-1]} less,{alike} {glyphs[-3:]} more)" if glyphs else ""
        words = {
            "A": f"A  {self.pair.names[0]}",
            "B": f"B  {self.pair.names[1]}",
            "B-A": f"B - A{signs}",
            "B/A": f"B / A, how many times as dense{signs}" if self._has_any() else f"B / A: {NOWHERE}",
        }
        pieces: list[tuple[str, Style | None]] = []
        for side, layout in zip(self.sides, self.layouts, strict=True):
            room = (self.width if side == "B/A" else layout.width) - layout.gutter  # the lift stands alone
            text = words[side].replace(NULL, "chance: ", 1)
            if cell_len(text) > room:
                text = f"B {side[1]} A" if side in ("B-A", "B/A") else text.replace("chance: ", "", 1)
            pieces += [(" " * layout.gutter, None), (fit(text, room, ascii_only=self.ascii_only), _BOLD)]
        return self._filled(pieces)

    def _has_any(self) -> bool:
        """Whether anything is drawn in a picture."""
        return any(bool((levels >= 0).any()) for levels in self._levels)

    def _picture(self, first: int) -> list[Row]:
        if first not in self._pictures:
            self._pictures = {first: [self._picture_row(row, first) for row in range(self.n_rows)]}
        return self._pictures[first]

    def _picture_row(self, row: int, first: int) -> Row:
        pieces: list[Segment] = []
        for at, (side, layout) in enumerate(zip(self.sides, self.layouts, strict=True)):
            ramp = self._ramp_of(side)
            pieces += gutter_row(self._y_labels if at == 0 else {}, row, layout.gutter, self.signs)
            levels = self._levels[at][first : first + layout.n_visible]
            pieces += picture_row(levels, ramp, row, layout.cell_width)
        return [*pieces, Segment(" " * (self.width - self.used_width))]

    def _legend(self) -> Row:
        """The colour bars, lying: what the colours of the densities, their difference and their lift stand for."""
        sizes = (
            self._legend_pieces(cells, word)
            for word in ("difference", "B - A")
            for cells in range(MAX_LEGEND_BAR // 2, 1, -1)
        )
        return self._filled(next((p for p in sizes if sum(cell_len(text) for text, _ in p) <= self.width), []))

    def _legend_pieces(self, cells: int, difference: str) -> list[tuple[str, Style | None]]:
        """The legend with bars of twice so many cells, and a word for the difference."""
        low, high = (_two_digits(end) for end in self.range)
        least, most = (_two_digits(end) for end in self.signed_range)
        around = "+-" if self.ascii_only else "±"
        pieces: list[tuple[str, Style | None]] = [("    ", None)]
        if "A" in self.sides or "B" in self.sides:
            bar = _lying_bar(self.ramp, 2 * cells)
            pieces += [(f"density {low} ", None), *_pieces(bar), (f" {high}   ", None)]
        if "B-A" in self.sides:
            bar = _lying_bar(self.two_sided, 2 * cells)
            middle = f" {around}{least} " if self.pair.a.look.scale == "log" else " 0 "
            less, more = cut_row(bar, 0, cells), cut_row(bar, cells)
            pieces += [(f"{difference} -{most} ", None), *_pieces(less), (middle, None), *_pieces(more)]
            pieces.append((f" +{most}", None))
        if "B/A" in self.sides:
            bar = _lying_bar(self.two_sided, 2 * cells)
            less, more = cut_row(bar, 0, cells), cut_row(bar, cells)
            colors = self.two_sided.colors
            alike = letter_on(colors[len(colors) // 2]) if colors else None
            pieces += [(f"times 1/{MOST_LIFT} ", None), *_pieces(less), (" 1 ", alike), *_pieces(more)]
            pieces.append((f" {MOST_LIFT}, and beyond", None))
        return pieces

    def _joined(self, parts: Sequence[Row]) -> Row:
        return self._filled([(segment.text, segment.style) for row in parts for segment in row])

    def _filled(self, pieces: list[tuple[str, Style | None]]) -> Row:
        used = sum(cell_len(text) for text, _ in pieces)
        return merge_runs([*pieces, (" " * max(0, self.width - used), None)])


def _two_digits(value: float) -> str:
    return short_number(float(f"{value:.2g}"))


def _pieces(row: Row) -> list[tuple[str, Style | None]]:
    return [(segment.text, segment.style) for segment in row]


def _lying_bar(ramp: Ramp, cells: int) -> Row:
    return picture_row(np.repeat(bar_levels(cells, ramp).T, ramp.pixels_per_row, axis=1), ramp, 0, 1)


# -- below the pictures ------------------------------------------------------------------------------------------------


def pair_curves(
    pair: Pair, column: int, width: int, height: int, *, mode: Mode, colored: bool, is_dark: bool = True
) -> list[Row]:
    """The density curves of a column: over one another in two colours; without colours beside one another."""
    colors = (A_COLOR, B_COLOR) if is_dark else COLORS_ON_LIGHT
    one, other = pair.curves(column, colors if colored else ("", ""))
    faintest = min(pair.a.faintest(DEFAULT_GRID), pair.b.faintest(DEFAULT_GRID))
    look = pair.a.look
    band = f"  ({BAND_SIGN})" if any(curve.low is not None for curve in [*one, *other]) else ""
    if colored:
        heading: list[tuple[str, Style | None]] = [
            ("  density  ", None),
            ("A", Style(color=colors[0], bold=True)),
            (" and ", None),
            ("B", Style(color=colors[1], bold=True)),
            (band, None),
        ]
        drawn = draw_column_curves([*one, *other], look, width, height - 1, mode=mode, faintest=faintest)
        return [merge_runs([*heading, (" " * max(0, width - 18 - cell_len(band)), None)]), *drawn]
    half = width // 2
    left = draw_column_curves(one, look, half, height - 1, mode=mode, faintest=faintest)
    right = draw_column_curves(other, look, width - half, height - 1, mode=mode, faintest=faintest)
    names = [f"density, {name}" for name in "AB"]
    if cell_len(names[0] + band) < half:
        names = [
            f"{name}{band if any(c.low is not None for c in side) else ''}"
            for name, side in zip(names, (one, other), strict=True)
        ]
    title = [Segment(fit(names[0], half, align="center") + fit(names[1], width - half, align="center"))]
    return [title, *([*a, *b] for a, b in zip(left, right, strict=True))]


@dataclass(frozen=True)
class Line:
    """A number of A and of B, and how it changes: unchanged text where there is none."""

    name: str
    a: str
    b: str
    delta: str


def number_lines(
    pair: Pair, column: int, change: Change | None, statistics: Sequence[tuple[str, float, float, bool]]
) -> list[Line]:
    """The numbers of a column: of A, of B, and B - A.

    Args:
        change: the distances of all columns, or None while they are being measured.
        statistics: title, A, B and whether it is a share, of numbers that are not made from the counts.
    """
    one, other = int(pair.matching.a[column]), int(pair.matching.b[column])
    if not (pair.a.measured[one] and pair.b.measured[other]):
        return [Line("not measured", "", "", "")]
    a, b = pair.a.counts[one], pair.b.counts[other]
    lines = [Line("weights", f"{int(a.n):,}", f"{int(b.n):,}", "")]
    if change is not None:
        lines.append(Line("Wasserstein-1", "", "", number(float(change.wasserstein[column]))))
        lines.append(Line("Jensen-Shannon", "", "", f"{number(float(change.jensen_shannon[column]))} bits"))
    values = [
        ("mean", float(a.mean), float(b.mean), False),
        ("median", float(a.quantile(0.5)), float(b.quantile(0.5)), False),
        (f"above {HIGH}", float(a.share_high), float(b.share_high), True),
        (f"below {LOW}", float(a.share_low), float(b.share_low), True),
        *statistics,
        ("max", float(a.quantile(1.0)), float(b.quantile(1.0)), False),
    ]
    return lines + [_line(*each) for each in values]


def _line(name: str, a: float, b: float, is_share: bool) -> Line:
    if is_share:
        return Line(name, percent(a), percent(b), points(b - a))
    same = abs(b - a) <= ROUNDING * max(abs(a), abs(b))
    return Line(name, number(a), number(b), "0" if same else signed(b - a))


def signed(value: float) -> str:
    """A number with its sign: `+0.81`, `-2e-4`, `0`, `–` where there is none."""
    text = number(value)
    return f"+{text}" if value > 0 else text


def line_rows(lines: Sequence[Line], heading: str, width: int, height: int, *, ascii_only: bool = False) -> list[Row]:
    """Draw numbers as a table of four columns under a heading."""
    name = max(NAME_WIDTH, width - 32)

    def row(texts: Line, style: Style | None) -> Row:
        text = f"{fit(texts.name, name, ascii_only=ascii_only)}{texts.a:>10}{texts.b:>10}{texts.delta:>12}"
        return [Segment(fit(text, width, ascii_only=ascii_only), style)]

    rows = [row(Line(heading, "A", "B", "B - A"), _BOLD), *(row(line, None) for line in lines)]
    blank: Row = [Segment(" " * width)]
    return (rows + [blank] * (height - len(rows)))[:height]


def ranking_rows(pair: Pair, change: Change, column: int, width: int, height: int, *, word: str) -> list[Row]:
    """Draw the columns by how much they have changed, the page on which a column stands, its row in reverse."""
    order = change.ranking()
    room = max(1, height - 1)
    first = (order.index(column) if column in order else 0) // room * room
    rows: list[Row] = [[Segment(fit(f"{'change':>6}{word:>8}{'JS bits':>12}{'W1':>12}", width), _BOLD)]]
    for rank, at in enumerate(order[first : first + room], first + 1):
        divergence, distance = float(change.jensen_shannon[at]), float(change.wasserstein[at])
        text = f"{rank:>6}{pair.matching.labels[at]:>8}{divergence:>12.4f}{distance:>12.5f}"
        rows.append([Segment(fit(text, width), _MARKED if at == column else None)])
    blank: Row = [Segment(" " * width)]
    return (rows + [blank] * (height - len(rows)))[:height]


def change_table(pair: Pair, change: Change | None, word: str) -> list[list[str]]:
    """All columns in numbers, their heading first: distances, then each number of A and of B.

    Args:
        change: the distances; None while they are being measured: their cells are empty.
        word: what a column is.
    """
    sides = [pair.a.counts[pair.matching.a], pair.b.counts[pair.matching.b]]
    nothing = np.full(pair.n_columns, np.nan)
    numbers: dict[str, NDArray[np.float64]] = {
        "jensen_shannon_bits": nothing if change is None else change.jensen_shannon,
        "wasserstein_1": nothing if change is None else change.wasserstein,
    }
    one, other = (counts.summary() | {"max": counts.quantile(1.0)} for counts in sides)
    for name in one:
        numbers |= {f"{name}.a": one[name], f"{name}.b": other[name]}
    rows = [
        [pair.matching.labels[at], str(pair.matching.a[at]), str(pair.matching.b[at])]
        + [f"{values[at]:.10g}" if np.isfinite(values[at]) else "" for values in numbers.values()]
        for at in range(pair.n_columns)
        if pair.a.measured[pair.matching.a[at]] and pair.b.measured[pair.matching.b[at]]
    ]
    return [[word, "a", "b", *numbers], *rows]

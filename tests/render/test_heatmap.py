"""The picture decodes back to its levels, every row has its width, and a cursor move touches two rows."""

from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from laminar_tui.render import frame, pixels
from laminar_tui.render import heatmap as hm
from laminar_tui.render.frame import Layout, View
from laminar_tui.render.heatmap import Drawing, Heatmap, plan, scroll_to
from laminar_tui.render.palette import GAP, NOTHING, Ramp, make_ramp, to_levels
from laminar_tui.render.rows import Depth, Row, row_text, row_width, to_ansi
from laminar_tui.render.ticks import axis_ticks, place_labels, short_number, tick_labels

DEPTHS: tuple[Depth, ...] = get_args(Depth)


def peaked_density(n_columns: int, n_pixels: int) -> np.ndarray:
    """[n_columns, n_pixels]: a peak at 0 that widens, and a bump at 0.75 that grows, column by column."""
    weight = (np.arange(n_pixels) + 0.5) / n_pixels
    depth = np.linspace(0, 1, n_columns)[:, np.newaxis]
    bump = 0.3 * depth * np.exp(-0.5 * ((weight - 0.75) / 0.1) ** 2)
    density = 40 * np.exp(-weight / (0.02 + 0.05 * depth)) + bump
    return np.where(density < 0.01, 0.0, density)


def drawing(
    width: int = 40,
    height: int = 12,
    n_columns: int = 12,
    depth: Depth = "none",
    ascii_only: bool = False,
    y_log: bool = False,
    gaps: tuple[int, ...] = (),
) -> Drawing:
    y_low = 1e-8 if y_log else 0.0
    layout = plan(width, height, n_columns, y_low=y_low, y_log=y_log)
    density = peaked_density(n_columns, layout.n_pixels)
    density[list(gaps)] = np.nan
    labels = [str(i) for i in range(n_columns)]
    heatmap = Heatmap(density, 0.01, 100.0, "log", labels, y_low, 1.0, y_log)
    return Drawing(heatmap, layout, make_ramp("magma", depth, ascii_only=ascii_only), ascii_only=ascii_only)


GOLDEN_40X11 = """\
1.0+      ........::::::::::  @ 100
   |  ..::::::--------------  %
   |  ..::::----------======  #
   |    ..::::::::::--------  *
0.5+                ....::::  + 1
   |              ..::::----  =
   |      ..::::--======++++  -
   |..::--==++++++**********  :
0.0+##########%%%%%%%%%%%%%%  . 0.01
   ++-^-+---+---+---+---+---
     [1]    4   6   8   10
"""

GOLDEN_80X23 = """\
   1┤      ╱╱╱╱                          ····························  █ 100
    │      ╱╱╱╱    ··································::::::::::::::::  █
    │      ╱╱╱╱··············::::::::::::::::::::::::::::::::::::::::  █
    │    ··╱╱╱╱····::::::::::::::::::::::::::::::::::::::::::::::::::  █
    ►    ··╱╱╱╱··::::::::::::::::::::::::::::::::::::░░░░░░░░░░░░░░░░  ▓
0.01┤    ··╱╱╱╱::::::::::::::::::::::::::::::::::::░░░░░░░░░░░░░░░░░░  ▓ 10
    │    ··╱╱╱╱··::::::::::::::::::::::::::::::::::::::::::░░░░░░░░░░  ▓
    │      ╱╱╱╱········::::::::::::::::::::::::::::::::::::::::::::::  ▒
    │      ╱╱╱╱······················::::::::::::::::::::::::::::::::  ▒
    │      ╱╱╱╱            ····································::::::  ▒
1e-4┤      ╱╱╱╱                                ······················  ▒ 1
    │      ╱╱╱╱                                ················::::::  ░
    │      ╱╱╱╱                            ············::::::::::::::  ░
    │      ╱╱╱╱                      ··········::::::::::::::::::░░░░  ░
    │      ╱╱╱╱              ········::::::::::::::::::░░░░░░░░░░░░░░  :
1e-6┤      ╱╱╱╱      ········::::::::::::::░░░░░░░░░░░░░░░░░░░░░░░░░░  : 0.1
    │      ╱╱╱╱······::::::::::░░░░░░░░░░░░░░░░░░░░░░▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒  :
    │  ····╱╱╱╱::::::░░░░░░░░░░░░░░░░▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒  :
    │::::░░╱╱╱╱░░░░░░▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓  ·
    │▒▒▒▒▒▒╱╱╱╱▒▒▒▒▒▒▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓  ·
1e-8┤▓▓▓▓▓▓╱╱╱╱▓▓▓▓▓▓▓▓▓▓████████████████████████████████████████████  · 0.01
    └┴───┴───┴───┴───┴───┴───┴───┴───┴───┴───▲───┴───┴───┴───┴───┴───
     0   2   4   6   8   10  12  14  16  18 [20] 22  24  26  28  30
"""


def test_a_small_picture_in_ascii() -> None:
    rows = drawing(height=11, ascii_only=True).rows(View(0, 1))
    assert to_ansi(rows, "none") == GOLDEN_40X11


def test_a_full_picture_with_gaps_and_a_crosshair() -> None:
    rows = drawing(80, 23, 32, y_log=True, gaps=(3, 4)).rows(View(0, 20, 4))
    assert to_ansi(rows, "none") == GOLDEN_80X23


def decode(row: Row, ramp: Ramp, cell_width: int) -> list[tuple[int, int]]:
    """The (upper, lower) levels that a row of half-block cells shows, column by column."""
    numbers = {color: level for level, color in enumerate(ramp.colors)}
    cells: list[tuple[int, int]] = []
    for segment in row:
        style = segment.style
        front = numbers[style.color] if style and style.color else NOTHING
        back = numbers[style.bgcolor] if style and style.bgcolor else NOTHING
        shown = {" ": (back, back), "▀": (front, back), "▄": (back, front), "╱": (GAP, GAP)}
        cells += [shown[character] for character in segment.text]
    assert all(len(set(cells[i : i + cell_width])) == 1 for i in range(0, len(cells), cell_width))
    return cells[::cell_width]


@pytest.mark.parametrize("depth", ["truecolor", "256"])
@given(seed=st.integers(0, 2**32 - 1), cell_width=st.integers(1, 8), rows=st.integers(1, 5))
def test_half_blocks_decode_back_to_the_levels(depth: Depth, seed: int, cell_width: int, rows: int) -> None:
    ramp = make_ramp("viridis", depth)
    rng = np.random.default_rng(seed)
    levels = rng.integers(NOTHING, ramp.n_levels, (7, 2 * rows)).astype(np.int16)
    levels[rng.random(levels.shape) < 0.3] = NOTHING
    levels[3] = GAP
    for row in range(rows):
        upper, lower = levels[:, 2 * (rows - row) - 1], levels[:, 2 * (rows - row) - 2]
        drawn = pixels.picture_row(levels, ramp, row, cell_width)
        assert decode(drawn, ramp, cell_width) == list(zip(upper.tolist(), lower.tolist(), strict=True))


def test_runs_of_one_style_are_one_segment() -> None:
    ramp = make_ramp("viridis", "truecolor")
    levels = np.array([[1, 1], [1, 1], [1, 1], [5, 2]], dtype=np.int16)
    assert [segment.text for segment in pixels.picture_row(levels, ramp, 0, 3)] == [" " * 9, "▀▀▀"]


def test_where_nothing_fell_the_terminal_shows_through() -> None:
    row = pixels.picture_row(np.full((4, 2), NOTHING, dtype=np.int16), make_ramp("magma", "truecolor"), 0, 2)
    assert [(segment.text, segment.style) for segment in row] == [(" " * 8, None)]


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("depth", DEPTHS)
def test_columns_not_measured_differ_from_empty_ones(depth: Depth, ascii_only: bool) -> None:
    made = drawing(depth=depth, ascii_only=ascii_only, gaps=(5,))
    row = row_text(made.row(0, View()))
    start = made.layout.gutter + 5 * made.layout.cell_width
    assert row[start : start + made.layout.cell_width] == made.ramp.gap_glyph * made.layout.cell_width
    assert made.ramp.gap_glyph not in made.ramp.glyphs + " "


def test_a_glyph_shows_the_mean_of_its_two_pixels() -> None:
    layout = plan(30, 5, 1)
    density = np.zeros((1, layout.n_pixels))
    density[0, :2] = (4.0, 2.0)  # mean 3: the log scale from 1 to 16 in four levels, 2 is level 1, 4 level 2
    heatmap = Heatmap(density, 1.0, 16.0, "log", ["0"])
    ramp = Ramp("gray", "none", 4, (), "abcd", 1, "/")
    assert hm.picture_levels(heatmap, layout, ramp)[0, 0] == 1
    assert hm.picture_levels(heatmap, layout, ramp)[0, 1] == NOTHING


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("size", [(80, 24), (45, 17), (160, 48), (20, 5), (9, 4), (3, 3), (1, 1)])
def test_every_row_has_the_width_of_the_layout(size: tuple[int, int], depth: Depth, ascii_only: bool) -> None:
    for n_columns in (0, 1, 32, 200):
        for y_log in (False, True):
            made = drawing(*size, n_columns, depth, ascii_only, y_log)
            cursor = n_columns - 1 if n_columns else None
            first = scroll_to(0, cursor, made.layout) if cursor is not None else 0
            rows = made.rows(View(first, cursor, 0))
            assert [row_width(row) for row in rows] == [size[0]] * size[1]
            if ascii_only and depth == "none":
                assert "".join(map(row_text, rows)).isascii()


def label_spans(row: Row) -> list[tuple[int, int, str]]:
    """(first cell, cell after the last, label) of all labels in a row."""
    text, spans, start = row_text(row) + " ", [], None
    for index, character in enumerate(text):
        if character != " " and start is None:
            start = index
        elif character == " " and start is not None:
            spans.append((start, index, text[start:index]))
            start = None
    return spans


@pytest.mark.parametrize("width", [20, 33, 41, 45, 60, 80, 99, 120, 160, 200, 240])
def test_column_labels_are_whole_and_stand_at_their_ticks(width: int) -> None:
    for n_columns in range(1, 101):
        layout = plan(width, 10, n_columns)
        labels = [str(i) for i in range(n_columns)]
        axis = frame.Axis(labels)
        for cursor in (None, 0, n_columns // 3, n_columns - 1):
            first = 0 if cursor is None else scroll_to(0, cursor, layout)
            view = View(first, cursor)
            spans = label_spans(frame.label_row(axis, layout, view))
            ruler = row_text(frame.ruler_row(axis, layout, view, frame.SIGNS))
            assert len(ruler) == width
            for start, end, label in spans:
                assert label.strip("[]") in labels
                assert int(label.strip("[]")) in range(first, first + layout.n_visible)
                column = layout.column_at((start + end - 1) // 2, first)
                assert label.strip("[]") == str(column) or start == 0 or end == width
            if cursor is not None:
                assert f"[{cursor}]" in [label for *_, label in spans]
                at = layout.gutter + (cursor - first) * layout.cell_width
                assert ruler[at : at + layout.cell_width][(layout.cell_width - 1) // 2] == "▲"
                assert ruler.count("▲") == 1


@given(
    marks=st.lists(st.tuples(st.integers(0, 60), st.text("0123456789", min_size=1, max_size=6)), max_size=20),
    kept=st.none() | st.tuples(st.integers(0, 60), st.just("[12]")),
    right=st.integers(1, 61),
)
def test_placed_labels_never_touch_and_are_never_clipped(
    marks: list[tuple[int, str]], kept: tuple[int, str] | None, right: int
) -> None:
    placed = place_labels(sorted(marks), 0, right, kept=kept)
    assert all(start >= 0 and start + cell_len(label) <= right for start, label in placed)
    assert all(a + cell_len(label) < b for (a, label), (b, _) in pairwise(placed))
    if kept and right >= 4:
        assert "[12]" in [label for _, label in placed]


@pytest.mark.parametrize("y_log", [False, True])
@pytest.mark.parametrize("depth", DEPTHS)
def test_a_cursor_move_changes_the_two_rows_below_the_picture(depth: Depth, y_log: bool) -> None:
    made = drawing(80, 24, 32, depth, y_log=y_log)
    old, new = View(0, 20, 3), View(0, 21, 3)
    pairs = zip(made.rows(old), made.rows(new), strict=True)
    assert [y for y, (a, b) in enumerate(pairs) if a != b] == [22, 23] == made.changed_rows(old, new)


def test_a_crosshair_move_changes_one_character_of_two_rows() -> None:
    made = drawing(80, 24, 32, "truecolor")
    old, new = View(0, 20, 3), View(0, 20, 4)
    before, after = made.rows(old), made.rows(new)
    assert [y for y in range(24) if before[y] != after[y]] == [3, 4] == made.changed_rows(old, new)
    assert sum(a != b for a, b in zip(row_text(before[3]), row_text(after[3]), strict=True)) == 1


def test_after_scrolling_every_row_is_new() -> None:
    made = drawing(40, 12, 100)
    assert made.changed_rows(View(0, 5), View(1, 5)) == list(range(12))
    ruler = row_text(made.row(10, View(1, 5)))
    assert ruler[made.layout.gutter - 1] == "◄"
    assert ruler.rstrip()[-1] == "►"


@given(st.integers(1, 200), st.integers(20, 100), st.lists(st.integers(0, 199), min_size=1))
def test_the_cursor_stays_in_sight(n_columns: int, width: int, cursors: list[int]) -> None:
    layout, first = plan(width, 20, n_columns), 0
    for cursor in [min(c, n_columns - 1) for c in cursors]:
        first = scroll_to(first, cursor, layout)
        assert first <= cursor < first + layout.n_visible
        assert 0 <= first <= n_columns - layout.n_visible


def test_scrolling_moves_just_far_enough_to_show_one_column_around_the_cursor() -> None:
    layout = plan(33, 12, 100)
    assert layout.n_visible == 20
    assert [scroll_to(40, cursor, layout) for cursor in (41, 50, 58)] == [40, 40, 40]
    assert [scroll_to(40, cursor, layout) for cursor in (40, 39, 59, 60)] == [39, 38, 41, 42]
    assert [scroll_to(40, cursor, layout) for cursor in (0, 99)] == [0, 80]


@given(st.integers(1, 300), st.integers(1, 100), st.integers(0, 300))
def test_a_layout_fits_and_columns_are_as_wide_as_they_can_be(width: int, height: int, n_columns: int) -> None:
    layout = plan(width, height, n_columns)
    assert layout.used_width <= width
    assert 1 <= layout.cell_width <= hm.MAX_CELL_WIDTH
    if layout.n_visible == n_columns and n_columns and layout.cell_width < hm.MAX_CELL_WIDTH:
        room = width - layout.gutter - layout.bar
        assert (layout.cell_width + 1) * n_columns > room


def test_the_colour_bar_gives_way_to_columns() -> None:
    with_bar: Layout = plan(45, 20, 32)
    assert (with_bar.bar, with_bar.n_visible) == (frame.BAR_WIDTH, 32)
    without = plan(42, 20, 36)
    assert (without.bar, without.n_visible) == (0, 36)


def test_the_mouse_finds_the_column() -> None:
    layout = plan(80, 24, 32)
    assert layout.cell_width == 2
    assert layout.column_at(layout.gutter - 1, 0) is None
    assert [layout.column_at(layout.gutter + x, 3) for x in (0, 1, 2, 63)] == [3, 3, 4, 34]
    assert layout.column_at(layout.gutter + 64, 0) is None


def test_a_density_of_another_size_is_refused() -> None:
    heatmap = Heatmap(np.zeros((3, 5)), 0.01, 1.0, "log", ["0", "1", "2"])
    with pytest.raises(ValueError, match=r"\(3, 5\).*\(3, 20\)"):
        Drawing(heatmap, plan(40, 12, 3), make_ramp("gray", "256"))


def test_a_number_too_long_for_the_bar_is_left_out_not_cut() -> None:
    labels = frame.bar_labels(21, 1e-104, 1e-94, "log")
    assert sorted(labels.values()) == ["1e-94", "1e-96", "1e-98"]


@pytest.mark.parametrize("scale", ["log", "sqrt", "linear"])
@pytest.mark.parametrize("rows", [1, 3, 9, 17, 45])
def test_numbers_beside_the_bar_stand_where_their_colour_is(scale: str, rows: int) -> None:
    labels = frame.bar_labels(rows, 0.01, 80.0, scale)  # type: ignore[arg-type]
    values = [float(labels[row]) for row in sorted(labels)]
    assert values == sorted(values, reverse=True)
    assert all(b - a > 1 for a, b in pairwise(sorted(labels)))
    assert all(cell_len(label) <= frame.BAR_WIDTH - 4 for label in labels.values())
    if rows >= 9:
        assert len(labels) >= 3
    levels = to_levels(np.array(values), 0.01, 80.0, scale, rows).tolist()  # type: ignore[arg-type]
    assert levels == [rows - 1 - row for row in sorted(labels)]


@pytest.mark.parametrize(
    ("low", "high", "n_max", "log", "labels"),
    [
        (0.0, 1.0, 6, False, "0.0 0.2 0.4 0.6 0.8 1.0"),
        (0.0, 1.0, 11, False, "0.0 0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9 1.0"),
        (0.0, 1.0, 5, False, "0.0 0.5 1.0"),
        (0.0, 4.13, 6, False, "0 1 2 3 4"),
        (0.0, 83.0, 6, False, "0 20 40 60 80"),
        (0.0, 83000.0, 6, False, "0 2e4 4e4 6e4 8e4"),
        (0.12, 0.19, 5, False, "0.12 0.14 0.16 0.18"),
        (-1.0, 1.0, 3, False, "-1 0 1"),
        (1e-8, 1.0, 9, True, "1e-8 1e-7 1e-6 1e-5 1e-4 0.001 0.01 0.1 1"),
        (1e-8, 1.0, 6, True, "1e-8 1e-6 1e-4 0.01 1"),
        (0.01, 100.0, 6, True, "0.01 0.1 1 10 100"),
        (0.02, 0.09, 4, True, "0.02 0.05"),
        (1.0, 1.0, 4, False, ""),
        (float("nan"), 1.0, 4, False, ""),
    ],
)
def test_ticks_are_round_and_their_labels_short(low: float, high: float, n_max: int, log: bool, labels: str) -> None:
    assert " ".join(tick_labels(axis_ticks(low, high, n_max, log=log), log=log)) == labels


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(1, 20), st.booleans())
def test_ticks_are_few_ascending_inside_and_differently_labelled(
    low: float, extent: float, n_max: int, log: bool
) -> None:
    low = abs(low) + 1e-8 if log else low
    ticks = axis_ticks(low, low + extent, n_max, log=log)
    slack = 1e-6 * extent + 1e-9 * abs(low)
    assert len(ticks) <= n_max
    assert all(low - slack <= tick <= low + extent + slack for tick in ticks)
    assert all(a < b for a, b in pairwise(ticks))
    if extent > 1e-6 * abs(low):
        labels = tick_labels(ticks, log=log)
        assert len(set(labels)) == len(labels)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[(0, "0"), (0.01, "0.01"), (0.001, "0.001"), (1, "1"), (2.5, "2.5"), (250, "250"), (1e3, "1e3")],
        *[(1e4, "1e4"), (2.5e-6, "2.5e-6"), (-0.5, "-0.5"), (1234, "1234"), (float("inf"), "inf")],
    ],
)
def test_short_numbers(value: float, text: str) -> None:
    assert short_number(value) == text


def named(width: int, height: int, n_columns: int, y_name: str = "weight") -> tuple[Layout, list[str]]:
    layout = plan(width, height, n_columns, y_name=y_name)
    labels = [str(column) for column in range(n_columns)]
    heatmap = Heatmap(np.zeros((n_columns, layout.n_pixels)), 0.01, 1.0, "log", labels, x_name="layer")
    drawing = Drawing(heatmap, layout, make_ramp("gray", "none"))
    return layout, ["".join(segment.text for segment in row) for row in drawing.rows(View(cursor=1))]


@pytest.mark.parametrize("height", [9, 22])
def test_axes_have_names_beside_the_picture(height: int) -> None:
    layout, rows = named(60, height, 4)
    assert "".join(row[0] for row in rows[: layout.rows]).strip() == "weight", "downwards, a letter a row"
    assert {row[1] for row in rows} == {" "}
    assert rows[-1].split()[-1] == "layer"
    assert {len(row) for row in rows} == {60}


@pytest.mark.parametrize("width", range(20, 90))
@pytest.mark.parametrize("n_columns", [4, 12, 30, 80])
def test_the_name_of_the_weight_axis_takes_nothing_from_the_picture(width: int, n_columns: int) -> None:
    layout, plain = plan(width, 20, n_columns, y_name="weight"), plan(width, 20, n_columns)
    assert (layout.rows, layout.cell_width, layout.n_visible, layout.bar) == (
        plain.rows,
        plain.cell_width,
        plain.n_visible,
        plain.bar,
    )
    assert layout.used_width <= width
    assert plan(layout.used_width, 20, n_columns, y_name="weight").used_width <= layout.used_width


def test_a_low_picture_has_no_name_that_is_cut() -> None:
    assert named(60, 7, 4)[0].y_name == ""
    assert named(60, 12, 4, "log weight")[0].y_name == "log weight"

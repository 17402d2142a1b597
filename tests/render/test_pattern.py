"""The map of a head: its cells are the weights, whatever size, scroll and colours, and its rows are kept."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from laminar_tui.render.palette import make_ramp, to_levels
from laminar_tui.render.pattern import (
    FAINTEST,
    MapView,
    PatternDrawing,
    Rows,
    plan_map,
    scroll_map,
)
from laminar_tui.render.rows import Row, row_text, row_width, to_ansi

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def weights(patterns: Callable[..., Any]) -> Callable[[int], NDArray[np.float32]]:
    """A causal pattern of n tokens; NaN where the mask hides."""

    def make(n: int) -> NDArray[np.float32]:
        pattern = patterns(7, 1, n, spread=3.0)[0]
        pattern[~np.tril(np.ones(pattern.shape, bool))] = np.nan
        return pattern

    return make


def draw(
    pattern: NDArray[np.float32], size: tuple[int, int], depth: str = "none", *, query: int, key: int, first: int = 0
) -> tuple[PatternDrawing, MapView]:
    n = pattern.shape[1]
    ramp = make_ramp("viridis", depth)  # type: ignore[arg-type]
    layout = plan_map(*size, n, ramp.pixels_per_row)
    drawing = PatternDrawing(Rows(first, pattern), n, layout, ramp, "log")
    return drawing, scroll_map(MapView(query=query, key=key), layout, n)


def all_rows(drawing: PatternDrawing, view: MapView) -> list[Row]:
    return [drawing.row(y, view) for y in range(drawing.layout.height)]


@pytest.mark.parametrize("ascii_only", [False, True], ids=["utf8", "ascii"])
@pytest.mark.parametrize("n", [12, 60])
def test_a_map_is_drawn_as_it_was(weights: Any, n: int, ascii_only: bool) -> None:
    ramp = make_ramp("viridis", "none", ascii_only=ascii_only)
    layout = plan_map(60, 16, n, ramp.pixels_per_row)
    drawing = PatternDrawing(Rows(0, weights(n)), n, layout, ramp, "log", ascii_only=ascii_only)
    drawn = to_ansi(all_rows(drawing, scroll_map(MapView(query=n - 3, key=2), layout, n)), "none")
    path = GOLDEN / f"map_{n}{'_ascii' if ascii_only else ''}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(drawn, encoding="utf-8")
    assert drawn == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("depth", ["none", "256", "truecolor"])
@pytest.mark.parametrize("size", [(20, 6), (60, 16), (80, 20), (160, 43), (240, 65)])
@pytest.mark.parametrize("n", [1, 2, 12, 57, 400])
def test_a_map_fills_its_rectangle(weights: Any, n: int, size: tuple[int, int], depth: str) -> None:
    for query, key in {(0, 0), (n - 1, 0), (n - 1, n - 1), (n // 2, n // 3)}:
        drawing, view = draw(weights(n), size, depth, query=query, key=key)
        rows = all_rows(drawing, view)
        assert [row_width(row) for row in rows] == [size[0]] * size[1]
        assert f"[{key}]" in row_text(rows[-1])
        assert any(row_text(row).startswith(f"{query:>{drawing.layout.gutter - 1}}►") for row in rows)


@pytest.mark.parametrize(("n", "size"), [(12, (60, 16)), (57, (80, 20)), (200, (70, 20))])
def test_each_pixel_is_the_level_of_its_weight(weights: Any, n: int, size: tuple[int, int]) -> None:
    pattern = weights(n)
    drawing, view = draw(pattern, size, "truecolor", query=n - 1, key=n // 2)
    layout, ramp = drawing.layout, make_ramp("viridis", "truecolor")
    seen = np.nan_to_num(pattern.astype(np.float64))
    levels = to_levels(seen, FAINTEST, 1.0, "log", ramp.n_levels)
    checked = 0
    for query in range(view.first_query, view.first_query + layout.n_queries):
        for key in range(view.first_key, view.first_key + layout.n_keys):
            top = (query - view.first_query) * layout.down
            if key == view.key and top // 2 in drawing._rows_of(view):
                continue  # the crosshair is on it
            x = layout.gutter + (key - view.first_key) * layout.across
            y, half = divmod(top, 2)
            character, style = cell(drawing.row(y, view), x)
            colours = {"▀": (style and style.color, style and style.bgcolor), "▄": (None, style and style.color)}
            pair = colours.get(character, (style and style.bgcolor,) * 2)
            level = int(levels[query, key])
            assert pair[half] == (None if level < 0 else ramp.colors[level]), (query, key)
            checked += 1
    assert checked >= layout.n_queries * layout.n_keys - 2


def cell(row: Any, x: int) -> tuple[str, Any]:
    for segment in row:
        if x < len(segment.text):
            return segment.text[x], segment.style
        x -= len(segment.text)
    raise AssertionError


def test_what_is_not_at_hand_is_hatched_and_what_is_hidden_is_empty(weights: Any) -> None:
    pattern = weights(12)
    drawing, view = draw(pattern[-1:], (60, 16), query=11, key=0, first=11)
    rows = [row_text(row) for row in all_rows(drawing, view)]
    assert rows[5].split("│")[1].startswith("╱" * 12 + " ")
    assert "╱" not in rows[11]
    assert "█" in rows[11] or "▓" in rows[11]


def test_the_one_query_that_is_at_hand_is_seen_where_two_share_a_row(weights: Any) -> None:
    n = 30
    drawing, view = draw(weights(n)[-1:], (80, 24), "truecolor", query=n - 1, key=n, first=n - 1)
    assert drawing.layout.per_row == 2 * drawing.layout.down
    last = (n - 1 - view.first_query) // 2
    assert "╱" not in row_text(drawing.row(last, view))
    assert "╱" in row_text(drawing.row(last - 1, view))


def test_only_the_crosshairs_cells_change_when_it_moves(weights: Any) -> None:
    drawing, view = draw(weights(57), (80, 40), "truecolor", query=30, key=4)
    before = all_rows(drawing, view)
    for query, key in ((30, 5), (31, 5), (33, 9)):
        moved = scroll_map(MapView(view.first_query, view.first_key, query, key), drawing.layout, 57)
        after = all_rows(drawing, moved)
        changed = drawing.changed_cells(view, moved)
        for y, (old, new) in enumerate(zip(before, after, strict=True)):
            inside = {x for row, start, width in changed if row == y for x in range(start, start + width)}
            for x in range(80):
                assert x in inside or cell(old, x) == cell(new, x), (y, x)
        assert sum(width for _, _, width in changed) < 80 * 4
        before, view = after, moved


def test_leaving_the_picture_scrolls_by_half_of_it(weights: Any) -> None:
    drawing, view = draw(weights(400), (80, 20), query=0, key=0)
    layout = drawing.layout
    moved = scroll_map(MapView(0, 0, layout.n_queries, 0), layout, 400)
    assert moved.first_query == layout.n_queries - layout.n_queries // 2
    assert drawing.changed_cells(view, moved) == [(y, 0, 80) for y in range(20)]
    assert scroll_map(MapView(0, 0, 399, 399), layout, 400).first_query == 400 - layout.n_queries


def test_the_mouse_finds_the_cell_it_points_at(weights: Any) -> None:
    drawing, view = draw(weights(57), (80, 40), "truecolor", query=56, key=3)
    layout = drawing.layout
    for query, key in ((40, 0), (50, 50), (56, 20)):
        y = (query - view.first_query) * layout.down // 2
        found = drawing.cell_at(layout.gutter + (key - view.first_key) * layout.across, y, view)
        assert found is not None
        assert found[1] == key
        assert found[0] in (query, query - 1)
    assert drawing.cell_at(0, 3, view) is None
    assert drawing.cell_at(10, 39, view) is None


def test_rows_know_which_queries_they_hold(weights: Any) -> None:
    rows = Rows(5, weights(12)[5:])
    assert rows.of(4) is None
    found = rows.of(7)
    assert found is not None
    assert found[8:].sum() == 0
    assert abs(float(found.sum()) - 1) < 1e-5
    assert Rows(0, np.full((2, 4), np.nan, np.float32)).of(1) is None

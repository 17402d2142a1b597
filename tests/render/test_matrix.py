"""The matrix of heads and its table: every head is where its layer and number say, in the colour of its value."""

import numpy as np
import pytest
from golden_text import assert_fills, assert_golden, text_of
from numpy.typing import NDArray

from laminar_tui.render.matrix import (
    Matrix,
    MatrixDrawing,
    rank_heads,
    share_bar,
    table_rows,
    value_levels,
    value_range,
)
from laminar_tui.render.palette import GAP, make_ramp
from laminar_tui.render.rows import first_visible, row_text
from laminar_tui.render.text import fit

PLAIN = make_ramp("viridis", "none")


def random_values(n_layers: int, n_heads: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).random((n_layers, n_heads))


@pytest.fixture
def values() -> NDArray[np.float64]:
    """12 layers of 6 heads; layer 3 has no attention, layer 7 has four heads."""
    values = random_values(12, 6)
    values[3] = np.nan
    values[7, 4:] = np.nan
    return values


@pytest.mark.parametrize("ascii_only", [False, True], ids=["utf8", "ascii"])
@pytest.mark.parametrize("size", [(46, 9), (80, 24)], ids=["46x9", "80x24"])
def test_a_matrix_is_drawn_as_it_was(values: NDArray[np.float64], size: tuple[int, int], ascii_only: bool) -> None:
    ramp = make_ramp("viridis", "none", ascii_only=ascii_only)
    drawing = MatrixDrawing(Matrix(values, is_share=True), *size, ramp, ascii_only=ascii_only)
    rows = drawing.rows((5, 2))
    assert_fills(rows, *size)
    assert not ascii_only or text_of(rows).isascii()
    assert_golden(f"matrix_{size[0]}x{size[1]}{'_ascii' if ascii_only else ''}", rows)


@pytest.mark.parametrize("ascii_only", [False, True], ids=["utf8", "ascii"])
def test_a_table_is_drawn_as_it_was(values: NDArray[np.float64], ascii_only: bool) -> None:
    matrix = Matrix(values, is_share=True)
    rows = table_rows(matrix, rank_heads(values), (5, 2), 44, 12, title="sink share", ascii_only=ascii_only)
    assert_fills(rows, 44, 12)
    assert_golden(f"matrix_table_44x12{'_ascii' if ascii_only else ''}", rows)


def test_every_head_has_the_glyph_of_its_value(values: NDArray[np.float64]) -> None:
    drawing = MatrixDrawing(Matrix(values, is_share=True), 60, 30, PLAIN)
    top = float(np.nanmax(values))
    seen = 0
    for y in range(drawing.n_rows):
        row = row_text(drawing.rows((0, 0))[y])
        for x in range(drawing.layout.gutter, drawing.layout.gutter + drawing.layout.picture_width):
            place = drawing.place_at(x, y, (0, 0))
            assert place is not None
            value = values[place]
            expected = "╱" if np.isnan(value) else PLAIN.glyphs[min(int(value / top * 6), 5)]
            assert row[x] == expected, (place, value)
            seen += 1
    assert seen == drawing.n_rows * drawing.layout.picture_width > 0


@pytest.mark.parametrize("depth", ["truecolor", "256"])
def test_two_heads_share_a_row_where_there_is_no_room(depth: str) -> None:
    values = random_values(32, 31)
    ramp = make_ramp("gray", depth)  # type: ignore[arg-type]
    drawing = MatrixDrawing(Matrix(values), 48, 19, ramp)
    assert (drawing.heads_a_row, drawing.n_rows) == (2, 16)
    levels = value_levels(values, *Matrix(values).ends, "linear", ramp.n_levels)
    for y, row in enumerate(drawing.rows((0, 0))[: drawing.n_rows]):
        cells = [(character, segment.style) for segment in row for character in segment.text]
        for layer in range(32):
            character, style = cells[drawing.layout.gutter + layer]
            upper = levels[layer, 2 * y]
            lower = levels[layer, 2 * y + 1] if 2 * y + 1 < 31 else None
            if lower is None:
                assert (character, style.color) == ("▀", ramp.colors[upper])
                assert style.bgcolor is None  # there is no 32nd head
            elif character == "▀":
                assert style is not None
                assert (style.color, style.bgcolor) == (ramp.colors[upper], ramp.colors[lower])
            else:
                assert style is not None
                assert character == " "
                assert style.bgcolor == ramp.colors[upper] == ramp.colors[lower]


@pytest.mark.parametrize("shape", [(1, 1), (6, 8), (32, 32), (80, 64), (30, 9), (100, 3)])
@pytest.mark.parametrize("size", [(20, 5), (46, 18), (126, 42), (206, 64)])
@pytest.mark.parametrize("depth", ["truecolor", "none"])
def test_the_cursor_is_always_in_sight(shape: tuple[int, int], size: tuple[int, int], depth: str) -> None:
    values = random_values(*shape)
    drawing = MatrixDrawing(Matrix(values), *size, make_ramp("magma", depth))  # type: ignore[arg-type]
    for place in {(0, 0), (shape[0] - 1, shape[1] - 1), (shape[0] // 2, shape[1] // 3)}:
        rows = drawing.rows(place)
        assert_fills(rows, *size)
        assert sum(f"[{place[1]}]" in row_text(row) for row in rows[: drawing.n_rows]) == 1
        assert f"[{place[0]}]" in text_of(rows[drawing.n_rows :])
        assert "▲" in text_of(rows)
        found = {
            drawing.place_at(x, y, place) for y in range(drawing.n_rows) for x in range(drawing.layout.gutter, size[0])
        }
        assert any(each and each[0] == place[0] and each[1] in (place[1], place[1] - 1) for each in found)


def test_a_page_changes_by_halves_and_holds_the_cursor() -> None:
    for n_visible in range(1, 12):
        starts = [first_visible(cursor, n_visible, 40) for cursor in range(40)]
        assert all(start <= cursor < start + n_visible for cursor, start in enumerate(starts))
        assert starts == sorted(starts)
        assert starts[-1] == 40 - n_visible
    assert first_visible(5, 10, 8) == 0


def test_heads_are_ranked_and_those_without_a_number_left_out(values: NDArray[np.float64]) -> None:
    order = rank_heads(values)
    found = [values[place] for place in order]
    assert found == sorted(found, reverse=True)
    assert len(order) == np.isfinite(values).sum() == 12 * 6 - 6 - 2
    assert rank_heads(values, descending=False) == order[::-1]
    ties = np.zeros((3, 2))
    assert rank_heads(ties) == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]


def test_the_table_shows_the_page_of_the_cursor_and_marks_it(values: NDArray[np.float64]) -> None:
    matrix, order = Matrix(values), rank_heads(values)
    for rank in (0, 9, 10, len(order) - 1):
        rows = table_rows(matrix, order, order[rank], 40, 11)
        marked = [row_text(row) for row in rows if row[0].style is not None and row[0].style.reverse]
        assert [line.split()[:3] for line in marked] == [[str(rank + 1), *map(str, order[rank])]]


def test_numbers_of_a_matrix_have_the_same_decimals() -> None:
    matrix = Matrix(np.array([[0.21, 0.2105, 1.5]]))
    assert [matrix.text(value) for value in (0.21, 0.2105, 1.5)] == ["0.21", "0.21", "1.50"]
    assert Matrix(np.array([[0.21]])).text(0.2104) == "0.210"
    assert Matrix(np.array([[31.25]])).text(31.25) == "31.2"
    assert Matrix(np.array([[0.21]]), is_share=True).text(0.21) == "21.0 %"


@pytest.mark.parametrize("scale", ["linear", "sqrt", "log"])
def test_levels_rise_with_the_value_on_every_scale(scale: str) -> None:
    values = np.array([[-1.0, 0.0, 1e-6, 0.01, 0.5, 1.0, np.nan]])
    low, high = value_range(values, scale)  # type: ignore[arg-type]
    levels = value_levels(values, low, high, scale, 10)[0]  # type: ignore[arg-type]
    assert np.all(np.diff(levels[:-1]) >= 0)
    assert (levels[0], levels[-2], levels[-1]) == (0, 9, GAP)


@pytest.mark.parametrize("values", [[[np.nan]], [[0.0]], [[0.3, 0.3]], [[-2.0, -2.0]]])
@pytest.mark.parametrize("scale", ["linear", "sqrt", "log"])
def test_equal_and_missing_numbers_are_drawn(values: list[list[float]], scale: str) -> None:
    drawing = MatrixDrawing(Matrix(np.array(values), scale), 30, 8, PLAIN)  # type: ignore[arg-type]
    assert_fills(drawing.rows((0, 0)), 30, 8)


def test_bars_grow_by_half_cells() -> None:
    assert [share_bar(share, 4) for share in (0.0, 0.125, 0.5, 1.0)] == ["", "╸", "━━", "━━━━"]
    assert fit(share_bar(0.6, 5, ascii_only=True), 5) == "###  "


@pytest.mark.parametrize("title", ["sink share", "induction score", "previous token score", "entropy, final query"])
@pytest.mark.parametrize("width", [34, 36, 44])
def test_a_number_of_the_table_is_never_cut(title: str, width: int) -> None:
    values = np.array([[0.9112, 0.0253], [0.0011, 0.00002]])
    matrix = Matrix(values, "linear", True)
    rows = table_rows(matrix, rank_heads(values), (0, 0), width, 5, title=title)
    texts = ["".join(segment.text for segment in row) for row in rows]
    assert "…" not in "".join(texts)
    assert [text.split()[3] for text in texts[1:]] == ["91.1", "2.5", "0.11", "<0.01"]
    assert (title if len(title) <= width - 19 else "value") in texts[0]

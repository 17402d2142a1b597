"""Curves stand where their values are, on a frame whose labels are whole, for any input."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from laminar_tui.render.curve import MODES, Curve, Mode, draw_curves
from laminar_tui.render.rows import Row, row_text, row_width, to_ansi

X = np.linspace(0.0, 1.0, 300)
PEAK_AND_BUMP = 4 * np.exp(-X * 15) + 0.8 * np.exp(-0.5 * ((X - 0.72) / 0.1) ** 2)

GOLDEN_ASCII = """\
 +---------------------------------+
4+*                                |
 |*                                |
 |*                                |
 |**                               |
2+ *                               |
 | **                              |
 |  **                             |
 |   **               ********     |
0+    *****************      ******|
 ++-----+------+-----+------+-----++
 0.0   0.2    0.4   0.6    0.8   1.0
"""

GOLDEN_BRAILLE = """\
 ┌─────────────────────────────────┐
4┤⡆                                │
 │⡇                                │
 │⢸                                │
 │⠘⡄                               │
2┤ ⢣                               │
 │ ⠘⡄                              │
 │  ⠹⡀                             │
 │   ⠹⣄               ⣀⠴⠒⠒⠒⠢⣄⡀     │
0┤    ⠈⠓⠦⢤⣀⣀⣀⣀⣀⣀⣀⣀⣀⡤⠔⠊⠁      ⠉⠓⠤⣄⣀⣀│
 └┬─────┬──────┬─────┬──────┬─────┬┘
 0.0   0.2    0.4   0.6    0.8   1.0
"""


def text(rows: list[Row]) -> str:
    return to_ansi(rows, "none")


def test_a_small_curve_in_braille() -> None:
    assert text(draw_curves([Curve(X, PEAK_AND_BUMP)], 36, 12)) == GOLDEN_BRAILLE


def test_a_small_curve_in_ascii() -> None:
    rows = draw_curves([Curve(X, PEAK_AND_BUMP)], 36, 12, mode="ascii")
    assert text(rows) == GOLDEN_ASCII
    assert text(rows).isascii()


def canvas(rows: list[Row]) -> list[str]:
    """What is inside of the frame, from the top."""
    lines = [row_text(row) for row in rows]
    width = len(lines[0].lstrip()) - 2
    return [line[-width - 1 : -1] for line in lines[1:-2]]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("log", [False, True])
def test_a_straight_line_goes_from_corner_to_corner(mode: Mode, log: bool) -> None:
    x = np.logspace(-4, 0, 100) if log else X
    rows = draw_curves([Curve(x, x)], 40, 20, x_log=log, y_log=log, x_range=(x[0], 1.0), y_range=(x[0], 1.0), mode=mode)
    inside = canvas(rows)
    assert inside[0][-1] != " "
    assert inside[-1][0] != " "
    firsts = [len(line) - len(line.lstrip()) for line in inside]
    assert all(a > b for a, b in pairwise(firsts))


@pytest.mark.parametrize("mode", MODES)
def test_a_point_stands_in_the_cell_of_its_value(mode: Mode) -> None:
    for x, y in ((0.0, 0.0), (0.31, 0.77), (0.5, 0.5), (1.0, 1.0)):
        one = Curve(np.array([x]), np.array([y]))
        inside = canvas(draw_curves([one], 44, 23, x_range=(0, 1), y_range=(0, 1), mode=mode))
        n_rows, n_columns = len(inside), len(inside[0])
        drawn = [(r, c) for r, line in enumerate(inside) for c, sign in enumerate(line) if sign != " "]
        row = n_rows - 1 - min(int(y * n_rows), n_rows - 1)
        assert drawn == [(row, min(int(x * n_columns), n_columns - 1))]


@pytest.mark.parametrize("color", ["#ff8800", "bold cyan", "color(99)"])
def test_a_curve_has_its_colour_and_the_later_one_is_on_top(color: str) -> None:
    rows = draw_curves([Curve(X, X, color="red"), Curve(X, X, color=color)], 40, 12)
    styles = {str(segment.style) for row in rows[1:-2] for segment in row if segment.style}
    assert len(styles) == 1
    assert "red" not in styles.pop()


def test_64_curves_keep_64_colours_apart() -> None:
    curves = [Curve(X, np.full(300, i + 1.0), color=f"color({100 + i})") for i in range(64)]
    rows = draw_curves(curves, 80, 70)
    colors = {segment.style.color.number for row in rows for segment in row if segment.style and segment.style.color}
    assert colors == set(range(100, 164))


AWKWARD = {
    "no curve": [],
    "empty": [Curve(np.array([]), np.array([]))],
    "one point": [Curve(np.array([0.5]), np.array([2.0]))],
    "constant": [Curve(X, np.full(300, 3.0))],
    "zero": [Curve(X, np.zeros(300))],
    "all NaN": [Curve(X, np.full(300, np.nan))],
    "infinite": [Curve(X, np.full(300, np.inf))],
    "half NaN": [Curve(X, np.where(X < 0.5, np.nan, X))],
    "negative": [Curve(X, X - 0.5)],
    "huge": [Curve(X * 1e300, X * 1e300)],
    "tiny": [Curve(X * 1e-300, X * 1e-300)],
    "nearly one value": [Curve(X * 1e-18 + 1.0, X * 1e-18 + 1.0)],
    "lengths differ": [Curve(X, X[:100])],
    "one x": [Curve(np.full(300, 0.5), X)],
}


@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("log", [(False, False), (True, False), (False, True), (True, True)])
def test_awkward_data_gives_a_labelled_frame(name: str, mode: Mode, log: tuple[bool, bool]) -> None:
    rows = draw_curves(AWKWARD[name], 36, 12, mode=mode, x_log=log[0], y_log=log[1])
    assert [row_width(row) for row in rows] == [36] * 12
    lines = [row_text(row) for row in rows]
    assert any(character.isdigit() for character in lines[-1])
    assert sum(line.lstrip()[:1].isdigit() or line.lstrip()[:1] == "-" for line in lines[1:-2]) >= 1


@pytest.mark.parametrize("name", ["no curve", "empty", "all NaN", "infinite"])
def test_where_nothing_can_be_drawn_the_frame_says_so(name: str) -> None:
    assert "nothing to draw" in text(draw_curves(AWKWARD[name], 36, 12))


def test_what_lies_beyond_the_x_axis_is_not_drawn() -> None:
    outside = [Curve(np.array([-1.0, 2.0, 3.0]), np.array([0.0, 0.5, 1.0]))]
    assert "nothing to draw" in text(draw_curves(outside, 36, 12, x_range=(0.0, 1.0)))


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("width", [20, 24, 30, 36, 58, 100])
def test_every_tick_of_the_x_axis_has_its_label(width: int, log: bool) -> None:
    x = np.logspace(-8, 0, 100) if log else X
    border, labels = map(row_text, draw_curves([Curve(x, x)], width, 12, x_log=log)[-2:])
    assert border.count("┬") == len(labels.split()) >= 2


def test_a_gap_in_the_data_is_a_gap_in_the_line() -> None:
    y = np.where((X > 0.4) & (X < 0.6), np.nan, 0.5)
    inside = "".join(canvas(draw_curves([Curve(X, y)], 44, 12, y_range=(0, 1)))).split()
    assert [len(piece) > 10 for piece in inside] == [True, True]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(160, 48), (60, 20), (36, 12), (20, 8), (12, 5), (8, 4), (3, 3), (1, 1), (0, 4)])
def test_every_row_has_the_width_asked_for(size: tuple[int, int], mode: Mode) -> None:
    for x, log in ((X, False), (np.logspace(-8, 0, 300), True)):
        curves = [Curve(x, PEAK_AND_BUMP * scale) for scale in (1e-9, 1.0, 1e6)]
        rows = draw_curves(curves, *size, x_log=log, y_log=log, mode=mode)
        assert [row_width(row) for row in rows] == [size[0]] * size[1]


@settings(deadline=None, max_examples=60)
@given(
    st.integers(14, 100),
    st.floats(-1e4, 1e4),
    st.floats(1e-3, 1e4),
    st.booleans(),
)
def test_x_labels_are_whole_and_apart(width: int, low: float, extent: float, log: bool) -> None:
    low = abs(low) + 1e-6 if log else low
    curve = Curve(np.array([low, low + extent]), np.array([0.0, 1.0]))
    rows = draw_curves([curve], width, 10, x_log=log)
    assert all(np.isfinite(float(label)) for label in row_text(rows[-1]).split())


def test_the_canvas_keeps_its_place_when_labels_get_shorter() -> None:
    wide = draw_curves([Curve(X, X * 300)], 40, 12, label_width=5)
    narrow = draw_curves([Curve(X, X)], 40, 12, label_width=5)
    assert row_text(wide[0]) == row_text(narrow[0])
    assert cell_len(row_text(wide[0]).split("┌")[0]) == 5


def test_drawing_needs_no_terminal_and_writes_nothing() -> None:
    code = (
        "import numpy as np, threading\n"
        "from laminar_tui.render.curve import Curve, draw_curves\n"
        "rows = draw_curves([Curve(np.arange(9.0), np.arange(9.0))], 300, 90)\n"
        "assert len(rows) == 90 and sum(len(s.text) for s in rows[5]) == 300\n"
        "assert threading.active_count() == 1\n"
        "import plotext\n"
        "assert repr(plotext.terminal).count('limited True') == 2, plotext.terminal\n"
    )
    environ = {**os.environ, "COLUMNS": "20", "LINES": "5", "TERM": "dumb"}
    done = subprocess.run(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, env=environ, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_plotexts_own_figure_is_left_alone() -> None:
    import plotext

    def state() -> tuple[object, ...]:
        return (
            plotext.figure.size(),
            plotext.terminal.size(),
            plotext.figure.build().string(),
            repr(plotext.terminal),
        )

    before = state()
    draw_curves([Curve(X, PEAK_AND_BUMP)], 60, 20)
    assert state() == before


def test_threads_draw_what_one_thread_draws() -> None:
    jobs = [(Curve(X, np.sin(X * k) + 1.5), 30 + k, 10 + k % 7) for k in range(24)]
    expected = [text(draw_curves([curve], w, h)) for curve, w, h in jobs]
    with ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(lambda job: text(draw_curves([job[0]], job[1], job[2])), jobs * 3))
    assert drawn == expected * 3


BANDED_ASCII = """\
 +--------------------+
2+....................|
 |....................|
 |....................|
 |....................|
1+********************|
 |....................|
 |                    |
0+                    |
 ++---------+--------++
 0.0       0.5      1.0
"""


def test_a_band_is_dotted_behind_its_line_and_within_the_frame() -> None:
    ones = np.ones(300)
    curve = Curve(X, ones, low=ones * 0.6, high=ones * 2.0)
    assert text(draw_curves([curve], 23, 11, mode="ascii")) == BANDED_ASCII
    dots = text(draw_curves([curve], 23, 11))
    assert "⡪" * 20 in dots, "every second dot"
    assert "⡫" * 20 in dots, "the line over it"


def test_a_band_down_to_nothing_ends_at_the_lower_edge_of_a_log_axis() -> None:
    ones = np.ones(300)
    curve = Curve(X, ones, low=ones * 0.0, high=ones * 2.0)
    rows = text(draw_curves([curve], 23, 11, y_log=True, y_range=(0.01, 3.0))).splitlines()
    assert all("⡪" in row for row in rows[3:9])


def test_a_band_without_values_draws_nothing() -> None:
    nothing = np.full(300, np.nan)
    curve = Curve(X, PEAK_AND_BUMP, low=nothing, high=nothing)
    assert text(draw_curves([curve], 36, 12)) == GOLDEN_BRAILLE


def test_the_upper_border_says_what_the_axes_are_of_where_there_is_room() -> None:
    plain = text(draw_curves([Curve(X, PEAK_AND_BUMP)], 36, 12)).splitlines()
    titled = text(draw_curves([Curve(X, PEAK_AND_BUMP)], 36, 12, title="density by weight")).splitlines()
    assert titled[1:] == plain[1:]
    assert "─ density by weight ─" in titled[0]
    assert len(titled[0]) == 36
    narrow = draw_curves([Curve(X, PEAK_AND_BUMP)], 20, 12, title="density by weight")
    assert text(narrow) == text(draw_curves([Curve(X, PEAK_AND_BUMP)], 20, 12)), "no word is cut"

"""A row that changes in one place is sent in that place only, and no wide character is cut."""

import pytest
from rich.segment import Segment
from rich.style import Style

from laminar_tui.render.rows import Row
from laminar_tui.ui.widgets import changed_spans

BLUE = Style(color="blue")


def row(*pieces: tuple[str, Style | None]) -> Row:
    return [Segment(text, style) for text, style in pieces]


@pytest.mark.parametrize(
    ("before", "after", "spans"),
    [
        (row(("abc", None)), row(("abc", None)), []),
        (row(("abcd", None)), row(("aXcd", None)), [(1, 2)]),
        (row(("abcd", None)), row(("aXcY", None)), [(1, 4)]),
        (row(("abcd", None)), row(("ab", None), ("cd", BLUE)), [(2, 4)]),
        (row(("abcd", None)), row(("ab", None), ("cd", None)), []),
        (row(("a漢b", None)), row(("a字b", None)), [(1, 3)]),
        (row(("a漢b", None)), row(("ax b", None)), [(1, 3)]),
        (row(("e\u0301x", None)), row(("ex", None)), [(0, 1)]),
        (row(("ab", None)), row(("abcd", None)), [(2, 4)]),
        (row(("a" + 12 * "." + "b", None)), row(("A" + 12 * "." + "B", None)), [(0, 1), (13, 14)]),
        (row(("a漢b", None)), row(("A漢B", None)), [(0, 4)]),
    ],
)
def test_the_cells_that_differ_are_found(before: Row, after: Row, spans: list[tuple[int, int]]) -> None:
    assert changed_spans(before, after) == spans

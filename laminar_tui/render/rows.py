"""Rows, lists of Rich segments of an exact width: what every drawing is made of, and how they are printed."""

from collections.abc import Iterable, Sequence
from typing import Literal

from rich.cells import cell_len
from rich.color import ColorSystem
from rich.segment import Segment
from rich.style import Style

Row = list[Segment]
Depth = Literal["truecolor", "256", "16", "none"]

_COLOR_SYSTEMS: dict[str, ColorSystem] = {
    "truecolor": ColorSystem.TRUECOLOR,
    "256": ColorSystem.EIGHT_BIT,
    "16": ColorSystem.STANDARD,
}


def row_text(row: Iterable[Segment]) -> str:
    """The characters of a row, without styles."""
    return "".join(segment.text for segment in row)


def row_width(row: Iterable[Segment]) -> int:
    """The width of a row in terminal cells."""
    return sum(cell_len(segment.text) for segment in row)


def merge_runs(pieces: Iterable[tuple[str, Style | None]]) -> Row:
    """Join neighbours of equal style into one segment each, and leave empty pieces out."""
    row: Row = []
    texts: list[str] = []
    current: Style | None = None
    for text, style in pieces:
        if not text:
            continue
        if texts and style is not current and style != current:
            row.append(Segment("".join(texts), current))
            texts = []
        texts.append(text)
        current = style
    if texts:
        row.append(Segment("".join(texts), current))
    return row


def cut_row(row: Row, start: int, stop: int | None = None) -> Row:
    """The cells from `start` to `stop` of a row whose characters are all one cell wide."""
    cells = [(character, segment.style) for segment in row for character in segment.text]
    return merge_runs(cells[start:stop])


def restyle(row: Row, start: int, stop: int, style: Style) -> Row:
    """Give some cells of a row another style."""
    marked = [Segment(segment.text, style) for segment in cut_row(row, start, stop)]
    return [*cut_row(row, 0, start), *marked, *cut_row(row, stop)]


def first_visible(cursor: int, n_visible: int, n: int) -> int:
    """The first of `n_visible` things, so that the cursor is among them; it changes by half a page, not by one."""
    if n <= n_visible:
        return 0
    half = max(1, n_visible // 2)
    return max(0, min(cursor // half * half - half // 2, n - n_visible))


def to_ansi(rows: Sequence[Row], depth: Depth) -> str:
    """Write rows as one text with a newline after each.

    Args:
        rows: drawn rows.
        depth: what the stream can show; `none` writes no escape sequence at all and no blanks at the ends of
            lines.
    """
    if depth == "none":
        return "".join(row_text(row).rstrip() + "\n" for row in rows)
    system = _COLOR_SYSTEMS[depth]
    lines = []
    for row in rows:
        lines.append("".join(_render(segment, system) for segment in row) + "\n")
    return "".join(lines)


def _render(segment: Segment, system: ColorSystem) -> str:
    if segment.style is None:
        return segment.text
    return segment.style.render(segment.text, color_system=system)

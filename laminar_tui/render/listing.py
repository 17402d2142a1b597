"""A list to choose from, in sections: names at the left, sizes and shapes in columns at the right."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.segment import Segment
from rich.style import Style

from laminar_tui.render.rows import Row
from laminar_tui.render.text import fit

SIZE_WIDTH, SHAPE_WIDTH, NOTE_WIDTH = 9, 12, 26
_BOLD = Style(bold=True)
_MARKED = Style(reverse=True)


@dataclass(frozen=True)
class Item:
    """A line of the list; all of it visible text.

    Attributes:
        section: the heading it stands under.
        name, size, shape, note: its columns.
    """

    section: str
    name: str
    size: str = ""
    shape: str = ""
    note: str = ""


def listing_rows(items: Sequence[Item], cursor: int, width: int, height: int, *, ascii_only: bool = False) -> list[Row]:
    """Draw the list, scrolled so that the item under the cursor is in sight with its section's heading.

    Args:
        items: those of a section behind one another.
        cursor: the item that is marked.
    """
    lines: list[tuple[str, int | None]] = []
    for at, item in enumerate(items):
        if at == 0 or item.section != items[at - 1].section:
            if lines:
                lines.append(("", None))
            lines.append((item.section, None))
        lines.append((_line(item, width - 3, ascii_only), at))
    place = next((y for y, (_, at) in enumerate(lines) if at == cursor), 0)
    first = max(0, min(place - height // 2, len(lines) - height))
    rows: list[Row] = []
    for text, place_of in lines[first : first + height]:
        if place_of is None:
            rows.append([Segment(fit(f" {text}", width, ascii_only=ascii_only), _BOLD)])
        else:
            rows.append(
                [Segment(fit(f"   {text}", width, ascii_only=ascii_only), _MARKED if place_of == cursor else None)]
            )
    blank: Row = [Segment(" " * width)]
    return (rows + [blank] * (height - len(rows)))[:height]


def _line(item: Item, width: int, ascii_only: bool) -> str:
    note = NOTE_WIDTH if width >= 84 else 0
    columns = width - SIZE_WIDTH - SHAPE_WIDTH - note - 1
    if columns < 20:
        return fit(item.name, width, ascii_only=ascii_only)
    sides = fit(item.size, SIZE_WIDTH, align="right", ascii_only=ascii_only)
    sides += fit(item.shape, SHAPE_WIDTH, align="right", ascii_only=ascii_only)
    if note:
        sides += "  " + fit(item.note, note - 2, ascii_only=ascii_only)
    return fit_end(item.name, columns, ascii_only=ascii_only) + sides


def fit_end(text: str, width: int, *, ascii_only: bool = False) -> str:
    """Pad a path to a width; where it is too long, its end stays: that is what tells files apart."""
    cut = fit(text, width, ascii_only=ascii_only)
    if cut.rstrip() == text or "/" not in text:
        return cut
    mark = "~" if ascii_only else "…"
    tail = text
    while tail and fit(mark + tail, width, ascii_only=ascii_only).rstrip() != mark + tail:
        tail = tail[1:]
    return fit(mark + tail, width, ascii_only=ascii_only)

"""The list to choose from: sections, columns that stand under one another, names whose ends stay."""

import pytest
from golden_text import assert_fills, assert_golden
from rich.cells import cell_len

from laminar_tui.render.listing import Item, fit_end, listing_rows
from laminar_tui.render.rows import row_text

ITEMS = [
    Item("with the program", "laminar-small", "9.1 MB", "6 × 8", "a small model"),
    Item("with the program", "sample", "5.3 MB", "profile", "a saved profile"),
    Item("recent profiles", "/data/runs/a/very/long/folder/that/does/not/fit/into/the/line/step1000.laminar", "420 kB"),
    Item("recent profiles", "漢字/模型.laminar", "1.2 MB", "profile"),
    Item("in the hub's cache", "EleutherAI/pythia-2.8b", "5.7 GB", "32 × 32"),
    Item("in the hub's cache", "openai-community/gpt2", "548 MB", "12 × 12", "no parameters in the cache"),
]


@pytest.mark.parametrize(("size", "cursor"), [((80, 12), 0), ((80, 6), 4), ((100, 14), 2), ((40, 8), 5)])
def test_a_list_is_drawn_as_it_was(size: tuple[int, int], cursor: int) -> None:
    rows = listing_rows(ITEMS, cursor, *size)
    assert_fills(rows, *size)
    assert_golden(f"listing_{size[0]}x{size[1]}", rows)


@pytest.mark.parametrize("height", range(1, 14))
def test_the_cursor_is_always_in_sight(height: int) -> None:
    for cursor, item in enumerate(ITEMS):
        rows = listing_rows(ITEMS, cursor, 100, height)
        marked = [row_text(row) for row in rows if row[0].style is not None and row[0].style.reverse]
        assert len(marked) == 1
        assert item.name[-12:] in marked[0]


def test_an_empty_list_is_blank() -> None:
    assert_fills(listing_rows([], 0, 30, 4), 30, 4)


@pytest.mark.parametrize("text", ["/a/b/c/step1000.laminar", "漢字/漢字/漢字/step1000.laminar", "owner/name", "plain"])
@pytest.mark.parametrize("width", range(1, 40))
def test_a_path_keeps_its_end(text: str, width: int) -> None:
    shown = fit_end(text, width)
    assert cell_len(shown) == width
    if cell_len(text) <= width:
        assert shown.rstrip() == text
    elif "/" in text and width > 3:
        assert text.endswith(shown.strip().removeprefix("…"))

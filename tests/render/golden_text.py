"""Drawings against text files: UPDATE_GOLDEN=1 writes them anew, and git shows what changed."""

import os
from collections.abc import Sequence
from pathlib import Path

from laminar_tui.render.rows import Row, row_text, row_width, to_ansi

GOLDEN = Path(__file__).parent / "golden"


def assert_golden(name: str, rows: Sequence[Row]) -> None:
    """The rows are those of the file `golden/NAME.txt`."""
    drawn = to_ansi(rows, "none")
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(drawn, encoding="utf-8")
    assert drawn == path.read_text(encoding="utf-8")


def assert_fills(rows: Sequence[Row], width: int, height: int) -> None:
    """The rows are `height`, each of `width` cells."""
    assert len(rows) == height
    assert {row_width(row) for row in rows} == {width}


def text_of(rows: Sequence[Row]) -> str:
    """The characters, row by row."""
    return "\n".join(row_text(row) for row in rows)

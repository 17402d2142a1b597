"""Text that means harm, and what the tests of this folder share."""

import os
from collections.abc import Callable
from pathlib import Path

ESC, OSC, C1, BIDI = "\x1b[31mred\x1b[0m", "\x1b]52;c;aGk=\x07", "\x9b2J\x9d0;x\x9c", "\u202eevil\u2066"
ZERO_WIDTH, LINES, MARKUP, NUL_LIKE = "a\u200bb\ufeffc", "one\ntwo\r\nthree\x85four\u2028five", "[bold]x[/]", "\x01\x7f"
HOSTILE = ESC + OSC + C1 + BIDI + ZERO_WIDTH + LINES + MARKUP + NUL_LIKE
"""Colours, writes the clipboard, clears the screen, turns the line around, hides, breaks the line, closes no style."""

Run = Callable[..., tuple[int, bytes, bytes]]


def names_below(folder: Path) -> set[str]:
    """Every name in a folder and below it."""
    return {os.path.relpath(path, folder) for path in folder.rglob("*")}

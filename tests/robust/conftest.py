"""Text that means harm, the command line in this process, and folders that are not what they should be."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from laminar_tui.cli import main

ESC, OSC, C1, BIDI = "\x1b[31mred\x1b[0m", "\x1b]52;c;aGk=\x07", "\x9b2J\x9d0;x\x9c", "\u202eevil\u2066"
ZERO_WIDTH, LINES, MARKUP, NUL_LIKE = "a\u200bb\ufeffc", "one\ntwo\r\nthree\x85four\u2028five", "[bold]x[/]", "\x01\x7f"
HOSTILE = ESC + OSC + C1 + BIDI + ZERO_WIDTH + LINES + MARKUP + NUL_LIKE
"""Colours, writes the clipboard, clears the screen, turns the line around, hides, breaks the line, closes no style."""

Run = Callable[..., tuple[int, bytes, bytes]]


@pytest.fixture
def command(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command line in this process: exit code, and what came out of file descriptors 1 and 2."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.setenv("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

    def run(*words: object) -> tuple[int, bytes, bytes]:
        capfdbinary.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as left:
            code = int(left.code or 0)
        return code, *capfdbinary.readouterr()

    return run


def names_below(folder: Path) -> set[str]:
    """Every name in a folder and below it."""
    return {os.path.relpath(path, folder) for path in folder.rglob("*")}

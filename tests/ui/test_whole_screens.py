"""Every screen of the program, whole, in three sizes, against text files: UPDATE_GOLDEN=1 writes them anew.

The sample profile is walked over, as a user would. A difference is not always a mistake: look at it, and write anew.
"""

import difflib
import os
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from laminar_tui.profile.profile import Profile
from laminar_tui.profile.sweep_folder import SavedSweep
from laminar_tui.run import SAMPLE_PROFILE, Request
from laminar_tui.ui.scene import Terminal

Drive = Callable[..., Any]
GOLDEN = Path(__file__).parent / "golden"
SIZES = {(80, 24): Terminal(), (160, 48): Terminal("none"), (240, 70): Terminal()}
"""The sizes, and what the terminal can show there: without colours the densities are glyphs."""
SCREENS: dict[str, tuple[str, ...]] = {
    "overview": (),
    "alone": ("f",),
    "entries": ("f", "slash", *"18>.6", "enter", "tab"),
    "layer": ("tab", "2"),
    "head": ("3",),
    "map": ("m",),
    "lines": ("4",),
    "overview_log": ("1", "a"),
    "heads": ("a", "6"),
    "compare": ("5",),
    "report": ("7",),
    "sweep": ("8",),
    "open": ("1", "O"),
    "prompt": ("escape", "e"),
    "about": ("escape", "i"),
    "help": ("escape", "question_mark"),
    "help_heads": ("escape", "6", "question_mark"),
}
"""The keys that lead to each screen from the one before."""
WORKING = frozenset({"questions", "report", "change", "null", "sweep", "cache", "count", "nearest", "rows behind"})
"""The threads that a screen waits for, by name."""
MASKS = {
    r"\d{4}-\d\d-\d\d \d\d:\d\d": "YYYY-MM-DD hh:mm",
    r"(torch|transformers) \d[\w.+]*": r"\1 N",
    r"\d+\.\d s so far": "N s so far",
}
"""What differs between runs and machines, and what stands for it."""


@pytest.fixture
def sweep(patterns: Callable[..., Any], make_profile: Callable[..., Profile], tmp_path: Path) -> SavedSweep:
    """Three steps of two layers."""
    for at, name in enumerate(("step0", "step512", "main")):
        made = make_profile([patterns(1, 4, 12, 0.5 + at), patterns(2, 3, 12, 0.5 + 2 * at)])
        replace(made, origin=replace(made.origin, revision=name)).save(tmp_path / f"{name}.laminar")
    return SavedSweep.of_folder(tmp_path)


def masked(text: str) -> str:
    """A screen's text without what is not the program's doing, and without blanks at the ends of lines."""
    for pattern, word in MASKS.items():
        text = re.sub(pattern, word, text)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


async def settle(driven: Any) -> str:
    """Wait until no thread works for the screen and it stays as it is, and give its text."""
    before = ""
    for _ in range(200):
        await driven.pilot.pause(0.03)
        text = driven.text()
        if text == before and not any(thread.name in WORKING for thread in threading.enumerate()):
            return text
        before = text
    raise AssertionError(f"never at rest\n{before}")


@pytest.mark.usefixtures("script")
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_every_screen_is_what_it_was(drive: Drive, sweep: SavedSweep, size: tuple[int, int]) -> None:
    folder = GOLDEN / f"{size[0]}x{size[1]}"
    differences: list[str] = []
    async with drive(Profile.load(SAMPLE_PROFILE), size=size, terminal=SIZES[size]) as driven:
        driven.app.explorer.sweep = sweep
        driven.app.explorer._request = Request("", "The quick brown fox jumps over the lazy dog.")
        for name, keys in SCREENS.items():
            for key in keys:
                await driven.press(key)
            drawn = masked(await settle(driven))
            path = folder / f"{name}.txt"
            if os.environ.get("UPDATE_GOLDEN"):
                folder.mkdir(parents=True, exist_ok=True)
                path.write_text(drawn, encoding="utf-8")
            kept = path.read_text(encoding="utf-8")
            differences += difflib.unified_diff(kept.splitlines(), drawn.splitlines(), name, f"{name} now", lineterm="")
    assert not differences, "\n".join(differences)


def test_nothing_of_the_machine_is_in_the_files() -> None:
    for path in GOLDEN.rglob("*.txt"):
        assert not re.search(r"/home/|/tmp/|/root/", path.read_text(encoding="utf-8")), path

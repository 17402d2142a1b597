"""Twenty thousand random strings through every way in which text gets onto a terminal, into a file or onto the screen.

None of them may carry a control byte that the program did not send itself, and the app stays alive. Strings are made of
what does harm: escape sequences, controls of both kinds, characters that turn or hide, halves of pairs, markup, cells
of width zero and two, and ordinary text between them.
"""

import csv
import io
import json
import random
import re
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hostile import HOSTILE, Run
from rich.cells import cell_len

from laminar_tui.cli import report_error
from laminar_tui.errors import UsageError
from laminar_tui.export import EXPORTS, ExportOptions, profile_summary
from laminar_tui.profile.file import parse_profile, profile_bytes
from laminar_tui.profile.profile import Check, Profile
from laminar_tui.render.columns import Look
from laminar_tui.render.palette import make_ramp
from laminar_tui.render.rows import row_text, to_ansi
from laminar_tui.render.text import fit, token_label, visible
from laminar_tui.render.views import VIEWS, Page, Place
from laminar_tui.run import Request
from laminar_tui.ui.app import LaminarApp
from laminar_tui.ui.dialogs import FileDialog, TextDialog
from laminar_tui.ui.explorer import Terminal
from laminar_tui.ui.help import about_text
from laminar_tui.ui.messages import RunEnded
from laminar_tui.ui.prompt import PromptScreen
from laminar_tui.ui.state import State

N_STRINGS = 20_000
N_TOKENS = 60
"""Strings in the tokens of one profile; fourteen more stand in its other words."""

HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
OWN_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
"""All that a printed picture may hold beside text: colours."""

PIECES = ["\x1b[2J", "\x1b]52;c;aGk=\x07", "\x1b]8;;http://x\x1b\\", "\x1bP+q\x1b\\", "\x1b[?1049l", "\x1bc", "\x9b31m"]
PIECES += ["\x9d0;x\x9c", "\x90\x9c", "\u202e", "\u2066", "\u200b", "\ufeff", "\u200d", "\u034f", "\ud800", "\udfff"]
PIECES += ["\U000e0041", "\u3164", "\u2028", "\x85", "\n", "\r", "\t", "\x00", "\x08", "\x7f", "\x0e", "\x18", "\x1a"]
PIECES += [
    "[bold]",
    "[/]",
    "[@click=app.quit]x[/]",
    "[red",
    "\\[",
    "$x",
    "{x}",
    "%s",
    "]]>",
    "<script>",
    "&lt;",
    '"',
    "'",
]
PIECES += [
    "漢",
    "e\u0301",
    "\u0301",
    "👩‍👩‍👧",
    "🇫🇷",
    "❤️",
    "ع",
    "ก็",
    "ﷺ",
    "a",
    "the ",
    " ",
    "é",
    "\uffff",
    "\U0010ffff",
    "\ue000",
]


def hostile_strings(seed: int, n: int) -> Iterator[str]:
    """Random strings of up to twelve pieces; each eighth is of characters from anywhere."""
    chance = random.Random(seed)
    for number in range(n):
        if number % 8:
            yield "".join(chance.choices(PIECES, k=chance.randrange(12)))
        else:
            yield "".join(chr(chance.choice([chance.randrange(0x110000), chance.randrange(0x250)])) for _ in range(9))


def assert_harmless(text: str, *, lines: bool = False) -> None:
    """No control, no character that hides or turns; newlines where the program made them."""
    found = {c for c in text if unicodedata.category(c) in HIDDEN and not (lines and c == "\n")}
    assert not found, f"{found} in {text!r}"


def through_json(texts: tuple[str, ...]) -> list[str]:
    """As JSON gives them back: two halves of a pair that meet are one character from then on."""
    return [str(json.loads(json.dumps(text))) for text in texts]


@pytest.fixture(scope="module")
def strings() -> list[str]:
    """All of them."""
    made = list(hostile_strings(20260101, N_STRINGS))
    assert len(set(made)) > 0.8 * N_STRINGS
    return made


@pytest.fixture(scope="module")
def profiles(strings: list[str], patterns: Callable[..., Any], make_profile: Callable[..., Profile]) -> list[Profile]:
    """Profiles in which all strings stand, in every word that a file can hold."""
    plain = make_profile([patterns(1, 2, N_TOKENS), None, patterns(2, 1, N_TOKENS)])
    words, made = iter(strings), []
    while (texts := tuple(next(words, "") for _ in range(N_TOKENS + 14))) != ("",) * (N_TOKENS + 14):
        tokens, rest = texts[:N_TOKENS], texts[N_TOKENS:]
        origin = replace(
            plain.origin,
            tokens=tokens,
            model=rest[0],
            revision=rest[1],
            architecture=rest[2],
            dtype=rest[3],
            device=rest[4],
            mechanism=rest[5],
            recipe=rest[6],
            layer_kinds=("attention", rest[7], "attention"),
            versions={rest[8]: rest[9]},
            created=rest[10],
            checks=(Check(rest[11], len(made) % 2 == 0, rest[12]), Check(rest[13], True, HOSTILE)),
        )
        made.append(replace(plain, origin=origin))
    return made


# -- as text ---------------------------------------------------------------------------------------------------------


def test_text_is_made_visible_and_takes_its_cells(strings: list[str]) -> None:
    for number, text in enumerate(strings):
        for ascii_only in (False, True):
            shown = visible(text, ascii_only=ascii_only)
            assert_harmless(shown)
            assert_harmless(token_label(text, ascii_only=ascii_only))
            assert visible(shown, ascii_only=ascii_only) == shown
            width = number % 40
            fitted = fit(shown, width, ascii_only=ascii_only)
            assert_harmless(fitted)
            assert cell_len(fitted) == width
            assert not ascii_only or (shown + fitted).isascii()


def test_an_error_is_told_harmlessly(strings: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for text in strings:
        report_error(UsageError(f"cannot read {text}: no", f"try {text}"))
    told = capsys.readouterr().err
    assert_harmless(told, lines=True)
    assert told.count("\n") == 2 * len(strings)


# -- as pictures and files -------------------------------------------------------------------------------------------


def test_a_printed_view_holds_no_control_of_a_profiles(profiles: list[Profile]) -> None:
    truecolor, ascii_ramp = make_ramp("viridis", "truecolor"), make_ramp("gray", "none", ascii_only=True)
    for number, profile in enumerate(profiles):
        is_ascii = number % 3 == 0
        page = Page(30 + number % 90, 16, ascii_ramp if is_ascii else truecolor, is_ascii)
        view = ("head", "layer", "overview", "head", "lines")[number % 5]
        rows = VIEWS[view](profile, Look(), Place(0, 0), page)
        for row in rows:
            assert_harmless(row_text(row))
            assert cell_len(row_text(row)) <= page.width
        assert_harmless(OWN_ESCAPES.sub("", to_ansi(rows, page.ramp.depth)), lines=True)


def test_what_is_said_about_a_profile_is_harmless(profiles: list[Profile]) -> None:
    for profile in profiles:
        text = about_text(profile, Look())
        assert_harmless(text.plain, lines=True)
        assert not any("click" in str(span.style) or "link" in str(span.style) for span in text.spans)


def test_exports_are_whole_files_and_hold_no_control(profiles: list[Profile]) -> None:
    options = ExportOptions(n_grid=5)
    for number, profile in enumerate(profiles):
        summary = profile_summary(profile)
        assert_harmless(summary)
        assert json.loads(summary)["origin"]["tokens"] == through_json(profile.origin.tokens)
        if number % 25:
            continue
        for name in ("json", "csv", "svg"):
            text = EXPORTS[name].function(profile, options).decode("utf-8")
            assert_harmless(text, lines=True)
        json.loads(EXPORTS["json"].function(profile, options))
        ET.fromstring(EXPORTS["svg"].function(profile, options))
        assert {len(row) for row in csv.reader(io.StringIO(EXPORTS["csv"].function(profile, options).decode()))} != {0}
        EXPORTS["npz"].function(profile, options)


def test_a_profile_keeps_every_string_as_it_was(profiles: list[Profile]) -> None:
    for profile in profiles[::10]:
        read = parse_profile(profile_bytes(profile)).origin
        assert list(read.tokens) == through_json(profile.origin.tokens)
        assert read.model == through_json((profile.origin.model,))[0]


def test_the_commands_print_a_hostile_profile_harmlessly(profiles: list[Profile], command: Run, tmp_path: Path) -> None:
    path = tmp_path / f"{HOSTILE.replace('/', '').replace(chr(0), '')[:60]}.laminar"
    for profile in profiles[::40]:
        profile.save(path)
        for view in ("overview", "head"):
            words = ["show", path, "--view", view, "--layer", "0", "--head", "0", "--color", "none"]
            code, out, err = command(*words)
            assert code == (3 if profile.origin.failed_checks else 0), err
            assert_harmless((out + err).decode("utf-8"), lines=True)


# -- in the app ------------------------------------------------------------------------------------------------------


def screen_text(app: LaminarApp) -> str:
    """Everything that the compositor would draw, with the targets of links and the like."""
    strips = app.screen._compositor.render_strips()
    metas = [str(segment.style.meta) for strip in strips for segment in strip if segment.style and segment.style.meta]
    assert not any("app.quit" in meta for meta in metas)
    return "\n".join(strip.text for strip in strips)


async def test_the_app_shows_hostile_profiles_and_lives(profiles: list[Profile], tmp_path: Path) -> None:
    """One app that is handed one profile after another, as a run hands them over; dialogs over some of them."""
    app = LaminarApp(State(profiles[0]), Request("somewhere", prompt=HOSTILE), log_path=tmp_path / "log")
    async with app.run_test(size=(100, 36)) as pilot:
        await pilot.pause()
        app.explorer.runner.cancel()
        for number, profile in enumerate(profiles):
            view = ("overview", "head", "layer", "lines")[number % 4]
            app.explorer.state = replace(app.explorer.state, profile=profile, view=view, layer_index=0)
            app.explorer._fail(profile.origin.model, profile.origin.tokens[0])
            if number % 8 == 0:
                await pilot.pause()
                assert_harmless(screen_text(app), lines=True)
        assert app.is_running


async def test_dialogs_show_hostile_text_and_live(profiles: list[Profile], tmp_path: Path) -> None:
    app = LaminarApp(State(profiles[0]), None, log_path=tmp_path / "log")
    async with app.run_test(size=(100, 36)) as pilot:
        for profile in profiles[::60]:
            text = "".join(profile.origin.tokens).replace("\x00", "")
            for dialog in (
                TextDialog("about", about_text(profile, Look())),
                PromptScreen(app.explorer.state, Terminal(), Request("", text), lambda _request: None),
                FileDialog("write", visible(text), lambda name: visible(name)),
            ):
                await app.push_screen(dialog)
                await pilot.pause()
                assert_harmless(screen_text(app), lines=True)
                await pilot.press("escape")
            app.explorer.post_message(RunEnded(app.explorer.runner.number, crash=f"Traceback\n{text}"))
            await pilot.pause()
            assert_harmless(screen_text(app), lines=True)
        assert app.is_running

"""The table of keys is whole: unique, described, each with an action, in the help, and in one line that fits."""

import inspect
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text
from textual.binding import Binding

from laminar_tui.profile.profile import Profile
from laminar_tui.profile.values import measure_sink_values
from laminar_tui.run import SAMPLE_PROFILE
from laminar_tui.ui.compare import CompareScreen
from laminar_tui.ui.detour import Detour
from laminar_tui.ui.dialogs import LongText
from laminar_tui.ui.explorer import Explorer
from laminar_tui.ui.heads import HeadsScreen
from laminar_tui.ui.help import N_LINES, explain, help_text
from laminar_tui.ui.keys import KEYS, Key, bindings, is_named_in, key_line, works_in
from laminar_tui.ui.picker import PickerScreen
from laminar_tui.ui.prompt import PromptScreen
from laminar_tui.ui.report import ReportScreen
from laminar_tui.ui.state import ViewName
from laminar_tui.ui.sweep import SweepScreen

VIEWS = get_args(ViewName)
DETOURS = (HeadsScreen, CompareScreen, ReportScreen, SweepScreen, PickerScreen, PromptScreen)
Drive = Callable[..., Any]
HELP_WIDTH = 66
"""Cells of a line of help in a terminal of 80: 90 % of them, less frame, padding and scroll bar."""


def test_ids_and_keys_are_unique() -> None:
    ids = Counter(key.id for key in KEYS)
    keys = Counter(name for key in KEYS for name in key.keys.split(","))
    assert [name for name, n in (ids + keys).items() if (ids[name] > 1 or keys[name] > 1)] == []


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.id)
def test_every_key_says_what_it_does_and_does_it(key: Key) -> None:
    assert key.id.isidentifier()
    assert key.shown
    assert key.description
    assert set(key.views) <= set(VIEWS)
    name, _, argument = key.action.partition("(")
    action = getattr(Explorer, f"action_{name}", None)
    assert action is not None, f"no action for {key.action}"
    n_arguments = len(inspect.signature(action).parameters) - 1
    assert n_arguments == bool(argument), f"{key.action}: action_{name} takes {n_arguments} arguments"


def test_what_is_shown_names_keys_that_are_bound() -> None:
    names = {"[": "left_square_bracket", "]": "right_square_bracket", "?": "question_mark", "`": "grave_accent"}
    names |= {"{": "left_curly_bracket", "}": "right_curly_bracket", "/": "slash", ",": "comma", ".": "full_stop"}
    names |= {"+": "plus", "-": "minus", ":": "colon"}
    names |= {"←": "left", "→": "right", "↑": "up", "↓": "down", "Esc": "escape"}
    for key in KEYS:
        for shown in key.shown.split():
            name = names.get(shown, shown.lower() if len(shown) > 1 else shown)
            assert name in key.keys.split(","), key.id


def test_the_explorer_is_bound_to_the_table_and_nothing_else() -> None:
    assert [each.id for each in bindings()] == [key.id for key in KEYS]
    assert all(isinstance(each, Binding) and each.tooltip for each in bindings())
    assert {each.id for each in Explorer.BINDINGS} == {key.id for key in KEYS}


def test_no_key_is_one_that_multiplexers_and_terminals_take() -> None:
    taken = {"ctrl+a", "ctrl+b", "ctrl+s"}
    for key in KEYS:
        names = key.keys.split(",")
        assert not taken & set(names), key.id
        assert not any(name.startswith("alt+") for name in names), key.id
        assert not all(name.startswith("f") and name[1:].isdigit() for name in names), key.id


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("width", [59, 79, 120])
def test_the_line_of_keys_fits_and_never_loses_help_and_quit(view: str, width: int) -> None:
    line = key_line(view, width)
    text = "".join(f"{shown} {label}  " for shown, label in line)
    assert cell_len(text) <= width
    assert {"?", "q"} <= {shown for shown, _ in line}


@pytest.mark.parametrize("view", VIEWS)
def test_a_wider_line_shows_all_that_a_narrow_one_does(view: str) -> None:
    assert set(key_line(view, 59)) <= set(key_line(view, 79)) <= set(key_line(view, 400))
    labelled = [(key.shown, key.label) for key in KEYS if is_named_in(key, view)]
    assert key_line(view, 400) == labelled


@pytest.mark.parametrize("view", VIEWS)
def test_the_help_lists_the_keys_that_work_here_and_no_others(view: str) -> None:
    text = help_text(view, None, KEYS).plain
    listed = text[text.index("Keys\n") :]
    for key in KEYS:
        assert (f"  {key.description}\n" in listed) == works_in(key, view), key.id


@pytest.mark.parametrize("view", VIEWS)
def test_help_and_quit_work_everywhere(view: str) -> None:
    everywhere = {"help", "quit", "out", "cancel", "redraw", "suspend"}
    assert everywhere <= {key.id for key in KEYS if works_in(key, view)}


def parts_of(text: str) -> dict[str, str]:
    """What stands under each heading of a help text."""
    blocks = [block.partition("\n") for block in text.split("\n\n")]
    return {heading: body for heading, _, body in blocks}


def wrapped_at_80(text: str) -> int:
    """How many lines a paragraph takes in the window of help."""
    return len(Text(text).wrap(Console(), HELP_WIDTH))


@pytest.mark.parametrize("view", VIEWS)
def test_how_to_read_a_picture_and_what_it_does_not_say_come_first_and_are_short(view: str) -> None:
    parts = parts_of(help_text(view, None, KEYS).plain)
    assert list(parts)[:3] == ["How to read this picture", "What it does not say", "Keys"]
    assert wrapped_at_80(parts["How to read this picture"]) <= N_LINES
    assert wrapped_at_80(parts["What it does not say"]) <= N_LINES
    assert "Attention is not importance" in parts["What it does not say"]


@pytest.mark.parametrize("screen", DETOURS, ids=lambda screen: screen.NAME)
def test_so_they_are_of_every_screen_of_its_own(screen: type[Detour[object]]) -> None:
    assert 2 <= wrapped_at_80(screen.READING.replace("\n", " ")) <= N_LINES
    assert 1 <= wrapped_at_80(screen.NOT_SAID.replace("\n", " ")) <= N_LINES
    text = explain("How to read this screen", screen.READING, screen.NOT_SAID, screen.KEYS, screen.DETAILS).plain
    assert list(parts_of(text)) == [
        "How to read this screen",
        "What it does not say",
        "Keys",
        *(heading for heading, _ in screen.DETAILS),
    ]


@pytest.mark.parametrize("screen", DETOURS, ids=lambda screen: screen.NAME)
def test_no_screen_of_weights_lets_attention_pass_for_importance(screen: type[Detour[object]]) -> None:
    assert ("importance" in screen.NOT_SAID) == (screen.NAME not in ("open", "prompt"))


async def test_the_window_of_help_is_as_wide_as_its_length_is_measured_at(walk: Profile, drive: Drive) -> None:
    async with drive(walk, size=(80, 24)) as driven:
        await driven.press("question_mark")
        assert driven.app.screen.query_one(LongText).content_size.width == HELP_WIDTH


@pytest.mark.parametrize("view", VIEWS)
def test_details_stand_below_the_keys_where_they_apply(view: str, walk: Profile) -> None:
    one = parts_of(help_text(view, walk, KEYS).plain)
    several = replace(walk, origin=replace(walk.origin, n_prompts=24))
    bands = "The dots around the curve, and ±"
    assert bands not in one
    assert (bands in parts_of(help_text(view, several, KEYS).plain)) == (view in ("overview", "layer", "head"))
    values = "The line `weight × value norm`"
    assert values not in one  # it has none
    sample = parts_of(help_text(view, Profile.load(SAMPLE_PROFILE), KEYS).plain)
    assert (values in sample) == (view in ("head", "map"))
    if view == "head":
        assert "`0.83 × 0.06 → 21.0 %`" in sample[values]
        assert "a weight of 0.3 or more whose share is less than half of it" in sample[values]
        assert "say nothing of directions" in sample[values]


def test_the_example_in_the_help_is_true() -> None:
    """A weight of 0.83 on a vector of 0.06 of the mean length, the rest on keys that make up that mean."""
    others = (16 - 0.06) / 15  # of 16 keys
    assert 0.83 * 0.06 / (0.83 * 0.06 + 0.17 * others) == pytest.approx(0.21, abs=0.01)


def test_what_the_help_says_of_the_sample_is_true() -> None:
    found = measure_sink_values(Profile.load(SAMPLE_PROFILE), 0.5)
    assert found is not None
    assert found.norm == pytest.approx(1 / 5, abs=0.03)

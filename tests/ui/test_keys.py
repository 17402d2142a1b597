"""The table of keys is whole: unique, described, each with an action, in the help, and in one line that fits."""

import inspect
from collections import Counter
from typing import get_args

import pytest
from rich.cells import cell_len
from textual.binding import Binding

from laminar_tui.profile.profile import Profile
from laminar_tui.profile.values import measure_sink_values
from laminar_tui.run import SAMPLE_PROFILE
from laminar_tui.ui.explorer import Explorer
from laminar_tui.ui.help import help_text
from laminar_tui.ui.keys import KEYS, Key, bindings, is_named_in, key_line, works_in
from laminar_tui.ui.state import ViewName
from laminar_tui.ui.sweep import SweepScreen

VIEWS = get_args(ViewName)


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
    names |= {"+": "plus", "-": "minus"}
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
    text = help_text(view).plain
    listed = text[text.index("Keys\n") :]
    for key in KEYS:
        assert (f"  {key.description}\n" in listed) == works_in(key, view), key.id


@pytest.mark.parametrize("view", VIEWS)
def test_help_and_quit_work_everywhere(view: str) -> None:
    everywhere = {"help", "quit", "out", "cancel", "redraw", "suspend"}
    assert everywhere <= {key.id for key in KEYS if works_in(key, view)}


@pytest.mark.parametrize("view", get_args(ViewName))
def test_the_help_explains_what_stands_in_the_view(view: str) -> None:
    text = help_text(view).plain
    assert ("95 % of such curves" in text) == (view in ("overview", "layer", "head"))
    assert ("`0.83 × 0.06 → 21 %`" in text) == (view in ("head", "map"))
    if view in ("head", "map"):
        assert "a weight of 0.3 or more whose share is less than half of it" in text
        assert "say nothing of directions" in text


def test_the_example_in_the_help_is_true() -> None:
    """A weight of 0.83 on a vector of 0.06 of the mean length, the rest on keys that make up that mean."""
    others = (16 - 0.06) / 15  # of 16 keys
    assert 0.83 * 0.06 / (0.83 * 0.06 + 0.17 * others) == pytest.approx(0.21, abs=0.01)


def test_a_sweeps_help_says_how_to_read_it_and_what_it_does_not_say() -> None:
    assert "one step of the model's training" in SweepScreen.READING
    assert "It does not say" in SweepScreen.READING


def test_what_the_help_says_of_the_sample_is_true() -> None:
    found = measure_sink_values(Profile.load(SAMPLE_PROFILE), 0.5)
    assert found is not None
    assert found.norm == pytest.approx(1 / 5, abs=0.03)

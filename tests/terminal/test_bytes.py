"""How many bytes go over the wire: a cursor key costs little, and nothing happens when nothing is done."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.terminal

Emulate = Callable[..., Any]
BUDGETS = [
    ((80, 24), "truecolor", 1_500),
    ((80, 24), None, 1_500),
    ((200, 60), "truecolor", 3_000),
    ((200, 60), None, 3_000),
]


def settled(emulate: Emulate, path: Path, size: tuple[int, int], colorterm: str | None) -> Any:
    emulator = emulate(str(path), size=size, COLORTERM=colorterm)
    emulator.until("density, layer 0 ")  # the first curve comes after the first frame
    emulator.quiet()
    return emulator


@pytest.mark.parametrize(("size", "colorterm", "budget"), BUDGETS)
def test_a_cursor_key_stays_within_its_budget(
    emulate: Emulate, big_profile: Path, size: tuple[int, int], colorterm: str | None, budget: int
) -> None:
    """On the picture, in the list of entries, and on the map."""
    emulator = settled(emulate, big_profile, size, colorterm)
    spent = {}
    for key, shows in (("l", "layer 1 "), ("l", "layer 2 "), ("h", "layer 1 ")):
        spent[shows] = emulator.bytes_of(key, shows)
    before = emulator.text
    spent["crosshair"] = emulator.bytes_of("k", lambda: emulator.text != before)
    emulator.bytes_of("\t", lambda: "head query" in emulator.text)
    for name, key in (("entry", "j"), ("entry up", "k"), ("layer", "l")):
        before = emulator.text
        spent[name] = emulator.bytes_of(key, lambda before=before: emulator.text != before)
    emulator.bytes_of("m", "› map")
    for name, key in (("key", "l"), ("query", "k"), ("query down", "j")):
        before = emulator.text
        spent[name] = emulator.bytes_of(key, lambda before=before: emulator.text != before)
    assert max(spent.values()) <= budget, spent
    assert min(spent.values()) > 50, f"the cursor must be seen to move: {spent}"


@pytest.mark.parametrize(("colorterm", "budget"), [("truecolor", 5_000), (None, 5_000)])
def test_another_head_costs_little_more(
    emulate: Emulate, big_profile: Path, colorterm: str | None, budget: int
) -> None:
    """Another curve, other numbers, and every token in another colour: in 24 bits these are 20 bytes a token."""
    emulator = settled(emulate, big_profile, (200, 60), colorterm)
    emulator.bytes_of("3", "looks at")
    spent = {}
    for key, shows in (("l", "head 1 "), ("l", "head 2 "), ("]", "layer 1 ")):
        spent[key + shows] = emulator.bytes_of(key, shows)
    assert max(spent.values()) <= budget, spent
    assert min(spent.values()) > 50, spent


@pytest.mark.parametrize(
    ("key", "shows", "budget"), [("i", "Esc closes", 5_000), ("O", "Look again", 5_000), ("?", "Esc closes", 9_000)]
)
def test_what_is_mostly_ground_is_not_sent_cell_by_cell(
    emulate: Emulate, big_profile: Path, key: str, shows: str, budget: int
) -> None:
    spent = {}
    for term in ("xterm-256color", "screen-256color"):
        emulator = emulate(str(big_profile), size=(200, 60), TERM=term)
        emulator.until("density, layer 0 ")
        emulator.quiet()
        before = len(emulator.received)
        spent[term] = emulator.bytes_of(key, shows)
        erases = re.search(rb"\x1b\[\d+X", emulator.received[before:])
        assert bool(erases) == (term == "xterm-256color"), "only where erased cells take the ground that is set"
    assert spent["xterm-256color"] <= budget, spent
    assert spent["xterm-256color"] < 0.8 * spent["screen-256color"], spent


def test_idle_it_writes_nothing(emulate: Emulate, big_profile: Path) -> None:
    emulator = settled(emulate, big_profile, (80, 24), "truecolor")
    before = len(emulator.received)
    emulator.quiet(1.0)
    assert len(emulator.received) == before


def test_where_nothing_changes_nothing_is_sent(emulate: Emulate, big_profile: Path) -> None:
    emulator = settled(emulate, big_profile, (80, 24), "truecolor")
    emulator.type("g")
    emulator.quiet()
    before = len(emulator.received)
    emulator.type("h")  # at the first layer already
    emulator.quiet()
    assert len(emulator.received) == before
    emulator.bytes_of("?", "How to read this picture")
    assert not re.search(rb"(\x1b\[\d+;\d+H)\1", emulator.received[before:]), "a move of the cursor alone"


@pytest.mark.parametrize(
    ("size", "colorterm", "budget"),
    [((200, 60), "truecolor", 40_000), ((200, 60), None, 40_000), ((400, 120), "truecolor", 120_000)],
)
def test_a_full_repaint_is_affordable(
    emulate: Emulate, big_profile: Path, size: tuple[int, int], colorterm: str | None, budget: int
) -> None:
    emulator = settled(emulate, big_profile, size, colorterm)
    before = emulator.text
    spent = emulator.bytes_of("p", lambda: emulator.text != before)
    assert 2_000 < spent < budget


def test_colours_are_those_of_the_terminal(emulate: Emulate, big_profile: Path) -> None:
    true = settled(emulate, big_profile, (80, 24), "truecolor").received
    some = settled(emulate, big_profile, (80, 24), None).received
    assert re.search(rb"[34]8;2;", true)
    assert not re.search(rb"[34]8;2;", some)
    assert re.search(rb"[34]8;5;", some)

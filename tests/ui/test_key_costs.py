"""What a key may cost, counted and not timed: styles computed anew, densities estimated, curves drawn."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from textual.css.stylesheet import Stylesheet

from laminar_tui.profile import density
from laminar_tui.profile.profile import Profile
from laminar_tui.render.columns import Look
from laminar_tui.render.rows import Row
from laminar_tui.ui import drawing
from laminar_tui.ui.ahead import MOST_KEPT, PAUSE, ColumnsAhead, Subject, likely_next, subject_of
from laminar_tui.ui.behind import RowsBehind
from laminar_tui.ui.state import State

Drive = Callable[..., Any]
SIZE = (200, 60)


def subjects_of(wanted: list[State]) -> list[Subject]:
    return [subject for subject in map(subject_of, wanted) if subject is not None]


@pytest.fixture(scope="module")
def other(patterns: Callable[..., Any], make_profile: Callable[..., Profile]) -> Profile:
    """Shaped like `walk`, with other weights."""
    return make_profile([patterns(11, 4, 12), None, patterns(12, 4, 12), patterns(13, 5, 12), patterns(14, 4, 12)])


@pytest.fixture
def estimated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The threads in which densities were estimated, once for each time."""
    threads: list[str] = []
    smooth = density.smooth_rows

    def counted(*words: Any, **options: Any) -> Any:
        threads.append("screen" if threading.current_thread() is threading.main_thread() else "behind")
        return smooth(*words, **options)

    monkeypatch.setattr(density, "smooth_rows", counted)
    return threads


@pytest.mark.parametrize("keys", [["2"], ["2", "3"], ["m"], ["m", "1"], ["4"], ["tab"]], ids=" ".join)
async def test_a_view_is_changed_with_one_round_of_styles(
    drive: Drive, walk: Profile, monkeypatch: pytest.MonkeyPatch, keys: list[str]
) -> None:
    rounds: list[object] = []
    update = Stylesheet.update_nodes
    async with drive(walk, size=SIZE) as driven:
        await driven.press(*keys[:-1])
        monkeypatch.setattr(
            Stylesheet, "update_nodes", lambda self, *rest, **more: rounds.append(self) or update(self, *rest, **more)
        )
        await driven.press(keys[-1])
    assert len(rounds) == 1


@pytest.mark.parametrize("key", ["3", "4"])
async def test_a_curve_is_drawn_once_where_the_view_changes_its_size(
    drive: Drive, walk: Profile, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    drawn: list[tuple[int, int]] = []
    draw = drawing.draw_curve

    def counted(scene: Any, width: int, height: int) -> list[Row]:
        drawn.append((width, height))
        return draw(scene, width, height)

    async with drive(walk, size=SIZE) as driven:
        await driven.until(lambda: "┌" in driven.text(), "a curve")
        monkeypatch.setattr(drawing, "draw_curve", counted)
        await driven.press(key)
        await driven.until(lambda: bool(drawn))
    assert len(drawn) == 1


@pytest.mark.parametrize("view", ["1", "2"])
async def test_a_key_that_needs_no_other_density_estimates_none(
    drive: Drive, walk: Profile, estimated: list[str], view: str
) -> None:
    async with drive(walk, size=SIZE) as driven:
        await driven.press(view)
        estimated.clear()
        await driven.press("k", "J", "z", "Z", "c", "C", "u", "plus", "0", "t", *("l" if view == "2" else "ll"))
        assert "screen" not in estimated


@pytest.mark.parametrize("key", ["p", "P", "s", "a", "2"])
async def test_after_a_pause_the_next_densities_are_there(
    drive: Drive, walk: Profile, estimated: list[str], key: str
) -> None:
    async with drive(walk, size=SIZE) as driven:
        ahead = driven.app.explorer._stage.ahead
        await driven.until(lambda: all(map(ahead.has, subjects_of(likely_next(driven.state)))))
        assert estimated.count("behind")
        estimated.clear()
        await driven.press(key)
        assert "screen" not in estimated
        await driven.pilot.pause(2 * PAUSE)


@pytest.mark.parametrize("inside", [False, True], ids=["layers", "heads"])
async def test_a_key_of_the_comparison_that_needs_no_other_density_estimates_none(
    drive: Drive, walk: Profile, other: Profile, estimated: list[str], inside: bool
) -> None:
    async with drive(other, size=SIZE) as driven:
        driven.app.explorer.reference = walk
        await driven.press("5", *(["enter"] if inside else []))
        assert "screen" in estimated
        estimated.clear()
        await driven.press("z", "z", "c", "C", "u", "v", "v", "v", "v", "x", "x", "t", "l", "n")
        assert "screen" not in estimated
        await driven.pilot.pause(2 * PAUSE)


@pytest.mark.parametrize("key", ["p", "P", "s", "a", "enter", "b"])
async def test_after_a_pause_the_next_densities_of_the_comparison_are_there(
    drive: Drive, walk: Profile, other: Profile, estimated: list[str], key: str
) -> None:
    async with drive(other, size=SIZE) as driven:
        driven.app.explorer.reference = None if key == "b" else walk
        await driven.press("5")
        screen = driven.app.screen
        await driven.until(lambda: screen.compared.reference is not None, "what it is compared with")
        await driven.until(lambda: screen.chance.drawn(other, screen._next_null()) is not None, "the next null")
        n_subjects = 2 * (1 + 1 + 4)  # of A and B: the heads, the next null, and four other looks
        await driven.until(lambda: len(screen.likely_next()) == n_subjects)
        await driven.until(lambda: all(map(screen._ahead.has, screen.likely_next())), "all of them")
        assert estimated.count("behind")
        estimated.clear()
        before, made_of = screen.pair(), (screen.compared, screen.now.look)
        await driven.press(key)
        await driven.until(lambda: (screen.compared, screen.now.look) != made_of, "what was asked for")
        assert screen.pair() is not before
        assert "screen" not in estimated
        await driven.pilot.pause(2 * PAUSE)


def test_what_is_made_ahead_is_what_would_be_made_now_and_little_is_kept(walk: Profile) -> None:
    ahead = ColumnsAhead()
    state = State(walk)
    ahead._make(subjects_of(likely_next(state)), 0)
    for each in subjects_of(likely_next(state)):
        found, made = ahead.columns(each), ColumnsAhead().columns(each)
        assert found.look == made.look == each.look
        assert (found.nodes.values == made.nodes.values).all()
        assert found.labels == made.labels
    for population in ("final", "self", "past", "all"):
        for each in subjects_of(likely_next(State(walk, view="layer", look=Look(population)))):
            ahead.columns(each)
    assert len(ahead._kept) == MOST_KEPT


def test_what_is_wanted_next_is_not_forgotten_for_what_is_looked_at_meanwhile(walk: Profile) -> None:
    ahead = ColumnsAhead(3)
    first, second, third, fourth = (Subject(walk, Look(population)) for population in ("final", "self", "past", "all"))
    for subject in (first, second, third):
        ahead.columns(subject)
    ahead.prepare([first])
    ahead.columns(fourth)
    assert [ahead.has(each) for each in (first, second, third, fourth)] == [True, False, True, True]


def test_of_rows_that_are_drawn_behind_only_the_latest_come() -> None:
    posted: list[Any] = []
    shown: list[bool] = []
    arrived = threading.Event()

    def post(message: Any) -> None:
        posted.append(message)
        arrived.set()

    behind = RowsBehind(post, lambda: shown.append(True))
    drawn: list[str] = []

    def draw(name: str) -> list[Row]:
        drawn.append(name)
        return []

    for name in "abc":
        assert behind.rows(name, lambda name=name: draw(name)) is None
    for expected in ("a", "c"):
        assert arrived.wait(10)
        arrived.clear()
        assert drawn[-1] == expected
        posted.pop().deliver()
    assert behind.rows("c", lambda: draw("again")) == []
    assert drawn == ["a", "c"]
    assert shown == [True]


def test_after_a_bug_in_a_drawing_the_next_one_is_drawn() -> None:
    posted: list[Any] = []
    arrived = threading.Event()

    def post(message: Any) -> None:
        posted.append(message)
        arrived.set()

    def fail() -> list[Row]:
        raise ZeroDivisionError("a bug")

    behind = RowsBehind(post, lambda: None)
    behind.rows("bad", fail)
    assert arrived.wait(10)
    assert "ZeroDivisionError" in posted[0].crash
    posted.pop().deliver()
    assert behind.rows("bad", fail) == []
    arrived.clear()
    behind.rows("good", lambda: [[]])
    assert arrived.wait(10)
    posted.pop().deliver()
    assert behind.rows("good", fail) == [[]]

"""Garbage is collected in a rest, and what stays for good is not looked at again."""

import gc
import sys
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from textual.app import App

from laminar_tui.profile.profile import Profile
from laminar_tui.ui import garbage, start
from laminar_tui.ui.app import LaminarApp
from laminar_tui.ui.garbage import Garbage, collected_in_rests, nothing_collected


@pytest.fixture(autouse=True)
def _left_as_it_was() -> Iterator[None]:
    threshold = gc.get_threshold()
    yield
    gc.set_threshold(*threshold)
    gc.unfreeze()
    gc.enable()


def test_a_start_is_not_interrupted_and_an_error_in_it_ends_that() -> None:
    seen = []

    def start() -> None:
        with nothing_collected():
            seen.append(gc.isenabled())
            raise ValueError("no such file")

    with pytest.raises(ValueError, match="no such file"):
        start()
    assert seen == [False]
    assert gc.isenabled()


def test_a_collector_that_is_off_stays_off() -> None:
    gc.disable()
    with nothing_collected():
        pass
    assert not gc.isenabled()


def test_full_collections_wait_for_a_rest_but_not_for_ever() -> None:
    young, middle, full = gc.get_threshold()
    with collected_in_rests():
        assert gc.get_threshold() == (young, middle, garbage._AT_MOST)
        Garbage().collect()
    assert gc.get_threshold() == (young, middle, full)
    assert not gc.get_freeze_count()
    assert full < garbage._AT_MOST < 1000


def test_the_app_runs_with_collections_in_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    app = types.SimpleNamespace(run=lambda mouse: seen.append((*gc.get_threshold(), mouse)))
    monkeypatch.setattr(start, "_leave", lambda *_arguments: 7)
    assert start._run(app, None, types.SimpleNamespace(no_mouse=True)) == 7  # type: ignore[arg-type]
    assert seen == [(*gc.get_threshold()[:2], garbage._AT_MOST, False)]


async def test_nothing_is_collected_while_keys_are_pressed(
    drive: Callable[..., Any], walk: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    collected: list[float] = []
    monkeypatch.setattr(Garbage, "collect", lambda _self: collected.append(time.monotonic()))
    monkeypatch.setattr(App, "is_headless", False)
    monkeypatch.setattr(LaminarApp, "watch_terminal", lambda _app: None)
    typed: list[float] = []
    async with drive(walk) as driven:
        for key in "lhlhlhlhlhlh":
            await driven.press(key)
            typed.append(driven.app._typed_at)
            await driven.pilot.pause(0.15)
        await driven.until(lambda: bool(collected) and collected[-1] > typed[-1], "a rest")
    assert all(at - max(each for each in (0.0, *typed) if each <= at) >= garbage.REST for at in collected)


def test_what_came_with_many_modules_is_set_aside_once(monkeypatch: pytest.MonkeyPatch) -> None:
    collector = Garbage()
    assert collector.collect()
    frozen = gc.get_freeze_count()
    assert frozen > 10_000, "the first time sets aside what the start has made"
    monkeypatch.setattr(gc, "get_count", lambda: (0, 0, garbage._ENOUGH - 1))
    assert not collector.collect(), "nothing much is left since"
    gc.unfreeze()
    assert collector.collect(), "what came back is set aside again"
    assert gc.get_freeze_count() > 10_000
    for number in range(garbage._MANY_MODULES):
        monkeypatch.setitem(sys.modules, f"laminar_test_{number}", types.ModuleType("made"))
    kept = [[number] for number in range(1000)]
    assert collector.collect()
    assert gc.get_freeze_count() >= frozen + len(kept)


def test_circles_are_taken_apart_in_a_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    collector = Garbage()
    collector.collect()
    gc.disable()
    circle: list[object] = []
    circle.append(circle)
    place = id(circle)
    del circle
    assert any(id(each) == place for each in gc.get_objects())
    monkeypatch.setattr(gc, "get_count", lambda: (0, 0, garbage._ENOUGH))
    assert collector.collect()
    assert not any(id(each) == place for each in gc.get_objects())

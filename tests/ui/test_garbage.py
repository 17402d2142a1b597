"""Garbage is collected in a rest, and what stays for good is not looked at again."""

import gc
import sys
import types
from collections.abc import Iterator

import pytest

from laminar_tui.ui import garbage
from laminar_tui.ui.garbage import Garbage, collect_in_rests, nothing_collected


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


def test_full_collections_wait_for_a_rest_but_not_for_ever() -> None:
    young, middle, full = gc.get_threshold()
    collect_in_rests()
    assert gc.get_threshold() == (young, middle, garbage._AT_MOST)
    assert full < garbage._AT_MOST < 1000


def test_what_came_with_many_modules_is_set_aside_once(monkeypatch: pytest.MonkeyPatch) -> None:
    collector = Garbage()
    assert collector.collect()
    frozen = gc.get_freeze_count()
    assert frozen > 10_000, "the first time sets aside what the start has made"
    monkeypatch.setattr(gc, "get_count", lambda: (0, 0, garbage._ENOUGH - 1))
    assert not collector.collect(), "nothing much is left since"
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

"""The keyboard's thread: when it tells an Esc, and when it ends. Time passes only while it waits."""

import os
from collections.abc import Callable, Iterator, Sequence
from threading import Event
from typing import Any

import pytest
from textual import _parser, constants, events
from textual.message import Message

from laminar_tui.ui import keyboard
from laminar_tui.ui.keyboard import QUIET, Keyboard

ESCAPE_DELAY = QUIET / 8
Type = Callable[[Sequence[bytes | None]], tuple[list[tuple[str, float]], list[float]]]


@pytest.fixture
def type_keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[Type]:
    """Type what a script holds, None for a wait in which nothing comes; gives each key and when it was told, and the
    waits."""
    ours, theirs = os.pipe()
    open_ends = {ours, theirs}

    def type_keys(script: Sequence[bytes | None]) -> tuple[list[tuple[str, float]], list[float]]:
        now, told, waits, left = [0.0], list[tuple[str, float]](), list[float](), list(script)
        driver = Keyboard.__new__(Keyboard)
        driver._debug, driver.fileno, driver.exit_event = False, ours, Event()

        def wait_for_keys(read: list[int], _write: Any, _error: Any, wait: float) -> tuple[list[int], list[int], Any]:
            waits.append(wait)
            if not left:
                driver.exit_event.set()
            elif (typed := left.pop(0)) is not None:
                if typed:
                    os.write(theirs, typed)
                else:
                    os.close(theirs)
                    open_ends.remove(theirs)
                return read, [], []
            now[0] += wait
            return [], [], []

        def take(message: Message) -> None:
            assert isinstance(message, events.Key)
            told.append((message.key, now[0]))

        monkeypatch.setattr(driver, "process_message", take)
        monkeypatch.setattr(keyboard.select, "select", wait_for_keys)
        monkeypatch.setattr(_parser, "get_time", lambda: now[0])
        monkeypatch.setattr(constants, "ESCAPE_DELAY", ESCAPE_DELAY)
        monkeypatch.setattr(keyboard, "ESCAPE_DELAY", ESCAPE_DELAY)
        driver.run_input_thread()
        return told, waits

    yield type_keys
    for descriptor in open_ends:
        os.close(descriptor)


def test_an_esc_is_told_when_nothing_has_followed_for_the_delay(type_keys: Type) -> None:
    told, waits = type_keys([None, b"j", None, b"\x1b", None, None])
    assert told == [("j", QUIET), ("escape", pytest.approx(QUIET + 2 * ESCAPE_DELAY))]
    assert waits == [QUIET, QUIET, ESCAPE_DELAY, QUIET, ESCAPE_DELAY, QUIET, QUIET]


def test_what_follows_within_the_delay_belongs_to_it(type_keys: Type) -> None:
    assert type_keys([b"\x1b", b"[A", None])[0] == [("up", 0.0)]


def test_what_is_no_text_is_no_bug(type_keys: Type) -> None:
    assert [key for key, _ in type_keys([b"\xff", b"\xc3", b"\xa9", b"q", None])[0]][1:] == ["é", "q"]


def test_it_ends_with_the_terminal(type_keys: Type) -> None:
    told, waits = type_keys([b"q", b"", b"never"])
    assert ([key for key, _ in told], len(waits)) == (["q"], 2)

"""A run of a real model in the app stops at the layer it is in: counted in layers, not in seconds."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from laminar_tui.model.reader import Reader
from laminar_tui.run import Request
from laminar_tui.ui.app import LaminarApp
from laminar_tui.ui.state import State

PATIENCE = 60.0


class Turnstile:
    """Holds the model before its second layer until it is let through, and counts the layers that begin."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = 0
        self.reached, self._open = threading.Event(), threading.Event()
        begin = Reader.begin_layer

        def held(reader: Reader, module: Any) -> None:
            if self.begun == 1:
                self.reached.set()
                assert self._open.wait(PATIENCE)
            begin(reader, module)
            self.begun += 1

        monkeypatch.setattr(Reader, "begin_layer", held)

    async def wait(self) -> None:
        """Until the model stands before its second layer."""
        assert await asyncio.to_thread(self.reached.wait, PATIENCE)

    def let_through(self) -> None:
        """Let the model go on."""
        self._open.set()


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(int(PATIENCE / 0.01)):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("never")


@pytest.mark.parametrize("key", ["escape", "ctrl+c"])
async def test_no_layer_begins_after_it_was_stopped(
    key: str, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turnstile = Turnstile(monkeypatch)
    app = LaminarApp(State(), Request(str(model_folder), prompt="one two three four five"))
    async with app.run_test(size=(80, 24)) as pilot:
        await turnstile.wait()
        await pilot.press(key)
        turnstile.let_through()
        await until(lambda: not app.explorer.runner.is_running)
        await pilot.pause()
        assert turnstile.begun == 1
        assert app.explorer.state.profile is not None
        assert app.explorer.state.profile.n_read == 1
        assert app.is_running
        turnstile.begun = 2
        await pilot.press("r")
        await until(lambda: not app.explorer.runner.is_running)
        await pilot.pause()
        assert app.explorer.state.profile.n_read == 2, "and it can be run again"


async def test_quitting_does_not_wait_for_the_layer_and_begins_no_other(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turnstile = Turnstile(monkeypatch)
    app = LaminarApp(State(), Request(str(model_folder), prompt="one two three four five"))
    async with app.run_test(size=(80, 24)) as pilot:
        await turnstile.wait()
        await pilot.press("q")
        await until(lambda: not app.is_running)
        thread = app.explorer.runner._thread
        assert thread is not None
        assert thread.is_alive(), "the model still stands where it was"
        turnstile.let_through()
        await asyncio.to_thread(thread.join, PATIENCE)
        assert not thread.is_alive()
        assert turnstile.begun == 1


async def test_without_stopping_both_layers_begin(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: the turnstile alone stops nothing."""
    turnstile = Turnstile(monkeypatch)
    app = LaminarApp(State(), Request(str(model_folder), prompt="one two three four five"))
    async with app.run_test(size=(80, 24)) as pilot:
        await turnstile.wait()
        turnstile.let_through()
        await until(lambda: not app.explorer.runner.is_running)
        await pilot.pause()
        assert turnstile.begun == 2
        assert app.explorer.state.profile is not None
        assert app.explorer.state.profile.n_read == 2

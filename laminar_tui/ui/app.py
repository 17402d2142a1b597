"""The application: one explorer, its palette and its look."""

import asyncio
import select
import signal
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from rich.console import RenderableType
from textual import events
from textual._compositor import CompositorUpdate
from textual.app import App, SystemCommand
from textual.binding import BindingType
from textual.driver import Driver
from textual.drivers.linux_driver import LinuxDriver
from textual.screen import Screen
from textual.widgets import Input, TextArea

from laminar_tui.catalog import remember
from laminar_tui.log import LOGGER
from laminar_tui.recovery import CutOff
from laminar_tui.run import Request
from laminar_tui.ui.detour import Detour
from laminar_tui.ui.explorer import Explorer, Terminal
from laminar_tui.ui.garbage import REST, Garbage, let_widgets_go
from laminar_tui.ui.kept import CutOffDialog, is_run_of
from laminar_tui.ui.keyboard import Keyboard
from laminar_tui.ui.painter import Painter, ThriftyUpdate
from laminar_tui.ui.state import State, settle

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class LaminarApp(App[None]):
    """The terminal explorer.

    Args:
        state: where to begin.
        request: what to run; None for a saved profile.
        terminal: what the terminal can show.
        log_path: where a bug's traceback is written.
        cut_off: a run to offer first.
        follows: the file of another process's capture to follow.
    """

    TITLE = "laminar"
    CSS_PATH: ClassVar = ["laminar.tcss", "detours.tcss"]  # to read the second when it is needed costs a key 20 ms
    BINDINGS: ClassVar[list[BindingType]] = []

    def __init__(
        self,
        state: State,
        request: Request | None,
        terminal: Terminal | None = None,
        log_path: Path | None = None,
        cut_off: CutOff | None = None,
        follows: Path | None = None,
    ) -> None:
        super().__init__()
        let_widgets_go()
        terminal = terminal or Terminal()
        self.explorer = Explorer(state, request, terminal, log_path)
        self.explorer.is_held = cut_off is not None
        self.cut_off = cut_off
        self.signal: int | None = None
        self.crash = ""
        self._follows = follows
        self.set_keymap(dict(terminal.keymap))
        self._painter = Painter(erases=terminal.erases)
        self._garbage = Garbage()
        self._typed_at = 0.0

    def get_driver_class(self) -> type[Driver]:
        """Read the keyboard as this program does, where Textual would take its driver for a terminal."""
        driver = super().get_driver_class()
        return Keyboard if driver is LinuxDriver else driver

    def get_default_screen(self) -> Screen[None]:
        """Begin with the explorer."""
        return self.explorer

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Offer every key's action in the palette."""
        if screen is self.explorer:
            yield from self.explorer.commands()
        elif isinstance(screen, Detour):
            yield from screen.commands()

    def on_key(self, event: events.Key) -> None:
        """Give a line what was typed before it had the keys: those of one go are sent where the first one was."""
        if self.screen is self.explorer:
            if self.explorer.take_typed(event):
                event.prevent_default()
        elif event.is_printable and event.character is not None:
            line = self.screen.focused
            if isinstance(line, Input):
                line.insert_text_at_cursor(event.character)
            elif isinstance(line, TextArea):
                line.insert(event.character)

    async def on_event(self, event: events.Event) -> None:
        """Notice when there was a key or a click."""
        if isinstance(event, events.InputEvent):
            self._typed_at = time.monotonic()
        await super().on_event(event)

    def _collect_garbage(self) -> None:
        if time.monotonic() - self._typed_at >= REST:
            self._garbage.collect()

    def leave_on(self, number: int) -> None:
        """Leave because of a signal, with the terminal as it was; what a run has read stays in its journal."""
        if self.signal is None:
            self.signal = number
            LOGGER.info("leaving on signal %d", number)
            self.explorer.runner.cancel()
            self.exit(return_code=128 + number)

    def action_interrupt(self) -> None:
        """Stop the run from another screen; pressed twice, quit."""
        note = self.explorer.interrupt()
        if isinstance(self.screen, Detour):
            self.screen.say(note)

    def action_leave(self) -> None:
        """Leave without an answer."""
        self.exit()

    def on_mount(self) -> None:
        """Paint again when continued; leave on the signals of a closed or killed session as on `quit`."""
        self.app_resume_signal.subscribe(self, lambda _app: self.on_paint_anew())
        self.begin_capture_print(self)
        self._listen_to_signals()
        if not self.is_headless:
            self.watch_terminal()
            self.set_interval(REST, self._collect_garbage)
        if self._follows is not None:
            self.call_after_refresh(self.explorer.follow, self._follows)
        if self.cut_off is not None:
            self.push_screen(CutOffDialog(self.cut_off), self._answer)

    def on_resize(self, event: events.Resize) -> None:
        """Paint everything again, also where the terminal has had another size only for a moment."""
        if event.size == self._painter.size:
            self.on_paint_anew()

    def on_paint_anew(self) -> None:
        """Paint the whole screen again, whatever the terminal seems to show."""
        self._painter.forget()
        self.refresh(layout=True)

    def _display(self, screen: Screen[object], renderable: RenderableType | None) -> None:
        """Send of an update what the terminal does not show yet; nothing where that is nothing."""
        if isinstance(renderable, CompositorUpdate):
            renderable = ThriftyUpdate(renderable, self._painter)
            is_seen = not (self.is_headless or self._batch_count or self._driver is None)
            stays = self.cursor_position == self._previous_cursor_position
            if is_seen and stays and not renderable.render_segments(self.console):
                return
        super()._display(screen, renderable)

    def on_print(self, event: events.Print) -> None:
        """Put what a library prints into the log."""
        if event.text.strip():
            LOGGER.info("%s", event.text.rstrip(), extra={"printed": True})

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            try:
                loop.add_signal_handler(number, self.leave_on, number)
            except (NotImplementedError, RuntimeError, ValueError):
                return  # not in the main thread: a test drives the app

    def watch_terminal(self) -> None:
        """Leave when the terminal is closed, also where no signal says so; call it in the app's thread."""
        loop = asyncio.get_running_loop()

        def wait() -> None:
            poll = select.poll()
            poll.register(0, 0)  # asked for nothing, it tells a hang-up only
            poll.poll()
            if not loop.is_closed():
                loop.call_soon_threadsafe(self.leave_on, int(signal.SIGHUP))

        threading.Thread(target=wait, name="hang-up", daemon=True).start()

    def _answer(self, is_wanted: bool | None) -> None:
        """Open the run that was cut off, or forget it and go on as if there had been none."""
        found = self.cut_off
        if found is None:
            return
        explorer = self.explorer
        if is_wanted:
            explorer.state = settle(replace(explorer.state, profile=found.profile))
            explorer._say("cut off, so not checked as a whole; w writes it, O lists it for 14 days")
            looked_at = found.set_aside()
            explorer.runner.adopt(looked_at)
            remember(looked_at.path)
            if explorer._request is not None and not is_run_of(explorer._request, found.profile):
                explorer._request = None  # `r` runs again what is shown, and nothing else
            return
        found.remove()
        explorer.start_held()

    def _fatal_error(self) -> None:
        """Take a bug in the screen into the log, and say so in the shell: Textual would print every local variable.

        They hold the prompt, and text that a terminal must not see.
        """
        error = self._exception
        self.crash = f"{type(error).__name__}: {error}"
        LOGGER.error("a bug on the screen", exc_info=error)
        self._close_messages_no_wait()

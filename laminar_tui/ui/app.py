"""The application: one explorer, its palette and its look."""

import signal
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from textual.app import App, SystemCommand
from textual.binding import BindingType
from textual.screen import Screen

from laminar_tui.run import Request
from laminar_tui.ui.detour import Detour
from laminar_tui.ui.explorer import Explorer, Terminal
from laminar_tui.ui.state import State


class LaminarApp(App[None]):
    """The terminal explorer.

    Args:
        state: where to begin.
        request: what to run; None for a saved profile.
        terminal: what the terminal can show.
        log_path: where a bug's traceback is written.
    """

    TITLE = "laminar"
    CSS_PATH = "laminar.tcss"
    BINDINGS: ClassVar[list[BindingType]] = []

    def __init__(
        self, state: State, request: Request | None, terminal: Terminal | None = None, log_path: Path | None = None
    ) -> None:
        super().__init__()
        self.explorer = Explorer(state, request, terminal or Terminal(), log_path)
        self.signal: int | None = None

    def get_default_screen(self) -> Screen[None]:
        """Begin with the explorer."""
        return self.explorer

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Offer every key's action in the palette."""
        if screen is self.explorer:
            yield from self.explorer.commands()
        elif isinstance(screen, Detour):
            yield from screen.commands()

    def leave_on(self, number: int) -> None:
        """Leave because of a signal, with the terminal as it was."""
        self.signal = number
        self.explorer.runner.cancel()
        self.exit(return_code=128 + number)

    def on_mount(self) -> None:
        """Paint again when continued; leave on the signals of a closed or killed session as on `quit`."""
        import asyncio

        self.app_resume_signal.subscribe(self, lambda _app: self.screen.refresh(layout=True))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            try:
                loop.add_signal_handler(number, self.leave_on, number)
            except (NotImplementedError, RuntimeError, ValueError):
                return  # not in the main thread: a test drives the app

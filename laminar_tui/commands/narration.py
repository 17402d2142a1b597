"""What is told on standard error while a model is run, so that standard output is left to the result."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING

from laminar_tui.commands.results import tell

if TYPE_CHECKING:
    from laminar_tui.run import Event


@contextmanager
def narrated(quiet: bool) -> "Iterator[Callable[[Event], None]]":
    """Tell what is going on, unless that is not wanted."""
    narrate = _Narrator()
    try:
        yield (lambda _event: None) if quiet else narrate
    finally:
        narrate.close()


@contextmanager
def only_results() -> Iterator[None]:
    """Keep what libraries print during a run, C code included, out of standard output: that is for the result."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


class _Narrator:
    """Tells on standard error what is going on: one line that is rewritten on a terminal, few lines elsewhere."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._is_terminal = sys.stderr.isatty()
        self._last = ""
        self._told_at = 0.0

    def __call__(self, event: "Event") -> None:
        from laminar_tui.render.text import visible
        from laminar_tui.run import Step

        if not isinstance(event, Step):
            return
        name = visible(event.name)
        progress = f" {event.done} of {event.total}" if event.total else f" {event.done:,}" if event.done else ""
        progress += f": {visible(event.more)}" if event.more else ""
        now = time.monotonic()
        if self._is_terminal:
            if name == self._last and (event.done < event.total or not event.total) and now - self._told_at < 0.25:
                return
            elapsed = now - self._started
            tell(f"\r\x1b[K{name}{progress}  {elapsed:.1f} s", end="")
        elif name != self._last:
            tell(name + (progress if event.more else ""))
        self._last, self._told_at = name, now

    def close(self) -> None:
        """End the line."""
        if self._is_terminal and self._last:
            tell("")

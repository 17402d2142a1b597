"""Rows that take longer to draw than a key may: drawn in a thread, and shown once they are there."""

import threading
import traceback
from collections.abc import Callable, Hashable
from functools import partial

from textual.message import Message

from laminar_tui.log import LOGGER
from laminar_tui.render.rows import Row
from laminar_tui.ui.messages import Answered

Draw = Callable[[], list[Row]]


class RowsBehind:
    """The latest rows that were wanted; one thread at a time draws them.

    Args:
        post: takes the message that ends a drawing; called in the thread.
        show: called in the event loop when rows have come.
    """

    def __init__(self, post: Callable[[Message], object], show: Callable[[], None]) -> None:
        self._post, self._show = post, show
        self._wanted: tuple[Hashable, Draw] | None = None
        self._drawn: tuple[Hashable, list[Row]] | None = None
        self._is_drawing = False

    def rows(self, key: Hashable, draw: Draw) -> list[Row] | None:
        """The rows of a key, or None until they are drawn."""
        if self._drawn is not None and self._drawn[0] == key:
            return self._drawn[1]
        self._wanted = key, draw
        self._go_on()
        return None

    def _go_on(self) -> None:
        if not self._is_drawing and self._wanted is not None:
            self._is_drawing = True
            threading.Thread(target=self._work, args=self._wanted, name="rows behind", daemon=True).start()

    def _work(self, key: Hashable, draw: Draw) -> None:
        try:
            taken, crash = partial(self._take, key, draw()), ""
        except Exception as error:  # a bug: the thread would vanish with it, so it is shown and logged
            LOGGER.error("a bug in a drawing", exc_info=error)
            self._is_drawing, self._drawn = False, (key, [])  # a crash is told, not delivered
            taken, crash = partial(self._take, key, []), traceback.format_exc()
        self._post(Answered(0, crash=crash, then=taken, is_outdated=lambda: False))

    def _take(self, key: Hashable, rows: list[Row]) -> None:
        self._is_drawing, self._drawn = False, (key, rows)
        if self._wanted is not None and self._wanted[0] != key:
            self._go_on()
        else:
            self._wanted = None
            self._show()

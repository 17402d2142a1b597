"""How a screen or a window is left: once, and not from under another one."""

from typing import TypeVar

from textual.await_complete import AwaitComplete
from textual.screen import Screen

Result = TypeVar("Result")


class LeftOnce(Screen[Result]):
    """A screen that leaves by itself only.

    Textual's `dismiss` takes the screen on top away, whichever that is: that of the second of two Enters typed in one
    go would take the one below, and that of work in a thread the window that was opened meanwhile.
    """

    _left_with: tuple[Result | None] | None = None

    def dismiss(self, result: Result | None = None) -> AwaitComplete:
        """Leave with a result, if this is still there; under a window once that has closed."""
        if self.is_active:
            return super().dismiss(result)
        if self in self.app.screen_stack:
            self._left_with = (result,)
        return AwaitComplete()

    def on_screen_resume(self) -> None:
        """Leave, if that has waited for a window over this one."""
        if self._left_with is not None:
            (result,), self._left_with = self._left_with, None
            super().dismiss(result)

"""A list to choose one line from."""

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import OptionList

from laminar_tui.ui.dialogs import Dialog, Hanging


class ChoiceDialog(Dialog[str]):
    """Lines of a title and what it is; the result is the name of the one chosen.

    Args:
        title: on the frame.
        choices: names, titles and descriptions, the last two visible text.
        current: the place of the one that is chosen now.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "cursor(1)", "down", show=False),
        Binding("k", "cursor(-1)", "up", show=False),
        Binding("q", "close", "close", show=False),
    ]

    def __init__(self, title: str, choices: Sequence[tuple[str, str, str]], current: int = 0) -> None:
        super().__init__()
        self._title, self._choices, self._current = title, choices, current

    def compose(self) -> ComposeResult:
        width = max(len(title) for _, title, _ in self._choices)
        lines = [Hanging(Text.assemble((f"{title:<{width}}", "bold"), f"  {what}")) for _, title, what in self._choices]
        options = OptionList(*lines, id="box", markup=False)
        options.border_title = self._title
        options.border_subtitle = "Enter chooses · Esc closes"
        yield options

    def on_mount(self) -> None:
        """Begin at the one that is chosen now."""
        options = self.query_one(OptionList)
        options.highlighted = self._current
        options.focus()

    def action_cursor(self, step: int) -> None:
        """Go up or down."""
        options = self.query_one(OptionList)
        options.action_cursor_down() if step > 0 else options.action_cursor_up()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Close with the one chosen."""
        self.dismiss(self._choices[event.option_index][0])

"""What was kept, shown: a run that was cut off, and the log's last lines."""

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Static

from laminar_tui.errors import LaminarError
from laminar_tui.log import last_lines, log_path
from laminar_tui.profile.profile import Profile
from laminar_tui.recovery import CutOff
from laminar_tui.render.text import visible
from laminar_tui.run import BUNDLED_NAME, Request
from laminar_tui.source import find_source
from laminar_tui.ui.dialogs import Dialog, TextDialog


class LogDialog(TextDialog):
    """The log's last lines, the newest in sight."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("grave_accent", "close", "close", show=False),
    ]

    def __init__(self) -> None:
        path = log_path()
        where = visible(str(path)) if path is not None else "there is no log"
        super().__init__("log", Text("\n".join([where, "", *last_lines()])))

    def on_mount(self) -> None:
        """Stand at the end, where the newest lines are."""
        box = self.query_one("#box", VerticalScroll)
        self.call_after_refresh(box.scroll_end, animate=False)


def is_run_of(request: Request, profile: Profile) -> bool:
    """Whether a request would read what a profile was read from, as far as the profile tells."""
    origin, text, read = profile.origin, request.text(), "".join(profile.origin.tokens)
    try:
        model = find_source(request.source, request.revision).name if request.source else BUNDLED_NAME
    except LaminarError:
        return False
    is_prompt = text == read or (request.max_tokens is not None and bool(read) and text.startswith(read))
    is_plain = not (request.null or request.bos or request.chat)
    return is_plain and is_prompt and (model, request.recipe) == (origin.model, origin.recipe)


BLIND_SECONDS = 0.5
"""For so long after it is on the screen, an offer that nobody has asked for takes no answer."""


class CutOffDialog(Dialog[bool]):
    """Offers a run that was cut off: True opens it, None forgets it.

    What was typed before it could be read, while the program started, is no answer.

    Args:
        found: the run.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "open", show=False),
        Binding("q", "leave", "quit", show=False),
        Binding("ctrl+q,ctrl+c", "app.leave", "quit", show=False),
    ]
    ANSWERS = frozenset({"open", "close", "leave"})

    def __init__(self, found: CutOff) -> None:
        super().__init__()
        self._sentence = visible(found.sentence())
        self._listens = False

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = "cut off"
            yield Static(Text(self._sentence), id="text", markup=False)
            yield Static(" ", id="hint", markup=False)

    def on_mount(self) -> None:
        """Take answers when there was time to read, from when it is painted."""
        self.call_after_refresh(self.set_timer, BLIND_SECONDS, self._listen)

    def _listen(self) -> None:
        self._listens = True
        self.query_one("#hint", Static).update("Enter opens it · Esc forgets it · q quits and leaves it for later")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Let no key answer before that."""
        del parameters
        return self._listens or action not in self.ANSWERS

    def action_leave(self) -> None:
        """Quit without an answer."""
        self.app.exit()

    def action_open(self) -> None:
        """Close, and open the run."""
        self.dismiss(True)

"""A screen of its own that one comes back from: its frame of lines, its keys, its help, and work behind its back.

A detour is given the explorer's state and does not change it: what is chosen there is its result.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from textwrap import wrap
from typing import ClassVar, TypeVar

from rich.style import Style
from rich.text import Text
from textual import events
from textual.app import ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Static

from laminar_tui.errors import LaminarError
from laminar_tui.files import write_bytes
from laminar_tui.log import LOGGER
from laminar_tui.profile.profile import Profile
from laminar_tui.render.facts import join_fitting, model_facts
from laminar_tui.render.palette import COLOR_MAPS, Ramp
from laminar_tui.render.rows import Row, merge_runs
from laminar_tui.render.text import fit, visible
from laminar_tui.source import as_path
from laminar_tui.ui.dialogs import FileDialog, TextDialog
from laminar_tui.ui.find import parse_target
from laminar_tui.ui.help import Detail, explain
from laminar_tui.ui.keys import Key, remap
from laminar_tui.ui.latest import Latest
from laminar_tui.ui.leaving import LeftOnce
from laminar_tui.ui.painter import PaintAnew
from laminar_tui.ui.room import take_room
from laminar_tui.ui.scene import Terminal
from laminar_tui.ui.state import State
from laminar_tui.ui.widgets import Lines
from laminar_tui.ui.writing import copy, copy_table, file_stem, problem_with

Result = TypeVar("Result")
Found = TypeVar("Found")

MAX_NOTE_LINES = 3
BOLD = Style(bold=True)

FIND_KEY = Key("find", "slash", "/", "find", "go to a layer or head: 20, 20.7, L20H7", label="Find", rank=6)
"""The key of a detour that has layers and heads."""
COPY_KEYS = (
    Key("copy", "y", "y", "copy", "copy the line of numbers"),
    Key("copy_table", "Y", "Y", "copy_table", "copy the table, with tabs between its columns", "Copy table", rank=8),
    Key("screenshot", "S", "S", "screenshot", "the screen as SVG"),
)
"""The keys of every detour that shows something of a profile: what they put out."""
BACK_KEYS = (
    Key("overview", "1", "1", "switch('overview')", "the overview: all layers"),
    Key("compare", "5", "5", "switch('compare')", "compare with what was marked, or with chance"),
    Key("heads", "6", "6", "switch('heads')", "every head: a matrix and a sorted table"),
    Key("report", "7", "7", "switch('report')", "the report"),
    Key("sweep", "8", "8", "switch('sweep')", "the sweep that is open"),
    Key("back", "escape", "Esc", "back", "back to where you came from", label="Back", rank=1),
    Key("palette", "colon,ctrl+p", ": ctrl+p", "palette", "every action by name"),
    Key("help", "question_mark,f1", "?", "help", "explain this screen", label="Help", rank=0),
    Key("quit", "q,ctrl+q", "q", "quit", "quit", label="Quit", rank=0),
    Key("cancel", "ctrl+c", "ctrl+c", "interrupt", "stop the run; a second time quits"),
)
"""The keys of every detour."""
PICTURE_KEYS = (
    Key("color_map", "c", "c", "color_map", "colour map", label="Colours", rank=7),
    Key("reverse", "C", "C", "reverse", "colour map reversed"),
    Key("theme", "t", "t", "theme", "dark or light theme"),
    Key("redraw", "ctrl+l", "ctrl+l", "redraw", "paint the screen again"),
)
"""The keys of a detour with a picture."""


def make_bindings(keys: Sequence[Key], *, is_typed_in: bool = False) -> list[BindingType]:
    """Make Textual's bindings of a screen's keys; where text is typed they have no ids, so that no one remaps them."""
    return [
        Binding(
            key.keys,
            key.action,
            key.description,
            show=False,
            id=None if is_typed_in else key.id,
            tooltip=key.description,
        )
        for key in keys
    ]


def fitting_keys(keys: Sequence[Key], width: int) -> list[Key]:
    """Choose the keys for one line: as many of those with a label as fit, the most important ones, in their order."""
    kept: list[Key] = []
    for key in sorted((key for key in keys if key.label), key=lambda each: each.rank):
        if sum(len(each.shown) + len(each.label) + 3 for each in [*kept, key]) <= width:
            kept.append(key)
    return [key for key in keys if key in kept]


def problem_with_place(typed: str) -> str:
    """Say what is wrong with what was typed for a layer or head; nothing if it is one."""
    target = parse_target(typed)
    is_place = target is not None and not target.text and target.weight is None
    return "" if is_place else "type 20, 20.7 or L20H7"


class Detour(LeftOnce[Result]):
    """The frame of a screen of its own.

    Args:
        state: the explorer's, where one comes from.
        terminal: what can be shown.

    Attributes:
        next_screen: where its user wants to go from here, in place of back: `overview`, or another screen's `NAME`.
    """

    NAME: ClassVar[str] = ""
    KEYS: ClassVar[tuple[Key, ...]] = BACK_KEYS
    IS_TYPED_IN: ClassVar[bool] = False
    """Whether text is typed here: then the keys are those of the table, whatever the settings say."""
    READING: ClassVar[str] = ""
    """How to read it, for the help."""
    NOT_SAID: ClassVar[str] = ""
    """What it does not say."""
    DETAILS: ClassVar[tuple[Detail, ...]] = ()
    """What more there is to say, below the keys."""

    class Done(Message):
        """Work behind the screen's back has ended: what is to be done now."""

        def __init__(self, then: Callable[[], None]) -> None:
            super().__init__()
            self.then = then

    def __init__(self, state: State, terminal: Terminal) -> None:
        super().__init__()
        self.start = state
        self.terminal = terminal
        self.color_map, self.reverse = state.color_map, state.reverse
        self._ramp: Latest[Ramp] = Latest()
        self._note = ""
        self._asked: dict[str, int] = {}
        self._composed = False
        self.next_screen = ""

    # -- what it is made of ------------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        yield Lines(id="where")
        yield Lines(id="title")
        with Horizontal(id="body"):
            yield from self.compose_body()
        yield Lines(id="summary")
        yield Lines(id="note")
        yield Lines(id="keys")
        yield Static("", id="tiny", markup=False)

    def compose_body(self) -> ComposeResult:
        """Make what is between the lines."""
        yield from ()

    @property
    def keys(self) -> tuple[Key, ...]:
        """The keys of this screen, as its user has them."""
        return self.KEYS if self.IS_TYPED_IN else remap(self.KEYS, self.terminal.keymap)

    def on_mount(self) -> None:
        """Draw what there is."""
        self._composed = True
        self.show()

    def on_resize(self, event: events.Resize) -> None:
        """Choose what fits."""
        if take_room(self, event.size):
            self.call_after_refresh(self.show)

    def renew(self, profile: Profile) -> None:
        """Take what a run has read that has ended meanwhile, where this screen shows what was read until then."""

    # -- drawing -----------------------------------------------------------------------------------------------------

    def show(self) -> None:
        """Draw everything; what has not changed is not sent."""
        if not self._composed:
            return
        self.lines("where").display_rows(self._draw_where)
        self.lines("keys").display_rows(self._draw_keys)
        self.lines("note").display_rows(self._draw_note)
        self.show_body()

    def show_body(self) -> None:
        """Draw title, body and summary."""

    def lines(self, name: str) -> Lines:
        """One of the widgets that are made of rows."""
        return self.query_one(f"#{name}", Lines)

    def show_line(self, name: str, facts: Sequence[str], separator: str = " · ") -> None:
        """Show as many of some facts as fit in a line."""
        self.lines(name).display_rows(partial(self._draw_facts, list(facts), separator))

    def say(self, note: str) -> None:
        """Show a note, of any text, until the next one; a long one takes more lines: what matters may be its end."""
        self._note = visible(note)
        if self._composed:
            lines = self.lines("note")
            lines.styles.height = len(self._note_lines(self.size.width))
            lines.display_rows(self._draw_note)

    def where(self) -> list[str]:
        """The path of the line on top."""
        return ["laminar", self.NAME]

    def facts(self) -> list[str]:
        """What the line on top says at its right."""
        return model_facts(self.start.profile) if self.start.profile else []

    def _note_lines(self, width: int) -> list[str]:
        return wrap(self._note, max(10, width - 2))[:MAX_NOTE_LINES] or [""]

    def fit(self, text: str, width: int) -> str:
        """Cut and pad, in ASCII where nothing else is to be shown."""
        return fit(text, width, ascii_only=self.terminal.ascii_only)

    def ramp(self) -> Ramp:
        """The colours; on a light ground the faint end is the light one."""
        key = (self.color_map, self.reverse == self.is_dark)
        return self._ramp.of(key, partial(self.terminal.ramp, *key))

    @property
    def is_dark(self) -> bool:
        """Whether the ground is dark."""
        return self.app.current_theme.dark

    def _draw_where(self, width: int, height: int) -> list[Row]:
        del height
        left = " " + (" > " if self.terminal.ascii_only else " › ").join(self.where())
        room = max(0, width - len(left) - 2)
        right = fit(
            join_fitting(self.facts(), "  ", room - 1) + " ", room, align="right", ascii_only=self.terminal.ascii_only
        )
        return [merge_runs([(self.fit(left + "  " + right, width), None)])]

    def _draw_facts(self, facts: list[str], separator: str, width: int, height: int) -> list[Row]:
        del height
        return [merge_runs([(self.fit(" " + join_fitting(facts, separator, width - 1), width), None)])]

    def _draw_note(self, width: int, height: int) -> list[Row]:
        return [merge_runs([(self.fit(" " + line, width), None)]) for line in self._note_lines(width)[:height]]

    def _draw_keys(self, width: int, height: int) -> list[Row]:
        del height
        pieces: list[tuple[str, Style | None]] = [(" ", None)]
        for key in fitting_keys(self.keys, width - 1):
            pieces += [(key.shown, BOLD), (f" {key.label}  ", None)]
        used = sum(len(text) for text, _ in pieces)
        return [merge_runs([*pieces, (" " * max(0, width - used), None)])]

    # -- work that takes longer than a key press -----------------------------------------------------------------------

    def in_background(
        self,
        kind: str,
        work: Callable[[], Found],
        then: Callable[[Found], None],
        failed: Callable[[], None] = lambda: None,
    ) -> None:
        """Do work in a thread and go on with its result here; of each kind only the newest counts.

        Args:
            kind: what sort of work it is.
            work: runs in a thread that does not hold the process; a LaminarError in it becomes a note.
            then: runs in the event loop.
            failed: runs there instead where there is no result, before the note.
        """
        asked = self._asked[kind] = self._asked.get(kind, 0) + 1

        def end(go_on: Callable[[], None]) -> None:
            if self._asked[kind] == asked:
                go_on()

        def fail(note: str) -> None:
            failed()
            self.say(note)

        def run() -> None:
            try:
                go_on = partial(then, work())
            except LaminarError as error:
                go_on = partial(fail, f"{error.message}: {error.hint}".rstrip(": "))
            except Exception as error:  # a bug: the thread would vanish with it, so it is shown and logged
                LOGGER.error("a bug behind a screen", exc_info=error)
                go_on = partial(fail, f"a bug in laminar_tui: {error!r}")
            self.post_message(self.Done(partial(end, go_on)))

        threading.Thread(target=run, name=kind, daemon=True).start()

    def on_detour_done(self, message: Done) -> None:
        """Go on with what a thread has found, or without it."""
        message.stop()
        message.then()

    # -- what it puts out --------------------------------------------------------------------------------------------

    def line_to_copy(self) -> str:
        """The line of numbers of where one is; nothing where there is none."""
        return ""

    def table(self) -> list[list[str]]:
        """The table behind the screen, its heading first; nothing where there is none."""
        return []

    def action_copy(self) -> None:
        """Copy the line of numbers."""
        text = self.line_to_copy()
        n = text.count("\n") + 1
        said = "copied the line" if n == 1 else f"copied {n} lines"
        self.say(copy(self.app, text, said) if text else "there is nothing to copy yet")

    def action_copy_table(self) -> None:
        """Copy the table."""
        self.say(copy_table(self.app, self.table()))

    def action_screenshot(self) -> None:
        """Write the screen as SVG, to a file whose name is asked for."""
        drawn = self.app.export_screenshot(title="laminar")  # before the dialog is over it
        name = f"{file_stem(self.start.profile) if self.start.profile else 'laminar'}-{self.NAME}.svg"
        dialog = FileDialog("screenshot to (.svg: this screen)", name, problem_with((".svg",)))
        self.app.push_screen(dialog, lambda name: self.write(name, drawn.encode("utf-8", "replace")))

    def write(self, name: str | None, content: bytes) -> None:
        """Write a file in a thread, and say so; nothing without a name."""
        if name is None:
            return

        def work() -> None:
            write_bytes(as_path(name), content)

        self.in_background("write", work, lambda _nothing: self.say(f"wrote {name}"))

    # -- keys --------------------------------------------------------------------------------------------------------

    def action_back(self) -> None:
        """Leave without a result."""
        self.dismiss(None)

    def action_switch(self, name: str) -> None:
        """Leave for another screen; for this one there is nowhere to go."""
        if name != self.NAME:
            self.next_screen = name
            self.dismiss(None)

    def find(self, layer: int | None, head: int | None) -> str:
        """Go to a layer and head, of which one may be left out; say why not, if there is none."""
        raise NotImplementedError

    def action_find(self) -> None:
        """Type where to go."""
        dialog = FileDialog("go to a layer or head", "", problem_with_place, "Enter goes there · Esc does not")
        self.app.push_screen(dialog, self._find)

    def _find(self, typed: str | None) -> None:
        if typed is not None and not problem_with_place(typed):
            target = parse_target(typed)
            assert target is not None
            self.say(self.find(target.layer, target.head))

    def action_help(self) -> None:
        """Explain this screen."""
        self.app.push_screen(TextDialog(f"help: {self.NAME}", self.help_text()))

    def help_text(self) -> Text:
        """How to read this screen, what it does not say, its keys, and what more is to be said."""
        return explain("How to read this screen", self.READING, self.NOT_SAID, self.keys, self.details())

    def details(self) -> Sequence[Detail]:
        """What more there is to say of what is shown."""
        return self.DETAILS

    def commands(self) -> Iterator[SystemCommand]:
        """Every key's action by name, for the palette."""
        for key in self.keys:
            yield SystemCommand(key.description, f"key: {key.shown}", partial(self.run_action, key.action))

    def action_palette(self) -> None:
        """List every action."""
        self.app.action_command_palette()

    async def action_interrupt(self) -> None:
        """Stop the run; pressed twice, quit."""
        await self.app.run_action("app.interrupt")

    def action_quit(self) -> None:
        """Leave the program."""
        self.app.exit()

    def action_color_map(self) -> None:
        """Take the next colour map."""
        self.color_map = COLOR_MAPS[(COLOR_MAPS.index(self.color_map) + 1) % len(COLOR_MAPS)]
        self.show()

    def action_reverse(self) -> None:
        """Turn the colour map around."""
        self.reverse = not self.reverse
        self.show()

    def action_theme(self) -> None:
        """Switch between dark and light."""
        self.app.theme = "textual-light" if self.is_dark else "textual-dark"
        self.show()

    def action_redraw(self) -> None:
        """Paint everything again."""
        self.post_message(PaintAnew())

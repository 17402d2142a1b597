"""What to open next: what comes with the program, recent profiles, models in the hub's cache, or anything typed."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.widgets import Input

from laminar_tui.catalog import Entry, cached_entries, own_entries, recent_entries, remember
from laminar_tui.errors import UsageError
from laminar_tui.profile.file import SUFFIX, looks_like_profile
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.sweep_folder import SavedSweep, holds_sweep
from laminar_tui.render.listing import Item, listing_rows
from laminar_tui.render.rows import Row
from laminar_tui.render.text import visible
from laminar_tui.run import BUNDLED_NAME, Request, request_of
from laminar_tui.sizes import format_size
from laminar_tui.source import as_path, find_source
from laminar_tui.ui.detour import PICTURE_KEYS, Detour, make_bindings
from laminar_tui.ui.keys import Key
from laminar_tui.ui.scene import Terminal
from laminar_tui.ui.state import State
from laminar_tui.ui.widgets import Lines

PICKER_KEYS = (
    Key("open", "enter", "Enter", "open", "open the marked line", label="Open", rank=0),
    Key("down", "down,tab", "↓ Tab", "cursor(1)", "next line"),
    Key("up", "up,shift+tab", "↑", "cursor(-1)", "previous line"),
    Key("page_down", "pagedown", "PgDn", "cursor(10)", "ten lines on"),
    Key("page_up", "pageup", "PgUp", "cursor(-10)", "ten lines back"),
    Key("refresh", "ctrl+r", "ctrl+r", "refresh_list", "look into the cache again", label="Look again", rank=3),
    Key("back", "escape", "Esc", "back", "back to where you came from", label="Cancel", rank=1),
    Key("help", "f1", "F1", "help", "explain this screen", label="Help", rank=1),
    Key("quit", "ctrl+q", "ctrl+q", "quit", "quit"),
    *(key for key in PICTURE_KEYS if key.id == "redraw"),
)
TYPED = "what you typed"


class PickerLine(Input):
    """The line that filters the list; Enter is the screen's, and no control character gets in."""

    def __init__(self) -> None:
        super().__init__(
            placeholder="type to filter, or a file, folder, hub id (owner/name, owner/name@revision)",
            restrict=r"[^\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]*",
            select_on_focus=False,
            compact=True,
            id="typed",
        )
        self.cursor_blink = False


class PickerScreen(Detour["Profile | Request | SavedSweep"]):
    """The list; the result is a profile, a sweep, or a request for a model.

    Args:
        state: the explorer's.
        terminal: what can be shown.
        request: the present one, whose prompt, dtype and device are kept for another model; None without a model: then
            those of the saved profile are, if it tells them.
    """

    NAME = "open"
    KEYS = PICKER_KEYS
    IS_TYPED_IN = True
    BINDINGS: ClassVar[list[BindingType]] = [*make_bindings(PICKER_KEYS, is_typed_in=True)]
    READING = """\
Type to filter the list; Enter opens the marked line. The last line of a filtered list opens what you typed itself: a
saved profile (.laminar), a folder of profiles of one model's training (a sweep), a model's folder, a .gguf file, or a
hub id. A model is run on the present prompt at once."""
    NOT_SAID = """\
That a model is in the list does not mean that it fits into memory: this is estimated before its parameters are
loaded."""
    DETAILS = (
        (
            "The list",
            """\
A model that is not in the cache is fetched from the hub. Layers × heads are read from the model's config.""",
        ),
    )

    def __init__(self, state: State, terminal: Terminal, request: Request | None) -> None:
        super().__init__(state, terminal)
        self.request = request or self._request_of_saved()
        self.entries: list[Entry] = []
        self.cursor = 0
        self._is_looking = False

    def _request_of_saved(self) -> Request | None:
        try:
            return request_of(self.start.profile) if self.start.profile is not None else None
        except UsageError:
            return None

    def compose_body(self) -> ComposeResult:
        """The line and the list."""
        with Vertical():
            yield PickerLine()
            yield Lines(id="list")

    def on_mount(self) -> None:
        """Show at once what is at hand, and look into the cache."""
        super().on_mount()
        self.query_one(PickerLine).focus()
        self.action_refresh_list()

    def facts(self) -> list[str]:
        """Where the profile on the screen is from."""
        return super().facts()[:1]

    # -- the list ----------------------------------------------------------------------------------------------------

    @property
    def typed(self) -> str:
        """What was typed."""
        return self.query_one(PickerLine).value.strip()

    def shown(self) -> list[Entry]:
        """The entries that match what was typed, and that itself."""
        typed = self.typed
        matching = [each for each in self.entries if typed.casefold() in each.name.casefold()]
        if not typed or any(each.name == typed for each in matching):
            return matching
        return [*matching, Entry(TYPED, typed, "model", typed)]

    def show_body(self) -> None:
        """Draw the list."""
        n = len(self.entries)
        looking = ["looking into the hub's cache"] if self._is_looking else []
        self.show_line("title", ["open a model or a profile", f"{n} at hand", *looking])
        self.lines("list").display_rows(self._draw_list)
        shown = self.shown()
        self.show_line("summary", [self._said(shown[self.cursor]) if self.cursor < len(shown) else ""])

    def _said(self, entry: Entry) -> str:
        if entry.kind == "profile":
            return f"opens the saved profile {visible(entry.source)}"
        if entry.kind == "sweep":
            return f"opens the sweep in {visible(entry.source)}: a model over its training"
        if entry.section == TYPED:
            return f"opens {visible(entry.name)}: a file or folder if there is one of that name, else a hub id"
        prompt = "the present prompt" if self.request else "the bundled prompt"
        return f"runs {visible(entry.name)} on {prompt}"

    def _draw_list(self, width: int, height: int) -> list[Row]:
        items = [self._item(entry) for entry in self.shown()]
        return listing_rows(items, self.cursor, width, height, ascii_only=self.terminal.ascii_only)

    def _item(self, entry: Entry) -> Item:
        shape = f"{entry.shape[0]} × {entry.shape[1]}" if entry.shape else "" if entry.kind == "model" else entry.kind
        size = "" if entry.size is None else format_size(entry.size)
        return Item(entry.section, visible(entry.name), size, shape, visible(entry.note))

    def action_refresh_list(self) -> None:
        """List what is at hand, and look into the cache in a thread."""
        self.entries = [*own_entries(), *recent_entries()]
        self._is_looking = True
        self.in_background("cache", cached_entries, self._add_cached, partial(self._add_cached, []))
        self.show()

    def _add_cached(self, found: list[Entry]) -> None:
        """List them too; the mark stays on its line."""
        marked = self.shown()[self.cursor :][:1]
        self._is_looking = False
        self.entries = [*self.entries, *found]
        if marked and marked[0] in (shown := self.shown()):
            self.cursor = shown.index(marked[0])
        self.show()

    # -- keys --------------------------------------------------------------------------------------------------------

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter."""
        event.stop()
        self.cursor = 0
        self.say("")
        self.show()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Open the marked line."""
        event.stop()
        self.action_open()

    def action_cursor(self, step: int) -> None:
        """Go along the list."""
        self.cursor = min(max(self.cursor + step, 0), max(0, len(self.shown()) - 1))
        self.show()

    def action_open(self) -> None:
        """Open the marked line: a profile is read in a thread, a model is for the explorer to run."""
        shown = self.shown()
        if self.cursor < len(shown):
            try:
                self._open(shown[self.cursor])
            except UsageError as error:
                self.say(f"{error.message}: {error.hint}")

    def _open(self, entry: Entry) -> None:
        if entry.kind == "profile" or self._is_profile(entry.source):
            self.say(f"reading {entry.name}")
            self.in_background("profile", partial(Profile.load, as_path(entry.source)), partial(self._opened, entry))
            return
        if entry.source and holds_sweep(as_path(entry.source)):
            remember(entry.source)
            self.dismiss(SavedSweep.of_folder(as_path(entry.source)))
            return
        source = find_source(entry.source) if entry.source else None
        request = replace(self.request or Request(), source=entry.source, revision=None, cached_only=False)
        saved = self.start.profile
        name = source.name if source else BUNDLED_NAME
        if saved is not None and name == saved.origin.model and request.token_ids:
            has_own = source is not None and (source.is_local or source.revision)
            request = replace(request, revision=None if has_own else saved.origin.revision or None)
        else:
            request = replace(request, tokens=(), token_ids=())
        self.dismiss(request)

    @staticmethod
    def _is_profile(source: str) -> bool:
        path: Path = as_path(source)
        return bool(source) and path.is_file() and (path.suffix == SUFFIX or looks_like_profile(path))

    def _opened(self, entry: Entry, profile: Profile) -> None:
        if entry.section != "with the program":
            remember(entry.source)
        self.dismiss(profile)

    # -- the mouse ---------------------------------------------------------------------------------------------------

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Go on."""
        event.stop()
        self.action_cursor(1)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Go back."""
        event.stop()
        self.action_cursor(-1)

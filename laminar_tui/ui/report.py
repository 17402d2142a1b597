"""The report on the present profile: what it says about the claims of the common reading, in words and tables."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType

from laminar_tui.profile.profile import Profile
from laminar_tui.profile.report import Report, make_report
from laminar_tui.profile.report_formats import report_markdown
from laminar_tui.render.report import MAX_TEXT_WIDTH, chapters, report_rows
from laminar_tui.render.rows import Row, row_text
from laminar_tui.ui.detour import BACK_KEYS, COPY_KEYS, PICTURE_KEYS, Detour, make_bindings
from laminar_tui.ui.dialogs import FileDialog
from laminar_tui.ui.keys import Key
from laminar_tui.ui.latest import Latest
from laminar_tui.ui.scene import Terminal
from laminar_tui.ui.state import State
from laminar_tui.ui.widgets import Lines
from laminar_tui.ui.writing import as_tsv, copy, file_stem, problem_with

REPORT_KEYS = (
    Key("down", "j,down", "j ↓", "scroll_lines(1)", "a line on"),
    Key("up", "k,up", "k ↑", "scroll_lines(-1)", "a line back"),
    Key("page_down", "space,pagedown,ctrl+f", "Space", "scroll_pages(1)", "a page on", label="Page on", rank=2),
    Key("page_up", "pageup", "PgUp", "scroll_pages(-1)", "a page back"),
    Key("chapter", "n", "n", "chapter(1)", "next chapter", label="Next chapter", rank=3),
    Key("chapter_back", "N", "N", "chapter(-1)", "previous chapter"),
    Key("first", "g,home", "g Home", "scroll_to_line(0)", "the beginning"),
    Key("last", "G,end", "G End", "scroll_to_line(-1)", "the end"),
    Key("write", "w", "w", "write", "write the report as Markdown", label="Write Markdown", rank=2),
    replace(COPY_KEYS[0], description="copy the lines in sight"),
    replace(COPY_KEYS[1], description="copy the report as Markdown"),
    *COPY_KEYS[2:],
    *(key for key in PICTURE_KEYS if key.id in ("theme", "redraw")),
    *BACK_KEYS,
)


class ReportScreen(Detour[None]):
    """The report, scrollable.

    Args:
        state: the explorer's.
        terminal: what can be shown.
        profile: what is reported on.
        made: the latest report, of this profile or another.
        nulls: title -> null that was drawn with the model, to be reported on too.
    """

    NAME = "report"
    KEYS = REPORT_KEYS
    BINDINGS: ClassVar[list[BindingType]] = [*make_bindings(REPORT_KEYS)]
    READING = """\
Each chapter puts one question about the picture to the numbers of this profile. Satellites are the final token's
weights above 0.6. Lift is how many times as often something occurs as by chance: uniform attention, independent scores
of the same variance, and what b has drawn in the comparison (5). w writes it all."""
    NOT_SAID = """\
More than chance is not importance: attention is how much, not what for. A sentence is about this profile: another
prompt, or another model, is the test."""

    def __init__(
        self, state: State, terminal: Terminal, profile: Profile, made: Latest[Report], nulls: Mapping[str, Profile]
    ) -> None:
        super().__init__(state, terminal)
        self.profile, self.nulls = profile, nulls
        self._made = made
        self.report = made.known(self._made_of)
        self.first = 0
        self._rows: list[Row] = []
        self._rows_for = 0
        self._n_pages = 1

    def compose_body(self) -> ComposeResult:
        """The page."""
        yield Lines(id="page")

    def on_mount(self) -> None:
        """Begin with the report that was made last, if it is this one."""
        super().on_mount()
        self._make()

    def renew(self, profile: Profile) -> None:
        """Report on the run that has ended; what is there stays until then."""
        self.start = replace(self.start, profile=profile)
        self.profile, self.nulls = profile, {}
        self._make()

    def _make(self) -> None:
        """Make the report in a thread: the nulls take seconds on a large model."""
        if self._made.known(self._made_of) is None:
            make = partial(self._made.of, self._made_of, partial(make_report, self.profile, self.nulls))
            self.in_background("report", make, self._show_report)

    @property
    def _made_of(self) -> tuple[object, ...]:
        return (self.profile, *self.nulls.values())

    def _show_report(self, report: Report) -> None:
        self.report, self._rows_for = report, 0
        self.show()

    # -- drawing -----------------------------------------------------------------------------------------------------

    def show_body(self) -> None:
        """Draw the page in sight."""
        if self.report is None:
            self.show_line("title", ["counting, and drawing what chance gives"])
            return
        self.lines("page").display_rows(self._draw_page)
        self.lines("title").display_rows(self._draw_title)

    def _draw_title(self, width: int, height: int) -> list[Row]:
        page = self.lines("page").size
        self._lay_out(page.width, page.height)
        facts = ["questions put to the numbers", f"lines {self.first + 1} to {self._last()} of {len(self._rows)}"]
        return self._draw_facts(facts, " · ", width, height)

    def _lay_out(self, width: int, height: int) -> None:
        """Break the lines for a width, and keep within them."""
        if self.report is not None and width not in (0, self._rows_for):
            # Prose does not get wider than it is read well: a wide screen has room for a second page beside the first.
            self._n_pages = 2 if width >= 2 * MAX_TEXT_WIDTH else 1
            room = width // self._n_pages
            self._rows, self._rows_for = report_rows(self.report, room, ascii_only=self.terminal.ascii_only), width
        self.first = max(0, min(self.first, len(self._rows) - self._n_pages * height))

    def _draw_page(self, width: int, height: int) -> list[Row]:
        self._lay_out(width, height)
        page = self._rows[self.first : self.first + height]
        if self._n_pages == 1:
            return page
        beside = self._rows[self.first + height : self.first + 2 * height]
        nothing: Row = []
        return [[*left, *right] for left, right in zip_longest(page, beside, fillvalue=nothing)]

    @property
    def _in_sight(self) -> int:
        """How many lines are."""
        return self._n_pages * self.lines("page").size.height

    def _last(self) -> int:
        return min(self.first + self._in_sight, len(self._rows))

    # -- keys --------------------------------------------------------------------------------------------------------

    def action_scroll_lines(self, step: int) -> None:
        """Scroll by lines, once there are any."""
        if self.report is not None:
            self.first += step
            self.show()

    def action_scroll_pages(self, step: int) -> None:
        """Scroll by a page, of which one line stays in sight."""
        self.action_scroll_lines(step * max(1, self._in_sight - 1))

    def action_scroll_to_line(self, line: int) -> None:
        """Go to a line; -1 is the last."""
        self.first = line if line >= 0 else len(self._rows)
        self.show()

    def action_chapter(self, step: int) -> None:
        """Go to where the next chapter begins, or the one before."""
        starts = chapters(self._rows)
        beyond = [at for at in starts if (at > self.first if step > 0 else at < self.first)]
        if beyond:
            self.action_scroll_to_line(beyond[0] if step > 0 else beyond[-1])

    def action_write(self) -> None:
        """Write it as Markdown, to a file whose name is asked for."""
        if self.report is not None:
            name = f"{file_stem(self.profile)}.md"
            self.app.push_screen(FileDialog("write the report to", name, problem_with()), self._write)

    def _write(self, name: str | None) -> None:
        if self.report is not None:
            self.write(name, report_markdown(self.report).encode("utf-8", "backslashreplace"))

    def line_to_copy(self) -> str:
        """The lines in sight."""
        return "\n".join(row_text(row).rstrip() for row in self._rows[self.first : self._last()])

    def action_copy_table(self) -> None:
        """Copy the report as Markdown, as much of it as a terminal takes."""
        if self.report is None:
            self.say("there is nothing to copy yet")
            return
        lines = report_markdown(self.report).splitlines()
        text, n = as_tsv([[line] for line in lines])
        whole = (
            "copied the report" if n == len(lines) else f"copied the first {n:,} of {len(lines):,} lines: w writes all"
        )
        self.say(copy(self.app, text, whole))

    # -- the mouse ---------------------------------------------------------------------------------------------------

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Scroll on."""
        event.stop()
        self.action_scroll_lines(3)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Scroll back."""
        event.stop()
        self.action_scroll_lines(-3)

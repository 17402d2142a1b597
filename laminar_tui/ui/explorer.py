"""The explorer: one screen that holds the state, hands its values to the widgets and turns keys into new states."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual import events
from textual.app import ComposeResult, SystemCommand
from textual.binding import BindingType
from textual.containers import Container, Horizontal
from textual.reactive import reactive
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Static

from laminar_tui.errors import LaminarError
from laminar_tui.profile.density import DEFAULT_GRID
from laminar_tui.profile.file import SUFFIX
from laminar_tui.profile.profile import Profile
from laminar_tui.render.columns import (
    CURVE_COLOR,
    Columns,
    Look,
    head_columns,
    join_fitting,
    layer_columns,
    line_curves,
    model_facts,
    number,
    picture_facts,
    statistics_lines,
    token_rows,
    top_keys,
)
from laminar_tui.render.curve import Curve
from laminar_tui.render.palette import Ramp, make_ramp
from laminar_tui.render.rows import Depth, Row, merge_runs
from laminar_tui.render.text import fit, visible
from laminar_tui.render.views import draw_column_curves, numbers_line
from laminar_tui.run import Request
from laminar_tui.ui import detours
from laminar_tui.ui import state as states
from laminar_tui.ui.dialogs import FileDialog, TextDialog
from laminar_tui.ui.help import about_text, help_text
from laminar_tui.ui.keys import KEYS, bindings, key_line, works_in
from laminar_tui.ui.messages import ProfileGrew, RunEnded
from laminar_tui.ui.runner import Runner
from laminar_tui.ui.state import State, ViewName
from laminar_tui.ui.widgets import HeatmapView, Lines

MIN_WIDTH, MIN_HEIGHT = 60, 16
WIDE, TALL = 100, 36
BAR_CELLS = 16
STATUS_EVERY = 0.25
"""Seconds between two looks at how far the run is: 4 Hz costs 600 bytes a second."""
TWICE_WITHIN = 2.0

BOLD = Style(bold=True)


@dataclass(frozen=True)
class Terminal:
    """What the terminal can show."""

    depth: Depth = "truecolor"
    ascii_only: bool = False


class Explorer(Screen[None]):
    """Walk from all layers to one, to a head, to the prompt's tokens.

    Args:
        state: where to begin.
        request: what to run at once, and again with another prompt; None for a saved profile without a model.
        terminal: what can be shown.
        log_path: where a bug's traceback is written.
    """

    BINDINGS: ClassVar[list[BindingType]] = [*bindings()]
    # Without repaint=False every new state would send the whole screen: each widget repaints what has changed.
    state: reactive[State] = reactive(State(), init=False, repaint=False)

    def __init__(self, state: State, request: Request | None, terminal: Terminal, log_path: Path | None = None) -> None:
        super().__init__()
        self.set_reactive(Explorer.state, states.settle(state))
        self._request = request
        self._terminal = terminal
        self._log_path = log_path
        self.runner = Runner(self.post_message)
        self._columns: Columns | None = None
        self._columns_for: tuple[object, ...] = ()
        self._ramp: Ramp | None = None
        self._ramp_for: tuple[str, bool] = ("", False)
        self._grown: Profile | None = None
        self._note = ""
        self._interrupted_at = 0.0
        self._saved: object = state.profile
        self.saved_path = ""
        self.reference: Profile | None = None
        self._timer: Timer | None = None

    # -- what it is made of ------------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        yield Lines(id="where")
        yield Lines(id="title")
        yield Static("", id="banner", markup=False)
        with Horizontal(id="body"):
            yield HeatmapView(id="heat")
            with Container(id="side"):
                yield Lines(id="curve")
                yield Lines(id="numbers")
        yield Lines(id="tokens")
        yield Lines(id="summary")
        yield Lines(id="status")
        yield Lines(id="keys")
        yield Static("", id="tiny", markup=False)

    def on_mount(self) -> None:
        """Draw what there is, and begin the run once that is on the screen."""
        self._timer = self.set_interval(STATUS_EVERY, self._show_status, pause=True)
        self._show()
        self._distrust()
        if self.reference is not None and self.state.profile is not None:
            self.call_after_refresh(self.action_compare)
        if self._request is not None and self.state.profile is None:
            self.call_after_refresh(self._start)

    def on_resize(self, event: events.Resize) -> None:
        """Choose what fits."""
        width, height = event.size
        tiny = width < MIN_WIDTH or height < MIN_HEIGHT
        self.set_class(width >= WIDE, "-wide")
        self.set_class(height >= TALL, "-tall")
        self.set_class(tiny, "-tiny")
        if tiny:
            self.query_one("#tiny", Static).update(
                f"laminar needs {MIN_WIDTH} × {MIN_HEIGHT} cells,\nthis terminal has {width} × {height}"
            )
        else:
            # What a row says may depend on the size of another widget: the crosshair's band, the tokens' height.
            self.call_after_refresh(self._show)

    # -- the run -----------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._request is None:
            return
        self._note = ""
        self.remove_class("-failed")
        self.runner.start(self._request)
        if self._timer is not None:
            self._timer.resume()
        self._show_status()

    def on_profile_grew(self, message: ProfileGrew) -> None:
        """Draw a layer more; within a layer, the profile before stays until that layer is read anew."""
        if message.run != self.runner.number:
            return
        self._grown = message.profile
        stays = self.state.view in ("layer", "head") and self.state.layer_index < message.profile.n_layers
        if not stays or message.profile.layers[self.state.layer_index] is not None:
            self.state = states.settle(replace(self.state, profile=message.profile))

    def on_run_ended(self, message: RunEnded) -> None:
        """Keep what was read, and say what went wrong if something did."""
        if message.run != self.runner.number:
            return
        if self._timer is not None:
            self._timer.pause()
        read = message.profile or self._grown
        self._grown = None
        if read is not None:
            self.state = states.settle(replace(self.state, profile=read))
        if message.profile is not None:
            self._distrust()
        elif message.error is not None and message.error.exit_code == 130:
            self._note = "stopped; the layers read so far are kept"
        elif message.error is not None:
            self._fail(message.error.message, message.error.hint)
        else:
            self._log(message.crash)
            last = message.crash.strip().splitlines()[-1]
            self._fail(
                f"a bug in laminar_tui: {last}", f"the whole story is in {self._log_path}" if self._log_path else ""
            )
        self._show_status()

    def _distrust(self) -> None:
        """Put a failed check over the picture: what it shows is not to be believed."""
        failed = self.state.profile.origin.failed_checks if self.state.profile else ()
        if failed:
            self._fail(f"NOT TO BE TRUSTED: {failed[0].name}: {failed[0].found}", "i lists all checks")

    def _fail(self, message: str, hint: str) -> None:
        lines = [visible(message), visible(hint)] if hint else [visible(message)]
        self.query_one("#banner", Static).update(Text("\n".join(lines)))
        self.add_class("-failed")

    def _log(self, text: str) -> None:
        if self._log_path is not None:
            with self._log_path.open("a", encoding="utf-8") as file:
                file.write(text + "\n")

    # -- drawing -----------------------------------------------------------------------------------------------------

    def watch_state(self, old: State, new: State) -> None:
        """Draw the new state."""
        if old.view != new.view:
            self.query_one(HeatmapView).forget_scroll()
        self._show()

    def _show(self) -> None:
        if self._timer is None:  # not composed yet
            return
        state = self.state
        for view in ("overview", "layer", "head", "lines"):
            self.set_class(state.view == view, f"-{view}")
        self._lines("where").display_rows(self._draw_where)
        self._lines("keys").display_rows(self._draw_keys)
        columns = self._make_columns()
        self._lines("title").display_rows(partial(self._draw_title, columns))
        if columns is not None and state.view in ("overview", "layer"):
            self.query_one(HeatmapView).show_columns(
                columns, self._make_ramp(), self._column, state.height, ascii_only=self._terminal.ascii_only
            )
        self._lines("curve").display_rows(partial(self._draw_curve, columns))
        self._lines("numbers").display_rows(partial(self._draw_numbers, columns))
        self._lines("summary").display_rows(partial(self._draw_summary, columns))
        self._show_tokens()
        self._show_status()

    def _lines(self, name: str) -> Lines:
        return self.query_one(f"#{name}", Lines)

    @property
    def _column(self) -> int:
        return self.state.layer_index if self.state.view == "overview" else self.state.head_index

    def _make_columns(self) -> Columns | None:
        """The columns of the present view; made anew only when profile, look or layer have changed."""
        state = self.state
        if state.profile is None:
            return None
        layer = None if state.view in ("overview", "lines") else state.layer_index
        key = (state.profile, state.look, layer)
        if key != self._columns_for or self._columns is None:
            make = partial(layer_columns, state.profile, state.look)
            self._columns = make() if layer is None else head_columns(state.profile, state.look, layer)
            self._columns_for = key
        return self._columns

    def _make_ramp(self) -> Ramp:
        # On a light ground the faint end has to be the light one.
        key = (self.state.color_map, self.state.reverse == self.app.current_theme.dark)
        if self._ramp is None or key != self._ramp_for:
            self._ramp = make_ramp(*key[:1], self._terminal.depth, reverse=key[1], ascii_only=self._terminal.ascii_only)
            self._ramp_for = key
        return self._ramp

    def _draw_where(self, width: int, height: int) -> list[Row]:
        del height
        state = self.state
        path = ["laminar"]
        if state.view in ("layer", "head"):
            path.append(f"layer {state.layer_index}")
        if state.view == "head":
            path.append(f"head {state.head_index}")
        if state.view == "lines":
            path.append("all layers' curves")
        left = " " + (" > " if self._terminal.ascii_only else " › ").join(path)
        facts = model_facts(state.profile) if state.profile else ["no profile yet"]
        room = max(0, width - len(left) - 2)
        right = join_fitting(facts, "  ", room - 1) + " "
        line = left + "  " + fit(right, room, align="right", ascii_only=self._terminal.ascii_only)
        return [merge_runs([(self._fit(line, width), None)])]

    def _draw_title(self, columns: Columns | None, width: int, height: int) -> list[Row]:
        del height
        if columns is None:
            facts = ["attention weights, layer by layer: nothing read yet"]
        elif self.state.view == "lines":
            colors = "" if self._terminal.depth == "none" else ": self (violet) and final (orange), late layers dark"
            facts = [f"one curve a layer{colors}", *self.state.look.facts()[1:]]
        elif self.state.view == "head":
            facts = picture_facts(columns)[:-1]
        else:
            facts = picture_facts(columns)
        return [merge_runs([(self._fit(" " + join_fitting(facts, " · ", width - 1), width), None)])]

    def _draw_curve(self, columns: Columns | None, width: int, height: int) -> list[Row]:
        state = self.state
        if columns is None or height < 3:
            return []
        curves: list[Curve] = []
        heading = ""
        if state.view == "lines" and state.profile is not None:
            curves = line_curves(state.profile, state.look)
        elif columns.measured[self._column]:
            curves = [columns.curve(self._column, "" if self._terminal.depth == "none" else CURVE_COLOR)]
            kind = "layer" if state.view == "overview" else "head"
            heading = f"density, {kind} {columns.labels[self._column]}"
        rows: list[Row] = []
        if state.view in ("overview", "layer"):
            rows = [merge_runs([(self._fit(heading, width, align="center"), None)])]
        mode = "ascii" if self._terminal.ascii_only else state.mode
        faintest = columns.faintest(DEFAULT_GRID)
        return rows + draw_column_curves(curves, state.look, width, height - len(rows), mode=mode, faintest=faintest)

    def _draw_numbers(self, columns: Columns | None, width: int, height: int) -> list[Row]:
        state = self.state
        if columns is None or state.profile is None or not state.has_layer:
            return []
        head = state.head_index if state.view in ("layer", "head") else None
        of_all = [("over all queries and keys", "")] if state.look != Look() else []
        pairs = columns.summary(self._column) + of_all + statistics_lines(state.profile, state.layer_index, head)
        names = max((len(name) for name, value in pairs if value), default=0) + 2
        return [
            merge_runs([(self._fit(name, names), None), (self._fit(value, max(0, width - names)), BOLD)])
            if value
            else merge_runs([(self._fit(name, width), None)])
            for name, value in pairs[:height]
        ]

    def _draw_summary(self, columns: Columns | None, width: int, height: int) -> list[Row]:
        del height
        if columns is None:
            return []
        if self.state.view == "lines":
            return []
        kind = "layer" if self.state.view == "overview" else "head"
        name = f" {kind} {columns.labels[self._column]}"
        pairs = columns.summary(self._column)
        if self.state.view in ("overview", "layer") and columns.n[self._column] > 0:
            low, high, n = columns.in_band(self._column, *self.query_one(HeatmapView).band)
            pairs[0] = (f"{n:,} of {columns.n[self._column]:,} weights in {number(low)}–{number(high)}", "")
        line = f"{name}  {numbers_line(pairs, max(0, width - len(name) - 3))}"
        return [merge_runs([(self._fit(line, width), None)])]

    def _show_tokens(self) -> None:
        state, tokens = self.state, self._lines("tokens")
        if state.view != "head" or state.profile is None or not state.has_layer:
            return
        rows = self._draw_tokens(max(10, self.size.width - 2))
        tokens.styles.height = min(len(rows), 8)
        tokens.display_rows(self._draw_token_rows)

    def _draw_token_rows(self, width: int, height: int) -> list[Row]:
        """The heading and the last rows: the final token is in sight also where the prompt is long."""
        heading, *rows = self._draw_tokens(width) or [[]]
        return [heading, *rows[-(height - 1) :]] if height > 1 else [heading]

    def _draw_tokens(self, width: int) -> list[Row]:
        state = self.state
        if state.profile is None or not state.has_layer:
            return []
        weights = state.profile.layer(state.layer_index).final_weights
        row = None if weights is None else weights[state.head_index]
        ascii_only = self._terminal.ascii_only
        keys = top_keys(state.profile, state.layer_index, state.head_index, 8, ascii_only=ascii_only)
        line = join_fitting(["final token looks at:", *keys], "  ", width)
        heading = merge_runs([(self._fit(line, width), BOLD)])
        return [heading, *token_rows(state.profile.origin.tokens, row, self._make_ramp(), width, ascii_only=ascii_only)]

    def _draw_keys(self, width: int, height: int) -> list[Row]:
        del height
        pieces: list[tuple[str, Style | None]] = [(" ", None)]
        without = frozenset({"prompt", "again"}) if self._request is None else frozenset()
        for shown, label in key_line(self.state.view, width - 1, without):
            pieces += [(shown, BOLD), (f" {label}  ", None)]
        used = sum(len(text) for text, _ in pieces)
        return [merge_runs([*pieces, (" " * max(0, width - used), None)])]

    def _show_status(self) -> None:
        self._lines("status").display_rows(self._draw_status)

    def _draw_status(self, width: int, height: int) -> list[Row]:
        del height
        return [merge_runs([(self._fit(" " + self._status(), width), None)])]

    def _status(self) -> str:
        profile = self.state.profile
        if self.runner.is_running:
            step = self.runner.step
            bar = f"  {_bar(step.done / step.total, self._terminal.ascii_only)}" if step.total else ""
            unit = "layer " if step.name == "forward" else ""
            progress = f"  {unit}{step.done} of {step.total}" if step.total else ""
            return f"{visible(step.name)}{bar}{progress}  {self.runner.seconds:.1f} s  Esc stops"
        if self._note:
            return self._note
        if profile is None:
            return "nothing to show"
        n_checks = len(profile.origin.checks)
        checked = f"  {n_checks} {'check' if n_checks == 1 else 'checks'} passed (i)" if n_checks else ""
        saved = f"  saved as {visible(self.saved_path)}" if self.saved_path and profile is self._saved else ""
        if profile is not self._saved:
            saved = "  not saved (w writes)"
        return f"{profile.n_read} of {profile.n_layers} layers  {profile.origin.seconds:.1f} s{checked}{saved}"

    def _fit(self, text: str, width: int, *, align: str = "left") -> str:
        return fit(text, width, align=align, ascii_only=self._terminal.ascii_only)  # type: ignore[arg-type]

    # -- keys --------------------------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that mean nothing in this view do nothing in it."""
        del parameters
        known = [key for key in KEYS if key.action.partition("(")[0] == action]
        return not known or any(works_in(key, self.state.view) for key in known)

    def _change(self, change: Callable[[State], State]) -> None:
        self._note = ""
        self.state = change(self.state)

    def action_column(self, step: int) -> None:
        """Go to another column."""
        self._change(lambda state: states.move_column(state, step))

    def action_to_column(self, column: int) -> None:
        """Go to one column."""
        self._change(lambda state: states.move_to_column(state, column))

    def action_weight(self, step: int) -> None:
        """Move the crosshair by a row."""
        rows = self.query_one(HeatmapView).rows
        # From the middle of a row to the middle of the next, so that rounding never skips one.
        row = min(int(self.state.height * rows), rows - 1) + step
        self._change(lambda state: states.move_height(replace(state, height=(row + 0.5) / rows), 0.0))

    def action_layer_step(self, step: int) -> None:
        """Go to another layer in the same view."""
        self._change(lambda state: states.move_layer(state, step))

    def action_go_in(self) -> None:
        """Open what is under the cursor."""
        self._change(states.go_in)

    def action_go_out(self) -> None:
        """Stop the run; else take a failure's banner away; else go back."""
        if self.runner.is_running:
            self.runner.cancel()
        elif self.has_class("-failed"):
            self.remove_class("-failed")
        else:
            self._change(states.go_out)

    def action_view(self, view: ViewName) -> None:
        """Open a view."""
        self._change(lambda state: states.go_to_view(state, view))

    def action_population(self, step: int) -> None:
        """Look at another population."""
        self._change(lambda state: states.next_population(state, step))

    def action_sink(self) -> None:
        """Keep the sink, leave it out, look at it alone."""
        self._change(states.next_sink)

    def action_estimator(self) -> None:
        """Take the next estimator."""
        self._change(states.next_estimator)

    def action_axis(self) -> None:
        """Switch the weight axis."""
        self._change(states.switch_axis)

    def action_scale(self) -> None:
        """Take the next colour scale."""
        self._change(states.next_scale)

    def action_per_column(self) -> None:
        """Switch between colours per column and for all."""
        self._change(states.switch_per_column)

    def action_color_map(self) -> None:
        """Take the next colour map."""
        self._change(states.next_color_map)

    def action_reverse(self) -> None:
        """Turn the colour map around."""
        self._change(states.switch_reverse)

    def action_mode(self) -> None:
        """Make curves of other characters."""
        self._change(states.next_mode)

    def action_theme(self) -> None:
        """Switch between dark and light."""
        self.app.theme = "textual-light" if self.app.current_theme.dark else "textual-dark"
        self._show()

    def action_redraw(self) -> None:
        """Paint everything again."""
        self.refresh(layout=True)

    def action_suspend(self) -> None:
        """Stop the process, as a shell's job, until it is continued."""
        self.app.action_suspend_process()

    def action_help(self) -> None:
        """Explain this view."""
        self.app.push_screen(TextDialog(f"help: {self.state.view}", help_text(self.state.view)))

    def action_about(self) -> None:
        """Say where the profile comes from."""
        if self.state.profile is not None:
            self.app.push_screen(TextDialog("about this profile", about_text(self.state.profile, self.state.look)))

    def action_quit(self) -> None:
        """Leave; a run under way is asked to stop."""
        self.runner.cancel()
        self.app.exit()

    def action_interrupt(self) -> None:
        """Stop the run; pressed twice, quit."""
        now = time.monotonic()
        if now - self._interrupted_at < TWICE_WITHIN:
            self.action_quit()
            return
        self._interrupted_at = now
        self.runner.cancel()
        self._note = "press ctrl+c once more to quit"
        self._show_status()

    def action_edit_prompt(self) -> None:
        """Type another prompt and run it on the loaded model."""
        if self._request is None:
            self._say("this is a saved profile: start laminar-tui with a model to run another prompt")
            return
        detours.edit_prompt(self, self._terminal, self._request)

    def action_open(self) -> None:
        """Open another model or profile."""
        detours.open_picker(self, self._terminal, self._request)

    def action_report(self) -> None:
        """Say in words what the profile shows."""
        detours.open_report(self, self._terminal)

    def go_on_with(self, subject: Profile | Request) -> None:
        """Show another profile, or run another request."""
        if isinstance(subject, Request):
            self._request = subject
            self._start()
            return
        self.runner.cancel()
        self._request, self._saved, self.saved_path, self._note = None, subject, "", ""
        self.state = states.settle(replace(self.state, profile=subject))
        self._distrust()

    def action_run_again(self) -> None:
        """Run the model on the same prompt."""
        if self._request is None:
            self._say("this is a saved profile: there is no model to run")
        else:
            self._start()

    def action_heads(self) -> None:
        """Show every head as a cell, and as a sorted table."""
        detours.open_heads(self, self._terminal)

    def action_compare(self) -> None:
        """Compare with the profile that was marked, or with chance."""
        detours.open_compare(self, self._terminal)

    def action_mark(self) -> None:
        """Mark the profile as A of a comparison."""
        detours.mark(self)

    def action_write(self) -> None:
        """Write the profile to a file whose name is asked for."""
        profile = self.state.profile
        if profile is None or not profile.n_read:
            self._say("there is nothing to write yet")
            return
        stem = "".join(c if c.isalnum() or c in "-_." else "-" for c in Path(profile.origin.model).name) or "profile"
        self.app.push_screen(FileDialog("write the profile to", stem + SUFFIX, _problem_with), self._write)

    def _write(self, name: str | None) -> None:
        profile = self.state.profile
        if name is None or profile is None:
            return
        try:
            profile.save(Path(name).expanduser())
        except LaminarError as error:
            self._fail(error.message, error.hint)
            return
        self._saved, self.saved_path = profile, name
        detours.remember_profile(name)
        self._note = ""
        self._show_status()

    def _say(self, note: str) -> None:
        self._note = note
        self._show_status()

    def commands(self) -> Iterator[SystemCommand]:
        """Every key's action by name, for the palette."""
        for key in KEYS:
            if works_in(key, self.state.view):
                yield SystemCommand(key.description, f"key: {key.shown}", partial(self.run_action, key.action))

    # -- the mouse ---------------------------------------------------------------------------------------------------

    def on_heatmap_view_picked(self, message: HeatmapView.Picked) -> None:
        """Go to the cell that was clicked."""
        self._change(lambda state: states.move_to_column(replace(state, height=message.height), message.column))

    def on_heatmap_view_opened(self) -> None:
        """Open the column that was clicked twice."""
        self.action_go_in()

    def on_heatmap_view_wheeled(self, message: HeatmapView.Wheeled) -> None:
        """Go along the columns."""
        self.action_column(message.step)


def _problem_with(name: str) -> str:
    path = Path(name).expanduser()
    if path.is_dir():
        return "this is a folder: add a file name"
    if not path.absolute().parent.is_dir():
        return f"there is no folder {visible(str(path.parent))}"
    if path.exists():
        return "this file exists: Enter once more replaces it"
    return "" if os.access(path.absolute().parent, os.W_OK) else "this folder cannot be written to"


def _bar(share: float, ascii_only: bool) -> str:
    full = min(BAR_CELLS, max(0, round(share * BAR_CELLS)))
    filled, empty = ("#", ".") if ascii_only else ("━", "╌")
    return filled * full + empty * (BAR_CELLS - full)

"""The explorer: one screen that holds the state, hands its values to the widgets and turns keys into new states."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar, get_args

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
from laminar_tui.profile.file import SUFFIX
from laminar_tui.profile.profile import Profile
from laminar_tui.render.columns import Columns, head_columns, layer_columns
from laminar_tui.render.palette import Ramp, make_ramp
from laminar_tui.render.rows import Row
from laminar_tui.render.text import visible
from laminar_tui.run import Request
from laminar_tui.ui import drawing
from laminar_tui.ui import state as states
from laminar_tui.ui.compositor import CroppingCompositor
from laminar_tui.ui.dialogs import FileDialog, PromptDialog, TextDialog
from laminar_tui.ui.drawing import Scene
from laminar_tui.ui.drawing import Terminal as Terminal
from laminar_tui.ui.help import about_text, help_text
from laminar_tui.ui.keys import KEYS, bindings, works_in
from laminar_tui.ui.messages import ProfileGrew, RunEnded
from laminar_tui.ui.runner import Runner
from laminar_tui.ui.state import State, ViewName
from laminar_tui.ui.widgets import HeatmapView, Lines

MIN_WIDTH, MIN_HEIGHT = 60, 16
WIDE, TALL = 100, 36
STATUS_EVERY = 0.25
"""Seconds between two looks at how far the run is: 4 Hz costs 600 bytes a second."""
TWICE_WITHIN = 2.0


DRAWN = {
    "where": drawing.draw_where,
    "title": drawing.draw_title,
    "curve": drawing.draw_curve,
    "numbers": drawing.draw_numbers,
    "summary": drawing.draw_summary,
    "keys": drawing.draw_keys,
}
"""What each widget of rows is drawn by."""


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
        self._compositor = CroppingCompositor()
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
        self._timer: Timer | None = None
        self._scene = Scene(self.state, None, make_ramp(state.color_map, terminal.depth), terminal)

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
        for view in get_args(ViewName):
            self.set_class(state.view == view, f"-{view}")
        columns, ramp, heat = self._make_columns(), self._make_ramp(), self.query_one(HeatmapView)
        if columns is not None and state.view in ("overview", "layer"):
            heat.show_columns(columns, ramp, state.column, state.height, ascii_only=self._terminal.ascii_only)
        self._scene = Scene(state, columns, ramp, self._terminal, heat.band, self._request is not None)
        for name, draw in DRAWN.items():
            self._lines(name).display_rows(partial(draw, self._scene))
        self._show_tokens()
        self._show_status()

    def _lines(self, name: str) -> Lines:
        return self.query_one(f"#{name}", Lines)

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

    def _show_tokens(self) -> None:
        tokens = self._lines("tokens")
        if self.state.view != "head" or not self.state.has_layer:
            return
        tokens.styles.height = min(len(drawing.all_token_rows(self._scene, max(10, self.size.width - 2))), 8)
        tokens.display_rows(partial(drawing.draw_tokens, self._scene))

    def _show_status(self) -> None:
        self._lines("status").display_rows(self._draw_status)

    def _draw_status(self, width: int, height: int) -> list[Row]:
        del height
        return [self._terminal.line(" " + self._status(), width)]

    def _status(self) -> str:
        if self.runner.is_running:
            return drawing.progress_text(self.runner.step, self.runner.seconds, self._terminal)
        return self._note or drawing.profile_text(self.state, self._saved, self.saved_path)

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
        self.app.push_screen(PromptDialog(self._request.text()), self._run_prompt)

    def _run_prompt(self, prompt: str | None) -> None:
        if prompt is not None and self._request is not None:
            self._request = replace(self._request, prompt=prompt)
            self._start()

    def action_run_again(self) -> None:
        """Run the model on the same prompt."""
        if self._request is None:
            self._say("this is a saved profile: there is no model to run")
        else:
            self._start()

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

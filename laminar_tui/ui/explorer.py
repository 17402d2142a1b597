"""The explorer: one screen that holds the state, hands its values to the widgets and turns keys into new states."""

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
from textual.timer import Timer
from textual.widgets import Static

from laminar_tui.errors import CancelledError
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.sweep_folder import SavedSweep
from laminar_tui.render.columns import Columns
from laminar_tui.render.curve import Curve, has_plotter
from laminar_tui.render.palette import Ramp, make_ramp
from laminar_tui.render.rows import Row
from laminar_tui.render.text import visible
from laminar_tui.run import Request
from laminar_tui.ui import detours, drawing
from laminar_tui.ui import state as states
from laminar_tui.ui.ahead import ColumnsAhead, density_key, likely_next
from laminar_tui.ui.behind import RowsBehind
from laminar_tui.ui.compositor import CroppingCompositor
from laminar_tui.ui.dialogs import FindLine, TextDialog
from laminar_tui.ui.drawing import Scene
from laminar_tui.ui.drawing import Terminal as Terminal
from laminar_tui.ui.exact import NO_ROWS, ExactWeights
from laminar_tui.ui.find import Target, find_tokens, parse_target
from laminar_tui.ui.help import about_text, help_text
from laminar_tui.ui.kept import LogDialog
from laminar_tui.ui.keys import KEYS, bindings, find_key, works_in
from laminar_tui.ui.messages import Answered, ProfileGrew, RunEnded
from laminar_tui.ui.runner import Runner
from laminar_tui.ui.saving import FileActions
from laminar_tui.ui.state import State, ViewName
from laminar_tui.ui.widgets import HeatmapView, Lines, PatternView

MIN_WIDTH, MIN_HEIGHT = 60, 16
WIDE, TALL, HIGH = 100, 36, 46
STATUS_EVERY = 0.25
"""Seconds between two looks at how far the run is: 4 Hz costs 600 bytes a second."""
NUMBERS_PADDING = 2
TWICE_WITHIN = 2.0
PAUSE = 0.1
"""Seconds without a key after which the next one is prepared for."""


DRAWN = {
    "where": drawing.draw_where,
    "title": drawing.draw_title,
    "numbers": drawing.draw_numbers,
    "behind": drawing.draw_behind,
    "summary": drawing.draw_summary,
    "keys": drawing.draw_keys,
}
"""What each widget of rows but the curve's is drawn by."""
IN_BODY = {"curve", "numbers", "behind"}
"""Those of them whose size depends on the view."""


class Explorer(FileActions):
    """Walk from all layers to one, to a head, to the prompt's tokens.

    Args:
        state: where to begin.
        request: what to run at once, and again with another prompt; None for a saved profile without a model.
        terminal: what can be shown.
        log_path: where a bug's traceback is written.
    """

    BINDINGS: ClassVar[list[BindingType]] = [*bindings()]

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
        self._ahead = ColumnsAhead()
        self._behind = RowsBehind(self.post_message, self._show)
        self._pause: Timer | None = None
        self._exact = ExactWeights(self.runner, self._show)
        self._pin_curves: dict[tuple[object, ...], Curve] = {}
        self._found: tuple[int, ...] = ()
        self._found_at = 0
        self._ramp: Ramp | None = None
        self._ramp_for: tuple[str, bool] = ("", False)
        self._grown: Profile | None = None
        self._note = ""
        self._interrupted_at = 0.0
        self._saved: object = state.profile
        self.saved_path = ""
        self.is_held = False  # whether the run waits for an answer about another one
        self.reference: Profile | None = None
        self.sweep: SavedSweep | None = None
        self.came_from: detours.Origin | None = None  # the screen on which the head that is shown was chosen
        self.measure = ""  # the number that the heads were coloured by last
        self._compares_next = False  # whether the run that begins is the other side of a comparison
        self._timer: Timer | None = None
        self._scene = Scene(self.state, None, make_ramp(state.color_map, terminal.depth), terminal)

    # -- what it is made of ------------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        yield Lines(id="where")
        yield Lines(id="title")
        yield Static("", id="banner", markup=False)
        with Horizontal(id="body"):
            yield HeatmapView(id="heat")
            yield PatternView(id="pattern")
            with Container(id="side"):
                yield Lines(id="curve")
                yield Lines(id="numbers")
                yield Lines(id="behind")
        yield Lines(id="tokens")
        yield Lines(id="summary")
        yield Lines(id="status")
        yield FindLine(id="find")
        yield Lines(id="keys")
        yield Static("", id="tiny", markup=False)

    def on_mount(self) -> None:
        """Draw what there is, and begin the run once that is on the screen."""
        self._timer = self.set_interval(STATUS_EVERY, self._show_status, pause=True)
        self._show()
        self._distrust()
        if self.reference is not None and self.state.profile is not None:
            self.call_after_refresh(self.action_compare)
        self._compares_next = self.reference is not None and self.state.profile is None
        if self.sweep is not None:
            self.call_after_refresh(self.action_sweep)
        if self._request is not None and self.state.profile is None and not self.is_held:
            self.call_after_refresh(self._start)

    def on_resize(self, event: events.Resize) -> None:
        """Choose what fits."""
        width, height = event.size
        tiny = width < MIN_WIDTH or height < MIN_HEIGHT
        self.update_classes({"-wide": width >= WIDE, "-tall": height >= TALL, "-high": height >= HIGH, "-tiny": tiny})
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
            if self.app.screen is not self:
                detours.renew_heads(self, read)
        if message.profile is not None:
            self._exact.is_of(message.profile)
            self._distrust()
            if self.runner.follows is not None:
                self._saved, self.saved_path = message.profile, str(self.runner.follows)
            self._compare_at_end()
        elif isinstance(message.error, CancelledError):
            self._note = "stopped; the layers read so far are kept"
        elif message.error is not None:
            self._fail(message.error.message, message.error.hint)
        else:
            last = message.crash.strip().splitlines()[-1]
            self._fail(
                f"a bug in laminar_tui: {last}", f"the whole story is in {self._log_path}" if self._log_path else ""
            )
        self._show_status()

    def _compare_at_end(self) -> None:
        """Open the comparison that the run was for, unless another screen is in front."""
        if not self._compares_next:
            return
        self._compares_next = False
        if self.app.screen is self:
            self.call_after_refresh(self.action_compare)
        else:
            self._note = "the run has ended: 5 compares"

    def on_answered(self, message: Answered) -> None:
        """Show what a question has brought, or why it brought nothing."""
        if message.is_outdated:
            return
        message.deliver()
        if message.error is not None:
            self._say(f"{visible(message.error.message)}: {visible(message.error.hint)}")
        elif message.crash:
            self._say(f"a bug in laminar_tui: {visible(message.crash.strip().splitlines()[-1])}")

    def _distrust(self) -> None:
        """Put a failed check over the picture: what it shows is not to be believed."""
        failed = self.state.profile.origin.failed_checks if self.state.profile else ()
        if failed:
            self._fail(f"NOT TO BE TRUSTED: {failed[0].name}: {failed[0].found}", "i lists all checks")

    def _fail(self, message: str, hint: str) -> None:
        lines = [visible(message), visible(hint)] if hint else [visible(message)]
        self.query_one("#banner", Static).update(Text("\n".join(lines)))
        self.add_class("-failed")

    # -- drawing -----------------------------------------------------------------------------------------------------

    def watch_state(self, old: State, new: State) -> None:
        """Draw the new state."""
        if old.view != new.view:
            self.query_one(HeatmapView).forget_scroll()
        self.came_from = self.came_from if new.view in ("head", "map") else None
        self._show()

    def _show(self) -> None:
        if self._timer is None:  # not composed yet
            return
        state = self.state
        # All at once: each change of classes has the styles of every widget computed anew.
        classes = {f"-{view}": state.view == view for view in get_args(ViewName)}
        columns, ramp, heat = self._make_columns(), self._make_ramp(), self.query_one(HeatmapView)
        ascii_only = self._terminal.ascii_only
        if columns is not None and state.is_picture:
            heat.show_columns(columns, ramp, state.column, state.height, ascii_only=ascii_only)
            side = self.size.width - heat.get_content_width(self.size, self.size)
            classes["-paired"] = side - NUMBERS_PADDING >= drawing.PAIRED_FROM
        before = self.classes
        self.update_classes(classes | {"-listing": state.listing})
        is_moved = before != self.classes
        self._scene = self._make_scene(columns, ramp, heat.band)
        if state.view == "map":
            rows = self._scene.rows or NO_ROWS
            view = self.query_one(PatternView)
            scale, query = state.look.scale, state.query_index
            view.show_pattern(rows, state.n_tokens, ramp, scale, query, state.key, ascii_only=ascii_only)
        for name, draw in {**DRAWN, "curve": self._draw_curve}.items():
            self._lines(name).display_rows(partial(draw, self._scene), is_moved=is_moved and name in IN_BODY)
        if state.view == "head" and state.has_layer:
            self._show_tokens()
        self._show_status()

    def _draw_curve(self, scene: Scene, width: int, height: int) -> list[Row]:
        """The curve of a column; those of all layers take several times as long as a key may, and come later.

        So does the very first one: to import plotext takes 0.1 s, which the first frame does not wait for.
        """
        draw = partial(drawing.draw_curve, scene, width, height)
        state = scene.state
        is_slow = state.view == "lines" or not has_plotter()
        if not is_slow or state.profile is None or state.view == "map" or height < 3:
            return draw()
        here = (state.view, state.layer_index, state.head_index, state.pins) if state.view != "lines" else ()
        rows = self._behind.rows((state.profile, state.look, state.mode, here, width, height), draw)
        waiting = [self._terminal.line("drawing the curves", width, align="center")]
        return waiting if rows is None else rows

    def _make_scene(self, columns: Columns | None, ramp: Ramp, band: tuple[float, float]) -> Scene:
        state = self.state
        scene = Scene(state, columns, ramp, self._terminal, band, self._request is not None)
        scene = replace(scene, is_dark=self.app.current_theme.dark)
        if columns is None or state.profile is None or not state.has_layer:
            return scene
        scene = replace(scene, pins=self._make_pins(), is_last_only=not self._exact.has_all_queries(state))
        if state.is_picture and (self.has_class("-wide", "-high") or state.listing):
            asked = drawing.what_is_asked(scene, self._exact.scope(state))
            return replace(scene, asked=asked, entries=self._exact.entries(state, asked))
        if state.view in ("head", "map"):
            return replace(scene, rows=self._exact.rows(state))
        return scene

    def _make_pins(self) -> tuple[Curve, ...]:
        """The pinned curves in the present look, made once for each."""
        state, profile = self.state, self.state.profile
        here = (state.layer_index, None if state.view == "overview" else state.head_index)
        curves = []
        for (layer, head), color in zip(state.pins, drawing.PIN_COLORS, strict=False):
            if profile is None or layer >= profile.n_layers or profile.layers[layer] is None or (layer, head) == here:
                continue
            key = (profile, state.look, layer, head)
            if key not in self._pin_curves:
                self._pin_curves[key] = drawing.pin_curve(profile, state.look, layer, head)
            curves.append(replace(self._pin_curves[key], color="" if self._terminal.depth == "none" else color))
        return tuple(curves)

    def _lines(self, name: str) -> Lines:
        return self.query_one(f"#{name}", Lines)

    def _make_columns(self) -> Columns | None:
        """The columns of the present view; made anew only when profile, look, layer or order have changed."""
        state = self.state
        if state.profile is None:
            return None
        key = (density_key(state), state.look)
        if key != self._columns_for or self._columns is None:
            self._columns, self._columns_for = self._ahead.columns(state), key
        self._prepare_soon()
        return self._columns

    def _prepare_soon(self) -> None:
        """Make what the next key may ask for once no key has come for a while, and no run takes the cores."""
        if self._pause is not None:
            self._pause.stop()
        self._pause = self.set_timer(PAUSE, self._prepare)

    def _prepare(self) -> None:
        if not self.runner.is_running:
            self._ahead.prepare(likely_next(self.state))
            detours.load_screens()

    def _make_ramp(self) -> Ramp:
        # On a light ground the faint end has to be the light one.
        key = (self.state.color_map, self.state.reverse == self.app.current_theme.dark)
        if self._ramp is None or key != self._ramp_for:
            self._ramp = make_ramp(*key[:1], self._terminal.depth, reverse=key[1], ascii_only=self._terminal.ascii_only)
            self._ramp_for = key
        return self._ramp

    def _show_tokens(self) -> None:
        tokens = self._lines("tokens")
        tokens.styles.height = drawing.count_token_rows(self._scene, max(10, self.size.width - 2))
        tokens.display_rows(partial(drawing.draw_tokens, self._scene))

    def _show_status(self) -> None:
        self._lines("status").display_rows(self._draw_status)

    def _draw_status(self, width: int, height: int) -> list[Row]:
        del height
        return [self._terminal.line(" " + self._status(width - 1), width)]

    def _status(self, width: int) -> str:
        if self.runner.is_running:
            # Somebody else's run is only looked at: nothing is sent while nothing comes.
            seconds = None if self.runner.follows else self.runner.seconds
            return drawing.progress_text(self.runner.step, seconds, self._terminal, width)
        return self._note or drawing.profile_text(self.state, self._saved, self.saved_path)

    # -- keys --------------------------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that mean nothing in this view do nothing in it; while a goal is typed, only Esc and ctrl+c do."""
        key = find_key(action, parameters)
        if self.has_class("-finding"):
            return key is None or key.id in ("out", "cancel")
        return key is None or works_in(key, self.state.view)

    def _change(self, change: Callable[[State], State]) -> None:
        self._note = ""
        before = self.state
        after = change(before)
        if after.entry == before.entry and drawing.cell_of(after) != drawing.cell_of(before):
            after = replace(after, entry=0)
        self.state = after
        if after == before:
            self._show_status()

    def action_change(self, name: str) -> None:
        """Make one of the changes that need nothing but the state."""
        self._change(states.CHANGES[name])

    def action_column(self, step: int) -> None:
        """Go to another column."""
        self._change(lambda state: states.move_column(state, step))

    def action_to_column(self, column: int) -> None:
        """Go to one column."""
        self._change(lambda state: states.move_to_column(state, column))

    def action_row(self, step: int) -> None:
        """Move down by so many rows: the crosshair, the selected entry, or the query of the map."""
        if self.state.view == "map":
            self.action_query(step)
        elif self.state.listing:
            last = max(0, (self._scene.entries.n_shown if self._scene.entries else 0) - 1)
            self._change(lambda state: replace(state, entry=min(max(state.entry + step, 0), last)))
        else:
            self._move_crosshair(-step)

    def _move_crosshair(self, step: int) -> None:
        rows = self.query_one(HeatmapView).rows
        # From the middle of a row to the middle of the next, so that rounding never skips one.
        row = min(int(self.state.height * rows), rows - 1) + step
        if not 0 <= row < rows and self.state.look.window is not None:
            self._change(lambda state: states.pan(state, step))
            rows, row = self.query_one(HeatmapView).rows, min(int(self.state.height * rows), rows - 1) + step
        self._change(lambda state: states.move_height(replace(state, height=(row + 0.5) / rows), 0.0))

    def action_filled(self, step: int) -> None:
        """Put the crosshair on the next row that holds weights, up (1) or down (-1), round the ends."""
        columns, rows = self._scene.columns, self.query_one(HeatmapView).rows
        if columns is None or not self.state.has_layer:
            return
        filled = columns.filled(self.state.column, rows)
        here = min(int(self.state.height * rows), rows - 1)
        row = next((row for at in range(1, rows) if filled[row := (here + step * at) % rows]), here)
        self._change(lambda state: states.move_height(replace(state, height=(row + 0.5) / rows), 0.0))

    def action_layer_step(self, step: int) -> None:
        """Go to another layer in the same view."""
        self._change(lambda state: states.move_layer(state, step))

    def action_head_step(self, step: int) -> None:
        """Go to another head, also where the columns are something else."""
        self._change(lambda state: states.move_head(state, step))

    def action_query(self, step: int) -> None:
        """Look at another query token, if its weights can be had."""
        if self._scene.is_last_only and self.state.view == "head":
            self._say(self._exact.why_last_only(self.state))
        else:
            self._change(lambda state: states.move_query(state, step))

    def action_go_in(self) -> None:
        """Open what is under the cursor: a column, or the head of the selected entry with its query."""
        found, at, before = self._scene.entries, self.state.entry, self.state
        if not self.state.listing:
            self._change(states.go_in)
            self._say_why_no_map(self.state.view == "head" and self.state == before)
        elif found is not None and at < found.n_shown:
            layer = self.state.layer_index
            head, query, key = int(found.head[at]), int(found.query[at]), int(found.key[at])
            self._change(lambda state: states.go_to_head(state, layer, head, query, key))

    def action_go_out(self) -> None:
        """Leave the goal that is being typed; stop the run; take a failure's banner away; else go back."""
        if self.has_class("-finding"):
            self._end_find()
        elif self.runner.is_running:
            self.runner.cancel()
        elif self.has_class("-failed"):
            self.remove_class("-failed")
        elif self.came_from is not None and self.state.view == "head":
            detours.go_back(self, self.came_from)
        else:
            self._change(states.go_out)

    def action_view(self, view: ViewName) -> None:
        """Open a view."""
        self._change(lambda state: states.go_to_view(state, view))
        self._say_why_no_map(view == "map")

    def _say_why_no_map(self, is_wanted: bool) -> None:
        if is_wanted and self.state.has_layer and not self.state.has_tokens:
            self._say(self._exact.why_last_only(self.state))

    def action_population(self, step: int) -> None:
        """Look at another population."""
        self._change(lambda state: states.next_population(state, step))

    # -- find --------------------------------------------------------------------------------------------------------

    def action_find(self) -> None:
        """Type where to go."""
        self.add_class("-finding")
        line = self.query_one(FindLine)
        line.open()
        # At once: `focus()` waits for a refresh, and what is typed until then would be lost.
        self.set_focus(line)

    def _end_find(self) -> None:
        self.remove_class("-finding")
        self.query_one(FindLine).close()
        self.set_focus(None)

    def take_typed(self, event: events.Key) -> bool:
        """Take Enter, and what was typed so fast after `/` that the line had not the keys yet; whether it did."""
        line = self.query_one(FindLine)
        if not self.has_class("-finding"):
            return False
        if event.key == "enter":
            self._submit(line.value)  # now, and not by a message: the next key is for the explorer again
        elif event.is_printable and event.character is not None:
            line.insert_text_at_cursor(event.character)
        else:
            return False
        return True

    def _submit(self, typed: str) -> None:
        """Go to what was typed."""
        self._end_find()
        target = parse_target(typed)
        if target is None:
            self._say("nothing to go to: type 20, 20.7, L20H7, >0.6, 18>.6 or a token's text")
        elif target.text:
            self._find_text(target.text)
        else:
            self._go_to(target)

    def _go_to(self, target: Target) -> None:
        state = self.state
        problem = states.problem_with_place(state, target.layer, target.head)
        if problem:
            self._say(problem)
            return
        if target.layer is not None or target.head is not None:
            layer = state.layer_index if target.layer is None else target.layer
            state = states.go_to_place(state, layer, target.head)
        if target.weight is not None:
            state = state if state.is_picture else replace(state, view="overview")
            state = states.go_to_weight(state, target.weight)
        self._change(lambda _state: state)

    def _find_text(self, text: str) -> None:
        profile = self.state.profile
        self._found = tuple(find_tokens(profile.origin.tokens, text)) if profile else ()
        if not self._found:
            self._say(f"no token has the text {visible(text)!r}")
            return
        self.action_find_next(0)

    def action_find_next(self, step: int) -> None:
        """Go to the next token that was found, or the one before: a query in the head's view, a key in the map."""
        state = self.state
        if not self._found:
            self._say("nothing was searched for yet: / and a token's text")
            return
        if not state.has_layer:
            self._say("this layer holds no attention weights: choose another one first")
            return
        self._found_at = (self._found_at + step) % len(self._found) if step else 0
        token = self._found[self._found_at]
        if state.view == "map":
            query = token if token > state.query_index else state.query
            self._change(lambda state: states.settle(replace(state, query=query, key=token)))
        elif self._scene.is_last_only and not self._exact.has_all_queries(state):
            self._change(lambda state: states.settle(replace(state, view="head", key=token)))
        else:
            self._change(lambda state: states.settle(replace(state, view="head", query=token, key=token)))
        self._say(drawing.found_text(self._scene, token, self._found_at, len(self._found)))

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

    def action_log(self) -> None:
        """Show the log's last lines."""
        self.app.push_screen(LogDialog())

    def start_held(self) -> None:
        """Begin the run that has waited for an answer."""
        self.is_held = False
        if self.state.profile is None:
            self._start()

    def follow(self, path: Path) -> None:
        """Show the run of another process that captures into a file."""
        self.runner.follow(path)
        if self._timer is not None:
            self._timer.resume()

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
            self._say("a saved profile has no model to run: O opens one")
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
        here = replace(self.state, query=-1, key=0, threshold=None, listing=False, entry=0, pins=())
        self.state = states.settle(replace(here, profile=subject))
        self._distrust()

    def action_run_again(self) -> None:
        """Run the model on the same prompt."""
        if self._request is None:
            self._say("a saved profile has no model to run: O opens one")
        else:
            self._start()

    def action_heads(self) -> None:
        """Show every head as a cell, and as a sorted table."""
        detours.open_heads(self, self._terminal, self._request)

    def action_compare(self) -> None:
        """Compare with the profile that was marked, or with chance."""
        detours.open_compare(self, self._terminal)

    def action_sweep(self) -> None:
        """Show the sweep that is open: a model over its training."""
        detours.open_sweep(self, self._terminal)

    def action_mark(self) -> None:
        """Mark the profile as A of a comparison."""
        detours.mark(self)

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
        self._change(
            lambda state: states.move_to_column(replace(state, height=message.height, threshold=None), message.column)
        )

    def on_pattern_view_picked(self, message: PatternView.Picked) -> None:
        """Go to the entry that was clicked."""
        self._change(lambda state: states.settle(replace(state, query=message.query, key=message.key)))

    def on_heatmap_view_opened(self) -> None:
        """Open the column that was clicked twice."""
        self.action_go_in()

    def on_heatmap_view_wheeled(self, message: HeatmapView.Wheeled) -> None:
        """Go along the columns."""
        self.action_column(message.step)

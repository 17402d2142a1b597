"""The explorer: one screen that holds the state, hands its values to the widgets and turns keys into new states."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, get_args

from textual import events
from textual.app import ComposeResult, SystemCommand
from textual.binding import BindingType
from textual.containers import Container, Horizontal
from textual.timer import Timer
from textual.widgets import Static

from laminar_tui.profile.profile import Profile
from laminar_tui.profile.sweep_folder import SavedSweep
from laminar_tui.profile.values import why_none
from laminar_tui.render.palette import make_ramp
from laminar_tui.render.rows import Row
from laminar_tui.render.text import visible
from laminar_tui.run import Request
from laminar_tui.ui import detours, drawing
from laminar_tui.ui import state as states
from laminar_tui.ui.ahead import PAUSE
from laminar_tui.ui.dialogs import FindLine, TextDialog
from laminar_tui.ui.exact import NO_ROWS, ExactWeights
from laminar_tui.ui.find import Finder, go_to, parse_target
from laminar_tui.ui.help import about_text, help_text
from laminar_tui.ui.kept import LogDialog
from laminar_tui.ui.keys import KEYS, bindings, find_key, remap, works_in
from laminar_tui.ui.latest import Latest
from laminar_tui.ui.painter import PaintAnew
from laminar_tui.ui.room import take_room
from laminar_tui.ui.running import STATUS_EVERY
from laminar_tui.ui.saving import FileActions
from laminar_tui.ui.scene import Scene, cell_of
from laminar_tui.ui.scene import Terminal as Terminal
from laminar_tui.ui.stage import Stage
from laminar_tui.ui.state import State, ViewName
from laminar_tui.ui.widgets import HeatmapView, Lines, PatternView

if TYPE_CHECKING:
    from laminar_tui.profile.report import Report
    from laminar_tui.ui.chance import Chance

NUMBERS_PADDING = 2


DRAWN = {
    "where": drawing.draw_where,
    "title": drawing.draw_title,
    "numbers": drawing.draw_numbers,
    "behind": drawing.draw_behind,
    "summary": drawing.draw_summary,
}
"""What each widget of rows is drawn by, but for the curve and the keys."""
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
        super().__init__(state, request, terminal, log_path)
        self._keys = remap(KEYS, terminal.keymap)
        self._pause: Timer | None = None
        self._exact = ExactWeights(self.runner, self._show)
        self._stage = Stage(terminal, self._exact, self.post_message, self._show)
        self._finder = Finder()
        self.reference: Profile | None = None
        self.sweep: SavedSweep | None = None
        self.report: Latest[Report] = Latest()
        self.came_from: detours.Origin | None = None  # the screen on which the head that is shown was chosen
        self.measure = ""  # the number that the heads were coloured by last
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
        if take_room(self, event.size):
            # What a row says may depend on the size of another widget: the crosshair's band, the tokens' height.
            self.call_after_refresh(self._show)

    def on_screen_resume(self) -> None:
        """Take the theme that was chosen on another screen."""
        if self._scene.is_dark != self.app.current_theme.dark:
            self._show()

    # -- drawing -----------------------------------------------------------------------------------------------------

    def watch_state(self, old: State, new: State) -> None:
        """Draw the new state."""
        if old.view != new.view:
            self.query_one(HeatmapView).forget_scroll()
        self.came_from = self.came_from if new.view in ("head", "map") else None
        self._show()
        if new.is_picture and not old.is_picture:
            self.call_after_refresh(self._see_crosshair)

    def _see_crosshair(self) -> None:
        """Draw once more where the picture has come back with another size, and the crosshair in another row."""
        if self.query_one(HeatmapView).band != self._scene.band:
            self._show()

    def _show(self) -> None:
        if self._timer is None:  # not composed yet
            return
        state = self.state
        # All at once: each change of classes has the styles of every widget computed anew.
        classes = {f"-{view}": state.view == view for view in get_args(ViewName)}
        is_dark, heat = self.app.current_theme.dark, self.query_one(HeatmapView)
        columns, ramp = self._stage.columns(state), self._stage.ramp(state, is_dark=is_dark)
        ascii_only, is_alone = self._terminal.ascii_only, state.alone and not state.listing
        if columns is not None and state.is_picture:
            heat.show_columns(columns, ramp, state.column, state.height, ascii_only=ascii_only, is_alone=is_alone)
            side = self.size.width - heat.get_content_width(self.size, self.size)
            classes["-paired"] = side - NUMBERS_PADDING >= drawing.PAIRED_FROM
        before = self.classes
        self.update_classes(classes | {"-listing": state.listing, "-alone": is_alone})
        is_moved = before != self.classes
        has_list, can_run = self.has_class("-wide", "-high") or state.listing, self._request is not None
        self._scene = self._stage.scene(state, heat.band, is_dark=is_dark, can_run=can_run, has_list=has_list)
        if state.view == "map":
            rows = self._scene.shares or self._scene.rows or NO_ROWS
            view = self.query_one(PatternView)
            scale, query = state.look.scale, state.query_index
            view.show_pattern(rows, state.n_tokens, ramp, scale, query, state.key, ascii_only=ascii_only)
        for name, draw in {**DRAWN, "curve": self._stage.draw_curve, "keys": self._keys_drawn}.items():
            self._lines(name).display_rows(partial(draw, self._scene), is_moved=is_moved and name in IN_BODY)
        if state.view == "head" and state.has_layer:
            self._show_tokens()
        self._show_status()
        if state.profile is not None:
            self._prepare_soon()

    def _prepare_soon(self) -> None:
        """Make what the next key may ask for once no key has come for a while, and no run takes the cores."""
        if self._pause is not None:
            self._pause.stop()
        self._pause = self.set_timer(PAUSE, self._prepare)

    def _prepare(self) -> None:
        if not self.runner.is_running:
            self._stage.prepare_next(self.state)
            detours.load_screens()

    def _keys_drawn(self, scene: Scene, width: int, height: int) -> list[Row]:
        draw = drawing.draw_find_keys if self.has_class("-finding") else drawing.draw_keys
        return draw(scene, width, height)

    def _show_keys(self) -> None:
        self._lines("keys").display_rows(partial(self._keys_drawn, self._scene))

    def _show_tokens(self) -> None:
        tokens = self._lines("tokens")
        tokens.styles.height = drawing.count_token_rows(self._scene, max(10, self.size.width - 2))
        tokens.display_rows(partial(drawing.draw_tokens, self._scene))

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
        if after.entry == before.entry and cell_of(after) != cell_of(before):
            after = replace(after, entry=0)
        self.state = after
        if after == before:
            self._show_status()

    def action_change(self, name: str) -> None:
        """Make one of the changes that need nothing but the state."""
        before = self.state
        self._change(states.CHANGES[name])
        if name == "sink" and self.state == before:
            self._say(states.NO_SINK)
        elif name == "values" and self.state == before and before.profile is not None:
            self._say(why_none(before.profile) or "no value norms are known in this layer")

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
        self._show_keys()
        line = self.query_one(FindLine)
        line.open()
        # At once: `focus()` waits for a refresh, and what is typed until then would be lost.
        self.set_focus(line)

    def _end_find(self) -> None:
        self.remove_class("-finding")
        self._show_keys()
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
        elif not target.text:
            self._arrive(go_to(self.state, target))
        elif self._finder.search(self.state, target.text):
            self.action_find_next(0)
        else:
            self._say(f"no token has the text {visible(target.text)!r}")

    def action_find_next(self, step: int) -> None:
        """Go to the next token that was found, or the one before: a query in the head's view, a key in the map."""
        is_last_only = self._scene.is_last_only and not self._exact.has_all_queries(self.state)
        if self._arrive(self._finder.step(self.state, step, is_last_only=is_last_only)):
            self._say(self._finder.found_text(self._scene))

    def _arrive(self, goal: State | str) -> bool:
        """Be where a search leads, or say why it leads nowhere; whether one is there."""
        if isinstance(goal, str):
            self._say(goal)
            return False
        self._change(lambda _state: goal)
        return True

    def action_theme(self) -> None:
        """Switch between dark and light."""
        self.app.theme = "textual-light" if self.app.current_theme.dark else "textual-dark"
        self._show()

    def action_redraw(self) -> None:
        """Paint everything again."""
        self.post_message(PaintAnew())

    def action_suspend(self) -> None:
        """Stop the process, as a shell's job, until it is continued."""
        self.app.action_suspend_process()

    def action_help(self) -> None:
        """Explain this view."""
        view, profile = self.state.view, self.state.profile
        self.app.push_screen(TextDialog(f"help: {view}", help_text(view, profile, self._keys)))

    def action_palette(self) -> None:
        """List every action."""
        self.app.action_command_palette()

    @cached_property
    def chance(self) -> "Chance":
        """What draws the nulls of a profile; needed by other screens only, so that the first frame waits less."""
        from laminar_tui.ui.chance import Chance

        return Chance(self.runner)

    def action_about(self) -> None:
        """Say where the profile comes from."""
        profile = self.state.profile
        if profile is not None:
            text = about_text(profile, self.state.look, self._exact.scope(self.state), self._terminal.settings)
            self.app.push_screen(TextDialog("about this profile", text))

    def action_log(self) -> None:
        """Show the log's last lines."""
        self.app.push_screen(LogDialog())

    def action_edit_prompt(self) -> None:
        """Type another prompt and run it on the loaded model."""
        if self._request is None:
            self._say("no model is loaded: r loads this profile's own, O another one")
            return
        detours.edit_prompt(self, self._terminal, self._request)

    def action_open(self) -> None:
        """Open another model or profile."""
        detours.open_picker(self, self._terminal, self._request)

    def action_report(self) -> None:
        """Say in words what the profile shows."""
        detours.open_report(self, self._terminal)

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

    def commands(self) -> Iterator[SystemCommand]:
        """Every key's action by name, for the palette."""
        for key in self._keys:
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

"""What the explorer's scenes are made of, kept between keys: each key pays only for what it changes."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from textual.message import Message

from laminar_tui.profile.profile import Profile
from laminar_tui.profile.values import value_shares
from laminar_tui.render.columns import Columns
from laminar_tui.render.curve import Curve, has_plotter
from laminar_tui.render.palette import Ramp
from laminar_tui.render.pattern import Rows
from laminar_tui.render.rows import Row
from laminar_tui.ui import drawing
from laminar_tui.ui.ahead import ColumnsAhead, likely_next, subject_of
from laminar_tui.ui.behind import RowsBehind
from laminar_tui.ui.exact import ExactWeights
from laminar_tui.ui.latest import Latest
from laminar_tui.ui.scene import PIN_COLORS, Scene, Terminal, pin_curve, what_is_asked
from laminar_tui.ui.state import State


class Stage:
    """Makes the scene of a state out of parts that outlive it.

    It holds
    * the columns of the present view, until profile, look, layer or order change; the densities of the last few
      views, and of those that are made ahead of the next key, are in `ahead`, which forgets the oldest;
    * a head's weights times its value norms, until its weights change;
    * the ramp, until the colour map, its direction or the theme changes;
    * the curves of pins, one for each place and look, until there is another profile;
    * the drawn curves that take longer than a key may, of which only the latest are kept.

    Args:
        terminal: what can be shown.
        exact: the weights behind what is on the screen, which have a memory of their own.
        post: takes the message that ends a drawing; called in a thread.
        show: called in the event loop when rows that take long have come.
    """

    def __init__(
        self,
        terminal: Terminal,
        exact: ExactWeights,
        post: Callable[[Message], object],
        show: Callable[[], None],
    ) -> None:
        self._terminal = terminal
        self._exact = exact
        self.ahead = ColumnsAhead()
        self._behind = RowsBehind(post, show)
        self._columns: Latest[Columns] = Latest()
        self._ramp: Latest[Ramp] = Latest()
        self._shares: Latest[Rows] = Latest()
        self._pin_curves: dict[tuple[object, ...], Curve] = {}
        self._pins_of: Profile | None = None

    def columns(self, state: State) -> Columns | None:
        """The columns of the present view; made anew only when profile, look, layer or order have changed."""
        subject = subject_of(state)
        if subject is None or not subject.profile.n_layers:
            return None
        return self._columns.of((subject.key, state.look), partial(self.ahead.columns, subject))

    def prepare_next(self, state: State) -> None:
        """Make the columns that the next key may ask for, in a thread."""
        self.ahead.prepare(map(subject_of, likely_next(state)))

    def ramp(self, state: State, *, is_dark: bool) -> Ramp:
        """The colours of a state."""
        # On a light ground the faint end has to be the light one.
        key = (state.color_map, state.reverse == is_dark)
        return self._ramp.of(key, partial(self._terminal.ramp, *key))

    def scene(self, state: State, band: tuple[float, float], *, is_dark: bool, can_run: bool, has_list: bool) -> Scene:
        """All that the screen is drawn from.

        Args:
            state: where one stands.
            band: the crosshair's row as positions on the weight axis, 0 to 1.
            is_dark: whether the ground is.
            can_run: whether there is a model to run.
            has_list: whether the list of entries behind the crosshair is in sight.
        """
        columns, ramp = self.columns(state), self.ramp(state, is_dark=is_dark)
        scene = Scene(state, columns, ramp, self._terminal, band, can_run, is_dark=is_dark)
        if columns is None or state.profile is None or not state.has_layer:
            return scene
        scene = replace(scene, pins=self._make_pins(state), is_last_only=not self._exact.has_all_queries(state))
        if state.is_picture and has_list:
            asked = what_is_asked(scene, self._exact.scope(state))
            return replace(scene, asked=asked, entries=self._exact.entries(state, asked))
        if state.view in ("head", "map"):
            rows = self._exact.rows(state)
            return replace(scene, rows=rows, shares=self._make_shares(state, rows))
        return scene

    def _make_shares(self, state: State, rows: Rows | None) -> Rows | None:
        """The weights of a head times the norms of its value vectors, where that is what is looked at."""
        if rows is None or not rows.weights.size or not state.by_value or not state.has_values:
            return None
        assert state.profile is not None
        norms = state.profile.layer(state.layer_index).value_norms
        assert norms is not None
        made_of = (rows, state.profile, state.layer_index, state.head_index)
        return self._shares.of(made_of, lambda: Rows(rows.first, value_shares(rows.weights, norms[state.head_index])))

    def _make_pins(self, state: State) -> tuple[Curve, ...]:
        """The pinned curves in the present look, made once for each."""
        profile = state.profile
        if profile is not self._pins_of:
            self._pin_curves, self._pins_of = {}, profile
        here = (state.layer_index, None if state.view == "overview" else state.head_index)
        curves = []
        for (layer, head), color in zip(state.pins, PIN_COLORS, strict=False):
            read = profile.layers[layer] if profile is not None and layer < profile.n_layers else None
            if profile is None or read is None or (head or 0) >= read.n_heads or (layer, head) == here:
                continue
            key = (state.look, layer, head)
            if key not in self._pin_curves:
                self._pin_curves[key] = pin_curve(profile, state.look, layer, head)
            curves.append(replace(self._pin_curves[key], color="" if self._terminal.depth == "none" else color))
        return tuple(curves)

    def draw_curve(self, scene: Scene, width: int, height: int) -> list[Row]:
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

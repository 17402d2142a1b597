"""All that the explorer's screen is drawn from, as values: where one stands, what is known of it, what can be shown."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from rich.style import Style

from laminar_tui.profile.patterns import Entries
from laminar_tui.profile.profile import Profile
from laminar_tui.render.columns import (
    Columns,
    Look,
    head_columns,
    layer_column,
)
from laminar_tui.render.curve import Curve
from laminar_tui.render.entries import Asked, quoted
from laminar_tui.render.palette import Ramp, make_ramp
from laminar_tui.render.pattern import Rows
from laminar_tui.render.rows import Depth, Row, merge_runs
from laminar_tui.render.text import fit
from laminar_tui.ui.state import State

PIN_COLORS = ("#e69f00", "#cc79a7", "#56b4a0")
"""Of pinned curves, in the order of pinning; beside `CURVE_COLOR` they can be told apart by most eyes."""


@dataclass(frozen=True)
class Terminal:
    """What the terminal can show, and which keys its user has.

    Attributes:
        depth: of its colours.
        ascii_only: nothing but ASCII characters.
        erases: cells that are erased take the ground that is set.
        keymap: Textual's names of keys with commas between, by the id of what they do; those of the user's settings.
        settings: the file that they are from; empty where there is none.
    """

    depth: Depth = "truecolor"
    ascii_only: bool = False
    erases: bool = False
    keymap: Mapping[str, str] = field(default_factory=dict, hash=False)
    settings: str = ""

    def ramp(self, color_map: str, reverse: bool) -> Ramp:
        """The colours of a picture, as deep as can be shown."""
        return make_ramp(color_map, self.depth, reverse=reverse, ascii_only=self.ascii_only)

    def fit(self, text: str, width: int, *, align: str = "left") -> str:
        """Cut and pad a visible text to a width."""
        return fit(text, width, align=align, ascii_only=self.ascii_only)  # type: ignore[arg-type]

    def line(self, text: str, width: int, style: Style | None = None, *, align: str = "left") -> Row:
        """One row of one text."""
        return merge_runs([(self.fit(text, width, align=align), style)])


@dataclass(frozen=True, eq=False)
class Scene:
    """What a screen is drawn from.

    Attributes:
        state: where one stands.
        columns: of the present view; None before anything is known.
        ramp: the colours of the theme.
        terminal: what can be shown.
        band: the crosshair's row as positions on the weight axis, 0 to 1.
        can_run: whether there is a model to run.
        asked, entries: what stands behind the crosshair; entries None while they are looked up.
        rows: weights of the head under the cursor; None where they are not at hand (yet).
        shares: the same, each times the norm of its value vector, as a share of its query's sum; None where the
            weights themselves are looked at.
        is_last_only: only the last query's weights are at hand, whatever one does.
        pins: curves that are kept in sight, with their names.
        is_dark: whether the ground is.
    """

    state: State
    columns: Columns | None
    ramp: Ramp
    terminal: Terminal
    band: tuple[float, float] = (0.0, 1.0)
    can_run: bool = False
    asked: Asked | None = None
    entries: Entries | None = None
    rows: Rows | None = None
    shares: Rows | None = None
    is_last_only: bool = True
    pins: tuple[Curve, ...] = ()
    is_dark: bool = True

    @property
    def column(self) -> int:
        """The column under the cursor."""
        return self.state.column

    @property
    def weights(self) -> NDArray[np.float32] | None:
        """The weights of the query that is looked at; None where they are not at hand."""
        return self.rows.of(self.state.query_index) if self.rows else None

    @property
    def query_shares(self) -> NDArray[np.float32] | None:
        """The shares of the query that is looked at; None where its weights themselves are, or are not at hand."""
        return self.shares.of(self.state.query_index) if self.shares else None

    @property
    def n_seen(self) -> int:
        """How many keys the query that is looked at sees; 0 where its weights are not at hand."""
        if self.rows is None or self.weights is None:
            return 0
        return int(np.isfinite(self.rows.weights[self.state.query_index - self.rows.first]).sum())

    def token(self, index: int) -> str:
        """A token as it stands in a sentence."""
        assert self.state.profile is not None
        return quoted(self.state.profile.origin.tokens, index, ascii_only=self.terminal.ascii_only)


def what_is_asked(scene: Scene, scope: str) -> Asked:
    """The question for what stands behind the crosshair."""
    state, columns = scene.state, scene.columns
    assert state.profile is not None
    assert columns is not None
    look = state.look
    low, high = (look.weight_at(at) for at in scene.band)
    if look.method.is_log and look.window is None and scene.band[0] <= 0:
        low = 0.0
    if state.threshold is not None:
        low = state.threshold
    is_open = state.reach == "above"
    high = 1.0 if is_open else high
    n = columns.count(scene.column, low, high)
    place = f"layer {state.layer_index}" + (f" head {state.head_index}" if state.view == "layer" else "")
    return Asked(place, low, high, is_open, look.population, state.profile.origin.tokens, n, scope)


def cell_of(state: State) -> tuple[object, ...]:
    """What has to be the same for the list of entries to be the same."""
    look = (state.look.population, state.look.sink, state.look.window)
    return (state.profile, look, state.layer_index, state.head_index, state.height, state.threshold, state.reach)


def pin_curve(profile: Profile, look: Look, layer: int, head: int | None) -> Curve:
    """The curve of a pinned layer or head."""
    columns = layer_column(profile, look, layer) if head is None else head_columns(profile, look, layer, [head])
    name = f"layer {layer}" if head is None else f"L{layer} H{head}"
    return replace(columns.curve(0), label=name)

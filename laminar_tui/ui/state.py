"""Where one stands and what one looks at, and what each key makes of it: values only, no widget.

A key's action is a function from state to state; the screen keeps the current one and draws it.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

from laminar_tui.profile.density import ESTIMATORS
from laminar_tui.profile.parts import POPULATIONS, SINK_CHOICES
from laminar_tui.profile.profile import Profile
from laminar_tui.render.columns import Look
from laminar_tui.render.curve import MODES, Mode
from laminar_tui.render.palette import COLOR_MAPS, SCALES

ViewName = Literal["overview", "layer", "head", "lines"]
OUTWARD: dict[ViewName, ViewName] = {"layer": "overview", "head": "layer", "lines": "overview", "overview": "overview"}
INWARD: dict[ViewName, ViewName] = {"overview": "layer", "layer": "head", "head": "head", "lines": "lines"}
LINEAR_ESTIMATORS = tuple(name for name, estimator in ESTIMATORS.items() if not estimator.is_log)


@dataclass(frozen=True)
class State:
    """All that decides what is on the screen.

    Attributes:
        profile: what was read so far; None before anything is known.
        look: population, sink, estimator, scale.
        view: which view.
        layer_index, head_index: where the cursor is.
        height: the crosshair's place on the weight axis, 0 at its lower end to 1.
        color_map, reverse: how densities are coloured.
        mode: what curves are made of.
        linear: the estimator to go back to from the log axis.
    """

    profile: Profile | None = None
    look: Look = field(default_factory=Look)
    view: ViewName = "overview"
    layer_index: int = 0
    head_index: int = 0
    height: float = 0.0
    color_map: str = "viridis"
    reverse: bool = False
    mode: Mode = "braille"
    linear: str = "reflected"

    @property
    def n_layers(self) -> int:
        """How many layers there are to walk over."""
        return self.profile.n_layers if self.profile else 0

    @property
    def n_heads(self) -> int:
        """How many heads the layer under the cursor has; 0 while it is not read."""
        layer = self.profile.layers[self.layer_index] if self.profile and self.n_layers else None
        return layer.n_heads if layer else 0

    @property
    def column(self) -> int:
        """The column under the cursor: a layer in the overview, a head elsewhere."""
        return self.layer_index if self.view == "overview" else self.head_index

    @property
    def has_layer(self) -> bool:
        """Whether the layer under the cursor holds weights."""
        return self.n_heads > 0


def settle(state: State) -> State:
    """Bring the cursor back into the profile after the profile or the layer has changed."""
    layer_index = min(max(state.layer_index, 0), max(0, state.n_layers - 1))
    state = replace(state, layer_index=layer_index)
    head_index = min(max(state.head_index, 0), max(0, state.n_heads - 1))
    view = state.view if state.has_layer or state.view in ("overview", "lines") else "overview"
    return replace(state, head_index=head_index, view=view)


def move_column(state: State, step: int) -> State:
    """Go to another column: a layer in the overview, a head elsewhere."""
    if state.view == "overview":
        return settle(replace(state, layer_index=state.layer_index + step))
    if state.view == "lines":
        return state
    return settle(replace(state, head_index=state.head_index + step))


def move_to_column(state: State, column: int) -> State:
    """Go to one column; -1 is the last."""
    last = (state.n_layers if state.view == "overview" else state.n_heads) - 1
    current = state.layer_index if state.view == "overview" else state.head_index
    return move_column(state, (last if column < 0 else column) - current)


def move_layer(state: State, step: int) -> State:
    """Go to the next layer that holds weights, staying in the same view."""
    if state.profile is None:
        return state
    index = state.layer_index + step
    while 0 <= index < state.n_layers and state.profile.layers[index] is None and state.view != "overview":
        index += step
    if not 0 <= index < state.n_layers:
        return state
    return settle(replace(state, layer_index=index))


def move_height(state: State, step: float) -> State:
    """Move the crosshair along the weight axis."""
    return replace(state, height=min(max(state.height + step, 0.0), 1.0))


def go_in(state: State) -> State:
    """Open what is under the cursor."""
    return settle(replace(state, view=INWARD[state.view])) if state.has_layer else state


def go_out(state: State) -> State:
    """Go back to where one came from."""
    return replace(state, view=OUTWARD[state.view])


def go_to_view(state: State, view: ViewName) -> State:
    """Open a view by its number."""
    return settle(replace(state, view=view))


def next_population(state: State, step: int = 1) -> State:
    """Look at another set of weights."""
    names = list(POPULATIONS)
    name = names[(names.index(state.look.population) + step) % len(names)]
    return replace(state, look=replace(state.look, population=name))


def next_sink(state: State) -> State:
    """Keep the sink, leave it out, look at it alone."""
    choice = SINK_CHOICES[(SINK_CHOICES.index(state.look.sink) + 1) % len(SINK_CHOICES)]
    return replace(state, look=replace(state.look, sink=choice))


def next_estimator(state: State) -> State:
    """Estimate the density in another way; the axis stays linear."""
    names = LINEAR_ESTIMATORS
    position = names.index(state.look.estimator) + 1 if state.look.estimator in names else 0
    name = names[position % len(names)]
    return replace(state, look=replace(state.look, estimator=name), linear=name)


def switch_axis(state: State) -> State:
    """Go from the linear weight axis to log10 and back."""
    name = state.linear if state.look.method.is_log else "log"
    return replace(state, look=replace(state.look, estimator=name))


def next_scale(state: State) -> State:
    """Turn density into colour in another way: log, sqrt, linear."""
    scale = SCALES[(SCALES.index(state.look.scale) + 1) % len(SCALES)]
    return replace(state, look=replace(state.look, scale=scale))


def switch_per_column(state: State) -> State:
    """Give each column its own top colour, or all of them one."""
    return replace(state, look=replace(state.look, per_column=not state.look.per_column))


def next_color_map(state: State) -> State:
    """Take the next colour map."""
    name = COLOR_MAPS[(COLOR_MAPS.index(state.color_map) + 1) % len(COLOR_MAPS)]
    return replace(state, color_map=name)


def switch_reverse(state: State) -> State:
    """Turn the colour map around."""
    return replace(state, reverse=not state.reverse)


def next_mode(state: State) -> State:
    """Make curves of other characters."""
    return replace(state, mode=MODES[(MODES.index(state.mode) + 1) % len(MODES)])

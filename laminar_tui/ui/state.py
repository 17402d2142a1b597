"""Where one stands and what one looks at, and what each key makes of it: values only, no widget.

A key's action is a function from state to state; the screen keeps the current one and draws it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from laminar_tui.profile.density import ESTIMATORS
from laminar_tui.profile.parts import POPULATIONS, SINK_CHOICES
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.statistics import STATISTICS
from laminar_tui.render.columns import Look
from laminar_tui.render.curve import MODES, Mode
from laminar_tui.render.palette import COLOR_MAPS, SCALES

ViewName = Literal["overview", "layer", "head", "map", "lines"]
Reach = Literal["above", "cell"]
OUTWARD: dict[ViewName, ViewName] = {
    "overview": "overview",
    "layer": "overview",
    "head": "layer",
    "map": "head",
    "lines": "overview",
}
INWARD: dict[ViewName, ViewName] = {
    "overview": "layer",
    "layer": "head",
    "head": "map",
    "map": "map",
    "lines": "lines",
}
ORDERS = ("", "sink_share", "entropy", "effective_tokens", "previous_token", "self", "distance")
"""Statistics by which the heads of a layer can stand, the highest first; empty for their numbers."""
MAX_PINS = 3
MAX_ZOOM = 64
"""How far the weight axis is stretched at most: a density has 128 nodes in what is left of it."""
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
        query: the query token that is looked at; -1 for the last one.
        key: the key token under the crosshair of the map.
        threshold: an exact weight the crosshair was sent to; None where its row's edge counts.
        reach: whether the entries are those from the crosshair up, or of its row only.
        listing: the keys go through the list of entries.
        entry: which of them is selected.
        pins: curves that are kept in sight: (layer, head), the head None for a layer's.
        order: the statistic by which heads are ordered; empty for their numbers.
        by_value: whether a head's weights are shown times the norms of their value vectors.
        alone: a picture takes all the width.
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
    query: int = -1
    key: int = 0
    threshold: float | None = None
    reach: Reach = "above"
    listing: bool = False
    entry: int = 0
    pins: tuple[tuple[int, int | None], ...] = ()
    order: str = ""
    by_value: bool = False
    alone: bool = False

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
    def heads(self) -> tuple[int, ...]:
        """The heads of the layer under the cursor, in the order in which they stand."""
        layer = self.profile.layers[self.layer_index] if self.profile and self.has_layer else None
        if layer is None or self.order not in layer.statistics:
            return tuple(range(self.n_heads))
        values = np.nan_to_num(layer.statistics[self.order], nan=-np.inf)
        return tuple(np.argsort(-values, kind="stable").tolist())

    @property
    def column(self) -> int:
        """The column under the cursor: a layer in the overview, elsewhere the place of a head."""
        if self.view in ("overview", "lines") or not self.has_layer:
            return self.layer_index
        return self.heads.index(self.head_index)

    @property
    def n_tokens(self) -> int:
        """The length of the prompt."""
        return self.profile.n_tokens if self.profile else 0

    @property
    def query_index(self) -> int:
        """The number of the query token that is looked at."""
        return self.query if 0 <= self.query < self.n_tokens else self.n_tokens - 1

    @property
    def has_values(self) -> bool:
        """Whether the norms of the value vectors are known in the layer under the cursor."""
        layer = self.profile.layers[self.layer_index] if self.profile and self.has_layer else None
        return layer is not None and layer.value_norms is not None

    @property
    def is_picture(self) -> bool:
        """Whether the columns by weight are on the screen, and a crosshair on them."""
        return self.view in ("overview", "layer")

    @property
    def has_tokens(self) -> bool:
        """Whether there is one prompt, whose tokens can be named; several prompts have other tokens each."""
        return self.profile is not None and bool(self.profile.origin.tokens)

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
    if view == "map" and not state.has_tokens:
        view = "head"
    query = state.query if 0 <= state.query < state.n_tokens - 1 else -1
    state = replace(state, head_index=head_index, view=view, query=query)
    key = min(max(state.key, 0), max(0, state.query_index))
    return replace(state, key=key, listing=state.listing and state.is_picture)


def move_column(state: State, step: int) -> State:
    """Go to another column: a layer in the overview, a key in the map, a head elsewhere."""
    if state.view == "overview":
        return settle(replace(state, layer_index=state.layer_index + step))
    if state.view == "map":
        return settle(replace(state, key=state.key + step))
    if state.view == "lines" or not state.has_layer:
        return state
    return move_to_column(state, max(0, state.column + step))


def move_to_column(state: State, column: int) -> State:
    """Go to one column; -1 is the last."""
    if state.view == "overview":
        return settle(replace(state, layer_index=state.n_layers - 1 if column < 0 else column))
    if state.view == "map":
        return settle(replace(state, key=state.n_tokens if column < 0 else column))
    if state.view == "lines" or not state.has_layer:
        return state
    last = state.n_heads - 1
    return settle(replace(state, head_index=state.heads[last if column < 0 else min(column, last)]))


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


def move_head(state: State, step: int) -> State:
    """Go to another head, in the map too."""
    if state.view not in ("layer", "head", "map") or not state.has_layer:
        return state
    place = min(max(state.column + step, 0), state.n_heads - 1)
    return settle(replace(state, head_index=state.heads[place]))


def move_query(state: State, step: int) -> State:
    """Go to another query token."""
    return settle(replace(state, query=min(max(state.query_index + step, 0), max(0, state.n_tokens - 1))))


def move_height(state: State, step: float) -> State:
    """Move the crosshair along the weight axis."""
    return replace(state, height=min(max(state.height + step, 0.0), 1.0), threshold=None)


def go_to_weight(state: State, weight: float) -> State:
    """Put the crosshair on a weight, and have the entries begin exactly there; a zoomed axis is given up for it."""
    if not 0 <= state.look.place_of(weight) <= 1:
        state = zoom_out_fully(state)
    height = min(max(state.look.place_of(weight), 0.0), 1.0)
    return replace(state, height=height, threshold=weight, reach="above")


def go_in(state: State) -> State:
    """Open what is under the cursor."""
    return settle(replace(state, view=INWARD[state.view])) if state.has_layer else state


def go_out(state: State) -> State:
    """Leave the list of entries; else go back to where one came from."""
    if state.listing:
        return replace(state, listing=False)
    return replace(state, view=OUTWARD[state.view])


def go_to_view(state: State, view: ViewName) -> State:
    """Open a view by its number."""
    return settle(replace(state, view=view))


def go_to_head(state: State, layer: int, head: int, query: int, key: int) -> State:
    """Open a head with a query selected."""
    return settle(replace(state, view="head", layer_index=layer, head_index=head, query=query, key=key))


def go_to_place(state: State, layer: int, head: int | None) -> State:
    """Go to a layer, or to a head of it; from the overview a head is opened."""
    if head is None:
        return settle(replace(state, layer_index=layer))
    view: ViewName = "head" if state.view in ("overview", "lines") else state.view
    return settle(replace(state, layer_index=layer, head_index=head, view=view))


def problem_with_place(state: State, layer: int | None, head: int | None) -> str:
    """Why one cannot go there; nothing if one can."""
    layer = state.layer_index if layer is None else layer
    if state.profile is None or layer >= state.n_layers:
        return f"there is no layer {layer}: they are 0 to {state.n_layers - 1}" if state.n_layers else "nothing yet"
    read = state.profile.layers[layer]
    if head is not None and (read is None or head >= read.n_heads):
        last = "layer has no attention weights" if read is None else f"heads are 0 to {read.n_heads - 1}"
        return f"layer {layer} has no head {head}: its {last}"
    return ""


def switch_listing(state: State) -> State:
    """Let the keys go through the list of entries, or the picture again."""
    return replace(state, listing=not state.listing, entry=0) if state.is_picture else state


def switch_reach(state: State) -> State:
    """Look at the entries of the crosshair's row only, or of all rows from there up."""
    return replace(state, reach="cell" if state.reach == "above" else "above", threshold=None)


def switch_pin(state: State) -> State:
    """Keep the curve under the cursor in sight, or let it go; the oldest one makes room for a fourth."""
    if state.view not in ("overview", "layer", "head") or not state.has_layer:
        return state
    pin = (state.layer_index, None if state.view == "overview" else state.head_index)
    if pin in state.pins:
        return replace(state, pins=tuple(each for each in state.pins if each != pin))
    return replace(state, pins=(*state.pins, pin)[-MAX_PINS:])


def next_order(state: State) -> State:
    """Order the heads by another statistic."""
    layer = state.profile.layers[state.layer_index] if state.profile and state.n_layers else None
    names = [name for name in ORDERS if not name or (layer is not None and name in layer.statistics)]
    at = names.index(state.order) if state.order in names else -1
    return replace(state, order=names[(at + 1) % len(names)])


def order_title(state: State) -> str:
    """How the heads are ordered, in words."""
    return f"heads by {STATISTICS[state.order].title}" if state.order else ""


def zoom(state: State, factor: float) -> State:
    """Stretch the weight axis around the crosshair; below 1 the other way."""
    look = state.look
    method, span = look.method, look.high - look.low
    whole = method.high - method.low
    wanted = whole if factor <= 0 else min(whole, max(span / factor, whole / MAX_ZOOM))
    at = look.low + state.height * span
    low = min(max(at - state.height * wanted, method.low), method.high - wanted)
    window = None if wanted >= whole else (low, low + wanted)
    look = replace(look, window=window)
    return replace(state, look=look, height=min(max((at - look.low) / (look.high - look.low), 0.0), 1.0))


def zoom_out_fully(state: State) -> State:
    """Show the whole weight axis."""
    return zoom(state, 0.0) if state.look.window else state


def pan(state: State, step: int) -> State:
    """Move the stretch of the axis that is shown by half of it, as far as there is axis."""
    look = state.look
    if look.window is None:
        return state
    span = look.high - look.low
    low = min(max(look.low + step * span / 2, look.method.low), look.method.high - span)
    at = look.low + state.height * span
    look = replace(look, window=(low, low + span))
    return replace(state, look=look, height=min(max((at - low) / span, 0.0), 1.0))


def next_population(state: State, step: int = 1) -> State:
    """Look at another set of weights."""
    names = list(POPULATIONS)
    name = names[(names.index(state.look.population) + step) % len(names)]
    return replace(state, look=replace(state.look, population=name))


NO_SINK = "a token's weight on itself has no sink to leave out"


def next_sink(state: State) -> State:
    """Keep the sink, leave it out, look at it alone; a token's weight on itself has none."""
    if state.look.population == "self" and state.view != "lines":
        return state
    choice = SINK_CHOICES[(SINK_CHOICES.index(state.look.sink) + 1) % len(SINK_CHOICES)]
    return replace(state, look=replace(state.look, sink=choice))


def next_estimator(state: State) -> State:
    """Estimate the density in another way; the axis stays linear."""
    names = LINEAR_ESTIMATORS
    position = names.index(state.look.estimator) + 1 if state.look.estimator in names else 0
    name = names[position % len(names)]
    return _with_estimator(replace(state, linear=name), name)


def switch_axis(state: State) -> State:
    """Go from the linear weight axis to log10 and back."""
    name = state.linear if state.look.method.is_log else "log"
    return _with_estimator(state, name)


def _with_estimator(state: State, name: str) -> State:
    """Another estimator; another axis is seen whole, with the crosshair on the same weight."""
    look = replace(state.look, estimator=name)
    if look.method.is_log == state.look.method.is_log:
        return replace(state, look=look)
    weight = state.look.weight_at(state.height)
    look = replace(look, window=None)
    height = min(max(look.place_of(weight), 0.0), 1.0)
    return replace(state, look=look, height=height if height > 1e-6 else 0.0)  # 1e-8 is the log axis's own zero


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


def switch_values(state: State) -> State:
    """Show a head's weights times the norms of their value vectors, or as they are."""
    return replace(state, by_value=not state.by_value) if state.has_values else state


def next_mode(state: State) -> State:
    """Make curves of other characters."""
    return replace(state, mode=MODES[(MODES.index(state.mode) + 1) % len(MODES)])


CHANGES: dict[str, Callable[[State], State]] = {
    "in": go_in,
    "listing": switch_listing,
    "reach": switch_reach,
    "pin": switch_pin,
    "order": next_order,
    "sink": next_sink,
    "estimator": next_estimator,
    "axis": switch_axis,
    "scale": next_scale,
    "per_column": switch_per_column,
    "color_map": next_color_map,
    "reverse": switch_reverse,
    "mode": next_mode,
    "values": switch_values,
    "alone": lambda state: replace(state, alone=not state.alone),
    "zoom_in": lambda state: zoom(state, 2.0),
    "zoom_out": lambda state: zoom(state, 0.5),
    "zoom_off": zoom_out_fully,
}
"""What a key does to the state where it takes no argument, by the name in the key's action."""

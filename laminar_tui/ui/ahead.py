"""The columns that a next key may ask for, made in a thread while no key is pressed.

To estimate the densities of 32 columns takes 20 ms on one core; numpy leaves the interpreter to the screen meanwhile.
"""

import threading
from collections.abc import Hashable
from dataclasses import replace

from laminar_tui.render.columns import Columns, head_columns, layer_columns
from laminar_tui.ui import state as states
from laminar_tui.ui.state import State

MOST_KEPT = 10
"""Of 32 heads, one takes 6 MB."""


def density_key(state: State) -> Hashable:
    """All that the densities of a state's columns depend on; None without a profile."""
    if state.profile is None:
        return None
    look = state.look
    layer = None if state.view in ("overview", "lines") or not state.has_layer else state.layer_index
    order = state.heads if layer is not None else ()
    return (state.profile, look.population, look.sink, look.estimator, layer, order)


def make_columns(state: State) -> Columns:
    """Make the columns of a state's view: the layers, or the heads of one in their order."""
    assert state.profile is not None
    if state.view in ("overview", "lines") or not state.has_layer:
        return layer_columns(state.profile, state.look)
    return head_columns(state.profile, state.look, state.layer_index, state.heads)


def likely_next(state: State) -> list[State]:
    """The states to which the next key leads that needs other densities, the most likely ones first."""
    if not state.has_layer:
        return []
    if state.view in ("overview", "lines"):
        near = [replace(state, view="layer")]
    else:
        near = [states.move_layer(state, 1), states.move_layer(state, -1), replace(state, view="overview")]
    looks = [states.next_population(state), states.next_sink(state), states.switch_axis(state)]
    return [*near, *looks, states.next_population(state, -1)]


class ColumnsAhead:
    """Keeps the columns of the last few states, and makes those of the next ones."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Columns] = {}
        self._asked = 0

    def columns(self, state: State) -> Columns:
        """The columns of a state, made now if they are not there yet."""
        key = density_key(state)
        found = self._kept.get(key)
        if found is None:
            found = make_columns(state)
        self._keep(key, found)
        return found.seen_with(state.look)

    def prepare(self, wanted: list[State]) -> None:
        """Make the columns of some states in a thread, until others are wanted."""
        self._asked += 1
        missing = [state for state in wanted if density_key(state) not in self._kept]
        if missing:
            threading.Thread(target=self._make, args=(missing, self._asked), name="columns ahead", daemon=True).start()

    def _make(self, wanted: list[State], asked: int) -> None:
        for state in wanted:
            columns = make_columns(state)
            columns.nodes  # noqa: B018 - the densities, which take the time
            if asked != self._asked:
                return
            self._keep(density_key(state), columns)

    def _keep(self, key: Hashable, columns: Columns) -> None:
        """Keep some columns as the latest, and forget the oldest."""
        self._kept.pop(key, None)
        self._kept[key] = columns
        for old in list(self._kept)[:-MOST_KEPT]:
            self._kept.pop(old, None)

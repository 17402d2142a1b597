"""A detour whose picture has columns: one cursor on them, and a look of its own."""

from collections.abc import Callable
from dataclasses import replace

from textual import events

from laminar_tui.ui import state as states
from laminar_tui.ui.detour import Detour, Result
from laminar_tui.ui.keys import Key
from laminar_tui.ui.scene import Terminal
from laminar_tui.ui.state import State

LOOK_KEYS = (
    Key("population", "p", "p", "population(1)", "next population of weights", label="Population", rank=5),
    Key("population_back", "P", "P", "population(-1)", "previous population"),
    Key("sink", "s", "s", "sink", "the sink (first token): with, without, alone", label="Sink", rank=5),
    Key("estimator", "d", "d", "estimator", "density estimator"),
    Key("axis", "a", "a", "axis", "weight axis linear or log10", label="Axis", rank=6),
    Key("scale", "z", "z", "scale", "colour scale: log, sqrt, linear", label="Scale", rank=6),
)
"""The keys that change which weights are drawn, and how."""


def column_keys(column: str, more: str = "") -> tuple[Key, ...]:
    """The keys that move the cursor.

    Args:
        column: what a column is.
        more: said of it at the first two keys.
    """
    return (
        Key("previous", "h,left", "h ←", "column(-1)", f"previous {column}{more}"),
        Key("next", "l,right", "l →", "column(1)", f"next {column}{more}"),
        Key("previous8", "H", "H", "column(-8)", f"eight {column}s back"),
        Key("next8", "L", "L", "column(8)", f"eight {column}s on"),
        Key("first", "g,home", "g Home", "to_column(0)", f"first {column}"),
        Key("last", "G,end", "G End", "to_column(-1)", f"last {column}"),
    )


class ColumnDetour(Detour[Result]):
    """The frame of such a screen.

    Args:
        state: the explorer's; its look is where one begins.
        terminal: what can be shown.

    Attributes:
        now: the explorer's state with the look of this screen.
        column: where the cursor is.
    """

    def __init__(self, state: State, terminal: Terminal) -> None:
        super().__init__(state, terminal)
        self.now = replace(state, view="overview", look=replace(state.look, window=None))
        self.column = 0

    def count_columns(self) -> int:
        """How many columns there are; 0 before that is known."""
        raise NotImplementedError

    def column_at(self, event: events.Click) -> int | None:
        """The column that was clicked."""
        raise NotImplementedError

    def action_open(self) -> None:
        """Open what is under the cursor."""
        raise NotImplementedError

    # -- the cursor --------------------------------------------------------------------------------------------------

    def action_column(self, step: int) -> None:
        """Go to another column."""
        self.go_to(self.column + step)

    def action_to_column(self, column: int) -> None:
        """Go to one column; -1 is the last."""
        self.go_to(column if column >= 0 else self.count_columns() - 1)

    def go_to(self, column: int) -> None:
        """Put the cursor on a column, or on the nearest one that there is."""
        self.column = min(max(column, 0), max(0, self.count_columns() - 1))
        self.show()

    def on_click(self, event: events.Click) -> None:
        """Go to the column that was clicked; a second click opens it."""
        column = self.column_at(event)
        if column is not None:
            self.go_to(column)
            if event.chain == 2:
                self.action_open()

    # -- the look ----------------------------------------------------------------------------------------------------

    def look_changed(self) -> None:
        """Show what the new look wants."""
        self.show()

    def _look(self, change: Callable[[State], State]) -> None:
        self.now = change(self.now)
        self.look_changed()

    def action_population(self, step: int) -> None:
        """Look at another population."""
        self._look(lambda state: states.next_population(state, step))

    def action_sink(self) -> None:
        """Keep the sink, leave it out, look at it alone."""
        before = self.now
        self._look(states.next_sink)
        if self.now == before:
            self.say(states.NO_SINK)

    def action_estimator(self) -> None:
        """Take the next estimator."""
        self._look(states.next_estimator)

    def action_axis(self) -> None:
        """Switch the weight axis."""
        self._look(states.switch_axis)

    def action_scale(self) -> None:
        """Take the next colour scale."""
        self._look(states.next_scale)

    def action_mode(self) -> None:
        """Make curves of other characters."""
        self._look(states.next_mode)

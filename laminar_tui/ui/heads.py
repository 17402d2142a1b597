"""Every head of the model at once: a matrix coloured by one number, and the same heads as a sorted table."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np
from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType

from laminar_tui.profile.measures import Measure, list_measures, nearest_heads
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.wording import percent
from laminar_tui.render.columns import Look
from laminar_tui.render.facts import half_interval, sink_lines, with_interval
from laminar_tui.render.matrix import TABLE_WIDTH, Matrix, MatrixDrawing, Place, rank_heads, table_rows
from laminar_tui.render.numbers import limit, number
from laminar_tui.render.palette import SCALES, Scale
from laminar_tui.render.rows import Row
from laminar_tui.run import Step
from laminar_tui.ui.choice import ChoiceDialog
from laminar_tui.ui.detour import BACK_KEYS, COPY_KEYS, FIND_KEY, PICTURE_KEYS, Detour, make_bindings
from laminar_tui.ui.keys import Key
from laminar_tui.ui.latest import Latest
from laminar_tui.ui.scene import Terminal
from laminar_tui.ui.state import NO_SINK, State, next_population, next_sink
from laminar_tui.ui.widgets import Lines

HEADS_KEYS = (
    Key("previous", "h,left", "h ←", "move(-1, 0)", "previous layer"),
    Key("next", "l,right", "l →", "move(1, 0)", "next layer"),
    Key("down", "j,down", "j ↓", "move(0, 1)", "next head"),
    Key("up", "k,up", "k ↑", "move(0, -1)", "previous head"),
    Key("open_head", "enter", "Enter", "open", "open this head in the explorer", label="Open head", rank=1),
    Key("next_rank", "n", "n", "rank(1)", "next head of the table", label="Next rank", rank=2),
    Key("previous_rank", "N", "N", "rank(-1)", "previous head of the table"),
    Key("first", "g,home", "g Home", "to_rank(0)", "first head of the table", label="First", rank=3),
    Key("last", "G,end", "G End", "to_rank(-1)", "last head of the table"),
    Key("measure", "v", "v", "choose_measure", "choose the number from a list", label="Number", rank=2),
    Key("next_measure", "full_stop,tab", ".", "measure(1)", "next number"),
    Key("previous_measure", "comma,shift+tab", ",", "measure(-1)", "previous number"),
    Key("roles", "r", "r", "roles", "measure what the heads do on repeated random tokens", label="Roles", rank=4),
    Key("table_order", "o", "o", "order", "order of the table: greatest or least first", label="Order", rank=5),
    Key("nearest", "d", "d", "nearest", "heads nearest in distribution to this one", label="Nearest", rank=3),
    Key("population", "p", "p", "population", "population that `nearest` compares"),
    Key("sink", "s", "s", "sink", "its sink (first token): with, without, alone"),
    Key("scale", "z", "z", "scale", "colour scale: linear, sqrt, log", label="Scale", rank=6),
    FIND_KEY,
    *COPY_KEYS,
    *PICTURE_KEYS,
    *BACK_KEYS,
)

NO_ROLES = "no role scores: r measures them on the loaded model, as --roles does"
NO_ROLES_OF_MANY = "no role scores: `capture --corpus FILE --roles` measures them beside the corpus"
FIRST_ROLE = "role.induction"
"""The score that is shown once roles were measured here."""
PROGRESS_EVERY = 0.25
"""Seconds between two looks at how far the measuring of roles is."""
ROLES_COME = "the role scores are being measured, and come when the run has ended"


@dataclass(frozen=True)
class RolesRun:
    """How roles are measured on the loaded model.

    Attributes:
        begin: begins; says why it cannot be, nothing if it has begun.
        step: how far it is; None while none are measured.
        stop: asks it to stop.
    """

    begin: Callable[[], str]
    step: Callable[[], Step | None]
    stop: Callable[[], None]


class HeadsScreen(Detour[Place]):
    """The matrix and the table; the result is the head that was opened.

    Args:
        state: the explorer's, with a profile.
        terminal: what can be shown.
        measure: the name of the number to begin with, if the profile has it.
        awaits_roles: whether a run under way will measure what the heads do.
        roles: measures it on request; None without an explorer behind.
    """

    NAME = "heads"
    KEYS = HEADS_KEYS
    BINDINGS: ClassVar[list[BindingType]] = [*make_bindings(HEADS_KEYS)]
    READING = """\
Each column is a layer and each row a head, coloured by one number (v chooses it). The table holds the same heads,
sorted. A column that is bright throughout is a layer in which all heads do it; single bright cells are specialists. d
asks which heads are nearest to this one, Enter opens it."""
    NOT_SAID = """\
Attention is not importance: a number is a mean over queries, and says what a head does with its attention, not what
that does to the output."""
    DETAILS = (
        (
            "The numbers",
            """\
The sink share is the mean weight on the first token; `strongest key` finds sinks at other places too. Scores of roles
are measured on random tokens that repeat (r, or --roles), not on this prompt. d colours every head by how far its
weights are distributed from those of the head under the cursor.""",
        ),
    )

    def __init__(
        self,
        state: State,
        profile: Profile,
        terminal: Terminal,
        measure: str = "",
        *,
        awaits_roles: bool = False,
        roles: RolesRun | None = None,
    ) -> None:
        super().__init__(state, terminal)
        self.profile = profile
        self.look = state.look
        self.awaits_roles = awaits_roles
        self.roles = roles
        self.measures = list_measures(profile)
        self.at = self._place_of(measure)
        self.nearest: Measure | None = None
        self.place: Place = (state.layer_index, state.head_index)
        self.descending = True
        self.farthest_first = False
        self.scale: Scale = "linear"
        self._drawing: Latest[MatrixDrawing] = Latest()

    def compose_body(self) -> ComposeResult:
        """The matrix and the table."""
        yield MatrixLines(id="picture")
        yield Lines(id="side")

    def on_mount(self) -> None:
        """Begin at a head that is there."""
        self._sort()
        if self.place not in self.order and self.order:
            self.place = self.order[0]
        self.say(self._where_roles_are())
        self._progress = self.set_interval(PROGRESS_EVERY, self._show_progress, pause=self._role_step() is None)
        super().on_mount()

    def _place_of(self, name: str) -> int:
        return next((at for at, each in enumerate(self.measures) if each.name == name), 0)

    def _where_roles_are(self) -> str:
        if any(each.name.startswith("role.") for each in self.measures):
            return ""
        none = NO_ROLES if self.profile.origin.n_prompts == 1 else NO_ROLES_OF_MANY
        return ROLES_COME if self.awaits_roles else none

    def _role_step(self) -> Step | None:
        return self.roles.step() if self.roles is not None else None

    def _show_progress(self) -> None:
        step = self._role_step()
        if step is None:
            self._progress.pause()
        else:
            done = f"  {step.done} of {step.total} sequences" if step.total else ""
            self.say(f"{step.name}{done}  Esc stops")

    def renew(self, profile: Profile) -> None:
        """Take the numbers of the run that has ended; the head and the number that are looked at stay, if they can.

        Where no number of a head was measured, there is nothing to show here.
        """
        measures, before = list_measures(profile), self._where_roles_are()
        if not measures:
            self.action_back()
            return
        name = self.measures[self.at].name
        is_measured = profile.roles is not None and self.profile.roles is None and not self.awaits_roles
        name = FIRST_ROLE if is_measured else name
        self.start = replace(self.start, profile=profile)
        self.profile, self.measures, self.nearest, self.awaits_roles = profile, measures, None, False
        self.at = self._place_of(name)
        self._sort()
        if self.place not in self.order:
            self.place = self.order[0]
        if self._where_roles_are() != before:
            self.say(self._where_roles_are())
        if is_measured:
            self.say("roles are measured: v chooses one · not saved: w in the overview writes them")
        self.show()

    # -- drawing -----------------------------------------------------------------------------------------------------

    @property
    def measure(self) -> Measure:
        """The number that is shown."""
        return self.nearest or self.measures[self.at]

    def _sort(self) -> None:
        measure = self.measure
        self.matrix = Matrix(measure.values, self.scale, measure.is_share)
        descending = self.descending if self.nearest is None else self.farthest_first
        self.order = rank_heads(measure.values, descending=descending)

    def drawing_for(self, width: int, height: int) -> MatrixDrawing:
        """The matrix laid out for a size; made anew when size, number or colours have changed."""
        made_of = (self.matrix, width, height, self.ramp())
        return self._drawing.of(made_of, partial(MatrixDrawing, *made_of, ascii_only=self.terminal.ascii_only))

    def show_body(self) -> None:
        """Draw title, matrix, table and the line of numbers."""
        measure = self.measure
        unit = f" ({measure.unit})" if measure.unit else ""
        scale = f"{self.scale} colours"
        self.show_line("title", [f"{measure.title}{unit} by layer → and head ↓", measure.description, scale])
        self.query_one(MatrixLines).resize_to(self._picture_width())
        self.lines("picture").display_rows(self._draw_matrix)
        self.lines("side").display_rows(self._draw_table)
        self.show_line("summary", self._summary(), "  ")

    def _picture_width(self) -> int:
        room = max(20, self.size.width - TABLE_WIDTH)
        height = max(3, self.size.height - 5)
        return self.drawing_for(room, height).used_width + 1

    def _draw_matrix(self, width: int, height: int) -> list[Row]:
        return self.drawing_for(width, height).rows(self.place)

    def _draw_table(self, width: int, height: int) -> list[Row]:
        title, ascii_only = self.measure.title, self.terminal.ascii_only
        return table_rows(self.matrix, self.order, self.place, width, height, title=title, ascii_only=ascii_only)

    def _summary(self) -> list[str]:
        layer, head = self.place
        measure = self.measure
        value = float(measure.values[layer, head])
        n = len(self.order)
        rank = f"rank {self.order.index(self.place) + 1:,} of {n:,}" if self.place in self.order else "no rank"
        shown = with_interval(value, half_interval(self.profile, layer, head, measure.name), is_share=measure.is_share)
        facts = [f"layer {layer} head {head}", f"{measure.title} {shown or self._text(measure, value)}", rank]
        if measure.threshold is not None:
            above = int((measure.values > measure.threshold).sum())
            facts.append(f"{above:,} of {n:,} above {limit(measure.threshold)}")
        if self.nearest is not None:
            return [*facts, *self.look.facts()[:2]]
        sinks = sink_lines(self.profile, layer, head, ascii_only=self.terminal.ascii_only)
        facts += [f"{name}: {share}" for name, share in sinks]
        others = [each for each in self.measures if each is not measure]
        facts += [f"{each.title} {self._text(each, float(each.values[layer, head]))}" for each in others]
        return facts

    @staticmethod
    def _text(measure: Measure, value: float) -> str:
        return percent(value) if measure.is_share else f"{number(value)} {measure.unit}".strip()

    # -- keys --------------------------------------------------------------------------------------------------------

    def _go_to(self, place: Place) -> None:
        self.place = place
        self.show()

    def action_move(self, layers: int, heads: int) -> None:
        """Go to a neighbour; what was not measured is passed over."""
        n_layers, n_heads = self.measure.values.shape
        layer, head = self.place[0] + layers, self.place[1] + heads
        while 0 <= layer < n_layers and 0 <= head < n_heads:
            if np.isfinite(self.measure.values[layer, head]):
                self._go_to((layer, head))
                return
            layer, head = layer + layers, head + heads

    def find(self, layer: int | None, head: int | None) -> str:
        """Go to a head; one number alone keeps the other."""
        place = (self.place[0] if layer is None else layer, self.place[1] if head is None else head)
        if place not in self.order:
            return f"layer {place[0]} head {place[1]} has no {self.measure.title} here"
        self._go_to(place)
        return ""

    def line_to_copy(self) -> str:
        """The head under the cursor in numbers."""
        return "  ".join(self._summary())

    def table(self) -> list[list[str]]:
        """The heads by the number that is shown, as sorted."""
        values = self.measure.values
        ranked = enumerate(self.order, 1)
        rows = [[str(rank), str(layer), str(head), f"{values[layer, head]:.6g}"] for rank, (layer, head) in ranked]
        return [["rank", "layer", "head", self.measure.name], *rows]

    def action_rank(self, step: int) -> None:
        """Go along the table."""
        rank = self.order.index(self.place) + step if self.place in self.order else 0
        self.action_to_rank(min(max(rank, 0), len(self.order) - 1))

    def action_to_rank(self, rank: int) -> None:
        """Go to a rank; -1 is the last."""
        if self.order:
            self._go_to(self.order[rank])

    def action_measure(self, step: int) -> None:
        """Show another number."""
        self._show_measure((self.at + (step if self.nearest is None else 0)) % len(self.measures))

    def _show_measure(self, at: int) -> None:
        self.at, self.nearest = at, None
        self._sort()
        self.say(self._where_roles_are())
        self.show()

    def _choose(self, name: str | None) -> None:
        if name is not None:
            self._show_measure(self._place_of(name))

    def action_choose_measure(self) -> None:
        """Choose the number from a list."""
        choices = [(each.name, each.title, each.description) for each in self.measures]
        self.app.push_screen(ChoiceDialog("colour the heads by", choices, self.at), self._choose)

    def action_order(self) -> None:
        """Turn the table around."""
        if self.nearest is None:
            self.descending = not self.descending
        else:
            self.farthest_first = not self.farthest_first
        self._sort()
        self.show()

    def action_scale(self) -> None:
        """Take the next colour scale."""
        self.scale = SCALES[(SCALES.index(self.scale) - 1) % len(SCALES)]
        self._sort()
        self.show()

    def action_nearest(self) -> None:
        """Colour by the distance from the head under the cursor; a second time goes back to the number before."""
        if self.nearest is not None:
            self._show_measure(self.at)
        else:
            self.farthest_first = False
            self._measure_from(self.place, self.look)

    def _measure_from(self, anchor: Place, look: Look) -> None:
        work = partial(nearest_heads, self.profile, *anchor, look.population, look.sink)
        self.in_background("nearest", work, partial(self._show_nearest, self.profile, anchor, look))

    def _show_nearest(self, profile: Profile, anchor: Place, look: Look, measure: Measure) -> None:
        if profile is not self.profile:  # another one has come meanwhile
            return
        if not np.isfinite(measure.values[anchor]):
            self.say(f"layer {anchor[0]} head {anchor[1]} has no weights here: {' · '.join(look.facts()[:2])}")
            return
        self.nearest, self.look, self._anchor = measure, look, anchor
        self._sort()
        self.say("d goes back to the number before · p and s change what is compared")
        self.show()

    def action_population(self) -> None:
        """Compare another population."""
        self._compare(next_population(replace(self.start, look=self.look, view="overview")))

    def action_sink(self) -> None:
        """Compare with, without or only the sink."""
        self._compare(next_sink(replace(self.start, look=self.look, view="overview")))

    def _compare(self, state: State) -> None:
        if self.nearest is None:
            self.say("these numbers are over all queries and keys; d compares the weights of a population")
            return
        if state.look == self.look:
            self.say(NO_SINK)
        else:
            self._measure_from(self._anchor, state.look)

    def action_roles(self) -> None:
        """Measure what the heads do."""
        if self.roles is not None:
            why_not = self.roles.begin()
            self.say(why_not)
            if not why_not:
                self._progress.resume()
                self._show_progress()

    def action_back(self) -> None:
        """Stop measuring roles; else leave without a result."""
        if self.roles is not None and self._role_step() is not None:
            self.roles.stop()
        else:
            super().action_back()

    def action_open(self) -> None:
        """Leave with this head."""
        self.dismiss(self.place)

    # -- the mouse ---------------------------------------------------------------------------------------------------

    def on_click(self, event: events.Click) -> None:
        """Go to the head that was clicked; a second click opens it."""
        picture = self.lines("picture")
        if self._drawing.value is None or event.widget is not picture:
            return
        place = self._drawing.value.place_at(event.x, event.y, self.place)
        if place is not None and np.isfinite(self.measure.values[place]):
            self._go_to(place)
            if event.chain == 2:
                self.action_open()


class MatrixLines(Lines):
    """Rows whose width follows from what is drawn."""

    def resize_to(self, width: int) -> None:
        """Take so many cells."""
        if self.styles.width is None or self.styles.width.value != width:
            self.styles.width = width

"""Two profiles side by side with one cursor, their signed difference, and how far each layer and head has moved."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.timer import Timer

from laminar_tui.errors import LaminarError
from laminar_tui.profile.bootstrap import LEVEL
from laminar_tui.profile.nulls import COMPUTED_NULLS
from laminar_tui.profile.pairs import (
    Change,
    measure_change,
    tell_apart,
)
from laminar_tui.profile.profile import Profile
from laminar_tui.render.compare import (
    ARRANGEMENTS,
    GUTTERS,
    NAME_WIDTH,
    NUMBERS_WIDTH,
    Pair,
    PairDrawing,
    change_table,
    columns_cells,
    line_rows,
    number_lines,
    pair_curves,
    ranking_rows,
)
from laminar_tui.render.numbers import number
from laminar_tui.render.palette import Ramp, make_two_sided_ramp
from laminar_tui.render.rows import Row, cut_row
from laminar_tui.render.text import visible
from laminar_tui.run import Step
from laminar_tui.ui import state as states
from laminar_tui.ui.ahead import PAUSE, ColumnsAhead, Subject
from laminar_tui.ui.chance import Chance
from laminar_tui.ui.column_detour import LOOK_KEYS, ColumnDetour, column_keys
from laminar_tui.ui.compared import STATISTICS_SHOWN, Compared
from laminar_tui.ui.detour import BACK_KEYS, COPY_KEYS, FIND_KEY, PICTURE_KEYS, make_bindings
from laminar_tui.ui.help import Detail, has_bands
from laminar_tui.ui.keys import Key
from laminar_tui.ui.latest import Latest
from laminar_tui.ui.scene import Terminal
from laminar_tui.ui.state import State
from laminar_tui.ui.widgets import Lines

BELOW_FROM = 20
"""From this height on there is room for curve and numbers below five rows of the pictures."""
MOST_KEPT_OF_TWO = 20
"""Columns of A and B that are kept: those in sight, and those of the next looks, heads and null."""
COMPARE_KEYS = (
    *column_keys("column", ": layer or head"),
    Key("largest", "n", "n", "largest(1)", "next column by largest change", label="Next change", rank=2),
    Key("smaller", "N", "N", "largest(-1)", "previous column by largest change"),
    Key("arrange", "v", "v", "arrange(1)", "side by side, A, B, difference, lift", label="Layout", rank=3),
    Key("arrange_back", "V", "V", "arrange(-1)", "the layout before"),
    Key("swap", "x", "x", "swap", "swap A and B", label="Swap", rank=4),
    Key(
        "null",
        "b",
        "b",
        "next_reference",
        "compare with chance: uniform attention, independent scores; with the model in memory, random parameters "
        "and shuffled tokens",
        "Chance",
        rank=4,
    ),
    Key("open_heads", "enter", "Enter", "open", "the heads of this layer; then the head itself", label="Heads", rank=1),
    *LOOK_KEYS,
    Key("curve_mode", "u", "u", "mode", "curves in braille, quadrants or ASCII"),
    FIND_KEY,
    *COPY_KEYS,
    *PICTURE_KEYS,
    *BACK_KEYS,
)


_BANDS: Detail = (
    "The dots around the curves",
    f"A {100 * LEVEL:.0f} % band over the prompts: where those of A and B overlap, the difference may be chance.",
)


class CompareScreen(ColumnDetour[tuple[int, int]]):
    """The comparison; the result is a layer and head of the explorer's profile to open.

    Args:
        state: the explorer's; its look and its cursor are where one begins.
        terminal: what can be shown.
        profile: the explorer's, B until it is swapped.
        marked: the one it is compared with; None for attention by chance.
        chance: draws the nulls.

    Attributes:
        compared: what is compared at the moment, the marked profile or a null.
        null: its name if it is a null.
    """

    NAME = "compare"
    KEYS = COMPARE_KEYS
    BINDINGS: ClassVar[list[BindingType]] = [*make_bindings(COMPARE_KEYS)]
    READING = """\
A and B are drawn on the same axes and in the same colours: each column is a layer (after Enter, a head), from weight 0
at the bottom to 1. The third picture is B minus A: red where B has more weights, blue where it has fewer. n goes to the
column that changed most; b compares with chance."""
    NOT_SAID = """\
A change is not importance: it says that weights moved, not what that does to the output. With few weights, small
patches are chance."""
    DETAILS = (
        (
            "The numbers",
            """\
JS is the Jensen-Shannon divergence: 0 bits for equal distributions, 1 for ones without a common weight. Wasserstein-1
is how far, in weight, the mass has moved. What is not coloured differs by less than one weight. Where the numbers of
layers differ, columns are matched by depth.""",
        ),
        (
            "Chance",
            """\
What uniform attention, or independent scores of the same variance, would give; where the model that has read this
profile is still there, what it gives with random parameters, and with the same tokens shuffled.""",
        ),
        (
            "The lift, B / A",
            """\
v goes on to it: red where B is so many times as dense as A, blue where A is as many times as dense as B, up to 8 times.
Where both are alike it is grey, or a dot without colours. Nothing is drawn where either has less than about one weight:
of so few no ratio says anything.""",
        ),
    )

    def __init__(
        self, state: State, terminal: Terminal, profile: Profile, marked: Profile | None, chance: Chance
    ) -> None:
        super().__init__(state, terminal)
        self.compared = Compared(profile, marked)
        self.chance = chance
        self._marked = marked
        self.null = self._wanted_null = ""
        self._outdated = threading.Event()
        self._ahead = ColumnsAhead(MOST_KEPT_OF_TWO)
        self._pause: Timer | None = None
        self._drawn_ahead: tuple[Profile, str] | None = None
        self.arrangement = "side by side"
        self.column = self.compared.column_of(state.layer_index)
        self._change: Change | None = None
        self._change_for: tuple[object, ...] = ()
        self._pair: Latest[Pair] = Latest()
        self._drawing: Latest[PairDrawing] = Latest()
        self._two_sided: Latest[Ramp] = Latest()

    def compose_body(self) -> ComposeResult:
        """The pictures, and below them curves and numbers."""
        with Vertical():
            yield Lines(id="picture")
            with Horizontal(id="below"):
                yield Lines(id="curve")
                yield Lines(id="names")
                yield Lines(id="values")
        yield Lines(id="beside")

    def on_mount(self) -> None:
        """Begin with a reference; without one, with chance."""
        super().on_mount()
        if self.compared.reference is None:
            self.action_next_reference()

    def details(self) -> Sequence[Detail]:
        """What more there is to say; of bands where there are some."""
        return (*self.DETAILS, _BANDS) if any(map(has_bands, self.compared.sides)) else self.DETAILS

    # -- what is compared ----------------------------------------------------------------------------------------------

    def pair(self) -> Pair | None:
        """What stands side by side; made anew only when profiles, look or layer have changed."""
        if self.compared.reference is None:
            return None
        pair = self._pair.of((self.compared, self.now.look), self._make_pair)
        self.column = min(max(self.column, 0), pair.n_columns - 1)
        return pair

    def _make_pair(self) -> Pair:
        names = tell_apart(*self.compared.sides)
        one, other = self.compared.subjects(self.now.look)
        pair = Pair(
            self._ahead.columns(one),
            self._ahead.columns(other),
            self.compared.matching(),
            (visible(names[0]), visible(names[1])),
        )
        self._measure(pair)
        return pair

    # -- what a next key may ask for ---------------------------------------------------------------------------------

    def likely_next(self) -> list[Subject]:
        """The columns that the next key may ask for and that need other densities, the most likely ones first."""
        compared, now = self.compared, self.now
        if compared.reference is None:
            return []
        inside = self.column if compared.inside is None else None
        near = replace(compared, inside=inside).subjects(now.look)
        changed = [
            states.next_population(now),
            states.next_sink(now),
            states.switch_axis(now),
            states.next_population(now, -1),
        ]
        looks = [each for state in changed for each in compared.subjects(state.look)]
        null = self.chance.drawn(compared.own, self._next_null())
        # In chance the layers stand by the numbers of the explorer's.
        own_layer = None if compared.inside is None else compared.own_layer(compared.inside)
        chance = [] if null is None else replace(compared, reference=null, inside=own_layer).subjects(now.look)
        return [*near, *chance, *looks]

    def _prepare_soon(self) -> None:
        """Make what the next key may ask for once no key has come for a while."""
        if self._pause is not None:
            self._pause.stop()
        self._pause = self.set_timer(PAUSE, self._prepare)

    def _prepare(self) -> None:
        if self.chance.is_running:  # it takes the cores
            return
        self._ahead.prepare(self.likely_next())
        null = self._next_null()
        if null in COMPUTED_NULLS and self._drawn_ahead != (self.compared.own, null):
            self._drawn_ahead = self.compared.own, null
            self.in_background("chance ahead", partial(self._draw_ahead, null), lambda _drawn: self._prepare())

    def _draw_ahead(self, null: str) -> Profile | None:
        try:
            return self.chance.draw(self.compared.own, null)
        except LaminarError:  # told when it is asked for
            return None

    def _measure(self, pair: Pair) -> None:
        """Measure the distances, unless only colours or the estimator have changed."""
        look = self.now.look
        key = (self.compared, look.population, look.sink)
        if key != self._change_for:
            self._change, self._change_for = None, key
            counts = pair.a.counts[pair.matching.a], pair.b.counts[pair.matching.b]
            # After this is drawn: beside it, both would take longer.
            measure = partial(measure_change, *counts)
            self.call_after_refresh(self.in_background, "change", measure, partial(self._show_change, key))

    def _show_change(self, key: tuple[object, ...], change: Change) -> None:
        """Show the distances, once they are measured, unless something else is compared now; pictures stay."""
        pair = self.pair()
        if pair is not None and key == self._change_for:
            self._change = change
            self._show_numbers(pair)

    # -- drawing -----------------------------------------------------------------------------------------------------

    def two_sided(self) -> Ramp:
        """The colours of the difference, or of the lift, in which alike has a colour too."""
        on_light, terminal, is_lift = not self.is_dark, self.terminal, self.arrangement == "lift"
        options = {"on_light": on_light, "ascii_only": terminal.ascii_only, "has_middle": is_lift}
        return self._two_sided.of((on_light, is_lift), partial(make_two_sided_ramp, terminal.depth, **options))

    def where(self) -> list[str]:
        """The path of the line on top."""
        if self.compared.inside is None:
            return super().where()
        return [*super().where(), f"heads of layer {self.compared.own_layer(self.compared.inside)}"]

    def show_body(self) -> None:
        """Draw title, pictures, curves and numbers."""
        pair = self.pair()
        if pair is None:
            self.show_line("title", ["chance is being drawn" if self._wanted_null else "nothing to compare with"])
            return
        look = self.now.look
        a, b = self.compared.sides
        same = "the same tokens" if a.origin.prompts == b.origin.prompts else "other tokens"
        deeper = "A" if a.n_layers > b.n_layers else "B"
        axis = [f"matched by depth, numbers of {deeper}"] if pair.matching.is_depth else []
        self.update_classes({"-beside": self._is_narrow(pair), "-short": self.size.height < BELOW_FROM})
        *population, estimator = look.facts()
        colors = "colours: B over A" if self.arrangement == "lift" else f"{look.scale} colours"
        self.show_line("title", [*population, *axis, same, estimator, colors])
        self.lines("picture").display_rows(partial(self._draw_pictures, pair))
        self.lines("curve").display_rows(partial(self._draw_curves, pair))
        self._show_numbers(pair)
        self._prepare_soon()

    def _show_numbers(self, pair: Pair) -> None:
        self.lines("names").display_rows(partial(self._draw_part, pair, slice(0, NAME_WIDTH)))
        self.lines("values").display_rows(partial(self._draw_part, pair, slice(NAME_WIDTH, NUMBERS_WIDTH)))
        self.lines("beside").display_rows(partial(self._draw_beside, pair))
        self.show_line("summary", self._summary(pair), "  ")

    def _draw_pictures(self, pair: Pair, width: int, height: int) -> list[Row]:
        made_of = (pair, width, height, self.ramp(), self.two_sided())
        sides, ascii_only = ARRANGEMENTS[self.arrangement], self.terminal.ascii_only
        make = partial(PairDrawing, *made_of, sides=sides, ascii_only=ascii_only)
        return self._drawing.of((*made_of, sides), make).rows(self.column)

    def _is_narrow(self, pair: Pair) -> bool:
        """Whether there is room for the numbers beside the pictures without taking a cell from their columns."""
        all_of_it, rest = self.size.width, self.size.width - NUMBERS_WIDTH - 1
        cells = columns_cells(all_of_it, pair.n_columns, 3)
        return cells == columns_cells(rest, pair.n_columns, 3) and 3 * pair.n_columns * cells < rest - GUTTERS

    def _draw_curves(self, pair: Pair, width: int, height: int) -> list[Row]:
        mode = "ascii" if self.terminal.ascii_only else self.now.mode
        is_colored = self.terminal.depth != "none"
        return pair_curves(pair, self.column, width, height, mode=mode, colored=is_colored, is_dark=self.is_dark)

    def _draw_numbers(self, pair: Pair, width: int, height: int) -> list[Row]:
        lines = number_lines(pair, self.column, self._change, self.compared.statistics(self.column))
        return line_rows(lines, self._place_name(pair), width, height, ascii_only=self.terminal.ascii_only)

    def _draw_part(self, pair: Pair, part: slice, width: int, height: int) -> list[Row]:
        del width
        return [cut_row(row, part.start, part.stop) for row in self._draw_numbers(pair, NUMBERS_WIDTH, height)]

    def _draw_beside(self, pair: Pair, width: int, height: int) -> list[Row]:
        numbers = self._draw_numbers(pair, width, min(height, 8 + len(STATISTICS_SHOWN) + 2))
        if self._change is None or height - len(numbers) < 4:
            return numbers
        word = "layer" if self.compared.inside is None else "head"
        return numbers + ranking_rows(pair, self._change, self.column, width, height - len(numbers), word=word)

    def _place_name(self, pair: Pair) -> str:
        if self.compared.inside is not None:
            return f"head {pair.matching.labels[self.column]}"
        if pair.matching.is_depth:
            return f"layers {pair.matching.a[self.column]}, {pair.matching.b[self.column]}"
        return f"layer {pair.matching.labels[self.column]}"

    def _summary(self, pair: Pair) -> list[str]:
        facts = [self._place_name(pair)]
        if self._change is None:
            return [*facts, "measuring the change"]
        order = self._change.ranking()
        if self.column not in order:
            return [*facts, "cannot be compared: no such weights on one side"]
        facts += [
            f"JS {number(float(self._change.jensen_shannon[self.column]))} bits",
            f"W1 {number(float(self._change.wasserstein[self.column]))}",
            f"change {order.index(self.column) + 1} of {len(order)}",
        ]
        labels = pair.matching.labels
        largest = [f"{labels[at]} ({number(float(self._change.jensen_shannon[at]))})" for at in order[:4]]
        return [*facts, f"largest JS: {largest[0]}", *largest[1:]]

    # -- keys --------------------------------------------------------------------------------------------------------

    def count_columns(self) -> int:
        """How many layers or heads stand side by side; chance has as many layers as what it is made for."""
        pair = self.pair()
        return self.compared.own.n_layers if pair is None else pair.n_columns

    def action_largest(self, step: int) -> None:
        """Go on in the order of change; at first to the largest."""
        order = self._change.ranking() if self._change else []
        if not order:
            return
        rank = order.index(self.column) + step if self.column in order else 0
        if step > 0 and self._change is not None and not self._was_ranked:
            rank = 0
        self._was_ranked = True
        self.go_to(order[min(max(rank, 0), len(order) - 1)])

    _was_ranked = False

    def action_arrange(self, step: int) -> None:
        """Show other pictures."""
        names = list(ARRANGEMENTS)
        self.arrangement = names[(names.index(self.arrangement) + step) % len(names)]
        self.show()

    def action_swap(self) -> None:
        """Make A of B and B of A."""
        if self.compared.reference is not None:
            self.compared = replace(self.compared, is_swapped=not self.compared.is_swapped)
            self._say_reference()
            self.show()

    def action_next_reference(self) -> None:
        """Compare with the next null, and after the last with what was marked."""
        self._wanted_null = self._next_null()
        self._draw_wanted(self._wanted_null)

    def _next_null(self) -> str:
        """The null that comes next; empty for what was marked."""
        names = [*self.chance.titles(self.compared.own), *([""] if self._marked is not None else [])]
        wanted = self._wanted_null
        return names[(names.index(wanted) + 1) % len(names)] if wanted in names else names[0]

    def _draw_wanted(self, null: str) -> None:
        """Draw a null in a thread, or take what was marked; what was being drawn is no longer wanted."""
        self._outdated.set()
        self._outdated = outdated = threading.Event()
        self.say(f"drawing {null}" if null else "")
        draw = partial(self._draw_reference, null, outdated)
        self.in_background("null", draw, partial(self._show_reference, null), self._keep_reference)

    def _draw_reference(self, null: str, outdated: threading.Event) -> Profile | None:
        if not null:
            return self._marked

        def tell(step: Step) -> None:
            done = f" {step.done} of {step.total}" if step.total else ""
            note = f"drawing {null}: {step.name}{done}"
            self.post_message(self.Done(lambda: None if outdated.is_set() else self.say(note)))

        return self.chance.draw(self.compared.own, null, tell, outdated.is_set)

    def on_unmount(self) -> None:
        """Stop what is being drawn, which may hold the model, and what is made ahead."""
        self._outdated.set()
        self._ahead.prepare([])

    def _keep_reference(self) -> None:
        self._wanted_null = self.null
        self.show()

    def _show_reference(self, null: str, reference: Profile | None) -> None:
        """Compare with another profile."""
        self.null = null
        self._outdated.set()  # a step that is told late says nothing any more
        self._say_reference()
        self._compare(reference, self.compared.own)

    def renew(self, profile: Profile) -> None:
        """Compare what the run that has ended has read; chance is drawn anew for it."""
        if not profile.n_read:
            self.dismiss(None)
            return
        self.start, self.now = replace(self.start, profile=profile), replace(self.now, profile=profile)
        self._compare(None if self.null else self.compared.reference, profile)
        if self._wanted_null:
            self._draw_wanted(self._wanted_null)

    def _compare(self, reference: Profile | None, profile: Profile) -> None:
        """Compare other profiles; the layer that one is at stays, wherever its column is now."""
        layer = self.compared.own_layer(self.column if self.compared.inside is None else self.compared.inside)
        self.compared = replace(self.compared, reference=reference, own=profile)
        column = self.compared.column_of(layer)
        if self.compared.inside is None:
            self.column = column
        else:
            self.compared = replace(self.compared, inside=column)
            try:
                self.compared.matching()
            except LaminarError as error:
                self.column, self.compared = column, replace(self.compared, inside=None)
                self.say(f"{error.message}: {error.hint}")
        self.show()

    def _say_reference(self) -> None:
        """Say which side is chance, if one is."""
        more = " · another: Esc M, open it, 5" if self._marked is None else ""
        if self.null == list(COMPUTED_NULLS)[-1] and (why_not := self.chance.why_not_all(self.compared.own)):
            more += f" · {why_not}"
        side = "B" if self.compared.is_swapped else "A"
        self.say(f"{side} is chance: {self.null} · b goes on{more}" if self.null else "")

    def action_open(self) -> None:
        """Open the heads of the layer; in these, the head in the explorer."""
        if self.compared.reference is None:
            return
        if self.compared.inside is not None:
            self.dismiss((self.compared.own_layer(self.compared.inside), self.column))
            return
        problem = self._go_inside(self.column)
        if problem:
            self.say(problem)
        else:
            self.show()

    def _go_inside(self, column: int) -> str:
        """Go to the first of a layer's heads; say why not where they cannot be compared."""
        before, self.compared = self.compared, replace(self.compared, inside=column)
        try:
            self.compared.matching()
        except LaminarError as error:
            self.compared = before
            return f"{error.message}: {error.hint}"
        self.column = 0
        self._was_ranked = False
        return ""

    def find(self, layer: int | None, head: int | None) -> str:
        """Go to the column of a layer; with a head, and among heads, to the heads of that layer."""
        if self.compared.reference is None:
            return "nothing to compare with"
        n_layers = len(self.compared.layers.labels)
        if layer is not None and layer >= n_layers:
            return f"there is no layer {layer}: the last one is {n_layers - 1}"
        here = self.column if self.compared.inside is None else self.compared.inside
        column = here if layer is None else layer
        if head is None and self.compared.inside is None:
            self.go_to(column)
            return ""
        if column != self.compared.inside and (problem := self._go_inside(column)):
            return problem
        n_heads = self.count_columns()
        self.go_to(head or 0)
        return f"the last head is {n_heads - 1}" if head is not None and head >= n_heads else ""

    # -- what it puts out --------------------------------------------------------------------------------------------

    def line_to_copy(self) -> str:
        """The column under the cursor in numbers."""
        pair = self.pair()
        return "  ".join(self._summary(pair)) if pair is not None else ""

    def table(self) -> list[list[str]]:
        """Every column with its distances, and A and B in numbers."""
        pair = self.pair()
        if pair is None:
            return []
        word = "layer" if self.compared.inside is None else "head"
        return change_table(pair, self._change, word)

    def action_back(self) -> None:
        """Go back to the layers; from these to the explorer."""
        inside = self.compared.inside
        if inside is None:
            self.dismiss(None)
            return
        self.column, self.compared = inside, replace(self.compared, inside=None)
        self.show()

    def column_at(self, event: events.Click) -> int | None:
        """The column that was clicked, in one of the pictures."""
        if self._drawing.value is None or event.widget is not self.lines("picture"):
            return None
        return self._drawing.value.column_at(event.x, self.column)

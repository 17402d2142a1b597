"""A model over its training: the steps of a saved sweep as a picture, with one number of them as a curve."""

from dataclasses import replace
from functools import partial
from typing import ClassVar

import numpy as np
from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical

from laminar_tui.profile.measures import Measure
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.sweep import Place, Sweep, sweep_measures
from laminar_tui.profile.sweep_folder import SavedSweep
from laminar_tui.render.columns import Columns
from laminar_tui.render.rows import Row
from laminar_tui.render.sweep import sweep_columns, sweep_recipes
from laminar_tui.render.sweep_screen import SweepDrawing, step_rows, value_text
from laminar_tui.render.text import visible
from laminar_tui.ui.choice import ChoiceDialog
from laminar_tui.ui.column_detour import LOOK_KEYS, ColumnDetour, column_keys
from laminar_tui.ui.detour import BACK_KEYS, COPY_KEYS, PICTURE_KEYS, make_bindings
from laminar_tui.ui.keys import Key
from laminar_tui.ui.latest import Latest
from laminar_tui.ui.scene import Terminal
from laminar_tui.ui.state import State
from laminar_tui.ui.widgets import Lines

LIST_FROM = 120
"""Cells of a screen from which on the list of steps stands beside the picture."""
SWEEP_KEYS = (
    *column_keys("step"),
    Key("open_step", "enter", "Enter", "open", "open this step's profile in the explorer", label="Open step", rank=1),
    Key(
        "layer_on",
        "j,down,right_square_bracket",
        "j",
        "layer(1)",
        "next layer (↓ and ] too); after the last, all",
        "Layer",
        rank=2,
    ),
    Key("layer_back", "k,up,left_square_bracket", "k", "layer(-1)", "previous layer (↑ and [ too)"),
    Key("next_head", "right_curly_bracket", "}", "head(1)", "next head; after the last, all", "Head", rank=3),
    Key("previous_head", "left_curly_bracket", "{", "head(-1)", "previous head"),
    Key("measure", "v", "v", "choose_measure", "choose the number from a list", label="Number", rank=2),
    Key("next_measure", "full_stop,tab", ".", "measure(1)", "next number"),
    Key("previous_measure", "comma,shift+tab", ",", "measure(-1)", "previous number"),
    *LOOK_KEYS,
    Key("curve_mode", "u", "u", "mode", "the curve in braille, quadrants or ASCII"),
    *COPY_KEYS,
    *PICTURE_KEYS,
    *BACK_KEYS,
)


class SweepScreen(ColumnDetour[tuple[Profile, Place]]):
    """The sweep; the result is a step's profile with the layer and head that were looked at.

    Args:
        state: the explorer's; its look is where one begins.
        terminal: what can be shown.
        saved: the profiles.
        place: the layer and head to begin with; both None for all layers.
    """

    NAME = "sweep"
    KEYS = SWEEP_KEYS
    BINDINGS: ClassVar[list[BindingType]] = [*make_bindings(SWEEP_KEYS)]
    READING = """\
Each column is one step of the model's training, drawn as in the overview: all layers together, one layer (j k) or one
head ({ }). The curve below has the same columns and shows one number (v chooses it): where it jumps, training changed
it. Watch the sink share grow and the patch at the top appear."""
    NOT_SAID = """\
Attention is not importance, and a jump is no reason: two steps of one run on one prompt also differ by chance, and a
head may change its place between seeds."""
    DETAILS = (
        (
            "The steps",
            """\
They stand in their order and evenly spaced, whatever lies between them; those without a number in their name (main)
stand last. JS and W1 are the distance to the step before. s leaves the sink out.""",
        ),
    )

    def __init__(self, state: State, terminal: Terminal, saved: SavedSweep, place: Place | None = None) -> None:
        super().__init__(state, terminal)
        self.saved = saved
        start = place or Place()
        self.place = replace(start, population=state.look.population, sink=state.look.sink)
        self.sweep: Sweep | None = None
        self.files: tuple[int, ...] = ()
        self.at = 0
        self.measures: list[Measure] = []
        self._measured = ""
        self._columns: Latest[Columns] = Latest()
        self._drawing: Latest[SweepDrawing] = Latest()

    def compose_body(self) -> ComposeResult:
        """The picture and the curve, and the list beside them."""
        with Vertical():
            yield Lines(id="picture")
            yield Lines(id="number")
            yield Lines(id="curve")
        yield Lines(id="beside")

    def on_mount(self) -> None:
        """Begin to read."""
        super().on_mount()
        self._read(f"reading {len(self.saved.paths)} profiles", self.place)

    def where(self) -> list[str]:
        """The path of the line on top."""
        return [*super().where(), self.place.title()]

    def facts(self) -> list[str]:
        """Whose training it is."""
        if self.sweep is None:
            return []
        models = dict.fromkeys(
            visible(step.origin.model, ascii_only=self.terminal.ascii_only) for step in self.sweep.steps
        )
        return [*sweep_recipes(self.sweep), ", ".join(models), f"{len(self.sweep.steps)} steps"]

    # -- reading -----------------------------------------------------------------------------------------------------

    def _read(self, note: str, place: Place) -> None:
        """Read a place out of all profiles in a thread; what is shown stays until then."""
        self.say(note)
        self.wanted = place
        read = partial(self.saved.read, place, lambda: self.wanted is place and self.is_attached)
        self.in_background("sweep", read, self._show_sweep, self._go_without)

    def _go_without(self) -> None:
        """Stay where one is; a sweep that has not the place to begin with begins with all layers."""
        self.wanted = None
        if self.sweep is None and self.place.layer is not None:
            self.place = replace(self.place, layer=None, head=None)
            self._read("reading all layers", self.place)

    wanted: Place | None = None

    def _show_sweep(self, found: tuple[Sweep, tuple[int, ...]] | None) -> None:
        if found is None:
            return
        is_first = self.sweep is None
        self.sweep, self.files = found
        self.place = self.sweep.place
        self.measures = sweep_measures(self.sweep)
        names = [measure.name for measure in self.measures]
        self.at = names.index(self._measured) if self._measured in names else 0
        if is_first:
            self.at = names.index("sink_share") if "sink_share" in names else 0
            self.column = len(self.files) - 1
        self._measured = names[self.at] if names else ""
        self.say(" · ".join(f"mind: {note}" for note in self.sweep.notes()))
        self.show()

    # -- drawing -----------------------------------------------------------------------------------------------------

    def columns(self, sweep: Sweep) -> Columns:
        """One column a step; made anew only when sweep or look have changed."""
        look, ascii_only = self.now.look, self.terminal.ascii_only
        return self._columns.of((sweep, look), partial(sweep_columns, sweep, look, ascii_only=ascii_only))

    def show_body(self) -> None:
        """Draw title, picture, curve and numbers."""
        sweep = self.sweep
        if sweep is None or not self.measures:
            words = "the profiles are being read" if sweep is None else "on so short a prompt no number is defined"
            self.show_line("title", [words])
            return
        look, measure = self.now.look, self.measures[self.at]
        self.set_class(self.size.width >= LIST_FROM, "-beside")
        self.show_line("title", ["by training step", *look.facts(), f"{look.scale} colours"])
        self.lines("picture").display_rows(partial(self._draw_picture, sweep))
        self.lines("number").display_rows(partial(self._draw_heading, measure))
        self.lines("curve").display_rows(partial(self._draw_curve, sweep, measure))
        self.lines("beside").display_rows(partial(self._draw_list, sweep, measure))
        self.show_line("summary", self._summary(sweep), "  ")

    def _draw_picture(self, sweep: Sweep, width: int, height: int) -> list[Row]:
        return self._drawing_of(sweep, width, height).rows(self.column)

    def _drawing_of(self, sweep: Sweep, width: int, height: int) -> SweepDrawing:
        made_of = (self.columns(sweep), width, height, self.ramp())
        return self._drawing.of(made_of, partial(SweepDrawing, *made_of, ascii_only=self.terminal.ascii_only))

    def _draw_heading(self, measure: Measure, width: int, height: int) -> list[Row]:
        unit = f" ({'%' if measure.is_share else measure.unit})" if measure.unit or measure.is_share else ""
        return self._draw_facts([f"{measure.title}{unit}", measure.description], ": ", width, height)

    def _draw_curve(self, sweep: Sweep, measure: Measure, width: int, height: int) -> list[Row]:
        drawing = self._drawing.value
        if drawing is None or drawing.layout.width != width:
            drawing = self._drawing_of(sweep, width, max(3, self.lines("picture").size.height))
        is_colored = self.terminal.depth != "none"
        return drawing.curve_rows(
            measure, self.column, height, mode=self.now.mode, is_colored=is_colored, is_dark=self.is_dark
        )

    def _draw_list(self, sweep: Sweep, measure: Measure, width: int, height: int) -> list[Row]:
        labels = self.columns(sweep).labels
        return step_rows(sweep, labels, measure, self.column, width, height, ascii_only=self.terminal.ascii_only)

    def _summary(self, sweep: Sweep) -> list[str]:
        step = sweep.steps[self.column]
        measure = self.measures[self.at]
        others = [(at, each) for at, each in enumerate(self.measures) if at != self.at]
        order = ("below", "above", "sink_share", "entropy", "jensen_shannon", "wasserstein")
        others = sorted((pair for pair in others if pair[1].name in order), key=lambda pair: order.index(pair[1].name))
        facts = [f"{visible(step.name)}", f"n {int(step.counts.n):,}"]
        facts += [f"{each.title} {value_text(each, self.column)}" for each in [measure, *(each for _, each in others)]]
        return facts

    # -- keys --------------------------------------------------------------------------------------------------------

    def count_columns(self) -> int:
        """How many steps there are; 0 before that is known."""
        return len(self.files)

    def action_layer(self, step: int) -> None:
        """Go to another layer; before the first and after the last are all of them."""
        sweep = self.sweep
        if sweep is None:
            return
        layers: list[int | None] = [None, *(at for at, n in enumerate(sweep.steps[0].n_heads) if n)]
        layer = layers[(layers.index(self._target.layer) + step) % len(layers)]
        n_heads = 0 if layer is None else sweep.steps[0].n_heads[layer]
        head = self._target.head
        self._look_at(replace(self._target, layer=layer, head=head if head is not None and head < n_heads else None))

    def action_head(self, step: int) -> None:
        """Go to another head of the layer; before the first and after the last are all of them."""
        sweep, layer = self.sweep, self._target.layer
        if sweep is None:
            return
        if layer is None:
            self.say("choose a layer first: j or k")
            return
        heads: list[int | None] = [None, *range(sweep.steps[0].n_heads[layer])]
        head = heads[(heads.index(self._target.head) + step) % len(heads)]
        self._look_at(replace(self._target, head=head))

    @property
    def _target(self) -> Place:
        """What is being read, or is on the screen: keys go on from there."""
        return self.wanted or self.place

    def _look_at(self, place: Place) -> None:
        self._read(f"reading {place.title()}", place)

    def action_measure(self, step: int) -> None:
        """Show another number."""
        if self.measures:
            self._show_measure((self.at + step) % len(self.measures))

    def _show_measure(self, at: int) -> None:
        self.at, self._measured = at, self.measures[at].name
        self.show()

    def _choose(self, name: str | None) -> None:
        names = [each.name for each in self.measures]
        if name in names:
            self._show_measure(names.index(name))
        elif name is not None:
            self.say("these weights have no such number")

    def action_choose_measure(self) -> None:
        """Choose the number from a list."""
        if self.measures:
            choices = [(each.name, each.title, each.description) for each in self.measures]
            self.app.push_screen(ChoiceDialog("the number of each step", choices, self.at), self._choose)

    def line_to_copy(self) -> str:
        """The step under the cursor in numbers."""
        return "  ".join(self._summary(self.sweep)) if self.sweep is not None and self.measures else ""

    def table(self) -> list[list[str]]:
        """Every step with all of its numbers."""
        if self.sweep is None:
            return []
        rows = [
            [step.name, str(int(step.counts.n))]
            + [f"{each.values[at]:.6g}" if np.isfinite(each.values[at]) else "" for each in self.measures]
            for at, step in enumerate(self.sweep.steps)
        ]
        return [["step", "n", *(each.name for each in self.measures)], *rows]

    def look_changed(self) -> None:
        """Read other weights where the look wants them."""
        look = self.now.look
        place = replace(self._target, population=look.population, sink=look.sink)
        if place != self._target:
            self._look_at(place)
        else:
            self.show()

    def action_open(self) -> None:
        """Leave with this step's profile, which is read again if it is not in memory."""
        if self.column < len(self.files):
            name = self.sweep.steps[self.column].name if self.sweep else ""
            self.say(f"opening {name}")
            work = partial(self.saved.profile, self.files[self.column])
            self.in_background("open", work, self._leave_with)

    def _leave_with(self, profile: Profile) -> None:
        self.dismiss((profile, self.place))

    def column_at(self, event: events.Click) -> int | None:
        """The step that was clicked, in the picture or in the curve."""
        if self._drawing.value is None or event.widget not in (self.lines("picture"), self.lines("curve")):
            return None
        return self._drawing.value.column_at(event.x)

"""What each part of the explorer's screen shows: from the state to rows, without a widget.

A `Scene` holds all that a screen is drawn from; every function takes it with the width and the height that the
widget has.
"""

from dataclasses import dataclass

from rich.style import Style

from laminar_tui.profile.density import DEFAULT_GRID
from laminar_tui.render.columns import (
    CURVE_COLOR,
    Columns,
    Look,
    join_fitting,
    line_curves,
    model_facts,
    number,
    picture_facts,
    statistics_lines,
    token_rows,
    top_keys,
)
from laminar_tui.render.curve import Curve
from laminar_tui.render.palette import Ramp
from laminar_tui.render.rows import Depth, Row, merge_runs
from laminar_tui.render.text import fit, visible
from laminar_tui.render.views import draw_column_curves, numbers_line
from laminar_tui.run import Step
from laminar_tui.ui.keys import key_line
from laminar_tui.ui.state import State

BAR_CELLS = 16
BOLD = Style(bold=True)


@dataclass(frozen=True)
class Terminal:
    """What the terminal can show."""

    depth: Depth = "truecolor"
    ascii_only: bool = False

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
    """

    state: State
    columns: Columns | None
    ramp: Ramp
    terminal: Terminal
    band: tuple[float, float] = (0.0, 1.0)
    can_run: bool = False

    @property
    def column(self) -> int:
        """The column under the cursor."""
        return self.state.column


def draw_where(scene: Scene, width: int, height: int) -> list[Row]:
    """The path to where one stands, and the model."""
    del height
    state, terminal = scene.state, scene.terminal
    path = ["laminar"]
    if state.view in ("layer", "head"):
        path.append(f"layer {state.layer_index}")
    if state.view == "head":
        path.append(f"head {state.head_index}")
    if state.view == "lines":
        path.append("all layers' curves")
    left = " " + (" > " if terminal.ascii_only else " › ").join(path)
    facts = model_facts(state.profile) if state.profile else ["no profile yet"]
    room = max(0, width - len(left) - 2)
    right = join_fitting(facts, "  ", room - 1) + " "
    return [terminal.line(left + "  " + terminal.fit(right, room, align="right"), width)]


def draw_title(scene: Scene, width: int, height: int) -> list[Row]:
    """What the picture shows."""
    del height
    state, columns = scene.state, scene.columns
    if columns is None:
        facts = ["attention weights, layer by layer: nothing read yet"]
    elif state.view == "lines":
        colors = "" if scene.terminal.depth == "none" else ": self (violet) and final (orange), late layers dark"
        facts = [f"one curve a layer{colors}", *state.look.facts()[1:]]
    elif state.view == "head":
        facts = picture_facts(columns)[:-1]
    else:
        facts = picture_facts(columns)
    return [scene.terminal.line(" " + join_fitting(facts, " · ", width - 1), width)]


def draw_curve(scene: Scene, width: int, height: int) -> list[Row]:
    """The density curve of the column under the cursor, or those of all layers."""
    state, columns, terminal = scene.state, scene.columns, scene.terminal
    if columns is None or height < 3:
        return []
    curves: list[Curve] = []
    heading = ""
    if state.view == "lines" and state.profile is not None:
        curves = line_curves(state.profile, state.look)
    elif columns.measured[scene.column]:
        curves = [columns.curve(scene.column, "" if terminal.depth == "none" else CURVE_COLOR)]
        kind = "layer" if state.view == "overview" else "head"
        heading = f"density, {kind} {columns.labels[scene.column]}"
    rows: list[Row] = []
    if state.view in ("overview", "layer"):
        rows = [terminal.line(heading, width, align="center")]
    mode = "ascii" if terminal.ascii_only else state.mode
    faintest = columns.faintest(DEFAULT_GRID)
    return rows + draw_column_curves(curves, state.look, width, height - len(rows), mode=mode, faintest=faintest)


def draw_numbers(scene: Scene, width: int, height: int) -> list[Row]:
    """The numbers of the column under the cursor, then those of the layer or head over all queries."""
    state, columns, terminal = scene.state, scene.columns, scene.terminal
    if columns is None or state.profile is None or not state.has_layer:
        return []
    head = state.head_index if state.view in ("layer", "head") else None
    of_all = [("over all queries and keys", "")] if state.look != Look() else []
    pairs = columns.summary(scene.column) + of_all + statistics_lines(state.profile, state.layer_index, head)
    names = max((len(name) for name, value in pairs if value), default=0) + 2
    return [
        merge_runs([(terminal.fit(name, names), None), (terminal.fit(value, max(0, width - names)), BOLD)])
        if value
        else terminal.line(name, width)
        for name, value in pairs[:height]
    ]


def draw_summary(scene: Scene, width: int, height: int) -> list[Row]:
    """One line of numbers for the column under the cursor."""
    del height
    return [scene.terminal.line(text, width)] if (text := summary_text(scene, width)) else []


def summary_text(scene: Scene, width: int) -> str:
    """The line of numbers for the column under the cursor, as many as fit."""
    state, columns = scene.state, scene.columns
    if columns is None or state.view == "lines":
        return ""
    kind = "layer" if state.view == "overview" else "head"
    name = f" {kind} {columns.labels[scene.column]}"
    pairs = columns.summary(scene.column)
    if state.view in ("overview", "layer") and columns.n[scene.column] > 0:
        low, high, n = columns.in_band(scene.column, *scene.band)
        pairs[0] = (f"{n:,} of {columns.n[scene.column]:,} weights in {number(low)}–{number(high)}", "")
    return f"{name}  {numbers_line(pairs, max(0, width - len(name) - 3))}"


def draw_tokens(scene: Scene, width: int, height: int) -> list[Row]:
    """The heading and the last rows: the final token is in sight also where the prompt is long."""
    heading, *rows = all_token_rows(scene, width) or [[]]
    return [heading, *rows[-(height - 1) :]] if height > 1 else [heading]


def all_token_rows(scene: Scene, width: int) -> list[Row]:
    """The keys that the final token looks at most, then the whole prompt on the colours of its weights."""
    state, terminal = scene.state, scene.terminal
    if state.profile is None or not state.has_layer:
        return []
    weights = state.profile.layer(state.layer_index).final_weights
    row = None if weights is None else weights[state.head_index]
    keys = top_keys(state.profile, state.layer_index, state.head_index, 8, ascii_only=terminal.ascii_only)
    line = join_fitting(["final token looks at:", *keys], "  ", width)
    tokens = token_rows(state.profile.origin.tokens, row, scene.ramp, width, ascii_only=terminal.ascii_only)
    return [terminal.line(line, width, BOLD), *tokens]


def draw_keys(scene: Scene, width: int, height: int) -> list[Row]:
    """The keys that matter here."""
    del height
    pieces: list[tuple[str, Style | None]] = [(" ", None)]
    without = frozenset() if scene.can_run else frozenset({"prompt", "again"})
    for shown, label in key_line(scene.state.view, width - 1, without):
        pieces += [(shown, BOLD), (f" {label}  ", None)]
    used = sum(len(text) for text, _ in pieces)
    return [merge_runs([*pieces, (" " * max(0, width - used), None)])]


def progress_text(step: Step, seconds: float, terminal: Terminal) -> str:
    """How far a run is."""
    bar = f"  {_bar(step.done / step.total, terminal.ascii_only)}" if step.total else ""
    unit = "layer " if step.name == "forward" else ""
    progress = f"  {unit}{step.done} of {step.total}" if step.total else ""
    return f"{visible(step.name)}{bar}{progress}  {seconds:.1f} s  Esc stops"


def profile_text(state: State, saved: object, saved_path: str) -> str:
    """What is there: how many layers, what was checked, where it is kept."""
    profile = state.profile
    if profile is None:
        return "nothing to show"
    n_checks = len(profile.origin.checks)
    checked = f"  {n_checks} {'check' if n_checks == 1 else 'checks'} passed (i)" if n_checks else ""
    kept = f"  saved as {visible(saved_path)}" if saved_path and profile is saved else ""
    if profile is not saved:
        kept = "  not saved (w writes)"
    return f"{profile.n_read} of {profile.n_layers} layers  {profile.origin.seconds:.1f} s{checked}{kept}"


def _bar(share: float, ascii_only: bool) -> str:
    full = min(BAR_CELLS, max(0, round(share * BAR_CELLS)))
    filled, empty = ("#", ".") if ascii_only else ("━", "╌")
    return filled * full + empty * (BAR_CELLS - full)

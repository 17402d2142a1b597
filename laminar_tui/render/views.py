"""The table of views, by name: a whole view of a profile as rows, for a printer.

The app lays the same drawings out over widgets; here they are put beside one another.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.segment import Segment

from laminar_tui.profile.density import DEFAULT_GRID
from laminar_tui.profile.profile import Profile
from laminar_tui.render.columns import Columns, Look, head_columns, layer_columns, line_curves
from laminar_tui.render.curve import Curve, Mode, draw_curves
from laminar_tui.render.facts import join_fitting, model_facts, picture_facts, statistics_lines
from laminar_tui.render.frame import View
from laminar_tui.render.heatmap import Drawing, plan, scroll_to
from laminar_tui.render.palette import Ramp
from laminar_tui.render.prompt import moved_keys, token_rows, top_keys
from laminar_tui.render.rows import Row
from laminar_tui.render.text import fit

CURVE_AT_LEAST = 28
"""Cells a curve needs beside the picture."""
NUMBERS_WIDTH = 34
VALUES_FROM = 14
"""Rows of a page from which on there is one for the value norms."""
MOVED_WORDS = "weight × value norm:"
"""Before the keys with the norms of their value vectors."""


@dataclass(frozen=True, eq=False)
class Page:
    """What a view is drawn on.

    Attributes:
        width, height: in cells.
        ramp: colours or glyphs of the densities.
        ascii_only: no character beyond ASCII.
    """

    width: int
    height: int
    ramp: Ramp
    ascii_only: bool = False

    @property
    def mode(self) -> Mode:
        """What curves are made of."""
        return "ascii" if self.ascii_only else "braille"

    def line(self, text: str) -> Row:
        """One line of text over the whole width."""
        return [Segment(fit(text, self.width, ascii_only=self.ascii_only))]

    def facts(self, facts: list[str], separator: str) -> Row:
        """One line of as many facts as fit."""
        return self.line(join_fitting(facts, separator, self.width))


@dataclass(frozen=True)
class Place:
    """Where in the model one stands: a layer and a head, each possibly none."""

    layer: int | None = None
    head: int | None = None


def draw_overview(profile: Profile, look: Look, place: Place, page: Page) -> list[Row]:
    """The layers of the model, and the curve of one of them."""
    return _draw_columns(profile, layer_columns(profile, look), place.layer, page, "layer")


def draw_layer(profile: Profile, look: Look, place: Place, page: Page) -> list[Row]:
    """The heads of a layer, and the curve of one of them."""
    layer = place.layer or 0
    return _draw_columns(profile, head_columns(profile, look, layer), place.head, page, f"layer {layer}, head")


def draw_head(profile: Profile, look: Look, place: Place, page: Page) -> list[Row]:
    """One head: its density curve, its numbers, and the prompt on the colours of the final token's weights."""
    layer, head = place.layer or 0, place.head or 0
    profile.check_head(layer, head)
    columns = head_columns(profile, look, layer)
    tokens = token_rows(
        profile.origin.tokens, _final_row(profile, layer, head), page.ramp, page.width, ascii_only=page.ascii_only
    )
    head_line = page.facts(model_facts(profile, f"layer {layer}, head {head}"), "  ")
    title = page.facts(look.facts(), " · ")
    n_token_rows = min(len(tokens), max(1, (page.height - 12) // 2))
    final = _final_row(profile, layer, head)
    moved = moved_keys(profile, layer, head, final, 8, ascii_only=page.ascii_only)
    values = [page.facts([MOVED_WORDS, *moved], "  ")] if moved and page.height >= VALUES_FROM else []
    rest = page.height - n_token_rows - 4 - len(values)
    numbers = [*columns.summary(head), *statistics_lines(profile, layer, head, ascii_only=page.ascii_only)]
    wide = page.width >= NUMBERS_WIDTH + 40
    curve_width = page.width - (NUMBERS_WIDTH + 2 if wide else 0)
    faintest = columns.faintest(DEFAULT_GRID)
    curve = draw_column_curves([columns.curve(head)], look, curve_width, rest, mode=page.mode, faintest=faintest)
    if wide:
        box = [fit(f"  {name:<22}{value}", NUMBERS_WIDTH + 2, ascii_only=page.ascii_only) for name, value in numbers]
        box += [" " * (NUMBERS_WIDTH + 2)] * (rest - len(box))
        curve = [[*row, Segment(text)] for row, text in zip(curve, box, strict=False)]
    heading = page.facts(
        ["final token looks at:", *top_keys(profile, layer, head, 8, ascii_only=page.ascii_only)], "  "
    )
    closing = page.line(numbers_line(numbers, page.width))
    return [head_line, title, *curve, heading, *values, *tokens[:n_token_rows], closing]


def draw_lines(profile: Profile, look: Look, place: Place, page: Page) -> list[Row]:
    """The curves of all layers over one another, `self` and `final`: what the heatmap is there to replace."""
    del place
    curves = line_curves(profile, look)
    title = f"{len(curves)} curves: each layer's self (violet) and final (orange), late layers dark"
    faintest = layer_columns(profile, look).faintest(DEFAULT_GRID)
    drawn = draw_column_curves(curves, look, page.width, page.height - 2, mode=page.mode, faintest=faintest)
    return [page.facts(model_facts(profile), "  "), page.line(title), *drawn]


ViewFunction = Callable[[Profile, Look, Place, Page], list[Row]]

VIEWS: dict[str, ViewFunction] = {
    "overview": draw_overview,
    "layer": draw_layer,
    "head": draw_head,
    "lines": draw_lines,
}


def numbers_line(pairs: list[tuple[str, str]], width: int) -> str:
    """Write names and values behind one another, as many whole pairs as fit: `mean 0.1  above 0.5: 9.1 %`."""
    return join_fitting([_pair(*each) for each in pairs], "  ", width)


def _pair(name: str, value: str) -> str:
    colon = ":" if value and name[-1].isdigit() else ""  # two numbers beside one another read as one
    return f"{name}{colon} {value}".strip()


def draw_column_curves(
    curves: list[Curve], look: Look, width: int, height: int, *, mode: Mode, faintest: float
) -> list[Row]:
    """Draw density curves on the axes that the look asks for; a log y axis ends a decade below one weight's density.

    Args:
        faintest: the density of a single weight, from `Columns.faintest`.
    """
    method = look.method
    tops = [curve.y if curve.high is None else np.fmax(curve.y, curve.high) for curve in curves]
    top = max((float(each.max(initial=0.0)) for each in tops), default=0.0)
    lowest = max(faintest / 10, top / 1e8)
    if look.scale == "log":
        curves = [replace(curve, y=np.where(curve.y < lowest, np.nan, curve.y)) for curve in curves]
    return draw_curves(
        curves,
        width,
        height,
        x_log=method.is_log,
        y_log=look.scale == "log",
        x_range=look.weights,
        y_range=(lowest, 1.5 * top) if look.scale == "log" and top > lowest else None,
        mode=mode,
        title=f"density by {look.axis_name}",
    )


def _draw_columns(profile: Profile, columns: Columns, chosen: int | None, page: Page, word: str) -> list[Row]:
    top = [page.facts(model_facts(profile), "  "), page.facts(picture_facts(columns), " · ")]
    height = page.height - len(top) - (chosen is not None)
    look = columns.look
    y_range = look.weights
    n_columns = len(columns.labels)

    def layout_for(width: int) -> tuple[Drawing, int]:
        layout = plan(
            width,
            height,
            n_columns,
            y_low=y_range[0],
            y_high=y_range[1],
            y_log=look.method.is_log,
            y_name=look.axis_name,
        )
        drawing = Drawing(columns.heatmap(layout), layout, page.ramp, ascii_only=page.ascii_only)
        return drawing, layout.used_width

    drawing, used = layout_for(page.width if chosen is None else max(page.width * 3 // 5, 20))
    rows = drawing.rows(_view_of(drawing, chosen))
    if chosen is None:
        return [*top, *rows]
    rest = page.width - used - 2
    name = f"{word} {columns.labels[chosen]}: "
    closing = page.line(name + numbers_line(columns.summary(chosen), page.width - cell_len(name)))
    if rest < CURVE_AT_LEAST or not columns.measured[chosen]:
        return [*top, *rows, closing]
    drawing, used = layout_for(used)
    faintest = columns.faintest(DEFAULT_GRID)
    curve = draw_column_curves([columns.curve(chosen)], look, rest, height, mode=page.mode, faintest=faintest)
    rows = drawing.rows(_view_of(drawing, chosen))
    beside = [[*row, Segment("  "), *line] for row, line in zip(rows, curve, strict=True)]
    return [*top, *beside, closing]


def _view_of(drawing: Drawing, chosen: int | None) -> View:
    """The view in which the chosen column is in sight."""
    return View() if chosen is None else View(scroll_to(0, chosen, drawing.layout), chosen)


def _final_row(profile: Profile, layer: int, head: int) -> NDArray[np.float32] | None:
    weights = profile.layer(layer).final_weights
    return None if weights is None else weights[head]

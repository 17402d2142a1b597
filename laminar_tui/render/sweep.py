"""A model over its training: one column a revision, and under the picture a table of the same revisions."""

from itertools import accumulate

import numpy as np
from rich.cells import cell_len

from laminar_tui.profile.counts import HIGH, LOW, stack
from laminar_tui.profile.sweep import Sweep
from laminar_tui.profile.wording import percent
from laminar_tui.render.columns import Columns, Look
from laminar_tui.render.facts import picture_facts, recipe_facts
from laminar_tui.render.frame import View
from laminar_tui.render.heatmap import Drawing, plan
from laminar_tui.render.numbers import number
from laminar_tui.render.rows import Row
from laminar_tui.render.text import fit, visible, wrap
from laminar_tui.render.views import Page

WIDEST_LABEL = 16
"""Cells of a revision's name, which may be of any length."""

NOTE = (
    "Sink share, entropy (nats): means over all queries and heads. JS, W1: Jensen-Shannon and Wasserstein distance to "
    "the step before."
)
_BETWEEN = "  "
HEADINGS = (f"below {LOW}", f"above {HIGH}", "sink share", "entropy", "JS (bits)", "W1")


def sweep_columns(sweep: Sweep, look: Look, at: list[int] | None = None, *, ascii_only: bool = False) -> Columns:
    """Make the columns of a sweep: one a revision, or those that are named."""
    at = list(range(len(sweep.steps))) if at is None else at
    steps = [sweep.steps[index] for index in at]
    return Columns(
        stack([step.counts for step in steps]),
        tuple(_label(sweep.labels[index], ascii_only) for index in at),
        np.array([int(step.counts.n) > 0 for step in steps]),
        look,
    )


def draw_sweep(sweep: Sweep, look: Look, page: Page) -> list[Row]:
    """Draw the picture on a page's height, and the table below it, a line a revision, however many there are."""
    shown = _shown(len(sweep.steps), page.width)
    columns = sweep_columns(sweep, look, shown, ascii_only=page.ascii_only)
    left_out = f"{len(shown)} of {len(sweep.steps)} revisions" if len(shown) < len(sweep.steps) else ""
    models = dict.fromkeys(visible(step.origin.model, ascii_only=page.ascii_only) for step in sweep.steps)
    facts = [*sweep_recipes(sweep), ", ".join(models), sweep.place.title(), "by training step", left_out]
    top = [page.facts([fact for fact in facts if fact], "  "), page.facts(picture_facts(columns), " · ")]
    layout = plan(
        page.width,
        max(4, page.height - len(top)),
        len(shown),
        y_low=look.weights[0],
        y_high=look.weights[1],
        y_log=look.method.is_log,
    )
    drawing = Drawing(columns.heatmap(layout), layout, page.ramp, ascii_only=page.ascii_only)
    return [*top, *drawing.rows(View()), page.line(""), *sweep_table(sweep, page)]


def sweep_recipes(sweep: Sweep) -> list[str]:
    """Say which steps are controls or nulls; of all steps, where they are all of one recipe."""
    steps: dict[str, list[str]] = {}
    for label, step in zip(sweep.labels, sweep.steps, strict=True):
        for fact in recipe_facts(step.origin):
            steps.setdefault(fact, []).append(visible(label))
    n = len(sweep.steps)
    return [fact if len(labels) == n else f"{fact} ({', '.join(labels)})" for fact, labels in steps.items()]


def sweep_table(sweep: Sweep, page: Page) -> list[Row]:
    """Write the numbers of each revision, as many whole columns as fit; the distances are to the line above."""
    lines: list[tuple[str, ...]] = [("step", *HEADINGS)]
    for label, step, *distances in zip(sweep.labels, sweep.steps, sweep.jensen_shannon, sweep.wasserstein, strict=True):
        shares = (percent(step.below), percent(step.above), percent(step.sink_share), number(step.entropy))
        lines.append((_label(label, page.ascii_only), *shares, *(number(float(each)) for each in distances)))
    notes = [NOTE, *(f"Mind: {note}." for note in sweep.notes())]
    wrapped = [line for note in notes for line in wrap(note, page.width)]
    return [*_table_rows(lines, page), page.line(""), *(page.line(line) for line in wrapped)]


def _table_rows(lines: list[tuple[str, ...]], page: Page) -> list[Row]:
    widths = [max(cell_len(cell) for cell in column) for column in zip(*lines, strict=True)]
    n_columns = sum(end <= page.width for end in accumulate(width + len(_BETWEEN) for width in widths))
    rows = []
    for line in lines:
        cells = zip(line[: max(1, n_columns)], widths, strict=False)
        rows.append(
            page.line(
                _BETWEEN.join(fit(cell, width, align="right", ascii_only=page.ascii_only) for cell, width in cells)
            )
        )
    return rows


def _label(text: str, ascii_only: bool) -> str:
    label = visible(text, ascii_only=ascii_only)
    return fit(label, min(cell_len(label), WIDEST_LABEL), ascii_only=ascii_only)


def _shown(n_steps: int, width: int) -> list[int]:
    """Which revisions have a column: all, or as many as fit, evenly spaced, the first and the last among them."""
    room = max(1, plan(width, 10, n_steps).n_visible)
    return sorted({round(each) for each in np.linspace(0, n_steps - 1, min(room, n_steps)).tolist()})

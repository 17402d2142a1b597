"""The report as rows: sentences wrapped to the width, tables with aligned columns."""

import re
from collections.abc import Sequence

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style

from laminar_tui.profile.claims import SATELLITE
from laminar_tui.profile.counts import HIGH, LOW
from laminar_tui.profile.report import CAVEAT, Report
from laminar_tui.profile.wording import between, percent, times
from laminar_tui.render.rows import Row
from laminar_tui.render.text import fit, token_label, visible, wrap

MAX_TEXT_WIDTH = 96
"""Cells of a line of prose: longer ones are hard to read."""
_UNBROKEN = "\xa0"
_TOGETHER = re.compile(r" %|n = \d|\('[^']{0,20}'\)")
"""What stays on one line: a number and its unit, a token in quotes."""
_BOLD = Style(bold=True)
_DIM = Style(dim=True)
_SINK_WORDS = {"with": "", "without": ", no sink", "only": ", sink only"}


def report_rows(report: Report, width: int, *, ascii_only: bool = False) -> list[Row]:
    """Write a report in lines of a width; headings in bold, so that they can be found.

    Args:
        report: from `profile.report.make_report`; its texts are made visible here.
        width: in cells.
    """
    lines: list[tuple[str, Style | None]] = []

    def add(text: str, style: Style | None = None) -> None:
        lines.append((text, style))

    def prose(text: str, bullet: str = "") -> None:
        room = max(20, min(width, MAX_TEXT_WIDTH) - 2 - len(bullet))
        joined = _TOGETHER.sub(lambda found: found.group().replace(" ", _UNBROKEN), text)
        for at, line in enumerate(wrap(joined, room)):
            add(" " + (bullet if at == 0 else " " * len(bullet)) + line.replace(_UNBROKEN, " "))

    def shown(text: str) -> str:
        return visible(text, ascii_only=ascii_only)

    facts = [f"{shown(name)}: {shown(value)}".replace(" ", _UNBROKEN) for name, value in report.facts.items()]
    prose(f"{_UNBROKEN} ".join(facts))
    for title, sentences in report.chapters.items():
        add("")
        add(f" {title}", _BOLD)
        for sentence in sentences:
            prose(shown(sentence), "* " if ascii_only else "• ")
    for title, table in (
        ("Shares of small and large weights, and what chance gives", _fitting_shares_table(report, width - 1)),
        ("The final token's large weights, layer by layer", _satellites_table(report, ascii_only)),
    ):
        if len(table) > 1:
            add("")
            add(f" {title}", _BOLD)
            head, *rows = _aligned(table, width - 1)
            add(f" {head}", _DIM)
            for row in rows:
                add(f" {row}")
    add("")
    add(" What it does not say", _BOLD)
    prose(CAVEAT)
    return [[Segment(fit(text, width, ascii_only=ascii_only), style)] for text, style in lines]


def chapters(rows: Sequence[Row]) -> list[int]:
    """The lines on which a chapter begins."""
    return [0, *(at for at, row in enumerate(rows) if row and row[0].style == _BOLD)]


def _fitting_shares_table(report: Report, room: int) -> list[list[str]]:
    """The table, with the intervals of the lifts where there is room for them."""
    table = _shares_table(report, with_intervals=True)
    return table if max(map(cell_len, _aligned(table, room))) <= room else _shares_table(report)


def _shares_table(report: Report, *, with_intervals: bool = False) -> list[list[str]]:
    nulls = list(dict.fromkeys(each.null for each in report.chance))
    head = ["weights", "layers", "n", f"below {LOW}", f"above {HIGH}"]
    for null in nulls:
        head += [_short(null), "lift"]
    table = [head]
    for each in report.shares:
        if not each.n:
            continue
        row = [
            each.population + _SINK_WORDS[each.sink],
            f"{each.first_layer}-{each.last_layer}",
            f"{each.n:,}",
            percent(each.share_below),
            percent(each.share_above),
        ]
        for null in nulls:
            found = [
                chance
                for chance in report.chance
                if chance.null == null
                and (chance.shares.population, chance.shares.sink) == (each.population, each.sink)
                and (chance.shares.first_layer, chance.shares.last_layer) == (each.first_layer, each.last_layer)
            ]
            row += [percent(found[0].shares.share_above), times(found[0].lift_above)] if found else ["–", "–"]
            if with_intervals and found and found[0].interval_above is not None:
                row[-1] += f" [{between(found[0].interval_above)}]"
        table.append(row)
    said = [at for at in range(len(head)) if len(table) == 1 or any(row[at] != "–" for row in table[1:])]
    return [[row[at] for at in said] for row in table]


def _satellites_table(report: Report, ascii_only: bool) -> list[list[str]]:
    by_layer = {(each.first_layer, each.threshold): each for each in report.layer_satellites}
    table = [["layer", "n", f"above {SATELLITE}", "on key 0", f"above {HIGH}", "on key 0", "other keys"]]
    for layer in sorted({layer for layer, _ in by_layer}):
        high, low = by_layer[layer, SATELLITE], by_layer[layer, HIGH]
        others = [f"{token_label(report.tokens[key], ascii_only=ascii_only)} ({key})" for key in low.keys if key]
        table.append(
            [str(layer), f"{low.n:,}"]
            + [str(value) for value in (high.n_found, high.n_first, low.n_found, low.n_first)]
            + [", ".join(others) or "-"]
        )
    return table


def _aligned(table: Sequence[Sequence[str]], room: int) -> list[str]:
    """Columns under one another: words at the left, numbers at the right; closer where they would be cut off."""
    widths = [max(cell_len(row[at]) for row in table) for at in range(len(table[0]))]
    words = {at for at, title in enumerate(table[0]) if title in ("weights", "other keys")}
    # A list of tokens at the end may be of any length: what does not fit of it is cut off.
    needed = sum(widths[:-1]) + (0 if len(widths) - 1 in words else widths[-1]) + 2 * (len(widths) - 1)
    gap = "  " if needed <= room else " "
    return [
        gap.join(
            fit(cell, width, align="left" if at in words else "right")
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def _short(null: str) -> str:
    return null.split()[0]

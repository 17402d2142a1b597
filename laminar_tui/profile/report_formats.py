"""A report as text: Markdown for people, JSON for programs."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from laminar_tui.profile.claims import SATELLITE, Interval, Shares
from laminar_tui.profile.counts import HIGH, LOW
from laminar_tui.profile.plain import plain
from laminar_tui.profile.report import CAVEAT, Report
from laminar_tui.profile.wording import between, name_layers, percent, times


def report_json(report: Report) -> str:
    """Write a report as JSON: sentences, and every number they are made of."""
    document = asdict(report)
    document["chapters"] = {title: list(sentences) for title, sentences in report.chapters.items()}
    for name in ("shares", "layer_shares"):
        document[name] = [_share_object(each) for each in getattr(report, name)]
    document["chance"] = [asdict(each) | {"shares": _share_object(each.shares)} for each in report.chance]
    document["caveat"] = CAVEAT
    return json.dumps(plain(document), allow_nan=False)


def _share_object(shares: Shares) -> dict[str, Any]:
    return asdict(shares) | {"share_below": shares.share_below, "share_above": shares.share_above}


def report_markdown(report: Report) -> str:
    """Write a report as Markdown: the claims, the sentences, the tables."""
    blocks = [f"# Attention weights of {_escaped(report.facts['model'])}"]
    blocks.append("\n".join(f"* {name}: {_escaped(value)}" for name, value in report.facts.items()))
    for title, sentences in report.chapters.items():
        blocks.append(f"## {title}")
        blocks.append("\n".join(f"* {_escaped(sentence)}" for sentence in sentences))
    blocks += ["## The numbers", _shares_table(report)]
    if report.chance:
        blocks.append(_chance_table(report))
    if report.layer_satellites:
        blocks.append(_satellites_table(report))
    return "\n\n".join([*blocks, CAVEAT]) + "\n"


def _escaped(text: str) -> str:
    """Take the meaning from what Markdown would read as markup, and keep names on one line."""
    one_line = "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
    return "".join(f"\\{each}" if each in "\\`*_[]<>|#" else each for each in one_line)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shares_table(report: Report) -> str:
    rows = [
        [
            each.population,
            each.sink,
            name_layers(each.first_layer, each.last_layer),
            f"{each.n:,}",
            f"{percent(each.share_below)}{_between(each.interval_below)} ({each.below:,})",
            f"{percent(each.share_above)}{_between(each.interval_above)} ({each.above:,})",
        ]
        for each in report.shares
        if each.n
    ]
    table = _table(["population", "sink", "layers", "n", f"below {LOW}", f"above {HIGH}"], rows)
    has_intervals = any(each.interval_below for each in report.shares)
    return table + ("\n\nIn brackets: the 95 % interval over the prompts (bootstrap)." if has_intervals else "")


def _between(interval: Interval | None) -> str:
    low, high = (percent(end) for end in interval or (0.0, 0.0))
    return "" if interval is None else f" [{low} to {high}]"


def _chance_table(report: Report) -> str:
    rows = [
        [
            _escaped(each.null),
            each.shares.population,
            each.shares.sink,
            name_layers(each.shares.first_layer, each.shares.last_layer),
            f"{each.shares.n:,}",
            percent(each.shares.share_below),
            _lift(each.lift_below, each.interval_below),
            percent(each.shares.share_above),
            _lift(each.lift_above, each.interval_above),
        ]
        for each in report.chance
        if each.shares.n
    ]
    head = ["null", "population", "sink", "layers", "n", f"below {LOW}", "lift", f"above {HIGH}", "lift"]
    table = _table(head, rows)
    has_intervals = any(each.interval_below or each.interval_above for each in report.chance)
    return table + ("\n\nIn brackets: the 95 % interval over the prompts, with the null as it is." * has_intervals)


def _lift(lift: float, interval: Interval | None) -> str:
    return times(lift) + (f" [{between(interval)}]" if interval is not None else "")


def _satellites_table(report: Report) -> str:
    by_layer = {(each.first_layer, each.threshold): each for each in report.layer_satellites}
    layers = sorted({layer for layer, _ in by_layer})
    rows = []
    for layer in layers:
        row = [str(layer), f"{by_layer[layer, SATELLITE].n:,}"]
        for threshold in (SATELLITE, HIGH):
            here = by_layer[layer, threshold]
            others = [f"{key}: {_escaped(repr(report.tokens[key]))}" for key in here.keys if key]
            row += [str(here.n_found), str(here.n_first), ", ".join(others) or "-"]
        rows.append(row)
    head = ["layer", "n"]
    for threshold in (SATELLITE, HIGH):
        head += [f"above {threshold}", "on key 0", "other keys"]
    return _table(head, rows)

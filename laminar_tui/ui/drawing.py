"""What each part of the explorer's screen shows: from the state to rows, without a widget.

A `Scene` holds all that a screen is drawn from; every function takes it with the width and the height that the
widget has.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style

from laminar_tui.profile.density import DEFAULT_GRID
from laminar_tui.profile.patterns import Entries
from laminar_tui.profile.values import contributions, norms_of
from laminar_tui.profile.wording import percent
from laminar_tui.render.columns import (
    BAND_SIGN,
    CURVE_COLOR,
    CURVE_COLOR_ON_LIGHT,
    line_curves,
)
from laminar_tui.render.curve import Curve
from laminar_tui.render.entries import draw_entries, exact, sentence
from laminar_tui.render.facts import join_fitting, model_facts, over_words, picture_facts, statistics_lines
from laminar_tui.render.numbers import limit, number
from laminar_tui.render.pattern import FAINTEST, Rows
from laminar_tui.render.prompt import heaviest_keys, moved_keys, taken_keys, token_lines, token_name, token_rows
from laminar_tui.render.rows import Row, merge_runs, row_width
from laminar_tui.render.text import visible
from laminar_tui.render.views import MOVED_WORDS, draw_column_curves, numbers_line
from laminar_tui.run import Step
from laminar_tui.ui.keys import KEYS, NOT_EARLY, key_line, remap
from laminar_tui.ui.scene import Scene, Terminal
from laminar_tui.ui.state import State, order_title

BAR_CELLS = 16
PAIRED_FROM = 68
"""Cells of the box of numbers from which on it has two columns: the curve gets the rows."""
TOKEN_ROWS = 8
"""Rows of the prompt under a head, its heading included."""
LIFTS_FROM = 100
"""Cells from which on each of the keys that a query looks at has room for how many times uniform attention it is."""
MAP_LISTED = 12
"""Tokens that the box beside a map names for its query, and for its key."""
HEAVIEST = ("the query's heaviest keys", "this key's heaviest queries")
BOLD = Style(bold=True)
FAINT = Style(dim=True)


def copied_text(scene: Scene) -> str:
    """What `y` copies: the sentence about the entries where they are walked over, else the line of numbers."""
    if scene.state.listing and scene.entries is not None and scene.asked is not None:
        return sentence(scene.entries, scene.asked)
    return summary_text(scene, 1000).strip()


def draw_where(scene: Scene, width: int, height: int) -> list[Row]:
    """The path to where one stands, and the model."""
    del height
    state, terminal = scene.state, scene.terminal
    path = ["laminar"]
    if state.view in ("layer", "head", "map"):
        path.append(f"layer {state.layer_index}")
    if state.view in ("head", "map"):
        path.append(f"head {state.head_index}")
    if state.view == "map":
        path.append("map")
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
        facts = [f"each layer's curves{colors}", *state.look.facts()[1:]]
    elif state.view == "head":
        facts = picture_facts(columns)[:-1]
    elif state.view == "map":
        what = "share of weight × value norm" if scene.shares else "weight"
        facts = [f"{what} of every key (across) for every query (down)", f"{state.look.scale} colours"]
        if scene.is_last_only:
            facts.insert(0, "a saved profile holds the last query's weights only: r loads its model")
    elif state.view == "layer" and state.order:
        facts = [order_title(state), *picture_facts(columns)]
    else:
        facts = picture_facts(columns)
    return [scene.terminal.line(" " + join_fitting(facts, " · ", width - 1), width)]


def draw_curve(scene: Scene, width: int, height: int) -> list[Row]:
    """The density curve of the column under the cursor with those that are pinned, or the curves of all layers."""
    state, columns, terminal = scene.state, scene.columns, scene.terminal
    if columns is None or height < 3 or state.view == "map":
        return []
    curves: list[Curve] = []
    rows: list[Row] = []
    if state.view == "lines" and state.profile is not None:
        curves = line_curves(state.profile, state.look)
    else:
        curves = list(scene.pins)
        if columns.measured[scene.column]:
            color = CURVE_COLOR if scene.is_dark else CURVE_COLOR_ON_LIGHT
            curve = columns.curve(scene.column, "" if terminal.depth == "none" else color)
            kind = "layer" if state.view == "overview" else "head"
            here = (state.layer_index, None if state.view == "overview" else state.head_index)
            pinned = " (pinned)" if here in state.pins else ""
            curves.append(replace(curve, label=f"{kind} {curve.label}{pinned}"))
        band = columns.band_words(scene.column) if columns.measured[scene.column] else ""
        rows = _legend(curves, band, width, terminal) if curves and (scene.pins or state.is_picture or band) else []
    mode = "ascii" if terminal.ascii_only else state.mode
    faintest = columns.faintest(DEFAULT_GRID)
    return rows + draw_column_curves(curves, state.look, width, height - len(rows), mode=mode, faintest=faintest)


def _legend(curves: list[Curve], band: str, width: int, terminal: Terminal) -> list[Row]:
    """The names of the curves over the plot, the one under the cursor first: a legend inside would hide the peak.

    Args:
        band: what the band around the curve under the cursor is; empty for none.
    """
    *pins, current = curves
    if not pins:
        whole = [f"density, {current.label}, {band}", f"{current.label}, {BAND_SIGN}"] if band else []
        heading = next((words for words in whole if cell_len(words) <= width), f"density, {current.label}")
        return [terminal.line(heading, width, align="center")]
    sign = "*" if terminal.ascii_only else "━"
    names = [f"{sign} {curve.label}" for curve in [current, *pins]]
    between = "  "
    if sum(cell_len(name) + 2 for name in names) > width:
        names = [f"{sign}{curve.label.replace('layer ', 'L').replace('head ', 'H')}" for curve in [current, *pins]]
        between = " "
    pieces: list[tuple[str, Style | None]] = [(" ", None)]
    for name, curve in zip(names, [current, *pins], strict=True):
        pieces.append((name + between, Style.parse(curve.color) if curve.color else None))
    if band and sum(cell_len(text) for text, _ in pieces) + len(BAND_SIGN) <= width:
        pieces.append((BAND_SIGN, Style.parse(current.color) if current.color else None))
    line = merge_runs(pieces)
    rest = width - row_width(line)
    return [[*line, Segment(" " * rest)]] if rest >= 0 else [terminal.line("".join(names), width)]


def draw_numbers(scene: Scene, width: int, height: int) -> list[Row]:
    """The numbers of the column under the cursor, then those of the layer or head over all queries."""
    state, columns, terminal = scene.state, scene.columns, scene.terminal
    if columns is None or state.profile is None or not state.has_layer:
        return []
    if state.view == "map":
        return _pairs(_map_pairs(scene, height), width, height, terminal)
    head = state.head_index if state.view in ("layer", "head") else None
    of_all = [(over_words(state.profile), "")]
    of_column = columns.summary(scene.column)
    of_all += statistics_lines(state.profile, state.layer_index, head, ascii_only=terminal.ascii_only)
    if not (state.is_picture and width >= PAIRED_FROM):
        return _pairs(of_column + of_all, width, height, terminal)
    half = width // 2
    sides = _pairs(of_column, half, height, terminal), _pairs(of_all, width - half, height, terminal)
    blanks: tuple[Row, Row] = [Segment(" " * half)], [Segment(" " * (width - half))]
    return [[*(left or blanks[0]), *(right or blanks[1])] for left, right in zip_longest(*sides)]


def _pairs(pairs: list[tuple[str, str]], width: int, height: int, terminal: Terminal) -> list[Row]:
    """Names and values below one another; a name without a value is a heading."""
    names = max((cell_len(name) for name, value in pairs if value), default=0) + 2
    names = min(names, max(8, width - 8))
    return [
        merge_runs([(terminal.fit(name, names), None), (terminal.fit(value, max(0, width - names)), BOLD)])
        if value
        else terminal.line(name, width, FAINT)
        for name, value in pairs[:height]
    ]


def _map_pairs(scene: Scene, height: int) -> list[tuple[str, str]]:
    """The weight under the crosshair, the keys its query looks at most, the queries that look at its key most."""
    state = scene.state
    if state.profile is None or scene.rows is None:
        return [("looking the weights up", "")]
    query, key, tokens = state.query_index, state.key, state.profile.origin.tokens
    pairs = [
        (f"query {query} {scene.token(query)}", ""),
        (f"key {key} {scene.token(key)}", ""),
        ("weight", "–" if scene.weights is None else exact(float(scene.weights[key]))),
        *_value_pairs(scene),
        (" ", ""),
    ]
    room = min(MAP_LISTED, max(1, (height - len(pairs) - 4) // 2))
    of_query, of_key = ("keys it takes most from", "queries that take most") if scene.shares else HEAVIEST
    shown = scene.query_shares if scene.shares else scene.weights
    pairs += [(of_query, ""), *_heaviest_pairs(scene, shown, room, with_others=True)]
    if not scene.is_last_only:
        given = _column_of(scene.shares or scene.rows, key, len(tokens))
        pairs += [(" ", ""), (of_key, ""), *_heaviest_pairs(scene, given, room)]
    return pairs


def _value_pairs(scene: Scene) -> list[tuple[str, str]]:
    """How long the value vector of the key under the crosshair is, and what share the query's weight makes of it."""
    state = scene.state
    if state.profile is None:
        return []
    found = contributions(state.profile.layer(state.layer_index), state.head_index, scene.weights)
    if found is None:
        return []
    flag = " on little" if found.is_on_little(state.key) else ""
    return [
        ("× value norm", number(float(found.norms[state.key]))),
        ("= share", percent(float(found.shares[state.key])) + flag),
    ]


def _column_of(rows: Rows, key: int, n_tokens: int) -> NDArray[np.float32]:
    """The weights that a key gets, by query; 0 from those that do not see it."""
    weights = np.zeros(n_tokens, np.float32)
    weights[rows.first : rows.first + len(rows.weights)] = np.nan_to_num(rows.weights[:, key])
    weights[:1] = 0  # the first token sees only itself: 1 by construction
    return weights


def _heaviest_pairs(
    scene: Scene, weights: NDArray[np.float32] | None, count: int, *, with_others: bool = False
) -> list[tuple[str, str]]:
    """The tokens with the largest weights, down to where a map's colours begin, and on request the others' sum."""
    if weights is None or scene.state.profile is None:
        return []
    tokens = scene.state.profile.origin.tokens
    order = [int(at) for at in np.argsort(-weights, kind="stable")[:count] if weights[at] >= FAINTEST]
    named = [token_name(tokens[at], ascii_only=scene.terminal.ascii_only) for at in order]
    others = float(np.delete(weights, order).sum())
    written = percent if scene.shares else exact
    rest = [("     others, together", written(others))] if with_others and others >= FAINTEST else []
    return [(f"{at:>4} {name}", written(float(weights[at]))) for at, name in zip(order, named, strict=True)] + rest


def draw_behind(scene: Scene, width: int, height: int) -> list[Row]:
    """The entries behind the crosshair."""
    if scene.asked is None or height < 1:
        return []
    selected = scene.state.entry if scene.state.listing else None
    ascii_only = scene.terminal.ascii_only
    norms = _entry_norms(scene)
    return draw_entries(
        scene.entries, scene.asked, width, height, norms=norms, selected=selected, ascii_only=ascii_only
    )


def _entry_norms(scene: Scene) -> NDArray[np.float64] | None:
    """The value norms of the listed entries' keys, as multiples of their heads' means."""
    state, found = scene.state, scene.entries
    if state.profile is None or found is None:
        return None
    return norms_of(state.profile.layer(state.layer_index), found.head, found.key)


def draw_summary(scene: Scene, width: int, height: int) -> list[Row]:
    """One line of numbers for the column under the cursor."""
    del height
    return [scene.terminal.line(text, width)] if (text := summary_text(scene, width)) else []


def summary_text(scene: Scene, width: int) -> str:
    """The line of numbers for what is under the cursor, as many as fit."""
    state, columns = scene.state, scene.columns
    if columns is None or state.view == "lines":
        return ""
    if state.view == "map":
        return _map_summary(scene, width)
    if state.listing and scene.entries is not None and state.entry < scene.entries.n_shown:
        return _entry_summary(scene, scene.entries, width)
    kind = "layer" if state.view == "overview" else "head"
    name = f" {kind} {columns.labels[scene.column]}"
    pairs = columns.summary(scene.column)
    if state.is_picture and columns.n[scene.column] > 0:
        low, high, n = columns.in_band(scene.column, *scene.band)
        stretch = f"in {number(low)}–{number(high)}"
        if state.threshold is not None:
            n, stretch = columns.count(scene.column, state.threshold, 1.0), f"above {limit(state.threshold)}"
        pairs[0] = (f"{n:,} of {columns.n[scene.column]:,} weights {stretch}", "")
    return f"{name}  {numbers_line(pairs, max(0, width - len(name) - 3))}"


def _entry_summary(scene: Scene, found: Entries, width: int) -> str:
    """The selected entry in words, with how many times uniform attention it is, and its key's value norm."""
    at, norms = scene.state.entry, _entry_norms(scene)
    head, query, key, weight = int(found.head[at]), int(found.query[at]), int(found.key[at]), float(found.weight[at])
    facts = [
        f" head {head}  {_from_to(scene, query, key)}  weight {exact(weight)}",
        f"{number(weight * (query + 1))} × uniform",
    ]
    if norms is not None:
        facts.append(f"× value norm {number(float(norms[at]))}")
    return join_fitting(facts, "  ", width)


def _from_to(scene: Scene, query: int, key: int) -> str:
    arrow = "->" if scene.terminal.ascii_only else "→"
    return f"query {query} {scene.token(query)} {arrow} key {key} {scene.token(key)}"


def _map_summary(scene: Scene, width: int) -> str:
    state, weights = scene.state, scene.weights
    place = f" {_from_to(scene, state.query_index, state.key)}"
    if weights is None:
        why = "not at hand" if scene.is_last_only else "being looked up"
        return f"{place}  weight {why}"
    assert scene.rows is not None
    seen = np.isfinite(scene.rows.weights[state.query_index - scene.rows.first])
    if not seen[state.key]:
        return f"{place}  hidden by the mask"
    weight, shares = float(weights[state.key]), scene.query_shares
    ranked = weights if shares is None else shares
    rank = int((ranked > ranked[state.key]).sum()) + 1
    facts = [f"{place}  weight {exact(weight)}"]
    facts += [] if shares is None else [f"share {percent(float(shares[state.key]))}"]
    facts += [f"rank {rank} of {scene.n_seen}", f"{number(weight * scene.n_seen)} × uniform"]
    return join_fitting(facts, "  ", width)


def draw_tokens(scene: Scene, width: int, height: int) -> list[Row]:
    """The heading, and as much of the prompt around the query as there is room for, with a sign for what is not."""
    state, terminal = scene.state, scene.terminal
    if state.profile is None or not state.has_layer or height < 1:
        return []
    tokens, query = state.profile.origin.tokens, state.query_index
    shown = scene.weights if scene.query_shares is None else scene.query_shares
    rows = token_rows(tokens, shown, scene.ramp, width - 2, ascii_only=terminal.ascii_only, marked=query)
    lines = token_lines(tokens, width - 2, ascii_only=terminal.ascii_only)
    here = next((at for at, line in enumerate(lines) if line and line[0][0] <= query <= line[-1][0]), 0)
    values = _values_heading(scene, width) if height >= 3 else []
    room = min(height - 1 - len(values), len(rows))
    first = min(max(0, here - room // 2), len(rows) - room)
    up, down = (" ^", " v") if terminal.ascii_only else (" ▲", " ▼")
    drawn = []
    for at in range(first, first + room):
        is_cut_above, is_cut_below = at == first and first > 0, at == first + room - 1 and at < len(rows) - 1
        sign = up if is_cut_above else down if is_cut_below else "  "
        drawn.append(merge_runs([*((each.text, each.style) for each in rows[at]), (sign, BOLD)]))
    return [_tokens_heading(scene, width), *values, *drawn]


def _values_heading(scene: Scene, width: int) -> list[Row]:
    """The same keys with the norms of their value vectors: a large weight on nothing is said to be one."""
    state, terminal = scene.state, scene.terminal
    if state.profile is None or state.view != "head" or not state.profile.origin.tokens:
        return []
    moved = moved_keys(
        state.profile, state.layer_index, state.head_index, scene.weights, 8, ascii_only=terminal.ascii_only
    )
    return [terminal.line(join_fitting([MOVED_WORDS, *moved], "  ", width), width)] if moved else []


def _tokens_heading(scene: Scene, width: int) -> Row:
    """Whose weights colour the prompt, and the keys with the largest ones."""
    state, terminal = scene.state, scene.terminal
    assert state.profile is not None
    tokens, query = state.profile.origin.tokens, state.query_index
    if not tokens:
        return terminal.line("several prompts: other tokens in each prompt, so none are shown", width)
    name = "final token" if query == len(tokens) - 1 else f"query {query} {scene.token(query)}"
    if scene.weights is None:
        return terminal.line(f"{name}: its weights are being looked up", width, BOLD)
    if scene.query_shares is not None:
        keys = taken_keys(tokens, scene.weights, scene.query_shares, 8, ascii_only=terminal.ascii_only)
        return terminal.line(join_fitting([f"{name} takes from (share at weight):", *keys], "  ", width), width, BOLD)
    n_seen = scene.n_seen if width >= LIFTS_FROM else 0
    keys = heaviest_keys(tokens, scene.weights, 8, n_seen=n_seen, ascii_only=terminal.ascii_only)
    return terminal.line(join_fitting([f"{name} looks at:", *keys], "  ", width), width, BOLD)


def count_token_rows(scene: Scene, width: int) -> int:
    """How many rows the prompt and its heading want, at most `TOKEN_ROWS`."""
    if scene.state.profile is None:
        return 0
    lines = token_lines(scene.state.profile.origin.tokens, width - 2, ascii_only=scene.terminal.ascii_only)
    return min(1 + len(_values_heading(scene, width)) + len(lines), TOKEN_ROWS)


def draw_keys(scene: Scene, width: int, height: int) -> list[Row]:
    """The keys that matter here."""
    del height
    state = scene.state
    without = {"prompt", "again"} if not scene.can_run else set()
    if state.view == "overview" and not state.listing:
        without.add("out")
    if not state.has_values:
        without.add("values")
    if scene.is_last_only and state.view == "head":
        without.add("next_query")
    if state.look.population == "self" and state.view != "lines":
        without.add("sink")
    if state.profile is None or not state.profile.n_read:
        without |= NOT_EARLY
    elif not state.has_tokens:
        without.add("map")
    keys = remap(KEYS, scene.terminal.keymap)
    return _line_of_keys(key_line(state.view, width - 1, frozenset(without), keys), width)


def draw_find_keys(scene: Scene, width: int, height: int) -> list[Row]:
    """The keys that matter while a goal is typed."""
    del height
    out = next(key for key in remap(KEYS, scene.terminal.keymap) if key.id == "out")
    return _line_of_keys([("Enter", "Go there"), (out.shown, "Back")], width)


def _line_of_keys(keys: Sequence[tuple[str, str]], width: int) -> list[Row]:
    pieces: list[tuple[str, Style | None]] = [(" ", None)]
    for shown, label in keys:
        pieces += [(shown, BOLD), (f" {label}  ", None)]
    used = sum(len(text) for text, _ in pieces)
    return [merge_runs([*pieces, (" " * max(0, width - used), None)])]


def progress_text(step: Step, seconds: float | None, terminal: Terminal, width: int = 1000) -> str:
    """How far a run is, and for how long it has been under way; None for one of another process, that goes on.

    A step's name gives way to what follows it: what is done, and how it is stopped.
    """
    bar = f"  {_bar(step.done / step.total, terminal.ascii_only)}" if step.total else ""
    unit = "layer " if step.name == "forward" else ""
    progress = f"  {unit}{step.done} of {step.total}" if step.total else ""
    progress += f"  {visible(step.more)}" if step.more else ""
    passed = "" if seconds is None else f"  {seconds:.1f} s so far"
    rest = f"{bar}{progress}{passed}  Esc stops{' looking' if seconds is None else ''}"
    name, room = visible(step.name), max(0, width - cell_len(rest))
    return (name if cell_len(name) <= room else terminal.fit(name, room)) + rest


def profile_text(state: State, saved: object, saved_path: str) -> str:
    """What is there: how many layers, what was checked, where it is kept."""
    profile = state.profile
    if profile is None:
        return "nothing to show"
    took = f" read in {profile.origin.seconds:.1f} s" if profile.origin.seconds else " read"
    n_checks = len(profile.origin.checks)
    checked = f"  {n_checks} {'check' if n_checks == 1 else 'checks'} passed (i)" if n_checks else ""
    kept = f"  saved as {visible(saved_path)}" if saved_path and profile is saved else ""
    if profile is not saved:
        kept = "  not saved (w writes)"
    return f"{profile.n_read} of {profile.n_layers} layers{took}{checked}{kept}"


def _bar(share: float, ascii_only: bool) -> str:
    full = min(BAR_CELLS, max(0, round(share * BAR_CELLS)))
    filled, empty = ("#", ".") if ascii_only else ("━", "╌")
    return filled * full + empty * (BAR_CELLS - full)

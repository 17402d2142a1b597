"""The entries behind a cell in words: one sentence that says what they have in common, and a list of them.

An entry is one weight: which head looks from which query token at which key token, and how much.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.style import Style

from laminar_tui.profile.patterns import Entries
from laminar_tui.render.numbers import limit, number
from laminar_tui.render.rows import Row, merge_runs
from laminar_tui.render.text import fit, token_label, wrap

MOST = 0.66
"""From this share on, what the entries have in common is said of 'n of m' of them."""
HEAD_CELLS, WEIGHT_CELLS = 4, 8
NORM_CELLS = LIFT_CELLS = 8
KEY_CELLS = 16
"""Cells of the key with its context that lift and value norm do not take."""
_BOLD, _FAINT, _CHOSEN = Style(bold=True), Style(dim=True), Style(reverse=True)


@dataclass(frozen=True, eq=False)
class Asked:
    """What the entries are the answer to.

    Attributes:
        place: `layer 18`, `layer 18 head 4`.
        low, high: the weights between which they lie.
        is_open: all weights from `low` up, whatever `high` is.
        population: which weights are looked at.
        tokens: the prompt's.
        n_counted: how many weights of the population the counts have there.
        scope: in words, which weights can be looked at.
    """

    place: str
    low: float
    high: float
    is_open: bool
    population: str
    tokens: Sequence[str]
    n_counted: int = 0
    scope: str = ""

    @property
    def stretch(self) -> str:
        """Where on the weight axis, in words: ` above 0.6`, ` in 0.59–0.65`; nothing for all of it."""
        if not self.is_open:
            return f" in {number(self.low)}–{number(self.high)}"
        return f" above {limit(self.low)}" if self.low > 0 else ""


def quoted(tokens: Sequence[str], index: int, *, ascii_only: bool = False) -> str:
    """A token as it stands in a sentence: `'·the'`; the one it continues where it has no text of its own."""
    while index > 0 and not tokens[index]:
        index -= 1
    return f"'{token_label(tokens[index], ascii_only=ascii_only)}'"


def sentence(entries: Entries, asked: Asked, *, ascii_only: bool = False) -> str:
    """Say in one sentence what the entries have in common: `layer 18: all 6 weights above 0.6 are key 0 'The'`."""
    n = entries.n_shown
    if n == 0 and not entries.is_complete and asked.n_counted > 0:
        what = "weight" if asked.n_counted == 1 else "weights"
        return f"{asked.place}: {asked.n_counted:,} {what}{asked.stretch}, whose tokens are not at hand"
    if n == 0:
        return f"{asked.place}: no weight{asked.stretch}"
    what = "weight" if n == 1 else "weights"
    if entries.n > n:
        whole = f"the heaviest {n:,} of {entries.n:,} weights{asked.stretch}"
        each = f"all of {whole}"
    else:
        whole = f"{n:,} {what}{asked.stretch}"
        each = f"the one {what}{asked.stretch}" if n == 1 else f"all {whole}"
    return f"{asked.place}: {_common(entries, asked, each, whole, ascii_only)}"


def _common(entries: Entries, asked: Asked, each: str, whole: str, ascii_only: bool) -> str:
    """What all or most of the entries are."""
    n = entries.n_shown
    verb = "is" if n == 1 else "are"

    def said(count: int, what: str) -> str:
        return f"{each} {verb} {what}" if count == n else f"{count:,} of {whole} {'is' if count == 1 else 'are'} {what}"

    if asked.population == "self":
        return f"{each} {verb} a token's on itself" if n == 1 else f"{each} are tokens' on themselves"
    keys, counts = np.unique(entries.key, return_counts=True)
    top = int(counts.argmax())
    count, key = int(counts[top]), int(keys[top])
    if count >= MOST * n:
        first = ", the first token" if key == 0 else ""
        return said(count, f"key {key} {quoted(asked.tokens, key, ascii_only=ascii_only)}{first}")
    for distance, name in ((0, "a token's own"), (1, "the token before")):
        near = int((entries.query - entries.key == distance).sum())
        if near >= MOST * n and len(np.unique(entries.query)) > 1:
            return said(near, f"on {name}" if distance else "a token's on itself")
    if count == 1:
        heaviest = int(entries.key[0])
        token = quoted(asked.tokens, heaviest, ascii_only=ascii_only)
        return f"{whole} lie on as many keys, the heaviest on {heaviest} {token}"
    often = quoted(asked.tokens, key, ascii_only=ascii_only)
    return f"{whole} lie on {len(keys):,} keys, most often {key} {often} ({count:,})"


def draw_entries(
    entries: Entries | None,
    asked: Asked,
    width: int,
    height: int,
    *,
    norms: NDArray[np.float64] | None = None,
    selected: int | None = None,
    ascii_only: bool = False,
) -> list[Row]:
    """Draw the sentence and the list, heaviest first, so far down that the selected one is in sight.

    Args:
        entries: None while they are looked up.
        asked: what they are the answer to.
        width, height: in cells. Where there is room, each entry has how many times uniform attention it is, w (q + 1).
        norms: [n_shown], the value norms of the entries' keys, as multiples of their heads' means.
        selected: the place of the entry that the keys are on; None where they are elsewhere.

    Returns:
        At most `height` rows of `width` cells.
    """
    if entries is None:
        return [[*merge_runs([(fit(f" {asked.place}: looking the weights up", width, ascii_only=ascii_only), None)])]]
    said = [sentence(entries, asked, ascii_only=ascii_only)]
    lines = [(line, _BOLD) for line in wrap(said[0], width - 2)]
    if not entries.is_complete:
        missing = f"at hand: {asked.scope}"
        if entries.n_shown or not asked.n_counted:
            missing = f"{asked.n_counted:,} such weights were counted; {missing}"
        lines += [(line, _FAINT) for line in wrap(missing, width - 2)]
    rows = [merge_runs([(fit(f" {line}", width, ascii_only=ascii_only), style)]) for line, style in lines]
    room = height - len(rows) - 1
    if room < 1 or entries.n_shown == 0:
        return rows[:height]
    first = min(max(0, (selected or 0) - room // 2), max(0, entries.n_shown - room))
    shown = range(first, min(first + room, entries.n_shown))
    names = [_query_name(asked.tokens, int(entries.query[at]), ascii_only) for at in shown]
    cells = _columns(width, max(map(cell_len, names)))
    numbers: list[tuple[str, list[str]]] = []
    if norms is not None and cells[1] >= KEY_CELLS + NORM_CELLS:
        numbers.append(("× norm", [number(float(norms[at])) for at in shown]))
    if cells[1] >= KEY_CELLS + LIFT_CELLS + NORM_CELLS * len(numbers):
        lifts = [float(entries.weight[at]) * (int(entries.query[at]) + 1) for at in shown]
        numbers.insert(0, ("lift", [number(each) for each in lifts]))
    cells = cells[0], cells[1] - sum(NORM_CELLS for _ in numbers)
    rows.append(_heading(width, cells, shown, entries.n, [name for name, _ in numbers], ascii_only))
    for place, at in enumerate(shown):
        beside = [texts[place] for _, texts in numbers]
        rows.append(_entry_row(entries, asked.tokens, at, beside, width, cells, at == selected, ascii_only))
    return rows


def _columns(width: int, widest: int) -> tuple[int, int]:
    """Cells for the query, as many as the widest name wants, and for the key with its context: the rest."""
    room = max(2, width - HEAD_CELLS - WEIGHT_CELLS - 2)
    query = min(max(widest, len("query")) + 2, 16, max(room // 2, 1))
    return query, room - query


def _query_name(tokens: Sequence[str], query: int, ascii_only: bool) -> str:
    return f"{query} {_label(tokens, query, ascii_only)}"


def _heading(width: int, cells: tuple[int, int], shown: range, n: int, numbers: Sequence[str], ascii_only: bool) -> Row:
    query, key = cells
    name = "key in its context" if key >= 20 else "key"
    part = "weight" if len(shown) == n else f"{shown[0] + 1:,}-{shown[-1] + 1:,} of {n:,}"
    if numbers and len(shown) < n:  # they stand where else it says which of them are in sight
        name, part = f"key, {part}", "weight"
    line = " " + fit("head", HEAD_CELLS + 1) + fit("query", query) + name
    if numbers:
        beside = "".join(fit(each, NORM_CELLS, align="right", ascii_only=ascii_only) for each in numbers)
        line = fit(line, HEAD_CELLS + 2 + query + key) + beside
    if len(line) + len(part) + 2 > width:
        part = "weight"
    return merge_runs([(fit(line, width - len(part) - 1) + part + " ", _FAINT)])


def _entry_row(
    entries: Entries,
    tokens: Sequence[str],
    at: int,
    numbers: Sequence[str],
    width: int,
    cells: tuple[int, int],
    is_selected: bool,
    ascii_only: bool,
) -> Row:
    query_cells, key_cells = cells
    query, key = int(entries.query[at]), int(entries.key[at])
    query_text = _query_name(tokens, query, ascii_only)
    mark = (">" if ascii_only else "►") if is_selected else " "
    pieces: list[tuple[str, Style | None]] = [
        (fit(f"{mark}{int(entries.head[at])}", HEAD_CELLS + 1, ascii_only=ascii_only) + " ", None),
        (fit(query_text, query_cells - 1, ascii_only=ascii_only) + " ", None),
        *_in_context(tokens, key, key_cells, ascii_only),
        *((fit(each, NORM_CELLS - 1, align="right", ascii_only=ascii_only) + " ", None) for each in numbers),
        (fit(exact(float(entries.weight[at])), WEIGHT_CELLS - 1, align="right") + " ", _BOLD),
    ]
    row = merge_runs(pieces)
    used = sum(cell_len(segment.text) for segment in row)
    text = "".join(segment.text for segment in row)
    if is_selected or used > width:
        return merge_runs([(fit(text, width, ascii_only=ascii_only), _CHOSEN if is_selected else None)])
    return merge_runs([*((segment.text, segment.style) for segment in row), (" " * max(0, width - used), None)])


def exact(weight: float) -> str:
    """Write a weight in at most six characters: `0.6983`, `2e-5`; `>.9999` for what is not quite 1."""
    if 0.99995 <= weight < 0.999999:
        return ">.9999"
    return number(weight) if weight < 1e-3 else f"{weight:.4f}"


def _label(tokens: Sequence[str], index: int, ascii_only: bool) -> str:
    return token_label(tokens[index], ascii_only=ascii_only) or ("." if ascii_only else "‥")


def _in_context(tokens: Sequence[str], key: int, width: int, ascii_only: bool) -> list[tuple[str, Style | None]]:
    """The key's number and text, with as much of what stands around it as fits, fainter; `width` cells."""
    name = f"{key} "
    label = fit(_label(tokens, key, ascii_only), max(1, min(width - len(name), 24)), ascii_only=ascii_only).rstrip()
    room = width - len(name) - cell_len(label) - 1
    before = after = ""
    left, right = key - 1, key + 1
    while True:
        grown = False
        if right < len(tokens) and cell_len(token := _label(tokens, right, ascii_only)) <= room:
            after, right, grown, room = after + token, right + 1, True, room - cell_len(token)
        if left >= 0 and cell_len(token := _label(tokens, left, ascii_only)) <= room:
            before, left, grown, room = token + before, left - 1, True, room - cell_len(token)
        if not grown:
            break
    used = len(name) + cell_len(before) + cell_len(label) + cell_len(after)
    return [(name, None), (before, _FAINT), (label, _BOLD), (after, _FAINT), (" " * max(0, width - used), None)]

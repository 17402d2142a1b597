"""The prompt's tokens: each on the colour of its weight, and the heaviest by name."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.style import Style

from laminar_tui.profile.profile import Profile
from laminar_tui.profile.values import HOOKS, contributions
from laminar_tui.profile.wording import percent
from laminar_tui.render.numbers import number
from laminar_tui.render.palette import Ramp, letter_on
from laminar_tui.render.rows import Row, merge_runs
from laminar_tui.render.text import fit, token_label

MARKED = Style(bold=True, underline=True)
"""The query among the tokens."""


def token_rows(
    tokens: Sequence[str],
    weights: NDArray[np.float32] | None,
    ramp: Ramp,
    width: int,
    *,
    ascii_only: bool = False,
    marked: int | None = None,
) -> list[Row]:
    """Write the prompt's tokens one after another, each on the colour of its weight.

    Args:
        tokens: each token's text; an empty one belongs to the character before it.
        weights: [n_tokens]; None writes the tokens without colour.
        ramp: the colours; the scale is logarithmic from a thousandth of the highest weight.
        width: in cells; rows are filled up with blanks.
        marked: the number of a token that is underlined.
    """
    levels = None if weights is None else _token_levels(weights, ramp.n_levels)
    rows = []
    for line in token_lines(tokens, width, ascii_only=ascii_only):
        pieces: list[tuple[str, Style | None]] = []
        for index, label in line:
            style = _token_style(int(levels[index]), ramp) if levels is not None else None
            pieces.append((label, (style or Style()) + MARKED if index == marked else style))
        used = sum(cell_len(label) for _, label in line)
        rows.append(merge_runs([*pieces, (" " * (width - used), None)]))
    return rows


def token_lines(tokens: Sequence[str], width: int, *, ascii_only: bool = False) -> list[list[tuple[int, str]]]:
    """Break the prompt into lines of numbers and labels, each at most `width` cells."""
    lines: list[list[tuple[int, str]]] = [[]]
    used = 0
    for index, token in enumerate(tokens):
        label = token_name(token, ascii_only=ascii_only)
        label = fit(label, min(cell_len(label), width), ascii_only=ascii_only)
        cells = cell_len(label)
        if used + cells > width and used:
            lines.append([])
            used = 0
        lines[-1].append((index, label))
        used += cells
    return lines


def token_name(token: str, *, ascii_only: bool = False) -> str:
    """A token's label, or the sign for one that continues the character before it."""
    return token_label(token, ascii_only=ascii_only) if token else "." if ascii_only else "‥"


def _token_levels(weights: NDArray[np.float32], n_levels: int) -> NDArray[np.int64]:
    weights = np.where(np.isfinite(weights), weights, 0.0)  # a file may hold what no softmax gives
    top = float(weights.max(initial=0.0))
    if top <= 0:
        return np.full(len(weights), -1)
    decades = np.log10(np.maximum(weights / top, 1e-9)) / 3 + 1
    return np.where(decades > 0, np.minimum((decades * n_levels).astype(int), n_levels - 1), -1)


def _token_style(level: int, ramp: Ramp) -> Style | None:
    """The level's colour as the ground, and a letter that can be read on it; without colours, bold for the highest."""
    if level < 0:
        return None
    if not ramp.colors:
        share = level / max(1, ramp.n_levels - 1)
        return Style(reverse=True) if share > 0.8 else Style(bold=True) if share > 0.55 else None
    return letter_on(ramp.colors[level])


def top_keys(profile: Profile, layer: int, head: int, count: int = 5, *, ascii_only: bool = False) -> list[str]:
    """The keys that a head's final token looks at most, heaviest first: `·Paris (5) 0.42`; or why there are none."""
    weights = profile.layer(layer).final_weights
    if weights is None:
        several = profile.origin.n_prompts > 1
        return ["other tokens in each prompt, so none are shown" if several else "its weights are not in this profile"]
    return heaviest_keys(profile.origin.tokens, weights[head], count, ascii_only=ascii_only)


def heaviest_keys(
    tokens: Sequence[str], weights: NDArray[np.float32], count: int, *, n_seen: int = 0, ascii_only: bool = False
) -> list[str]:
    """Name the keys with the largest weights, the heaviest first and none without any: `·Paris (5) 0.42`.

    Args:
        n_seen: how many keys the query sees, to say too how many times uniform attention that is: `0.42 48× uniform`,
            and of all but the first `0.31 36×`.
    """
    order = [key for key in np.argsort(-weights, kind="stable")[:count] if weights[key] > 0]
    lifts = [f" {number(float(weights[key]) * n_seen)}×" if n_seen else "" for key in order]
    lifts[:1] = [f"{each} uniform" for each in lifts[:1] if each] or lifts[:1]
    return [
        f"{token_name(tokens[key], ascii_only=ascii_only)} ({key}) {number(float(weights[key]))}{lift}"
        for key, lift in zip(order, lifts, strict=True)
    ]


def moved_keys(
    profile: Profile,
    layer: int,
    head: int,
    weights: NDArray[np.float32] | None,
    count: int = 5,
    *,
    ascii_only: bool = False,
) -> list[str]:
    """Name the keys with the largest shares of what a query takes in: `·Photos (0) 0.83 × 0.06 → 21.0 % on little`.

    Each is the weight, times the value norm as a multiple of the head's mean, and what w |v| then is of its sum. Large
    weights on little come first. Why there are none, where the model's value vectors cannot be read.
    """
    found = contributions(profile.layer(layer), head, weights)
    if found is None:
        return ["not read: this model is read by hooks"] if profile.origin.mechanism == HOOKS else []
    by_share = [int(key) for key in np.argsort(-found.shares, kind="stable") if found.shares[key] > 0]
    order = sorted(by_share, key=lambda key: not found.is_on_little(key))[:count]
    return [
        f"{token_name(profile.origin.tokens[key], ascii_only=ascii_only)} ({key}) {number(float(found.weights[key]))}"
        f" × {number(float(found.norms[key]))} → {percent(float(found.shares[key]))}"
        + (" on little" if found.is_on_little(key) else "")
        for key in order
    ]


def taken_keys(
    tokens: Sequence[str],
    weights: NDArray[np.float32],
    shares: NDArray[np.float32],
    count: int,
    *,
    ascii_only: bool = False,
) -> list[str]:
    """Name the keys with the largest shares of w |v|, each with its weight: `·Paris (5) 61 % at 0.42`."""
    order = [key for key in np.argsort(-shares, kind="stable")[:count] if shares[key] > 0]
    return [
        f"{token_name(tokens[key], ascii_only=ascii_only)} ({key}) {percent(float(shares[key]))}"
        f" at {number(float(weights[key]))}"
        for key in order
    ]

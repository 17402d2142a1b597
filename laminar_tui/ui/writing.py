"""What leaves a screen: files by the ending of their name, and texts for the clipboard."""

import base64
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from textual.app import App

from laminar_tui.errors import LaminarError, UsageError
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.values import contributions, norms_of
from laminar_tui.render.text import visible
from laminar_tui.source import as_path
from laminar_tui.ui.scene import Scene
from laminar_tui.ui.state import State

MAX_COPIED = 74_000
"""Characters of base64 that are sent at most: several terminals ignore an OSC 52 that is longer than this."""


def file_stem(profile: Profile) -> str:
    """The beginning of a file's name, made of the model's."""
    name = Path(profile.origin.model).name
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in name) or "profile"


def problem_with(suffixes: tuple[str, ...] = ()) -> Callable[[str], str]:
    """Make the function that says what is wrong with a file's name; nothing if it is empty.

    Args:
        suffixes: the endings it may have; any if left out.
    """

    def problem(name: str) -> str:
        try:
            path = as_path(name)
            folder = path.absolute().parent
        except LaminarError as error:
            return visible(error.message)
        except OSError:
            return "the folder that the program was started in is gone: give a whole path"
        if path.is_dir():
            return "this is a folder: add a file name"
        if not folder.is_dir():
            return f"there is no folder {visible(str(path.parent))}"
        if suffixes and path.suffix.lower() not in suffixes:
            return f"end the name with one of {' '.join(suffixes)}"
        if path.exists():
            return "this file exists: Enter once more replaces it"
        return "" if os.access(folder, os.W_OK) else "this folder cannot be written to"

    return problem


def export_by_name(state: State, name: str) -> None:
    """Write an export whose format is the ending of the name; a figure has the stretch, order and colours of the state.

    A figure's ground is white, so that dense is dark in it, and its colour scale is the logarithmic one.

    Raises:
        UsageError: for an ending of no format, and for all that `export_profile` raises.
    """
    from laminar_tui.export import EXPORTS, export_profile

    profile, look = state.profile, state.look
    assert profile is not None
    layer = None if state.view in ("overview", "lines") else state.layer_index
    path = as_path(name)
    formats = {each.suffix: each.name for each in EXPORTS.values()}
    if path.suffix.lower() not in formats:
        raise UsageError(f"no format ends in '{path.suffix}'", f"end the name with one of {' '.join(formats)}")
    export_profile(
        profile,
        formats[path.suffix.lower()],
        path,
        estimator=look.estimator,
        population=look.population,
        sink=look.sink,
        layer=layer,
        color_map=state.color_map,
        window=look.window,
        heads=None if layer is None else tuple(state.heads),
    )


def table(scene: Scene) -> list[list[str]]:
    """The table behind a screen, its heading first: entries, layers or heads in numbers, or a query's weights."""
    state = scene.state
    if state.profile is None:
        return []
    tokens = state.profile.origin.tokens
    if state.listing and scene.entries is not None:
        found = scene.entries
        places = zip(found.head.tolist(), found.query.tolist(), found.key.tolist(), strict=True)
        numbers = {"weight": found.weight, "lift": found.weight * (found.query + 1)}
        norms = norms_of(state.profile.layer(state.layer_index), found.head, found.key)
        named = [[str(h), str(q), tokens[q], str(k), tokens[k]] for h, q, k in places]
        heading = ["head", "query", "query_token", "key", "key_token"]
        return _beside(heading, named, numbers if norms is None else {**numbers, "value_norm": norms})
    if state.view in ("head", "map"):
        weights = scene.weights
        if weights is None:
            return []
        rows_of = range(state.query_index + 1)
        numbers = {"weight": weights, "lift": weights * scene.n_seen}
        taken = contributions(state.profile.layer(state.layer_index), state.head_index, weights)
        if taken is not None:
            numbers |= {"value_norm": taken.norms, "share": taken.shares}
        return _beside(["key", "token"], [[str(k), tokens[k]] for k in rows_of], numbers)
    return _columns_table(scene)


def _beside(heading: list[str], rows: list[list[str]], numbers: Mapping[str, NDArray[Any]]) -> list[list[str]]:
    """Put columns of numbers beside a table that is in words so far."""
    texts = [[f"{value:.6g}" for value in values[: len(rows)].tolist()] for values in numbers.values()]
    return [[*heading, *numbers], *([*row, *more] for row, *more in zip(rows, *texts, strict=True))]


def _columns_table(scene: Scene) -> list[list[str]]:
    columns = scene.columns
    if columns is None:
        return []
    counts = columns.counts
    numbers = counts.summary() | {"max": counts.quantile(1.0)}
    n = numbers.pop("n")
    heading = ["layer" if scene.state.view in ("overview", "lines") else "head", "n", *numbers]
    return [
        heading,
        *(
            [columns.labels[at], str(n[at]), *(f"{values[at]:.6g}" for values in numbers.values())]
            for at in np.flatnonzero(columns.measured)
        ),
    ]


def copy(app: App[None], text: str, said: str) -> str:
    """Put a text into the terminal's clipboard (OSC 52); give what is to be said of it."""
    app.copy_to_clipboard(text)
    in_tmux = "; tmux passes it on with: set -g set-clipboard on" if "TMUX" in os.environ else ""
    return said + in_tmux


def copy_table(app: App[None], rows: list[list[str]]) -> str:
    """Put a table, its heading first, into the clipboard with tabs between its columns; give what is to be said."""
    text, n_rows = as_tsv(rows)
    if n_rows < 2:
        return "there is no table to copy here"
    if n_rows < len(rows):
        said = f"copied the first {n_rows - 1:,} of {len(rows) - 1:,} rows: a terminal takes no more"
    else:
        said = f"copied {n_rows - 1:,} rows"
    return copy(app, text, said)


def as_tsv(rows: list[list[str]]) -> tuple[str, int]:
    """Write a table with tabs, as much as a terminal takes into the clipboard; how many rows that is."""
    lines: list[str] = []
    size = 0
    for row in rows:
        line = "\t".join(visible(cell) for cell in row) + "\n"
        size += len(line.encode("utf-8", "replace"))
        if len(base64.b64encode(b"x" * size)) > MAX_COPIED:
            break
        lines.append(line)
    return "".join(lines), len(lines)

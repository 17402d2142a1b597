"""What a profile can be written as: arrays, JSON, a table, a figure. One function and one line in EXPORTS each.

The same profile gives the same bytes, so that files can be compared.
"""

import csv
import dataclasses
import io
import json
import math
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from laminar_tui.errors import UsageError
from laminar_tui.files import write_bytes
from laminar_tui.profile.counts import Counts
from laminar_tui.profile.density import DEFAULT_GRID, estimate_density, find_estimator
from laminar_tui.profile.parts import POPULATIONS, SINK_CHOICES, SinkChoice, population_parts
from laminar_tui.profile.plain import plain
from laminar_tui.profile.profile import LayerProfile, Profile
from laminar_tui.render.columns import Look, color_range, head_columns, layer_columns
from laminar_tui.render.facts import recipe_facts, size_words
from laminar_tui.render.figure import Figure, lay_out
from laminar_tui.render.palette import check_color_map
from laminar_tui.render.png import to_png
from laminar_tui.render.svg import to_svg
from laminar_tui.render.text import fit, visible

Float64 = NDArray[np.float64]
Arrays: TypeAlias = Iterator[tuple[str, NDArray[Any]]]

STDOUT = "-"
DEFAULT_EXPORT_ESTIMATOR = "gaussian"
DEFAULT_POPULATION = "final"
DEFAULT_COLOR_MAP = "magma"

FIGURE_CELLS = 200
"""Of a figure's column: what the density is averaged over."""
MODEL_ROOM = 40
"""Characters of a figure's subtitle that a model's name may take."""
REVISION_ROOM = 24
"""The same for its revision, with the `@`: the names of training steps fit, a commit is cut."""

_SINK_TITLES: dict[SinkChoice, str] = {"with": "", "without": ", without the sink", "only": ", the sink alone"}
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class ExportOptions:
    """What is exported; each format reads what it needs.

    Attributes:
        estimator: a name in `ESTIMATORS` (all but csv).
        n_grid: points of the density (npz, json).
        population, sink: what a figure shows (svg, png); the other formats hold all of them.
        layer: a figure shows the heads of this layer; all layers, heads pooled, where None.
        color_map: of a figure; a name in `COLOR_MAPS`.
        window: the stretch of the estimator's axis that a figure shows; None for all of it.
        heads: of the layer, in the order in which a figure shows them; all by their numbers where None.
    """

    estimator: str = DEFAULT_EXPORT_ESTIMATOR
    n_grid: int = DEFAULT_GRID
    population: str = DEFAULT_POPULATION
    sink: SinkChoice = "with"
    layer: int | None = None
    color_map: str = DEFAULT_COLOR_MAP
    window: tuple[float, float] | None = None
    heads: tuple[int, ...] | None = None


@dataclass(frozen=True)
class ExportFormat:
    """A kind of file that a profile can be written as; `reads` are the names of the options that it heeds."""

    name: str
    suffix: str
    description: str
    function: Callable[[Profile, ExportOptions], bytes]
    reads: tuple[str, ...]


def export_profile(
    profile: Profile,
    to: str,
    path: str | Path,
    *,
    estimator: str = DEFAULT_EXPORT_ESTIMATOR,
    n_grid: int = DEFAULT_GRID,
    population: str = DEFAULT_POPULATION,
    sink: SinkChoice = "with",
    layer: int | None = None,
    color_map: str = DEFAULT_COLOR_MAP,
    window: tuple[float, float] | None = None,
    heads: tuple[int, ...] | None = None,
) -> None:
    """Write a profile in another format, so that a failure leaves an old file whole.

    Args:
        profile: at least one layer of it read.
        to: a name in `EXPORTS`.
        path: the file; `-` for the standard output.
        estimator, n_grid, population, sink, layer, color_map, window, heads: see `ExportOptions`.

    Raises:
        UsageError: for an unknown name, a layer that does not exist, an empty profile, a missing library, or a
            file that cannot be written.
    """
    options = ExportOptions(estimator, n_grid, population, sink, layer, color_map, window, heads)
    payload = export_bytes(profile, to, options)
    if str(path) == STDOUT:
        sys.stdout.buffer.write(payload)
        sys.stdout.buffer.flush()
    else:
        write_bytes(Path(path), payload)


def export_bytes(profile: Profile, to: str, options: ExportOptions | None = None) -> bytes:
    """Give the bytes of an export; the errors are those of `export_profile`."""
    options = options or ExportOptions()
    if to not in EXPORTS:
        raise UsageError(f"there is no export format '{to}'", f"choose one of: {', '.join(EXPORTS)}")
    find_estimator(options.estimator)
    population_parts(options.population, options.sink)
    check_color_map(options.color_map)
    if not profile.n_read:
        raise UsageError("the profile holds no attention weights", "capture it again, and let it read a layer")
    return EXPORTS[to].function(profile, options)


def _populations() -> list[tuple[str, SinkChoice]]:
    return list(product(POPULATIONS, SINK_CHOICES))


# -- npz -------------------------------------------------------------------------------------------------------------


def to_npz(profile: Profile, options: ExportOptions) -> bytes:
    """Write everything as float64 arrays, which `numpy.load` reads without pickle.

    Holds `grid` [n_grid]; for every population P and sink choice S `density_layer.P.S` [n_layers, n_grid],
    `density_head.P.S` [n_layers, n_heads, n_grid], `n.P.S`, `total.P.S`, `total_sq.P.S` [n_layers, n_heads],
    `bandwidth_layer.P.S` [n_layers], `bandwidth_head.P.S` [n_layers, n_heads]; `stat.NAME` [n_layers, n_heads];
    `tokens`, `token_ids` [n_tokens]; `estimator`, `model` []; where value vectors were seen, `value_norms`
    [n_layers, n_heads, n_tokens], the length of the one that each key's weight multiplies. Densities and bandwidths
    are those of `Profile.density`: NaN where a layer was not read, or has no such head.
    """
    payload = io.BytesIO()
    with zipfile.ZipFile(payload, "w", zipfile.ZIP_DEFLATED, compresslevel=4) as archive:
        for name, array in _arrays(profile, options):
            # numpy.savez would write the time of day into the archive.
            member = zipfile.ZipInfo(f"{name}.npy", _ZIP_DATE)
            member.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    return payload.getvalue()


def _arrays(profile: Profile, options: ExportOptions) -> Arrays:
    origin = profile.origin
    yield "estimator", np.array(options.estimator)
    yield "model", np.array(origin.model)
    yield "tokens", np.array(origin.tokens, dtype=np.str_)
    yield "token_ids", np.array(origin.token_ids, dtype=np.int64)
    yield "grid", estimate_density(Counts.empty(), options.estimator, options.n_grid).grid
    for name, values in profile.statistics.items():
        yield f"stat.{name}", values
    norms = _value_norms(profile)
    if norms is not None:
        yield "value_norms", norms
    for population, sink in _populations():
        for name, array in _population_arrays(profile, options, population, sink).items():
            yield f"{name}.{population}.{sink}", array


def _value_norms(profile: Profile) -> Float64 | None:
    """Each key's value norm, [n_layers, n_heads, n_tokens], NaN where it was not seen; None where it was nowhere."""
    found = [None if layer is None else layer.value_norms for layer in profile.layers]
    if all(norms is None for norms in found):
        return None
    table = np.full((profile.n_layers, profile.n_heads, profile.n_tokens), np.nan)
    for row, norms in zip(table, found, strict=True):
        if norms is not None:
            row[: len(norms)] = norms
    return table


def _population_arrays(
    profile: Profile, options: ExportOptions, population: str, sink: SinkChoice
) -> dict[str, NDArray[Any]]:
    """Fill the arrays of one population layer by layer: dense bins take 123 KB a head."""
    shape = (profile.n_layers, profile.n_heads)
    arrays: dict[str, NDArray[Any]] = {
        "density_layer": np.full((profile.n_layers, options.n_grid), np.nan),
        "density_head": np.full((*shape, options.n_grid), np.nan),
        "n": np.zeros(shape, np.int64),
        "total": np.zeros(shape),
        "total_sq": np.zeros(shape),
        "bandwidth_layer": np.full(profile.n_layers, np.nan),
        "bandwidth_head": np.full(shape, np.nan),
    }
    for index, layer in enumerate(profile.layers):
        if layer is None:
            continue
        heads = layer.head_counts(population, sink)
        pooled = estimate_density(layer.layer_counts(population, sink), options.estimator, options.n_grid)
        each = estimate_density(heads, options.estimator, options.n_grid)
        rows = (index, slice(0, layer.n_heads))
        arrays["density_layer"][index] = pooled.values
        arrays["bandwidth_layer"][index] = pooled.bandwidth
        arrays["density_head"][rows] = each.values
        arrays["bandwidth_head"][rows] = each.bandwidth
        arrays["n"][rows], arrays["total"][rows], arrays["total_sq"][rows] = heads.n, heads.total, heads.total_sq
    return arrays


# -- JSON and CSV ----------------------------------------------------------------------------------------------------


def to_json(profile: Profile, options: ExportOptions) -> bytes:
    """Write origin, densities by layer and numbers by head as JSON.

    `populations.P.S` is a list with one object per layer; its numbers and its density are null where the layer was
    not read. `value_norms` is there where value vectors were seen: a list by layer, head and key. Numbers have six
    significant digits.
    """
    estimator = find_estimator(options.estimator)
    norms = _value_norms(profile)
    document = {
        "origin": dataclasses.asdict(profile.origin),
        "estimator": {"name": estimator.name, "title": estimator.title, "log10": estimator.is_log},
        "grid": estimate_density(Counts.empty(), options.estimator, options.n_grid).grid,
        "populations": _by_population(profile, options),
        "statistics": profile.statistics,
        **({} if norms is None else {"value_norms": norms}),
    }
    return (dump_json(document) + "\n").encode()


def profile_summary(profile: Profile) -> str:
    """Write what `to_json` does without the densities, for a person or a script: one line of JSON."""
    return dump_json(
        {
            "origin": dataclasses.asdict(profile.origin),
            "populations": _by_population(profile, None),
            "statistics": profile.statistics,
        }
    )


def _by_population(profile: Profile, options: ExportOptions | None) -> dict[str, dict[str, Any]]:
    populations: dict[str, dict[str, Any]] = {population: {} for population in POPULATIONS}
    for population, sink in _populations():
        rows = populations[population][sink] = []
        for layer in profile.layers:
            counts = Counts.empty() if layer is None else layer.layer_counts(population, sink)
            rows.append({**counts.summary(), **(_density_object(layer, counts, options) if options else {})})
    return populations


def _density_object(layer: LayerProfile | None, counts: Counts, options: ExportOptions) -> dict[str, Any]:
    if layer is None:
        return {"bandwidth": None, "density": None}
    density = estimate_density(counts, options.estimator, options.n_grid)
    return {"bandwidth": density.bandwidth, "density": density.values}


def dump_json(document: dict[str, Any]) -> str:
    """Write one line of JSON that any program reads, its numbers with six digits."""
    return json.dumps(plain(document, 6), allow_nan=False, separators=(",", ":"))


def to_csv(profile: Profile, _options: ExportOptions) -> bytes:
    """Write one row per layer and head that was read: every statistic, and each population in five numbers.

    Where value vectors were seen, also the mean of the keys' value norms and that of the first key.
    Six significant digits; an empty cell where a number is not defined.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    statistics = profile.statistics
    names = [f"{population}.{sink}.{name}" for population, sink in _populations() for name in Counts.empty().summary()]
    norms = _value_norms(profile)
    of_norms = [] if norms is None else ["value_norm.mean", "value_norm.first_key"]
    table.writerow(["layer", "head", *statistics, *names, *of_norms])
    for index, layer in enumerate(profile.layers):
        if layer is None:
            continue
        columns = [values[index, : layer.n_heads] for values in statistics.values()]
        for population, sink in _populations():
            columns += layer.head_counts(population, sink).summary().values()
        if norms is not None:
            rows = norms[index, : layer.n_heads]
            columns += [rows.mean(axis=-1), rows[:, 0]]
        for head, row in enumerate(zip(*columns, strict=True)):
            table.writerow([index, head, *(_cell(value) for value in row)])
    return text.getvalue().encode()


def _cell(value: np.generic) -> str:
    number = value.item()
    if isinstance(number, int):
        return str(number)
    return f"{number:.6g}" if math.isfinite(number) else ""


# -- figures ---------------------------------------------------------------------------------------------------------


def to_svg_file(profile: Profile, options: ExportOptions) -> bytes:
    """Draw the figure as SVG."""
    return to_svg(lay_out(make_figure(profile, options))).encode()


def to_png_file(profile: Profile, options: ExportOptions) -> bytes:
    """Draw the figure as PNG; needs Pillow."""
    return to_png(lay_out(make_figure(profile, options)))


def make_figure(profile: Profile, options: ExportOptions) -> Figure:
    """Make the heatmap of one population: layers from left to right, or the heads of one layer."""
    population, sink, layer = options.population, options.sink, options.layer
    estimator = find_estimator(options.estimator)
    look = Look(population, sink, options.estimator, window=options.window)
    columns = layer_columns(profile, look) if layer is None else head_columns(profile, look, layer, options.heads)
    density = columns.densities(FIGURE_CELLS)
    low, high = color_range(density, columns.faintest(FIGURE_CELLS), look.scale)
    return Figure(
        density=density,
        low=low,
        high=high,
        x_labels=list(columns.labels),
        title=POPULATIONS[population].title + _SINK_TITLES[sink],
        subtitle=_subtitle(profile, estimator.title, columns.n),
        x_title="layer" if layer is None else f"head of layer {layer}",
        y_title="attention weight",
        bar_title="density per decade of weight" if estimator.is_log else "density per unit weight",
        y_low=look.low,
        y_high=look.high,
        y_log=estimator.is_log,
        color_map=options.color_map,
    )


def _subtitle(profile: Profile, estimator: str, n: NDArray[np.int64]) -> str:
    path = Path(profile.origin.model)
    model = fit(visible(path.name if path.is_absolute() else profile.origin.model), MODEL_ROOM).rstrip()
    revision = fit(f"@{visible(profile.origin.revision)}", REVISION_ROOM).rstrip() if profile.origin.revision else ""
    least, most = int(n[n > 0].min(initial=n.max())), int(n.max())
    weights = f"{most:,}" if least == most else f"{least:,} to {most:,}"
    return " · ".join(
        [
            *recipe_facts(profile.origin),
            f"{model}{revision} · {size_words(profile)} · n = {weights} a column · {estimator}",
        ]
    )


_GRID = ("estimator", "n_grid")
_FIGURE = ("estimator", "population", "sink", "layer", "color_map", "window", "heads")

EXPORTS: dict[str, ExportFormat] = {
    export.name: export
    for export in (
        ExportFormat("npz", ".npz", "all densities, counts' sums and numbers as numpy arrays", to_npz, _GRID),
        ExportFormat("json", ".json", "origin, densities by layer, numbers by head", to_json, _GRID),
        ExportFormat("csv", ".csv", "a table: one row per layer and head", to_csv, ()),
        ExportFormat("svg", ".svg", "the heatmap of one population as a vector figure", to_svg_file, _FIGURE),
        ExportFormat(
            "png", ".png", "the heatmap of one population as an image (needs the extra png)", to_png_file, _FIGURE
        ),
    )
}

"""From a profile to what is drawn: the columns of a picture, its colours, its curve, its numbers, its words.

The app and `laminar-tui show` draw from the same functions, so they cannot disagree.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.style import Style

from laminar_tui.profile.counts import BIN_VALUES, SMALLEST_COUNTED, Counts
from laminar_tui.profile.density import DEFAULT_ESTIMATOR, DEFAULT_GRID, Estimator, Nodes, find_estimator
from laminar_tui.profile.parts import POPULATIONS, SinkChoice
from laminar_tui.profile.profile import LayerProfile, Profile
from laminar_tui.profile.statistics import STATISTICS
from laminar_tui.profile.values import HOOKS, contributions
from laminar_tui.render.curve import Curve
from laminar_tui.render.heatmap import Heatmap, Layout
from laminar_tui.render.palette import Ramp, Scale
from laminar_tui.render.rows import Row, merge_runs
from laminar_tui.render.text import fit, token_label, visible

MAX_DECADES = 6.0
"""The most that the logarithmic colour scale spans below its top."""

CURVE_COLOR = "#3fa7d6"
SELF_COLORS = ("#b7a1e0", "#5b3a9e")
FINAL_COLORS = ("#f2c14e", "#b5420f")

MARKED = Style(bold=True, underline=True)
"""The query among the tokens."""

SINK_WORDS: dict[str, str] = {"with": "with sink", "without": "sink left out", "only": "sink alone"}


@dataclass(frozen=True)
class Look:
    """What of a profile is looked at, and how it becomes colour.

    Attributes:
        population, sink, estimator: names in `POPULATIONS`, `SINK_CHOICES`, `ESTIMATORS`.
        scale: density -> colour, and the curve's y axis.
        per_column: each column has its own top colour.
        window: the stretch of the estimator's axis that is shown; None for all of it.
    """

    population: str = "final"
    sink: SinkChoice = "with"
    estimator: str = DEFAULT_ESTIMATOR
    scale: Scale = "log"
    per_column: bool = False
    window: tuple[float, float] | None = None

    @property
    def low(self) -> float:
        """Where the axis begins: a weight, or its log10."""
        return self.window[0] if self.window else self.method.low

    @property
    def high(self) -> float:
        """Where the axis ends: a weight, or its log10."""
        return self.window[1] if self.window else self.method.high

    @property
    def weights(self) -> tuple[float, float]:
        """The weights at the two ends of the axis."""
        return self.weight_at(0.0), self.weight_at(1.0)

    def weight_at(self, place: float) -> float:
        """The weight at a place of the axis, 0 at its lower end to 1."""
        return weight_at(self.low + place * (self.high - self.low), self.method)

    def place_of(self, weight: float) -> float:
        """The place of a weight on the axis: below 0 or above 1 where it is not shown."""
        position = (math.log10(weight) if weight > 0 else -math.inf) if self.method.is_log else weight
        return (position - self.low) / (self.high - self.low)

    @property
    def method(self) -> Estimator:
        """The estimator itself."""
        return find_estimator(self.estimator)

    def facts(self) -> list[str]:
        """Population, sink and estimator in words."""
        words = [POPULATIONS[self.population].title]
        if self.population != "self":
            words.append(SINK_WORDS[self.sink])
        elif self.sink == "only":
            words.append("sink alone: has none")
        zoom = [f"zoom {number(self.weights[0])}–{number(self.weights[1])}"] if self.window else []
        return [*words, *zoom, self.method.label]


@dataclass(frozen=True, eq=False)
class Columns:
    """The columns of one picture: the layers of a model, or the heads of a layer.

    Attributes:
        counts: [n_columns].
        labels: each column's short name.
        measured: bool [n_columns], False where there is nothing to show: not read, or no attention.
        look: what is looked at.
    """

    counts: Counts
    labels: tuple[str, ...]
    measured: NDArray[np.bool_]
    look: Look
    known: tuple[Nodes, ...] = ()
    """Each column's density where it is known already: a run adds a layer at a time to those that were drawn."""

    @cached_property
    def nodes(self) -> Nodes:
        """The densities of all columns."""
        if not self.known:
            return self.look.method.function(self.counts)
        first = self.known[0]
        values = np.stack([nodes.values for nodes in self.known])
        return Nodes(first.low, first.high, values, np.stack([nodes.bandwidth for nodes in self.known]))

    def seen_with(self, look: "Look") -> "Columns":
        """The same densities with other colours or another stretch of the axis: they are not estimated again."""
        if look == self.look:
            return self
        nodes = self.nodes
        rows = zip(nodes.values, nodes.bandwidth, strict=True)
        known = tuple(Nodes(nodes.low, nodes.high, values, bandwidth) for values, bandwidth in rows)
        return replace(self, look=look, known=known)

    @cached_property
    def n(self) -> NDArray[np.int64]:
        """How many weights each column holds."""
        return self.counts.n

    def densities(self, n_cells: int) -> NDArray[np.float64]:
        """Average the density over equal cells of the axis, [n_columns, n_cells]; NaN for what was not measured."""
        cells = self.nodes.mean(np.linspace(self.look.low, self.look.high, n_cells + 1))
        cells[~self.measured] = np.nan
        return cells

    def faintest(self, n_cells: int) -> float:
        """The density of a third of one weight where it lies: what the darkest colour stands for.

        One weight's density is 1/n, spread over its cell or its kernel, whichever is wider (a Gaussian's width at its
        peak's height is 2.5 bandwidths); of all columns the faintest counts.
        """
        kernel = np.nan_to_num(self.nodes.bandwidth) * math.sqrt(2 * math.pi)
        width = np.maximum(kernel, (self.look.high - self.look.low) / n_cells)
        some = self.measured & (self.n > 0)
        return float(1 / (3 * self.n[some] * width[some]).max()) if some.any() else 1.0

    def heatmap(self, layout: Layout, title: str = "") -> Heatmap:
        """Make the picture for a layout."""
        density = self.densities(layout.n_pixels)
        low, high = color_range(density, self.faintest(layout.n_pixels), self.look.scale)
        if self.look.per_column:
            density, low, high = _per_column(density, low, high)
        return Heatmap(
            density,
            low,
            high,
            self.look.scale,
            self.labels,
            y_low=self.look.weights[0],
            y_high=self.look.weights[1],
            y_log=self.look.method.is_log,
            title=title,
        )

    def curve(self, column: int, color: str = CURVE_COLOR) -> Curve:
        """Make one column's density curve: on `DEFAULT_GRID` points, each the average over its cell."""
        method = self.look.method
        edges = np.linspace(self.look.low, self.look.high, DEFAULT_GRID + 1)
        middles = (edges[1:] + edges[:-1]) / 2
        nodes = self.nodes
        one = Nodes(nodes.low, nodes.high, nodes.values[column], nodes.bandwidth[column])
        x = 10**middles if method.is_log else middles
        return Curve(x, one.mean(edges), self.labels[column], color)

    def in_band(self, column: int, low: float, high: float) -> tuple[float, float, int]:
        """Look at a band of the weight axis, given by positions from 0 to 1: its weights' ends, how many are in it."""
        first, last = self.look.weight_at(low), self.look.weight_at(high)
        return first, last, self.count(column, first, last)

    def count(self, column: int, low: float, high: float) -> int:
        """How many weights lie in [low, high), rounded to float16; 0 and 1 belong to the bands that end there."""
        inside = (low <= BIN_VALUES) & ((high >= 1) | (high > BIN_VALUES))
        if self.look.method.is_log:
            inside[0] = False  # what rounded to zero is below the axis
        return int(self.counts.hits[column][inside].sum())

    def filled(self, column: int, rows: int) -> NDArray[np.bool_]:
        """Which of `rows` equal bands of the shown axis hold a weight, [rows] from the lowest."""
        edges = np.array([self.look.weight_at(row / rows) for row in range(rows + 1)])
        values = BIN_VALUES[self.counts.hits[column] > 0]
        if self.look.method.is_log:
            values = values[values > 0]
        bands = np.searchsorted(edges, values, side="right") - 1
        bands[values == edges[-1]] = rows - 1
        filled = np.zeros(rows, bool)
        filled[bands[(bands >= 0) & (bands < rows)]] = True
        return filled

    def summary(self, column: int) -> list[tuple[str, str]]:
        """Say in numbers what a column holds: names and values, the most important first."""
        if not self.measured[column]:
            return [("not measured", "")]
        counts = self.counts[column]
        n = int(counts.n)
        if n == 0:
            return [("n", "0"), ("no weights in this population", "")]
        pairs = [
            ("n", f"{n:,}"),
            ("mean", number(float(counts.mean))),
            ("median", number(float(counts.quantile(0.5)))),
        ]
        if n == 1 or float(counts.std) == 0:
            pairs.append(("all equal", number(float(counts.mean))))
        pairs += [
            ("above 0.5", percent(float(counts.share_above(0.5)))),
            ("below 0.01", percent(1 - float(counts.share_above(0.01)))),
            ("max", number(float(counts.quantile(1.0)))),
        ]
        bandwidth = float(self.nodes.bandwidth[column])
        if math.isfinite(bandwidth):
            unit = " decades" if self.look.method.is_log else ""
            pairs.append(("bandwidth", number(bandwidth) + unit))
        if self.look.method.is_log:
            pairs.append((f"below {number(SMALLEST_COUNTED)}", percent(float(counts.hits[0]) / n)))
        elif self.look.estimator == "gaussian":
            lost = 1 - float(self.nodes.mass()[column])
            pairs.append(("outside [0, 1]", percent(lost)))
        return pairs


def layer_columns(profile: Profile, look: Look) -> Columns:
    """Make the columns of the overview: one a layer, its heads pooled."""
    nothing = look.method.function(Counts.empty())
    return Columns(
        profile.layer_counts(look.population, look.sink),
        tuple(str(index) for index in range(profile.n_layers)),
        np.array([layer is not None for layer in profile.layers]),
        look,
        tuple(nothing if layer is None else _layer_nodes(layer, look) for layer in profile.layers),
    )


_nodes_of_layers: WeakKeyDictionary[LayerProfile, dict[tuple[str, str, str], Nodes]] = WeakKeyDictionary()


def _layer_nodes(layer: LayerProfile, look: Look) -> Nodes:
    """The density of a layer's pooled heads, made once for each population, sink and estimator."""
    made = _nodes_of_layers.setdefault(layer, {})
    key = (look.population, look.sink, look.estimator)
    if key not in made:
        made[key] = look.method.function(layer.layer_counts(look.population, look.sink))
    return made[key]


def head_columns(profile: Profile, look: Look, layer: int, heads: Sequence[int] | None = None) -> Columns:
    """Make the columns of one layer: one a head, in the order in which they are given, or all by their numbers."""
    counts = profile.layer(layer).head_counts(look.population, look.sink)
    heads = range(counts.total.shape[0]) if heads is None else heads
    return Columns(counts[list(heads)], tuple(str(head) for head in heads), np.ones(len(heads), bool), look)


def layer_column(profile: Profile, look: Look, layer: int) -> Columns:
    """Make the one column of a layer, its heads pooled."""
    read = profile.layer(layer)
    counts = read.layer_counts(look.population, look.sink)
    one = Counts(counts.hits[None], counts.zeros[None], counts.total[None], counts.total_sq[None])
    return Columns(one, (str(layer),), np.ones(1, bool), look, (_layer_nodes(read, look),))


def weight_at(position: float, method: Estimator) -> float:
    """The weight at a position of an estimator's axis."""
    return 10**position if method.is_log else position


def color_range(density: NDArray[np.float64], faintest: float, scale: Scale) -> tuple[float, float]:
    """Choose where the colours begin and end.

    They end at the highest density. On the log scale they begin at the faintest that a single weight draws, at most six
    decades lower: what is darker is a kernel's tail and no weight.
    """
    finite = density[np.isfinite(density)]
    high = float(finite.max(initial=0.0))
    if high <= 0:
        return 0.1, 1.0
    if scale != "log":
        return 0.0, high
    return min(max(faintest, high / 10**MAX_DECADES), high / 10), high


def _per_column(density: NDArray[np.float64], low: float, high: float) -> tuple[NDArray[np.float64], float, float]:
    """Divide each column by its highest density; the colour bar then counts shares of it."""
    top = np.nanmax(density, axis=1, keepdims=True, initial=0.0)
    scaled = np.divide(density, top, out=np.where(np.isfinite(density), 0.0, np.nan), where=top > 0)
    return scaled, low / high, 1.0


# -- words and numbers -----------------------------------------------------------------------------------------------


def number(value: float) -> str:
    """Write a number in three digits: `0.0024`, `13.2`, `1.2e-7`, `–` where there is none."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) < 1e-3:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{value:.3g}"


def percent(share: float) -> str:
    """Write a share in percent: `81 %`, `7.1 %`, `0.03 %`, `–` where there is none."""
    if not math.isfinite(share):
        return "–"
    value = 100 * share
    if value == 0 or value >= 99.95:
        return f"{value:.0f} %"
    if value > 99:
        return f"{value:.1f} %"
    if value < 0.01:
        return "<0.01 %"
    return f"{value:.2f} %" if value < 1 else f"{value:.1f} %" if value < 10 else f"{value:.0f} %"


HEAD_NUMBERS = (
    "entropy",
    "effective_tokens",
    "gini",
    "sink_share",
    "previous_token",
    "self",
    "distance",
    "rest.entropy",
    "rest.effective_tokens",
    "off_sequence",
)
"""The statistics that the app shows, in this order; all of them are in an export."""

_SHARES = {"sink_share", "previous_token", "self", "off_sequence", "final.sink_share"}


def statistics_lines(profile: Profile, layer: int, head: int | None = None) -> list[tuple[str, str]]:
    """A head's numbers, or a layer's: the means over its heads."""
    values = profile.layer(layer).statistics
    lines = []
    for name in HEAD_NUMBERS:
        if name not in values:
            continue
        row = values[name]
        value = float(row[head]) if head is not None else _mean(row)
        if name == "off_sequence" and not value > 1e-3:
            continue
        statistic = STATISTICS[name]
        text = percent(value) if name in _SHARES else f"{number(value)} {statistic.unit}".strip()
        lines.append((statistic.title, text))
    return lines


def _mean(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.nan


def model_facts(profile: Profile) -> list[str]:
    """Name model, size, prompt and device, the most important first."""
    origin = profile.origin
    name = visible(origin.model) + (f"@{visible(origin.revision)}" if origin.revision else "")
    heads = f" × {profile.n_heads}H" if profile.n_heads else ""
    control = [] if origin.recipe == "true" else [f"CONTROL '{visible(origin.recipe)}': not the model's weights"]
    if origin.recipe.startswith("null: "):
        control = [f"NULL: {visible(origin.recipe.removeprefix('null: '))}"]
    return [
        name,
        *control,
        f"{profile.n_layers}L{heads}",
        size_words(profile),
        visible(f"{origin.dtype} {origin.device}"),
    ]


def size_words(profile: Profile) -> str:
    """Say how much was read: `115 tokens`, `40 prompts, 81,920 tokens`."""
    n_prompts = profile.origin.n_prompts
    prompts = f"{n_prompts:,} prompts, " if n_prompts > 1 else ""
    return f"{prompts}{profile.total_tokens:,} tokens"


def picture_facts(columns: Columns) -> list[str]:
    """Say what a picture shows, the most important first: population, sink, estimator, n of a column, colours."""
    sizes = columns.n[columns.measured]
    look = columns.look
    if len(sizes) == 0:
        n = "nothing read yet"
    elif sizes.min() == sizes.max():
        n = f"n = {sizes[0]:,}"
    else:
        n = f"n = {sizes.min():,}–{sizes.max():,}"
    return [*look.facts(), n, f"{look.scale} colours" + (" per column" if look.per_column else "")]


def join_fitting(facts: Sequence[str], separator: str, width: int) -> str:
    """Join as many whole facts as fit, at least the first."""
    line = facts[0] if facts else ""
    for fact in facts[1:]:
        if cell_len(line) + len(separator) + cell_len(fact) > width:
            break
        line += separator + fact
    return line


# -- the lines of the exercise -----------------------------------------------------------------------------------------


def line_curves(profile: Profile, look: Look) -> list[Curve]:
    """One curve a layer for `self` and one for `final`: the picture that the heatmap is there to replace."""
    curves = []
    for population, colors in (("self", SELF_COLORS), ("final", FINAL_COLORS)):
        some = Look(population, look.sink, look.estimator, look.scale)
        columns = layer_columns(profile, some)
        for index in np.flatnonzero(columns.measured):
            share = float(index) / max(1, profile.n_layers - 1)
            curves.append(columns.curve(int(index), blend(*colors, share)))
    return curves


def blend(first: str, last: str, share: float) -> str:
    """Mix two `#rrggbb` colours."""
    pairs = [(int(first[at : at + 2], 16), int(last[at : at + 2], 16)) for at in (1, 3, 5)]
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


# -- the prompt, coloured ----------------------------------------------------------------------------------------------


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
    color = ramp.colors[level]
    red, green, blue = color.get_truecolor()
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < 128
    return Style(bgcolor=color) + Style(color="#ffffff" if dark else "#000000")


def top_keys(profile: Profile, layer: int, head: int, count: int = 5, *, ascii_only: bool = False) -> list[str]:
    """The keys that a head's final token looks at most, heaviest first: `·Paris (5) 0.42`; or why there are none."""
    weights = profile.layer(layer).final_weights
    if weights is None:
        several = profile.origin.n_prompts > 1
        return ["other tokens in each prompt, so none are shown" if several else "its weights are not in this profile"]
    return heaviest_keys(profile.origin.tokens, weights[head], count, ascii_only=ascii_only)


def moved_keys(
    profile: Profile,
    layer: int,
    head: int,
    weights: NDArray[np.float32] | None,
    count: int = 5,
    *,
    ascii_only: bool = False,
) -> list[str]:
    """Name a query's heaviest keys with the norms of their value vectors: `·Photos (0) 0.83 × 0.06 → 21 % on nothing`.

    Each is the weight, times the value norm as a share of the head's mean, and what w |v| then is of its sum; why
    there are none, where the model's value vectors cannot be read.
    """
    found = contributions(profile.layer(layer), head, weights)
    if found is None:
        return ["not read: this model is read by hooks"] if profile.origin.mechanism == HOOKS else []
    order = [int(key) for key in np.argsort(-found.weights, kind="stable")[:count]]
    return [
        f"{token_name(profile.origin.tokens[key], ascii_only=ascii_only)} ({key}) {number(float(found.weights[key]))}"
        f" × {number(float(found.norms[key]))} → {percent(float(found.shares[key]))}"
        + (" on nothing" if found.is_on_nothing(key) else "")
        for key in order
    ]


def heaviest_keys(
    tokens: Sequence[str], weights: NDArray[np.float32], count: int, *, ascii_only: bool = False
) -> list[str]:
    """Name the keys with the largest weights, the heaviest first: `·Paris (5) 0.42`."""
    order = np.argsort(-weights, kind="stable")[:count]
    return [f"{token_name(tokens[key], ascii_only=ascii_only)} ({key}) {number(float(weights[key]))}" for key in order]

"""From a profile to what is drawn: what is looked at, the columns of a picture, their colours, curves and numbers.

The app and `laminar-tui show` draw from the same functions, so they cannot disagree.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from laminar_tui.profile.bootstrap import FEWEST_GROUPS, LEVEL, density_interval
from laminar_tui.profile.counts import BIN_VALUES, HIGH, LOW, SMALLEST_COUNTED, Counts
from laminar_tui.profile.density import DEFAULT_ESTIMATOR, DEFAULT_GRID, Estimator, Nodes, find_estimator
from laminar_tui.profile.parts import POPULATIONS, SinkChoice
from laminar_tui.profile.profile import LayerProfile, Profile
from laminar_tui.profile.wording import percent
from laminar_tui.render.curve import Curve
from laminar_tui.render.frame import Layout
from laminar_tui.render.heatmap import Heatmap
from laminar_tui.render.numbers import limit, number
from laminar_tui.render.palette import Scale

MAX_DECADES = 6.0
"""The most that the logarithmic colour scale spans below its top."""

CURVE_COLOR, CURVE_COLOR_ON_LIGHT = "#3fa7d6", "#15638f"
SELF_COLORS = ("#b7a1e0", "#5b3a9e")
FINAL_COLORS = ("#f2c14e", "#b5420f")

BAND_SIGN = f"dots: {100 * LEVEL:.0f} % band"
"""In the legend of a curve with a band."""

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

    @property
    def axis_name(self) -> str:
        """What the axis is of."""
        return "log weight" if self.method.is_log else "weight"

    def facts(self) -> list[str]:
        """Population, sink and estimator in words."""
        words = [POPULATIONS[self.population].title]
        if self.population != "self":
            words.append(SINK_WORDS[self.sink])
        elif self.sink == "only":
            words.append("sink alone: has none")
        zoom = [f"zoom {limit(self.weights[0])}–{limit(self.weights[1])}"] if self.window else []
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
    groups: Callable[[int], NDArray[np.int64] | None] | None = None
    """Gives a column's coarse counts by groups of prompts; None where they are not known."""
    n_prompts: int = 1
    kind: str = ""
    """What a column is, `layer` or `head`."""
    _intervals: dict[int, NDArray[np.float64] | None] = field(default_factory=dict, init=False, repr=False)
    """Of this look: a copy with another one begins anew."""

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

    def one_weight(self, n_cells: int) -> NDArray[np.float64]:
        """The density of one weight where it lies, [n_columns]; infinite where a column holds none.

        It is 1/n, spread over the weight's cell or its kernel, whichever is wider (a Gaussian's width at its peak's
        height is 2.5 bandwidths).
        """
        kernel = np.nan_to_num(self.nodes.bandwidth) * math.sqrt(2 * math.pi)
        width = np.maximum(kernel, (self.look.high - self.look.low) / n_cells)
        with np.errstate(divide="ignore"):
            return np.asarray(1 / (self.n * width))

    def faintest(self, n_cells: int) -> float:
        """The density of a third of one weight, in the column where that is least: what the darkest colour is."""
        one = self.one_weight(n_cells)[self.measured & (self.n > 0)]
        return float(one.min() / 3) if len(one) else 1.0

    def heatmap(self, layout: Layout) -> Heatmap:
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
            x_name=self.kind,
        )

    def curve(self, column: int, color: str = CURVE_COLOR) -> Curve:
        """Make one column's density curve: on `DEFAULT_GRID` points, each the average over its cell.

        Over several prompts it has a band: the bootstrap interval over groups of them.
        """
        method = self.look.method
        edges = np.linspace(self.look.low, self.look.high, DEFAULT_GRID + 1)
        middles = (edges[1:] + edges[:-1]) / 2
        nodes = self.nodes
        one = Nodes(nodes.low, nodes.high, nodes.values[column], nodes.bandwidth[column])
        x = 10**middles if method.is_log else middles
        density = one.mean(edges)
        interval = self._interval(column, edges)
        low, high = (None, None) if interval is None else density * interval
        return Curve(x, density, self.labels[column], color, low, high)

    def band_words(self, column: int) -> str:
        """What the band around a column's curve is: `dots: 95 % band over 24 prompts`; nothing where there is none."""
        groups = self.groups(column) if self.groups else None
        n_used = 0 if groups is None else int((groups.sum(axis=1) > 0).sum())
        if n_used < FEWEST_GROUPS:
            return ""
        what = "prompts" if self.n_prompts == n_used else "groups of prompts"
        return f"{BAND_SIGN} over {n_used} {what}"

    def _interval(self, column: int, edges: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """The ends of the band as multiples of the density, made once for each column."""
        if column not in self._intervals:
            groups = self.groups(column) if self.groups else None
            bandwidth = float(self.nodes.bandwidth[column])
            self._intervals[column] = (
                None
                if groups is None or not groups.any()
                else density_interval(groups, self.counts[column], self.look.estimator, bandwidth, edges)
            )
        return self._intervals[column]

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
            (f"above {HIGH}", percent(float(counts.share_high))),
            (f"below {LOW}", percent(float(counts.share_low))),
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
        lambda column: _groups(profile.layers[column], look),
        profile.origin.n_prompts,
        "layer",
    )


def _groups(layer: LayerProfile | None, look: Look, head: int | None = None) -> NDArray[np.int64] | None:
    """The coarse counts of a layer or head by groups of prompts."""
    if layer is None or layer.groups is None:
        return None
    return layer.groups.of(look.population, look.sink, head)


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
    read = profile.layer(layer)
    counts = read.head_counts(look.population, look.sink)
    shown = list(range(counts.total.shape[0]) if heads is None else heads)
    labels = tuple(str(head) for head in shown)
    groups = partial(_groups_of_head, read, look, shown)
    return Columns(
        counts[shown],
        labels,
        np.ones(len(shown), bool),
        look,
        groups=groups,
        n_prompts=profile.origin.n_prompts,
        kind="head",
    )


def _groups_of_head(layer: LayerProfile, look: Look, heads: Sequence[int], column: int) -> NDArray[np.int64] | None:
    return _groups(layer, look, heads[column])


def layer_column(profile: Profile, look: Look, layer: int) -> Columns:
    """Make the one column of a layer, its heads pooled."""
    read = profile.layer(layer)
    counts = read.layer_counts(look.population, look.sink)
    one = Counts(counts.hits[None], counts.zeros[None], counts.total[None], counts.total_sq[None])
    return Columns(
        one,
        (str(layer),),
        np.ones(1, bool),
        look,
        (_layer_nodes(read, look),),
        lambda _: _groups(read, look),
        profile.origin.n_prompts,
    )


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

"""Densities made from counts: one regular set of nodes, one Fourier transform, any bandwidth.

The counts are moved to 8,193 equally spaced nodes (every float16 from 1/8 up lies on one of them) and smoothed by a
multiplication in the Fourier domain. Reflection at both ends is the even extension of the nodes, so mass is kept to
rounding. Points and cells are read from the same piecewise linear density.

Sources: Silverman, Density Estimation (1986), sections 2.10 and 3.5; the bandwidth is Scott's rule as in
`scipy.stats.gaussian_kde`.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from laminar_tui.errors import UsageError
from laminar_tui.profile.counts import BIN_EDGES, BIN_VALUES, N_BINS, Counts
from laminar_tui.profile.smoothing import ROWS_AT_ONCE, smooth_rows

N_CELLS = 8192
LOG_LOW = -8.0
"""The lower end of the log10 axis; the smallest float16 is 10^-7.2."""
LOG_VALUES = np.log10(BIN_VALUES[1:])
"""[N_BINS - 1], log10 of the weight that each bin but the one of zero stands for."""
DEFAULT_GRID = 300
DEFAULT_ESTIMATOR = "reflected"

NARROWEST = 2 / N_CELLS
"""The narrowest kernel that the nodes carry without ringing (3e-9 at the highest frequency), as a share of the axis: a
fourteenth of a step of the 300-point grid. A narrower one is drawn this wide; what `bandwidth` reports is Scott's."""

_CELLS_IN_A_BANDWIDTH = 16
"""With cells this narrow, splitting a bin between two nodes widens the kernel by less than a five-thousandth."""
_FEWEST_CELLS = 1024
_SPLIT_CELLS = 2048
"""Of a density that is split: its parts are for ratios, and there are many of them."""


@dataclass(frozen=True, eq=False)
class Nodes:
    """A density at equally spaced nodes of an axis, linear in between.

    Attributes:
        low, high: the ends of the axis: 0 and 1, or log10 of the weight.
        values: float64 [..., n_cells + 1], per unit of the axis.
        bandwidth: float64 [...], Scott's; 0 where all weights are equal, NaN where there is no estimate of it (n < 2)
            or none is used.
    """

    low: float
    high: float
    values: NDArray[np.float64]
    bandwidth: NDArray[np.float64]

    @property
    def n_cells(self) -> int:
        """How many cells lie between the nodes."""
        return int(self.values.shape[-1]) - 1

    def at(self, grid: NDArray[np.float64]) -> NDArray[np.float64]:
        """Read the density at points of the axis, [..., n_grid]."""
        index, fraction = self._locate(grid)
        return self.values[..., index] * (1 - fraction) + self.values[..., index + 1] * fraction

    def mean(self, edges: NDArray[np.float64]) -> NDArray[np.float64]:
        """Average the density over the cells between ascending edges, [..., n_edges - 1].

        The difference of the distribution function at the edges, so that no spike is missed and cells that cover
        the axis hold all the mass there is.
        """
        step = (self.high - self.low) / self.n_cells
        index, fraction = self._locate(edges)
        below = np.zeros(self.values.shape)
        np.cumsum((self.values[..., 1:] + self.values[..., :-1]) * (step / 2), axis=-1, out=below[..., 1:])
        left = self.values[..., index]
        slope = self.values[..., index + 1] - left
        distribution = below[..., index] + step * fraction * (left + slope * fraction / 2)
        return np.diff(distribution, axis=-1) / np.diff(edges)

    def mass(self) -> NDArray[np.float64]:
        """How much of the mass lies on the axis, [...]: 1, or less for an estimator that leaks."""
        return self.mean(np.array([self.low, self.high]))[..., 0] * (self.high - self.low)

    def _locate(self, points: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        position = (np.asarray(points, np.float64) - self.low) * (self.n_cells / (self.high - self.low))
        index = np.clip(np.floor(position).astype(np.int64), 0, self.n_cells - 1)
        return index, position - index


def scott_bandwidth(n: NDArray[Any], std: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scott's rule in one dimension: n^(-1/5) times the sample standard deviation, [...]; NaN for n < 2."""
    return np.where(n > 1, np.power(np.maximum(n, 1).astype(np.float64), -0.2) * std, np.nan)


@dataclass(frozen=True, eq=False)
class _Split:
    """How the bins are moved to the nodes of [0, 1].

    Attributes:
        n_shared: the bins before this one are split between two nodes; each later one lies on a node of its own.
        fraction: [n_shared], which part of a bin goes to the right one of its nodes.
        first_bins: the first bin of each left node that has any.
        left_nodes: these nodes.
        own_nodes: the nodes of the later bins.
    """

    n_shared: int
    fraction: NDArray[np.float64]
    first_bins: NDArray[np.int64]
    left_nodes: NDArray[np.int64]
    own_nodes: NDArray[np.int64]


@cache
def _split(n_cells: int) -> _Split:
    position = BIN_VALUES * n_cells
    left = np.minimum(np.floor(position), n_cells - 1).astype(np.int64)
    fraction = position - left
    # From here on every bin is on a node and no two share one; the last bin, 1, is on the last node.
    shared = np.flatnonzero((fraction[:-1] > 0) | (np.diff(left, prepend=-1)[:-1] == 0))
    n_shared = int(shared[-1]) + 1 if len(shared) else 0
    left_nodes, first_bins = np.unique(left[:n_shared], return_index=True)
    return _Split(n_shared, fraction[:n_shared], first_bins, left_nodes, np.round(position[n_shared:]).astype(np.int64))


def _nodes_linear(counts: Counts, n_cells: int = N_CELLS) -> NDArray[np.float64]:
    """Share of the weights at each node of [0, 1], [..., n_cells + 1]: each bin split between its two neighbours."""
    split = _split(n_cells)
    nodes = np.zeros((*counts.hits.shape[:-1], n_cells + 1))
    nodes[..., split.own_nodes] = counts.hits[..., split.n_shared :]
    hits = counts.hits[..., : split.n_shared].astype(np.float64)
    to_right = hits * split.fraction
    hits -= to_right
    nodes[..., split.left_nodes] += np.add.reduceat(hits, split.first_bins, axis=-1)
    nodes[..., split.left_nodes + 1] += np.add.reduceat(to_right, split.first_bins, axis=-1)
    return _share(nodes, counts)


def _nodes_log(counts: Counts, n_cells: int = N_CELLS) -> NDArray[np.float64]:
    """Share of the weights at each node of log10 [-8, 0], [..., n_cells + 1], without those in the zero bin.

    Each bin is spread over its own width: below 6e-5 the float16 are so far apart on this axis that their values
    alone would draw a comb.
    """
    return _share(np.diff(_below_log(counts, n_cells), axis=-1), counts)


def _below_log(counts: Counts, n_cells: int) -> NDArray[np.float64]:
    """How many weights, without those in the zero bin, lie below each end of the nodes' cells, [..., n_cells + 2]."""
    right, fraction = _log_places(n_cells)
    cumulative = np.zeros((*counts.hits.shape[:-1], N_BINS))
    np.cumsum(counts.hits[..., 1:], axis=-1, out=cumulative[..., 1:])
    below: NDArray[np.float64] = np.take(cumulative, right - 1, axis=-1)
    below += (np.take(cumulative, right, axis=-1) - below) * fraction
    return below


@cache
def _log_places(n_cells: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Where the edges between the nodes of log10 [-8, 0] lie among those of the bins: the next one, the share up to it.

    Both [n_cells + 2].
    """
    step = -LOG_LOW / n_cells
    edges = np.log10(np.maximum(BIN_EDGES[1:], 10**LOG_LOW))
    node_edges = np.concatenate([[LOG_LOW], LOG_LOW + step * (np.arange(n_cells) + 0.5), [0.0]])
    right = np.clip(np.searchsorted(edges, node_edges, side="right"), 1, N_BINS - 1)
    return right, np.clip((node_edges - edges[right - 1]) / (edges[right] - edges[right - 1]), 0.0, 1.0)


def _share(nodes: NDArray[np.float64], counts: Counts) -> NDArray[np.float64]:
    n = counts.n[..., None]
    return np.divide(nodes, n, out=np.zeros(nodes.shape), where=n > 0)


def _kernel_width(bandwidth: NDArray[np.float64], length: float, n_cells: int = N_CELLS) -> NDArray[np.float64]:
    return np.fmax(bandwidth / length, NARROWEST) * n_cells


def gaussian(counts: Counts, n_cells: int = N_CELLS) -> Nodes:
    """Estimate as `scipy.stats.gaussian_kde` does, with all it loses beyond 0 and 1: the reference."""
    bandwidth = scott_bandwidth(counts.n, counts.std)
    smooth = smooth_rows(_nodes_linear(counts, n_cells), _kernel_width(bandwidth, 1.0, n_cells), reflect=False)
    return Nodes(0.0, 1.0, smooth * n_cells, bandwidth)


def reflected(counts: Counts, n_cells: int = N_CELLS) -> Nodes:
    """Estimate with Scott's bandwidth, mass that leaves [0, 1] folded back at 0 and 1."""
    bandwidth = scott_bandwidth(counts.n, counts.std)
    smooth = smooth_rows(_nodes_linear(counts, n_cells), _kernel_width(bandwidth, 1.0, n_cells), reflect=True)
    return Nodes(0.0, 1.0, smooth * n_cells, bandwidth)


def log_density(counts: Counts) -> Nodes:
    """Estimate the density of log10(weight) per decade, reflected at 1; weights below 3e-8 are left out.

    The mass on the axis is the share of weights that did not round to zero; the bandwidth is Scott's on log10.
    """
    hits = counts.hits[..., 1:].astype(np.float64)
    n = counts.hits[..., 1:].sum(axis=-1)
    # Not with `@`: whole numbers it multiplies slowly, and floats in threads of BLAS, which spin for 30 ms afterwards.
    total = np.einsum("...i,i->...", hits, LOG_VALUES)
    squares = np.einsum("...i,i->...", hits, LOG_VALUES**2)
    mean = np.divide(total, n, out=np.zeros(total.shape), where=n > 0)
    variance = np.divide(squares - mean * total, n - 1, out=np.zeros(total.shape), where=n > 1)
    bandwidth = scott_bandwidth(n, np.sqrt(np.maximum(variance, 0.0)))
    smooth = smooth_rows(_nodes_log(counts), _kernel_width(bandwidth, -LOG_LOW), reflect=True)
    return Nodes(LOG_LOW, 0.0, smooth * (N_CELLS / -LOG_LOW), bandwidth)


def histogram(counts: Counts) -> Nodes:
    """Put the counts on the axis as they are, without a bandwidth."""
    nodes = _nodes_linear(counts)
    nodes[..., [0, -1]] *= 2  # the end nodes stand for half a step of the axis each
    return Nodes(0.0, 1.0, nodes * N_CELLS, np.full(counts.total.shape, np.nan))


@dataclass(frozen=True)
class Estimator:
    """A way from counts to a density, and its words: `label` in a title, `title` where there is room."""

    name: str
    label: str
    title: str
    function: Callable[..., Nodes]
    low: float = 0.0
    high: float = 1.0
    pointwise: bool = False
    """Read at the grid's points, as the reference does, instead of averaged over the cells around them."""
    has_coarse: bool = False
    """Takes `n_cells`: on a grid, a wide kernel can do with fewer of them."""

    @property
    def is_log(self) -> bool:
        """Whether the axis is log10 of the weight."""
        return self.low < 0


ESTIMATORS: dict[str, Estimator] = {
    estimator.name: estimator
    for estimator in (
        Estimator("reflected", "reflected KDE", "Gaussian kernel, reflected at 0 and 1", reflected, has_coarse=True),
        Estimator("gaussian", "scipy's KDE", "Gaussian kernel as in scipy", gaussian, pointwise=True, has_coarse=True),
        Estimator("histogram", "histogram", "counts, no kernel", histogram),
        Estimator(
            "log", "KDE of log10(weight)", "Gaussian kernel on log10(weight)", log_density, low=LOG_LOW, high=0.0
        ),
    )
}


def find_estimator(name: str) -> Estimator:
    """Look an estimator up by name.

    Raises:
        UsageError: if there is none of that name.
    """
    if name not in ESTIMATORS:
        raise UsageError(f"there is no estimator '{name}'", f"choose one of: {', '.join(ESTIMATORS)}")
    return ESTIMATORS[name]


@dataclass(frozen=True, eq=False)
class Density:
    """A density on a grid.

    Attributes:
        grid: float64 [n_grid], weights in [0, 1], or log10 of them for the estimator `log`.
        values: float64 [..., n_grid], per unit of the grid. `gaussian` is read at the points; the others are averages
            over the cell around each point, so that their trapezoid sum is the mass.
        bandwidth: float64 [...], Scott's, in units of the grid; 0 where all weights are equal, NaN where none is used.
    """

    grid: NDArray[np.float64]
    values: NDArray[np.float64]
    bandwidth: NDArray[np.float64]

    def __repr__(self) -> str:
        low, high = self.grid[[0, -1]]
        return f"Density(values {list(self.values.shape)}, {len(self.grid)} points from {low:g} to {high:g})"


def estimate_density(counts: Counts, estimator: str = DEFAULT_ESTIMATOR, n_grid: int = DEFAULT_GRID) -> Density:
    """Estimate densities on a regular grid over the whole axis.

    Args:
        counts: [...].
        estimator: a name in `ESTIMATORS`.
        n_grid: points of the grid, at least 2.

    Raises:
        UsageError: for an unknown estimator or a grid of fewer than two points.
    """
    chosen = find_estimator(estimator)
    if n_grid < 2:
        raise UsageError(f"a grid cannot have {n_grid} points", "use at least 2; 300 is the default")
    grid = np.linspace(chosen.low, chosen.high, n_grid)
    edges = np.concatenate([grid[:1], (grid[1:] + grid[:-1]) / 2, grid[-1:]])
    shape = counts.total.shape
    rows = Counts(counts.hits.reshape(-1, N_BINS), counts.zeros.ravel(), counts.total.ravel(), counts.total_sq.ravel())
    values, bandwidth = np.empty((len(rows.total), n_grid)), np.empty(len(rows.total))

    def fill(some: NDArray[np.int64], function: Callable[[Counts], Nodes]) -> None:
        nodes = function(rows[some])
        values[some] = nodes.at(grid) if chosen.pointwise else nodes.mean(edges)
        bandwidth[some] = nodes.bandwidth

    works = []
    for n_cells, places in _by_cells(rows, chosen):
        function = partial(chosen.function, n_cells=n_cells) if chosen.has_coarse else chosen.function
        works += [partial(fill, places[at : at + ROWS_AT_ONCE], function) for at in range(0, len(places), ROWS_AT_ONCE)]
    if len(works) == 1:
        works[0]()
    else:
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # numpy's transforms leave the interpreter to others
            for done in [pool.submit(work) for work in works]:
                done.result()
    return Density(grid, values.reshape(*shape, n_grid), bandwidth.reshape(shape))


def split_density(counts: Counts, starts: NDArray[np.int64], estimator: str, bandwidth: float) -> Nodes:
    """Split a density into those of slices of the weights, which add up to it: each part is smoothed as the whole is.

    Args:
        counts: [].
        starts: [n_slices], the first bin of each slice; the first is 0.
        estimator: a name in `ESTIMATORS`.
        bandwidth: that of the whole.

    Returns:
        values [n_slices, nodes], on a quarter of the nodes of the whole; a kernel narrower than two of these is drawn
        that wide.
    """
    chosen = find_estimator(estimator)
    nodes = (_slices_log if chosen.is_log else _slices_linear)(counts, starts) / max(int(counts.n), 1)
    length = chosen.high - chosen.low
    if estimator == "histogram":
        nodes[..., [0, -1]] *= 2
    else:
        width = np.full(len(starts), max(float(np.nan_to_num(bandwidth)) / length * _SPLIT_CELLS, 2.0))
        nodes = smooth_rows(nodes, width, reflect=estimator != "gaussian")
    return Nodes(chosen.low, chosen.high, nodes * (_SPLIT_CELLS / length), np.full(len(starts), bandwidth))


def _slices_linear(counts: Counts, starts: NDArray[np.int64]) -> NDArray[np.float64]:
    """How many weights of each slice are at each node of [0, 1], [n_slices, _SPLIT_CELLS + 1]."""
    shape = len(starts), _SPLIT_CELLS + 1
    bins = np.flatnonzero(counts.hits)
    hits = counts.hits[bins].astype(np.float64)
    position = BIN_VALUES[bins] * _SPLIT_CELLS
    left = np.minimum(np.floor(position), _SPLIT_CELLS - 1).astype(np.int64)
    places = (np.searchsorted(starts, bins, side="right") - 1) * shape[1] + left
    to_right = hits * (position - left)
    size = shape[0] * shape[1]
    nodes = np.bincount(places, hits - to_right, size) + np.bincount(places + 1, to_right, size)
    return np.asarray(nodes.reshape(shape))


def _slices_log(counts: Counts, starts: NDArray[np.int64]) -> NDArray[np.float64]:
    """How many weights of each slice are at each node of log10 [-8, 0], without those in the zero bin."""
    below = _below_log(counts, _SPLIT_CELLS)
    before = np.concatenate([[0], np.cumsum(counts.hits[1:])])  # [N_BINS], up to and with each bin
    ends = np.concatenate([[0], before[starts[1:] - 1], before[-1:]])
    return np.diff(np.clip(below, ends[:-1, None], ends[1:, None]), axis=-1)


def _by_cells(rows: Counts, chosen: Estimator) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Tell which rows may do with how many cells: a wide kernel hides what lies within a sixteenth of it."""
    needed = np.full(len(rows.total), N_CELLS)
    if chosen.has_coarse:
        bandwidth = scott_bandwidth(rows.n, rows.std)
        wanted = np.divide(_CELLS_IN_A_BANDWIDTH, bandwidth, out=np.full(len(needed), np.inf), where=bandwidth > 0)
        tiers = _FEWEST_CELLS * 2 ** np.arange(int(np.log2(N_CELLS // _FEWEST_CELLS)) + 1)
        needed = tiers[np.minimum(np.searchsorted(tiers, wanted), len(tiers) - 1)]
    for n_cells in np.unique(needed):
        yield int(n_cells), np.flatnonzero(needed == n_cells)

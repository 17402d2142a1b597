"""How far a density would move with other prompts: coarse counts of groups of prompts, drawn again and again.

What a profile keeps of many prompts has to be bounded: each prompt belongs to one of `N_GROUPS` groups, in which counts
add. Up to as many prompts with numbers of their own, a group is a prompt; beyond, drawing groups instead of prompts
widens the interval a little. Groups are drawn with replacement, and the interval lies between two percentiles of the
draws: those at which it would hold the mean of few normal numbers as often as it says (the expanded percentile interval
of Hesterberg, What Teachers Should Know About the Bootstrap, 2015, arXiv 1411.5279).
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from laminar_tui.profile.counts import BIN_VALUES, Counts, PackedCounts
from laminar_tui.profile.density import split_density
from laminar_tui.profile.parts import PARTS, SinkChoice, population_parts
from laminar_tui.profile.spread import student_quantile

N_GROUPS = 32
N_DRAWS = 500
LEVEL = 0.95
FEWEST_GROUPS = 4
"""Below so many, there are too few ways to draw them: no interval is given."""
SEED = 0
"""The same profile has the same interval each time it is drawn."""

GROUPED_PARTS = tuple(part for part in PARTS if part != "origin")
"""Those that populations are made of."""

_DECADES = np.arange(-6.0, -1.6, 0.25)
_EVEN_FROM = 1 / 32
SLICE_STARTS: NDArray[np.int64] = np.concatenate(
    [[0, 1], np.searchsorted(BIN_VALUES, [*10**_DECADES, *(np.arange(1, 32) * _EVEN_FROM)])]
).astype(np.int64)
"""[N_SLICES], the first bin of each slice of the weights: what rounds to zero, four slices a decade from 1e-6 on, equal
ones of 1/32 above 1/32. They serve the linear and the logarithmic axis alike."""
SLICE_STARTS[np.searchsorted(SLICE_STARTS, np.searchsorted(BIN_VALUES, 0.5))] += 1  # "above 0.5" is without 0.5 itself
N_SLICES = len(SLICE_STARTS)
_SLICE_OF_BIN = np.searchsorted(SLICE_STARTS, np.arange(len(BIN_VALUES)), side="right") - 1

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Groups:
    """The weights of a layer's heads by groups of prompts.

    Attributes:
        counts: unsigned or signed integers [n_heads, N_GROUPS, n_grouped_parts, N_SLICES].
    """

    counts: NDArray[np.integer]

    def of(self, population: str, sink: SinkChoice = "with", head: int | None = None) -> Integers:
        """Count a population's weights, [N_GROUPS, N_SLICES]: those of a head, or of all heads together."""
        chosen = [GROUPED_PARTS.index(part) for part in population_parts(population, sink)]
        counts = self.counts if head is None else self.counts[head : head + 1]
        return np.asarray(counts[:, :, chosen].sum(axis=(0, 2), dtype=np.int64))


def group_of(token_ids: Sequence[int], number: int | None = None) -> int:
    """Choose a prompt's group: by its number in the corpus, else by what it says, so that no order matters."""
    if number is not None:
        return number % N_GROUPS
    digest = hashlib.sha256(np.asarray(token_ids, np.int64).tobytes()).digest()
    return digest[0] % N_GROUPS


def slice_counts(parts: dict[str, PackedCounts]) -> Integers:
    """Count the weights of a layer by slices, [n_heads, n_grouped_parts, N_SLICES]."""
    return np.stack([_slices_of(parts[part]) for part in GROUPED_PARTS], axis=1)


def _slices_of(packed: PackedCounts) -> Integers:
    heads = np.repeat(np.arange(packed.n_heads), np.diff(packed.starts))
    places = heads * N_SLICES + _SLICE_OF_BIN[packed.bins]
    hits = np.bincount(places, weights=packed.hits.astype(np.float64), minlength=packed.n_heads * N_SLICES)
    return hits.astype(np.int64).reshape(packed.n_heads, N_SLICES)


def draw_shares(groups: NDArray[np.integer], n_draws: int = N_DRAWS) -> NDArray[np.float64] | None:
    """Draw as many groups as there are, with replacement, and give the share of the weights in each slice.

    Args:
        groups: [n_groups, n_slices]; those without weights are no groups.
        n_draws: how often.

    Returns:
        [n_draws, n_slices]; None where there are fewer than `FEWEST_GROUPS`.
    """
    used = groups[groups.sum(axis=1) > 0].astype(np.float64)
    n = len(used)
    if n < FEWEST_GROUPS:
        return None
    times = np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), size=n_draws)
    # Not with `@`: whether in one thread or in several that spin on afterwards, is for BLAS to say.
    sums = np.einsum("dg,gs->ds", times.astype(np.float64), used)
    return np.asarray(sums / sums.sum(axis=1, keepdims=True))


def share_interval(groups: NDArray[np.integer], low: float, high: float) -> tuple[float, float] | None:
    """Give the bootstrap interval of the share of weights with low <= w < high; up to and with 1 where `high` is 1.

    From a `low` of 0.5 on it is 0.5 < w, as `Counts.share_above` counts.

    Args:
        groups: [n_groups, N_SLICES].
        low, high: ends of slices.

    Returns:
        None with too few groups.
    """
    drawn = draw_shares(groups)
    if drawn is None:
        return None
    starts = np.append(BIN_VALUES[SLICE_STARTS], 2.0)
    first, last = (int(np.searchsorted(starts, end)) for end in (low, high if high < 1 else 2.0))
    below = share_below(int((groups.sum(axis=1) > 0).sum()))
    ends = np.quantile(drawn[:, first:last].sum(axis=1), [below, 1 - below])
    return float(ends[0]), float(ends[1])


def share_below(n: int) -> float:
    """Which share of the draws of n groups lies below the interval: the fewer they are, the less."""
    quantile = float(student_quantile((1 + LEVEL) / 2, np.array(n - 1)))
    return NormalDist().cdf(-quantile * math.sqrt(n / (n - 1)))


def density_interval(
    groups: NDArray[np.integer], counts: Counts, estimator: str, bandwidth: float, edges: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Give the bootstrap interval of a density, as a multiple of it in each cell of an axis.

    Every draw is the density with the weights of each slice taken so many times as often as they are drawn: the shape
    within a slice and the bandwidth stay those of all prompts.

    Args:
        groups: [n_groups, N_SLICES], of the same weights as `counts`.
        counts: [], of all groups together.
        estimator: a name in `ESTIMATORS`.
        bandwidth: that of the density.
        edges: ascending, on the estimator's axis.

    Returns:
        Low and high, [2, len(edges) - 1], NaN where there is no density; None with too few groups.
    """
    drawn = draw_shares(groups)
    if drawn is None:
        return None
    whole = groups.sum(axis=0)
    filled = np.flatnonzero(whole)
    times = drawn[:, filled] / (whole[filled] / whole.sum())  # [n_draws, n_filled]
    # A slice that is empty adds nothing: its bins go to the one before it.
    starts = np.where(filled == filled[0], 0, SLICE_STARTS[filled])
    cells = split_density(counts, starts, estimator, bandwidth).mean(edges)  # [n_filled, n_cells]
    densities = np.einsum("sc,ds->cd", cells, times)  # [n_cells, n_draws]
    below = share_below(int((groups.sum(axis=1) > 0).sum()))
    ends = np.quantile(densities, [below, 1 - below], axis=1)
    density = cells.sum(axis=0)
    return np.asarray(np.divide(ends, density, out=np.full(ends.shape, np.nan), where=density > 0))

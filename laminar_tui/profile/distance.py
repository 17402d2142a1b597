"""How far two distributions of weights are apart: Wasserstein-1 and Jensen-Shannon, made from counts.

Wasserstein-1 is read from the difference of the distribution functions and says how far, in weight, the mass has to
move. Jensen-Shannon compares bin by bin, so its bins have to hold several weights each: on the 15,361 float16 bins two
samples of one distribution hardly share a bin and look far apart. It therefore groups them, 8 to an octave, unless told
otherwise. A weight is counted in the bin that it rounds to, so a group ends not at a float16 but half way to the next
one, at one of `BIN_EDGES`: between these the divergence is that of the exact weights.
"""

import numpy as np
from numpy.typing import NDArray

from laminar_tui.profile.counts import BIN_VALUES, N_BINS, Counts

BINS_PER_OCTAVE = 8
"""How finely Jensen-Shannon looks: weights within 9 to 13 per cent of each other share a bin. Below 2^-14 (6e-5), where
float16 is evenly spaced, its bins are 7.6e-6 wide."""
FINEST = 1024
"""float16 has so many values in an octave."""


def wasserstein(a: Counts, b: Counts) -> NDArray[np.float64]:
    """Measure by how much weight the mass of one distribution has to move to give the other, on average.

    Args:
        a, b: [...], of shapes that broadcast; weights are taken at the value of their float16 bin.

    Returns:
        [...], the Wasserstein-1 distance in units of weight, 0 to 1; NaN where a side has no weights.
    """
    difference = np.abs(_shares(a).cumsum(axis=-1) - _shares(b).cumsum(axis=-1))
    return np.asarray(difference[..., :-1] @ np.diff(BIN_VALUES))


def jensen_shannon(a: Counts, b: Counts, bins_per_octave: int = BINS_PER_OCTAVE) -> NDArray[np.float64]:
    """Measure how well a single weight tells which of two distributions it is from.

    Args:
        a, b: [...], of shapes that broadcast.
        bins_per_octave: a power of two up to `FINEST`, with which every float16 is a bin of its own.

    Returns:
        [...], the Jensen-Shannon divergence in bits: 0 for equal ones, 1 for ones without a common bin; NaN where a
        side has no weights. (`scipy.spatial.distance.jensenshannon` gives its square root.)
    """
    p, q = _grouped(_shares(a), bins_per_octave), _grouped(_shares(b), bins_per_octave)
    middle = (p + q) / 2
    divergence = (_surprise(p, middle) + _surprise(q, middle)) / 2
    return np.clip(divergence, 0.0, 1.0)  # rounding leaves some 1e-17 below 0


def _shares(counts: Counts) -> NDArray[np.float64]:
    """The share of the weights in each bin, [..., N_BINS]; NaN without weights."""
    n = counts.n[..., None]
    shares: NDArray[np.float64] = np.divide(counts.hits, n, out=np.full(counts.hits.shape, np.nan), where=n > 0)
    return shares


def _grouped(shares: NDArray[np.float64], bins_per_octave: int) -> NDArray[np.float64]:
    """Add up neighbouring bins; the weight 1 alone is the last group."""
    starts = np.arange(0, N_BINS, FINEST // bins_per_octave)
    return np.asarray(np.add.reduceat(shares, starts, axis=-1))


def _surprise(p: NDArray[np.float64], middle: NDArray[np.float64]) -> NDArray[np.float64]:
    """sum p log2(p / middle), [...]; a bin without weights adds nothing."""
    ratio = np.divide(p, middle, out=np.ones(np.broadcast_shapes(p.shape, middle.shape)), where=(p > 0) | np.isnan(p))
    return np.asarray((p * np.log2(ratio)).sum(axis=-1))

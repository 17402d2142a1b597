"""Counts that add: how many weights fell where, kept instead of the weights.

A weight is rounded to float16 and counted by its bit pattern. Non-negative halves order like integers, so the 15,361
patterns from 0 to 1 are bins of relative width 2^-11 that serve the linear and the logarithmic axis alike, down to
6e-8. Moments come from the unrounded weights.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

N_BINS = 0x3C00 + 1
"""One bin for each float16 from 0 (pattern 0) to 1 (pattern 0x3C00)."""

BIN_VALUES: NDArray[np.float64] = np.arange(N_BINS, dtype=np.uint16).view(np.float16).astype(np.float64)
"""[N_BINS], the weight a bin stands for, ascending from 0 to 1."""

BIN_EDGES: NDArray[np.float64] = np.concatenate([[0.0], (BIN_VALUES[1:] + BIN_VALUES[:-1]) / 2, [1.0]])
"""[N_BINS + 1], where rounding to float16 changes from one bin to the next."""

SMALLEST_COUNTED = float(BIN_EDGES[1])
"""Weights below this (2^-25) round to zero and share bin 0 with the exact zeros."""

LOW, HIGH = 0.01, 0.5
"""Weights below the one and above the other are the two sets whose shares are told everywhere."""


def _ratio(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Divide; NaN where b is not positive."""
    quotient: NDArray[np.float64] = np.divide(a, b, out=np.full(np.shape(a), np.nan), where=b > 0)
    return quotient


@dataclass(frozen=True, eq=False)
class Counts:
    """How many weights fell into which bin, for any shape of distributions (`[...]`, often [n_layers, n_heads]).

    Attributes:
        hits: int64 [..., N_BINS].
        zeros: int64 [...], weights that are exactly 0 (underflowed, not masked); also counted in bin 0.
        total: float64 [...], the sum of the weights.
        total_sq: float64 [...], the sum of their squares.
    """

    hits: NDArray[np.int64]
    zeros: NDArray[np.int64]
    total: NDArray[np.float64]
    total_sq: NDArray[np.float64]

    def __repr__(self) -> str:
        return f"Counts(of shape {list(self.total.shape)}, {int(self.hits.sum()):,} weights)"

    @classmethod
    def empty(cls, shape: tuple[int, ...] = ()) -> "Counts":
        """Make counts of no weights at all."""
        return cls(np.zeros((*shape, N_BINS), np.int64), np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape))

    @property
    def n(self) -> NDArray[np.int64]:
        """How many weights were counted, [...]."""
        return np.asarray(self.hits.sum(axis=-1))

    @property
    def mean(self) -> NDArray[np.float64]:
        """The mean weight, [...]; NaN where there is none."""
        return _ratio(self.total, self.n)

    @property
    def std(self) -> NDArray[np.float64]:
        """The sample standard deviation (n - 1), [...]; NaN below two weights, 0 where all are equal."""
        n = self.n
        squares = self.total_sq - _ratio(self.total**2, n)
        variance = _ratio(squares, n - 1)
        # Cancellation leaves some 1e-16 of total_sq where all weights are equal: below one bin's width it is zero.
        one_bin = ((self.hits > 0).sum(axis=-1) == 1) & (n > 1)
        tiny = np.abs(squares) <= 1e-12 * self.total_sq
        return np.sqrt(np.where(one_bin & tiny, 0.0, np.maximum(variance, 0.0)))

    def quantile(self, q: float) -> NDArray[np.float64]:
        """The weight below which a share q of the weights lies, [...], to float16 precision; NaN for none."""
        cumulative = self.hits.cumsum(axis=-1)
        n = cumulative[..., -1:]
        below = (cumulative < np.maximum(q * n, 1)).sum(axis=-1)
        return np.where(n[..., 0] > 0, BIN_VALUES[np.minimum(below, N_BINS - 1)], np.nan)

    def share_above(self, weight: float) -> NDArray[np.float64]:
        """The share of the weights above a weight, [...]; NaN for none. The weight is rounded to a bin's edge."""
        n = self.n
        above = self.hits[..., np.searchsorted(BIN_VALUES, weight, side="right") :].sum(axis=-1)
        return _ratio(above, n)

    @property
    def share_low(self) -> NDArray[np.float64]:
        """The share of the weights below `LOW`, [...]; NaN for none. It lies between two bins: what is not above is."""
        return 1 - self.share_above(LOW)

    @property
    def share_high(self) -> NDArray[np.float64]:
        """The share of the weights above `HIGH`, [...]; NaN for none."""
        return self.share_above(HIGH)

    def summary(self) -> dict[str, NDArray[Any]]:
        """Say in a few numbers what was counted: NAME -> [...]."""
        return {
            "n": self.n,
            "mean": self.mean,
            "median": self.quantile(0.5),
            f"share_above_{HIGH}": self.share_high,
            f"share_below_{LOW}": self.share_low,
        }

    def pool(self, axis: int = -1) -> "Counts":
        """Add the distributions along an axis, so that a layer reads like one head.

        Args:
            axis: of `[...]`; -1 is the last one, the heads.

        Returns:
            Counts of one axis less; n and the sums are added too, so a bandwidth made from it is that of all weights
            together.
        """
        axis = axis % self.total.ndim
        return Counts(
            self.hits.sum(axis=axis),
            np.asarray(self.zeros.sum(axis=axis)),
            np.asarray(self.total.sum(axis=axis)),
            np.asarray(self.total_sq.sum(axis=axis)),
        )

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.hits + other.hits,
            np.asarray(self.zeros + other.zeros),
            np.asarray(self.total + other.total),
            np.asarray(self.total_sq + other.total_sq),
        )

    def __getitem__(self, index: Any) -> "Counts":
        return Counts(
            self.hits[index],
            np.asarray(self.zeros[index]),
            np.asarray(self.total[index]),
            np.asarray(self.total_sq[index]),
        )


def stack(counts: list[Counts]) -> Counts:
    """Put distributions of one shape into a new first axis."""
    return Counts(
        np.stack([each.hits for each in counts]),
        np.stack([each.zeros for each in counts]),
        np.stack([each.total for each in counts]),
        np.stack([each.total_sq for each in counts]),
    )


def count_weights(weights: NDArray[np.floating[Any]]) -> Counts:
    """Count one set of weights on the host: the plain form of what `model.tally` does on the device.

    Args:
        weights: any shape, in [0, 1].

    Returns:
        Counts of shape [].
    """
    flat = np.asarray(weights, dtype=np.float32).ravel()
    bins = flat.astype(np.float16).view(np.uint16)
    exact = flat.astype(np.float64)
    return Counts(
        np.bincount(bins, minlength=N_BINS).astype(np.int64),
        np.asarray((flat == 0).sum(), dtype=np.int64),
        np.asarray(exact.sum()),
        np.asarray((exact**2).sum()),
    )


def sum_rows(values: NDArray[Any], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Add up rows that lie behind one another.

    Args:
        values: whole numbers [n], whose sum is below 2^63.
        starts: [n_rows + 1], where each row begins; the last is n.

    Returns:
        [n_rows]; 0 for an empty row.
    """
    sums = np.zeros(len(starts) - 1, np.int64)
    filled = starts[1:] > starts[:-1]
    if filled.any():
        # Each sum goes on to where the next filled row begins: what lies between is empty.
        sums[filled] = np.add.reduceat(values, starts[:-1][filled], dtype=np.int64)
    return sums


@dataclass(frozen=True, eq=False)
class PackedCounts:
    """The counts of a layer's heads at rest: only the bins that were hit.

    A profile holds 7 parts x 1,024 heads; dense bins would take 0.9 GB, packed ones take what was hit.

    Attributes:
        starts: int64 [n_heads + 1], where a head's entries begin in `bins` and `hits`.
        bins: uint16 [n_entries], ascending within a head.
        hits: uint32 [n_entries] (uint64 where a bin holds more than 2^32 weights), at least 1.
        zeros, total, total_sq: [n_heads], as in `Counts`.
    """

    starts: NDArray[np.int64]
    bins: NDArray[np.uint16]
    hits: NDArray[np.unsignedinteger[Any]]
    zeros: NDArray[np.int64]
    total: NDArray[np.float64]
    total_sq: NDArray[np.float64]

    def __repr__(self) -> str:
        return f"PackedCounts({self.n_heads} heads, {int(self.hits.sum()):,} weights)"

    @classmethod
    def pack(cls, counts: Counts) -> "PackedCounts":
        """Keep the bins that were hit of [n_heads] distributions."""
        flat = counts.hits.ravel()
        places = np.flatnonzero(flat > 0)  # of booleans numpy finds them several times faster
        hits = flat[places]
        first_bins = np.arange(counts.total.shape[0] + 1) * N_BINS
        starts = np.searchsorted(places, first_bins)
        dtype = np.uint32 if hits.max(initial=0) < 2**32 else np.uint64
        return cls(
            starts.astype(np.int64),
            (places - np.repeat(first_bins[:-1], np.diff(starts))).astype(np.uint16),
            hits.astype(dtype),
            counts.zeros,
            counts.total,
            counts.total_sq,
        )

    @property
    def n_heads(self) -> int:
        """How many distributions are packed."""
        return len(self.starts) - 1

    @property
    def n(self) -> NDArray[np.int64]:
        """How many weights were counted, [n_heads], without unpacking them."""
        return sum_rows(self.hits, self.starts)

    def unpack(self) -> Counts:
        """Give back the dense counts, [n_heads]."""
        counts = Counts.empty((self.n_heads,))
        self.add_to(counts)
        return counts

    def add_to(self, counts: Counts) -> None:
        """Add to dense counts of [n_heads], in place: only the bins that were hit are touched."""
        places = np.repeat(np.arange(self.n_heads) * N_BINS, np.diff(self.starts)) + self.bins
        counts.hits.reshape(-1)[places] += self.hits.astype(np.int64)  # no bin comes twice
        counts.zeros[...] += self.zeros
        counts.total[...] += self.total
        counts.total_sq[...] += self.total_sq

    def pool(self) -> Counts:
        """Add the heads without unpacking each of them, []."""
        hits = np.bincount(self.bins, weights=self.hits.astype(np.float64), minlength=N_BINS)
        return Counts(
            hits.astype(np.int64),
            np.asarray(self.zeros.sum()),
            np.asarray(self.total.sum()),
            np.asarray(self.total_sq.sum()),
        )

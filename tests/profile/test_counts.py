"""Counts: every weight in the bin of its float16, moments of the unrounded weights, and all of it adds."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from laminar_tui.profile.counts import (
    BIN_EDGES,
    BIN_VALUES,
    N_BINS,
    SMALLEST_COUNTED,
    Counts,
    PackedCounts,
    count_weights,
    stack,
)

weights_of = arrays(np.float32, st.integers(0, 60), elements=st.floats(0, 1, width=32))
some_weights = arrays(np.float32, st.integers(1, 60), elements=st.floats(0, 1, width=32))
quick = settings(max_examples=60, deadline=None, derandomize=True)


def assert_same_counts(one: Counts, other: Counts) -> None:
    np.testing.assert_array_equal(one.hits, other.hits)
    np.testing.assert_array_equal(one.zeros, other.zeros)
    # Sums of the same float64 numbers in another order.
    np.testing.assert_allclose(one.total, other.total, rtol=1e-12, atol=0)
    np.testing.assert_allclose(one.total_sq, other.total_sq, rtol=1e-12, atol=0)


def test_there_is_one_bin_for_each_float16_from_0_to_1() -> None:
    assert N_BINS == 15361
    assert BIN_VALUES[0] == 0
    assert BIN_VALUES[-1] == 1
    assert BIN_VALUES[1] == 2.0**-24
    assert (np.diff(BIN_VALUES) > 0).all()
    assert (BIN_VALUES.astype(np.float16).astype(np.float64) == BIN_VALUES).all()


@quick
@given(weights_of)
def test_a_weight_is_counted_in_the_bin_between_whose_edges_it_lies(weights: NDArray[np.float32]) -> None:
    counts = count_weights(weights)
    assert counts.n == len(weights)
    for b in np.flatnonzero(counts.hits):
        inside = (weights.astype(np.float64) >= BIN_EDGES[b]) & (weights.astype(np.float64) <= BIN_EDGES[b + 1])
        assert counts.hits[b] <= inside.sum()
        strictly = (weights > BIN_EDGES[b]) & (weights < BIN_EDGES[b + 1])
        assert counts.hits[b] >= strictly.sum()


def test_rounding_changes_bins_exactly_at_the_edges() -> None:
    # Every 97th edge and both ends: the neighbours in float64 on either side of an edge round apart.
    inner = np.r_[1, 2, np.arange(3, N_BINS - 1, 97), N_BINS - 1]
    below = np.nextafter(BIN_EDGES[inner], 0).astype(np.float16).view(np.uint16)
    above = np.nextafter(BIN_EDGES[inner], 2).astype(np.float16).view(np.uint16)
    np.testing.assert_array_equal(below, inner - 1)
    np.testing.assert_array_equal(above, inner)


def test_a_weight_that_underflows_is_apart_from_an_exact_zero() -> None:
    tiny = np.float32(1e-9)
    counts = count_weights(np.array([0.0, 0.0, tiny, np.float32(0.5)]))
    assert tiny < SMALLEST_COUNTED
    assert counts.hits[0] == 3
    assert counts.zeros == 2
    assert counts.total == pytest.approx(0.5 + 1e-9, rel=1e-12)


@quick
@given(st.lists(weights_of, min_size=1, max_size=5))
def test_pooling_is_counting_the_concatenation(groups: list[NDArray[np.float32]]) -> None:
    pooled = stack([count_weights(group) for group in groups]).pool()
    assert_same_counts(pooled, count_weights(np.concatenate(groups)))


@quick
@given(weights_of, weights_of)
def test_adding_is_counting_the_concatenation(one: NDArray[np.float32], other: NDArray[np.float32]) -> None:
    assert_same_counts(count_weights(one) + count_weights(other), count_weights(np.concatenate([one, other])))


def test_pooling_takes_any_axis() -> None:
    rng = np.random.default_rng(0)
    grid = stack([stack([count_weights(rng.random(5)) for _ in range(3)]) for _ in range(2)])
    assert grid.pool(0).n.tolist() == [10, 10, 10]
    assert grid.pool(1).n.tolist() == [15, 15]
    assert_same_counts(grid.pool(0)[1], grid[0, 1] + grid[1, 1])
    assert_same_counts(grid.pool(-1), grid.pool(1))


@quick
@given(some_weights)
def test_mean_and_deviation_are_those_of_the_unrounded_weights(weights: NDArray[np.float32]) -> None:
    counts, exact = count_weights(weights), weights.astype(np.float64)
    assert counts.mean == pytest.approx(exact.mean(), rel=1e-12, abs=1e-300)
    if len(weights) > 1:
        # total_sq - total^2 / n loses what its terms share: 1e-12 of total_sq, the same bound as in the code.
        squares = (exact**2).sum() / (len(weights) - 1)
        assert counts.std**2 == pytest.approx(exact.var(ddof=1), rel=1e-9, abs=2e-12 * squares)


def test_moments_agree_with_numpy_to_twelve_digits() -> None:
    weights = np.random.default_rng(1).beta(0.3, 6, 5000).astype(np.float32)
    counts, exact = count_weights(weights), weights.astype(np.float64)
    np.testing.assert_allclose(counts.total, exact.sum(), rtol=1e-12)
    np.testing.assert_allclose(counts.total_sq, (exact**2).sum(), rtol=1e-12)
    np.testing.assert_allclose(counts.std, exact.std(ddof=1), rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, 1e-12, 3e-5, 0.1, 1 / 3, 0.9999, 1.0])
@pytest.mark.parametrize("n", [2, 3, 1000])
def test_constant_weights_have_no_deviation_at_all(value: float, n: int) -> None:
    assert count_weights(np.full(n, value)).std == 0


def test_without_weights_nothing_is_claimed() -> None:
    nothing = count_weights(np.array([]))
    assert nothing.n == 0
    assert np.isnan([nothing.mean, nothing.std, nothing.quantile(0.5), nothing.share_above(0.5)]).all()


def test_one_weight_has_a_mean_and_no_deviation() -> None:
    one = count_weights(np.array([0.25]))
    assert one.mean == 0.25
    assert np.isnan(one.std)


@quick
@given(some_weights, st.floats(0, 1))
def test_a_quantile_has_its_share_below(weights: NDArray[np.float32], q: float) -> None:
    found = count_weights(weights).quantile(q)
    halves = weights.astype(np.float16).astype(np.float64)
    n = len(weights)
    assert found in halves
    assert (halves <= found).sum() >= q * n - 1e-9
    assert (halves < found).sum() < max(q * n, 1)


def test_the_ends_of_the_quantiles_are_the_extremes() -> None:
    counts = count_weights(np.array([0.0, 0.25, 0.5, 1.0]))
    assert [counts.quantile(q) for q in (0, 0.25, 0.5, 0.75, 1)] == [0.0, 0.0, 0.25, 0.5, 1.0]
    assert count_weights(np.array([0.25, 0.5])).quantile(0) == 0.25


@quick
@given(some_weights, st.sampled_from([0.0, 0.01, 0.25, 0.5, 0.75, 1.0]))
def test_the_share_above_counts_what_is_above(weights: NDArray[np.float32], limit: float) -> None:
    halves = weights.astype(np.float16).astype(np.float64)
    assert count_weights(weights).share_above(limit) == pytest.approx((halves > limit).mean(), abs=1e-15)


@quick
@given(st.lists(weights_of, min_size=1, max_size=5))
def test_packing_loses_nothing_and_pools_alike(groups: list[NDArray[np.float32]]) -> None:
    dense = stack([count_weights(group) for group in groups])
    packed = PackedCounts.pack(dense)
    assert packed.n_heads == len(groups)
    assert (packed.hits > 0).all()
    assert len(packed.bins) == (dense.hits > 0).sum()
    for name in ("hits", "zeros", "total", "total_sq"):
        np.testing.assert_array_equal(getattr(packed.unpack(), name), getattr(dense, name))
    assert_same_counts(packed.pool(), packed.unpack().pool())


@pytest.mark.parametrize("most", [2**32 - 1, 2**32, 2**52 + 1])
def test_packing_holds_more_hits_than_32_bits(most: int) -> None:
    counts = Counts.empty((2,))
    counts.hits[1, 7] = most
    packed = PackedCounts.pack(counts)
    assert packed.n.tolist() == [0, most]
    assert packed.unpack().hits[1, 7] == most
    assert packed.pool().hits[7] == most


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_any_float_type_is_counted(dtype: Any) -> None:
    counts = count_weights(np.array([[0.5, 0.25], [0.0, 1.0]], dtype))
    assert counts.n == 4
    assert counts.total == 1.75


def test_packed_counts_know_how_many_weights_each_head_has() -> None:
    random = np.random.default_rng(5)
    heads = [count_weights(random.random(n).astype(np.float32)) for n in (7, 0, 1, 300, 0)]
    packed = PackedCounts.pack(stack(heads))
    assert packed.n.tolist() == [7, 0, 1, 300, 0] == packed.unpack().n.tolist()

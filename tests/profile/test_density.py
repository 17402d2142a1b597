"""Densities against scipy's, and the mass of every one of them.

scipy is the independent check; the package itself does not use it.
"""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import trapezoid
from scipy.stats import gaussian_kde

from laminar_tui.errors import UsageError
from laminar_tui.profile.counts import BIN_EDGES, BIN_VALUES, SMALLEST_COUNTED, Counts, count_weights, stack
from laminar_tui.profile.density import (
    DEFAULT_ESTIMATOR,
    DEFAULT_GRID,
    ESTIMATORS,
    LOG_LOW,
    N_CELLS,
    estimate_density,
    find_estimator,
)
from laminar_tui.profile.smoothing import smooth_rows

STEP = 1 / (DEFAULT_GRID - 1)
OF_THE_PEAK = 1e-3
"""Moving weights to 8,193 nodes costs less than this for every bandwidth of a step of the 300-point grid (28 nodes) or
more. Rounding them to float16 first is free noise: above 0.5 it moves a weight by up to 2.4e-4, 0.07 of the narrowest
such bandwidth, which averages out over hundreds of weights and does not over a handful; see the test that rounds
scipy's data alike."""


def _softmax(rng: np.random.Generator, spread: float, shape: tuple[int, int]) -> NDArray[np.float64]:
    scores = np.exp(rng.normal(0, spread, shape))
    return scores / scores.sum(axis=1, keepdims=True)


SAMPLES: dict[str, Callable[[np.random.Generator], NDArray[np.float64]]] = {
    "beta": lambda rng: rng.beta(0.3, 6, 2000),
    "uniform": lambda rng: rng.random(50),
    "satellites": lambda rng: np.r_[rng.beta(0.1, 8, 3000), rng.normal(0.7, 0.03, 60).clip(0, 1)],
    "two": lambda rng: np.array([0.2, 0.9]) + 0 * rng.random(2),
    "at both ends": lambda rng: np.r_[np.zeros(100), np.ones(100), rng.random(10)],
    "peaked softmax": lambda rng: _softmax(rng, 4, (40, 12)),
    "narrow": lambda rng: rng.normal(0.2, 0.02, 2000),
}


def weights_of(sample: str) -> NDArray[np.float32]:
    return SAMPLES[sample](np.random.default_rng(0)).astype(np.float32).ravel()


def bandwidth_of(kde: gaussian_kde) -> float:
    return float(np.sqrt(kde.covariance[0, 0]))


@pytest.mark.parametrize("sample", SAMPLES)
def test_gaussian_is_scipys_estimate(sample: str) -> None:
    weights = weights_of(sample)
    kde = gaussian_kde(weights.astype(np.float64))
    density = estimate_density(count_weights(weights), "gaussian")
    reference = kde(density.grid)
    assert bandwidth_of(kde) >= STEP, "the claim is about bandwidths of a step of the grid and more"
    assert density.bandwidth == pytest.approx(bandwidth_of(kde), rel=1e-9)
    assert np.abs(density.values - reference).max() <= OF_THE_PEAK * reference.max()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.integers(2, 400), st.floats(0.05, 3), st.floats(0.05, 9))
def test_gaussian_is_scipys_estimate_for_any_beta_distribution(seed: int, n: int, a: float, b: float) -> None:
    weights = np.random.default_rng(seed).beta(a, b, n).astype(np.float32).astype(np.float64)
    if weights.std() * n**-0.2 < STEP:
        return
    assert_is_scipys_of_rounded(weights)


@pytest.mark.parametrize("weights", [[0.7, 0.7066], [0.9, 0.91, 0.9], [0.50003, 0.5093, 0.997]])
def test_gaussian_is_scipys_estimate_for_a_handful_of_weights(weights: list[float]) -> None:
    assert_is_scipys_of_rounded(np.array(weights))


def assert_is_scipys_of_rounded(weights: NDArray[np.float64]) -> None:
    """Compare with scipy on the float16 that were counted, with the bandwidth of the weights themselves."""
    bandwidth = bandwidth_of(gaussian_kde(weights))
    halves = weights.astype(np.float32).astype(np.float16).astype(np.float64)
    kde = gaussian_kde(halves, bandwidth / halves.std(ddof=1))
    density = estimate_density(count_weights(weights), "gaussian")
    reference = kde(density.grid)
    assert np.abs(density.values - reference).max() <= OF_THE_PEAK * reference.max()


@pytest.mark.parametrize("sample", SAMPLES)
def test_reflected_is_scipys_estimate_with_its_images_added(sample: str) -> None:
    weights = weights_of(sample)
    kde = gaussian_kde(weights.astype(np.float64))
    nodes = ESTIMATORS["reflected"].function(count_weights(weights))
    grid = np.linspace(0, 1, DEFAULT_GRID)
    # One image at each end and the next two, which a bandwidth of 0.4 still reaches.
    reference = sum(kde(points) for points in (grid, -grid, 2 - grid, grid + 2, grid - 2))
    assert np.abs(nodes.at(grid) - reference).max() <= OF_THE_PEAK * reference.max()


@pytest.mark.parametrize("sample", ["beta", "uniform", "satellites", "two", "peaked softmax", "narrow"])
def test_log_is_scipys_estimate_of_the_logarithms_reflected_at_one(sample: str) -> None:
    weights = weights_of(sample)
    weights = weights[weights > SMALLEST_COUNTED]
    # Where float16 are few, bins are wide: those weights are spread over their bins. Compare above them.
    weights = weights[weights > 1e-4]
    kde = gaussian_kde(np.log10(weights.astype(np.float64)))
    nodes = ESTIMATORS["log"].function(count_weights(weights))
    grid = np.linspace(LOG_LOW, 0, DEFAULT_GRID)
    reference = kde(grid) + kde(-grid)
    # One float16 bin is 4e-4 decades wide at most here, a node 1e-3: against bandwidths of 0.02 and more.
    assert nodes.bandwidth == pytest.approx(bandwidth_of(kde), rel=2e-3)
    assert np.abs(nodes.at(grid) - reference).max() <= 5e-3 * reference.max()


def test_log_leaves_out_what_rounds_to_zero_and_says_so_by_its_mass() -> None:
    weights = np.r_[np.zeros(3), np.full(1, 1e-12), np.geomspace(1e-5, 1, 12)]
    nodes = ESTIMATORS["log"].function(count_weights(weights))
    assert nodes.mass() == pytest.approx(12 / 16, abs=1e-6)


@pytest.mark.parametrize("pattern", [1, 2, 4, 9, 1024, 9000, 15000])
def test_a_weight_is_spread_over_its_own_bin_of_the_log_axis(pattern: int) -> None:
    nodes = ESTIMATORS["log"].function(count_weights(np.full(50, BIN_VALUES[pattern])))
    low, high = np.log10(BIN_EDGES[pattern]), np.log10(BIN_EDGES[pattern + 1])
    axis = np.linspace(LOG_LOW, 0, N_CELLS + 1)
    centre = (nodes.values * axis).sum() / nodes.values.sum()
    # A quarter of a node (1e-3 decades); a shift by one bin shows where bins are wide, in the smallest patterns.
    assert centre == pytest.approx((low + high) / 2, abs=2.5e-4)
    above = nodes.values > 0.05 * nodes.values.max()
    assert axis[above].min() >= low - 0.008
    assert axis[above].max() <= high + 0.008


# -- mass ------------------------------------------------------------------------------------------------------------

SPIKES = {
    "spike in one node": np.full(100, 0.5),
    "spike between two nodes": np.full(100, (0.5 + 0.3 / N_CELLS)),
    "spike between two grid points": np.full(100, 150.5 * STEP),
    "narrower than a cell": 0.7 + 1e-5 * np.arange(50),
    "at zero": np.zeros(50),
    "at one": np.ones(50),
    "one weight": np.array([0.123]),
    "two equal": np.array([0.3, 0.3]),
    "one far from a thousand": np.r_[np.full(1000, 0.25), 0.75],
}


def irregular_edges(low: float, high: float, seed: int) -> NDArray[np.float64]:
    inner = np.random.default_rng(seed).uniform(low, high, 37)
    return np.r_[low, np.sort(inner), high]


@pytest.mark.parametrize("estimator", ["reflected", "histogram"])
@pytest.mark.parametrize("sample", [*SAMPLES, *SPIKES])
def test_the_cells_hold_all_the_mass_wherever_their_edges_are(estimator: str, sample: str) -> None:
    weights = SPIKES[sample] if sample in SPIKES else weights_of(sample)
    nodes = ESTIMATORS[estimator].function(count_weights(weights))
    assert nodes.mass() == pytest.approx(1, abs=1e-6)
    for edges in (np.linspace(0, 1, 2), np.linspace(0, 1, 42), np.linspace(0, 1, 301), irregular_edges(0, 1, 3)):
        cells = nodes.mean(edges)
        assert (cells >= -1e-9).all()
        assert (cells * np.diff(edges)).sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("sample", [*SAMPLES, *SPIKES])
def test_log_holds_the_share_of_weights_that_are_not_zero(sample: str) -> None:
    weights = SPIKES[sample] if sample in SPIKES else weights_of(sample)
    nodes = ESTIMATORS["log"].function(count_weights(weights))
    edges = irregular_edges(LOG_LOW, 0, 4)
    expected = (weights >= SMALLEST_COUNTED).mean()
    assert nodes.mass() == pytest.approx(expected, abs=1e-6)
    assert (nodes.mean(edges) * np.diff(edges)).sum() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_density_is_never_negative_or_undefined(sample: str, estimator: str) -> None:
    values = estimate_density(count_weights(weights_of(sample)), estimator).values
    assert np.isfinite(values).all()
    assert (values >= 0).all()


@pytest.mark.parametrize("estimator", ["reflected", "histogram", "log"])
def test_the_trapezoid_sum_of_the_grid_is_the_mass(estimator: str) -> None:
    density = estimate_density(count_weights(weights_of("beta").clip(1e-6)), estimator)
    assert trapezoid(density.values, density.grid) == pytest.approx(1, abs=1e-6)


def test_gaussian_leaks_what_scipys_estimate_leaks() -> None:
    weights = weights_of("beta")
    leaked = gaussian_kde(weights.astype(np.float64)).integrate_box_1d(0, 1)
    assert leaked < 0.9
    assert ESTIMATORS["gaussian"].function(count_weights(weights)).mass() == pytest.approx(leaked, abs=1e-3)


@pytest.mark.parametrize("estimator", ["reflected", "histogram"])
def test_a_spike_between_two_points_of_the_grid_is_seen_where_scipy_sees_nothing(estimator: str) -> None:
    weights = 150.5 * STEP + 1e-7 * np.arange(1000)
    density = estimate_density(count_weights(weights), estimator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert gaussian_kde(weights)(density.grid).max() == 0
    assert density.values[150:152].sum() * STEP == pytest.approx(1, abs=1e-3)


def test_gaussian_too_shows_a_spike_that_scipy_would_miss() -> None:
    weights = np.full(1000, 150 * STEP + 1e-4)
    assert estimate_density(count_weights(weights), "gaussian").values.argmax() == 150


# -- the ends of what can be asked -----------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_no_weights_are_a_density_of_zero_and_no_bandwidth(estimator: str) -> None:
    density = estimate_density(count_weights(np.array([])), estimator)
    assert (density.values == 0).all()
    assert np.isnan(density.bandwidth)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_one_weight_is_drawn_and_has_no_bandwidth(estimator: str) -> None:
    density = estimate_density(count_weights(np.array([0.25])), estimator)
    at = np.log10(0.25) if find_estimator(estimator).is_log else 0.25
    assert abs(density.grid[density.values.argmax()] - at) <= density.grid[1] - density.grid[0]
    assert np.isnan(density.bandwidth)


@pytest.mark.parametrize("estimator", ["reflected", "gaussian", "log"])
def test_equal_weights_have_a_bandwidth_of_zero(estimator: str) -> None:
    # log10 of one bin's value 500 times over leaves rounding, nothing that a picture could show.
    assert estimate_density(count_weights(np.full(500, 0.3)), estimator).bandwidth == pytest.approx(0, abs=1e-6)


def test_each_distribution_of_a_stack_is_estimated_alone() -> None:
    counts = [count_weights(weights_of(sample)) for sample in SAMPLES] + [count_weights(np.array([]))]
    for estimator in ESTIMATORS:
        together = estimate_density(stack(counts), estimator, 40)
        for row, each in enumerate(counts):
            alone = estimate_density(each, estimator, 40)
            np.testing.assert_allclose(together.values[row], alone.values, rtol=1e-9, atol=1e-9)


def test_more_distributions_than_fit_in_one_piece_are_estimated_alike() -> None:
    rng = np.random.default_rng(5)
    counts = [count_weights(rng.random(9)) for _ in range(70)]
    together = estimate_density(stack(counts), "reflected", 20)
    assert together.values.shape == (70, 20)
    np.testing.assert_allclose(together.values[69], estimate_density(counts[69], "reflected", 20).values, rtol=1e-9)


def test_the_shape_of_the_counts_is_kept() -> None:
    counts = Counts.empty((2, 3))
    assert estimate_density(counts, "reflected", 7).values.shape == (2, 3, 7)
    assert estimate_density(counts, "reflected", 7).bandwidth.shape == (2, 3)


def test_the_table_of_estimators() -> None:
    assert set(ESTIMATORS) == {"reflected", "gaussian", "histogram", "log"}
    assert DEFAULT_ESTIMATOR == "reflected"
    assert DEFAULT_GRID == 300
    for name, estimator in ESTIMATORS.items():
        assert estimator.name == name
        assert find_estimator(name) is estimator
        assert estimator.is_log == (name == "log")
        assert estimator.pointwise == (name == "gaussian")
        nodes = estimator.function(count_weights(np.array([0.1, 0.5])))
        assert (nodes.low, nodes.high) == (estimator.low, estimator.high)
        assert estimate_density(Counts.empty(), name).grid[[0, -1]].tolist() == [estimator.low, estimator.high]


@pytest.mark.parametrize("name", ["", "Gaussian", "kde"])
def test_an_unknown_estimator_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError) as refused:
        estimate_density(Counts.empty(), name)
    assert all(known in refused.value.hint for known in ESTIMATORS)


@pytest.mark.parametrize("n_grid", [1, 0, -3])
def test_a_grid_of_fewer_than_two_points_is_refused(n_grid: int) -> None:
    with pytest.raises(UsageError, match=str(n_grid)):
        estimate_density(Counts.empty(), "reflected", n_grid)


def test_the_smallest_grid_works() -> None:
    values = estimate_density(count_weights(weights_of("uniform")), "reflected", 2).values
    assert values.mean() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("reflect", [False, True])
def test_every_circle_smooths_as_the_sum_of_kernels_does(reflect: bool) -> None:
    """Widths for each length of circle, and for none: a kernel as wide as half the axis."""
    n_cells = 64
    shares = np.zeros((6, n_cells + 1))
    shares[:, [0, 1, 30, 63, 64]] = [0.3, 0.1, 0.2, 0.15, 0.25]
    width = np.array([2.0, 2.2, 2.5, 6.0, 12.0, 32.0])
    nodes = np.arange(n_cells + 1)
    images = [0] if not reflect else range(-6, 7)
    distances = [
        nodes[:, None] - sign * nodes - 2 * n_cells * image for image in images for sign in (1, -1)[: 1 + reflect]
    ]
    for row, one in zip(smooth_rows(shares, width, reflect=reflect), width, strict=True):
        kernel = sum(np.exp(-0.5 * (each / one) ** 2) for each in distances) / (one * np.sqrt(2 * np.pi))
        np.testing.assert_allclose(row, kernel @ shares[0], atol=1e-8)  # what a width of two nodes rings

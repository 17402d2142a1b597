"""Distances of two distributions, against scipy on the dense weights and against cases worked out by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial import distance as scipy_distance
from scipy.stats import wasserstein_distance

from laminar_tui.profile.counts import BIN_VALUES, Counts, count_weights, stack
from laminar_tui.profile.distance import BINS_PER_OCTAVE, FINEST, jensen_shannon, wasserstein

EXACT = 1e-12
"""Sums of some thousand float64 on the same rounded weights."""


def samples(seed: int, n: int) -> NDArray[np.float64]:
    """Weights of two kinds: many small ones, and few of any size."""
    rng = np.random.default_rng(seed)
    return np.concatenate([10 ** rng.uniform(-9, 0, n), rng.random(n // 4), np.zeros(3), np.ones(2)])


def rounded(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return weights.astype(np.float32).astype(np.float16).astype(np.float64)


PAIRS = [(samples(seed, 200 + 300 * seed), samples(seed + 10, 150) ** (1 + seed)) for seed in range(4)]


@pytest.mark.parametrize("pair", PAIRS)
def test_wasserstein_is_scipys_on_the_rounded_weights(pair: tuple[NDArray[np.float64], ...]) -> None:
    found = wasserstein(*(count_weights(each) for each in pair))
    assert found == pytest.approx(wasserstein_distance(*(rounded(each) for each in pair)), abs=EXACT)
    # Rounding moves a weight by 2^-12 of it at most, so the exact weights' distance is as near.
    assert found == pytest.approx(wasserstein_distance(*pair), abs=2**-12)


@pytest.mark.parametrize("pair", PAIRS)
def test_jensen_shannon_is_scipys_on_the_rounded_weights(pair: tuple[NDArray[np.float64], ...]) -> None:
    values = np.unique(np.concatenate([rounded(each) for each in pair]))
    p, q = ((rounded(each)[:, None] == values).mean(axis=0) for each in pair)
    expected = scipy_distance.jensenshannon(p, q, base=2) ** 2
    assert jensen_shannon(*map(count_weights, pair), FINEST) == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize("pair", PAIRS)
def test_jensen_shannon_in_coarse_bins_is_scipys_on_a_histogram(pair: tuple[NDArray[np.float64], ...]) -> None:
    octaves = 2.0 ** np.arange(-14, 0)
    within = 1 + np.arange(BINS_PER_OCTAVE) / BINS_PER_OCTAVE
    edges = np.concatenate([2.0**-14 * np.arange(8) / 8, (octaves[:, None] * within).ravel(), [1.0, 2.0]])
    p, q = (np.histogram(rounded(each), edges)[0] / len(each) for each in pair)
    expected = scipy_distance.jensenshannon(p, q, base=2) ** 2
    assert jensen_shannon(*map(count_weights, pair)) == pytest.approx(expected, abs=EXACT)


def test_a_shift_of_all_weights_is_as_far_as_it_shifts() -> None:
    low, high = count_weights(np.full(7, 0.25)), count_weights(np.full(3, 0.75))
    assert wasserstein(low, high) == 0.5
    assert jensen_shannon(low, high) == 1


def test_half_of_the_mass_moved() -> None:
    one, half = count_weights(np.zeros(4)), count_weights(np.array([0.0, 1.0]))
    assert wasserstein(one, half) == 0.5
    # H(3/4, 1/4) - (0 + 1) / 2
    assert jensen_shannon(one, half) == pytest.approx(0.8112781244591328 - 0.5, abs=EXACT)


def test_a_distribution_is_no_distance_from_itself_whatever_its_number() -> None:
    weights = samples(3, 500)
    once, thrice = count_weights(weights), count_weights(np.tile(weights, 3))
    assert wasserstein(once, thrice) == pytest.approx(0, abs=EXACT)
    assert jensen_shannon(once, thrice) == pytest.approx(0, abs=EXACT)


def test_zero_and_one_are_as_far_apart_as_weights_can_be() -> None:
    assert wasserstein(count_weights(np.zeros(1)), count_weights(np.ones(5))) == 1
    assert BIN_VALUES[-1] == 1


def test_two_samples_of_one_distribution_look_alike() -> None:
    """In bins of one float16 each they share hardly any and look far apart: why they are grouped."""
    one, other = (count_weights(np.random.default_rng(seed).dirichlet(np.ones(1000))) for seed in (1, 2))
    assert jensen_shannon(one, other) < 0.05
    assert jensen_shannon(one, other, FINEST) > 0.2
    assert wasserstein(one, other) < 1e-4


def test_distributions_of_any_shape_and_none() -> None:
    some, none = count_weights(samples(0, 50)), Counts.empty()
    pairs = stack([stack([some, none]), stack([none, some])])
    for distance in (wasserstein, jensen_shannon):
        found = distance(pairs, some)
        assert found.shape == (2, 2)
        np.testing.assert_allclose(found, [[0, np.nan], [np.nan, 0]], atol=EXACT)

"""Distances made from a capture's counts, against scipy on the exact weights of the bundled model's dense patterns."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial import distance as scipy_distance
from scipy.stats import wasserstein_distance

from laminar_tui.model.check import eager_patterns
from laminar_tui.profile.counts import BIN_EDGES, N_BINS, Counts, count_weights
from laminar_tui.profile.distance import BINS_PER_OCTAVE, FINEST, jensen_shannon, wasserstein
from laminar_tui.run import BUNDLED_MODEL

WITHIN = 1e-5
N_TOKENS = 101

Pair = tuple[NDArray[np.float64], NDArray[np.float64]]


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    """The exact weights on earlier tokens of neighbouring heads, and of neighbouring layers."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(BUNDLED_MODEL, dtype=torch.float32, attn_implementation="eager").eval()
    ids = torch.randint(3, 2000, (N_TOKENS,), generator=torch.Generator().manual_seed(0))
    earlier = np.tri(N_TOKENS, k=-1, dtype=bool)
    layers = [layer.double().numpy()[:, earlier] for layer in eager_patterns(model, ids[None])]
    heads = [head for layer in layers for head in layer]
    return [*pairwise(heads), *pairwise([layer.ravel() for layer in layers])]


def counted(pair: Pair) -> tuple[Counts, Counts]:
    one, other = (count_weights(each) for each in pair)
    return one, other


def test_wasserstein_is_that_of_the_exact_weights(pairs: list[Pair]) -> None:
    for pair in pairs:
        assert wasserstein(*counted(pair)) == pytest.approx(wasserstein_distance(*pair), abs=WITHIN)


def test_jensen_shannon_is_that_of_the_exact_weights_between_rounding_boundaries(pairs: list[Pair]) -> None:
    edges = [*BIN_EDGES[np.arange(0, N_BINS, FINEST // BINS_PER_OCTAVE)], 2.0]
    for pair in pairs:
        p, q = (np.histogram(each, edges)[0] / len(each) for each in pair)
        expected = scipy_distance.jensenshannon(p, q, base=2) ** 2
        assert jensen_shannon(*counted(pair)) == pytest.approx(expected, abs=WITHIN)

"""Which columns of two profiles belong together, how far apart they are, and what tells the profiles apart."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from laminar_tui.errors import UsageError
from laminar_tui.profile.compare import compare, comparison_text
from laminar_tui.profile.merge import merge
from laminar_tui.profile.pairs import Change, match_heads, match_layers, measure_change, tell_apart
from laminar_tui.profile.profile import Profile

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def make(patterns: Make, make_profile: Make) -> Callable[..., Profile]:
    """Makes a profile of so many layers: `make(n_layers, n_heads, seed)`."""
    return lambda n_layers, n_heads=2, seed=0: make_profile(
        [patterns(seed + layer, n_heads, 12, spread=1.0 + layer) for layer in range(n_layers)]
    )


def test_layers_of_equal_number_stand_side_by_side(make: Callable[..., Profile]) -> None:
    matching = match_layers(make(4), make(4))
    assert (matching.a.tolist(), matching.b.tolist()) == ([0, 1, 2, 3], [0, 1, 2, 3])
    assert matching.labels == ("0", "1", "2", "3")
    assert not matching.is_depth


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6])
def test_where_the_numbers_of_layers_differ_they_are_matched_by_depth(make: Callable[..., Profile], n: int) -> None:
    deep, shallow = make(7), make(n)
    matching = match_layers(shallow, deep)
    assert matching.is_depth
    assert matching.b.tolist() == list(range(7))
    assert (matching.a[0], matching.a[-1]) == (0, n - 1)
    for column, layer in enumerate(matching.a):
        depth = column / 6
        distances = [abs(depth - each / max(1, n - 1)) for each in range(n)]
        assert distances[layer] == pytest.approx(min(distances), abs=1e-12)
    other = match_layers(deep, shallow)
    assert (other.a.tolist(), other.b.tolist()) == (matching.b.tolist(), matching.a.tolist())


def test_heads_are_matched_only_where_there_are_as_many(make: Callable[..., Profile]) -> None:
    assert match_heads(make(2, 3), make(4, 3), 1, 2).labels == ("0", "1", "2")
    with pytest.raises(UsageError, match="layer 1 of A has 3 heads, layer 0 of B has 2"):
        match_heads(make(2, 3), make(2, 2), 1, 0)


def test_distances_are_those_of_the_dense_weights(patterns: Make, make_profile: Make) -> None:
    dense = [patterns(seed, 2, 24, spread=3.0) for seed in range(4)]
    a, b = make_profile(dense[:2]), make_profile(dense[2:])
    change = measure_change(a.layer_counts("all"), b.layer_counts("all"))
    sees = np.tril(np.ones((24, 24), bool))
    sees[0] = False
    for layer in range(2):
        expected = wasserstein_distance(dense[layer][:, sees].ravel(), dense[layer + 2][:, sees].ravel())
        # Weights are counted by the nearest float16, 2^-12 of their size away at most.
        assert change.wasserstein[layer] == pytest.approx(expected, abs=2.0**-12)
    assert np.all((change.jensen_shannon > 0) & (change.jensen_shannon <= 1))
    same = measure_change(a.layer_counts("all"), a.layer_counts("all"))
    assert np.allclose(same.wasserstein, 0)
    assert np.allclose(same.jensen_shannon, 0)


def test_the_largest_change_is_first_and_what_cannot_be_compared_is_left_out() -> None:
    change = Change(np.zeros(4), np.array([0.1, np.nan, 0.3, 0.2]))
    assert change.ranking() == [2, 3, 0]


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"revision": "step143000"}, ("step1000", "step143000")),
        ({"revision": ""}, ("step1000", "main")),
        ({"model": "other/model"}, ("tiny/model", "other/model")),
        ({"recipe": "literal"}, ("the model", "control: literal")),
        ({"dtype": "bfloat16", "device": "cuda:0"}, ("float32 cpu", "bfloat16 cuda:0")),
        ({"created": "2026-02-02"}, ("2026-01-01T00:00:00+00:00", "2026-02-02")),
    ],
)
def test_profiles_are_told_apart_by_what_differs(
    make: Callable[..., Profile], changes: dict[str, str], names: tuple[str, str]
) -> None:
    a = make(2)
    assert tell_apart(a, replace(a, origin=replace(a.origin, **changes))) == names


def test_prompts_are_told_apart_by_their_beginning(make: Callable[..., Profile]) -> None:
    a = make(2)
    b = replace(a, origin=replace(a.origin, tokens=("Once", " upon", *a.origin.tokens[2:])))
    assert tell_apart(a, b)[1].startswith("12 tokens “Once upon token2")


def test_corpora_are_told_apart_by_their_names_and_sizes(patterns: Make, make_profile: Make) -> None:
    def read(corpus: str, *lengths: int) -> Profile:
        found = merge([make_profile([patterns(n, 2, n)]) for n in lengths])
        return replace(found, origin=replace(found.origin, corpus=corpus))

    a, b = read("novels", 7, 12), read("laws", 9, 12)
    assert tell_apart(a, b) == ("2 prompts, 19 tokens novels", "2 prompts, 21 tokens laws")
    assert not compare(a, b).is_same_tokens
    assert compare(a, read("novels", 7, 12)).is_same_tokens
    assert "19 tokens in 2 prompts" in comparison_text(compare(a, b))


def test_equal_profiles_have_equal_names(make: Callable[..., Profile]) -> None:
    one, other = tell_apart(make(2), make(2))
    assert one == other

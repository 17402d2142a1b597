"""The profile: shapes, gaps, differing heads, and how prompts are added up."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from laminar_tui.errors import UsageError
from laminar_tui.profile.counts import Counts, count_weights
from laminar_tui.profile.density import ESTIMATORS, estimate_density
from laminar_tui.profile.merge import merge_layers
from laminar_tui.profile.parts import PARTS, POPULATIONS, SINK_CHOICES
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.statistics import STATISTICS

Patterns = Callable[..., NDArray[np.float32]]
MakeProfile = Callable[[list[NDArray[np.float32] | None]], Profile]


def test_sizes(small_profile: Profile) -> None:
    assert (small_profile.n_layers, small_profile.n_heads, small_profile.n_tokens, small_profile.n_read) == (
        4,
        3,
        12,
        3,
    )


def test_what_python_shows_of_a_profile_is_one_line(small_profile: Profile) -> None:
    assert repr(small_profile) == "Profile('tiny/model', 4 layers (3 read) x 3 heads, 12 tokens)"
    corpus = replace(small_profile.origin, model="m" * 5000 + "\n", n_prompts=3, n_tokens=1234)
    shown = repr(Profile(corpus, (small_profile.layers[0],)))
    assert shown == f"Profile('{'m' * 59}…', 1 layers x 3 heads, 1,234 tokens of 3 prompts)"
    layer = small_profile.layer(2)
    assert repr(layer) == "LayerProfile(2 heads, 154 weights)"
    assert repr(layer.parts["sink"]) == "PackedCounts(2 heads, 22 weights)"
    assert repr(small_profile.counts("past")) == "Counts(of shape [4, 3], 528 weights)"
    assert repr(small_profile.density("past", n_grid=50)) == "Density(values [4, 50], 50 points from 0 to 1)"


@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize("sink", SINK_CHOICES)
def test_counts_are_those_of_the_weights(
    population: str,
    sink: Any,
    patterns: Patterns,
    make_profile: MakeProfile,
    entries_of_population: Callable[[str, str, int], NDArray[np.bool_]],
) -> None:
    pattern = patterns(7, 3, 9)
    found = make_profile([pattern]).counts(population, sink)
    chosen = entries_of_population(population, sink, 9)
    for head in range(3):
        expected = count_weights(pattern[head][chosen])
        np.testing.assert_array_equal(found.hits[0, head], expected.hits)
        np.testing.assert_allclose(found.total[0, head], expected.total, rtol=1e-12)


def test_counts_have_a_row_a_layer_and_zeros_where_nothing_is(small_profile: Profile) -> None:
    counts = small_profile.counts("all")
    assert counts.total.shape == (4, 3)
    assert (counts.n[1] == 0).all(), "layer 1 has no attention"
    assert counts.n[2].tolist() == [77, 77, 0], "layer 2 has two heads"
    assert counts.n[0].tolist() == [77] * 3


@pytest.mark.parametrize("sink", SINK_CHOICES)
@pytest.mark.parametrize("population", POPULATIONS)
def test_how_many_weights_there_are_needs_no_dense_bins(
    population: str, sink: Any, small_profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = small_profile.counts(population, sink).n
    monkeypatch.setattr(Counts, "empty", lambda *_: pytest.fail("dense bins"))
    found = small_profile.n_weights(population, sink)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.int64


@pytest.mark.parametrize("sink", SINK_CHOICES)
@pytest.mark.parametrize("population", POPULATIONS)
def test_a_layers_counts_are_its_heads_pooled(population: str, sink: Any, small_profile: Profile) -> None:
    by_head, by_layer = small_profile.counts(population, sink), small_profile.layer_counts(population, sink)
    np.testing.assert_array_equal(by_head.pool().hits, by_layer.hits)
    np.testing.assert_allclose(by_head.pool().total_sq, by_layer.total_sq, rtol=1e-12)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_densities_have_their_shapes_and_gaps(estimator: str, small_profile: Profile) -> None:
    layers = small_profile.density("past", estimator=estimator, n_grid=50)
    heads = small_profile.density("past", by="head", estimator=estimator, n_grid=50)
    assert layers.values.shape == (4, 50)
    assert heads.values.shape == (4, 3, 50)
    assert layers.bandwidth.shape == (4,)
    assert heads.bandwidth.shape == (4, 3)
    for values in (layers.values, heads.values):
        assert np.isnan(values[1]).all()
        assert np.isfinite(values[[0, 3]]).all()
    assert np.isfinite(layers.values[2]).all()
    assert np.isfinite(heads.values[2, :2]).all()
    assert np.isnan(heads.values[2, 2]).all(), "layer 2 has no third head, which would be 0 in a mean"
    expected = estimate_density(small_profile.layer(2).head_counts("past"), estimator, 50)
    np.testing.assert_array_equal(heads.values[2, :2], expected.values)
    np.testing.assert_array_equal(heads.bandwidth[2, :2], expected.bandwidth)
    np.testing.assert_array_equal(heads.grid, expected.grid)


def test_a_layers_density_is_that_of_its_pooled_counts(small_profile: Profile) -> None:
    found = small_profile.density("final", "without", n_grid=40)
    expected = estimate_density(small_profile.layer(3).layer_counts("final", "without"), n_grid=40)
    np.testing.assert_allclose(found.values[3], expected.values, rtol=1e-9, atol=1e-12)


def test_statistics_have_a_column_a_head_and_gaps(small_profile: Profile) -> None:
    table = small_profile.statistics
    assert table.keys() == STATISTICS.keys()
    entropy = table["entropy"]
    assert entropy.shape == (4, 3)
    assert np.isnan(entropy[1]).all()
    assert np.isnan(entropy[2]).tolist() == [False, False, True]


def test_a_partial_profile_grows_layer_by_layer(patterns: Patterns, make_profile: MakeProfile) -> None:
    whole = make_profile([patterns(0, 2, 6), patterns(1, 2, 6)])
    empty = Profile(whole.origin, (None, None))
    assert (empty.n_read, empty.n_heads) == (0, 0)
    assert np.isnan(empty.density("final", n_grid=9).values).all()
    assert empty.counts("final").total.shape == (2, 0)
    half = empty.with_layer(1, whole.layer(1))
    assert (half.n_read, empty.n_read) == (1, 0), "the old profile is left as it was"
    assert half.counts("final").n.tolist() == [[0, 0], [5, 5]]


def test_unknown_layers_heads_and_gaps_are_refused(small_profile: Profile) -> None:
    for layer in (-1, 4, 99):
        with pytest.raises(UsageError, match=f"no layer {layer}"):
            small_profile.layer(layer)
    with pytest.raises(UsageError) as refused:
        small_profile.layer(1)
    assert "recurrent" in refused.value.hint
    for head in (-1, 2, 3):
        with pytest.raises(UsageError, match=f"no head {head}"):
            small_profile.check_head(2, head)
    small_profile.check_head(2, 1)


@pytest.mark.parametrize("ask", ["counts", "layer_counts", "n_weights", "density"])
def test_unknown_populations_are_refused_also_without_any_layer(ask: str, small_profile: Profile) -> None:
    for profile in (small_profile, Profile(small_profile.origin, (None,) * 4)):
        with pytest.raises(UsageError):
            getattr(profile, ask)("nothing")
        with pytest.raises(UsageError):
            getattr(profile, ask)("final", "maybe")


def test_prompts_are_added_up_counts_summed_numbers_averaged(patterns: Patterns, make_profile: MakeProfile) -> None:
    layers = [make_profile([patterns(seed, 2, n)]).layer(0) for seed, n in ((0, 5), (1, 8), (2, 6))]
    merged = merge_layers(layers)
    for part in PARTS:
        expected = Counts.empty((2,))
        for layer in layers:
            expected = expected + layer.parts[part].unpack()
        np.testing.assert_array_equal(merged.parts[part].unpack().hits, expected.hits)
        np.testing.assert_allclose(merged.parts[part].total, expected.total, rtol=1e-12)
    for name in STATISTICS:
        mean = np.mean([layer.statistics[name] for layer in layers], axis=0)
        np.testing.assert_allclose(merged.statistics[name], mean, rtol=1e-12)
    assert merged.final_weights is None
    assert merged.key_shares is None


def test_one_prompt_is_left_as_it_is(small_profile: Profile) -> None:
    assert merge_layers([small_profile.layer(0)]) is small_profile.layer(0)


def test_a_number_that_one_prompt_does_not_define_is_the_mean_of_the_others(
    patterns: Patterns, make_profile: MakeProfile
) -> None:
    one_token, longer = make_profile([patterns(0, 2, 1)]).layer(0), make_profile([patterns(1, 2, 6)]).layer(0)
    assert np.isnan(one_token.statistics["entropy"]).all()
    merged = merge_layers([one_token, longer])
    np.testing.assert_array_equal(merged.statistics["entropy"], longer.statistics["entropy"])


@pytest.mark.parametrize(
    ("recipe", "is_null", "is_control", "title"),
    [
        ("true", False, False, ""),
        ("literal", False, True, ""),
        ("null: uniform attention", True, False, "uniform attention"),
    ],
)
def test_an_origin_tells_a_null_from_a_control(
    small_profile: Profile, recipe: str, is_null: bool, is_control: bool, title: str
) -> None:
    origin = replace(small_profile.origin, recipe=recipe)
    assert (origin.is_null, origin.is_control, origin.null_title) == (is_null, is_control, title)

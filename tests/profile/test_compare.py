"""Two profiles side by side: which layers are matched, what is the same, how far they are apart."""

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from laminar_tui.profile.compare import (
    compare,
    comparison_json,
    comparison_sentences,
    comparison_text,
    match_layers,
)
from laminar_tui.profile.profile import Profile

MakeProfile = Callable[[list[NDArray[np.float32] | None]], Profile]
Patterns = Callable[..., NDArray[np.float32]]


@pytest.fixture(scope="module")
def dense(patterns: Patterns) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """Two models of three layers and two heads; they differ most in layer 2, and there in head 1."""
    one = [patterns(seed, 2, 24) for seed in range(3)]
    other = [one[0], patterns(9, 2, 24), one[2].copy()]
    other[2][1] = patterns(7, 1, 24, spread=40.0)[0]
    return one, other


@pytest.fixture(scope="module")
def pair(dense: tuple[list[NDArray[np.float32]], ...], make_profile: MakeProfile) -> tuple[Profile, Profile]:
    one, other = (make_profile(list(each)) for each in dense)
    return one, replace(other, origin=replace(other.origin, revision="step2000", dtype="bfloat16"))


def test_distances_and_shares_are_those_of_the_dense_weights(
    pair: tuple[Profile, Profile],
    dense: tuple[list[NDArray[np.float32]], ...],
    entries_of_population: Callable[[str, str, int], NDArray[np.bool_]],
) -> None:
    found = compare(*pair, "past", "without")
    chosen = entries_of_population("past", "without", 24)
    for layer in range(3):
        a, b = (each[layer][:, chosen].astype(np.float16).astype(float) for each in dense)
        assert found.wasserstein[layer] == pytest.approx(wasserstein_distance(a.ravel(), b.ravel()), abs=1e-12)
        assert found.below[layer] == pytest.approx((b < 0.01).mean() - (a < 0.01).mean(), abs=1e-12)
        assert found.above[layer] == pytest.approx((b > 0.5).mean() - (a > 0.5).mean(), abs=1e-12)
        for head in range(2):
            assert found.head_wasserstein[layer, head] == pytest.approx(
                wasserstein_distance(a[head], b[head]), abs=1e-12
            )
    assert found.above[2] > 0


def test_the_largest_change_comes_first(pair: tuple[Profile, Profile]) -> None:
    found = compare(*pair)
    assert found.order == [1, 2, 0]
    assert found.jensen_shannon[1] > found.jensen_shannon[2]
    assert found.wasserstein[1] < found.wasserstein[2], "else the other distance gives the same order"
    assert found.head_order[0] == (2, 1)
    assert found.wasserstein[0] == found.jensen_shannon[0] == 0


def test_it_says_what_is_the_same(pair: tuple[Profile, Profile]) -> None:
    found = compare(*pair)
    assert not found.is_same_model  # another revision
    assert found.is_same_tokens
    assert not found.is_same_dtype
    assert found.is_same_recipe
    sentences = comparison_sentences(found)
    assert "The same: tokens, recipe; different: model, dtype." in sentences
    assert any("largest change is in layer 1" in sentence for sentence in sentences)
    other_tokens = replace(pair[0], origin=replace(pair[0].origin, token_ids=tuple(range(1, 25))))
    assert not compare(pair[0], other_tokens).is_same_tokens


def test_a_profile_does_not_differ_from_itself(pair: tuple[Profile, Profile]) -> None:
    found = compare(pair[0], pair[0])
    assert not found.wasserstein.any()
    assert comparison_sentences(found)[-1] == "Every layer has the same distribution in both."


def test_layers_are_matched_by_depth_where_there_are_not_as_many() -> None:
    assert match_layers(3, 3).tolist() == [[0, 0], [1, 1], [2, 2]]
    assert match_layers(2, 4).tolist() == [[0, 0], [0, 1], [1, 2], [1, 3]]
    assert match_layers(4, 2).tolist() == match_layers(2, 4)[:, ::-1].tolist()
    assert match_layers(1, 3).tolist() == [[0, 0], [0, 1], [0, 2]]
    long = match_layers(6, 30)
    assert np.abs(long[:, 0] / 5 - long[:, 1] / 29).max() <= 0.1


def test_models_of_other_shapes(patterns: Patterns, make_profile: MakeProfile) -> None:
    one = make_profile([patterns(1, 2, 20), None])
    other = make_profile([patterns(1, 3, 30), patterns(2, 2, 30), patterns(3, 2, 30), patterns(4, 2, 30)])
    found = compare(one, other)
    assert found.layers.tolist() == [[0, 0], [0, 1], [1, 2], [1, 3]]
    assert np.isfinite(found.wasserstein).tolist() == [True, True, False, False]
    assert np.isnan(found.head_wasserstein[0]).all(), "two heads and three"
    assert np.isfinite(found.head_wasserstein[1]).tolist() == [True, True, False]
    assert found.depth.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert "A has 2 layers and B 4: layers of the nearest depth are compared." in comparison_sentences(found)


def test_text_and_json_hold_the_numbers(pair: tuple[Profile, Profile]) -> None:
    found = compare(*pair)
    text = comparison_text(found)
    rows = [line.split() for line in text.splitlines() if line.endswith(" pp")]
    assert [row[0] for row in rows] == ["1", "2", "0"]
    assert float(rows[0][2]) == pytest.approx(found.jensen_shannon[1], abs=1e-4)
    assert float(rows[0][3]) == pytest.approx(found.wasserstein[1], abs=1e-5)
    assert rows[0][6:] == ["0", "pp"]
    assert rows[1][6:] == [f"{100 * found.above[2]:+.1f}", "pp"]
    assert rows[-1][4:] == ["0", "pp", "0", "pp"]
    document = json.loads(comparison_json(found))
    assert document["wasserstein"] == pytest.approx(found.wasserstein.tolist())
    assert document["one"]["revision"] == "step1000"
    assert document["other"]["dtype"] == "bfloat16"


def test_nothing_to_compare(pair: tuple[Profile, Profile]) -> None:
    empty = Profile(pair[0].origin, (None,) * 3)
    found = compare(empty, pair[1])
    assert comparison_sentences(found)[-1] == "There is no layer that both have read."
    assert comparison_text(found)
    assert set(json.loads(comparison_json(found))["wasserstein"]) == {None}


def test_a_models_name_keeps_to_its_line(pair: tuple[Profile, Profile]) -> None:
    named = replace(pair[0], origin=replace(pair[0].origin, model="a\nb\x1b[31m"))
    lines = comparison_text(compare(named, pair[1])).splitlines()
    assert lines[0].startswith("A: a\\nb\\x1b[31m")


def test_a_population_that_one_does_not_have_is_not_called_unread(
    patterns: Patterns, make_profile: MakeProfile, pair: tuple[Profile, Profile]
) -> None:
    one_token = make_profile([patterns(seed, 2, 1) for seed in range(3)])
    said = comparison_sentences(compare(pair[0], one_token, "past"))[-1]
    assert said == "In no layer do both have weights of the chosen kind."


def test_json_says_how_many_tokens_several_prompts_had(pair: tuple[Profile, Profile]) -> None:
    origin = replace(pair[0].origin, tokens=(), token_ids=(), n_tokens=4096, n_prompts=8)
    document = json.loads(comparison_json(compare(replace(pair[0], origin=origin), pair[1])))
    assert (document["one"]["n_tokens"], document["other"]["n_tokens"]) == (4096, 24)

"""The nulls: uniform attention and independent scores, against dense patterns of the same."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from laminar_tui.errors import UsageError
from laminar_tui.profile import nulls
from laminar_tui.profile.counts import PackedCounts, count_weights, stack
from laminar_tui.profile.file import parse_profile, profile_bytes
from laminar_tui.profile.merge import merge
from laminar_tui.profile.nulls import (
    ENOUGH_QUERIES,
    MOST_WEIGHTS,
    count_queries,
    head_variance,
    independent_scores,
    sampled_ends,
    sampled_queries,
    uniform,
    visible_span,
)
from laminar_tui.profile.parts import PARTS, POPULATIONS, SINK_CHOICES
from laminar_tui.profile.profile import LayerProfile, Origin, Profile
from laminar_tui.profile.statistics import STATISTICS, gini_queries, pattern_statistics

MakeProfile = Callable[[list[NDArray[np.float32] | None]], Profile]
Patterns = Callable[..., NDArray[np.float32]]


def uniform_pattern(n_heads: int, n_tokens: int) -> NDArray[np.float32]:
    row = np.tri(n_tokens) / np.arange(1, n_tokens + 1)[:, None]
    return np.repeat(row[None], n_heads, axis=0).astype(np.float32)


def test_uniform_attention_is_counted_as_its_dense_pattern_is(patterns: Patterns, make_profile: MakeProfile) -> None:
    found = uniform(make_profile([patterns(1, 3, 40), None, patterns(2, 2, 40)]))
    expected = make_profile([uniform_pattern(3, 40), None, uniform_pattern(2, 40)])
    assert found.layers[1] is None
    assert found.origin.recipe == nulls.UNIFORM
    for index in (0, 2):
        for part in PARTS:
            one, other = found.layer(index).parts[part].unpack(), expected.layer(index).parts[part].unpack()
            np.testing.assert_array_equal(one.hits, other.hits, err_msg=part)
            np.testing.assert_array_equal(one.zeros, other.zeros)
            np.testing.assert_allclose(one.total, other.total, rtol=1e-6)
            np.testing.assert_allclose(one.total_sq, other.total_sq, rtol=1e-6)


def test_the_numbers_of_a_null_are_those_of_its_pattern(patterns: Patterns, make_profile: MakeProfile) -> None:
    found = uniform(make_profile([patterns(1, 2, 40)])).layer(0).statistics
    expected = make_profile([uniform_pattern(2, 40)]).layer(0).statistics
    assert found.keys() == STATISTICS.keys()
    for name, values in found.items():
        np.testing.assert_allclose(values, expected[name], atol=1e-6, err_msg=name)


@pytest.mark.parametrize("span", [40, 1, 2, 9])
def test_the_numbers_of_drawn_scores_are_those_of_the_dense_weights(span: int) -> None:
    q, k = np.indices((40, 40))
    sees = (k <= q) & (q - k < span)
    scores = np.where(sees, np.random.default_rng(span).normal(0, 3, (3, 40, 40)), -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    rows = [nulls._Rows(at, weights[:, at : at + 1, max(0, at - span + 1) : at + 1]) for at in range(40)]
    last = np.eye(40, dtype=np.int64)[-1]
    ones = np.ones(40, np.int64)
    found = nulls._numbers(rows, rows[-1:], nulls.Queries(ones, last, np.full(40, 1 / 39)))
    assert found.keys() == STATISTICS.keys()
    for head, pattern in enumerate(weights):
        for name, expected in pattern_statistics(pattern, sees).items():
            np.testing.assert_allclose(found[name][head], expected, atol=1e-9, err_msg=name)


def test_independent_scores_give_what_softmax_of_normal_numbers_gives(
    patterns: Patterns, make_profile: MakeProfile
) -> None:
    """`patterns` draws exactly such scores: its null is another draw of the same, head by head."""
    n_tokens = 60
    calm, wild = (patterns(3, 40, n_tokens, spread=spread) for spread in (0.5, 3.0))
    profile = make_profile([calm, wild])
    null = independent_scores(profile, seed=1)
    for layer, spread in enumerate((0.5, 3.0)):
        assert head_variance(profile.layer(layer)).mean() == pytest.approx(spread**2, rel=0.05)
        for population, sink in [(name, sink) for name in POPULATIONS for sink in SINK_CHOICES]:
            ours, theirs = (each.layer(layer).layer_counts(population, sink) for each in (profile, null))
            if ours.n:
                error = 4 * float(ours.std) / np.sqrt(float(ours.n)) + 1e-9
                assert float(ours.mean) == pytest.approx(float(theirs.mean), abs=error), (layer, population, sink)
                assert float(ours.share_above(0.5)) == pytest.approx(float(theirs.share_above(0.5)), abs=0.03)
        for name in ("entropy", "participation_ratio", "hoyer"):
            ours, theirs = (each.layer(layer).statistics[name].mean() for each in (profile, null))
            assert ours == pytest.approx(theirs, rel=0.1), name


def test_each_head_has_its_own_variance(patterns: Patterns, make_profile: MakeProfile) -> None:
    heads = np.concatenate([patterns(3, 1, 60, spread=0.1), patterns(4, 1, 60, spread=6.0)])
    share = independent_scores(make_profile([heads])).layer(0).head_counts("past").share_above(0.5)
    assert share[0] <= 1 / 1770  # only query 1, which sees two keys, can
    assert share[1] > 0.005


def test_the_last_query_is_drawn_often(patterns: Patterns, make_profile: MakeProfile) -> None:
    null = independent_scores(make_profile([patterns(3, 2, 30)]))
    n = int(null.layer(0).layer_counts("final").n)
    assert n == pytest.approx(nulls.ENOUGH_WEIGHTS, rel=0.1)
    assert int(null.layer(0).layer_counts("self").n) == 2 * 29


def test_a_null_is_a_draw_that_can_be_made_again(patterns: Patterns, make_profile: MakeProfile) -> None:
    profile = make_profile([patterns(3, 2, 30)])
    once, again, other = (independent_scores(profile, seed) for seed in (1, 1, 2))
    assert profile_bytes(once) == profile_bytes(again) != profile_bytes(other)
    assert parse_profile(profile_bytes(once)).origin.recipe == nulls.INDEPENDENT


def test_an_older_profile_has_the_variance_of_its_last_query(patterns: Patterns, make_profile: MakeProfile) -> None:
    layer = make_profile([patterns(3, 4, 200, spread=2.0)]).layer(0)
    older = {name: values for name, values in layer.statistics.items() if name != "score_variance"}
    found = head_variance(LayerProfile(layer.parts, older, layer.final_weights))
    np.testing.assert_allclose(found, np.log(layer.final_weights.astype(float)).var(axis=1, ddof=1), rtol=1e-9)
    assert np.isnan(head_variance(LayerProfile(layer.parts, older))).all()


def test_a_layer_of_unknown_variance_has_no_null(patterns: Patterns, make_profile: MakeProfile) -> None:
    profile = make_profile([patterns(3, 2, 30)])
    unknown = LayerProfile(profile.layer(0).parts, {})
    null = independent_scores(Profile(profile.origin, (unknown,)))
    assert null.layers == (None,)


@pytest.mark.parametrize("span", [1, 2, 7, 29, 30])
def test_a_window_is_found_in_the_counts_and_kept_by_the_nulls(
    span: int, make_profile: MakeProfile, entries_of_parts: Callable[[int], dict[str, NDArray[np.bool_]]]
) -> None:
    q, k = np.indices((30, 30))
    window = q - k < span
    parts = {
        part: PackedCounts.pack(stack([count_weights(np.full((30, 30), 0.1)[entries & window])] * 2))
        for part, entries in entries_of_parts(30).items()
    }
    layer = LayerProfile(parts, {"score_variance": np.ones(2)})
    assert visible_span(layer, np.ones(30, np.int64)) == span
    profile = Profile(make_profile([uniform_pattern(2, 30)]).origin, (layer,))
    for null in (uniform(profile), independent_scores(profile)):
        hidden = 30 - span
        assert (null.layer(0).final_weights[:, :hidden] == 0).all()
        assert (null.layer(0).final_weights[:, hidden:] > 0).all()
        for part in ("self", "sink", "content"):
            assert int(null.layer(0).parts[part].pool().n) == int(layer.parts[part].pool().n), part


def test_a_long_prompt_is_sampled_evenly() -> None:
    chosen = sampled_queries(np.ones(1000, np.int64), 2)
    assert len(chosen) == nulls.ENOUGH_QUERIES
    assert (chosen[0], chosen[-1]) == (0, 999)
    assert set(np.diff(chosen)) <= {7, 8}
    assert sampled_queries(np.ones(5, np.int64)).tolist() == [0, 1, 2, 3, 4]


def test_one_token(make_profile: MakeProfile) -> None:
    profile = make_profile([uniform_pattern(2, 1)])
    assert uniform(profile).layer(0).layer_counts("all").n == 0
    assert independent_scores(profile).layers == (None,)


def test_the_weights_that_are_drawn_at_once_are_bounded() -> None:
    for n_heads, n_tokens in ((32, 2_048), (32, 32_768), (128, 131_072), (64, 1), (64, 2)):
        queries = sampled_queries(np.ones(n_tokens, np.int64), n_heads)
        assert (queries[0], queries[-1]) == (0, n_tokens - 1)
        assert len(queries) == min(n_tokens, ENOUGH_QUERIES) or n_heads * (queries + 1).sum() <= 1.1 * MOST_WEIGHTS
    assert len(sampled_queries(np.ones(32_768, np.int64), 32)) == 31
    for n_heads, lengths in ((128, ((65_535, 5), (65_536, 5))), (32, ((3, 99), (2_048, 1))), (1, ((1, 2), (9, 1)))):
        origin = Origin("m", "gpt2", "float32", "cpu", "tap", (), (), (), lengths=lengths)
        ends = sampled_ends(count_queries(Profile(origin, ())), n_heads)
        assert len(ends) >= 2
        assert n_heads * (ends + 1).sum() <= 1.1 * MOST_WEIGHTS


@pytest.mark.parametrize("span", [1, 3, 50])
def test_uniform_attention_of_prompts_of_many_lengths_is_the_sum_of_theirs(
    span: int, make_profile: MakeProfile
) -> None:
    """Exactly, also beyond as many queries as are drawn of independent scores, and with a sliding window."""
    lengths = (1, 2, 7, 7, 40, 200)

    def windowed(length: int) -> NDArray[np.float32]:
        q, k = np.indices((length, length))
        sees = ((k <= q) & (q - k < span)).astype(np.float64)
        return np.repeat((sees / sees.sum(axis=1, keepdims=True))[None], 2, axis=0).astype(np.float32)

    def seen(profile: Profile) -> Profile:
        """Take the weights that the window hides out of the counts, where they are zeros."""
        layer = profile.layer(0)
        parts = {part: drop_zeros(packed) for part, packed in layer.parts.items()}
        return replace(profile, layers=(replace(layer, parts=parts),))

    prompts = [seen(make_profile([windowed(length)])) for length in lengths]
    whole = merge(prompts)
    found = parse_profile(profile_bytes(uniform(whole))).layer(0)
    for part in PARTS:
        one, other = found.parts[part].unpack(), whole.layer(0).parts[part].unpack()
        np.testing.assert_array_equal(one.hits, other.hits, err_msg=part)
        np.testing.assert_allclose(one.total, other.total, rtol=1e-6)
        np.testing.assert_allclose(one.total_sq, other.total_sq, rtol=1e-6)
    assert found.final_weights is None
    ends = ("final.sink_share",) * (span > 1)
    for name in ("sink_share", "self", "previous_token", *ends, *(("entropy", "distance") * (span == 50))):
        np.testing.assert_allclose(found.statistics[name], whole.layer(0).statistics[name], rtol=1e-5, err_msg=name)


def drop_zeros(packed: PackedCounts) -> PackedCounts:
    counts = packed.unpack()
    hits = counts.hits.copy()
    hits[:, 0] -= counts.zeros
    return PackedCounts.pack(replace(counts, hits=hits, zeros=0 * counts.zeros))


def test_independent_scores_of_prompts_of_many_lengths_are_a_draw_of_the_same(
    make_profile: MakeProfile, patterns: Patterns
) -> None:
    """Mostly short prompts and some long ones: a null of one length, short or long, would be far off."""
    lengths = (5, 6, 9) * 60 + (90, 120) * 6
    drawn = [make_profile([patterns(number, 8, length, spread=2.0)]) for number, length in enumerate(lengths)]
    whole = merge(drawn)
    null = independent_scores(whole, seed=3).layer(0)
    alone = {length: independent_scores(make_profile([patterns(1, 8, length, spread=2.0)])) for length in (5, 120)}
    for population in ("final", "past", "self"):
        ours, theirs = (each.layer_counts(population, "without") for each in (whole.layer(0), null))
        assert float(theirs.mean) == pytest.approx(float(ours.mean), rel=0.15), population
        assert float(theirs.share_above(0.5)) == pytest.approx(float(ours.share_above(0.5)), rel=0.3), population
        for length, other in alone.items():
            mean = float(other.layer(0).layer_counts(population, "without").mean)
            assert abs(mean / float(ours.mean) - 1) > 0.3, (population, length)
    for name in ("entropy", "effective_tokens", "sink_share", "distance", "final.entropy", "final.sink_share"):
        ours, theirs = (each.statistics[name].mean() for each in (whole.layer(0), null))
        assert theirs == pytest.approx(ours, rel=0.2), name
    for name in ("gini", "rest.gini", "score_variance"):
        ours, theirs = (each.statistics[name].mean() for each in (whole.layer(0), null))
        assert theirs == pytest.approx(ours, rel=0.05), name


@pytest.mark.parametrize("lengths", [(16,) * 100 + (1024,), (8,) * 50 + (200,) * 50, (512,)])
def test_a_number_of_few_rows_counts_each_prompt_once(lengths: tuple[int, ...]) -> None:
    """Of normal scores the rows' expected Gini coefficient is that of their length, whatever was drawn how often."""
    origin = Origin("m", "gpt2", "float32", "cpu", "tap", (), (), (), lengths=tuple(Counter(lengths).items()))
    queries = count_queries(Profile(origin, ()))
    found = nulls._drawn_layer(np.ones(64), max(lengths), queries, np.random.default_rng(1), is_one=False).statistics
    rng = np.random.default_rng(2)
    for name in ("gini", "rest.gini"):
        expected = []
        for length in set(lengths):
            wanted = [q for q in gini_queries(length) if q > (name == "rest.gini")]
            rows = [nulls._draw(np.array([q]), length, np.ones(500), rng) for q in wanted]
            means = [next(iter(row)).numbers_in_order()[name].mean() for row in rows]
            expected += [np.mean(means)] * lengths.count(length)
        assert found[name].mean() == pytest.approx(np.mean(expected), rel=0.03), name


def test_prompts_of_unknown_lengths_have_no_null(make_profile: MakeProfile, patterns: Patterns) -> None:
    whole = merge([make_profile([patterns(n, 2, n)]) for n in (7, 12)])
    older = replace(whole, origin=replace(whole.origin, lengths=()))
    for null in (uniform, independent_scores):
        assert null(whole).n_read == 1
        with pytest.raises(UsageError, match="lengths of the prompts"):
            null(older)

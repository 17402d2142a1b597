"""The published sink rule, against a dense formula, and what it does not judge."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from laminar_tui.profile.merge import merge, merge_layers
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.report import make_report
from laminar_tui.profile.sinks import (
    MIN_QUERIES,
    SHORTEST_PROMPT,
    are_judged,
    first_key_share,
    sink_heads,
    sink_keys,
)

MakeProfile = Callable[[list[NDArray[np.float32] | None]], Profile]
Patterns = Callable[..., NDArray[np.float32]]


def dense_rule(pattern: NDArray[np.float32]) -> list[tuple[int, int, float]]:
    """alpha_k = mean of A[i, k] over the rows i >= k, head by head and key by key."""
    n_tokens = pattern.shape[1]
    found = []
    for head in range(len(pattern)):
        for key in range(n_tokens - MIN_QUERIES + 1):
            alpha = np.mean([pattern[head, i, key] for i in range(key, n_tokens)])
            if alpha > 0.3:
                found.append((head, key, float(alpha)))
    return found


def with_sinks(pattern: NDArray[np.float32], shares: dict[tuple[int, int], float]) -> NDArray[np.float32]:
    """Give keys a share of every query that sees them and leave the rest as it is."""
    pattern = pattern.copy()
    for (head, key), share in shares.items():
        pattern[head, key:] *= 1 - share
        pattern[head, key:, key] += share
    return pattern


def test_sinks_are_those_of_the_dense_rule(patterns: Patterns, make_profile: MakeProfile) -> None:
    shares = {(0, 0): 0.8, (1, 0): 0.25, (2, 0): 0.6, (2, 5): 0.4, (3, 20): 0.25}
    pattern = with_sinks(patterns(5, 5, 64, spread=0.5), shares)
    profile = make_profile([pattern])
    expected, found = dense_rule(pattern), sink_keys(profile.layer(0))
    assert [each[:2] for each in found] == [each[:2] for each in expected]
    np.testing.assert_allclose([each[2] for each in found], [each[2] for each in expected], atol=1e-6)
    assert {(head, key) for head, key, _ in found} >= {(0, 0), (2, 0), (2, 5)}
    assert len(found) < 10


def test_which_heads_have_one(patterns: Patterns, make_profile: MakeProfile) -> None:
    pattern = with_sinks(patterns(5, 3, 64, spread=0.5), {(0, 0): 0.8, (2, 9): 0.7})
    profile = make_profile([pattern, None, pattern[:2]])
    assert sink_heads(profile).tolist() == [[True, False, True], [False] * 3, [True, False, False]]
    assert sink_heads(profile, key=9).tolist() == [[False, False, True], [False] * 3, [False] * 3]
    assert not sink_heads(profile, threshold=0.9).any()


def test_a_key_that_few_queries_see_is_not_judged(make_profile: MakeProfile) -> None:
    """Every query looks at itself: the last key's mean share is 1, over one query."""
    assert sink_keys(make_profile([np.eye(64, dtype=np.float32)[None]]).layer(0)) == []
    both = np.repeat(np.eye(64, dtype=np.float32)[None], 2, axis=0)
    late = with_sinks(both, {(0, 64 - MIN_QUERIES): 0.9, (1, 64 - MIN_QUERIES + 1): 0.9})
    assert [each[:2] for each in sink_keys(make_profile([late]).layer(0))] == [(0, 64 - MIN_QUERIES)]


@pytest.mark.parametrize(("n_tokens", "judged"), [(SHORTEST_PROMPT - 1, []), (SHORTEST_PROMPT, [0]), (31, [0])])
def test_short_prompts(n_tokens: int, judged: list[int], make_profile: MakeProfile) -> None:
    pattern = np.zeros((1, n_tokens, n_tokens), np.float32)
    pattern[:, :, 0] = 1
    assert [key for _, key, _ in sink_keys(make_profile([pattern]).layer(0))] == judged


def test_uniform_attention_has_no_sink_on_the_shortest_prompt(make_profile: MakeProfile) -> None:
    n = SHORTEST_PROMPT
    uniform = (np.tri(n) / np.arange(1, n + 1)[:, None]).astype(np.float32)
    assert sink_keys(make_profile([uniform[None]]).layer(0)) == []


def test_of_prompts_of_several_lengths_key_zero_alone_is_judged(patterns: Patterns, make_profile: MakeProfile) -> None:
    sinks = {(0, 0): 0.8, (2, 9): 0.7}
    pair = [with_sinks(patterns(5, 3, n, spread=0.5), sinks) for n in (64, 60)]
    one, other = (make_profile([each]) for each in pair)
    several = replace(one, layers=(merge_layers([one.layer(0), other.layer(0)]),))
    alpha = [np.concatenate([each[head, :, 0] for each in pair]).mean(dtype=np.float64) for head in range(3)]
    np.testing.assert_allclose(first_key_share(several.layer(0)), alpha, atol=1e-7)
    assert sink_keys(several.layer(0)) == [(0, 0, pytest.approx(alpha[0], abs=1e-7))]
    assert sink_heads(several).tolist() == [[True, False, False]]
    assert not sink_heads(several, key=9).any()


def test_alpha_of_key_zero_counts_query_zero_as_the_shares_by_key_do(
    patterns: Patterns, make_profile: MakeProfile
) -> None:
    layer = make_profile([patterns(5, 3, 64)]).layer(0)
    assert layer.key_shares is not None
    np.testing.assert_allclose(first_key_share(layer), layer.key_shares[:, 0], atol=1e-6)
    assert (first_key_share(layer) > layer.statistics["sink_share"]).all(), "query 0 has nowhere else to look"


def test_short_prompts_of_several_lengths_are_not_judged(patterns: Patterns, make_profile: MakeProfile) -> None:
    one, other = (make_profile([with_sinks(patterns(5, 3, n), {(0, 0): 0.9})]) for n in (12, 14))
    several = replace(one, layers=(merge_layers([one.layer(0), other.layer(0)]),))
    assert not sink_heads(several).any()
    assert not are_judged(several)


def test_prompts_of_one_length_have_a_mean_share_by_key(patterns: Patterns, make_profile: MakeProfile) -> None:
    one = make_profile([with_sinks(patterns(5, 3, 64, spread=0.5), {(0, 0): 0.8, (2, 9): 0.7})])
    several = replace(one, layers=(merge_layers([one.layer(0), one.layer(0)]),))
    assert [each[:2] for each in sink_keys(several.layer(0))] == [each[:2] for each in sink_keys(one.layer(0))] != []


def test_a_report_of_several_prompts_of_one_length_names_keys_by_position(
    patterns: Patterns, make_profile: MakeProfile
) -> None:
    one = make_profile([with_sinks(patterns(5, 3, 64, spread=0.5), {(0, 0): 0.8, (2, 9): 0.7})])
    assert "they are at key 0 (1 head), key 9 (1 head)." in make_report(merge([one, one])).chapters["Sinks"][2]

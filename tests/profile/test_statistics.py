"""The numbers of a head, against values worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laminar_tui.profile.formulas import gini_rows
from laminar_tui.profile.statistics import (
    GINI_QUERIES,
    STATISTICS,
    effective_tokens,
    entropy,
    gini,
    gini_queries,
    hoyer,
    normalised_entropy,
    participation_ratio,
    pattern_statistics,
)

EXACT = 1e-12  # float64 arithmetic on a handful of numbers

shares = st.lists(st.floats(0.001, 1), min_size=2, max_size=30).map(lambda values: np.array(values) / sum(values))


@pytest.mark.parametrize("n", [2, 3, 10, 1000])
def test_uniform_weights(n: int) -> None:
    p = np.full(n, 1 / n)
    assert entropy(p) == pytest.approx(math.log(n), abs=EXACT)
    assert normalised_entropy(p) == pytest.approx(1, abs=EXACT)
    assert effective_tokens(p) == pytest.approx(n, rel=EXACT)
    assert participation_ratio(p) == pytest.approx(n, rel=EXACT)
    assert hoyer(p) == pytest.approx(0, abs=1e-9)
    assert gini(p) == pytest.approx(0, abs=EXACT)


@pytest.mark.parametrize("n", [2, 3, 10, 1000])
def test_all_on_one_key(n: int) -> None:
    p = np.zeros(n)
    p[n // 2] = 1
    assert entropy(p) == 0
    assert normalised_entropy(p) == 0
    assert effective_tokens(p) == 1
    assert participation_ratio(p) == 1
    assert hoyer(p) == pytest.approx(1, abs=EXACT)
    assert gini(p) == pytest.approx(1 - 1 / n, abs=EXACT)


def test_three_quarters_and_one() -> None:
    p = np.array([0.75, 0.25])
    assert entropy(p) == pytest.approx(0.75 * math.log(4 / 3) + 0.25 * math.log(4), abs=EXACT)
    assert participation_ratio(p) == pytest.approx(1 / (9 / 16 + 1 / 16), abs=EXACT)
    assert hoyer(p) == pytest.approx((math.sqrt(2) - 1 / math.sqrt(0.625)) / (math.sqrt(2) - 1), abs=EXACT)
    assert gini(p) == pytest.approx(0.25, abs=EXACT)  # 0.5 / (2 * 2 * 0.5), the mean difference over twice the mean


@settings(max_examples=60, deadline=None, derandomize=True)
@given(shares)
def test_gini_is_the_mean_difference_of_pairs_over_twice_the_mean(p: np.ndarray) -> None:
    pairs = np.abs(p[:, None] - p[None, :]).mean() / (2 * p.mean())
    assert gini(p) == pytest.approx(pairs, abs=1e-10)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(shares)
def test_effective_numbers_lie_between_one_and_n(p: np.ndarray) -> None:
    assert 1 - 1e-9 <= participation_ratio(p) <= effective_tokens(p) + 1e-9 <= len(p) + 2e-9


def test_every_statistic_has_a_formula() -> None:
    assert pattern_statistics(np.eye(3)).keys() == STATISTICS.keys()


def test_a_head_that_attends_uniformly() -> None:
    n = 6
    found = pattern_statistics(np.tril(np.ones((n, n))) / np.arange(1, n + 1)[:, None])
    visible = np.arange(2, n + 1)
    expected = {
        "entropy": np.log(visible).mean(),
        "entropy_share": 1.0,
        "effective_tokens": visible.mean(),
        "participation_ratio": visible.mean(),
        "hoyer": 0.0,
        "gini": 0.0,
        "score_variance": 0.0,
        "distance": ((visible - 1) / 2).mean(),
        "sink_share": (1 / visible).mean(),
        "previous_token": (1 / visible).mean(),
        "self": (1 / visible).mean(),
        "off_sequence": 0.0,
        "rest.entropy": np.log(visible - 1).mean(),
        "rest.entropy_share": 1.0,
        "rest.effective_tokens": (visible - 1).mean(),
        "rest.participation_ratio": (visible - 1).mean(),
        "rest.hoyer": 0.0,
        "rest.gini": 0.0,
        "rest.distance": ((visible - 2) / 2).mean(),
        "rest.previous_token": (1 / (visible[1:] - 1)).mean(),
        "rest.self": (1 / (visible[1:] - 1)).mean(),
        "final.entropy": math.log(n),
        "final.effective_tokens": n,
        "final.sink_share": 1 / n,
    }
    assert found == pytest.approx(expected, abs=1e-12)


def test_a_previous_token_head() -> None:
    found = pattern_statistics(np.eye(8, k=-1) + np.diag([1.0] + [0.0] * 7))
    assert found["previous_token"] == 1
    assert found["distance"] == 1
    assert found["self"] == 0
    assert found["sink_share"] == pytest.approx(1 / 7, abs=EXACT)  # query 1's previous token is the sink
    assert found["rest.distance"] == 1
    assert found["entropy"] == 0


def test_a_head_that_is_all_sink_has_no_rest() -> None:
    pattern = np.zeros((5, 5))
    pattern[:, 0] = 1
    found = pattern_statistics(pattern)
    assert found["sink_share"] == 1
    assert found["final.sink_share"] == 1
    assert found["distance"] == pytest.approx((1 + 2 + 3 + 4) / 4, abs=EXACT)
    assert all(math.isnan(found[name]) for name in STATISTICS if name.startswith("rest."))


def test_the_numbers_without_the_sink_are_those_of_what_it_leaves() -> None:
    """Query 2 leaves 0.4 to the keys 1 and 2, query 3 leaves 0.5 to three keys, and query 1 has a single one."""
    pattern = np.array([[1, 0, 0, 0], [0.9, 0.1, 0, 0], [0.6, 0.1, 0.3, 0], [0.5, 0.3, 0.1, 0.1]])
    found = pattern_statistics(pattern)
    rest = [np.array([0.25, 0.75]), np.array([0.6, 0.2, 0.2])]
    assert found["rest.previous_token"] == pytest.approx((0.25 + 0.2) / 2, abs=EXACT)
    assert found["rest.self"] == pytest.approx((0.75 + 0.2) / 2, abs=EXACT)
    assert found["rest.gini"] == pytest.approx((0.25 + (0.4 * 4 / 9) / (2 / 3)) / 2, abs=EXACT)
    squares = [(each**2).sum() for each in rest]
    sparsity = [(math.sqrt(n) - 1 / math.sqrt(s)) / (math.sqrt(n) - 1) for n, s in zip((2, 3), squares, strict=True)]
    assert found["rest.hoyer"] == pytest.approx(np.mean(sparsity), abs=EXACT)
    shares = [-(each * np.log(each)).sum() / math.log(len(each)) for each in rest]
    assert found["rest.entropy_share"] == pytest.approx(np.mean(shares), abs=EXACT)


@pytest.mark.parametrize("seed", range(4))
def test_a_gini_without_one_weight_needs_no_second_sort(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.full(12, 0.3), (3, 5)).round(2)  # with zeros and equal weights
    rows[:, 0, 7:] = 0
    rows[0, 1, 0] = rows[0, 1].max()
    n_each = np.full((1, 5), 12), np.full((1, 5), 11)
    ginis, rest_ginis, has_rest = gini_rows(np.sort(rows), rows[:, :, 0], *n_each, np.arange(12, 0, -1), np)
    for head, row in np.ndindex(3, 5):
        whole, others = rows[head, row], rows[head, row, 1:]
        assert ginis[head, row] == pytest.approx(gini(whole), abs=EXACT)
        assert has_rest[head, row] == (others.sum() > 0)
        if others.sum():
            assert rest_ginis[head, row] == pytest.approx(gini(others), abs=1e-9)


def test_mass_on_no_key_is_off_sequence() -> None:
    assert pattern_statistics(np.tril(np.full((4, 4), 0.1)))["off_sequence"] == pytest.approx(1 - 0.3, abs=EXACT)


def test_a_hidden_key_is_not_a_weight() -> None:
    window = np.tril(np.ones((6, 6), bool)) & ~np.tril(np.ones((6, 6), bool), -2)
    pattern = np.where(window, 0.5, 0.0)
    pattern[0, 0] = 1
    assert pattern_statistics(pattern, window)["entropy_share"] == pytest.approx(1, abs=EXACT)
    assert pattern_statistics(pattern, window)["gini"] == pytest.approx(0, abs=EXACT)


def test_one_token_defines_no_number() -> None:
    assert all(math.isnan(value) for value in pattern_statistics(np.ones((1, 1))).values())


@pytest.mark.parametrize("n", [1, 2, 3, GINI_QUERIES, GINI_QUERIES + 1, GINI_QUERIES + 2, 500])
def test_the_queries_of_the_gini_are_few_and_end_with_the_last(n: int) -> None:
    chosen = gini_queries(n)
    assert len(chosen) == min(GINI_QUERIES, n - 1)
    assert chosen == tuple(sorted(set(chosen)))
    assert all(1 <= q < n for q in chosen)
    assert not chosen or chosen[-1] == n - 1

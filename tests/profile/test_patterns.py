"""The entries behind a cell are those of the dense pattern, and a saved profile gives its last query's."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from laminar_tui.errors import UsageError
from laminar_tui.profile import patterns as module
from laminar_tui.profile.parts import POPULATIONS, SINK_CHOICES, SinkChoice
from laminar_tui.profile.patterns import (
    Entries,
    FinalWeights,
    merge_entries,
    population_mask,
    population_queries,
    select_entries,
)
from laminar_tui.profile.profile import Profile

N = 12
MakePatterns = Callable[..., NDArray[np.float32]]
MakeProfile = Callable[..., Profile]
Population = Callable[[str, str, int], NDArray[np.bool_]]
CHOICES = [(population, sink) for population in POPULATIONS for sink in SINK_CHOICES]
BANDS = np.array([0.0, 1e-6, 1e-3, 0.01, 0.1, 0.3, 0.7, 1.0])


def hidden(pattern: NDArray[np.float32], window: int = N) -> NDArray[np.float32]:
    """The same pattern with NaN on later keys and on those before the window."""
    query, key = np.indices(pattern.shape[1:])
    return np.where((key <= query) & (query - key < window), pattern, np.nan).astype(np.float32)


def listed(entries: Entries) -> list[tuple[int, int, int, float]]:
    found = zip(entries.head, entries.query, entries.key, entries.weight, strict=True)
    return [(int(head), int(query), int(key), float(weight)) for head, query, key, weight in found]


def by_hand(
    pattern: NDArray[np.float32], chosen: NDArray[np.bool_], low: float, high: float
) -> list[tuple[int, int, int, float]]:
    """Every entry of the band, one after the other, in float64."""
    found = [
        (head, query, key, float(weight))
        for (head, query, key), weight in np.ndenumerate(pattern)
        if chosen[query, key] and float(weight) >= low and (float(weight) < high or high >= 1)
    ]
    return sorted(found, key=lambda entry: (-entry[3], *entry[:3]))


@pytest.mark.parametrize(("population", "sink"), CHOICES)
@pytest.mark.parametrize("window", [N, 5])
def test_the_entries_of_a_band_are_those_of_the_dense_pattern(
    population: str, sink: SinkChoice, window: int, patterns: MakePatterns, entries_of_population: Population
) -> None:
    pattern = hidden(patterns(3, 4, N), window)
    chosen = entries_of_population(population, sink, N)
    for low, high in pairwise(BANDS):
        found = select_entries(pattern, 0, low, high, population=population, sink=sink)
        expected = by_hand(pattern, chosen, low, high)
        assert listed(found) == expected
        assert found.n == found.n_shown == len(expected)


@pytest.mark.parametrize(("population", "sink"), CHOICES)
def test_in_pieces_the_heaviest_are_the_same(population: str, sink: SinkChoice, patterns: MakePatterns) -> None:
    pattern = hidden(np.round(patterns(4, 3, N), 2))  # many weights are equal: their order is by place
    whole = select_entries(pattern, 0, 0.0, 1.0, population=population, sink=sink)
    for limit in (0, 1, 7, 30, 10**6):
        pieces = [
            select_entries(
                np.ascontiguousarray(pattern[heads, first : first + 5]),
                first,
                0.0,
                1.0,
                population=population,
                sink=sink,
                limit=limit,
                first_head=heads.start,
            )
            for first in range(0, N, 5)
            for heads in (slice(1, 3), slice(0, 1))
        ]
        merged = merge_entries(pieces, limit)
        assert listed(merged) == listed(whole)[:limit]
        assert merged.n == whole.n


def test_a_bound_between_two_float32_is_not_rounded() -> None:
    weight = np.float32(0.1)  # 1.5e-9 above 0.1
    pattern = np.array([[[1, 0], [weight, 1 - weight]]], np.float32)
    for low, high, n in ((0.1, 0.2, 1), (float(weight), 0.2, 1), (float(weight) + 1e-12, 0.2, 0), (0, 0.1, 0)):
        assert select_entries(pattern, 0, low, high, population="past", sink="with").n == n, (low, high)
    assert select_entries(pattern, 0, 0, float(weight) + 1e-12, population="past", sink="with").n == 1


def test_a_one_is_in_the_last_band_also_where_float32_makes_more_of_it() -> None:
    pattern = np.array([[[1, np.nan], [1 + 1e-7, 0]]], np.float32)
    assert pattern[0, 1, 0] > 1
    assert select_entries(pattern, 0, 0.9, 1.0, population="past", sink="with").n == 1


def test_a_hidden_key_is_no_entry_and_an_underflowed_weight_is() -> None:
    pattern = np.array([[[1, np.nan, np.nan], [0, 1, np.nan], [np.nan, 0, 1]]], np.float32)
    found = select_entries(pattern, 0, 0.0, 1.0, population="past", sink="with")
    assert listed(found) == [(0, 1, 0, 0.0), (0, 2, 1, 0.0)]


@pytest.mark.parametrize("n_tokens", [1, 2, 5])
@pytest.mark.parametrize(("population", "sink"), CHOICES)
def test_a_populations_entries_are_in_its_queries(
    population: str, sink: SinkChoice, n_tokens: int, entries_of_population: Population
) -> None:
    chosen = entries_of_population(population, sink, n_tokens)
    assert (population_mask(population, sink, 0, n_tokens, n_tokens) == chosen).all()
    queries = population_queries(population, sink, n_tokens)
    assert set(np.flatnonzero(chosen.any(axis=1))) <= set(queries)
    assert 0 not in queries


# -- the last query of a saved profile -------------------------------------------------------------------------------


def test_a_profile_gives_the_last_row_and_says_that_the_others_are_not_there(
    patterns: MakePatterns, make_profile: MakeProfile
) -> None:
    pattern = patterns(1, 3, N)
    source = FinalWeights(make_profile([pattern]))
    found = source.pattern(0, 2)
    np.testing.assert_array_equal(found[-1], pattern[2, -1])
    assert np.isnan(found[:-1]).all()
    np.testing.assert_array_equal(source.rows(0, 1, N - 2, N)[1], pattern[1, -1])
    assert np.isnan(source.rows(0, 1, 2, N - 1)).all()
    assert not source.has_all_queries
    assert "last query only" in source.scope


@pytest.mark.parametrize(("population", "sink"), CHOICES)
@pytest.mark.parametrize("head", [None, 1])
def test_its_entries_are_the_last_querys(
    population: str,
    sink: SinkChoice,
    head: int | None,
    patterns: MakePatterns,
    make_profile: MakeProfile,
    entries_of_population: Population,
) -> None:
    pattern = patterns(2, 3, N)
    found = FinalWeights(make_profile([pattern])).entries(0, 0.0, 0.5, population=population, sink=sink, head=head)
    chosen = entries_of_population(population, sink, N).copy()
    is_complete = not chosen[:-1].any()
    chosen[:-1] = False
    expected = by_hand(pattern, chosen, 0.0, 0.5)
    assert listed(found) == [entry for entry in expected if head in (None, entry[0])]
    assert found.is_complete == is_complete


def test_what_a_window_hides_is_not_taken_for_a_weight_of_zero(make_profile: MakeProfile) -> None:
    """A profile holds 0 for a hidden key; the counts know how many keys the last query sees."""
    pattern = np.tril(np.ones((2, 6, 6), np.float32))
    pattern[:, -1] = [0, 0, 0, 0.25, 0, 0.75]  # the window is 4: keys 0 and 1 are hidden, 2 and 4 have underflowed
    profile = make_profile([pattern])
    layer = profile.layer(0)
    parts = dict(layer.parts)
    parts["final.sink"] = _without(parts["final.sink"], 1)
    parts["final.content"] = _without(parts["final.content"], 1)
    profile = replace(profile, layers=(replace(layer, parts=parts),))
    row = FinalWeights(profile).rows(0, 1, 5, 6)[0]
    np.testing.assert_array_equal(row, np.array([np.nan, np.nan, 0, 0.25, 0, 0.75], np.float32))
    assert FinalWeights(profile).entries(0, 0.0, 1e-9, population="final", sink="with").n == 4


def _without(packed: Any, n_zeros: int) -> Any:
    """Take some zeros out of every head's counts."""
    counts = packed.unpack()
    hits = counts.hits.copy()
    hits[:, 0] -= n_zeros
    return type(packed).pack(replace(counts, hits=hits, zeros=counts.zeros - n_zeros))


def test_what_is_not_there_is_refused_in_words(small_profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    source = FinalWeights(small_profile)
    for layer, head, words in ((9, 0, "no layer 9"), (1, 0, "no attention"), (2, 2, "no head 2")):
        with pytest.raises(UsageError, match=words):
            source.pattern(layer, head)
    with pytest.raises(UsageError, match="no head 7"):
        source.entries(0, 0, 1, population="past", sink="with", head=7)
    with pytest.raises(UsageError, match="no population"):
        source.entries(0, 0, 1, population="future", sink="with")
    for first, last in ((-1, 2), (3, 3), (0, 13)):
        with pytest.raises(UsageError, match="no queries"):
            source.rows(0, 0, first, last)
    several = replace(small_profile.layer(0), final_weights=None)
    with pytest.raises(UsageError, match="several prompts"):
        FinalWeights(small_profile.with_layer(0, several)).pattern(0, 0)
    monkeypatch.setattr(module, "MAX_PATTERN_BYTES", 4 * 11**2)
    with pytest.raises(UsageError, match="12 tokens"):
        source.pattern(0, 0)

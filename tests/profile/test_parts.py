"""Every weight is in exactly one part, and a population is a union of parts."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from laminar_tui.errors import UsageError
from laminar_tui.profile.parts import PARTS, POPULATIONS, SINK_CHOICES, population_parts
from laminar_tui.profile.profile import Profile

WHOLE = ("origin", "self", "sink", "content")
FINAL = ("final.self", "final.sink", "final.content")


def test_the_parts_are_those_of_the_design() -> None:
    assert tuple(PARTS) == WHOLE + FINAL


@pytest.mark.parametrize("n_tokens", [1, 2, 3, 9])
def test_every_allowed_entry_is_in_exactly_one_part(
    n_tokens: int, patterns: Callable[..., NDArray[Any]], make_profile: Callable[..., Profile]
) -> None:
    layer = make_profile([patterns(0, 2, n_tokens)]).layer(0)
    in_parts = sum(layer.parts[part].unpack().n for part in WHOLE)
    assert in_parts.tolist() == [n_tokens * (n_tokens + 1) // 2] * 2


@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize("n_tokens", [2, 3, 9])
def test_a_population_is_the_union_of_its_parts(
    population: str,
    n_tokens: int,
    entries_of_parts: Callable[[int], dict[str, NDArray[np.bool_]]],
    entries_of_population: Callable[[str, str, int], NDArray[np.bool_]],
) -> None:
    entries = entries_of_parts(n_tokens)
    for sink in SINK_CHOICES:
        union = np.zeros((n_tokens, n_tokens), int)
        for part in population_parts(population, sink):
            union += entries[part]
        np.testing.assert_array_equal(union, entries_of_population(population, sink, n_tokens))


@pytest.mark.parametrize("population", POPULATIONS)
def test_with_the_sink_is_without_it_plus_the_sink_alone(population: str, small_profile: Profile) -> None:
    for counts in (small_profile.counts, small_profile.layer_counts):
        whole = counts(population, "with")
        added = counts(population, "without") + counts(population, "only")
        np.testing.assert_array_equal(whole.hits, added.hits)
        np.testing.assert_array_equal(whole.zeros, added.zeros)
        # Sums of the same numbers in another order: rounding only.
        np.testing.assert_allclose(whole.total, added.total, rtol=1e-13)
        np.testing.assert_allclose(whole.total_sq, added.total_sq, rtol=1e-13)


def test_no_sink_is_in_self() -> None:
    assert population_parts("self", "only") == ()
    assert population_parts("self", "without") == ("self",)


@pytest.mark.parametrize(("population", "sink"), [("fnial", "with"), ("", "with"), ("final", "no"), ("final", "")])
def test_unknown_names_are_refused_with_the_known_ones(population: str, sink: Any) -> None:
    with pytest.raises(UsageError) as refused:
        population_parts(population, sink)
    known = POPULATIONS if population not in POPULATIONS else SINK_CHOICES
    assert all(name in refused.value.hint for name in known)

"""Every number of a head under one roof, and the distance of each head from one."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from laminar_tui.profile.measures import Measure, list_measures, nearest_heads
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.report import make_report
from laminar_tui.profile.roles import ROLES, Roles
from laminar_tui.profile.sinks import MIN_QUERIES, SHORTEST_PROMPT, THRESHOLD, sink_heads
from laminar_tui.profile.statistics import STATISTICS

MakeProfile = Callable[[list[NDArray[np.float32] | None]], Profile]
Patterns = Callable[..., NDArray[np.float32]]


def test_every_statistic_that_has_a_value_is_a_measure(small_profile: Profile) -> None:
    measures = {each.name: each for each in list_measures(small_profile)}
    defined = [name for name, values in small_profile.statistics.items() if np.isfinite(values).any()]
    assert set(defined) == measures.keys(), "12 tokens are too few for sinks"
    for name in defined:
        assert measures[name].title == STATISTICS[name].title
        assert np.array_equal(measures[name].values, small_profile.statistics[name], equal_nan=True)
        assert measures[name].is_share == STATISTICS[name].is_share
    for name in (name for name in defined if STATISTICS[name].is_share):
        assert not STATISTICS[name].unit
        assert -1e-6 < np.nanmin(measures[name].values) <= np.nanmax(measures[name].values) < 1 + 1e-6
    assert sum(each.is_share for each in STATISTICS.values()) == 9
    assert next(iter(measures)) == "sink_share"


@pytest.mark.parametrize("n_tokens", [SHORTEST_PROMPT, 31, 33, 40, 64, 80])
def test_the_matrix_and_the_report_count_the_same_sinks(n_tokens: int, make_profile: MakeProfile) -> None:
    """A sink at key 12 is judged by both from 43 tokens on, and a sink at key 0 by both from 16."""
    pattern = np.tri(n_tokens, dtype=np.float32)[None].repeat(3, axis=0)
    pattern[0, :, 0] += n_tokens
    pattern[1, 12:, 12] += 2 * n_tokens
    profile = make_profile([pattern / pattern.sum(axis=-1, keepdims=True), None])
    measure, told = strongest(profile), make_report(profile)
    assert measure.threshold == THRESHOLD
    above = measure.values > THRESHOLD
    assert above.sum() == sink_heads(profile).sum() == 1 + (n_tokens >= 12 + MIN_QUERIES)
    assert {(layer, head) for layer, head, _, _ in told.sink_heads} == {*zip(*np.nonzero(above), strict=True)}
    assert told.chapters["Sinks"][0].startswith(f"{above.sum()} of 3 heads")


def test_the_strongest_key_is_the_largest_alpha_of_the_judged_keys(
    patterns: Patterns, make_profile: MakeProfile
) -> None:
    pattern = patterns(3, 2, 40, spread=2.0)
    measure = strongest(make_profile([None, pattern]))
    assert np.isnan(measure.values[0]).all()
    for head in range(2):
        alphas = [np.mean(pattern[head, key:, key], dtype=np.float64) for key in range(40 - MIN_QUERIES + 1)]
        assert measure.values[1, head] == pytest.approx(max(alphas), abs=1e-6)


def strongest(profile: Profile) -> Measure:
    (measure,) = [each for each in list_measures(profile) if each.name == "strongest_key"]
    return measure


def test_scores_of_roles_are_measures_with_their_thresholds(small_profile: Profile) -> None:
    shape = (small_profile.n_layers, small_profile.n_heads)
    scores = {name: np.random.default_rng(at).random(shape) for at, name in enumerate(ROLES)}
    with_roles = replace(small_profile, roles=Roles(scores, {"induction": 0.2}, 8, 1))
    found = {each.name: each for each in list_measures(with_roles)}
    for name, role in ROLES.items():
        measure = found[f"role.{name}"]
        assert measure.title == f"{role.title} score"
        assert np.array_equal(measure.values, scores[name])
        assert not measure.is_share, "a score is a number from 0 to 1 in the report and beside the head too"
    assert found["role.induction"].threshold == 0.2
    assert not any(each.name.startswith("role.") for each in list_measures(small_profile))


@pytest.mark.parametrize("population", ["all", "self", "final"])
def test_a_head_is_nearest_to_itself_and_every_head_has_its_place(small_profile: Profile, population: str) -> None:
    measure = nearest_heads(small_profile, 2, 1, population, "with")
    assert measure.values[2, 1] == pytest.approx(0, abs=1e-12)
    assert np.nanargmin(measure.values) == 2 * small_profile.n_heads + 1
    for index, layer in enumerate(small_profile.layers):
        n_heads = 0 if layer is None else layer.n_heads
        assert np.isfinite(measure.values[index, :n_heads]).all()
        assert np.isnan(measure.values[index, n_heads:]).all()


def test_a_population_without_weights_has_no_distances(small_profile: Profile) -> None:
    assert np.isnan(nearest_heads(small_profile, 2, 1, "self", "only").values).all()

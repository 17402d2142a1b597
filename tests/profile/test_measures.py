"""Every number of a head under one roof, and the distance of each head from one."""

from dataclasses import replace

import numpy as np
import pytest

from laminar_tui.profile.measures import SHARES, list_measures, nearest_heads
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.roles import ROLES, Roles
from laminar_tui.profile.statistics import STATISTICS


def test_every_statistic_that_has_a_value_is_a_measure(small_profile: Profile) -> None:
    measures = {each.name: each for each in list_measures(small_profile)}
    defined = [name for name, values in small_profile.statistics.items() if np.isfinite(values).any()]
    assert set(defined) | {"strongest_key"} == measures.keys()
    for name in defined:
        assert measures[name].title == STATISTICS[name].title
        assert np.array_equal(measures[name].values, small_profile.statistics[name], equal_nan=True)
        assert measures[name].is_share == (name in SHARES)
    assert STATISTICS.keys() >= SHARES
    assert next(iter(measures)) == "sink_share"


def test_the_strongest_key_is_the_largest_share_of_the_first_half(small_profile: Profile) -> None:
    (measure,) = [each for each in list_measures(small_profile) if each.name == "strongest_key"]
    for index, layer in enumerate(small_profile.layers):
        if layer is None:
            assert np.isnan(measure.values[index]).all()
            continue
        assert layer.key_shares is not None
        for head in range(layer.n_heads):
            assert measure.values[index, head] == max(layer.key_shares[head, :6])


def test_scores_of_roles_are_measures_with_their_thresholds(small_profile: Profile) -> None:
    shape = (small_profile.n_layers, small_profile.n_heads)
    scores = {name: np.random.default_rng(at).random(shape) for at, name in enumerate(ROLES)}
    with_roles = replace(small_profile, roles=Roles(scores, {"induction": 0.2}, 8, 1))
    found = {each.name: each for each in list_measures(with_roles)}
    for name, role in ROLES.items():
        measure = found[f"role.{name}"]
        assert measure.title == f"{role.title} score"
        assert np.array_equal(measure.values, scores[name])
        assert measure.is_share
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

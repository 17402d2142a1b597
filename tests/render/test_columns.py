"""The columns of a picture: what they hold, their curves, their numbers."""

import numpy as np
import pytest

from laminar_tui.profile.density import ESTIMATORS
from laminar_tui.profile.parts import POPULATIONS
from laminar_tui.profile.profile import Profile
from laminar_tui.render.columns import Look, blend, head_columns, layer_columns, line_curves

CELLS = 40


def test_a_column_a_layer_and_gaps_are_not_measured(small_profile: Profile) -> None:
    columns = layer_columns(small_profile, Look())
    assert columns.labels == ("0", "1", "2", "3")
    assert columns.measured.tolist() == [True, False, True, True]
    densities = columns.densities(CELLS)
    assert np.isnan(densities[1]).all()
    assert np.isfinite(densities[[0, 2, 3]]).all()


def test_a_column_a_head(small_profile: Profile) -> None:
    assert head_columns(small_profile, Look(), 2).labels == ("0", "1")


@pytest.mark.parametrize("estimator", ["reflected", "histogram"])
@pytest.mark.parametrize("population", POPULATIONS)
def test_a_column_holds_all_of_its_mass(small_profile: Profile, population: str, estimator: str) -> None:
    columns = layer_columns(small_profile, Look(population, "with", estimator))
    mass = columns.densities(CELLS)[columns.measured].mean(axis=1)
    np.testing.assert_allclose(mass, 1.0, atol=1e-6)  # the nodes' sums are doubles


def test_a_layer_drawn_before_is_not_estimated_again(small_profile: Profile) -> None:
    one, two = (layer_columns(small_profile, Look()) for _ in range(2))
    assert one.known[0] is two.known[0]
    assert one.known[0] is not layer_columns(small_profile, Look("self")).known[0]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_crosshair_s_bands_share_all_weights_out(small_profile: Profile, estimator: str) -> None:
    columns = layer_columns(small_profile, Look("past", "with", estimator))
    counted = sum(columns.in_band(0, row / 10, (row + 1) / 10)[2] for row in range(10))
    below_the_axis = int(columns.counts.hits[0][0]) if ESTIMATORS[estimator].is_log else 0
    assert counted == columns.n[0] - below_the_axis


def test_nothing_is_said_to_be_nothing(small_profile: Profile) -> None:
    assert layer_columns(small_profile, Look()).summary(1) == [("not measured", "")]
    empty = layer_columns(small_profile, Look("self", "only"))
    assert empty.summary(0)[0] == ("n", "0")
    assert np.nan_to_num(empty.densities(CELLS)).max() == 0


def test_the_summary_says_how_many_and_where(small_profile: Profile) -> None:
    said = dict(layer_columns(small_profile, Look()).summary(0))
    assert said["n"] == "33"  # 3 heads, 11 keys before the final token
    assert {"mean", "median", "max"} <= said.keys()


def test_the_lines_are_two_a_layer_that_holds_weights(small_profile: Profile) -> None:
    assert len(line_curves(small_profile, Look())) == 2 * 3


def test_colours_are_mixed_from_end_to_end() -> None:
    assert [blend("#000000", "#ff8000", share) for share in (0, 0.5, 1)] == ["#000000", "#804000", "#ff8000"]

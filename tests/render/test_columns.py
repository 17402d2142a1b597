"""The columns of a picture: what they hold, their colours' range, their numbers in words, the prompt in colour."""

from dataclasses import replace

import numpy as np
import pytest
from rich.cells import cell_len

from laminar_tui.profile.density import ESTIMATORS
from laminar_tui.profile.parts import POPULATIONS
from laminar_tui.profile.profile import Profile
from laminar_tui.render.columns import (
    Look,
    blend,
    head_columns,
    join_fitting,
    layer_columns,
    line_curves,
    model_facts,
    percent,
    picture_facts,
    token_rows,
    top_keys,
)
from laminar_tui.render.palette import make_ramp
from laminar_tui.render.rows import row_text, row_width

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


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.00001, "<0.01 %"),
        (0.005, "0.50 %"),
        (0.025, "2.5 %"),
        (0.5, "50 %"),
        (0.998, "99.8 %"),
        (float("nan"), "–"),
    ],
)
def test_shares_never_round_to_none_or_all(share: float, text: str) -> None:
    assert percent(share) == text


def test_facts_are_left_out_whole() -> None:
    assert join_fitting(["one", "two", "three"], " · ", 9) == "one · two"
    assert join_fitting(["one", "two"], " · ", 8) == "one"
    assert join_fitting(["one"], " · ", 1) == "one"
    assert join_fitting([], " · ", 9) == ""


def test_a_control_is_named_before_the_sizes(small_profile: Profile) -> None:
    control = replace(small_profile, origin=replace(small_profile.origin, recipe="literal"))
    assert "CONTROL 'literal'" in model_facts(control)[1]
    assert not any("CONTROL" in fact for fact in model_facts(small_profile))


def test_the_picture_s_facts_begin_with_what_is_looked_at(small_profile: Profile) -> None:
    facts = picture_facts(layer_columns(small_profile, Look("past", "without", per_column=True)))
    assert facts[0] == POPULATIONS["past"].title
    assert "sink left out" in facts[1]
    assert facts[-1] == "log colours per column"


def test_the_lines_are_two_a_layer_that_holds_weights(small_profile: Profile) -> None:
    assert len(line_curves(small_profile, Look())) == 2 * 3


def test_colours_are_mixed_from_end_to_end() -> None:
    assert [blend("#000000", "#ff8000", share) for share in (0, 0.5, 1)] == ["#000000", "#804000", "#ff8000"]


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("width", [10, 33, 80])
def test_tokens_fill_whole_rows(width: int, ascii_only: bool) -> None:
    tokens = [
        "The",
        " cat",
        " 漢字",
        "",
        "\x1b[31m",
        " \u202e",
        "\n",
        " a very long token that is wider than a row",
        ".",
    ]
    weights = np.linspace(0, 1, len(tokens), dtype=np.float32)
    rows = token_rows(tokens, weights, make_ramp("viridis", "truecolor"), width, ascii_only=ascii_only)
    assert {row_width(row) for row in rows} == {width}
    text = "".join(map(row_text, rows))
    assert all(c >= " " and c != "\u202e" for c in text)
    assert text.isascii() or not ascii_only
    assert cell_len(text) == width * len(rows)


def test_the_heaviest_token_has_the_top_colour_and_none_have_none() -> None:
    ramp = make_ramp("viridis", "truecolor")
    (row,) = token_rows(["a", "b"], np.array([0.0, 0.5], np.float32), ramp, 10)
    styles = {segment.text.strip(): segment.style for segment in row if segment.text.strip()}
    assert styles["b"].bgcolor == ramp.colors[-1]
    assert styles["a"] is None
    (plain,) = token_rows(["a", "b"], None, ramp, 10)
    assert all(segment.style is None for segment in plain)


def test_the_top_keys_are_the_heaviest_in_order(small_profile: Profile) -> None:
    weights = small_profile.layer(2).final_weights
    assert weights is not None
    heaviest = np.argsort(-weights[1], kind="stable")[:3]
    said = top_keys(small_profile, 2, 1, 3)
    assert len(said) == 3
    assert all(f"({key}) " in text for key, text in zip(heaviest, said, strict=True))

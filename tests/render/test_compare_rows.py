"""Two profiles side by side: each picture shows its own densities, the third the sign of their difference."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from golden_text import assert_fills, assert_golden, text_of

from laminar_tui.profile.counts import Counts
from laminar_tui.profile.pairs import Change, match_layers, measure_change
from laminar_tui.profile.profile import Profile
from laminar_tui.render.columns import Columns, Look, layer_columns
from laminar_tui.render.compare import (
    ARRANGEMENTS,
    Line,
    Pair,
    PairDrawing,
    line_rows,
    number_lines,
    pair_curves,
    ranking_rows,
    signed,
)
from laminar_tui.render.palette import GAP, NOTHING, make_ramp, make_two_sided_ramp
from laminar_tui.render.rows import row_text

SIZES = [(80, 14), (160, 30)]


@pytest.fixture(scope="module")
def profiles(patterns: Callable[..., Any], make_profile: Callable[..., Profile]) -> tuple[Profile, Profile]:
    """Six layers each, layer 2 without attention; B is more concentrated, and equal to A in layer 4."""
    a = [patterns(layer, 4, 16, spread=1.0) for layer in range(6)]
    b = [patterns(layer + 10, 4, 16, spread=4.0) for layer in range(6)]
    return make_profile([*a[:2], None, *a[3:]]), make_profile([*b[:2], None, b[3], a[4], b[5]])


def pair_of(a: Profile, b: Profile, look: Look | None = None) -> Pair:
    look = look or Look("all")
    return Pair(layer_columns(a, look), layer_columns(b, look), match_layers(a, b), ("step1000", "main"))


def draw(pair: Pair, size: tuple[int, int], *, ascii_only: bool = False, sides: str = "side by side") -> PairDrawing:
    ramp = make_ramp("viridis", "none", ascii_only=ascii_only)
    two_sided = make_two_sided_ramp("none", ascii_only=ascii_only, has_middle=sides == "lift")
    return PairDrawing(pair, *size, ramp, two_sided, sides=ARRANGEMENTS[sides], ascii_only=ascii_only)


@pytest.mark.parametrize("ascii_only", [False, True], ids=["utf8", "ascii"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_a_comparison_is_drawn_as_it_was(
    profiles: tuple[Profile, Profile], size: tuple[int, int], ascii_only: bool
) -> None:
    rows = draw(pair_of(*profiles), size, ascii_only=ascii_only).rows(3)
    assert_fills(rows, *size)
    assert not ascii_only or text_of(rows).isascii()
    assert_golden(f"compare_{size[0]}x{size[1]}{'_ascii' if ascii_only else ''}", rows)


def test_numbers_curves_and_ranking_are_drawn_as_they_were(profiles: tuple[Profile, Profile]) -> None:
    pair = pair_of(*profiles)
    change = measure_change(pair.a.counts[pair.matching.a], pair.b.counts[pair.matching.b])
    lines = number_lines(pair, 3, change, [("entropy", 1.5, 1.25, False), ("sink share", 0.1, 0.4, True)])
    rows = line_rows(lines, "layer 3", 50, 13)
    assert_fills(rows, 50, 13)
    curves = pair_curves(pair, 3, 70, 9, mode="braille", colored=False)
    assert_fills(curves, 70, 9)
    ranking = ranking_rows(pair, change, 3, 50, 8, word="layer")
    assert_fills(ranking, 50, 8)
    assert_golden("compare_below", [*rows, *curves, *ranking])


@pytest.mark.parametrize(
    ("is_dark", "colors"), [(True, {"color(74)", "color(208)"}), (False, {"color(25)", "color(130)"})]
)
def test_curves_have_colours_that_can_be_seen_on_their_ground(
    profiles: tuple[Profile, Profile], is_dark: bool, colors: set[str]
) -> None:
    rows = pair_curves(pair_of(*profiles), 3, 70, 9, mode="braille", colored=True, is_dark=is_dark)
    drawn = {each.style.color.name for row in rows[1:] for each in row if each.style and each.style.color}
    assert drawn == colors


def test_a_null_is_called_chance_above_its_picture(profiles: tuple[Profile, Profile]) -> None:
    pair = replace(pair_of(*profiles), names=("null: uniform attention", "the model"))
    wide, narrow = (text_of(draw(pair, (width, 30)).rows(3)).splitlines()[0] for width in (160, 66))
    assert "A  chance: uniform attention" in wide
    assert "A  uniform att" in narrow


def test_the_third_picture_has_the_sign_of_the_difference(profiles: tuple[Profile, Profile]) -> None:
    pair = pair_of(*profiles)
    drawing = draw(pair, (80, 24), sides="difference")
    a, b = (each.reshape(6, drawing.n_rows, 2).mean(axis=2) for each in pair.densities(2 * drawing.n_rows))
    rows = drawing.rows(0)[1 : 1 + drawing.n_rows]
    layout = drawing.layouts[0]
    seen = {"less": 0, "more": 0}
    for layer in range(6):
        for y, row in enumerate(rows):
            cell = row_text(row)[layout.gutter + layer * layout.cell_width]
            difference = b[layer, drawing.n_rows - 1 - y] - a[layer, drawing.n_rows - 1 - y]
            if np.isnan(difference):
                assert cell == "╱"
            elif abs(difference) < drawing.signed_range[0]:
                assert cell == " "
            else:
                side = "more" if difference > 0 else "less"
                assert cell in {"less": "-=≡", "more": "+*#"}[side], (layer, y, difference)
                seen[side] += 1
    assert min(seen.values()) > 10
    assert all(row_text(row)[layout.gutter + 4 * layout.cell_width] == " " for row in rows), "layer 4 is the same"


@pytest.mark.parametrize("depth", ["none", "truecolor"])
def test_the_lift_is_the_ratio_of_densities_where_both_sides_hold_a_weight(
    profiles: tuple[Profile, Profile], depth: str
) -> None:
    pair = pair_of(*profiles)
    ramp, two_sided = make_ramp("viridis", depth), make_two_sided_ramp(depth, has_middle=True)  # type: ignore[arg-type]
    drawing = PairDrawing(pair, 80, 24, ramp, two_sided, sides=ARRANGEMENTS["lift"])
    n_cells = drawing.n_rows * two_sided.pixels_per_row
    a, b = pair.densities(n_cells)
    half = two_sided.n_levels // 2
    seen = {"less": 0, "more": 0, "alike": 0, "few": 0, "beyond": 0}
    for layer, cell in np.ndindex(6, n_cells):
        level = int(drawing._levels[0][layer, cell])
        least = [side.one_weight(n_cells)[layer] for side in (pair.a, pair.b)]
        if layer == 2:
            assert level == GAP
        elif a[layer, cell] < least[0] or b[layer, cell] < least[1]:
            assert level == NOTHING, "of less than one weight no ratio is drawn"
            seen["few"] += 1
        else:
            octaves = float(np.log2(b[layer, cell] / a[layer, cell]))
            steps = min(half - 1, int(abs(octaves) / 3 * half + 1e-9))  # 1/8 and 8 are the last ones
            is_alike = abs(octaves) < 3 / (2 * half)
            expected = half if is_alike else half + 1 + steps if octaves > 0 else half - 1 - steps
            assert level == expected, (layer, cell, octaves)
            seen["alike" if is_alike else "more" if octaves > 0 else "less"] += 1
            seen["beyond"] += abs(octaves) > 3
    assert min(seen.values()) > 0, seen
    assert set(drawing._levels[0][4].tolist()) == {half, NOTHING}, "layer 4 is the same"
    text = text_of(drawing.rows(0))
    assert "B / A, how many times as dense" in text
    assert "times 1/8 " in text
    assert " 8, and beyond" in text


def test_without_colours_what_is_alike_is_dots_and_the_heading_says_so(profiles: tuple[Profile, Profile]) -> None:
    same = pair_of(profiles[0], profiles[0])
    drawing = draw(same, (80, 24), sides="lift")
    heading, *rows = (row_text(row) for row in drawing.rows(0))
    assert "(-=≡ less, . alike, +*# more)" in heading
    picture = [row[drawing.layouts[0].gutter :] for row in rows[: drawing.n_rows]]
    assert set("".join(picture)) == {".", " ", "╱"}


def test_the_heading_of_the_lift_says_where_nowhere_both_hold_a_weight(make_profile: Callable[..., Profile]) -> None:
    apart = [make_profile([np.tril(np.full((1, 4, 4), each, np.float32))]) for each in (0.3, 0.9)]
    pair = pair_of(*apart, Look("all", "with", "histogram"))
    heading = row_text(draw(pair, (80, 24), sides="lift").rows(0)[0])
    assert "B / A: nowhere do both hold a weight" in heading
    assert "nowhere" not in row_text(draw(pair, (80, 24), sides="difference").rows(0)[0])


def test_the_darkest_colour_is_a_third_of_one_weight_where_that_is_least() -> None:
    counts = Counts.empty()
    hits = np.zeros((2, len(counts.hits)), np.int64)
    hits[0, 5], hits[1, 5] = 10, 1000
    columns = Columns(
        Counts(hits, np.zeros(2, np.int64), np.zeros(2), np.zeros(2)),
        ("0", "1"),
        np.ones(2, bool),
        Look("all", estimator="histogram"),
    )
    assert columns.one_weight(100).tolist() == pytest.approx([10.0, 0.1])
    assert columns.faintest(100) == pytest.approx(0.1 / 3)


def test_swapping_a_and_b_swaps_the_signs(profiles: tuple[Profile, Profile]) -> None:
    one = draw(pair_of(*profiles), (80, 24), sides="difference")
    other = draw(pair_of(*profiles[::-1]), (80, 24), sides="difference")
    swapped = str.maketrans("-=≡+*#", "+*#-=≡")
    for y in range(1, 1 + one.n_rows):
        gutter = one.layouts[0].gutter
        here, there = row_text(one.rows(0)[y])[gutter:], row_text(other.rows(0)[y])[gutter:]
        assert here.translate(swapped) == there


@pytest.mark.parametrize("name", ARRANGEMENTS)
@pytest.mark.parametrize("estimator", ["reflected", "log", "histogram"])
@pytest.mark.parametrize("size", [(60, 8), (80, 14), (240, 60)])
def test_every_arrangement_fills_its_size_and_marks_one_column_in_each_picture(
    profiles: tuple[Profile, Profile], name: str, estimator: str, size: tuple[int, int]
) -> None:
    for depth in ("truecolor", "256", "16"):
        two_sided = make_two_sided_ramp(depth, has_middle=name == "lift")  # type: ignore[arg-type]
        ramp = make_ramp("magma", depth)  # type: ignore[arg-type]
        pair = pair_of(*profiles, Look("all", "without", estimator))
        drawing = PairDrawing(pair, *size, ramp, two_sided, sides=ARRANGEMENTS[name])
        for cursor in (0, 5):
            rows = drawing.rows(cursor)
            assert_fills(rows, *size)
            assert row_text(rows[-3]).count("▲") == row_text(rows[-2]).count(f"[{cursor}]") == len(ARRANGEMENTS[name])


def test_the_mouse_finds_a_column_in_every_picture(profiles: tuple[Profile, Profile]) -> None:
    drawing = draw(pair_of(*profiles), (80, 14))
    ruler = row_text(drawing.rows(4)[-3])
    marks = [x for x, character in enumerate(ruler) if character == "▲"]
    assert [drawing.column_at(x, 4) for x in marks] == [4, 4, 4]
    assert drawing.column_at(0, 4) is None


def test_a_column_that_one_side_lacks_says_so(profiles: tuple[Profile, Profile]) -> None:
    assert number_lines(pair_of(*profiles), 2, None, []) == [Line("not measured", "", "", "")]


def test_numbers_of_the_table_are_those_of_the_counts(profiles: tuple[Profile, Profile]) -> None:
    pair = pair_of(*profiles)
    lines = {line.name: line for line in number_lines(pair, 3, Change(np.full(6, 0.125), np.full(6, 0.5)), [])}
    a, b = (float(profile.layer_counts("all").mean[3]) for profile in profiles)
    assert (lines["mean"].a, lines["mean"].b) == (f"{a:#.3g}", f"{b:#.3g}")
    assert float(lines["mean"].delta) == pytest.approx(b - a, rel=0.01, abs=1e-9)
    assert lines["Wasserstein-1"].delta == "0.125"
    assert lines["Jensen-Shannon"].delta == "0.500 bits"
    assert lines["above 0.5"].delta.endswith(" pp")
    assert float(lines["above 0.5"].delta[:-3]) > 0


def test_signed_numbers_have_a_sign() -> None:
    assert [signed(value) for value in (0.81, -0.81, 0.0, float("nan"))] == ["+0.810", "-0.810", "0", "–"]

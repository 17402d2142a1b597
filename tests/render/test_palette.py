"""Colours are ordered by brightness, and levels and densities belong together."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.color import Color

from laminar_tui.render import palette
from laminar_tui.render.palette import (
    COLOR_MAPS,
    GAP,
    NOTHING,
    SCALES,
    detect_depth,
    level_values,
    make_ramp,
    make_two_sided_ramp,
    to_levels,
    to_signed_levels,
)


def luminance(color: Color) -> float:
    """Relative luminance of an sRGB colour (WCAG 2), 0 to 1."""
    channels = [value / 255 for value in color.get_truecolor()]
    red, green, blue = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("name", COLOR_MAPS)
@pytest.mark.parametrize("depth", ["truecolor", "256"])
def test_every_level_is_brighter_than_the_one_before(name: str, depth: palette.Depth) -> None:
    values = [luminance(color) for color in make_ramp(name, depth).colors]
    assert len(values) >= 12
    assert all(a < b for a, b in pairwise(values))


@pytest.mark.parametrize("name", COLOR_MAPS)
def test_256_colours_survive_a_terminal_of_256_colours(name: str) -> None:
    numbers = [color.number for color in make_ramp(name, "256").colors]
    assert all(number is not None and number >= 16 for number in numbers)
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("depth", ["truecolor", "256", "16", "none"])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_a_reversed_ramp_is_the_ramp_backwards(depth: palette.Depth, ascii_only: bool) -> None:
    forward = make_ramp("magma", depth, ascii_only=ascii_only)
    backward = make_ramp("magma", depth, reverse=True, ascii_only=ascii_only)
    assert backward.colors == forward.colors[::-1]
    assert backward.glyphs == forward.glyphs[::-1]
    assert backward.n_levels == forward.n_levels == max(len(forward.colors), len(forward.glyphs))


def test_ramps_hold_48_truecolors_or_glyphs_without_the_blank() -> None:
    assert make_ramp("viridis", "truecolor").n_levels == 48
    assert make_ramp("viridis", "truecolor").colors[0].get_truecolor() == (0x44, 0x01, 0x54)
    assert make_ramp("viridis", "truecolor").colors[-1].get_truecolor() == (0xFD, 0xE7, 0x25)
    assert make_ramp("viridis", "none", ascii_only=True).glyphs == ".:-=+*#%@"
    assert " " not in make_ramp("viridis", "16").glyphs
    assert make_ramp("viridis", "256", ascii_only=True).pixels_per_row == 1
    with pytest.raises(KeyError):
        make_ramp("jet", "256")


@pytest.mark.parametrize("scale", SCALES)
@given(low=st.floats(1e-6, 10), factor=st.floats(1.5, 1e6), n_levels=st.integers(2, 64))
def test_level_values_are_the_inverse_of_levels(scale: palette.Scale, low: float, factor: float, n_levels: int) -> None:
    edges = level_values(low, low * factor, scale, n_levels)
    assert edges.shape == (n_levels + 1,)
    middles = (edges[1:] + edges[:-1]) / 2
    assert to_levels(middles, low, low * factor, scale, n_levels).tolist() == list(range(n_levels))


def test_levels_tell_nothing_gap_and_the_ends_apart() -> None:
    density = np.array([[0.0, 0.005, 0.01, 1.0], [99.0, 100.0, np.inf, np.nan]])
    assert to_levels(density, 0.01, 100.0, "log", 4).tolist() == [[NOTHING, NOTHING, 0, 2], [3, 3, 3, GAP]]
    assert to_levels(density, 0.01, 100.0, "linear", 4).tolist() == [[NOTHING, 0, 0, 0], [3, 3, 3, GAP]]
    assert to_levels(density, 0.0, 100.0, "sqrt", 10).tolist() == [[NOTHING, 0, 0, 1], [9, 9, 9, GAP]]


def test_a_scale_without_extent_shows_what_is_there() -> None:
    assert to_levels(np.array([0.0, 2.0, np.nan]), 2.0, 2.0, "linear", 5).tolist() == [NOTHING, 4, GAP]
    assert to_levels(np.array([0.0, 2.0]), 2.0, 2.0, "log", 5).tolist() == [NOTHING, 4]


@pytest.mark.parametrize(
    ("environ", "is_terminal", "depth"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, True, "truecolor"),
        ({"TERM": "xterm", "COLORTERM": "24bit"}, True, "truecolor"),
        ({"TERM": "xterm-direct"}, True, "truecolor"),
        ({"TERM": "screen-256color"}, True, "256"),
        ({"TERM": "linux"}, True, "16"),
        ({"TERM": "xterm"}, True, "16"),
        ({"TERM": "dumb", "COLORTERM": "truecolor"}, True, "none"),
        ({}, True, "none"),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, True, "none"),
        ({"TERM": "xterm-256color", "NO_COLOR": ""}, True, "256"),
        ({"TERM": "xterm-256color"}, False, "none"),
    ],
)
def test_depth_is_read_from_the_environment(environ: dict[str, str], is_terminal: bool, depth: str) -> None:
    assert detect_depth(environ, is_terminal) == depth


# -- two sides ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_light", [False, True], ids=["dark", "light"])
@pytest.mark.parametrize("depth", ["truecolor", "256"])
def test_both_sides_go_strictly_away_from_the_ground(depth: palette.Depth, on_light: bool) -> None:
    ramp = make_two_sided_ramp(depth, on_light=on_light)
    values = [luminance(color) for color in ramp.colors]
    half = ramp.n_levels // 2
    less, more = values[:half][::-1], values[half:]
    for side in (less, more):
        assert len(side) >= 8
        assert all((a > b) if on_light else (a < b) for a, b in pairwise(side))
    for color in ramp.colors[:half]:
        assert color.get_truecolor().blue > color.get_truecolor().red
    for color in ramp.colors[half:]:
        assert color.get_truecolor().red > color.get_truecolor().blue


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("depth", ["16", "none"])
def test_without_colours_the_sides_are_of_other_glyphs(depth: palette.Depth, ascii_only: bool) -> None:
    ramp = make_two_sided_ramp(depth, ascii_only=ascii_only)
    assert not ramp.colors
    assert len(set(ramp.glyphs)) == ramp.n_levels == 6
    assert ramp.glyphs.isascii() or not ascii_only


@pytest.mark.parametrize("on_light", [False, True], ids=["dark", "light"])
@pytest.mark.parametrize("depth", ["truecolor", "256", "16", "none"])
def test_a_middle_is_one_level_between_both_sides(depth: palette.Depth, on_light: bool) -> None:
    ramp = make_two_sided_ramp(depth, on_light=on_light, has_middle=True)
    without = make_two_sided_ramp(depth, on_light=on_light)
    half = without.n_levels // 2
    assert ramp.n_levels == 2 * half + 1
    for these, those in ((ramp.colors, without.colors), (tuple(ramp.glyphs), tuple(without.glyphs))):
        assert (*these[:half], *these[half + 1 :]) == those
    if ramp.colors:
        red, green, blue = ramp.colors[half].get_truecolor()
        assert red == green == blue
    values = np.array([-50.0, -0.001, 0.0, 0.001, 50.0, np.nan])
    expected = [0, half, half, half, 2 * half, GAP]
    assert to_signed_levels(values, 0.0, 10.0, "linear", ramp.n_levels).tolist() == expected


@pytest.mark.parametrize("depth", ["truecolor", "256", "16", "none"])
def test_ascii_only_two_sided_ramps_have_one_pixel_a_cell(depth: palette.Depth) -> None:
    assert make_two_sided_ramp(depth, ascii_only=True).pixels_per_row == 1


@pytest.mark.parametrize("scale", SCALES)
@given(st.lists(st.floats(-100, 100) | st.just(float("nan")), min_size=1, max_size=20))
def test_signed_levels_are_symmetric_and_ordered(scale: palette.Scale, values: list[float]) -> None:
    low, high, n_levels = (0.01, 10.0, 12) if scale == "log" else (0.0, 10.0, 12)
    array = np.array(values)
    levels = to_signed_levels(array, low, high, scale, n_levels)
    mirrored = to_signed_levels(-array, low, high, scale, n_levels)
    shown = levels >= 0
    assert np.array_equal(np.isnan(array), levels == GAP)
    assert np.array_equal(levels[shown], n_levels - 1 - mirrored[shown])
    assert np.array_equal(levels[~shown], mirrored[~shown])
    assert np.all((levels[shown] >= n_levels // 2) == (array[shown] > 0))
    order = np.argsort(array[shown])
    assert np.all(np.diff(levels[shown][order]) >= 0)
    assert to_signed_levels(np.array([0.0, 50.0, -50.0]), low, high, scale, n_levels).tolist() == [NOTHING, 11, 0]

"""Density to colour, for every colour depth, and the scales between a density and its level."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rich.color import Color
from rich.style import Style

from laminar_tui.errors import UsageError
from laminar_tui.render.rows import Depth

Scale = Literal["log", "sqrt", "linear"]
SCALES: tuple[Scale, ...] = ("log", "sqrt", "linear")

NOTHING = -1
"""Level of a cell where no weight fell, or less than the scale begins with: the terminal's own background."""
GAP = -2
"""Level of a cell that was not measured: a layer not read yet, or one without attention."""

N_TRUECOLOR_LEVELS = 48

# 17 equally spaced entries of matplotlib's tables of the same names (256 entries each); gray keeps off pure
# black.
_CONTROL_POINTS = {
    "viridis": "440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c"
    " 1fa088 28ae80 3fbc73 5ec962 84d44b addc30 d8e219 fde725",
    "magma": "000004 0a0822 1d1147 36106b 51127c 6a1c81 832681 9c2e7f b73779"
    " d0416f e75263 f56b5c fc8961 fea772 fec488 fde2a3 fcfdbf",
    "cividis": "00224e 002e6a 1a386f 32436d 434e6c 535a6d 61656f 6f7073 7d7c78"
    " 8c8878 9b9476 aba072 bcae6c cdbb63 dec958 f0d846 fee838",
    "gray": "101010 ffffff",
    "inferno": "000004 0b0724 210c4a 3d0965 57106e 71196e 8a226a a32c61 bc3754"
    " d24644 e45a31 f1731d f98e09 fcac11 f9cb35 f2ea69 fcffa4",
}

# Colours of the xterm table, chosen so that each is brighter than the one before; nearest-colour conversion
# of the tables above is not: it goes back and forth.
_RAMPS_256: dict[str, tuple[int, ...]] = {
    "viridis": (53, 54, 25, 60, 242, 30, 65, 36, 77, 113, 148, 220),
    "magma": (16, 233, 17, 53, 54, 90, 126, 161, 167, 203, 209, 216, 222, 229),
    "cividis": (233, 17, 24, 60, 242, 243, 244, 101, 144, 179, 185, 220),
    "gray": (16, 232, 233, *range(235, 243), 243, 102, *range(246, 256), 231),
    "inferno": (16, 233, 17, 53, 54, 89, 125, 161, 166, 202, 208, 214, 185, 229),
}

COLOR_MAPS = tuple(_CONTROL_POINTS)
"""Names of the colour maps; all are ordered by brightness, so they survive a black and white copy."""

_GLYPHS = "·:░▒▓█"
_GLYPHS_ASCII = ".:-=+*#%@"
_GAP_GLYPH, _GAP_GLYPH_ASCII = "╱", "/"

# From the middle outwards. Blue is less, red is more, as in the sketches of the field; on a dark ground the ends are
# bright, on a light one dark, so that on both the middle fades into the ground.
_LESS = "16263f 1b3a66 1f4f8f 2b6bb8 4a8bd6 74aeea a5d0f7 d6ecff"
_MORE = "3f1a1a 661f22 8f272b b83a37 d65a4a ea8468 f7b394 ffe3d0"
_LESS_ON_LIGHT = "dbe9f6 b9d5ec 8fbcdf 639fcf 3f7fb8 28619b 16457a 08294f"
_MORE_ON_LIGHT = "fbe2d6 f7c4ae f09f85 e27763 c94f48 a83236 831f29 57101c"
# The same in the xterm table, each step brighter than the one before.
_LESS_256 = (17, 18, 19, 25, 26, 32, 74, 117, 159, 195)
_MORE_256 = (52, 88, 124, 160, 167, 203, 209, 216, 223, 230)
_LESS_256_ON_LIGHT = (195, 159, 117, 74, 32, 26, 25, 19, 18, 17)
_MORE_256_ON_LIGHT = (230, 223, 216, 209, 203, 167, 160, 124, 88, 52)
_GLYPHS_LESS, _GLYPHS_MORE = "-=≡", "+*#"
_GLYPHS_LESS_ASCII = "-~="
# Of zero where it has a level of its own: it is told from the ground, and fainter than both sides.
_MIDDLE, _MIDDLE_ON_LIGHT = "444444", "d0d0d0"
_MIDDLE_256, _MIDDLE_256_ON_LIGHT = 238, 252
_GLYPH_MIDDLE = "."
_N_SIDE_LEVELS = 20


@dataclass(frozen=True, eq=False)
class Ramp:
    """What each level looks like: a colour or a glyph, never both.

    Attributes:
        name: a name from COLOR_MAPS.
        depth: what the terminal can show.
        n_levels: levels go from 0 (least dense) to n_levels - 1.
        colors: one per level, or empty when glyphs stand for levels.
        glyphs: one per level, or empty when colours stand for levels.
        pixels_per_row: 2 where a character cell holds two pixels (half blocks), 1 where it holds one.
        gap_glyph: fills columns that were not measured.
    """

    name: str
    depth: Depth
    n_levels: int
    colors: tuple[Color, ...]
    glyphs: str
    pixels_per_row: Literal[1, 2]
    gap_glyph: str

    @cached_property
    def cells(self) -> dict[tuple[int, int], tuple[str, Style | None]]:
        """The cells that were drawn so far, by their two levels: a picture is made of the same few hundred."""
        return {}


def check_color_map(name: str) -> None:
    """Find out whether there is a colour map.

    Raises:
        UsageError: if there is none of that name.
    """
    if name not in COLOR_MAPS:
        raise UsageError(f"there is no colour map '{name}'", f"choose one of: {', '.join(COLOR_MAPS)}")


def make_ramp(name: str, depth: Depth, *, reverse: bool = False, ascii_only: bool = False) -> Ramp:
    """Build the ramp of a colour map for a colour depth.

    Args:
        name: one of COLOR_MAPS.
        depth: with `16` and `none`, glyphs stand for levels, since 16 colours have no order of brightness to
            rely on.
        reverse: dense is dark instead of bright.
        ascii_only: no character beyond ASCII: one pixel a cell, as a coloured blank or an ASCII glyph.

    Raises:
        KeyError: no colour map of that name.
    """
    colors = _colors(name, depth)
    glyphs = "" if colors else (_GLYPHS_ASCII if ascii_only else _GLYPHS)
    return Ramp(
        name=name,
        depth=depth,
        n_levels=len(colors) or len(glyphs),
        colors=colors[::-1] if reverse else colors,
        glyphs=glyphs[::-1] if reverse else glyphs,
        pixels_per_row=2 if colors and not ascii_only else 1,
        gap_glyph=_GAP_GLYPH_ASCII if ascii_only else _GAP_GLYPH,
    )


def _colors(name: str, depth: Depth) -> tuple[Color, ...]:
    points = _CONTROL_POINTS[name].split()
    if depth == "256":
        return tuple(Color.from_ansi(number) for number in _RAMPS_256[name])
    if depth != "truecolor":
        return ()
    return _between(points, N_TRUECOLOR_LEVELS)


def _between(points: Sequence[str], n_levels: int) -> tuple[Color, ...]:
    rgb = np.array([[int(point[i : i + 2], 16) for i in (0, 2, 4)] for point in points])  # [n_points, 3]
    at = np.linspace(0, len(points) - 1, n_levels)
    channels = [np.interp(at, np.arange(len(points)), rgb[:, i]).round().astype(int) for i in range(3)]
    return tuple(Color.from_rgb(int(r), int(g), int(b)) for r, g, b in zip(*channels, strict=True))


def make_two_sided_ramp(
    depth: Depth, *, on_light: bool = False, ascii_only: bool = False, has_middle: bool = False
) -> Ramp:
    """Build a ramp for signed values: the lower half of its levels is less than zero, the upper half more.

    Without a middle there is no level for zero: what is close to it is `NOTHING`, the ground itself, so that both
    sides rise from it. With `16` and `none`, strokes (`- = ≡`) stand for less and crosses (`+ * #`) for more.

    Args:
        depth: what the terminal can show.
        on_light: for a light ground, on which stronger is darker.
        ascii_only: no character beyond ASCII.
        has_middle: between the halves stands a level for zero: a pale grey, or a dot.
    """
    middle: tuple[Color, ...] = ()
    if depth == "256":
        sides = (_LESS_256_ON_LIGHT, _MORE_256_ON_LIGHT) if on_light else (_LESS_256, _MORE_256)
        less, more = (tuple(Color.from_ansi(number) for number in side) for side in sides)
        middle = (Color.from_ansi(_MIDDLE_256_ON_LIGHT if on_light else _MIDDLE_256),)
    elif depth == "truecolor":
        words = (_LESS_ON_LIGHT, _MORE_ON_LIGHT) if on_light else (_LESS, _MORE)
        less, more = (_between(side.split(), _N_SIDE_LEVELS) for side in words)
        middle = (Color.parse(f"#{_MIDDLE_ON_LIGHT if on_light else _MIDDLE}"),)
    else:
        less = more = ()
    dot = _GLYPH_MIDDLE if has_middle else ""
    glyphs = "" if less else (_GLYPHS_LESS_ASCII if ascii_only else _GLYPHS_LESS)[::-1] + dot + _GLYPHS_MORE
    colors = less[::-1] + (middle if has_middle else ()) + more
    return Ramp(
        name="less and more",
        depth=depth,
        n_levels=len(colors) or len(glyphs),
        colors=colors,
        glyphs=glyphs,
        pixels_per_row=2 if less and not ascii_only else 1,
        gap_glyph=_GAP_GLYPH_ASCII if ascii_only else _GAP_GLYPH,
    )


def to_signed_levels(
    values: NDArray[np.float64], low: float, high: float, scale: Scale, n_levels: int
) -> NDArray[np.int16]:
    """Turn signed values into levels of a two-sided ramp.

    Args:
        values: any shape; NaN where nothing was measured.
        low: the least that is told from zero; positive on the log scale.
        high: beyond it on either side is the last level of that side.
        scale: of the values' sizes.
        n_levels: of the ramp; an odd number has a middle.

    Returns:
        Same shape: GAP for NaN; the middle, or NOTHING without one, for what is closer to zero than `low`, and for
            zero; else 0 (most below zero) to n_levels - 1 (most above it).
    """
    half = n_levels // 2
    size = to_levels(np.abs(values), low, high, scale, half)
    if scale != "log":  # the first of equal steps holds zero
        size[(np.abs(values) < (high if high > 0 else 1.0) / (2 * half)) & np.isfinite(values)] = NOTHING
    signed = np.where(np.asarray(values) < 0, half - 1 - size, n_levels - half + size).astype(np.int16)
    levels = np.where(size < 0, size, signed).astype(np.int16)
    if n_levels % 2:
        levels[levels == NOTHING] = half
    return levels


@lru_cache(maxsize=8192)
def paint(color: Color | None, background: Color | None) -> Style:
    """The style with these two colours; made once, since a picture uses the same few thousand times."""
    return Style.from_color(color, background)


def letter_on(color: Color, *, bold: bool = False) -> Style:
    """A letter that can be read on a colour: white on a dark one, black on a light one."""
    red, green, blue = color.get_truecolor()
    is_dark = 0.299 * red + 0.587 * green + 0.114 * blue < 128
    return Style(bgcolor=color, color="#ffffff" if is_dark else "#000000", bold=bold or None)


def _stretch(values: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
    if scale == "linear":
        return values
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log10(values) if scale == "log" else np.sqrt(values), dtype=np.float64)


def scale_fraction(values: NDArray[np.float64], low: float, high: float, scale: Scale) -> NDArray[np.float64]:
    """Where densities lie on the colour scale: 0.0 at low, 1.0 at high, beyond that outside of [0, 1]."""
    ends = _stretch(np.array([low, high], dtype=np.float64), scale)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((_stretch(values, scale) - ends[0]) / (ends[1] - ends[0]), dtype=np.float64)


def to_levels(density: NDArray[np.float64], low: float, high: float, scale: Scale, n_levels: int) -> NDArray[np.int16]:
    """Turn densities into levels of a ramp.

    Args:
        density: any shape, >= 0; NaN where nothing was measured.
        low: where the scale begins; positive on the log scale.
        high: where it ends; more than that gets the last level.
        scale: equal steps of the logarithm, of the square root, or of the density itself.
        n_levels: of the ramp.

    Returns:
        Same shape: GAP for NaN; NOTHING for 0, and on the log scale for all below `low`; else 0 to n_levels -
            1. Where high is not above low, all that is there gets the last level.
    """
    values = np.asarray(density, dtype=np.float64)
    if high > low:
        position = np.floor(scale_fraction(values, low, high, scale) * n_levels + 1e-9)
        position = np.nan_to_num(position, nan=0.0, posinf=n_levels, neginf=0.0)
        levels = np.clip(position, 0, n_levels - 1).astype(np.int16)
    else:
        levels = np.full(values.shape, n_levels - 1, dtype=np.int16)
    with np.errstate(invalid="ignore"):
        nothing = (values <= 0) | ((values < low * (1 - 1e-12)) if scale == "log" else False)
    levels[nothing] = NOTHING
    levels[np.isnan(values)] = GAP
    return levels


def level_values(low: float, high: float, scale: Scale, n_levels: int) -> NDArray[np.float64]:
    """The densities between levels, [n_levels + 1] from low to high: the inverse of `to_levels`."""
    ends = _stretch(np.array([low, high], dtype=np.float64), scale)
    edges = np.linspace(ends[0], ends[1], n_levels + 1)
    if scale == "log":
        return np.asarray(10.0**edges, dtype=np.float64)
    return edges**2 if scale == "sqrt" else edges


def detect_depth(environ: Mapping[str, str], is_terminal: bool) -> Depth:
    """Tell from the environment how many colours can be shown.

    A NO_COLOR that is set and not empty, a dumb terminal, and output that is no terminal mean none; COLORTERM
    says truecolor; TERM says 256 or 16.
    """
    term = environ.get("TERM", "").lower()
    if not is_terminal or environ.get("NO_COLOR") or term in ("", "dumb", "unknown"):
        return "none"
    if environ.get("COLORTERM", "").lower() in ("truecolor", "24bit") or term.endswith("-direct"):
        return "truecolor"
    if "256color" in term:
        return "256"
    return "16"

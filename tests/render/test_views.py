"""Every view as `show` prints it, against text files: UPDATE_GOLDEN=1 writes them anew, and git shows what changed."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from laminar_tui.profile.profile import Profile
from laminar_tui.render.columns import Look
from laminar_tui.render.palette import make_ramp
from laminar_tui.render.rows import row_text, row_width, to_ansi
from laminar_tui.render.views import VIEWS, Page, Place

GOLDEN = Path(__file__).parent / "golden"
PLACES = {"overview": Place(2), "layer": Place(2, 1), "head": Place(2, 1), "lines": Place()}
SIZES = [(80, 24), (40, 12)]


@pytest.fixture(scope="module")
def profile(small_profile: Profile) -> Profile:
    """Small, and with a name and tokens that mean harm."""
    tokens = ("The", " cat", " \x1b[31msat", "\n", " 漢字", "", " e\u0301", "[/bold]", " \u202eon", " a", " mat", ".")
    return replace(small_profile, origin=replace(small_profile.origin, model="tiny/[b]\x07model", tokens=tokens))


def page(size: tuple[int, int], *, ascii_only: bool = False, depth: str = "none") -> Page:
    return Page(*size, make_ramp("viridis", depth, ascii_only=ascii_only), ascii_only)  # type: ignore[arg-type]


@pytest.mark.parametrize("ascii_only", [False, True], ids=["utf8", "ascii"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("view", VIEWS)
def test_a_view_is_drawn_as_it_was(profile: Profile, view: str, size: tuple[int, int], ascii_only: bool) -> None:
    rows = VIEWS[view](profile, Look(), PLACES[view], page(size, ascii_only=ascii_only))
    drawn = to_ansi(rows, "none")
    path = GOLDEN / f"{view}_{size[0]}x{size[1]}{'_ascii' if ascii_only else ''}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(drawn, encoding="utf-8")
    assert drawn == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("estimator", ["reflected", "gaussian", "histogram", "log"])
@pytest.mark.parametrize("size", [(20, 8), (40, 12), (79, 23), (80, 24), (200, 60)])
@pytest.mark.parametrize("view", VIEWS)
def test_a_view_fills_its_page_and_no_more(profile: Profile, view: str, size: tuple[int, int], estimator: str) -> None:
    for sink in ("with", "without", "only"):
        rows = VIEWS[view](profile, Look("final", sink, estimator), PLACES[view], page(size, depth="truecolor"))
        assert len(rows) <= size[1]
        assert {row_width(row) for row in rows} <= set(range(size[0] + 1))
        assert max(row_width(row) for row in rows) == size[0]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("depth", ["truecolor", "256", "16"])
def test_what_came_from_outside_is_harmless_in_every_view(profile: Profile, view: str, depth: str) -> None:
    rows = VIEWS[view](profile, Look(), PLACES[view], page((80, 24), depth=depth))
    text = "".join(row_text(row) for row in rows)
    assert not [c for c in text if c < " " or c in "\x7f\u202e" or "\x80" <= c < "\xa0"]


@pytest.mark.parametrize("view", VIEWS)
def test_ascii_views_are_ascii(profile: Profile, view: str) -> None:
    rows = VIEWS[view](profile, Look(), PLACES[view], page((80, 24), ascii_only=True))
    assert "".join(row_text(row) for row in rows).isascii()


def test_the_chosen_column_is_in_sight(patterns: Callable[..., Any], make_profile: Callable[..., Profile]) -> None:
    deep = make_profile([patterns(layer, 1, 6) for layer in range(80)])
    text = "\n".join(row_text(row) for row in VIEWS["overview"](deep, Look(), Place(70), page((80, 20))))
    assert "[70]" in text


@pytest.mark.parametrize("width", range(60, 121, 7))
def test_the_numbers_are_whole(patterns: Callable[..., Any], make_profile: Callable[..., Profile], width: int) -> None:
    one = make_profile([*[None] * 12, patterns(3, 11, 30)])
    *_, closing = VIEWS["layer"](one, Look(), Place(12, 10), page((width, 24)))
    whole = row_text(VIEWS["layer"](one, Look(), Place(12, 10), page((300, 24)))[-1]).split("  ")
    assert [each.strip() for each in row_text(closing).rstrip().split("  ")] == [
        each.strip() for each in whole[: len(row_text(closing).rstrip().split("  "))]
    ]


@pytest.mark.parametrize("view", VIEWS)
def test_a_control_is_named_first_in_every_view(profile: Profile, view: str) -> None:
    origin = replace(profile.origin, model="someone/a-model-with-quite-a-long-name", recipe="content")
    rows = VIEWS[view](replace(profile, origin=origin), Look(), PLACES[view], page((80, 24)))
    assert row_text(rows[0]).startswith("CONTROL 'content': not the model's weights  ")

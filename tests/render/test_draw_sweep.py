"""A sweep as it is printed, against text files: UPDATE_GOLDEN=1 writes them anew, and git shows what changed."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from golden_text import assert_golden, text_of
from numpy.typing import NDArray

from laminar_tui.profile.profile import Profile
from laminar_tui.profile.sweep import Place, Sweep, make_sweep, read_step
from laminar_tui.render.columns import Look, layer_column
from laminar_tui.render.palette import make_ramp
from laminar_tui.render.rows import row_width
from laminar_tui.render.sweep import draw_sweep, sweep_columns
from laminar_tui.render.views import Page


@pytest.fixture(scope="module")
def profiles(patterns: Callable[..., NDArray[np.float32]], make_profile: Callable[..., Profile]) -> dict[str, Profile]:
    found = {}
    for name, spread in (("main", 5.0), ("step0", 0.1), ("step1000", 1.0), ("step143000", 5.0), ("\x1b[J漢", 3.0)):
        one = make_profile([patterns(1, 3, 12, spread=spread), patterns(2, 2, 12, spread=spread)])
        found[name] = replace(one, origin=replace(one.origin, model="tiny/\x07model", revision=name))
    return found


def sweep_of(profiles: dict[str, Profile], place: Place) -> Sweep:
    return make_sweep([read_step(profile, name, place) for name, profile in profiles.items()], place)


def page(width: int = 80, height: int = 14, *, ascii_only: bool = False) -> Page:
    return Page(width, height, make_ramp("viridis", "none", ascii_only=ascii_only), ascii_only)


@pytest.mark.parametrize("ascii_only", [False, True], ids=["utf8", "ascii"])
@pytest.mark.parametrize("width", [80, 40])
def test_a_sweep_is_drawn_as_it_was(profiles: dict[str, Profile], width: int, ascii_only: bool) -> None:
    place = Place(1, 0, "past")
    rows = draw_sweep(sweep_of(profiles, place), Look("past"), page(width, ascii_only=ascii_only))
    assert_golden(f"sweep_{width}x14{'_ascii' if ascii_only else ''}", rows)
    assert {row_width(row) for row in rows} == {width}
    text = text_of(rows)
    assert not {"\x1b", "\x07"} & set(text)
    assert text.isascii() or not ascii_only


def test_what_is_no_model_s_weights_is_named_first(profiles: dict[str, Profile]) -> None:
    def with_recipe(profile: Profile, recipe: str) -> Profile:
        return replace(profile, origin=replace(profile.origin, recipe=recipe))

    controls = {name: with_recipe(profile, "literal") for name, profile in profiles.items()}
    first = text_of(draw_sweep(sweep_of(controls, Place()), Look(), page())).splitlines()[0]
    assert first.startswith("CONTROL 'literal': not the model's weights  ")
    one = profiles | {"step1000": with_recipe(profiles["step1000"], "null: random parameters")}
    first = text_of(draw_sweep(sweep_of(one, Place()), Look(), page())).splitlines()[0]
    assert first.startswith("NULL: random parameters (1000)  ")


def test_a_column_is_that_of_show(profiles: dict[str, Profile]) -> None:
    columns = sweep_columns(sweep_of(profiles, Place(1)), Look())
    assert columns.labels[:3] == ("0", "1000", "143000")
    alone = layer_column(profiles["step1000"], Look(), 1)
    assert columns.densities(20)[1].tolist() == alone.densities(20)[0].tolist()


def test_more_revisions_than_cells_are_thinned_out_and_the_table_has_them_all(profiles: dict[str, Profile]) -> None:
    many = {f"step{1000 * at}": profiles["main"] for at in range(154)}
    text = text_of(draw_sweep(sweep_of(many, Place()), Look(), page()))
    head, _, table = text.partition("below 0.01")
    assert "of 154 revisions" in head
    assert "►" not in head
    assert [line.split()[0] for line in table.splitlines()[1:155]] == [str(1000 * at) for at in range(154)]


def test_a_revision_without_weights_is_a_gap(profiles: dict[str, Profile]) -> None:
    rows = draw_sweep(sweep_of(profiles, Place(1, 0, "self", "only")), Look("self", "only"), page())
    text = text_of(rows)
    assert "nothing read yet" in text
    assert [line.split()[1:3] for line in text.splitlines() if line.strip().startswith("143000  ")] == [["–", "–"]]

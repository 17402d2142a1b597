"""A profile of many prompts in the explorer and in `show`: every view, and words where there is no one prompt."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from laminar_tui.profile.merge import ProfileSums, merge
from laminar_tui.profile.profile import Profile
from laminar_tui.render.columns import Look, layer_columns
from laminar_tui.render.facts import model_facts, statistics_lines, with_interval
from laminar_tui.render.palette import SCALES, make_ramp
from laminar_tui.render.prompt import top_keys
from laminar_tui.render.views import VIEWS, Page, Place
from laminar_tui.ui.explorer import Terminal
from laminar_tui.ui.help import about_text

Drive = Callable[..., Any]
WHY = "other tokens in each prompt"


@pytest.fixture(scope="module")
def many(patterns: Any, make_profile: Any) -> Profile:
    """Three prompts of 7, 30 and 12 tokens on a model with a gap."""
    prompts = [make_profile([patterns(n, 3, n), None, patterns(n + 1, 3, n)]) for n in (7, 30, 12)]
    found = merge(prompts)
    return replace(found, origin=replace(found.origin, corpus="b\x1b[31mooks.txt", mechanism="fast + tap"))


async def test_every_view_and_key_of_the_explorer_works(drive: Drive, many: Profile) -> None:
    async with drive(many, size=(160, 48)) as driven:
        for view in "1234":
            await driven.press(view, "s", "p", "e", "right")
            assert "3 prompts, 49 tokens" in driven.text(), view
        await driven.press("3")
        assert WHY in driven.text()
        await driven.press("i")
        assert "b␛[31mooks.txt" in driven.text()
        assert "in float32 tiles" in driven.text()
        assert "on chunks of query rows" in driven.text()
        assert "in each of 3 prompts" in driven.text()


def test_every_way_in_which_layers_were_read_is_said_in_words(many: Profile) -> None:
    mixed = replace(many, origin=replace(many.origin, mechanism="fast + kernel"))
    said = about_text(mixed, Look()).plain
    assert "in float32 tiles" in said
    assert "by one fused kernel on the GPU" in said


@pytest.mark.parametrize("lengths", [(7, 30, 12), (9, 9)])
async def test_where_there_is_no_one_prompt_there_is_no_map_but_a_reason(
    drive: Drive, patterns: Any, make_profile: Any, lengths: tuple[int, ...]
) -> None:
    of_corpus = merge([make_profile([patterns(n, 3, n)]) for n in lengths])
    async with drive(of_corpus, size=(80, 24)) as driven:
        await driven.press("3")
        assert "so none are shown" in driven.text()
        assert "Map" not in driven.text()
        for key in ("m", "enter", "comma"):
            await driven.press("3", key)
            assert driven.state.view == "head", key
            assert "no single weights are kept" in driven.text(), key
        await driven.press("1", "m")
        assert driven.state.view == "head"
        assert "no single weights are kept" in driven.text()


@pytest.fixture(scope="module")
def banded(patterns: Any, make_profile: Any) -> Profile:
    """Six prompts that differ."""
    sums = ProfileSums()
    for n in range(6):
        sums.add(make_profile([patterns(n, 3, 30, 1.0 + n), patterns(n + 9, 3, 30, 1.0 + n)]), n)
    return sums.profile("books.txt")


@pytest.mark.parametrize("size", [(80, 24), (160, 48), (240, 70)])
@pytest.mark.parametrize("ascii_only", [False, True])
async def test_the_curve_has_a_band_and_its_legend_is_outside(
    drive: Drive, banded: Profile, size: tuple[int, int], ascii_only: bool
) -> None:
    async with drive(banded, size=size, terminal=Terminal("none", ascii_only)) as driven:
        for keys in ((), ("enter",), ("enter",)):
            await driven.press(*keys)
            rows = driven.text().splitlines()
            named = next(at for at, row in enumerate(rows) if "dots: 95 % band" in row)
            corner = "+--" if ascii_only else "┌──"
            assert corner in rows[named + 1], "the legend stands over the frame"
            plot = "".join(row[-size[0] // 3 :] if driven.state.view != "head" else row for row in rows[named + 1 :])
            assert (".." if ascii_only else "⡪") in plot
        assert ("+-" if ascii_only else "±") in driven.text()
        if size[0] > 80:
            assert "over 6 prompts" in driven.text()
        await driven.press("space", "right")
        assert "dots: 95 % band" in driven.text()


def test_a_zoom_has_the_band_of_its_own_axis(banded: Profile) -> None:
    columns = layer_columns(banded, Look("past"))
    whole = columns.curve(1)
    zoomed = replace(columns, look=Look("past", window=(0.5, 1.0))).curve(1)
    fresh = layer_columns(banded, Look("past", window=(0.5, 1.0))).curve(1)
    assert whole.high is not None
    assert zoomed.high is not None
    np.testing.assert_array_equal(zoomed.high, fresh.high)
    # Twice as fine: two neighbouring cells together are one of the whole axis.
    np.testing.assert_allclose(zoomed.high.reshape(-1, 2).mean(axis=1), whole.high[150:], rtol=0.2, atol=0.01)


async def test_one_prompt_has_no_band(drive: Drive, walk: Profile) -> None:
    async with drive(walk, size=(160, 48)) as driven:
        assert "density, layer 0" in driven.text()
        assert "dots" not in driven.text()
        assert "±" not in driven.text()


def test_the_interval_is_that_of_the_spread(banded: Profile) -> None:
    found = dict(statistics_lines(banded, 1, 2))["entropy"]
    spread = banded.layer(1).spread
    assert spread is not None
    low, high = spread.interval("entropy")
    value, half = (float(each) for each in found.split(" ± "))
    assert value == pytest.approx((low[2] + high[2]) / 2, rel=5e-3)
    assert half == pytest.approx((high[2] - low[2]) / 2, rel=5e-2)


@pytest.mark.parametrize(
    ("value", "half", "is_share", "said"),
    [
        (2.0123, 0.1234, False, "2.01 ± 0.12"),
        (0.0631, 0.0041, True, "6.31 ± 0.41 %"),
        (6.47, 1.83, False, "6.5 ± 1.8"),
        (0.00123456, 0.00123456, False, "0.001 ± 0.001"),
        (0.0121, 0.00096, False, "0.012 ± 0.001"),
        (123.456, 0.00123, False, ""),
        (1.0, float("nan"), False, ""),
    ],
)
def test_intervals_fit_their_box(value: float, half: float, is_share: bool, said: str) -> None:
    assert with_interval(value, half, is_share=is_share) == said


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
def test_every_view_is_drawn(name: str, size: tuple[int, int], many: Profile) -> None:
    page = Page(*size, make_ramp("viridis", "none"), False)
    look = Look("final", "with", "reflected", SCALES[0])
    rows = VIEWS[name](many, look, Place(2, 1), page)
    text = "\n".join("".join(segment.text for segment in row) for row in rows)
    assert len(rows) <= size[1]
    assert "3 prompts, 49 tokens" in text
    assert (WHY in text) == (name == "head")


def test_one_prompt_reads_as_before(small_profile: Profile) -> None:
    assert "12 tokens" in model_facts(small_profile)
    layer = replace(small_profile.layer(0), final_weights=None)
    without = replace(small_profile, layers=(layer, *small_profile.layers[1:]))
    assert top_keys(without, 0, 0) == ["its weights are not in this profile"]


async def test_prompts_of_many_lengths_are_compared_with_chance(drive: Drive, many: Profile) -> None:
    async with drive(many, size=(160, 48)) as driven:
        await driven.press("M", "5")
        screen = driven.app.screen
        await driven.until(lambda: screen.compared.reference is not None, "uniform attention")
        assert "A is chance: uniform attention" in driven.text()
        one, other = (each.layer(0).layer_counts("all") for each in screen.compared.sides)
        assert one.n == other.n
        await driven.press("b")
        await driven.until(lambda: "A is chance: independent scores" in driven.text(), "the second null")
        assert "capture --corpus FILE --null random, or shuffled" in driven.text()
        await driven.press("6")
        assert "`capture --corpus FILE --roles` measures them" in driven.text()
        await driven.press("r")
        assert "of several prompts no model is loaded" in driven.text()

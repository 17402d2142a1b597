"""A profile of many prompts in the explorer and in `show`: every view, and words where there is no one prompt."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from laminar_tui.profile.merge import merge
from laminar_tui.profile.profile import Profile
from laminar_tui.render.columns import Look
from laminar_tui.render.facts import model_facts
from laminar_tui.render.palette import SCALES, make_ramp
from laminar_tui.render.prompt import top_keys
from laminar_tui.render.views import VIEWS, Page, Place

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
        assert "own attention function" in driven.text()
        assert "in each of 3 prompts" in driven.text()


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

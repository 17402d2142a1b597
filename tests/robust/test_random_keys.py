"""The app outlives random keys: a short walk of what `random_keys.py` does for hours."""

import pytest
from random_keys import Tally, press_keys

from laminar_tui.profile.profile import Profile
from laminar_tui.run import SAMPLE_PROFILE
from laminar_tui.ui.app import LaminarApp
from laminar_tui.ui.explorer import Explorer
from laminar_tui.ui.state import State

N_KEYS = 400


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no key fetch a saved profile's model."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.parametrize("seed", [103, 7])
async def test_the_app_outlives_random_keys(seed: int) -> None:
    tally = await press_keys(seed, n_keys=N_KEYS // 2)
    assert tally.crashes == []
    assert tally.keys >= N_KEYS // 2
    assert len(tally.seen) >= 4, f"the walk must go somewhere: {tally.seen}"


async def test_a_key_that_crashes_is_told_with_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(_self: Explorer, *_arguments: object) -> None:
        raise ZeroDivisionError("found")

    for name in ("action_change", "action_population", "action_column", "action_view"):
        monkeypatch.setattr(Explorer, name, crash)
    tally: Tally = await press_keys(2, n_keys=60)
    assert tally.crashes
    assert "seed 2" in tally.crashes[0]
    assert "ZeroDivisionError: found" in tally.crashes[0]


async def test_the_curves_of_all_layers_are_those_of_layers_whatever_head_one_was_at() -> None:
    """A head beyond the number of layers was taken for a layer."""
    profile = Profile.load(SAMPLE_PROFILE)
    few = Profile(profile.origin, profile.layers[:2] + (None,) * (profile.n_layers - 2))
    app = LaminarApp(State(few, view="head", layer_index=1, head_index=profile.n_heads - 1), None)
    async with app.run_test(size=(200, 60)) as pilot:
        await pilot.press("4")
        assert app.explorer.state.view == "lines"
        assert app.explorer.state.column == 1

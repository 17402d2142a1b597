"""Another profile, prompt or model comes while something of the one before is still held: a search, pins, a run."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gate import Gate, n_read
from textual import events

from laminar_tui.errors import PromptError
from laminar_tui.profile.profile import Profile
from laminar_tui.recovery import CutOff
from laminar_tui.run import Request
from laminar_tui.ui.app import LaminarApp
from laminar_tui.ui.compare import CompareScreen
from laminar_tui.ui.state import State

Drive = Callable[..., Any]
Make = Callable[..., Any]


@pytest.fixture
def small(patterns: Make, make_profile: Make) -> Profile:
    """One layer of 2 heads on 5 tokens, of another model."""
    made = make_profile([patterns(30, 2, 5)])
    return replace(made, origin=replace(made.origin, model="small/one"))


async def test_a_search_is_made_again_in_another_prompt(drive: Drive, walk: Profile, small: Profile) -> None:
    async with drive(walk) as driven:
        await driven.press("slash", *"token11", "enter")
        assert "token11" in driven.row("status")
        driven.app.explorer.go_on_with(small)
        await driven.press("n")
        assert "no token has the text 'token11'" in driven.row("status")
        several = replace(small, origin=replace(small.origin, tokens=(), token_ids=(), n_prompts=2, n_tokens=9))
        driven.app.explorer.go_on_with(several)
        await driven.press("N")
        assert "no token has the text" in driven.row("status")


async def test_a_pin_of_a_head_that_is_not_there_is_not_drawn(drive: Drive, script: Any, small: Profile) -> None:
    async with drive(request=Request()) as driven:
        await driven.until(lambda: not driven.app.explorer.runner.is_running, "the run")
        await driven.press("2", "G", "space", "1")
        assert driven.state.pins == ((0, 3),)
        script.profile = small
        await driven.press("r")
        await driven.until(lambda: driven.state.profile is small, "the other model's run")
        assert driven.app.is_running
        await driven.press("2")
        assert "L0 H3" not in driven.text()


async def test_a_profile_that_is_opened_during_a_run_stays(drive: Drive, script: Any, small: Profile) -> None:
    gate = script.pace = Gate()
    async with drive(request=Request()) as driven:
        gate.open(2)
        await driven.until(lambda: n_read(driven) == 1, "a layer")
        driven.app.explorer.go_on_with(small)
        await driven.until(lambda: not driven.app.explorer.runner.is_running, "the end of the run")
        await driven.pilot.pause()
        assert driven.state.profile is small
        assert "stopped" not in driven.row("status")


class Kept(CutOff):
    """Tells whether it was taken away."""

    def remove(self) -> None:
        self.path.unlink()


async def test_only_what_is_saved_is_forgotten(drive: Drive, walk: Profile, small: Profile, tmp_path: Path) -> None:
    journal = tmp_path / "run.opened"
    journal.touch()
    async with drive(walk) as driven:
        explorer = driven.app.explorer
        explorer.runner.adopt(Kept(journal, walk, -1))
        explorer.go_on_with(small)
        for profile, is_kept in ((small, True), (walk, False)):
            explorer.go_on_with(profile)
            await driven.press("w")
            driven.app.screen.dismiss(str(tmp_path / f"{profile.origin.model.replace('/', '-')}.laminar"))
            await driven.pilot.pause()
            assert journal.exists() is is_kept


async def test_what_is_written_is_what_was_there_when_it_was_asked_for(
    drive: Drive, walk: Profile, small: Profile, tmp_path: Path
) -> None:
    async with drive(walk) as driven:
        await driven.press("w")
        driven.app.explorer.go_on_with(small)
        driven.app.screen.dismiss(str(tmp_path / "written.laminar"))
        await driven.pilot.pause()
        assert Profile.load(tmp_path / "written.laminar").origin.model == walk.origin.model


async def test_a_failed_check_condemns_its_own_profile_only(drive: Drive, walk: Profile) -> None:
    checks = tuple(replace(check, passed=False) for check in walk.origin.checks)
    bad = replace(walk, origin=replace(walk.origin, checks=checks))
    async with drive(bad) as driven:
        assert driven.app.explorer.has_class("-failed")
        driven.app.explorer.go_on_with(walk)
        await driven.pilot.pause()
        assert not driven.app.explorer.has_class("-failed")


@pytest.mark.usefixtures("script")
async def test_after_a_run_that_failed_what_the_profile_carries_is_shown(
    drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with drive(request=Request(), size=(160, 48)) as driven:
        runner = driven.app.explorer.runner
        await driven.until(lambda: not runner.is_running, "the run")
        await driven.pilot.pause()

        def fail(*_: Any) -> None:
            runner._session.patterns = None
            raise PromptError("too long", "")

        monkeypatch.setattr(runner._session, "run", fail)
        await driven.press("r")
        await driven.until(lambda: driven.app.explorer.has_class("-failed"), "the failure")
        await driven.press("3", "m")
        await driven.pilot.pause(0.1)
        assert "being looked up" not in driven.text()
        assert "rank" in driven.row("summary"), "of the last query, which the profile carries"


async def test_distances_of_what_was_compared_before_are_not_shown(drive: Drive, walk: Profile) -> None:
    async with drive(walk, size=(160, 48)) as driven:
        driven.app.explorer.reference = replace(walk)
        await driven.press("5")
        screen = driven.app.screen
        assert isinstance(screen, CompareScreen)
        await driven.until(lambda: screen._change is not None, "the distances")
        late = screen._change
        key = screen._change_for
        await driven.press("enter")
        await driven.until(lambda: screen._change is not None, "the heads'")
        of_heads = screen._change
        screen._show_change(key, late)
        assert screen._change is of_heads
        assert len(of_heads.wasserstein) == 4


async def test_the_theme_of_another_screen_is_the_explorer_s_too(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        await driven.press("6", "t", "escape")
        await driven.pilot.pause()
        assert driven.app.explorer._scene.is_dark is driven.app.current_theme.dark is False


async def test_a_profile_without_any_layer_is_no_crash(walk: Profile) -> None:
    origin = replace(walk.origin, layer_kinds=())
    app = LaminarApp(State(Profile(origin, ())), None)
    async with app.run_test(size=(80, 24)) as pilot:
        for key in ("2", "3", "4", "m", "6", "7", "5", "escape", "1"):
            await pilot.press(key)
            await pilot.pause()
        assert app.is_running


@pytest.mark.usefixtures("script")
async def test_a_query_names_only_keys_that_it_sees(drive: Drive, dense: Any) -> None:
    async with drive(request=Request(), size=(160, 48)) as driven:
        await driven.until(lambda: not driven.app.explorer.runner.is_running, "the run")
        await driven.press("3")
        driven.app.explorer.state = replace(driven.state, query=1, layer_index=0, head_index=0)
        await driven.until(lambda: "query 1" in driven.text() and "looked up" not in driven.text(), "its weights")
        (line,) = [line for line in driven.text().splitlines() if "looks at:" in line]
        assert line.count("(") == int((dense[0][0, 1] > 0).sum()) == 2
        await driven.press("m")
        driven.app.explorer.state = replace(driven.state, query=1, key=5)
        await driven.until(lambda: "hidden by the mask" in driven.row("summary"), "the map")
        driven.app.explorer.state = replace(driven.state, query=1, key=0)
        await driven.until(lambda: "of 2" in driven.row("summary"), "the rank")
        weight = float(np.float32(dense[0][0, 1, 0]))
        assert f"{2 * weight:.3g}"[:4] in driven.row("summary")


async def test_keys_that_come_late_are_typed_into_the_line(drive: Drive, walk: Profile) -> None:
    """Those of one go reach the app and not the line that the first one has opened."""
    async with drive(walk) as driven:
        await driven.press("O")
        for character in "sam":
            driven.app.on_key(events.Key(character, character))
        await driven.pilot.pause()
        assert driven.app.screen.typed == "sam"

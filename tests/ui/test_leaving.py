"""A screen is left once, by itself, and not from under a window; what is gone is not kept."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text
from textual._styles_cache import StylesCache

from laminar_tui.profile.profile import Profile
from laminar_tui.run import Request
from laminar_tui.ui.choice import ChoiceDialog
from laminar_tui.ui.dialogs import FileDialog, TextDialog
from laminar_tui.ui.heads import HeadsScreen
from laminar_tui.ui.prompt import PromptScreen

Drive = Callable[..., Any]


async def test_a_second_enter_takes_nothing_else_away(drive: Drive, walk: Profile, tmp_path: Path) -> None:
    async with drive(walk) as driven:
        explorer = driven.app.explorer
        await driven.press("w")
        window = driven.app.screen
        assert isinstance(window, FileDialog)
        for _ in range(2):  # as two Enters in one go do
            window.dismiss(str(tmp_path / "written.laminar"))
        await driven.pilot.pause()
        assert driven.app.screen is explorer
        assert (tmp_path / "written.laminar").exists()
        await driven.press("6", "v")
        window = driven.app.screen
        assert isinstance(window, ChoiceDialog)
        for _ in range(2):
            window.dismiss(None)
        await driven.pilot.pause()
        assert isinstance(driven.app.screen, HeadsScreen)


async def test_two_enters_in_the_editor_run_the_prompt_once(drive: Drive, script: Any) -> None:
    async with drive(request=Request(prompt="a b")) as driven:
        await driven.until(lambda: not driven.app.explorer.runner.is_running, "the first run")
        await driven.press("e")
        editor = driven.app.screen
        assert isinstance(editor, PromptScreen)
        editor.area.text = "c d"
        editor.action_run()
        editor.action_run()
        await driven.until(lambda: len(script.seen) > 1, "the second run")
        await driven.until(lambda: not driven.app.explorer.runner.is_running, "its end")
        assert driven.app.screen is driven.app.explorer
        assert [request.prompt for request in script.seen] == ["a b", "c d"]


async def test_what_comes_while_a_window_is_open_waits_for_it(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        await driven.press("6")
        heads = driven.app.screen
        driven.app.push_screen(TextDialog("help", Text("words")))
        await driven.pilot.pause()
        heads.dismiss((3, 1))
        await driven.pilot.pause()
        assert isinstance(driven.app.screen, TextDialog)
        assert driven.state.view == "overview"
        await driven.press("escape")
        assert driven.app.screen is driven.app.explorer
        assert (driven.state.view, driven.state.layer_index, driven.state.head_index) == ("head", 3, 1)


@pytest.mark.parametrize("keys", [("6", "escape"), ("question_mark", "escape"), ("7", "escape")])
async def test_no_widget_is_kept_that_is_gone(drive: Drive, walk: Profile, keys: tuple[str, ...]) -> None:
    def count() -> int:
        gc.collect()
        return sum(type(each) is StylesCache for each in gc.get_objects())

    async with drive(walk) as driven:
        await driven.press(*keys)
        await driven.pilot.pause(0.1)
        before = count()
        for _ in range(3):
            await driven.press(*keys)
            await driven.pilot.pause(0.1)
        assert count() == before

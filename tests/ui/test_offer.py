"""The offer of a run that was cut off: no key answers it before it could be read."""

from typing import Any

import pytest

from laminar_tui.profile.profile import Profile
from laminar_tui.run import Request
from laminar_tui.ui import kept
from laminar_tui.ui.app import LaminarApp
from laminar_tui.ui.kept import CutOffDialog
from laminar_tui.ui.state import State


class Found:
    """A run that was cut off, as far as the app asks it."""

    path = None

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.is_removed = False

    def sentence(self) -> str:
        return "a run was cut off"

    def remove(self) -> None:
        self.is_removed = True

    def close(self) -> None:
        pass


def app_on(found: Found) -> LaminarApp:
    return LaminarApp(State(), Request(), cut_off=found)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["enter", "escape", "q", "space"])
async def test_blind_keys_do_not_answer(walk: Profile, script: Any, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setattr(kept, "BLIND_SECONDS", 3600.0)
    found = Found(walk)
    app = app_on(found)
    async with app.run_test(size=(100, 30)) as pilot:
        for _ in range(3):
            await pilot.press(key)
            await pilot.pause(0.02)
        assert isinstance(app.screen, CutOffDialog)
        assert "Enter" not in str(app.screen.query_one("#hint").render())
        assert (found.is_removed, script.seen) == (False, [])
        await pilot.press("ctrl+q")
    assert app.return_code == 0


@pytest.mark.parametrize(("key", "is_removed"), [("enter", False), ("escape", True), ("q", False)])
async def test_keys_answer_once_the_hint_is_there(
    walk: Profile, script: Any, monkeypatch: pytest.MonkeyPatch, key: str, is_removed: bool
) -> None:
    del script
    monkeypatch.setattr(kept, "BLIND_SECONDS", 0.01)
    found = Found(walk)
    app = app_on(found)
    monkeypatch.setattr(app.explorer.runner, "adopt", lambda _found: None)
    async with app.run_test(size=(100, 30)) as pilot:
        for _ in range(300):
            await pilot.pause(0.01)
            if "Enter opens it" in str(app.screen.query_one("#hint").render()):
                break
        await pilot.press(key)
        await pilot.pause()
        assert not app.is_running or not isinstance(app.screen, CutOffDialog) or key == "q"
        assert found.is_removed is is_removed
        app.explorer.runner.cancel()

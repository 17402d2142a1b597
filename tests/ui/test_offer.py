"""The offer of a run that was cut off: no key answers it before it could be read."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from laminar_tui.profile.profile import Profile
from laminar_tui.run import BUNDLED_MODEL, BUNDLED_NAME, Request, request_of
from laminar_tui.ui import kept
from laminar_tui.ui.app import LaminarApp
from laminar_tui.ui.kept import CutOffDialog
from laminar_tui.ui.state import State


class Found:
    """A run that was cut off, as far as the app asks it."""

    path = Path("nowhere.journal")

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.is_removed = False

    def sentence(self) -> str:
        return "a run was cut off"

    def remove(self) -> None:
        self.is_removed = True

    def set_aside(self) -> "Found":
        return self

    def close(self) -> None:
        pass


def app_on(found: Found, request: Request | None = None) -> LaminarApp:
    return LaminarApp(State(), request or Request(), cut_off=found)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def own_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is opened is remembered in a folder of its own."""
    monkeypatch.setattr("laminar_tui.catalog.recent_path", lambda: tmp_path / "recent.json")


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


def requested(profile: Profile, **changes: Any) -> tuple[Request, Profile]:
    """A request for the bundled model, and a profile that such a request was cut off in; both with changes."""
    prompt = "".join(profile.origin.tokens)
    read = replace(profile, origin=replace(profile.origin, model=BUNDLED_NAME, recipe="true"))
    return replace(Request(prompt=prompt), **changes), read


@pytest.mark.parametrize("is_same", [True, False])
async def test_run_again_runs_what_was_opened_or_nothing(
    walk: Profile, script: Any, monkeypatch: pytest.MonkeyPatch, is_same: bool
) -> None:
    monkeypatch.setattr(kept, "BLIND_SECONDS", 0.01)
    request, profile = requested(walk, **({} if is_same else {"prompt": "something else"}))
    app = app_on(Found(profile), request)
    monkeypatch.setattr(app.explorer.runner, "adopt", lambda _found: None)
    async with app.run_test(size=(100, 30)) as pilot:
        for _ in range(300):
            await pilot.pause(0.01)
            if "Enter opens it" in str(app.screen.query_one("#hint").render()):
                break
        await pilot.press("enter", "r")
        for _ in range(300):
            await pilot.pause(0.01)
            if script.seen:
                break
        assert script.seen == [request if is_same else request_of(profile)]
        app.explorer.runner.cancel()


@pytest.mark.parametrize(
    ("changes", "is_same"),
    [
        ({}, True),
        ({"prompt": "something else"}, False),
        ({"null": "random"}, False),
        ({"recipe": "literal"}, False),
        ({"source": str(BUNDLED_MODEL)}, False),  # the folder's name is `model`
        ({"source": "./missing"}, False),
        ({"max_tokens": 4}, True),
    ],
)
def test_whether_a_request_is_that_of_a_run_that_was_cut_off(
    walk: Profile, changes: dict[str, Any], is_same: bool
) -> None:
    assert kept.is_run_of(*requested(walk, **changes)) is is_same

"""Roles are measured from the matrix of heads: in the background, stopped by Esc, and then in the profile."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from laminar_tui.errors import UsageError
from laminar_tui.profile.profile import Profile
from laminar_tui.profile.roles import ROLES, Roles
from laminar_tui.run import Request
from laminar_tui.ui.heads import HeadsScreen

Drive = Callable[..., Any]


@pytest.fixture
def roles() -> Roles:
    """Head 2 of layer 3 does everything."""
    scores = np.full((5, 5), 0.1)
    scores[1] = np.nan
    scores[3, 2] = 0.9
    return Roles(dict.fromkeys(ROLES, scores), dict.fromkeys(ROLES, 0.5), 40, 8, 0)


def note(driven: Any) -> str:
    lines = driven.app.screen.query_one("#note")
    return " ".join(" ".join(lines.render_line(y).text for y in range(lines.size.height)).split())


async def ended(driven: Any) -> None:
    await driven.until(lambda: not driven.app.explorer.runner.is_running, "it has ended")


class Gate:
    """Holds a scripted run until it is opened, or cancelled."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    def __call__(self, _index: int, is_cancelled: Callable[[], bool]) -> None:
        while not is_cancelled() and not self.opened.wait(0.01):
            pass


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_r_in_the_matrix_measures_roles(
    drive: Drive, script: Any, roles: Roles, dense: list[Any], size: tuple[int, int]
) -> None:
    script.roles = roles
    async with drive(request=Request(), size=size) as driven:
        await ended(driven)
        read = driven.state.profile
        driven.app.explorer._saved = read
        await driven.press("6")
        assert "no role scores: r measures them on the loaded model" in note(driven)
        gate = script.pace = Gate()
        await driven.press("r")
        await driven.until(lambda: "measuring roles 0 of 3 sequences Esc stops" in note(driven), "how far it is")
        gate.opened.set()
        await driven.until(lambda: "roles are measured" in note(driven), "its end")
        screen = driven.app.screen
        assert screen.measure.name == "role.induction"
        assert screen.order[0] == (3, 2)
        assert driven.state.profile.roles is roles
        assert driven.state.profile.layers is read.layers
        await driven.press("escape")
        assert driven.app.screen is driven.app.explorer
        assert "not saved (w writes)" in driven.row("status")
        await driven.press("3", "comma", "comma")  # exact weights are still at hand
        row = dense[0][0, 9]
        await driven.until(lambda: f"({int(row.argmax())}) {float(row.max()):.3g}" in driven.text(), "query 9")


async def test_esc_stops_the_measuring_and_stays_in_the_matrix(drive: Drive, script: Any, roles: Roles) -> None:
    script.roles = roles
    async with drive(request=Request()) as driven:
        await ended(driven)
        read = driven.state.profile
        script.pace = Gate()
        await driven.press("6", "r", "escape")
        await driven.until(lambda: "stopped: no roles were measured" in note(driven), "it says so")
        assert isinstance(driven.app.screen, HeadsScreen)
        assert driven.state.profile is read
        await driven.press("escape")
        assert driven.app.screen is driven.app.explorer
        assert driven.app.explorer._exact.has_all_queries(driven.state)


async def test_one_may_leave_the_matrix_and_come_back_meanwhile(drive: Drive, script: Any, roles: Roles) -> None:
    script.roles = roles
    async with drive(request=Request()) as driven:
        await ended(driven)
        gate = script.pace = Gate()
        await driven.press("6", "r", "1")
        assert "measuring roles" in driven.row("status")
        await driven.press("6")
        await driven.until(lambda: "0 of 3 sequences" in note(driven), "how far it is")
        gate.opened.set()
        await driven.until(lambda: driven.state.profile.roles is roles, "the roles have come")


async def test_without_a_model_it_says_how_one_comes(drive: Drive, walk: Profile) -> None:
    async with drive(walk) as driven:
        await driven.press("6", "r")
        assert "no model is loaded: r in the overview loads this profile's own" in note(driven)
        assert "`capture --roles` measures them too" in note(driven)


async def test_why_there_are_none_is_said_in_the_matrix(drive: Drive, script: Any) -> None:
    def refuse(_index: int, _is_cancelled: Callable[[], bool]) -> None:
        raise UsageError("too few tokens", "its roles cannot be measured")

    async with drive(request=Request()) as driven:
        await ended(driven)
        script.pace = refuse
        await driven.press("6", "r")
        await driven.until(lambda: "too few tokens: its roles cannot be measured" in note(driven), "why")

"""The runner by itself: one run at a time, and a cancelled one no longer speaks for the runner."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from laminar_tui.errors import CancelledError
from laminar_tui.profile.profile import Profile
from laminar_tui.run import Request, Step
from laminar_tui.ui.messages import RunEnded, RunMessage
from laminar_tui.ui.runner import Runner


def test_a_cancelled_run_does_not_tell_its_steps_as_those_of_the_next(
    walk: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen_after_late_step = []
    ended = threading.Event()

    class Session:
        def run(self, request: Request, on_event: Callable[..., None], is_cancelled: Callable[[], bool]) -> Any:
            if request.prompt == "two":
                return walk
            while not is_cancelled() or runner.number < 2:
                ended.wait(0.001)
            on_event(Step("late"))
            seen_after_late_step.append(runner.step.name)
            raise CancelledError("stopped")

    def post(message: RunMessage) -> None:
        messages.append(message)
        if len(messages) == 2:
            ended.set()

    messages: list[RunMessage] = []
    monkeypatch.setattr("laminar_tui.ui.runner.Session", Session)
    runner = Runner(post)
    runner.start(Request(prompt="one"))
    runner.start(Request(prompt="two"))
    assert runner.is_running
    assert ended.wait(10)
    assert seen_after_late_step == ["starting"]
    assert [message.run for message in messages] == [1, 2]
    assert isinstance(messages[1], RunEnded)
    assert messages[1].profile is walk
    assert not runner.is_running

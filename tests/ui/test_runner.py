"""The runner by itself: one run at a time, a cancelled one no longer speaks for it, and questions wait their turn."""

import queue
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from laminar_tui.errors import CancelledError
from laminar_tui.profile.patterns import FinalWeights, PatternSource
from laminar_tui.profile.profile import Profile
from laminar_tui.run import Request, Step
from laminar_tui.ui.messages import Answered, RunEnded, RunMessage
from laminar_tui.ui.runner import Runner


def test_a_cancelled_run_does_not_tell_its_steps_as_those_of_the_next(
    walk: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen_after_late_step = []
    ended, looked_at = threading.Event(), threading.Event()

    class Session:
        def run(self, request: Request, on_event: Callable[..., None], is_cancelled: Callable[[], bool]) -> Any:
            if request.prompt == "two":
                assert looked_at.wait(10)
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
    looked_at.set()
    assert ended.wait(10)
    assert seen_after_late_step == ["starting"]
    assert [message.run for message in messages] == [1, 2]
    assert isinstance(messages[1], RunEnded)
    assert messages[1].profile is walk
    assert not runner.is_running


# -- questions -------------------------------------------------------------------------------------------------------


class Asked:
    """A runner after a run of a session that is no model; its messages, and a gate that holds answers back."""

    def __init__(self, walk: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
        self.messages: queue.SimpleQueue[RunMessage] = queue.SimpleQueue()
        self.gate = threading.Event()
        self.in_forward = threading.Event()
        self.hold = False
        asked = self

        class Session:
            patterns: PatternSource | None = None

            def run(self, _request: Request, _on_event: object, is_cancelled: Callable[[], bool]) -> Any:
                asked.in_forward.set()
                while asked.hold and not is_cancelled():
                    asked.gate.wait(0.001)
                asked.in_forward.clear()
                self.patterns = FinalWeights(walk)
                return walk

        monkeypatch.setattr("laminar_tui.ui.runner.Session", Session)
        self.runner = Runner(self.messages.put)

    def run(self) -> None:
        self.runner.start(Request())
        assert isinstance(self.next(), RunEnded)

    def next(self) -> Any:
        return self.messages.get(timeout=10)

    def wait_in(self, until: threading.Event) -> Callable[[PatternSource], str]:
        """A question that takes as long as the event lets it."""
        started = threading.Event()

        def question(_source: PatternSource) -> str:
            started.set()
            assert until.wait(10)
            return "slow"

        question.started = started  # type: ignore[attr-defined]
        return question


@pytest.fixture
def asked(walk: Profile, monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(walk, monkeypatch)


def test_a_question_is_answered_in_another_thread(asked: Asked, walk: Profile) -> None:
    asked.run()
    threads: list[threading.Thread] = []
    given: list[Any] = []

    def question(source: PatternSource) -> Any:
        threads.append(threading.current_thread())
        return source.rows(0, 1, 11, 12)

    asked.runner.ask("rows", question, given.append)
    answer = asked.next()
    assert isinstance(answer, Answered)
    assert (answer.run, answer.is_answer, given) == (1, True, [])
    answer.deliver()
    np.testing.assert_array_equal(given[0][0], walk.layer(0).final_weights[1])
    assert threads[0] is not threading.current_thread()
    assert threads[0].daemon
    threads[0].join(10)
    assert not asked.runner.has_thread, "a thread that waits for questions would be one more for each runner"


def test_the_newest_question_of_a_kind_wins(asked: Asked) -> None:
    asked.run()
    until = threading.Event()
    first = asked.wait_in(until)
    given: list[str] = []
    asked.runner.ask("entries", first, given.append)
    assert first.started.wait(10)  # type: ignore[attr-defined]
    assert asked.runner.has_thread
    asked_of: list[str] = []
    for name in "abc":
        asked.runner.ask("entries", lambda _source, name=name: asked_of.append(name) or name, given.append)
        asked.runner.ask("pattern", lambda _source, name=name: "pattern " + name, given.append)
    until.set()
    answers = [asked.next(), asked.next()]
    for answer in answers:
        answer.deliver()
    assert sorted(given) == ["c", "pattern c"], "neither what was under way nor what waited"
    assert asked_of == ["c"]
    assert asked.messages.empty()


def test_an_answer_that_comes_too_late_is_not_delivered(asked: Asked) -> None:
    asked.run()
    given: list[str] = []
    asked.runner.ask("entries", lambda _source: "old", given.append)
    old = asked.next()
    assert not old.is_outdated
    asked.runner.ask("entries", lambda _source: "new", given.append)
    asked.next().deliver()
    old.deliver()
    assert old.is_outdated
    assert given == ["new"]


def test_an_error_and_a_bug_come_back_as_answers(asked: Asked) -> None:
    asked.run()
    given: list[Any] = []
    asked.runner.ask("pattern", lambda source: source.pattern(99, 0), given.append)
    answer = asked.next()
    answer.deliver()
    assert "no layer 99" in answer.error.message
    asked.runner.ask("pattern", lambda source: source.no_such_thing, given.append)
    answer = asked.next()
    answer.deliver()
    assert "no_such_thing" in answer.crash
    assert given == []
    asked.runner.ask("pattern", lambda _source: "fine", given.append)
    asked.next().deliver()
    assert given == ["fine"], "the next one is answered"


def test_while_the_model_runs_a_question_is_refused_unless_it_needs_no_model(asked: Asked, walk: Profile) -> None:
    asked.hold = True
    asked.runner.start(Request())
    asked.runner.ask("entries", lambda _source: pytest.fail("it was asked"))
    assert "running" in asked.next().error.message
    given: list[str] = []
    asked.runner.ask("entries", lambda source: source.scope, given.append, source=FinalWeights(walk))
    asked.next().deliver()
    assert "saved profile" in given[0]
    asked.hold = False
    assert isinstance(asked.next(), RunEnded)


def test_without_a_run_there_is_nothing_to_ask(asked: Asked) -> None:
    asked.runner.ask("entries", lambda source: source.scope)
    assert "no run has ended" in asked.next().error.message


def test_a_run_begins_when_the_question_under_way_has_ended(asked: Asked) -> None:
    asked.run()
    begun, stopped = threading.Event(), threading.Event()

    class Source(FinalWeights):
        def reads_again(self, layer: int) -> bool:
            return layer > 0

        def until(self, is_cancelled: Callable[[], bool]) -> "Source":
            self.is_cancelled = is_cancelled
            return self

    def question(source: Any) -> None:
        begun.set()
        while not source.is_cancelled():
            asked.gate.wait(0.001)
        during.append(asked.in_forward.is_set())
        stopped.wait(0.05)  # the time that a forward pass takes to stop
        during.append(asked.in_forward.is_set())
        raise CancelledError("the question was cancelled")

    during: list[bool] = []
    asked.runner._session.patterns = Source(asked.runner._session.patterns._profile)  # type: ignore[union-attr]
    asked.runner.ask("entries", question)
    assert begun.wait(10)
    asked.runner.ask("pattern", lambda _source: pytest.fail("its run is over"))
    asked.runner.start(Request())
    assert isinstance(asked.next(), RunEnded)
    assert during == [False, False]
    assert asked.messages.empty()

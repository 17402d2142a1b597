"""The threads that run the model and answer questions about its last run, and the model they keep for the next prompt.

Daemon threads: a worker thread of Textual's would hold the process after `quit` until the forward pass ends.
"""

import threading
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from laminar_tui.errors import LaminarError, UsageError
from laminar_tui.log import LOGGER
from laminar_tui.profile.patterns import Interruptible, PatternSource
from laminar_tui.profile.profile import Profile
from laminar_tui.record import Record
from laminar_tui.recovery import CutOff
from laminar_tui.run import Event, LayerRead, OnEvent, PromptFacts, Request, Session, Started, Step
from laminar_tui.tail import Following
from laminar_tui.ui.messages import Answered, ProfileGrew, RunEnded, RunMessage

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class _Question:
    """Something asked of a source, and what to do with the answer."""

    run: int
    kind: str
    ask: Callable[[PatternSource], Any]
    then: Callable[[Any], object]
    source: PatternSource | None
    outdated: threading.Event = field(default_factory=threading.Event)

    def answered(self, value: object = None, error: LaminarError | None = None, crash: str = "") -> Answered:
        """Make the message that brings the answer."""
        return Answered(
            self.run,
            error,
            crash,
            then=lambda: self.then(value),
            is_outdated=self.outdated.is_set,
        )


class Runner:
    """Runs requests one at a time and posts what comes of them.

    Args:
        post: called from the running thread with each message; must be safe for that.

    Attributes:
        keep_in: the folder where a run's layers are kept while it goes on; None for nowhere.
        follows: the file that another process captures into, if it is that run which is shown.
    """

    def __init__(self, post: Callable[[RunMessage], object]) -> None:
        self._post = post
        self._thread: threading.Thread | None = None
        self._cancel = threading.Event()
        self._session: Session | Following = Session()
        self.keep_in: Path | None = None
        self.follows: Path | None = None
        self._record: Record | None = None
        self._made: Profile | None = None  # what the last run has made, if only in part
        self._made_for = Request()
        self._adopted: CutOff | None = None
        self._in_use = threading.Lock()  # the model: one forward at a time
        self._questions: dict[str, _Question] = {}  # kind -> the newest
        self._waiting: dict[str, _Question] = {}
        self._answering: threading.Thread | None = None
        self._asking = threading.Lock()
        self._last_ended = 0
        self.number = 0
        self.step = Step("")
        self.started_at = 0.0

    @property
    def is_running(self) -> bool:
        """Whether a run is under way: until its end is posted, though its thread may outlive that by a moment."""
        return self._last_ended < self.number

    @property
    def has_thread(self) -> bool:
        """Whether a thread is left that may be in a forward pass."""
        return any(thread is not None and thread.is_alive() for thread in (self._thread, self._answering))

    @property
    def seconds(self) -> float:
        """How long the run has been under way."""
        return time.monotonic() - self.started_at

    def start(self, request: Request) -> None:
        """Begin a run; one that is under way is cancelled first, and its messages carry an old number."""
        self.cancel()
        if self._adopted is not None:
            self._adopted.close()
            self._adopted = None
        self.number += 1
        cancel, previous = threading.Event(), self._thread
        self._cancel = cancel
        self.step, self.started_at = Step("starting"), time.monotonic()
        self._thread = threading.Thread(
            target=self._run, args=(self.number, request, cancel, previous), name="capture", daemon=True
        )
        self._thread.start()

    def measure_roles(self, profile: Profile) -> None:
        """Measure what the loaded model's heads do; it ends as a run does, with the profile that has their scores."""
        self.cancel()
        self.number += 1
        cancel, previous = threading.Event(), self._thread
        self._cancel = cancel
        self.step, self.started_at = Step("measuring roles"), time.monotonic()
        self._thread = threading.Thread(
            target=self._measure_roles, args=(self.number, profile, cancel, previous), name="roles", daemon=True
        )
        self._thread.start()

    def _measure_roles(
        self, number: int, profile: Profile, cancel: threading.Event, previous: threading.Thread | None
    ) -> None:
        if previous is not None:
            previous.join()

        def listen(event: Event) -> None:
            if isinstance(event, Step) and number == self.number:
                self.step = event

        try:
            with self._in_use:
                if isinstance(self._session, Following):
                    raise UsageError("another process's run is followed", "its model is not loaded here")
                measured = self._session.measure_roles(profile, listen, cancel.is_set)
            self._made = measured if self._made is profile else self._made
            ended = RunEnded(number, measured)
        except LaminarError as error:
            ended = RunEnded(number, error=error)
        except BaseException as error:  # a bug: the thread would vanish with it, so it is shown and logged
            LOGGER.error("a bug in measuring roles", exc_info=error)
            ended = RunEnded(number, crash=traceback.format_exc())
        self._last_ended = number
        self._post(ended)

    def follow(self, path: Path) -> None:
        """Show the run of another process that captures into a file.

        Raises:
            UsageError: if there can be no such file.
        """
        self._session, self.follows, self.keep_in = Following(path), path, None
        self.start(Request(prompt=""))

    def unfollow(self) -> None:
        """Run models again, where another process was followed."""
        if self.follows is not None:
            self._session, self.follows = Session(), None

    def adopt(self, found: CutOff) -> None:
        """Keep a run that was cut off, which is shown now, until it is saved."""
        self._adopted = found

    def forget(self, saved: Profile) -> None:
        """Take away what was kept of the run that has made this profile: it is saved."""
        if self._adopted is not None and self._adopted.profile is saved:
            self._adopted.remove()
            self._adopted = None
        elif self._record is not None and self._made is saved and not self.is_running:
            self._record.remove()

    def abandon(self) -> None:
        """Take away what was kept of a run, even if it is under way: the user goes without it."""
        if self._record is not None:
            self._record.remove()

    def has_read(self, profile: Profile) -> bool:
        """Whether this profile is the last run's, and the model that was run is there."""
        return profile is self._made and not self.is_running and not isinstance(self._session, Following)

    def takes_as_read(self, saved: Profile) -> None:
        """The last run has read again what this saved profile holds: it stands for what was made."""
        self._made = saved

    def draw_null(self, profile: Profile, null: str, listen: OnEvent, is_cancelled: Callable[[], bool]) -> Profile:
        """Run the last run's model so that chance shows; call it in a thread: it waits until the model is free.

        Args:
            profile: what the last run has read.
            null: a name in `profile.nulls.MODEL_NULLS`.
            listen: called in that thread with what happens.
            is_cancelled: asked within each layer.

        Raises:
            LaminarError: if another run has come, or the null cannot be made; CancelledError if `is_cancelled` said so.
        """
        with self._in_use:
            if not self.has_read(profile) or isinstance(self._session, Following):
                raise UsageError("the model has read something else since", "r runs it again")
            number = self.number  # the next run has another one
            return self._session.run_null(self._made_for, null, listen, lambda: is_cancelled() or self.number != number)

    def prompt_facts(self, request: Request) -> PromptFacts | None:
        """Ask the loaded tokenizer about a prompt; call it in a thread: it takes as long as the tokenizer does."""
        return None if isinstance(self._session, Following) else self._session.prompt_facts(request)

    def cancel(self) -> None:
        """Ask the run to stop: it does within a layer. Questions stop too, and get no answer."""
        self._cancel.set()
        for question in self._questions.values():
            question.outdated.set()

    @property
    def patterns(self) -> PatternSource | None:
        """What answers questions about the last run; None before it has ended."""
        return None if self.is_running else self._session.patterns

    def ask(
        self,
        kind: str,
        question: Callable[[PatternSource], T],
        then: Callable[[T], object] = lambda _answer: None,
        source: PatternSource | None = None,
    ) -> None:
        """Put a question about exact weights to the last run; its answer comes as a message `Answered`.

        Questions are answered one at a time, in a thread of their own. A question of a kind makes older ones of this
        kind outdated: they are stopped and get no answer. While the model runs the answer is an error that says so.

        Args:
            kind: what is asked for, like `entries` or `pattern`.
            question: called with the source in the answering thread; what it returns is the answer.
            then: called with the answer by `Answered.deliver`, where the screen handles messages.
            source: what to ask, if it needs no model; the last run of this session if left out.
        """
        asked = _Question(self.number, kind, question, then, source)
        if (older := self._questions.get(kind)) is not None:
            older.outdated.set()
        self._questions[kind] = asked
        if source is None and self.is_running:
            error = UsageError("the model is running", "exact weights can be looked at when it has ended")
            self._post(asked.answered(error=error))
            return
        with self._asking:
            self._waiting.pop(kind, None)  # the newest question waits longest
            self._waiting[kind] = asked
            if self._answering is None:
                self._answering = threading.Thread(target=self._answer_all, name="questions", daemon=True)
                self._answering.start()

    def _answer_all(self) -> None:
        while (question := self._next_question()) is not None:
            with self._in_use if question.source is None else nullcontext():
                self._answer(question)

    def _next_question(self) -> _Question | None:
        """Take the question that waits longest; without one the thread ends."""
        with self._asking:
            if not self._waiting:
                self._answering = None
                return None
            return self._waiting.pop(next(iter(self._waiting)))

    def _answer(self, question: _Question) -> None:
        if question.outdated.is_set():
            return
        try:
            source = question.source or self._session.patterns
            if source is None:
                raise UsageError("no run has ended whose weights could be looked at", "run the model first")
            if isinstance(source, Interruptible):
                source = source.until(question.outdated.is_set)
            answer = question.answered(question.ask(source))
        except LaminarError as error:
            answer = question.answered(error=error)
        except Exception as error:  # a bug: the thread would vanish with it, so it is shown and logged
            LOGGER.error("a bug in a question", exc_info=error)
            answer = question.answered(crash=traceback.format_exc())
        if not question.outdated.is_set():
            self._post(answer)

    def _run(self, number: int, request: Request, cancel: threading.Event, previous: threading.Thread | None) -> None:
        if previous is not None:
            previous.join()
        self.abandon()  # that run is over, and its user has asked for another one
        grown: Profile | None = None
        self._record = record = Record(request, folder=self.keep_in)

        def listen(event: Event) -> None:
            nonlocal grown
            record.take(event)
            if isinstance(event, Step):
                if number == self.number:
                    self.step = event
            elif isinstance(event, Started):
                grown = event.profile
                self._post(ProfileGrew(number, grown))
            elif isinstance(event, LayerRead) and grown is not None:
                grown = grown.with_layer(event.index, event.layer)
                self._post(ProfileGrew(number, grown))

        try:
            with self._in_use:
                profile = self._session.run(request, listen, cancel.is_set)
            record.end(profile)
            grown = profile
            ended = RunEnded(number, profile)
        except LaminarError as error:
            record.fail(error)
            ended = RunEnded(number, error=error)
        except BaseException as error:  # a bug: the thread would vanish with it, so it is shown and logged
            record.fail(error)
            ended = RunEnded(number, crash=traceback.format_exc())
        self._made, self._made_for = grown, request
        self._last_ended = number
        self._post(ended)

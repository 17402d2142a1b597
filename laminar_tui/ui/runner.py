"""The thread that runs the model, and the model it keeps for the next prompt.

A daemon thread: a worker thread of Textual's would hold the process after `quit` until the forward pass ends.
"""

import threading
import time
import traceback
from collections.abc import Callable

from laminar_tui.errors import LaminarError
from laminar_tui.profile.profile import Profile
from laminar_tui.run import Event, LayerRead, PromptFacts, Request, Session, Started, Step
from laminar_tui.ui.messages import ProfileGrew, RunEnded, RunMessage


class Runner:
    """Runs requests one at a time and posts what comes of them.

    Args:
        post: called from the running thread with each message; must be safe for that.
    """

    def __init__(self, post: Callable[[RunMessage], object]) -> None:
        self._post = post
        self._thread: threading.Thread | None = None
        self._cancel = threading.Event()
        self._session = Session()
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
        return self._thread is not None and self._thread.is_alive()

    @property
    def seconds(self) -> float:
        """How long the run has been under way."""
        return time.monotonic() - self.started_at

    def start(self, request: Request) -> None:
        """Begin a run; one that is under way is cancelled first, and its messages carry an old number."""
        self.cancel()
        self.number += 1
        cancel, previous = threading.Event(), self._thread
        self._cancel = cancel
        self.step, self.started_at = Step("starting"), time.monotonic()
        self._thread = threading.Thread(
            target=self._run, args=(self.number, request, cancel, previous), name="capture", daemon=True
        )
        self._thread.start()

    def prompt_facts(self, request: Request) -> PromptFacts | None:
        """Ask the loaded tokenizer about a prompt; call it in a thread: it takes as long as the tokenizer does."""
        return self._session.prompt_facts(request)

    def cancel(self) -> None:
        """Ask the run to stop: it does within a layer."""
        self._cancel.set()

    def _run(self, number: int, request: Request, cancel: threading.Event, previous: threading.Thread | None) -> None:
        if previous is not None:
            previous.join()
        grown: Profile | None = None

        def listen(event: Event) -> None:
            nonlocal grown
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
            ended = RunEnded(number, self._session.run(request, listen, cancel.is_set))
        except LaminarError as error:
            ended = RunEnded(number, error=error)
        except Exception:  # a bug: the thread would vanish with it, so it is shown and logged
            ended = RunEnded(number, crash=traceback.format_exc())
        self._last_ended = number
        self._post(ended)

"""Calls to the hub: every try told, a time limit of their own, cancelled at any time, and what goes wrong in words.

The calls are huggingface_hub's, in a daemon thread that can be left behind: a host that accepts and never answers holds
up nobody. What it would retry in silence is stopped after its first try, and tried again here, in words.
"""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import constants, get_session
from huggingface_hub.errors import GatedRepoError, RemoteEntryNotFoundError, RevisionNotFoundError

from laminar_tui.errors import CancelledError, LaminarError, ModelError, NetworkError
from laminar_tui.model.progress import OnProgress

TIMEOUT = 60.0
"""Seconds without progress after which a fetch is given up."""
ANSWER_TIMEOUT = 10.0
"""Seconds that one connection and the first line of an answer may take."""
PAUSES = (1.0, 2.0, 4.0)
"""Seconds before the second, third and fourth try."""
LONGEST_PAUSE = 30.0
"""A hub that asks to wait longer is not waited for."""
POLL = 0.05

_RETRIED = (408, 429, 500, 502, 503, 504)

T = TypeVar("T")
_here = threading.local()


@dataclass
class Beat:
    """What a thread that fetches tells, and is told."""

    answer_timeout: float
    step: tuple[str, int, int] = ("asking the hub", 0, 0)
    last: float = field(default_factory=time.monotonic)
    is_left: bool = False

    def say(self, words: str, done: int = 0, total: int = 0) -> None:
        """Tell what is being done; that alone is no progress."""
        self.step = (words, done, total)

    def progress(self) -> None:
        """Something came from the hub."""
        self.last = time.monotonic()

    def stop_if_left(self) -> None:
        """End a thread that nobody waits for any more."""
        if self.is_left:
            raise CancelledError("the fetch was cancelled")


class _AnsweredError(Exception):
    """The hub answered that it does not serve this now."""

    def __init__(self, status: int, retry_after: float | None) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.retry_after = retry_after


class _NoAnswerError(Exception):
    """A request failed, and was about to be repeated in silence."""


@dataclass(frozen=True)
class Waiting:
    """How to wait for the hub."""

    repo: str
    on_progress: OnProgress | None
    is_cancelled: Callable[[], bool]
    timeout: float = TIMEOUT

    def wait(self, call: Callable[[Beat], T]) -> T:
        """Run a call in a daemon thread and wait for it; leave it behind when cancelled or when nothing comes.

        Raises:
            CancelledError, NetworkError: see above; and what the call raises, in words.
        """
        beat = Beat(min(ANSWER_TIMEOUT, self.timeout))
        results: list[T] = []
        errors: list[BaseException] = []

        def work() -> None:
            _here.beat = beat
            try:
                results.append(call(beat))
            except BaseException as error:  # handed to the thread that waits
                errors.append(error)

        thread = threading.Thread(target=work, name="hub", daemon=True)
        thread.start()
        told = None
        try:
            while True:
                thread.join(POLL)
                if beat.step != told and self.on_progress is not None:
                    told = beat.step
                    self.on_progress(*told)
                if not thread.is_alive():
                    break
                if self.is_cancelled():
                    raise CancelledError("the fetch was cancelled")
                if time.monotonic() - beat.last > self.timeout:
                    raise NetworkError(
                        f"nothing came from {_host()} for {self.timeout:g} s ({beat.step[0]})",
                        "try again later, or allow more seconds (--timeout)",
                    )
        finally:
            beat.is_left = True
        if errors:
            raise _explained(self.repo, errors[0], self.timeout) from errors[0]
        return results[0]


# -- tries -----------------------------------------------------------------------------------------------------------


def keep_trying(call: Callable[[], T], beat: Beat) -> T:
    """Call until it works: what may pass is tried again, after a pause and in words."""
    for number, pause in enumerate((*PAUSES, None), start=2):
        beat.stop_if_left()
        _listen()
        _here.pending = False
        try:
            result = call()
        except Exception as error:
            trouble, asked = _trouble(error)
            if not trouble or pause is None or beat.is_left or (asked or 0) > LONGEST_PAUSE:
                raise
            pause = max(pause, asked or 0)
            beat.say(f"{trouble}: try {number} of {len(PAUSES) + 1} in {pause:g} s")
            _sleep(pause, beat)
        else:
            beat.progress()
            return result
    raise AssertionError("the last try raises")


def _sleep(seconds: float, beat: Beat) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        beat.stop_if_left()
        time.sleep(min(POLL, seconds))


def _listen() -> None:
    """Hear of the requests and answers of huggingface_hub's session; other threads' are let through."""
    session = get_session()
    hooks = session.event_hooks
    if _on_request not in hooks["request"]:
        session.event_hooks = {
            "request": [*hooks["request"], _on_request],
            "response": [*hooks["response"], _on_response],
        }


def _on_request(_request: object) -> None:
    beat = getattr(_here, "beat", None)
    if beat is None:
        return
    beat.stop_if_left()
    if _here.pending:
        raise _NoAnswerError(f"no answer from {_host()}")
    _here.pending = True


def _on_response(response: Any) -> None:
    if getattr(_here, "beat", None) is None:
        return
    _here.pending = False
    if response.status_code in _RETRIED:
        asked = str(response.headers.get("retry-after") or "")
        raise _AnsweredError(response.status_code, float(asked) if asked.isdigit() else None)


def _trouble(error: BaseException) -> tuple[str, float | None]:
    """What may pass, in words, and how long the hub asks to wait; no words for what stays as it is."""
    answered = _found_in(error, lambda each: isinstance(each, _AnsweredError))
    if isinstance(answered, _AnsweredError):
        return f"{_host()} answers HTTP {answered.status}", answered.retry_after
    if _is_network(error):
        return f"no connection to {_host()}", None
    return "", None


_NETWORK_ERRORS = {"ConnectError", "TimeoutException", "NetworkError", "RemoteProtocolError", "ProxyError"}
"""Names of classes in the HTTP library, which differs between versions of huggingface_hub."""


def _is_network(error: BaseException) -> bool:
    def is_one(each: BaseException) -> bool:
        names = {kind.__name__ for kind in type(each).__mro__}
        return bool(names & _NETWORK_ERRORS) or isinstance(each, _NoAnswerError | ConnectionError)

    return _found_in(error, is_one) is not None


def _found_in(error: BaseException, wanted: Callable[[BaseException], bool]) -> BaseException | None:
    """The first of an error and its causes that is wanted."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        if wanted(each):
            return each
        seen.add(id(each))
        each = each.__cause__ or each.__context__
    return None


# -- words -----------------------------------------------------------------------------------------------------------


def _explained(repo: str, error: BaseException, timeout: float) -> BaseException:
    """Say in words what the hub answered, with the status."""
    if isinstance(error, LaminarError):
        return error
    answered = _found_in(error, lambda each: isinstance(each, _AnsweredError))
    if isinstance(answered, _AnsweredError):
        return _explain_busy(repo, answered)
    refused = _found_in(error, lambda each: getattr(each, "response", None) is not None)
    if refused is not None:
        return _explain_refusal(repo, refused)
    if _is_network(error):
        deepest = error
        while (below := deepest.__cause__ or deepest.__context__) is not None:
            deepest = below
        reason = " ".join(str(deepest).split())[:100] or type(deepest).__name__
        return NetworkError(
            f"{repo} is not in the local cache, and {_host()} cannot be reached: {reason}",
            f"tried {len(PAUSES) + 1} times within {timeout:g} s; give a folder or a .gguf file to go without it",
        )
    if isinstance(error, ValueError):  # an id that is not valid
        return ModelError(" ".join(str(error).split())[:160], "a hub id looks like owner/name, or owner/name@revision")
    if isinstance(error, OSError):
        reason = " ".join(str(error).split())[:160]
        return NetworkError(f"cannot fetch {repo}: {reason}", "try again; see that the disk has room")
    return error


def _explain_busy(repo: str, answered: _AnsweredError) -> NetworkError:
    wait = f" and asks to wait {answered.retry_after:g} s" if answered.retry_after else ""
    if answered.status == 429:
        return NetworkError(
            f"HTTP 429: too many requests; {_host()} does not serve {repo} now{wait}",
            "try again later; with HF_TOKEN set more is allowed",
        )
    return NetworkError(
        f"HTTP {answered.status}: {_host()} does not serve {repo} now{wait} (tried {len(PAUSES) + 1} times)",
        "try again later",
    )


def _explain_refusal(repo: str, error: Any) -> NetworkError:
    status = int(error.response.status_code)
    says = str(error.response.headers.get("X-Error-Message") or "")
    token = "HF_TOKEN" in os.environ or Path(constants.HF_TOKEN_PATH).is_file()
    if isinstance(error, GatedRepoError):
        return NetworkError(
            f"HTTP {status}: {repo} is gated: its owner wants you to accept a licence",
            "accept it on the model's page with your account, then set HF_TOKEN to a token of that account",
        )
    if isinstance(error, RevisionNotFoundError):
        return NetworkError(f"HTTP {status}: {repo} has no such revision", "see the model's page for its branches")
    if isinstance(error, RemoteEntryNotFoundError):
        return NetworkError(f"HTTP {status}: {repo} lacks a file that it lists", "take another revision")
    if status == 401 and "credentials" in says.lower():
        return NetworkError(f"HTTP 401: {_host()} does not accept your token", "set HF_TOKEN to a valid one, or unset")
    if status in (401, 404):
        return NetworkError(
            f"HTTP {status}: there is no model {repo} on {_host()}, or it is private",
            "check the spelling" + ("; your token may not read it" if token else "; for a private one set HF_TOKEN"),
        )
    if status == 403:
        return NetworkError(
            f"HTTP 403: you may not read {repo}" + (f": {says[:80]}" if says else ""),
            "ask its owner for access" + ("" if token else ", then set HF_TOKEN to your token"),
        )
    return NetworkError(f"HTTP {status}: {_host()} does not hand out {repo}", says[:160] or "try again later")


def _host() -> str:
    return str(constants.ENDPOINT).removeprefix("https://").removeprefix("http://")

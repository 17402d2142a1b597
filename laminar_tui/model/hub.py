"""A hub id -> files in the hub's cache: cache first, every try told, a time limit of its own, cancelled at any time.

The calls are huggingface_hub's, in a daemon thread that can be left behind: a host that accepts and never answers holds
up nobody. What it would retry in silence is stopped after its first try, and tried again here, in words.
"""

import inspect
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import HfApi, constants, get_session, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, RemoteEntryNotFoundError, RevisionNotFoundError

from laminar_tui.errors import CancelledError, LaminarError, ModelError, NetworkError
from laminar_tui.model.files import (
    PARAMETER_INDEXES,
    PICKLE_HINT,
    SAFE_FILES,
    choose_parameters,
    is_text_file,
    shards_of,
)
from laminar_tui.sizes import format_size

TIMEOUT = 60.0
"""Seconds without progress after which a fetch is given up."""
ANSWER_TIMEOUT = 10.0
"""Seconds that one connection and the first line of an answer may take."""
PAUSES = (1.0, 2.0, 4.0)
"""Seconds before the second, third and fourth try."""
LONGEST_PAUSE = 30.0
"""A hub that asks to wait longer is not waited for."""
POLL = 0.05

OnProgress = Callable[[str, int, int], None]
T = TypeVar("T")


@dataclass
class _Beat:
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


@dataclass
class HubModel:
    """A model on the hub, or in its cache: `folder` holds the config and the tokenizer's files.

    Attributes:
        folder: the snapshot's folder in the cache.
        checkpoint: bytes of the parameters' files.
    """

    repo: str
    revision: str
    folder: Path
    checkpoint: int
    _missing: list[tuple[str, int]]
    _waiting: "Waiting"

    def fetch_parameters(self) -> None:
        """Fetch what is not in the cache.

        Raises:
            NetworkError: if the hub does not hand it out.
            CancelledError: if its user said so.
        """
        if self._missing:
            self._waiting.wait(lambda beat: _fetch(self.repo, self.folder.name, self._missing, beat))


@dataclass(frozen=True)
class Waiting:
    """How to wait for the hub."""

    repo: str
    on_progress: OnProgress | None
    is_cancelled: Callable[[], bool]
    timeout: float = TIMEOUT

    def wait(self, call: Callable[[_Beat], T]) -> T:
        """Run a call in a daemon thread and wait for it; leave it behind when cancelled or when nothing comes.

        Raises:
            CancelledError, NetworkError: see above; and what the call raises, in words.
        """
        beat = _Beat(min(ANSWER_TIMEOUT, self.timeout))
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
                        "try again later, or allow more with --timeout SECONDS",
                    )
        finally:
            beat.is_left = True
        if errors:
            raise _explained(self.repo, errors[0], self.timeout) from errors[0]
        return results[0]


def find_on_hub(
    repo: str,
    revision: str | None,
    *,
    on_progress: OnProgress | None = None,
    is_cancelled: Callable[[], bool] | None = None,
    timeout: float = TIMEOUT,
    allow_pickle: bool = False,
) -> HubModel:
    """Find a model: in the cache, else on the hub, from which its small files are fetched.

    Raises:
        NetworkError: if the hub cannot be reached, does not know the model, or does not hand it out.
        ModelError: if its parameters are a pickle only.
        CancelledError: if `is_cancelled` said so.
    """
    waiting = Waiting(repo, on_progress, is_cancelled or (lambda: False), timeout)
    revision = revision or "main"
    folder = _complete_snapshot(repo, revision)
    if folder is not None:
        return HubModel(repo, revision, folder, _bytes_in(folder), [], waiting)
    if _is_offline():
        raise NetworkError(
            f"{repo} is not in the local cache, and HF_HUB_OFFLINE forbids to ask the hub",
            "unset it, or give a folder or a .gguf file",
        )
    return waiting.wait(lambda beat: _find(repo, revision, beat, waiting, allow_pickle))


def _find(repo: str, revision: str, beat: _Beat, waiting: Waiting, allow_pickle: bool) -> HubModel:
    beat.say(f"asking the hub for {repo}")
    found = _try(
        lambda: HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=beat.answer_timeout), beat
    )
    sizes = {each.rfilename: int(each.size or 0) for each in found.siblings or ()}
    if "config.json" not in sizes:
        raise ModelError(f"{repo} holds no model that transformers reads: there is no config.json", "take another")
    texts = [(name, size) for name, size in sizes.items() if is_text_file(name)]
    # The first by its revision: that writes down in the cache which commit it stands for.
    folder = Path(_fetch_one(repo, revision, "config.json", beat)).parent
    _fetch(repo, folder.name, [each for each in texts if each[0] != "config.json"], beat)
    shards = None
    for index in PARAMETER_INDEXES:
        if index in sizes and (folder / index).is_file():
            shards = shards or shards_of(folder / index)
    names = choose_parameters(list(sizes), shards, allow_pickle)
    if not names:
        is_pickle = bool(choose_parameters(list(sizes), shards, True))
        what = "its parameters as a pickle only" if is_pickle else "no parameters"
        raise ModelError(f"{repo} holds {what}", PICKLE_HINT if is_pickle else "take another")
    parameters = [(name, sizes.get(name, 0)) for name in names]
    return HubModel(repo, revision, folder, sum(size for _, size in parameters), parameters, waiting)


def _fetch(repo: str, commit: str, files: list[tuple[str, int]], beat: _Beat) -> None:
    total, done = sum(size for _, size in files), 0
    words = f"fetching {repo}: {format_size(total)}"
    _need_room(repo, total)
    for name, size in files:
        beat.say(words, done, total)
        before = done

        def told(more: int, before: int = before) -> None:
            beat.say(words, min(before + more, total), total)

        _fetch_one(repo, commit, name, beat, told)
        done += size
    beat.say(words, total, total)


def _need_room(repo: str, total: int) -> None:
    folder = Path(constants.HF_HUB_CACHE)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if total > free:
        raise ModelError(
            f"{repo} takes {format_size(total)} on the disk, and {format_size(free)} are free at {folder}",
            "make room, or point HF_HOME to another disk",
        )


_TAKES_BARS = "tqdm_class" in inspect.signature(hf_hub_download).parameters


def _fetch_one(
    repo: str, revision: str, name: str, beat: _Beat, told: Callable[[int], None] = lambda _done: None
) -> str:
    class Bar(_Bar):
        on_update = staticmethod(told)
        listener = beat

    extra: dict[str, Any] = {"tqdm_class": Bar} if _TAKES_BARS else {}

    def fetch() -> str:
        return str(hf_hub_download(repo, name, revision=revision, etag_timeout=beat.answer_timeout, **extra))

    return _try(fetch, beat)


class _Bar:
    """What huggingface_hub takes for a progress bar."""

    on_update: Callable[[int], None]
    listener: _Beat

    def __init__(self, *_: Any, initial: int = 0, **_others: Any) -> None:
        self.n = initial
        self.update(0)

    def update(self, n: float | None = 1) -> None:
        """Some bytes came; ends the thread if nobody waits for it."""
        self.listener.stop_if_left()
        self.n += int(n or 0)
        if n:
            self.listener.progress()
            self.on_update(self.n)

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_args, **_kwargs: None


# -- tries -----------------------------------------------------------------------------------------------------------

_here = threading.local()
_RETRIED = (408, 429, 500, 502, 503, 504)


def _try(call: Callable[[], T], beat: _Beat) -> T:
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


def _sleep(seconds: float, beat: _Beat) -> None:
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
    if isinstance(error, ValueError):  # an id that is none
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


def _is_offline() -> bool:
    return bool(constants.HF_HUB_OFFLINE) or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


# -- the cache -------------------------------------------------------------------------------------------------------


def _complete_snapshot(repo: str, revision: str) -> Path | None:
    """The model's folder in the hub's cache, if nothing is missing: then the hub, which may be away, is not asked."""
    try:
        config = try_to_load_from_cache(repo, "config.json", revision=revision)
    except ValueError:  # an id that is none: the hub's own words say why
        return None
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    names = [path.name for path in folder.iterdir()]
    try:
        shards = next((shards_of(folder / index) for index in PARAMETER_INDEXES if index in names), None)
    except ModelError:
        return None
    wanted = choose_parameters(names + list(shards or ()), shards, True)
    is_whole = bool(wanted) and all((folder / name).is_file() for name in wanted)
    return folder if is_whole and any(name in names for name in _TOKENIZERS) else None


_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tokenizer_config.json")


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.name.endswith(SAFE_FILES))

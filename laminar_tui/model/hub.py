"""A hub id -> files in the hub's cache: cache first, then what is missing, small files before parameters."""

import inspect
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache

from laminar_tui.errors import ModelError, NetworkError, NotHereError
from laminar_tui.model.files import (
    PARAMETER_INDEXES,
    PICKLE_HINT,
    SAFE_FILES,
    choose_parameters,
    is_text_file,
    shards_of,
)
from laminar_tui.model.hub_calls import TIMEOUT, Beat, Waiting, keep_trying
from laminar_tui.model.progress import OnProgress
from laminar_tui.sizes import format_size


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
    _waiting: Waiting

    def fetch_parameters(self) -> None:
        """Fetch what is not in the cache.

        Raises:
            NetworkError: if the hub does not hand it out.
            CancelledError: if its user said so.
        """
        if self._missing:
            self._waiting.wait(lambda beat: _fetch(self.repo, self.folder.name, self._missing, beat))


def find_on_hub(
    repo: str,
    revision: str | None,
    *,
    on_progress: OnProgress | None = None,
    is_cancelled: Callable[[], bool] | None = None,
    timeout: float = TIMEOUT,
    allow_pickle: bool = False,
    cached_only: bool = False,
) -> HubModel:
    """Find a model: in the cache, else on the hub, from which its small files are fetched.

    Args:
        cached_only: do not ask the hub.

    Raises:
        NotHereError: if it is not in the cache, and the hub is not to be asked.
        NetworkError: if the hub cannot be reached, does not know the model, or does not hand it out.
        ModelError: if its parameters are a pickle only.
        CancelledError: if `is_cancelled` said so.
    """
    waiting = Waiting(repo, on_progress, is_cancelled or (lambda: False), timeout)
    revision = revision or "main"
    folder = _complete_snapshot(repo, revision)
    if folder is not None:
        return HubModel(repo, revision, folder, _bytes_in(folder), [], waiting)
    if cached_only:
        raise NotHereError(f"{repo} ({revision}) is not on this machine")
    if _is_offline():
        raise NetworkError(
            f"{repo} is not in the local cache, and HF_HUB_OFFLINE forbids to ask the hub",
            "unset it, or give a folder or a .gguf file",
        )
    return waiting.wait(lambda beat: _find(repo, revision, beat, waiting, allow_pickle))


def _find(repo: str, revision: str, beat: Beat, waiting: Waiting, allow_pickle: bool) -> HubModel:
    beat.say(f"asking the hub for {repo}")
    found = keep_trying(
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


def _fetch(repo: str, commit: str, files: list[tuple[str, int]], beat: Beat) -> None:
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
    repo: str, revision: str, name: str, beat: Beat, told: Callable[[int], None] = lambda _done: None
) -> str:
    class Bar(_Bar):
        on_update = staticmethod(told)
        listener = beat

    extra: dict[str, Any] = {"tqdm_class": Bar} if _TAKES_BARS else {}

    def fetch() -> str:
        return str(hf_hub_download(repo, name, revision=revision, etag_timeout=beat.answer_timeout, **extra))

    return keep_trying(fetch, beat)


class _Bar:
    """What huggingface_hub takes for a progress bar."""

    on_update: Callable[[int], None]
    listener: Beat

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


def _is_offline() -> bool:
    return bool(constants.HF_HUB_OFFLINE) or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


# -- the cache -------------------------------------------------------------------------------------------------------


def _complete_snapshot(repo: str, revision: str) -> Path | None:
    """The model's folder in the hub's cache, if nothing is missing: then the hub, which may be away, is not asked."""
    try:
        config = try_to_load_from_cache(repo, "config.json", revision=revision)
    except ValueError:  # an id that is not valid: the hub's own words say why
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

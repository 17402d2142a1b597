"""The story of a run on many prompts: windows of a corpus in, one profile out, and nothing lost on the way.

What was read is kept beside the output every few seconds, so that an interrupted run goes on where it was. Under
`torchrun` each process reads every N-th window, and keeps what is its own.
"""

import hashlib
import importlib.metadata
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laminar_tui.corpus import Window, corpus_files, cut_windows, measure_corpus, read_texts
from laminar_tui.errors import CancelledError, LaminarError, PeerError, PromptError, UsageError
from laminar_tui.profile.corpus_progress import PROGRESS_SUFFIX, Progress, progress_paths, read_progress, write_progress
from laminar_tui.profile.profile import Profile
from laminar_tui.run import BUNDLED_NAME, IsCancelled, OnEvent, Request, Step, load, with_roles
from laminar_tui.sizes import format_seconds
from laminar_tui.source import as_path, find_source

if TYPE_CHECKING:
    from laminar_tui.model.estimate import Estimate
    from laminar_tui.model.loaded import LoadedModel
    from laminar_tui.model.nulls import Null
    from laminar_tui.model.parallel import Peers

DEFAULT_WINDOW = 2048
"""Tokens of a window for a model whose config names no limit."""
SAVE_SECONDS = 30.0
BYTES_A_TOKEN = 4
"""Of English text in most vocabularies: what the time is estimated from."""


@dataclass(frozen=True)
class CorpusRequest:
    """What was asked for.

    Attributes:
        run: the model; its prompt and `chat` are not looked at, its `max_tokens` is the length of a window, its `null`
            is run on each window.
        corpus, field: as in `corpus.read_texts`.
        output: the profile to write.
        limit: read so many windows at most.
        resume: go on with what an interrupted run has kept, if there is something; see `find_finished` too.
        save_seconds: keep what was read that often.
        threads: of a CPU; as many as torch finds when left out, or as the run that goes on had.
    """

    run: Request
    corpus: str
    output: Path
    field: str | None = None
    limit: int | None = None
    resume: bool = False
    save_seconds: float = SAVE_SECONDS
    threads: int | None = None


@dataclass(frozen=True)
class Process:
    """Which of the processes that share a run this is, as `torchrun` says it in the environment."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @classmethod
    def from_environment(cls) -> "Process":
        """Read it; a process that nobody started as one of several is alone.

        Raises:
            UsageError: if it makes no sense.
        """
        try:
            size = int(os.environ.get("WORLD_SIZE", "1"))
            local = int(os.environ.get("LOCAL_RANK", "0")), max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
            process = cls(int(os.environ.get("RANK", "0")), size, *local)
        except ValueError as error:
            raise UsageError(
                "RANK or WORLD_SIZE is no number, or a local one", "start several with torchrun"
            ) from error
        if not 0 <= process.rank < process.size:
            raise UsageError(f"there is no process {process.rank} of {process.size}", "start several with torchrun")
        return process

    def progress_path(self, output: Path) -> Path:
        """Where this process keeps what it has read."""
        mine = "" if self.size == 1 else f".{self.rank}-of-{self.size}"
        return output.with_name(f"{output.name}{PROGRESS_SUFFIX}{mine}")


def capture_corpus(request: CorpusRequest, on_event: OnEvent, is_cancelled: IsCancelled) -> Profile | None:
    """Read a corpus and write its profile.

    Returns:
        The profile, in the one process that wrote it; None in the others.

    Raises:
        LaminarError: what was wrong with the corpus, the model or what was read; what was read before is kept.
    """
    corpus_files(request.corpus)
    process = Process.from_environment()
    progress_path = process.progress_path(request.output)
    if progress_path.exists() and not request.resume:
        raise UsageError(
            f"{progress_path} holds an interrupted run", "go on with it by --resume, or remove it and begin anew"
        )
    if process.size > 1 and request.run.device_map is not None:
        raise UsageError("each of several processes would take all devices", "leave --device-map or torchrun out")
    from laminar_tui.model.load import find_device
    from laminar_tui.model.parallel import joined, own_device, use_threads

    device = own_device(request.run.device, process.local_rank, process.size)
    find_device(device)  # before the others wait for this process
    if request.threads is not None:
        use_threads(request.threads)
    with joined(process.rank, process.size, device) as peers:
        run, size = replace(request.run, device=device), measure_corpus(request.corpus)
        longest = max(1, size.largest)

        def say_needs(needs: "Estimate") -> str:
            return needs_words(needs, size.total // process.size, request.limit)

        loaded = load(run, on_event, is_cancelled, n_tokens=longest, n_beside=process.local_size, say_needs=say_needs)
        return _Reading(request, loaded, peers, progress_path, size.total, on_event, is_cancelled, longest).read_all()


def find_finished(request: CorpusRequest) -> Profile | None:
    """Find the profile of a run that is to go on and has come to its end; no model is loaded.

    Returns:
        What the output holds; None if there is something to read.

    Raises:
        UsageError: if the output is of another run, as far as it says what it is of.
        ProfileFileError: if it is damaged.
    """
    output, run = request.output, request.run
    if not request.resume or not output.exists() or progress_paths(output):
        return None
    from laminar_tui.model.nulls import find_null

    profile = Profile.load(output)
    origin, source = profile.origin, find_source(run.source, run.revision) if run.source else None
    longest = max(profile.lengths, default=0)
    found_and_asked = {
        "model": (origin.model, source.name if source else BUNDLED_NAME),
        "revision": (origin.revision, source.revision or "" if source else ""),
        "recipe": (origin.recipe, find_null(run.null).recipe if run.null else run.recipe),
        "corpus": (origin.corpus, _name(request.corpus)),
        "window": (longest, min(longest, run.max_tokens or longest)),  # with shorter texts it does not show
        "limit": (origin.n_prompts, min(origin.n_prompts, request.limit or origin.n_prompts)),
    }
    for name, (found, asked) in found_and_asked.items():
        if found != asked:
            raise UsageError(
                f"{output} was made with another {name}: {_shown(found)}, now {_shown(asked)}",
                "name another file with -o, or leave --resume out to write over it",
            )
    return profile


def needs_words(needs: "Estimate", n_bytes: int, limit: int | None) -> str:
    """Say what one window needs, and about how long all of them take.

    Args:
        needs: of the longest window.
        n_bytes: of the texts that this process reads.
        limit: of windows.
    """
    n_windows = n_bytes / BYTES_A_TOKEN / needs.n_tokens
    n_windows = n_windows if limit is None else min(limit, n_windows)
    of = "token" if needs.n_tokens == 1 else "tokens"
    all_of_them = format_seconds(needs.seconds * max(1.0, n_windows))
    return f"{needs} a window of up to {needs.n_tokens:,} {of}; all windows: {all_of_them}"


class _Reading:
    """One process's share of a run under way."""

    def __init__(
        self,
        request: CorpusRequest,
        loaded: "LoadedModel",
        peers: "Peers",
        progress_path: Path,
        n_bytes: int,
        on_event: OnEvent,
        is_cancelled: IsCancelled,
        longest: int,
    ) -> None:
        self._request = request
        self._loaded, self._null = _with_null(loaded, request.run, on_event)
        self._longest = longest
        self._peers = peers
        self._progress_path = progress_path
        self._n_bytes = n_bytes
        self._on_event = on_event
        self._is_cancelled = is_cancelled
        self._size = window_size(loaded, request.run.max_tokens)
        self._progress = Progress(settings=_settings(request, loaded, self._size, peers))
        self._is_whole = True  # no window is half in the sums
        self._n_kept = 0
        self._is_resuming = True
        self._kept_at = time.monotonic()
        self._began_at: float | None = None  # after the first window of its own, which has a warm-up
        self._began_with = 0.0  # the share of the corpus that was behind then
        self._chunk_weights: int | None = None

    def read_all(self) -> Profile | None:
        """Read this process's windows, add up, write."""
        try:
            self._read_windows()
            self._keep()
            self._peers.wait_for_all(self._is_cancelled)
            total = self._peers.add_up(self._progress)
        except (LaminarError, KeyboardInterrupt) as error:
            raise self._left_off(error) from error
        if total.n_prompts == 0:
            raise PromptError(f"there is no text in {self._request.corpus}", "give a corpus with some")
        profile = total.profile(_name(self._request.corpus)) if self._peers.rank == 0 else None
        if profile is not None and self._request.run.roles:
            profile = self._with_roles(profile)
        self._write(profile)
        return profile

    def _with_roles(self, profile: Profile) -> Profile:
        try:
            return with_roles(profile, self._loaded, self._on_event, self._is_cancelled)
        except (LaminarError, KeyboardInterrupt) as error:
            raise self._left_off(error) from error

    def _read_windows(self) -> None:
        before = self._resumed()
        windows = self._windows()
        for window in islice(windows, before.n_seen if before else 0):
            self._progress.see(window.ids)
        if before is not None:
            if before.n_seen > self._progress.n_seen:
                raise UsageError(
                    f"{before.n_seen:,} windows are kept in {self._progress_path}, but now there are only "
                    f"{self._progress.n_seen:,}",
                    "raise --limit; if the corpus is another one, remove the file and begin anew",
                )
            if before.digest != self._progress.digest:
                raise UsageError(
                    f"{self._request.corpus} is not what {self._progress_path} was made of", "remove it and begin anew"
                )
            self._progress = before
        self._is_resuming = False
        for window in windows:
            self._take(window)
            self._peers.tell(self._progress.n_seen)
            if time.monotonic() - self._kept_at >= self._request.save_seconds:
                self._keep()
                self._on_event(Step(f"kept {self._n_kept:,} windows", more=self._progress.words()))

    def _take(self, window: Window) -> None:
        """Read the next window of the corpus, or leave it to another process."""
        number = self._progress.n_seen
        is_own = number % self._peers.size == self._peers.rank
        profile = self._read(window.ids, number) if is_own else None
        self._is_whole = False
        if profile is not None:
            self._progress.sums.add(profile, number)
        self._progress.see(window.ids)
        self._is_whole = True
        self._look_ahead(self._share_with(window))
        if is_own:
            if self._began_at is None:
                self._began_at, self._began_with = time.monotonic(), self._progress.share or 0.0
            limit = self._request.limit or 0
            self._on_event(Step("reading the corpus, window", number + 1, limit, self._progress.words()))

    def _share_with(self, window: Window) -> float:
        """Which share of the run is behind with the last window that was seen."""
        of_limit = self._progress.n_seen / self._request.limit if self._request.limit else 0.0
        return min(1.0, max(of_limit, window.n_bytes / max(1, self._n_bytes)))

    def _look_ahead(self, share: float) -> None:
        """Note how far the run is, and how long the rest takes if it goes on like this."""
        self._progress.share, self._progress.seconds_left = share, None
        if self._began_at is not None and share > self._began_with:
            seconds = time.monotonic() - self._began_at
            self._progress.seconds_left = seconds * (1 - share) / (share - self._began_with)

    def _read(self, ids: list[int], number: int) -> Profile:
        from laminar_tui.model.capture import capture

        if self._is_cancelled():
            raise CancelledError("the capture was cancelled")
        recipe, null = self._request.run.recipe, self._null
        if null is not None:
            ids = [ids[at] for at in null.order(len(ids), number)]  # each window in an order of its own
        if self._chunk_weights is None:
            self._chunk_weights = self._plan(ids)
        profile = capture(
            self._loaded.model,
            ids,
            recipe=recipe,
            is_cancelled=self._is_cancelled,
            chunk_weights=self._chunk_weights,
        )
        origin = replace(
            profile.origin,
            model=self._progress.settings["model"],
            revision=self._progress.settings["revision"],
            recipe=null.recipe if null is not None else profile.origin.recipe,
        )
        return replace(profile, origin=origin)

    def _plan(self, ids: list[int]) -> int:
        """See that the longest window fits, and say how many of its weights are looked at in one piece."""
        from laminar_tui.model.capture import choose_mechanism
        from laminar_tui.model.estimate import plan_capture
        from laminar_tui.model.probe import few_tokens

        model, run = self._loaded.model, self._request.run
        mechanism, _ = choose_mechanism(model, run.recipe, few_tokens(model, ids), self._is_cancelled)
        n_tokens = min(self._size, self._longest)
        return plan_capture(
            self._loaded.source.name, model, n_tokens, run.max_memory, mechanism=mechanism
        ).chunk_weights

    def _windows(self) -> Iterator[Window]:
        """All windows of the corpus, whoever reads them."""
        from laminar_tui.model.probe import prepare

        encode, leading = self._loaded.encode_text, self._loaded.leading_ids(bos=self._request.run.bos)
        if self._size <= len(leading):
            raise UsageError(f"windows of {self._size} tokens hold no text", "give a larger --max-tokens")
        texts = read_texts(self._request.corpus, self._request.field)
        for number, window in enumerate(islice(cut_windows(texts, encode, leading, self._size), self._request.limit)):
            if number == 0:
                prepare(self._loaded.model, window.ids)
            yield window

    def _resumed(self) -> Progress | None:
        if not self._request.resume or not self._progress_path.exists():
            return None
        before = read_progress(self._progress_path)
        mine = self._progress.settings
        before_they_were_kept = {"bos": False, "null": "", "threads": mine["threads"]}
        kept = before_they_were_kept | before.settings
        if self._request.threads is None and isinstance(kept["threads"], int) and mine["threads"] is not None:
            from laminar_tui.model.parallel import use_threads

            use_threads(kept["threads"])
            mine["threads"] = kept["threads"]
        for name, value in mine.items():
            if kept.get(name) != value:
                raise UsageError(
                    f"{self._progress_path} was made with another {name}: {_shown(kept.get(name))}, "
                    f"now {_shown(value)}",
                    "go on with the same, or remove it and begin anew",
                )
        self._n_kept = before.n_seen
        self._on_event(Step(f"going on after {before.n_seen:,} windows"))
        return before

    def _keep(self) -> None:
        if self._is_whole and self._progress.n_seen > self._n_kept:
            write_progress(self._progress, self._progress_path)
            self._n_kept = self._progress.n_seen
        self._kept_at = time.monotonic()

    def _left_off(self, error: BaseException) -> LaminarError:
        """Keep what was read, and say so together with what went wrong."""
        if isinstance(error, UsageError) and (self._progress.n_seen == 0 or self._is_resuming):
            return error
        self._keep()
        kept = f"{self._n_kept:,} windows are kept in {self._progress_path}; go on with --resume"
        if isinstance(error, KeyboardInterrupt | CancelledError):
            return CancelledError("interrupted", kept if self._n_kept else "no window was read")
        assert isinstance(error, LaminarError)
        return type(error)(error.message, f"{error.hint}; {kept}" if self._n_kept else error.hint)

    def _write(self, profile: Profile | None) -> None:
        """Write the profile in the process that has it; what was kept goes when it is written, in all of them."""
        failed: LaminarError | None = None
        if profile is not None:
            try:
                profile.save(self._request.output)
            except LaminarError as error:
                failed = error
        said = self._peers.share(failed.message if failed else "")
        if failed is not None:
            raise self._left_off(failed) from failed
        if said:
            raise PeerError(said)
        self._progress_path.unlink(missing_ok=True)


def window_size(loaded: "LoadedModel", max_tokens: int | None) -> int:
    """How many tokens a window has: the model's context, or fewer if asked for."""
    from laminar_tui.model.forward import context_length

    limit = context_length(loaded.model)
    return min(max_tokens or limit or DEFAULT_WINDOW, limit or max_tokens or DEFAULT_WINDOW)


def _with_null(loaded: "LoadedModel", run: Request, on_event: OnEvent) -> "tuple[LoadedModel, Null | None]":
    """Give the model that is to be run, and the null that it is run for, if any.

    Raises:
        UsageError: for a null that does not exist, or one together with a recipe.
        LaminarError: if its model cannot be made.
    """
    if not run.null:
        return loaded, None
    from laminar_tui.model.nulls import SEED, find_null

    null = find_null(run.null)
    if run.recipe != "true":
        raise UsageError("a null has no recipe", "leave --recipe out")
    on_event(Step(f"making the null: {null.title}"))
    return replace(loaded, model=null.model(loaded.model, SEED)), null


def _name(corpus: str) -> str:
    return as_path(corpus).resolve().name


def _shown(setting: Any) -> Any:
    return "none" if setting is None or setting == "" else setting


def _settings(request: CorpusRequest, loaded: "LoadedModel", size: int, peers: "Peers") -> dict[str, Any]:
    """What must be the same for a run to go on, or to be shared: with another, other bytes would come out."""
    config = loaded.model.config.to_dict() | {"_name_or_path": ""}  # a folder may have been moved
    config_text = json.dumps(config, sort_keys=True, default=str)
    from laminar_tui.model.parallel import count_threads

    return {
        "model": loaded.source.name if request.run.source else BUNDLED_NAME,
        "revision": loaded.source.revision or "",
        "dtype": str(loaded.model.dtype).removeprefix("torch."),
        "recipe": request.run.recipe,
        "null": request.run.null,
        "window": size,
        "bos": request.run.bos,
        "field": request.field,
        "number of processes": peers.size,
        "threads": count_threads(loaded.model.device),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers")},
        "config": hashlib.sha256(config_text.encode()).hexdigest()[:16],
    }

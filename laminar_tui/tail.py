"""A profile that another process is capturing, followed as it grows: the way through dropped connections.

`capture -o FILE` keeps its layers in `FILE.partial` until FILE is written, and `capture --corpus` its counts in
`FILE.progress`; this looks at all of them, four times a second at most, and reads only what has changed.
"""

import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from laminar_tui.errors import CancelledError, LaminarError, ProfileFileError, UsageError
from laminar_tui.files import check_replaceable
from laminar_tui.profile.counts import HIGH
from laminar_tui.profile.journal import JournalReader, is_being_written, partial_path
from laminar_tui.profile.patterns import PatternSource
from laminar_tui.profile.profile import LayerProfile, Profile
from laminar_tui.profile.wording import percent
from laminar_tui.recovery import describe
from laminar_tui.run import IsCancelled, LayerRead, OnEvent, Request, Started, Step
from laminar_tui.sizes import format_seconds

POLL_SECONDS = 0.25
SILENT_SECONDS = 120.0
"""A corpus run that has kept nothing for so long may have been interrupted; it keeps what it has every 30 seconds."""


class CutOffError(LaminarError):
    """The process that captured has gone before its end."""

    exit_code = CancelledError.exit_code


class Following:
    """Stands where a `run.Session` does: its run is another process's.

    Args:
        path: the file that the other process captures into.

    Raises:
        UsageError: if there can be no such file: its folder is missing, or it is no regular file.
    """

    patterns: PatternSource | None = None
    """A session's exact weights on demand: there are none without the model."""

    def __init__(self, path: Path) -> None:
        if not path.is_symlink():
            check_replaceable(path)
        if not path.absolute().parent.is_dir():
            raise UsageError(f"there is no folder {path.absolute().parent}", "check the spelling")
        self._path = path
        self._partial = partial_path(path)
        self._reader = JournalReader(self._partial)
        self._run: object = None
        self._told: set[int] = set()
        self._was_silent = False
        self._grew_at = 0  # when the journal was last written to, in ns
        self._kept: dict[Path, tuple[int, int]] = {}  # of a corpus run: path -> inode and time of what was read
        self._said = ""

    def run(self, request: Request, on_event: OnEvent, is_cancelled: IsCancelled) -> Profile:
        """Follow until the file is there, and give its profile.

        Raises:
            CancelledError: if `is_cancelled` said so.
            CutOffError: if the other process has gone before its end.
            LaminarError: if a file cannot be read.
        """
        del request
        while not is_cancelled():
            if self._partial.exists():
                self._see()
                self._follow(on_event)
            elif kept := self._find_kept():
                self._follow_corpus(kept, on_event)
            elif self._path.exists():
                self._check_age()
                profile = Profile.load(self._path)
                self._tell(profile, (index for index in range(profile.n_layers) if index not in self._told), on_event)
                return profile
            else:
                on_event(Step(f"waiting for {self._path}"))
            time.sleep(POLL_SECONDS)
        raise CancelledError("no longer followed; the capture goes on")

    def _see(self) -> None:
        with suppress(OSError):
            self._grew_at = self._partial.stat().st_mtime_ns

    def _check_age(self) -> None:
        """See that the file is what the capture has written at its end, and not from before it."""
        if self._path.stat().st_mtime_ns < self._grew_at:
            raise CutOffError(f"the capture ended without a result: {self._path} is older than it", "capture again")

    def _follow(self, on_event: OnEvent) -> None:
        try:
            new = self._reader.read()
        except FileNotFoundError:
            return  # it has just come to its end
        except OSError as error:
            raise UsageError(f"cannot read {self._partial}: {error.strerror}", "check its permissions") from error
        profile = self._reader.profile
        if profile is None:
            on_event(Step(f"{self._path}: the model is being loaded"))
        else:
            self._tell(profile, new, on_event)
        # Twice: between its creation and its lock a journal belongs to nobody.
        is_silent = not is_being_written(self._partial) and self._partial.exists()
        if is_silent and self._was_silent:
            what = describe(profile) if profile else f"the capture of {self._path} was cut off before its first layer"
            raise CutOffError(what, f"laminar-tui {self._partial} opens it" if profile else "capture again")
        self._was_silent = is_silent

    def _find_kept(self) -> list[Path]:
        from laminar_tui.profile.corpus_progress import progress_paths

        try:
            return progress_paths(self._path)
        except OSError as error:
            raise UsageError(f"cannot look into {error.filename}: {error.strerror}", "check its permissions") from error

    def _follow_corpus(self, kept: list[Path], on_event: OnEvent) -> None:
        """Tell what the processes of a corpus run have kept, when one of them has kept more."""
        from laminar_tui.profile.corpus_progress import read_progress
        from laminar_tui.profile.merge import merge

        try:
            looks = {path: path.stat() for path in kept}
            written = {path: (look.st_ino, look.st_mtime_ns) for path, look in looks.items()}
            runs = [read_progress(path) for path in kept] if written != self._kept else []
        except (OSError, ProfileFileError):
            if self._find_kept() == kept:
                raise
            return  # it has just come to its end
        self._kept, self._grew_at = written, max(look.st_mtime_ns for look in looks.values())
        if runs:
            self._said = min(runs, key=lambda each: each.n_seen).words()
        silent = time.time() - self._grew_at / 1e9
        old = f"kept {format_seconds(silent)} ago; if it was interrupted, --resume goes on" * (silent > SILENT_SECONDS)
        on_event(Step(f"{self._path}: windows of a corpus", more=", ".join(filter(None, (self._said, old)))))
        profiles = [each.sums.profile() for each in runs if each.sums.n_prompts]
        if profiles:
            self._run = None  # the file at the end is told as a whole
            on_event(Started(profiles[0] if len(profiles) == 1 else merge(profiles)))

    def _tell(self, profile: Profile, layers: Iterable[int], on_event: OnEvent) -> None:
        """Tell about a profile's layers; about the profile itself if it is another run's than before."""
        run = (profile.origin.model, profile.origin.token_ids)
        if run != self._run:
            self._run, self._told = run, set()
            on_event(Started(Profile(profile.origin, (None,) * profile.n_layers)))
        for index in layers:
            layer = profile.layers[index]
            if layer is not None:
                self._told.add(index)
                on_event(LayerRead(index, layer))
                on_event(Step("forward", index + 1, profile.n_layers))


def print_growth(path: Path) -> Profile:
    """Follow a capture and print a line for each layer, until it is done.

    Raises:
        LaminarError: as `Following.run` does.
    """
    from laminar_tui.render.text import visible

    said = ""
    n_layers = 0
    more = ""

    def tell(event: object) -> None:
        nonlocal said, n_layers, more
        if isinstance(event, Step):
            more = event.more
        if isinstance(event, Started) and event.profile.n_read:
            print(visible(", ".join(filter(None, (_corpus_line(event.profile), more)))), flush=True)
        elif isinstance(event, Started):
            origin, n_layers = event.profile.origin, event.profile.n_layers
            print(visible(f"{origin.model}: {n_layers} layers, {_prompts(event.profile)}"), flush=True)
        elif isinstance(event, LayerRead):
            print(_layer_line(event.index, n_layers, event.layer), flush=True)
        elif isinstance(event, Step) and event.total == 0 and event.name != said:
            said = event.name
            _say(visible(said))

    profile = Following(path).run(Request(), tell, lambda: False)
    print(visible(f"done: {path}"), flush=True)
    return profile


def _say(words: str) -> None:
    print(f"{words} (ctrl+c leaves)", file=sys.stderr, flush=True)


def _prompts(profile: Profile) -> str:
    several = f" in {profile.origin.n_prompts:,} prompts" if profile.origin.n_prompts > 1 else ""
    return f"{profile.total_tokens:,} tokens{several}"


def _corpus_line(profile: Profile) -> str:
    layers = [layer.layer_counts("final") for layer in profile.layers if layer is not None]
    n = sum(int(counts.n) for counts in layers)
    above = sum(float(counts.share_high) * int(counts.n) for counts in layers if counts.n)
    share = f"{percent(above / n)} of the final-token weights above {HIGH}" if n else "no final-token weights"
    return f"{profile.origin.model}: {_prompts(profile)}, {share}"


def _layer_line(index: int, n_layers: int, layer: LayerProfile) -> str:
    counts = layer.layer_counts("final")
    n = int(counts.n)
    mean = float(counts.total) / n if n else float("nan")
    return f"layer {index:3} of {n_layers}  {layer.n_heads} heads  {n:,} final-token weights, mean {mean:.4f}"

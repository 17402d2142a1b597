"""Runs that were cut off: where their journals are kept, who finds them, and when they are thrown away."""

import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from laminar_tui.errors import LaminarError, UsageError
from laminar_tui.files import open_regular, state_folder
from laminar_tui.log import LOGGER
from laminar_tui.profile.journal import Journal, JournalReader, is_being_written, lock, partial_path
from laminar_tui.profile.profile import Profile

SUFFIX = ".journal"
OLD_SUFFIX = ".old"
OPENED_SUFFIX = ".opened"
"""Of a run that was offered and opened: whoever looked at it is not asked again."""
KEPT_SECONDS = 14 * 24 * 3600.0
"""How long a run that was cut off is offered."""
EMPTY_SECONDS = 3600.0
"""How long a journal without a layer is left alone: its process may be about to begin."""


OnFound = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class CutOff:
    """A run that was cut off, claimed by this process: no other one offers it meanwhile.

    Attributes:
        path: its journal.
        profile: what it had read.
    """

    path: Path
    profile: Profile
    _claim: int

    def sentence(self) -> str:
        """Say which run it was and how far it came; untrusted text."""
        return describe(self.profile)

    def set_aside(self) -> "CutOff":
        """Keep it as one that was looked at: it is in its file as long as others, and is not offered again."""
        aside = self.path.with_suffix(OPENED_SUFFIX)
        try:
            self.path.replace(aside)
        except OSError:
            return self
        return replace(self, path=aside)

    def remove(self) -> None:
        """Forget it."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Leave it for the next start."""
        with suppress(OSError):
            os.close(self._claim)


def describe(profile: Profile) -> str:
    """Say which run a journal is of and how far it came; untrusted text."""
    origin = profile.origin
    try:
        began = datetime.fromisoformat(origin.created).astimezone()
        is_today = began.date() == datetime.now().astimezone().date()
        when = f" from {began:%H:%M}" if is_today else f" from {began:%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError, OSError):
        when = ""
    return f"a run of {origin.model}{when} was cut off after {profile.n_read} of {profile.n_layers} layers"


def runs_folder() -> Path:
    """The folder of the journals that are beside no output.

    Raises:
        OSError: if it cannot be made.
    """
    return state_folder("runs")


def new_journal(folder: Path) -> Journal:
    """Begin a journal under a name that no other process takes.

    Raises:
        OSError: if it cannot be made.
    """
    return Journal(folder / f"{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}")


def journal_beside(output: Path, on_found: OnFound) -> Journal:
    """Begin the journal of a capture into a file; what an earlier one has left there is moved aside.

    Args:
        output: the file that is to be written in the end.
        on_found: called with a sentence (untrusted text) about a run that was cut off.

    Raises:
        UsageError: if another process is capturing into that file, or nothing can be written beside it.
    """
    partial = partial_path(output)
    try:
        if os.path.lexists(partial):
            _move_aside(partial, on_found)
        return Journal(partial)
    except FileExistsError as error:
        raise _taken(output) from error
    except OSError as error:
        raise UsageError(f"cannot write {partial}: {error.strerror}", "choose another place to write to") from error


def _move_aside(partial: Path, on_found: OnFound) -> None:
    if partial.is_symlink() or not partial.is_file():
        raise UsageError(f"{partial} is no regular file", "take it away, or write to another file")
    if is_being_written(partial):
        raise _taken(partial.with_suffix(""))
    reader = JournalReader(partial)
    with suppress(LaminarError):
        reader.read()
    if reader.profile is None or not reader.profile.n_read:
        partial.unlink()
        return
    aside = old_path(partial)
    partial.replace(aside)
    on_found(f"{describe(reader.profile)}; until this one is written it is kept in {aside}")


def old_path(partial: Path) -> Path:
    """Where a run that was cut off is kept while another one writes in its place."""
    return partial.with_name(partial.name + OLD_SUFFIX)


def _taken(output: Path) -> UsageError:
    return UsageError(
        f"another process is capturing into {output}", f"look at it with: laminar-tui tail {output}, or write elsewhere"
    )


def find_cut_off(folder: Path) -> CutOff | None:
    """Find the newest run that was cut off, and claim it; old ones and empty ones are thrown away."""
    found: CutOff | None = None
    for path in folder.glob(f"*{OPENED_SUFFIX}"):
        with suppress(OSError):
            _claim(path, keep=False)
    for path in sorted(folder.glob(f"*{SUFFIX}"), reverse=True):
        with suppress(OSError):
            found = _claim(path, keep=found is None) or found
    return found


def _claim(path: Path, *, keep: bool) -> CutOff | None:
    """Take one journal if nobody writes or offers it and there is something in it."""
    descriptor = open_regular(path)
    claimed = False
    try:
        if not lock(descriptor):
            return None
        age = time.time() - os.fstat(descriptor).st_mtime
        if age > KEPT_SECONDS:
            path.unlink()
            return None
        if not keep:
            return None
        reader = JournalReader(path)
        try:
            reader.read()
        except LaminarError as error:
            LOGGER.warning("%s: %s", path.name, error.message)
        if reader.profile is not None and reader.profile.n_read:
            claimed = True
            return CutOff(path, reader.profile, descriptor)
        if age > EMPTY_SECONDS:
            path.unlink()
        return None
    finally:
        if not claimed:
            os.close(descriptor)

"""Reading and writing files: bounded, for their owner only, never through a link, and whole after any failure."""

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

import platformdirs

from laminar_tui.errors import UsageError

APP_NAME = "laminar_tui"
OWN = 0o600
"""Who may read what the program keeps for itself: prompts are in it."""

# Flags that a system may lack; none of them changes what is read or written.
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)


def state_path(name: str = "") -> Path:
    """Where what outlives a run is (XDG_STATE_HOME), or something in it; it may not be there."""
    return platformdirs.user_state_path(APP_NAME) / name


def state_folder(name: str = "") -> Path:
    """Give the folder for what outlives a run, or one in it; made for its owner only when it is not there.

    Raises:
        OSError: if it cannot be made.
    """
    for folder in (state_path(), state_path(name)):  # parents that `mkdir` makes would be open to all
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return state_path(name)


def write_bytes(path: Path, payload: bytes) -> None:
    """Write a file beside its target, wait until it is on the disk, and rename it over the target.

    An existing file keeps its permissions; while it is written, only its owner can read it.

    Raises:
        UsageError: if the path is no regular file, or it cannot be written.
    """
    check_replaceable(path)
    try:
        _replace(path, payload)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", "choose another place to write to") from error


def check_replaceable(path: Path) -> None:
    """Refuse to replace a device, a pipe, a folder or a link.

    Raises:
        UsageError: if the path exists and is no regular file.
    """
    try:
        is_other = os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", "choose another place to write to") from error
    if is_other:
        raise UsageError(f"{path} is no regular file", "choose another name; only regular files are replaced")


def _replace(path: Path, payload: bytes) -> None:
    # A name that nobody can guess and lay a link at; its length does not depend on the target's.
    beside = path.with_name(f".laminar-{secrets.token_hex(8)}.part")
    file = beside.open("xb")  # not in the try: a name that is taken is somebody else's file
    try:
        with file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)  # what the umask leaves
            os.chmod(file.fileno(), OWN)  # noqa: PTH101 - of the open file, whatever its name is by now
            file.write(payload)
            file.flush()
            with suppress(FileNotFoundError):
                mode = stat.S_IMODE(path.lstat().st_mode)
            os.chmod(file.fileno(), mode)  # noqa: PTH101
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Wait until the new name is on the disk; the file is there also where one may not, or cannot, wait for that."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def create_own(path: Path) -> int:
    """Create a file to append to that only its owner may read, and give its descriptor.

    Raises:
        FileExistsError: if there is anything of that name, a link to nowhere included.
        OSError: if it cannot be made.
    """
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | _NO_LINK, OWN)


def append_own(path: Path) -> int:
    """Open a file to append to, or create it for its owner only, and give its descriptor.

    Raises:
        OSError: if it is a link or no regular file, or cannot be opened.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _NO_LINK | _NO_WAIT, OWN)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "it is no regular file")
    return descriptor


def open_regular(path: Path) -> int:
    """Open a file for reading if it is a regular one, and give its descriptor; never waits, as a pipe would make it.

    Raises:
        OSError: if it is not there, no regular file, or cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | _NO_WAIT)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(0, "it is no regular file")
    return descriptor


def read_bytes(path: Path, at_most: int) -> bytes:
    """Read a regular file whose size is looked at before anything is read.

    Raises:
        OSError: if it is not there, no regular file, or cannot be read.
        OverflowError: if it is larger than `at_most` bytes; its size is the argument.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > at_most:
            raise OverflowError(size)
        return file.read(at_most)

"""Writing files so that a failure at any moment leaves the old file whole."""

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from laminar_tui.errors import UsageError


def write_bytes(path: Path, payload: bytes) -> None:
    """Write a file beside its target, wait until it is on the disk, and rename it over the target.

    Raises:
        UsageError: if the path is no regular file, or it cannot be written.
    """
    try:
        if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
            raise UsageError(f"{path} is no regular file", "choose another name; only regular files are replaced")
        _replace(path, payload)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", "choose another place to write to") from error


def _replace(path: Path, payload: bytes) -> None:
    # A name that nobody can guess, and "x": a link that was laid there would be followed.
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with beside.open("xb") as file:
            file.write(payload)
            file.flush()
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

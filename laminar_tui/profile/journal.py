"""The journal of a capture: its layers, appended one by one as they are read, so that `kill -9` costs none of them.

A journal is a magic word, a random number that tells it from any other, and records. A record is a kind, a layer's
index, a length, a SHA-256 and the bytes of a profile's file: the empty profile (`head`), a profile of one layer
(`layr`), the empty profile as it was at the end (`done`). Each digest covers the one before it, the first one the
random number. What follows a record that is cut or does not fit is not there. The process that writes holds a lock on
the file: that is how others know that it is alive.
"""

import hashlib
import os
import secrets
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from laminar_tui.errors import ProfileFileError
from laminar_tui.files import create_own, open_regular
from laminar_tui.profile.file import JOURNAL_MAGIC, JOURNAL_NAME, MAX_LAYERS, parse_profile, profile_bytes
from laminar_tui.profile.profile import LayerProfile, Origin, Profile

PARTIAL_SUFFIX = ".partial"
SYNC_EVERY = 1.0
"""Seconds between two waits for the disk: a killed process loses nothing, a power cut at most this much."""
MAX_RECORD_BYTES = 2**30
SILENT_AFTER = 60.0
"""Seconds without a write after which a journal counts as left, where the file system knows no locks."""

_NONCE_BYTES = 16
_RECORD = struct.Struct("<4sIQ32s")
_HEAD, _LAYER, _DONE = b"head", b"layr", b"done"


def partial_path(path: Path) -> Path:
    """Where a capture into a file keeps its layers until the file is written."""
    return path.with_name(path.name + PARTIAL_SUFFIX)


class Journal:
    """Writes the journal of one capture.

    Args:
        path: the file; it must not exist.

    Attributes:
        n_layers: how many layers were written.

    Raises:
        FileExistsError: if there is something of that name.
        OSError: if it cannot be made; from every other method too, if the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.n_layers = 0
        self._file = create_own(path)
        self._digest = secrets.token_bytes(_NONCE_BYTES)
        self._synced_at = 0.0
        self._origin: Origin | None = None
        for _ in range(100):  # somebody may be looking whether it is being written
            if lock(self._file):
                break
            time.sleep(0.01)
        try:
            _write_all(self._file, JOURNAL_MAGIC + self._digest)
        except OSError:
            self.remove()
            raise

    @property
    def is_open(self) -> bool:
        """Whether it still takes layers."""
        return self._file >= 0

    def begin(self, profile: Profile) -> None:
        """Write down what is captured: a profile with no layer read."""
        self._origin = profile.origin
        self._append(_HEAD, 0, profile)

    def add(self, index: int, layer: LayerProfile) -> None:
        """Write down a layer."""
        if self._origin is not None:
            self.n_layers += 1
            self._append(_LAYER, index, Profile(replace(self._origin, layer_kinds=("attention",)), (layer,)))

    def finish(self, profile: Profile) -> None:
        """Write down how it ended: times and checks are known now."""
        self._append(_DONE, 0, Profile(profile.origin, (None,) * profile.n_layers))
        self._sync()

    def close(self) -> None:
        """Leave the journal for the next start to find."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def remove(self) -> None:
        """Take it away: what it holds is saved, or no longer wanted."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
        self.close()

    def _append(self, kind: bytes, index: int, profile: Profile) -> None:
        if self._file < 0:
            return
        payload = profile_bytes(profile)
        self._digest = _digest(self._digest, kind, index, payload)
        _write_all(self._file, _RECORD.pack(kind, index, len(payload), self._digest) + payload)
        if time.monotonic() - self._synced_at >= SYNC_EVERY:
            self._sync()

    def _sync(self) -> None:
        if self._file >= 0:
            os.fsync(self._file)
            self._synced_at = time.monotonic()


class JournalReader:
    """Reads a journal, also one that is growing.

    Attributes:
        profile: what has been read so far; None before the first record.
        is_damaged: whether a record did not fit; nothing is read beyond it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._start(b"")

    def _start(self, nonce: bytes) -> None:
        self.profile: Profile | None = None
        self.is_damaged = False
        self._offset = len(JOURNAL_MAGIC) + _NONCE_BYTES
        self._nonce = self._digest = nonce

    def read(self) -> list[int]:
        """Read what has come since, and give the indices of new layers; an unchanged file is not opened.

        Raises:
            OSError: if there is no such file, or it cannot be read.
            ProfileFileError: if it is no journal.
        """
        status = self.path.stat()
        seen = (status.st_ino, status.st_size, status.st_mtime_ns)
        if seen == self._seen:
            return []
        with os.fdopen(open_regular(self.path), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            magic = file.read(len(JOURNAL_MAGIC))
            if magic != JOURNAL_MAGIC and magic.startswith(JOURNAL_NAME) and len(magic) == len(JOURNAL_MAGIC):
                raise ProfileFileError(
                    f"{self.path.name} was written by another version of laminar-tui",
                    "open it with the version that wrote it, or capture again",
                )
            if magic != JOURNAL_MAGIC[: len(magic)]:
                raise ProfileFileError(f"{self.path.name} is no journal of a capture", "give another file")
            nonce = file.read(_NONCE_BYTES)
            if nonce != self._nonce and len(nonce) == _NONCE_BYTES:
                self._start(nonce)  # the first look, or another run writes a journal of its own
            file.seek(self._offset)
            layers = []
            while not self.is_damaged and (taken := self._take(file.read, size)) is not None:
                layers += taken
        self._seen = seen
        return layers

    def _take(self, read: Callable[[int], bytes], size: int) -> list[int] | None:
        """Read one record: the layer that it holds, if any; None where there is no whole record (yet)."""
        room = size - self._offset - _RECORD.size
        if room < 0:
            return None
        kind, index, length, digest = _RECORD.unpack(read(_RECORD.size))
        if length > MAX_RECORD_BYTES:
            self.is_damaged = True
            return None
        if length > room:
            return None
        payload = read(length)
        if digest != _digest(self._digest, kind, index, payload):
            self.is_damaged = True
            return None
        self._digest, self._offset = digest, self._offset + _RECORD.size + length
        try:
            return self._understand(kind, index, parse_profile(payload))
        except (ProfileFileError, IndexError):
            self.is_damaged = True
            return None

    def _understand(self, kind: bytes, index: int, profile: Profile) -> list[int]:
        if kind == _HEAD:
            self.profile = profile
        elif kind == _LAYER and self.profile is not None and index < MAX_LAYERS:
            if profile.layers[0] is not None:
                self.profile = self.profile.with_layer(index, profile.layers[0])
                return [index]
        elif kind == _DONE and self.profile is not None and profile.n_layers == self.profile.n_layers:
            self.profile = Profile(profile.origin, self.profile.layers)
        return []


def is_being_written(path: Path) -> bool:
    """Whether a living process holds the journal."""
    try:
        descriptor = open_regular(path)
    except OSError:
        return False
    try:
        return not lock(descriptor, shared=True)
    except OSError:
        return time.time() - os.fstat(descriptor).st_mtime < SILENT_AFTER
    finally:
        os.close(descriptor)


def lock(descriptor: int, *, shared: bool = False) -> bool:
    """Lock a file for as long as it is open; False if somebody else has it, True also where locks are unknown."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        if shared:
            raise
    return True


def read_journal(path: Path) -> Profile:
    """Read what a capture that is under way, or was cut off, has kept.

    Raises:
        OSError: if there is no such file, or it cannot be read.
        ProfileFileError: if it is no journal, or has nothing in it yet.
    """
    reader = JournalReader(path)
    reader.read()
    if reader.profile is None:
        raise ProfileFileError(f"{path.name} holds no layer", "its capture had not begun to read: capture again")
    return reader.profile


def _digest(before: bytes, kind: bytes, index: int, payload: bytes) -> bytes:
    return hashlib.sha256(before + kind + index.to_bytes(4, "little") + payload).digest()


def _write_all(descriptor: int, payload: bytes) -> None:
    view = memoryview(payload)
    while view:
        view = view[os.write(descriptor, view) :]

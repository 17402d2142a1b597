"""The program on a pseudo-terminal: what it has written, and what a terminal makes of that."""

import fcntl
import os
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pexpect
import pyte

SLOW = 30.0
"""Seconds to wait for anything at most: a busy machine is no failure."""

_UNFINISHED = re.compile(rb"\x1b(\[[0-?]*[ -/]*)?\Z")
_UNKNOWN_TO_PYTE = re.compile(rb"\x1b\[[<=>][0-?]*[ -/]*[@-~]")


def _hear_interrupts() -> None:
    """Let Ctrl+C arrive: whoever runs the tests in the background of a script makes all its children deaf to it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Emulator:
    """The program in a terminal emulator.

    Attributes:
        received: all bytes that it has written so far.
    """

    def __init__(self, words: list[str], environment: dict[str, str], size: tuple[int, int], folder: Path) -> None:
        width, height = size
        self._child = pexpect.spawn(
            words[0],
            words[1:],
            env=environment,
            dimensions=(height, width),
            timeout=SLOW,
            cwd=str(folder),
            preexec_fn=_hear_interrupts,
        )
        self._screen = pyte.Screen(width, height)
        self._stream = pyte.ByteStream(self._screen)
        self._pending = b""
        self._status: int | None = None
        self.received = b""

    @property
    def text(self) -> str:
        """What is on the screen, row by row."""
        return "\n".join(self._screen.display)

    @property
    def pid(self) -> int:
        """The process."""
        return int(self._child.pid)

    def type(self, keys: str) -> None:
        """Send keys, as a keyboard does."""
        os.write(self._child.child_fd, keys.encode())

    def signal(self, number: int) -> None:
        """Send a signal to the process."""
        os.kill(self.pid, number)

    def resize(self, width: int, height: int) -> None:
        """Change the terminal's size, which sends SIGWINCH."""
        fcntl.ioctl(self._child.child_fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self._screen.resize(height, width)

    def until(self, holds: str | Callable[[], bool], timeout: float = SLOW) -> None:
        """Read until a text is on the screen, or a condition holds."""
        condition = (lambda: holds in self.text) if isinstance(holds, str) else holds
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f"never: {holds}\n{self.text}"
            if not self._read(0.1) and not condition():
                self._wait_for_end(end)
                raise AssertionError(f"the program has gone before: {holds}\n{self.text}")

    def quiet(self, seconds: float = 0.4) -> None:
        """Read until nothing has come for so long."""
        end = time.monotonic() + SLOW
        while time.monotonic() < end:
            before = len(self.received)
            if not self._read(seconds) or len(self.received) == before:
                return
        raise AssertionError("it never stops to write")

    def bytes_of(self, keys: str, shows: str | Callable[[], bool]) -> int:
        """Send keys and count the bytes that come until what they do is on the screen and all is quiet."""
        before = len(self.received)
        self.type(keys)
        self.until(shows)
        self.quiet()
        return len(self.received) - before

    def exit_code(self, timeout: float = SLOW) -> int:
        """Read to the end, and give the exit code; 128 + n if a signal n has killed it."""
        end = time.monotonic() + timeout
        while self._read(0.1):
            assert time.monotonic() < end, f"it does not end\n{self.text}"
        return self._wait_for_end(end)

    def is_stopped(self) -> bool:
        """Whether the process has been stopped, as a shell sees it."""
        pid, status = os.waitpid(self.pid, os.WUNTRACED | os.WNOHANG)
        return pid == self.pid and os.WIFSTOPPED(status)

    def hang_up(self) -> None:
        """Close the terminal, as a lost connection does."""
        self._child.ptyproc.fileobj.close()

    def close(self) -> None:
        """End the process if it is still there."""
        if not self._child.ptyproc.fileobj.closed:
            self._child.close(force=True)

    def _read(self, timeout: float) -> bool:
        """Read what is there; False at the end."""
        descriptor = self._child.child_fd
        if not select.select([descriptor], [], [], timeout)[0]:
            return True
        try:
            chunk = os.read(descriptor, 65536)
        except OSError:
            return False
        self.received += chunk
        self._pending += chunk
        unfinished = _UNFINISHED.search(self._pending)
        end = unfinished.start() if unfinished else len(self._pending)
        self._stream.feed(_UNKNOWN_TO_PYTE.sub(b"", self._pending[:end]))
        self._pending = self._pending[end:]
        return bool(chunk)

    def _wait_for_end(self, end: float) -> int:
        while self._child.isalive():
            assert time.monotonic() < end, "its terminal is closed, but the process does not end"
            time.sleep(0.01)
        if self._child.signalstatus is not None:
            return 128 + int(self._child.signalstatus)
        return int(self._child.exitstatus)


def program(*words: str) -> list[str]:
    """The command line of the program in this environment."""
    return [sys.executable, "-m", "laminar_tui", *words]


def clean_environment(folder: Path, **changes: str | None) -> dict[str, str]:
    """An environment in which nothing of the user's own is seen; None takes a variable away."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ}
    settings: dict[str, str | None] = {
        **kept,
        "HOME": str(folder),
        "XDG_STATE_HOME": str(folder / "state"),
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
        "LANG": "C.UTF-8",
        "HF_HUB_OFFLINE": "1",
        **changes,
    }
    return {name: value for name, value in settings.items() if value is not None}


TAKEN = (b"\x1b[?1049", b"\x1b[?1000", b"\x1b[?1003", b"\x1b[?1006", b"\x1b[?2004")
"""Alternate screen, three mouse modes, bracketed paste: `h` takes them, `l` gives them back."""


def assert_given_back(written: bytes) -> None:
    """Every mode that was taken has been given back, and the cursor is seen."""
    for mode in TAKEN:
        taken, given = written.rfind(mode + b"h"), written.rfind(mode + b"l")
        assert given > taken, f"{mode!r} is still on"
    assert written.rfind(b"\x1b[?25h") > written.rfind(b"\x1b[?25l"), "the cursor is still hidden"

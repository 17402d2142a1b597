"""The log: one file in the XDG state folder, bounded in size, for its owner only, without the prompt unless asked.

Nothing is made before the first line is written. While the app runs, file descriptors 1 and 2 lead to the same file,
and follow it when it is rotated.
"""

import argparse
import logging
import os
import sys
import threading
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import TracebackType

from laminar_tui.errors import UsageError
from laminar_tui.files import append_own, open_regular, state_folder
from laminar_tui.render.text import visible
from laminar_tui.source import as_path

LOGGER = logging.getLogger("laminar_tui")
FILE_NAME = "laminar.log"
MAX_BYTES = 2**20
N_OLD = 3
"""How many full files are kept beside the present one: four MiB in all."""
SHOWN_BYTES = 2**16
"""How much of the end is read for the log pane."""
LIBRARIES = ("transformers", "huggingface_hub", "py.warnings", "accelerate")
AT_LEAST_HIDDEN = 4
"""Shorter prompts are not looked for in the log's lines: they would be found in every word."""


class _Format(logging.Formatter):
    """One harmless line a line, without the texts that are to be hidden."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s")
        self.hidden: set[str] = set()

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        for hidden in sorted(self.hidden, key=len, reverse=True):
            text = text.replace(hidden, "<prompt>")
        return "\n".join(visible(line) for line in text.splitlines())


class _LogFile(RotatingFileHandler):
    """The rotating file; whatever descriptor led to it leads to the new one after a rotation.

    Args:
        path: the file; None for the one in the state folder.
    """

    def __init__(self, path: Path | None) -> None:
        super().__init__(path or FILE_NAME, maxBytes=MAX_BYTES, backupCount=N_OLD, encoding="utf-8", delay=True)
        self.path = path
        self.taken: tuple[int, ...] = ()

    def _open(self) -> TextIOWrapper:
        if self.path is None:
            self.path = state_folder() / FILE_NAME
        self.baseFilename = str(self.path.absolute())
        return open(append_own(self.path), "a", encoding="utf-8", errors="backslashreplace")  # noqa: PTH123

    def doRollover(self) -> None:  # noqa: N802 - the name is logging's
        super().doRollover()
        self.lead()

    def lead(self) -> None:
        """Let the taken descriptors write to the file that is open now."""
        if self.taken:
            self.stream = stream = self.stream or self._open()
            for descriptor in self.taken:
                os.dup2(stream.fileno(), descriptor)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        """A log that cannot be written is no reason to stop, nor to write over the screen."""
        del record


class _Log:
    """The log of this process: at most one."""

    def __init__(self) -> None:
        self.file: _LogFile | None = None
        self.format = _Format()
        self.handlers: list[logging.Handler] = []
        self.keeps_prompt = False


_log = _Log()


def start_log(
    path: Path | None = None, *, is_verbose: bool = False, keeps_prompt: bool = False, on_stderr: bool = False
) -> None:
    """Begin to log, in place of any log before.

    Args:
        path: the file; None for `laminar.log` in the state folder.
        is_verbose: the libraries' and our own details too.
        keeps_prompt: leave the prompt's text in it.
        on_stderr: write each line to standard error too.

    Raises:
        UsageError: if the named file cannot be written.
    """
    stop_log()
    if path is not None:
        _check_writable(path)
    _log.format, _log.keeps_prompt = _Format(), keeps_prompt
    _log.file = _LogFile(path)
    _log.handlers = [_log.file, *([logging.StreamHandler()] if on_stderr else [])]
    for handler in _log.handlers:
        handler.setFormatter(_log.format)
        handler.setLevel(logging.DEBUG if is_verbose else logging.INFO)
        for name in (LOGGER.name, *LIBRARIES):
            logging.getLogger(name).addHandler(handler)
    LOGGER.setLevel(logging.DEBUG if is_verbose else logging.INFO)
    LOGGER.propagate = False
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def stop_log() -> None:
    """End the log."""
    for handler in _log.handlers:
        for name in (LOGGER.name, *LIBRARIES):
            logging.getLogger(name).removeHandler(handler)
        handler.close()
    if _log.handlers:
        sys.excepthook, threading.excepthook = sys.__excepthook__, threading.__excepthook__
    _log.file, _log.handlers = None, []


def start_log_for(options: argparse.Namespace, command: str) -> None:
    """Begin to log what a command does, and write down how it was called: never with the prompt's text.

    Raises:
        UsageError: if the file that was named cannot be written.
    """
    from laminar_tui import __version__

    path = as_path(options.log_file) if options.log_file else None
    start_log(path, is_verbose=options.verbose, keeps_prompt=options.log_prompt, on_stderr=False)
    told = {name: value for name, value in vars(options).items() if value not in (None, False, "")}
    prompt = told.get("prompt")
    if prompt is not None and prompt != "-" and not options.log_prompt:
        told["prompt"] = f"<{len(prompt)} characters>"
    words = " ".join(f"{name}={value!r}" for name, value in told.items())
    LOGGER.info("laminar-tui %s: %s %s", __version__, command or "explore", words)


def hide(text: str) -> None:
    """Keep a prompt out of every later line, unless it was asked for."""
    if not _log.keeps_prompt:
        _log.format.hidden |= {part for part in (text, *text.splitlines()) if len(part.strip()) >= AT_LEAST_HIDDEN}


def log_path() -> Path | None:
    """Where the log is; None if there is none, or nothing was written to it yet."""
    return _log.file.path if _log.file is not None else None


def lead_into_log(*descriptors: int) -> bool:
    """Let file descriptors write to the log; False if it cannot be written."""
    if _log.file is None:
        return False
    _log.file.taken = descriptors
    try:
        _log.file.lead()
    except OSError:
        return False
    return True


def last_lines() -> list[str]:
    """Give the log's last lines, harmless; none if there is no log."""
    path = log_path()
    if path is None:
        return []
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - SHOWN_BYTES))
            is_cut = file.tell() > 0
            lines = file.read(SHOWN_BYTES).decode("utf-8", "replace").split("\n")
    except OSError:
        return []
    return [visible(line) for line in lines[1 if is_cut else 0 :] if line]


def _check_writable(path: Path) -> None:
    try:
        os.close(append_own(path))
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"cannot write the log {path}: {reason}", "name another file with --log-file") from error


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        LOGGER.error("a bug", exc_info=(kind, error, trace))
    sys.__excepthook__(kind, error, trace)


def _log_uncaught_in_thread(found: threading.ExceptHookArgs) -> None:
    error = found.exc_value
    if error is not None:
        LOGGER.error("a bug in a thread", exc_info=(type(error), error, found.exc_traceback))

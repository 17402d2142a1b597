"""Where a command's result goes, and what is said about it: no character from outside reaches the terminal as it is."""

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO

from laminar_tui.errors import ExitCode, UsageError
from laminar_tui.source import as_path

if TYPE_CHECKING:
    from laminar_tui.profile.profile import Profile
    from laminar_tui.profile.sweep import SweepStep

MOST_SHOWN = 300
"""Characters of a message; a path or an option may be of any length."""


def shown(text: str) -> str:
    """Make text from outside one harmless line, no longer than anybody reads."""
    from laminar_tui.render.text import visible

    line = visible(text[: MOST_SHOWN + 1])
    return line if len(line) <= MOST_SHOWN else line[: MOST_SHOWN - 1] + "…"


def tell(text: str, end: str = "\n") -> None:
    """Say something on standard error; where nobody reads it any more, the work goes on without a word."""
    try:
        print(text, end=end, file=sys.stderr, flush=True)
    except OSError:
        drop_rest(sys.stderr)


def drop_rest(stream: TextIO) -> None:
    """Send the rest of a stream nowhere, so that the interpreter does not fail on it once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def check_target(output: str | None) -> None:
    """Find out before minutes of work whether there is a place for their result.

    Raises:
        UsageError: if the folder is not there, or what is in that place is no regular file.
    """
    if output and output != "-":
        from laminar_tui.files import check_replaceable

        folder = as_path(output).absolute().parent
        if not folder.is_dir():
            raise UsageError(f"there is no folder {folder}", "make it first, or write somewhere else")
        check_replaceable(as_path(output))


def check_format(name: str, formats: Mapping[str, object]) -> None:
    """Find out before minutes of work whether a format is known.

    Raises:
        UsageError: if it is none of them.
    """
    if name not in formats:
        raise UsageError(f"there is no format '{name}'", f"choose one of: {', '.join(formats)}")


def put_out(text: str, output: str | None) -> None:
    """Print lines, or write them to a file; no character of a prompt or a name reaches the terminal as it is."""
    from laminar_tui.files import write_bytes
    from laminar_tui.render.text import visible

    harmless = "".join(f"{visible(line)}\n" for line in text.removesuffix("\n").split("\n"))
    if output and output != "-":
        write_bytes(as_path(output), harmless.encode())
    else:
        sys.stdout.write(harmless)


def tell_trust(profile: "Profile | SweepStep") -> int:
    """Say which checks failed; the exit code is 3 then."""
    from laminar_tui.render.facts import found_words
    from laminar_tui.render.text import visible

    for failed in profile.origin.failed_checks:
        tell(f"laminar-tui: NOT TO BE TRUSTED: {visible(failed.name)}: {found_words(failed.found)}")
    return int(ExitCode.UNTRUSTED if profile.origin.failed_checks else ExitCode.DONE)

"""Words on the command line -> a call; errors -> exit codes. Results go to standard output, all else to standard error.

A command is a module in `commands/` and a line in `COMMANDS`. Only the standard library is imported before one runs, so
that `--help` is at once.
"""

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, NoReturn

from laminar_tui.commands import capture, check, compare, explore, export, report, show, sweep, tail
from laminar_tui.commands.results import drop_rest, shown, tell
from laminar_tui.errors import ExitCode, LaminarError, UsageError


class Command(NamedTuple):
    """One word of the command line: what it takes, and what it does with that to give an exit code."""

    make_parser: Callable[[], argparse.ArgumentParser]
    execute: Callable[[argparse.Namespace], int]


COMMANDS = {
    "": Command(explore.make_parser, explore.explore),
    "capture": Command(capture.make_parser, capture.capture),
    "show": Command(show.make_parser, show.show),
    "export": Command(export.make_parser, export.export),
    "report": Command(report.make_parser, report.report),
    "compare": Command(compare.make_parser, compare.compare_profiles),
    "sweep": Command(sweep.make_parser, sweep.sweep),
    "tail": Command(tail.make_parser, tail.tail),
    "check": Command(check.make_parser, check.check),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit code."""
    _prepare_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = words.pop(0) if words and words[0] in COMMANDS else ""
    make_parser, execute = COMMANDS[command]
    if words and not command and not words[0].startswith("-"):
        try:
            from laminar_tui.commands.spelling import refuse_misspelt

            refuse_misspelt(words[0], COMMANDS)
        except LaminarError as error:
            report_error(error)
            return int(error.exit_code)
    parser = make_parser()
    parser.error = partial(_refuse_words, parser)  # type: ignore[method-assign]
    options = parser.parse_args(words)
    # Libraries draw progress bars where the program's own lines or its picture belong.
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    # What is fetched for speed is code all the same.
    os.environ.setdefault("USE_HUB_KERNELS", "NO")
    try:
        if "log_file" in options:
            from laminar_tui.log import start_log_for

            start_log_for(options, command)
        code = execute(options)
        sys.stdout.flush()  # at exit, a full disk would be told by a traceback
        return code
    except LaminarError as error:
        report_error(error)
        return int(error.exit_code)
    except KeyboardInterrupt:
        tell("interrupted")
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # The reader of the result has gone, like `head`. That of standard error is no reason to stop: see `tell`.
        drop_rest(sys.stdout)
        return int(ExitCode.DONE)
    except (OSError, MemoryError) as error:
        # The machine's, not the program's: most likely standard output is on a full disk.
        drop_rest(sys.stdout)
        reason = getattr(error, "strerror", None) or "there is not enough memory"
        report_error(UsageError(reason, "make room, and try again"))
        return int(ExitCode.USAGE)


def _prepare_streams() -> None:
    """Put nothing in place of closed standard streams, and escapes in place of characters that a stream cannot hold."""
    if sys.stdin is None:
        os.open(os.devnull, os.O_RDONLY)  # takes the number that standard output would otherwise get
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def report_error(error: LaminarError) -> None:
    """Say what went wrong and what to do, in two harmless lines."""
    tell(f"laminar-tui: {shown(error.message)}")
    if error.hint:
        tell(f"  {shown(error.hint)}")


def _refuse_words(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    """Leave because of wrong words; argparse itself would print them as they are, after a page of usage."""
    tell(f"{parser.prog}: error: {shown(message)}\n  {parser.prog} --help lists what it takes")
    raise SystemExit(int(ExitCode.USAGE))

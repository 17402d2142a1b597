"""From the command line to a running app, and back to the shell: the order of the steps matters.

The prompt is read from a pipe before the terminal takes its place; libraries that write to the standard streams write
to a log from then on, and Textual gets a copy of the terminal.
"""

import argparse
import logging
import os
import sys
import threading
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from laminar_tui.catalog import remember
from laminar_tui.errors import ExitCode, UsageError
from laminar_tui.log import lead_into_log, log_path
from laminar_tui.options import make_request, make_terminal_ramp
from laminar_tui.settings import Settings, read_settings
from laminar_tui.source import as_path, find_source
from laminar_tui.ui.garbage import collected_in_rests, nothing_collected

if TYPE_CHECKING:
    from laminar_tui.profile.profile import Profile
    from laminar_tui.profile.sweep_folder import SavedSweep
    from laminar_tui.recovery import CutOff
    from laminar_tui.render.rows import Depth
    from laminar_tui.run import Request
    from laminar_tui.ui.app import LaminarApp


def start_app(options: argparse.Namespace) -> int:
    """Open the explorer on what was asked for, and give the exit code.

    Raises:
        LaminarError: if there is no terminal, or what was asked for cannot be opened.
    """
    with nothing_collected():
        settings = _read_settings(options)
        depth = _prepare_environment(options)
        sweep = _find_sweep(options)
        request, profile = _find_subject(options) if sweep is None else (None, sweep.last())
        profile, reference = _find_reference(options, profile)
        app, terminal = _make_app(options, settings, depth, request, profile, None, reference, sweep)
    return _run(app, terminal, options)


def start_tail(options: argparse.Namespace) -> int:
    """Open the explorer on a file that another process captures into, and give the exit code.

    Raises:
        LaminarError: if there is no terminal, or there can be no such file.
    """
    from laminar_tui.tail import Following

    with nothing_collected():
        settings = _read_settings(options)
        depth = _prepare_environment(options)
        path = as_path(options.source)
        Following(path)  # says now what is wrong with the path
        app, terminal = _make_app(options, settings, depth, None, None, path)
    return _run(app, terminal, options)


def _read_settings(options: argparse.Namespace) -> Settings:
    """Read the settings, and fill in what was not typed.

    Raises:
        UsageError: if they cannot be read, or mean nothing.
    """
    settings = read_settings(options.config)
    for name in ("population", "estimator", "color_map"):
        setattr(options, name, settings.choose(name, getattr(options, name)))
    return settings


def _load(path: Path) -> "Profile":
    """Read a profile while a thread imports the app: it is mostly numpy and hashlib at work, which let others run.

    Raises:
        LaminarError: if it cannot be read.
    """
    from laminar_tui.profile.profile import Profile

    if os.isatty(2):  # else there will be no app
        threading.Thread(target=import_module, args=("laminar_tui.ui.app",), name="import ahead", daemon=True).start()
    return Profile.load(path)


def _make_app(
    options: argparse.Namespace,
    settings: Settings,
    depth: "Depth",
    request: "Request | None",
    profile: "Profile | None",
    follows: Path | None,
    reference: "Profile | None" = None,
    sweep: "SavedSweep | None" = None,
) -> "tuple[LaminarApp, TextIO]":
    """Make the app, and give the terminal that it draws on; from here on the standard streams lead to the log."""
    _need_terminal()
    if profile is not None and options.source:
        remember(options.source)

    from laminar_tui.profile.density import find_estimator
    from laminar_tui.profile.parts import population_parts
    from laminar_tui.render.columns import Look
    from laminar_tui.ui.explorer import Terminal
    from laminar_tui.ui.keymap import make_keymap
    from laminar_tui.ui.state import State

    population_parts(options.population, options.sink)
    linear = "reflected" if find_estimator(options.estimator).is_log else options.estimator
    look = Look(options.population, options.sink, options.estimator, settings.choose("scale"))  # type: ignore[arg-type]
    state = State(profile, look, color_map=options.color_map, linear=linear)
    folder, cut_off = _find_cut_off(offers=profile is None) if follows is None else (None, None)
    keymap = make_keymap(settings.keys, settings.path) if settings.path else {}
    terminal = _take_streams()

    from laminar_tui.ui.app import LaminarApp

    shown = Terminal(depth, options.ascii, _erases(), keymap, str(settings.path or ""))
    app = LaminarApp(state, request, shown, log_path(), cut_off, follows)
    app.theme = f"textual-{settings.choose('theme')}"
    app.explorer.runner.keep_in = folder
    app.explorer.reference = reference
    app.explorer.sweep = sweep
    return app, terminal


def _run(app: "LaminarApp", terminal: TextIO, options: argparse.Namespace) -> int:
    with collected_in_rests():
        app.run(mouse=not options.no_mouse)
    return _leave(app, terminal)


def _find_subject(options: argparse.Namespace) -> "tuple[Request | None, Profile | None]":
    """What to run, or the profile to open: exactly one of them."""
    from laminar_tui.profile.file import SUFFIX, looks_like_profile
    from laminar_tui.run import BUNDLED_MODEL, SAMPLE_PROFILE

    path = as_path(options.source)
    if options.sample:
        return None, _load(SAMPLE_PROFILE)
    if options.source and (path.suffix == SUFFIX or looks_like_profile(path)):
        return None, _load(path)
    find_source(options.source or str(BUNDLED_MODEL), options.revision)
    return make_request(options), None


def _find_sweep(options: argparse.Namespace) -> "SavedSweep | None":
    """The sweep in the folder that was given; None where it is not one."""
    from laminar_tui.profile.sweep_folder import SavedSweep, holds_sweep

    path = as_path(options.source)
    return SavedSweep.of_folder(path) if options.source and not options.sample and holds_sweep(path) else None


def _find_reference(options: argparse.Namespace, profile: "Profile | None") -> "tuple[Profile | None, Profile | None]":
    """The profile to show, and A of a comparison: SOURCE is A and the file B; for a model's run, the file is A."""
    if options.compare is None:
        return profile, None
    other = _load(as_path(options.compare))
    return (None, other) if profile is None else (other, profile)


def _need_terminal() -> None:
    """See that there is a terminal to draw on and to read keys from.

    Raises:
        UsageError: if there is none.
    """
    if sys.stdin is not None and not sys.stdin.isatty():
        try:
            keyboard = os.open("/dev/tty", os.O_RDONLY)
        except OSError:
            keyboard = -1
        if keyboard >= 0:
            os.dup2(keyboard, 0)
            os.close(keyboard)
    if sys.stdin is None or not (os.isatty(0) and os.isatty(2)) or os.environ.get("TERM", "dumb") == "dumb":
        raise UsageError(
            "the explorer needs a terminal", "without one, print a picture: laminar-tui show [SOURCE], or capture it"
        )


def _prepare_environment(options: argparse.Namespace) -> "Depth":
    """Settle the colours before Textual is imported: it takes an empty NO_COLOR for a set one."""
    if os.environ.get("NO_COLOR") == "":
        del os.environ["NO_COLOR"]
    depth = make_terminal_ramp(options, is_terminal=os.isatty(2)).depth
    os.environ["TEXTUAL_COLOR_SYSTEM"] = {"none": "standard", "16": "standard"}.get(depth, depth)
    # How long Textual waits after an Esc for the rest of a key's sequence: 0.1 s by itself, which is felt. What is not
    # there after 10 ms was typed: a terminal sends a key in one piece.
    os.environ.setdefault("ESCDELAY", "10")
    # How often Textual paints at most: after a key it waits for its next turn, 17 ms at worst by itself. Nothing here
    # moves by itself, so that no more is painted.
    os.environ.setdefault("TEXTUAL_FPS", "240")
    if "SSH_CONNECTION" in os.environ:
        os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
    return depth


def _erases() -> bool:
    """Whether the terminal can erase cells and gives them the ground that is set, as far as terminfo knows."""
    try:
        import curses
    except ImportError:  # not on every system
        return False
    try:
        curses.setupterm(fd=2)
    except curses.error:  # a terminal that it does not know
        return False
    return curses.tigetflag("bce") == 1 and curses.tigetstr("ech") == b"\x1b[%p1%dX"


def _find_cut_off(offers: bool) -> "tuple[Path | None, CutOff | None]":
    """The folder where a run's layers are kept, and a run in it that was cut off; None where nothing can be kept.

    Args:
        offers: whether to look for one: whoever opens a profile has said what to look at.
    """
    from laminar_tui.recovery import find_cut_off, runs_folder

    try:
        folder = runs_folder()
        return folder, find_cut_off(folder) if offers else None
    except OSError:
        return None, None


def _take_streams() -> TextIO:
    """Send file descriptors 1 and 2 and all warnings to the log, and hand a copy of the terminal to Textual."""
    terminal = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace")
    sys.stdout.flush()
    sys.stderr.flush()
    logging.captureWarnings(True)
    if not lead_into_log(1, 2):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        os.close(nowhere)
    # Textual draws on sys.__stderr__ and asks sys.__stdout__ for its size.
    sys.__stdout__ = terminal  # type: ignore[misc]
    sys.__stderr__ = terminal  # type: ignore[misc]
    return terminal


def _leave(app: "LaminarApp", terminal: TextIO) -> int:
    """Say what was saved, and go: a thread in a forward pass must not hold the process."""
    from laminar_tui.render.text import visible

    explorer = app.explorer
    code = int(app.return_code or ExitCode.DONE)
    if app.signal is None and not app.crash:
        explorer.runner.abandon()  # quit without writing it: the user goes without it
    with suppress(OSError):  # a terminal that was closed takes nothing more
        if app.crash:
            terminal.write(f"laminar-tui: a bug in laminar_tui: {visible(app.crash)}\n")
            terminal.write(f"  the whole story is in {visible(str(log_path()))}\n" if log_path() else "")
        if explorer.saved_path and explorer.runner.follows is None:
            terminal.write(f"wrote {visible(explorer.saved_path)}\n")
        terminal.flush()
    # To take torch's modules apart takes seconds, and all that is to be kept is on the disk by now.
    if explorer.runner.has_thread or "torch" in sys.modules:
        logging.shutdown()
        os._exit(code)
    return code

"""What a command is about: a saved profile, or a model that is run for one."""

import argparse
from typing import TYPE_CHECKING

from laminar_tui.commands.arguments import add_model_options, add_roles_option
from laminar_tui.commands.narration import narrated, only_results
from laminar_tui.errors import UsageError
from laminar_tui.options import make_request
from laminar_tui.source import as_path

if TYPE_CHECKING:
    from laminar_tui.profile.profile import Profile
    from laminar_tui.record import Record
    from laminar_tui.run import Event, Session


def add_subject(parser: argparse.ArgumentParser) -> None:
    """Let a command be about a profile or a model; its name is read by `name_of_subject`."""
    parser.add_argument("source", nargs="?", default="", metavar="FILE|SOURCE", help="a profile, or a model to run")
    parser.add_argument("--sample", action="store_true", help="take the profile that comes with the program")


def check_subject(options: argparse.Namespace) -> None:
    """See that one thing was named.

    Raises:
        UsageError: for a name beside the profile that comes with the program.
    """
    if options.sample and options.source:
        raise UsageError("--sample is a profile of its own", f"leave out {options.source}, or --sample")


def name_of_subject(options: argparse.Namespace) -> str:
    """The name that was given, or the path of the profile that comes with the program.

    Raises:
        UsageError: for both.
    """
    from laminar_tui.run import SAMPLE_PROFILE

    check_subject(options)
    return str(SAMPLE_PROFILE) if options.sample else options.source


def names_profile(name: str) -> bool:
    """Whether a name is that of a saved profile."""
    from laminar_tui.profile.file import SUFFIX, looks_like_profile

    path = as_path(name)
    return bool(name) and (path.suffix == SUFFIX or looks_like_profile(path))


def refuse_model_options(options: argparse.Namespace) -> None:
    """Refuse what only a model that is run could heed, beside a saved profile.

    Raises:
        UsageError: for the first of these options that was given another value than its own.
    """
    parser = argparse.ArgumentParser()
    add_model_options(parser)
    add_roles_option(parser)
    for name, value in vars(parser.parse_args([])).items():
        if getattr(options, name, value) != value:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{option} is about a run, and a saved profile is not run", "leave it out, or name a model"
            )


def open_profile(options: argparse.Namespace) -> "Profile":
    """Load a profile, or run the model that was named."""
    from laminar_tui.profile.profile import Profile

    if names_profile(name := name_of_subject(options)):
        refuse_model_options(options)
        return Profile.load(as_path(name))
    return run_model(options, quiet=False)


def run_model(
    options: argparse.Namespace, *, quiet: bool, record: "Record | None" = None, session: "Session | None" = None
) -> "Profile":
    """Run the model that was asked for; what is read on the way goes into a record.

    Args:
        record: of the request; left out, one of what the options say, without a journal.
        session: has the model in memory for the next request; left out, the model is let go of.
    """
    from laminar_tui.record import Record
    from laminar_tui.run import run

    kept = record or Record(make_request(options))
    with narrated(quiet) as narrate:

        def listen(event: "Event") -> None:
            kept.take(event)
            narrate(event)

        try:
            with only_results():
                profile = run(kept.request, listen, session=session)
            kept.end(profile)
        except BaseException as error:
            kept.fail(error)
            raise
    return profile

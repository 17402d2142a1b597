"""`laminar-tui report`: say in words and numbers which tokens, which heads, and whether it is more than chance."""

import argparse
from typing import TYPE_CHECKING

from laminar_tui.commands.arguments import add_log_options, add_model_options, add_roles_option
from laminar_tui.commands.results import check_format, check_target, put_out, tell_trust
from laminar_tui.commands.subject import add_subject, name_of_subject, names_profile, refuse_model_options, run_model
from laminar_tui.errors import UsageError
from laminar_tui.options import make_request
from laminar_tui.source import as_path

if TYPE_CHECKING:
    from laminar_tui.profile.profile import Profile


def make_parser() -> argparse.ArgumentParser:
    """Give the words that it takes."""
    parser = argparse.ArgumentParser(
        "laminar-tui report",
        description="Say in words and numbers how much is pressed to zero, which tokens the large weights fall on, and "
        "whether that is more than chance.",
    )
    add_subject(parser)
    parser.add_argument("--format", default="markdown", metavar="F", help="markdown or json")
    parser.add_argument("--json", action="store_const", const="json", dest="format", help="the same as --format json")
    parser.add_argument("-o", "--output", metavar="OUT", help="write it to a file")
    parser.add_argument(
        "--null",
        action="append",
        default=[],
        metavar="N",
        help="compare also with: random, shuffled (they need a SOURCE), or a profile from `capture --null`; repeatable",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on standard error")
    add_roles_option(parser)
    add_model_options(parser)
    add_log_options(parser)
    return parser


def report(options: argparse.Namespace) -> int:
    """Put the claims about a profile to the numbers."""
    from laminar_tui.profile.report import make_report
    from laminar_tui.profile.report_formats import report_json, report_markdown

    formats = {"markdown": report_markdown, "json": report_json}
    check_format(options.format, formats)
    check_target(options.output)
    profile, nulls = _open_with_nulls(options)
    text = formats[options.format](make_report(profile, nulls))
    put_out(text, options.output)
    return tell_trust(profile)


def _open_with_nulls(options: argparse.Namespace) -> "tuple[Profile, dict[str, Profile]]":
    """Load a profile or run a model, and the nulls that were asked for, on one model in memory."""
    from dataclasses import replace

    from laminar_tui.profile.profile import Profile
    from laminar_tui.record import Record
    from laminar_tui.run import Session

    source = name_of_subject(options)
    if names_profile(source):
        needs_model = [null for null in options.null if not names_profile(null)]
        if needs_model or options.roles:
            what = f"the null '{needs_model[0]}' needs" if needs_model else "roles need"
            raise UsageError(f"{what} the model, not a profile of it", "name the model, or capture it beforehand")
        refuse_model_options(options)
        profile = Profile.load(as_path(source))
    nulls = _load_nulls([name for name in options.null if names_profile(name)])
    if not names_profile(source):
        from laminar_tui.model.nulls import find_null

        to_run = [find_null(name) for name in dict.fromkeys(options.null) if not names_profile(name)]
        session, request = Session(keeps_patterns=False), make_request(options)
        profile = run_model(options, quiet=options.quiet, record=Record(request), session=session)
        for null in to_run:
            record = Record(replace(request, null=null.name, roles=False))
            nulls[null.title] = run_model(options, quiet=options.quiet, record=record, session=session)
    return profile, nulls


def _load_nulls(names: list[str]) -> "dict[str, Profile]":
    """Load nulls from files; each has its recipe and its file's name for a title, and a number where these are equal.

    Raises:
        UsageError: for a profile that is no null.
    """
    from laminar_tui.profile.profile import Profile

    nulls: dict[str, Profile] = {}
    titles = []
    for name in dict.fromkeys(names):
        null = Profile.load(as_path(name))
        if not null.origin.is_null:
            raise UsageError(f"{name} is no null", "make one: laminar-tui capture SOURCE --null random -o FILE")
        titles.append(f"{null.origin.null_title} ({as_path(name).name})")
        n = titles.count(titles[-1])
        nulls[titles[-1] if n == 1 else f"{titles[-1]} {n}"] = null
    return nulls

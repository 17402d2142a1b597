"""`laminar-tui compare`: say what changed between two profiles."""

import argparse

from laminar_tui.commands.results import check_format, put_out, tell_trust
from laminar_tui.source import as_path


def make_parser() -> argparse.ArgumentParser:
    """Give the words that it takes."""
    parser = argparse.ArgumentParser("laminar-tui compare", description="Say what changed between two profiles.")
    parser.add_argument("source", metavar="A", help="a profile")
    parser.add_argument("other", metavar="B", help="another one")
    parser.add_argument("--format", default="text", metavar="F", help="text or json")
    parser.add_argument("--json", action="store_const", const="json", dest="format", help="the same as --format json")
    parser.add_argument("--population", default="final", metavar="P", help="final, self, past, all")
    parser.add_argument("--sink", default="with", metavar="S", help="with, without, only")
    return parser


def compare_profiles(options: argparse.Namespace) -> int:
    """Say what changed between two profiles."""
    from laminar_tui.profile.compare import compare, comparison_json, comparison_text
    from laminar_tui.profile.profile import Profile

    formats = {"text": comparison_text, "json": comparison_json}
    check_format(options.format, formats)
    one, other = (Profile.load(as_path(name)) for name in (options.source, options.other))
    text = formats[options.format](compare(one, other, options.population, options.sink))
    put_out(text, None)
    return max(tell_trust(one), tell_trust(other))

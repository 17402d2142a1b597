"""`laminar-tui tail`: follow a capture that another process is running."""

import argparse
import sys

from laminar_tui.commands.arguments import add_log_options, add_look_options, add_settings_option
from laminar_tui.commands.results import tell_trust
from laminar_tui.source import as_path


def make_parser() -> argparse.ArgumentParser:
    """Give the words that it takes."""
    parser = argparse.ArgumentParser(
        "laminar-tui tail",
        description="Follow a capture into FILE that another process is running (its layers are in FILE.partial, the "
        "counts of a corpus in FILE.progress): in the explorer on a terminal, a line for each layer, or each time that "
        "a corpus keeps its counts, elsewhere. Waits for a FILE that does not exist yet; "
        "leaving it does not stop the capture.",
    )
    parser.add_argument("source", metavar="FILE", help="the file that is named by -o of `laminar-tui capture`")
    parser.add_argument("--plain", action="store_true", help="a line for each layer on a terminal too")
    add_look_options(parser)
    add_settings_option(parser)
    add_log_options(parser)
    parser.add_argument("--no-mouse", action="store_true", help="leave the mouse to the terminal")
    return parser


def tail(options: argparse.Namespace) -> int:
    """Follow a capture that another process is running."""
    from laminar_tui.tail import print_growth

    if sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty() and not options.plain:
        from laminar_tui.ui.start import start_tail

        return start_tail(options)
    return tell_trust(print_growth(as_path(options.source)))

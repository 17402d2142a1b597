"""`laminar-tui`: open the explorer."""

import argparse

from laminar_tui import __version__
from laminar_tui.commands.arguments import (
    add_log_options,
    add_look_options,
    add_model_options,
    add_roles_option,
    add_settings_option,
)

SUMMARY = "How the attention weights of a causal language model are distributed: a terminal explorer."
EPILOG = """\
commands:
  laminar-tui [SOURCE]                open the explorer
  laminar-tui capture SOURCE -o FILE  read the weights into a profile file, on a prompt or a whole corpus
  laminar-tui show FILE|SOURCE        print a picture or a curve
  laminar-tui export FILE --to npz    write densities, counts and numbers for other programs
  laminar-tui report FILE|SOURCE      say in words and numbers which tokens, which heads, more than chance?
  laminar-tui compare A B             say what changed between two profiles
  laminar-tui sweep A B ...           a model over its training: profiles of its revisions, or MODEL --revisions R,R
  laminar-tui tail FILE               look at a capture into FILE that another process is running
  laminar-tui check SOURCE            prove on a model that what is read is what it uses
  laminar-tui COMMAND --help          the options of a command

SOURCE is a hub id (owner/name or owner/name@revision), a model's folder, a .gguf file, a saved profile
(.laminar), a folder of profiles that `sweep -o` has written, or nothing: the bundled model.

exit codes: 0 done, 2 wrong use, 3 the model or its weights cannot be trusted, 4 bad profile file, 130 interrupted
"""


def make_parser() -> argparse.ArgumentParser:
    """Give the words that it takes."""
    parser = argparse.ArgumentParser(
        "laminar-tui", description=SUMMARY, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"laminar-tui {__version__}")
    parser.add_argument("source", nargs="?", default="", metavar="SOURCE", help="what to open (see below)")
    parser.add_argument("--sample", action="store_true", help="open the profile that comes with the program")
    parser.add_argument("--compare", metavar="FILE", help="a saved profile to compare SOURCE with")
    add_model_options(parser)
    add_look_options(parser)
    add_settings_option(parser)
    add_roles_option(parser)
    add_log_options(parser)
    parser.add_argument("--no-mouse", action="store_true", help="leave the mouse to the terminal")
    return parser


def explore(options: argparse.Namespace) -> int:
    """Open the explorer."""
    from laminar_tui.commands.subject import check_subject, names_profile, refuse_model_options
    from laminar_tui.profile.sweep_folder import holds_sweep
    from laminar_tui.source import as_path
    from laminar_tui.ui.start import start_app

    check_subject(options)
    if options.sample or names_profile(options.source) or (options.source and holds_sweep(as_path(options.source))):
        refuse_model_options(options)
    return start_app(options)

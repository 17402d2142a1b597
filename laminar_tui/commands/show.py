"""`laminar-tui show`: print a picture or a curve."""

import argparse
import sys
from typing import TYPE_CHECKING

from laminar_tui.commands.arguments import add_log_options, add_look_options, add_model_options, cells
from laminar_tui.commands.picture import check_place, make_look, make_page
from laminar_tui.commands.results import tell_trust
from laminar_tui.commands.subject import add_subject, open_profile
from laminar_tui.errors import UsageError

if TYPE_CHECKING:
    from laminar_tui.profile.profile import Profile


def make_parser() -> argparse.ArgumentParser:
    """Give the words that it takes."""
    parser = argparse.ArgumentParser("laminar-tui show", description="Print a picture or a curve, and go.")
    add_subject(parser)
    parser.add_argument("--view", default=None, metavar="NAME", help="overview, layer, head or lines")
    parser.add_argument("--layer", type=int, metavar="L", help="the layer to look at")
    parser.add_argument("--head", type=int, metavar="H", help="the head of that layer")
    parser.add_argument("--width", type=cells, metavar="W", help="in cells (default: the terminal's)")
    parser.add_argument("--height", type=cells, metavar="H", help="in rows (default: 24)")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON instead")
    add_model_options(parser)
    add_look_options(parser)
    add_log_options(parser)
    return parser


def show(options: argparse.Namespace) -> int:
    """Print a view of a profile, or of a model that is run for it."""
    from laminar_tui.render.rows import to_ansi
    from laminar_tui.render.views import VIEWS, Place

    look, page = make_look(options), make_page(options)
    name = options.view or ("overview" if options.layer is None else "layer" if options.head is None else "head")
    if name not in VIEWS:
        raise UsageError(f"there is no view '{name}'", f"choose one of: {', '.join(VIEWS)}")
    check_place(options)
    if options.json and options.layer is not None:
        raise UsageError("--json prints every layer", "leave --layer and --head out, or --json")
    profile = open_profile(options)
    _check_place_in(profile, options)
    if options.json:
        from laminar_tui.export import profile_summary

        print(profile_summary(profile))
        return tell_trust(profile)
    rows = VIEWS[name](profile, look, Place(options.layer, options.head), page)
    sys.stdout.write(to_ansi(rows, page.ramp.depth))
    return tell_trust(profile)


def _check_place_in(profile: "Profile", options: argparse.Namespace) -> None:
    if options.layer is not None:
        profile.layer(options.layer)
        if options.head is not None:
            profile.check_head(options.layer, options.head)

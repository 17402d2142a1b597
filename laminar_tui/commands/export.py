"""`laminar-tui export`: write a profile for other programs."""

import argparse

from laminar_tui.commands.arguments import add_look_options, points
from laminar_tui.commands.results import check_format, tell_trust
from laminar_tui.errors import UsageError
from laminar_tui.source import as_path


def make_parser() -> argparse.ArgumentParser:
    """Give the words that it takes."""
    parser = argparse.ArgumentParser(
        "laminar-tui export", description="Write a profile's densities, counts and numbers for other programs."
    )
    parser.add_argument("source", metavar="FILE", help="a profile")
    parser.add_argument("--to", required=True, metavar="FORMAT", help="npz, json, csv, svg or png")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="the file to write; `-` for stdout")
    parser.add_argument(
        "--n-grid", type=points, default=300, metavar="N", help="npz, json: points of the density grid (300)"
    )
    parser.add_argument("--layer", type=int, metavar="L", help="svg, png: the heads of one layer")
    add_look_options(parser, estimator="gaussian", color_map="magma", on_terminal=False)
    return parser


def export(options: argparse.Namespace) -> int:
    """Write a profile in another format."""
    from laminar_tui.export import export_profile
    from laminar_tui.profile.profile import Profile

    _check_read(options)
    profile = Profile.load(as_path(options.source))
    export_profile(
        profile,
        options.to,
        options.output if options.output == "-" else as_path(options.output),
        estimator=options.estimator,
        n_grid=options.n_grid,
        population=options.population,
        sink=options.sink,
        layer=options.layer,
        color_map=options.color_map,
    )
    return tell_trust(profile)


def _check_read(options: argparse.Namespace) -> None:
    """Refuse an option that was given another value than its own, and that the format does not read.

    Raises:
        UsageError: for the first of them, or an unknown format.
    """
    from laminar_tui.export import EXPORTS

    check_format(options.to, EXPORTS)
    parser, reads = make_parser(), EXPORTS[options.to].reads
    for name in ("estimator", "n_grid", "population", "sink", "layer", "color_map"):
        if name not in reads and getattr(options, name) != parser.get_default(name):
            raise UsageError(
                f"--{name.replace('_', '-')} is nothing that {options.to} reads",
                f"leave it out; {options.to} is {EXPORTS[options.to].description}",
            )

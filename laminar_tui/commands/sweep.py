"""`laminar-tui sweep`: show a model over its training."""

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from laminar_tui.commands.arguments import add_log_options, add_look_options, add_model_options, cells
from laminar_tui.commands.narration import narrated, only_results
from laminar_tui.commands.picture import check_place, make_look, make_page
from laminar_tui.commands.results import tell_trust
from laminar_tui.commands.subject import names_profile, refuse_model_options
from laminar_tui.errors import UsageError
from laminar_tui.options import make_request
from laminar_tui.source import as_path

if TYPE_CHECKING:
    from laminar_tui.profile.profile import Profile
    from laminar_tui.profile.sweep import Sweep
    from laminar_tui.render.columns import Look
    from laminar_tui.render.views import Page


def make_parser() -> argparse.ArgumentParser:
    """Give the words that it takes."""
    parser = argparse.ArgumentParser(
        "laminar-tui sweep",
        description="Show how a model's weights change in training: a column and a line for each revision, ordered by "
        "the training step in its name, those without one last. With --revisions, MODEL (a hub id, or a folder whose "
        "sub-folders are the revisions) is read at each, one in memory at a time.",
    )
    parser.add_argument(
        "sources", nargs="+", metavar="FILE|MODEL", help="profiles of one model, their folder, or the model"
    )
    parser.add_argument("--revisions", metavar="R,R", help="read MODEL at these: step1000,step143000,main")
    parser.add_argument(
        "-o", "--output", metavar="FOLDER", help="save each profile there, and do not read again what is there"
    )
    parser.add_argument("--layer", type=int, metavar="L", help="one layer (default: all layers pooled)")
    parser.add_argument("--head", type=int, metavar="H", help="one head of that layer")
    parser.add_argument("--width", type=cells, metavar="W", help="in cells (default: the terminal's)")
    parser.add_argument("--height", type=cells, metavar="H", help="of the picture, in rows (default: 24)")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON instead")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on standard error")
    add_model_options(parser)
    add_look_options(parser)
    add_log_options(parser)
    return parser


def sweep(options: argparse.Namespace) -> int:
    """Show a model over its training."""
    from dataclasses import replace

    from laminar_tui.profile.sweep import Place, make_sweep, name_profiles, read_step, sweep_json

    look, page = make_look(options), make_page(options)
    check_place(options)
    place = Place(options.layer, options.head, options.population, options.sink)
    steps = [read_step(profile, name, place) for name, profile in _sweep_profiles(options)]
    names = [step.name for step in steps]
    if options.revisions is None:
        names = name_profiles([step.origin for step in steps], names)
    found = make_sweep([replace(step, name=name) for step, name in zip(steps, names, strict=True)], place)
    if options.json:
        print(sweep_json(found))
    else:
        _print_sweep(found, look, page)
    return max(tell_trust(step) for step in found.steps)


def _sweep_profiles(options: argparse.Namespace) -> "Iterator[tuple[str, Profile]]":
    """Load the profiles that were named, or read a model at each revision; one at a time, with a name for each."""
    from laminar_tui.profile.profile import Profile
    from laminar_tui.profile.sweep_folder import find_profiles
    from laminar_tui.run import Step
    from laminar_tui.sweep_run import SweepRequest, capture_sweep, parse_revisions

    if options.revisions is None:
        refuse_model_options(options)
        if options.output is not None:
            raise UsageError("--output keeps what --revisions reads", "leave it out, or name a model and --revisions")
        for name in _sweep_files(options.sources):
            if not names_profile(name):
                if as_path(name).is_dir() and len(find_profiles(as_path(name))) == 1:
                    raise UsageError(
                        f"{name} holds one profile; a sweep needs two or more",
                        "save more of them there, or look at the one: laminar-tui show FILE",
                    )
                raise UsageError(f"{name} is no profile", "a model is read at several revisions: --revisions R,R")
            yield as_path(name).stem, Profile.load(as_path(name))
        return
    if len(options.sources) > 1 or names_profile(options.sources[0]):
        raise UsageError("--revisions are of one model", "name the model alone, or profiles without --revisions")
    if options.revision:
        raise UsageError("--revision and --revisions are two things", "leave one of them out")
    options.source = options.sources[0]
    revisions = parse_revisions(options.revisions)
    folder = None if options.output is None else as_path(options.output)
    with only_results(), narrated(options.quiet) as narrate:
        profiles = capture_sweep(SweepRequest(make_request(options), revisions, folder), narrate, lambda: False)
        yield from zip(revisions, profiles, strict=True)
        if folder is not None:
            narrate(Step(f"kept in {folder}: `laminar-tui {folder}` opens them"))


def _sweep_files(names: list[str]) -> list[str]:
    """Put the profiles of a folder that `-o` has written in the folder's place."""
    from laminar_tui.profile.sweep_folder import find_profiles, holds_sweep

    found = [find_profiles(as_path(name)) if holds_sweep(as_path(name)) else [name] for name in names]
    return [str(path) for paths in found for path in paths]


def _print_sweep(found: "Sweep", look: "Look", page: "Page") -> None:
    from laminar_tui.render.rows import to_ansi
    from laminar_tui.render.sweep import draw_sweep

    sys.stdout.write(to_ansi(draw_sweep(found, look, page), page.ramp.depth))

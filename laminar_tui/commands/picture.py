"""The picture that a command prints: what is looked at, and on how many cells."""

import argparse
import shutil
from typing import TYPE_CHECKING

from laminar_tui.errors import UsageError
from laminar_tui.options import make_terminal_ramp

if TYPE_CHECKING:
    from laminar_tui.render.columns import Look
    from laminar_tui.render.views import Page

LEAST_WIDTH, LEAST_HEIGHT = 20, 8
"""Cells below which there is no room for a picture beside its labels."""
USUAL_HEIGHT = 24


def make_look(options: argparse.Namespace) -> "Look":
    """Gather which weights are looked at and how their density is estimated.

    Raises:
        UsageError: for a population, a sink choice or an estimator that does not exist.
    """
    from laminar_tui.profile.density import find_estimator
    from laminar_tui.profile.parts import population_parts
    from laminar_tui.render.columns import Look

    population_parts(options.population, options.sink)
    find_estimator(options.estimator)
    return Look(options.population, options.sink, options.estimator)


def make_page(options: argparse.Namespace) -> "Page":
    """Choose the colours that standard output can show, and the cells: those asked for, or the terminal's width.

    Raises:
        UsageError: for a colour map or a depth that does not exist.
    """
    from laminar_tui.render.views import Page

    width = options.width or shutil.get_terminal_size((80, USUAL_HEIGHT)).columns
    height = options.height or USUAL_HEIGHT
    return Page(max(LEAST_WIDTH, width), max(LEAST_HEIGHT, height), make_terminal_ramp(options), options.ascii)


def check_place(options: argparse.Namespace) -> None:
    """Refuse a head of no layer.

    Raises:
        UsageError: if there is a --head without a --layer.
    """
    if options.head is not None and options.layer is None:
        raise UsageError("--head needs a --layer", "for example --layer 2 --head 3")

"""What the commands and the explorer make of the words on the command line."""

import argparse
import os
import sys
from typing import TYPE_CHECKING

from laminar_tui.errors import PromptError, UsageError

if TYPE_CHECKING:
    from laminar_tui.render.palette import Ramp
    from laminar_tui.run import Request


def make_request(options: argparse.Namespace) -> "Request":
    """Gather what was asked for; reads the prompt's file or standard input.

    Raises:
        PromptError: for a prompt without text.
        UsageError: if the file cannot be read, or an amount of memory is none.
    """
    from laminar_tui.run import Request, read_prompt_file, without_file_end
    from laminar_tui.sizes import parse_size

    prompt = options.prompt
    if options.prompt_file is not None:
        prompt = read_prompt_file(options.prompt_file)
    elif prompt == "-":
        try:
            prompt = without_file_end(sys.stdin.read()) if sys.stdin is not None else ""
        except UnicodeDecodeError as error:
            raise UsageError("standard input is no UTF-8 text", "convert it, for example with iconv") from error
    if prompt == "":
        raise PromptError.empty()  # before a model is loaded for it
    return Request(
        options.source,
        prompt,
        options.revision,
        options.dtype,
        options.device,
        options.device_map,
        options.max_tokens,
        options.recipe,
        bos=options.bos,
        chat=options.chat,
        null=getattr(options, "take_null", ""),
        roles=getattr(options, "roles", False),
        max_memory=parse_size(options.max_memory) if options.max_memory else None,
        timeout=options.timeout,
        allow_pickle=options.allow_pickle,
    )


def make_terminal_ramp(options: argparse.Namespace, *, is_terminal: bool | None = None) -> "Ramp":
    """Choose colours for what the terminal can show.

    Args:
        is_terminal: whether what is drawn on is one; None for standard output.

    Raises:
        UsageError: for a colour map or a depth that does not exist.
    """
    from laminar_tui.render.palette import check_color_map, detect_depth, make_ramp

    depths = ("truecolor", "256", "16", "none")
    check_color_map(options.color_map)
    if options.color not in ("auto", *depths):
        raise UsageError(f"there is no colour depth '{options.color}'", f"choose one of: auto, {', '.join(depths)}")
    is_terminal = sys.stdout.isatty() if is_terminal is None else is_terminal
    depth = detect_depth(os.environ, is_terminal) if options.color == "auto" else options.color
    return make_ramp(options.color_map, depth, ascii_only=options.ascii)

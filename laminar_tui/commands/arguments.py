"""Options that several commands take, and what their values may be."""

import argparse
from functools import partial

MOST_CELLS = 5000
MOST_GRID = 100_000


def add_roles_option(parser: argparse.ArgumentParser) -> None:
    """Let a command that runs a model measure what its heads do."""
    parser.add_argument(
        "--roles", action="store_true", help="also measure what the heads do on repeated random tokens (induction, ...)"
    )


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Let a command run a model: what `options.make_request` reads."""
    group = parser.add_argument_group("model and prompt")
    prompt = group.add_mutually_exclusive_group()
    prompt.add_argument("--prompt", metavar="TEXT", help="the text to run the model on; `-` reads standard input")
    prompt.add_argument(
        "--prompt-file",
        metavar="FILE",
        help="read the prompt from a file. The line break that ends it is left out, also from standard input; end it "
        "with an empty line to keep one",
    )
    group.add_argument("--bos", action="store_true", help="begin with the tokenizer's beginning-of-sequence token")
    group.add_argument("--chat", action="store_true", help="wrap the prompt in the tokenizer's chat template")
    group.add_argument("--revision", metavar="R", help="a branch, tag or commit of the hub repository")
    group.add_argument("--dtype", default="auto", metavar="D", help="auto, float32, bfloat16, float16")
    group.add_argument("--device", metavar="DEV", help="cpu, cuda, cuda:1 (default: a GPU if there is one)")
    group.add_argument("--device-map", metavar="MAP", help="`auto` spreads the layers over several devices")
    group.add_argument("--max-tokens", type=positive, metavar="N", help="cut the prompt after N tokens")
    group.add_argument("--max-memory", metavar="SIZE", help="no more than that on a device, like 8GB")
    group.add_argument(
        "--timeout", type=positive_seconds, default=60.0, metavar="S", help="give the hub up after S idle seconds (60)"
    )
    group.add_argument("--allow-pickle", action="store_true", help="open parameters whose format can run code")
    group.add_argument(
        "--recipe", default="true", metavar="R", help="true, or a control that is not the model's: literal, content"
    )


def add_look_options(
    parser: argparse.ArgumentParser,
    estimator: str = "reflected",
    color_map: str = "viridis",
    *,
    on_terminal: bool = True,
) -> None:
    """Let a command say what is looked at, and in which colours."""
    group = parser.add_argument_group("picture")
    group.add_argument("--population", default="final", metavar="P", help="final, self, past, all")
    group.add_argument("--sink", default="with", metavar="S", help="with, without, only")
    group.add_argument("--estimator", default=estimator, metavar="E", help="reflected, gaussian, histogram, log")
    group.add_argument("--color-map", default=color_map, metavar="C", help="viridis, magma, cividis, gray, inferno")
    if on_terminal:
        group.add_argument("--color", default="auto", metavar="DEPTH", help="auto, truecolor, 256, 16, none")
        same = "the same as --color none"
        group.add_argument("--no-color", action="store_const", const="none", dest="color", help=same)
        group.add_argument("--ascii", action="store_true", help="nothing but ASCII characters")


def add_settings_option(parser: argparse.ArgumentParser) -> None:
    """Let a command that opens the explorer name a file of settings; what is not typed is then left to it."""
    where = "laminar-tui/config.toml in the XDG configuration folder"
    parser.add_argument("--config", metavar="FILE", help=f"settings and keys, in TOML (default: {where})")
    parser.set_defaults(population=None, estimator=None, color_map=None)


def add_log_options(parser: argparse.ArgumentParser) -> None:
    """Let a command say where its log goes, and how much: what `log.start_log_for` reads."""
    group = parser.add_argument_group("log")
    group.add_argument("--log-file", metavar="FILE", help="write the log there (default: in the XDG state folder)")
    group.add_argument("-v", "--verbose", action="store_true", help="more of it")
    group.add_argument("--log-prompt", action="store_true", help="with the prompt's text, which is otherwise left out")


def positive(text: str) -> int:
    """Read a number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value


def positive_seconds(text: str) -> float:
    """Read a time to wait, in seconds."""
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is no time to wait")
    return value


def seconds(text: str) -> float:
    """Read a time, in seconds, that may be none at all."""
    return 0.0 if float(text) == 0 else positive_seconds(text)


def _at_most(text: str, most: int) -> int:
    value = int(text)
    if not 1 <= value <= most:
        raise argparse.ArgumentTypeError(f"{value} is not in 1 to {most:,}")
    return value


cells = partial(_at_most, most=MOST_CELLS)
points = partial(_at_most, most=MOST_GRID)

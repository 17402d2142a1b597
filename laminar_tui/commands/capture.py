"""`laminar-tui capture`: read the weights of a model on a prompt, or on a corpus, into a profile file."""

import argparse
import sys
from typing import TYPE_CHECKING

from laminar_tui.commands.arguments import add_log_options, add_model_options, add_roles_option
from laminar_tui.commands.corpus import add_corpus_options, capture_corpus
from laminar_tui.commands.results import check_target, shown, tell, tell_trust
from laminar_tui.commands.subject import run_model
from laminar_tui.errors import UsageError
from laminar_tui.options import make_request
from laminar_tui.source import as_path

if TYPE_CHECKING:
    from laminar_tui.record import Record


def make_parser() -> argparse.ArgumentParser:
    """Give the words that it takes."""
    parser = argparse.ArgumentParser(
        "laminar-tui capture",
        description="Run a model on a prompt, or on a corpus, and write what its attention weights are. Until FILE is "
        "written, the layers of a prompt are kept in FILE.partial, which survives a kill: `laminar-tui tail FILE` "
        "follows it, and `laminar-tui FILE.partial` opens what a run that was cut off has left.",
    )
    parser.add_argument("source", nargs="?", default="", metavar="SOURCE", help="hub id, folder or .gguf file")
    parser.add_argument("-o", "--output", metavar="FILE", help="the profile to write; `-` for standard output")
    parser.add_argument("--json", action="store_true", help="print a summary as JSON")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on standard error")
    add_roles_option(parser)
    parser.add_argument(
        "--null",
        dest="take_null",
        default="",
        metavar="N",
        help="run for chance: random (random parameters) or shuffled (the same tokens in another order)",
    )
    add_corpus_options(parser)
    add_model_options(parser)
    add_log_options(parser)
    return parser


def capture(options: argparse.Namespace) -> int:
    """Read the weights into a profile file."""
    if not options.output and not options.json:
        raise UsageError("there is nowhere to put the profile", "name a file with -o FILE.laminar")
    if options.output == "-" and options.json:
        raise UsageError("standard output has room for the profile or for --json", "name a file with -o FILE.laminar")
    check_target(options.output)
    if options.corpus is not None:
        return capture_corpus(options)
    for name in ("field", "limit", "resume", "threads"):
        if getattr(options, name):
            raise UsageError(f"--{name} is about a corpus", "name one with --corpus FILE")
    record = _keep_capture(options)
    try:
        profile = run_model(options, quiet=options.quiet, record=record)
    except BaseException:
        _say_kept(record)
        raise
    if options.output == "-":
        from laminar_tui.profile.file import profile_bytes

        sys.stdout.buffer.write(profile_bytes(profile))
    elif options.output:
        profile.save(as_path(options.output))
        if not options.quiet:
            tell(f"wrote {shown(options.output)}")
    if options.json:
        from laminar_tui.export import profile_summary

        print(profile_summary(profile))
    _forget(record, options.output)
    return tell_trust(profile)


def _keep_capture(options: argparse.Namespace) -> "Record":
    """Begin to keep a capture's layers, beside its file or in the state folder, and say what was cut off before."""
    from laminar_tui.record import Record
    from laminar_tui.recovery import find_cut_off, journal_beside, runs_folder
    from laminar_tui.render.text import visible

    def say(sentence: str) -> None:
        tell(f"laminar-tui: {visible(sentence)}")

    request = make_request(options)
    try:
        folder = runs_folder()
        if (cut_off := find_cut_off(folder)) is not None:
            say(f"{cut_off.sentence()}; the explorer offers it: laminar-tui")
            cut_off.close()
    except OSError:
        folder = None
    if options.output and options.output != "-":
        return Record(request, journal_beside(as_path(options.output), say))
    return Record(request, folder=folder)


def _say_kept(record: "Record") -> None:
    """Say where the layers of a capture are that did not come to its end."""
    from laminar_tui.render.text import visible

    if record.journal is not None:
        path = visible(str(record.journal.path))
        tell(f"laminar-tui: {record.journal.n_layers} layers are kept: laminar-tui {path}")
        record.close()


def _forget(record: "Record", output: str | None) -> None:
    """Take away what was kept of a capture, and of an earlier one into the same file: the whole is there now."""
    from laminar_tui.profile.journal import partial_path
    from laminar_tui.recovery import old_path

    record.remove()
    if output and output != "-":
        old_path(partial_path(as_path(output))).unlink(missing_ok=True)

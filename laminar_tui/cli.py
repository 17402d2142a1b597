"""Words on the command line -> a call; errors -> exit codes. Results go to standard output, all else to standard error.

Only the standard library is imported here: what a command needs is imported when it runs, so that `--help` is at once.
"""

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from laminar_tui import __version__
from laminar_tui.errors import CancelledError, ExitCode, LaminarError, UsageError
from laminar_tui.options import make_request, make_terminal_ramp
from laminar_tui.source import as_path

if TYPE_CHECKING:
    from laminar_tui.model.check import Verdict
    from laminar_tui.profile.profile import Profile
    from laminar_tui.profile.sweep import Sweep, SweepStep
    from laminar_tui.record import Record
    from laminar_tui.run import Event

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
(.laminar), or nothing: the bundled model.

exit codes: 0 done, 2 wrong use, 3 the model or its weights cannot be trusted, 4 bad profile file, 130 interrupted
"""

Command = Callable[[argparse.Namespace], int]

MOST_SHOWN = 300
"""Characters of a message; a path or an option may be of any length."""
MOST_CELLS = 5000
MOST_GRID = 100_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = words.pop(0) if words and words[0] in COMMANDS else ""
    parse, execute = COMMANDS[command]
    parser = parse()
    parser.error = partial(_refuse_words, parser)  # type: ignore[method-assign]
    options = parser.parse_args(words)
    # Libraries draw progress bars where the program's own lines or its picture belong.
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    # What is fetched for speed is code all the same.
    os.environ.setdefault("USE_HUB_KERNELS", "NO")
    try:
        if "log_file" in options:
            from laminar_tui.log import start_log_for

            start_log_for(options, command)
        code = execute(options)
        sys.stdout.flush()  # at exit, a full disk would be told by a traceback
        return code
    except LaminarError as error:
        report(error)
        return int(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # The reader of a pipe has gone, like `head`: nothing more to say, and nobody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.DONE)
    except (OSError, MemoryError) as error:
        # The machine's, not the program's: most likely standard output is on a full disk.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        report(UsageError(getattr(error, "strerror", None) or "there is not enough memory", "make room, and try again"))
        return int(ExitCode.USAGE)


def report(error: LaminarError) -> None:
    """Say what went wrong and what to do, in two harmless lines."""
    print(f"laminar-tui: {_shown(error.message)}", file=sys.stderr)
    if error.hint:
        print(f"  {_shown(error.hint)}", file=sys.stderr)


def _refuse_words(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    """Leave because of wrong words; argparse itself would print them as they are, after a page of usage."""
    print(f"{parser.prog}: error: {_shown(message)}\n  {parser.prog} --help lists what it takes", file=sys.stderr)
    raise SystemExit(int(ExitCode.USAGE))


def _shown(text: str) -> str:
    """Text from outside on one line, harmless, and no longer than anybody reads."""
    from laminar_tui.render.text import visible

    shown = visible(text[: MOST_SHOWN + 1])
    return shown if len(shown) <= MOST_SHOWN else shown[: MOST_SHOWN - 1] + "…"


# -- the parsers -----------------------------------------------------------------------------------------------------


def _explore_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "laminar-tui", description=SUMMARY, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"laminar-tui {__version__}")
    parser.add_argument("source", nargs="?", default="", metavar="SOURCE", help="what to open (see below)")
    parser.add_argument("--sample", action="store_true", help="open the profile that comes with the program")
    parser.add_argument("--compare", metavar="FILE", help="a saved profile to compare SOURCE with")
    _add_model_options(parser)
    _add_look_options(parser)
    _add_roles_option(parser)
    _add_log_options(parser)
    parser.add_argument("--no-mouse", action="store_true", help="leave the mouse to the terminal")
    return parser


def _capture_parser() -> argparse.ArgumentParser:
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
    _add_roles_option(parser)
    parser.add_argument(
        "--null",
        dest="take_null",
        default="",
        metavar="N",
        help="run for chance: random (random parameters) or shuffled (the same tokens in another order)",
    )
    _add_corpus_options(parser)
    _add_model_options(parser)
    _add_log_options(parser)
    return parser


def _show_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("laminar-tui show", description="Print a picture or a curve, and go.")
    parser.add_argument("source", nargs="?", default="", metavar="FILE|SOURCE", help="a profile, or a model to run")
    parser.add_argument("--view", default=None, metavar="NAME", help="overview, layer, head or lines")
    parser.add_argument("--layer", type=int, metavar="L", help="the layer to look at")
    parser.add_argument("--head", type=int, metavar="H", help="the head of that layer")
    parser.add_argument("--width", type=_cells, metavar="W", help="in cells (default: the terminal's)")
    parser.add_argument("--height", type=_cells, metavar="H", help="in rows (default: 24)")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON instead")
    _add_model_options(parser)
    _add_look_options(parser)
    _add_log_options(parser)
    return parser


def _export_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "laminar-tui export", description="Write a profile's densities, counts and numbers for other programs."
    )
    parser.add_argument("source", metavar="FILE", help="a profile")
    parser.add_argument("--to", required=True, metavar="FORMAT", help="npz, json, csv, svg or png")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="the file to write; `-` for stdout")
    parser.add_argument("--n-grid", type=_points, default=300, metavar="N", help="points of the density grid (300)")
    parser.add_argument("--layer", type=int, metavar="L", help="svg, png: the heads of one layer")
    _add_look_options(parser, estimator="gaussian")
    return parser


def _tail_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "laminar-tui tail",
        description="Follow a capture into FILE that another process is running (its layers are in FILE.partial): in "
        "the explorer on a terminal, a line for each layer elsewhere. Waits for a FILE that does not exist yet; "
        "leaving it does not stop the capture.",
    )
    parser.add_argument("source", metavar="FILE", help="the file that is named by -o of `laminar-tui capture`")
    parser.add_argument("--plain", action="store_true", help="a line for each layer on a terminal too")
    _add_look_options(parser)
    _add_log_options(parser)
    parser.add_argument("--no-mouse", action="store_true", help="leave the mouse to the terminal")
    return parser


def _check_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "laminar-tui check",
        description="Compare every weight that is read with the model's own eager run, layer by layer, on a short "
        "prompt (at most 128 tokens), and with readings that are known to be wrong.",
    )
    parser.add_argument("source", nargs="?", default="", metavar="SOURCE", help="hub id, folder or .gguf file")
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on standard error")
    _add_model_options(parser)
    _add_log_options(parser)
    return parser


def _report_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "laminar-tui report",
        description="Say in words and numbers how much is pressed to zero, which tokens the large weights fall on, and "
        "whether that is more than chance.",
    )
    parser.add_argument("source", nargs="?", default="", metavar="FILE|SOURCE", help="a profile, or a model to run")
    parser.add_argument("--format", default="markdown", metavar="F", help="markdown or json")
    parser.add_argument("--json", action="store_const", const="json", dest="format", help="the same as --format json")
    parser.add_argument("-o", "--output", metavar="OUT", help="write it to a file")
    parser.add_argument(
        "--null",
        action="append",
        default=[],
        metavar="N",
        help="compare also with: random, shuffled (they need a SOURCE), or a profile from `capture --null`; repeatable",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on standard error")
    _add_roles_option(parser)
    _add_model_options(parser)
    return parser


def _compare_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("laminar-tui compare", description="Say what changed between two profiles.")
    parser.add_argument("source", metavar="A", help="a profile")
    parser.add_argument("other", metavar="B", help="another one")
    parser.add_argument("--format", default="text", metavar="F", help="text or json")
    parser.add_argument("--json", action="store_const", const="json", dest="format", help="the same as --format json")
    parser.add_argument("--population", default="final", metavar="P", help="final, self, past, all")
    parser.add_argument("--sink", default="with", metavar="S", help="with, without, only")
    return parser


def _sweep_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "laminar-tui sweep",
        description="Show how a model's weights change in training: a column and a line for each revision, ordered by "
        "the training step in its name, those without one last. With --revisions, MODEL (a hub id, or a folder whose "
        "sub-folders are the revisions) is read at each, one in memory at a time.",
    )
    parser.add_argument("sources", nargs="+", metavar="FILE|MODEL", help="profiles of one model, or the model")
    parser.add_argument("--revisions", metavar="R,R", help="read MODEL at these: step1000,step143000,main")
    parser.add_argument(
        "-o", "--output", metavar="FOLDER", help="save each profile there, and do not read again what is there"
    )
    parser.add_argument("--layer", type=int, metavar="L", help="one layer (default: all layers pooled)")
    parser.add_argument("--head", type=int, metavar="H", help="one head of that layer")
    parser.add_argument("--width", type=_cells, metavar="W", help="in cells (default: the terminal's)")
    parser.add_argument("--height", type=_cells, metavar="H", help="of the picture, in rows (default: 24)")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON instead")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on standard error")
    _add_model_options(parser)
    _add_look_options(parser)
    _add_log_options(parser)
    return parser


def _add_roles_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--roles", action="store_true", help="also measure what the heads do on repeated random tokens (induction, ...)"
    )


def _add_corpus_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "corpus",
        "Each text is cut into windows of the model's context, or of --max-tokens. Start it with torchrun to "
        "share the windows out to several processes or GPUs.",
    )
    group.add_argument("--corpus", metavar="FILE", help="a text file, a folder of them, or a .jsonl file")
    group.add_argument("--field", metavar="NAME", help="the field of a .jsonl line with the text (text or prompt)")
    group.add_argument("--limit", type=_positive, metavar="N", help="read N windows at most")
    group.add_argument("--resume", action="store_true", help="go on with what an interrupted run has kept")
    group.add_argument(
        "--save-every", type=_seconds, default=30.0, metavar="S", help="keep what was read every S seconds (30)"
    )


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model and prompt")
    prompt = group.add_mutually_exclusive_group()
    prompt.add_argument("--prompt", metavar="TEXT", help="the text to run the model on; `-` reads standard input")
    prompt.add_argument("--prompt-file", metavar="FILE", help="read the prompt from a file")
    group.add_argument("--bos", action="store_true", help="begin with the tokenizer's beginning-of-sequence token")
    group.add_argument("--chat", action="store_true", help="wrap the prompt in the tokenizer's chat template")
    group.add_argument("--revision", metavar="R", help="a branch, tag or commit of the hub repository")
    group.add_argument("--dtype", default="auto", metavar="D", help="auto, float32, bfloat16, float16")
    group.add_argument("--device", metavar="DEV", help="cpu, cuda, cuda:1 (default: a GPU if there is one)")
    group.add_argument("--device-map", metavar="MAP", help="`auto` spreads the layers over several devices")
    group.add_argument("--max-tokens", type=_positive, metavar="N", help="cut the prompt after N tokens")
    group.add_argument("--max-memory", metavar="SIZE", help="no more than that on a device, like 8GB")
    group.add_argument(
        "--timeout", type=_positive_seconds, default=60.0, metavar="S", help="give the hub up after S idle seconds (60)"
    )
    group.add_argument("--allow-pickle", action="store_true", help="open parameters whose format can run code")
    group.add_argument(
        "--recipe", default="true", metavar="R", help="true, or a control that is not the model's: literal, content"
    )


def _add_look_options(parser: argparse.ArgumentParser, estimator: str = "reflected") -> None:
    group = parser.add_argument_group("picture")
    group.add_argument("--population", default="final", metavar="P", help="final, self, past, all")
    group.add_argument("--sink", default="with", metavar="S", help="with, without, only")
    group.add_argument("--estimator", default=estimator, metavar="E", help="reflected, gaussian, histogram, log")
    group.add_argument("--color-map", default="viridis", metavar="C", help="viridis, magma, cividis, gray, inferno")
    group.add_argument("--color", default="auto", metavar="DEPTH", help="auto, truecolor, 256, 16, none")
    group.add_argument("--no-color", action="store_const", const="none", dest="color", help="the same as --color none")
    group.add_argument("--ascii", action="store_true", help="nothing but ASCII characters")


def _add_log_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("log")
    group.add_argument("--log-file", metavar="FILE", help="write the log there (default: in the XDG state folder)")
    group.add_argument("-v", "--verbose", action="store_true", help="more of it")
    group.add_argument("--log-prompt", action="store_true", help="with the prompt's text, which is left out else")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value


def _positive_seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is no time to wait")
    return value


def _seconds(text: str) -> float:
    return 0.0 if float(text) == 0 else _positive_seconds(text)


def _at_most(text: str, most: int) -> int:
    value = int(text)
    if not 1 <= value <= most:
        raise argparse.ArgumentTypeError(f"{value} is not in 1 to {most:,}")
    return value


_cells = partial(_at_most, most=MOST_CELLS)
_points = partial(_at_most, most=MOST_GRID)


# -- the commands ----------------------------------------------------------------------------------------------------


def explore(options: argparse.Namespace) -> int:
    """Open the explorer."""
    from laminar_tui.ui.start import start_app

    return start_app(options)


def capture(options: argparse.Namespace) -> int:
    """Read the weights into a profile file."""
    if not options.output and not options.json:
        raise UsageError("there is nowhere to put the profile", "name a file with -o FILE.laminar")
    _check_target(options.output)
    if options.corpus is not None:
        return _capture_corpus(options)
    for name in ("field", "limit", "resume"):
        if getattr(options, name):
            raise UsageError(f"--{name} is about a corpus", "name one with --corpus FILE")
    record = _keep_capture(options)
    try:
        profile = _run(options, quiet=options.quiet, record=record)
    except BaseException:
        _say_kept(record)
        raise
    if options.output == "-":
        from laminar_tui.profile.file import profile_bytes

        sys.stdout.buffer.write(profile_bytes(profile))
    elif options.output:
        profile.save(options.output)
        if not options.quiet:
            print(f"wrote {_shown(options.output)}", file=sys.stderr)
    if options.json:
        from laminar_tui.export import profile_summary

        print(profile_summary(profile))
    _forget(record, options.output)
    return _trust(profile)


def _keep_capture(options: argparse.Namespace) -> "Record":
    """Begin to keep a capture's layers, beside its file or in the state folder, and say what was cut off before."""
    from laminar_tui.record import Record
    from laminar_tui.recovery import find_cut_off, journal_beside, runs_folder
    from laminar_tui.render.text import visible

    def say(sentence: str) -> None:
        print(f"laminar-tui: {visible(sentence)}", file=sys.stderr)

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
        print(f"laminar-tui: {record.journal.n_layers} layers are kept: laminar-tui {path}", file=sys.stderr)
        record.close()


def _forget(record: "Record", output: str | None) -> None:
    """Take away what was kept of a capture, and of an earlier one into the same file: the whole is there now."""
    from laminar_tui.profile.journal import partial_path
    from laminar_tui.recovery import old_path

    record.remove()
    if output and output != "-":
        old_path(partial_path(as_path(output))).unlink(missing_ok=True)


def _capture_corpus(options: argparse.Namespace) -> int:
    """Read every window of a corpus; of several processes one writes and tells."""
    from laminar_tui.corpus_run import CorpusRequest, Place, capture_corpus

    if options.prompt is not None or options.prompt_file is not None:
        raise UsageError("a prompt and a corpus are two runs", "leave one of them out")
    if not options.output or options.output == "-":
        raise UsageError("there is nowhere to put the profile", "name a file with -o FILE.laminar")
    if options.take_null or options.roles:
        what = "--null" if options.take_null else "--roles"
        raise UsageError(f"{what} is not read on a corpus", f"capture a prompt with {what}, and the corpus without")
    request = CorpusRequest(
        make_request(options),
        options.corpus,
        as_path(options.output),
        options.field,
        options.limit,
        options.resume,
        options.save_every,
    )
    narrate = (lambda _event: None) if options.quiet or Place.from_environment().rank else _Narrator()
    try:
        with _signals_heard() as is_cancelled:
            profile = capture_corpus(request, narrate, is_cancelled)
    finally:
        if isinstance(narrate, _Narrator):
            narrate.close()
    if profile is None:
        return int(ExitCode.DONE)
    if not options.quiet:
        n_prompts, n_tokens = profile.origin.n_prompts, profile.total_tokens
        print(f"wrote {options.output}: {n_prompts:,} prompts, {n_tokens:,} tokens", file=sys.stderr)
    if options.json:
        from laminar_tui.export import profile_summary

        print(profile_summary(profile))
    return _trust(profile)


@contextmanager
def _signals_heard() -> Iterator[Callable[[], bool]]:
    """Take a first Ctrl+C or TERM as a wish to stop at the next layer, so that what was read can be kept."""
    heard: list[int] = []

    def hear(number: int, _frame: object) -> None:
        if heard and number == signal.SIGINT:
            raise KeyboardInterrupt
        heard.append(number)

    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(heard)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _trust(profile: "Profile | SweepStep") -> int:
    """Say which checks failed; the exit code is 3 then."""
    from laminar_tui.render.text import visible

    for failed in profile.origin.failed_checks:
        print(f"laminar-tui: NOT TO BE TRUSTED: {visible(failed.name)}: {visible(failed.found)}", file=sys.stderr)
    return int(ExitCode.UNTRUSTED if profile.origin.failed_checks else ExitCode.DONE)


def _check_target(output: str | None) -> None:
    """Find out before minutes of work whether there is a place for their result."""
    if output and output != "-":
        from laminar_tui.files import check_replaceable

        folder = as_path(output).absolute().parent
        if not folder.is_dir():
            raise UsageError(f"there is no folder {folder}", "make it first, or write somewhere else")
        check_replaceable(as_path(output))


def check(options: argparse.Namespace) -> int:
    """Prove on a model that what is read is what it uses."""
    from laminar_tui.run import check as check_source

    narrate = (lambda _event: None) if options.quiet else _Narrator()
    try:
        verdict = check_source(make_request(options), narrate)
    finally:
        if isinstance(narrate, _Narrator):
            narrate.close()
    if options.json:
        import dataclasses
        import json

        print(json.dumps({"passed": verdict.passed, **dataclasses.asdict(verdict)}))
    else:
        _print_verdict(verdict)
    return int(ExitCode.DONE if verdict.passed else ExitCode.UNTRUSTED)


def _print_verdict(verdict: "Verdict") -> None:
    controls = list(verdict.layers[0].controls) if verdict.layers else []
    print("layer  max difference  total variation" + "".join(f"  {name:>9}" for name in controls))
    for layer in verdict.layers:
        row = f"{layer.layer:5}  {layer.max_difference:14.1e}  {layer.total_variation:15.1e}"
        print(row + "".join(f"  {layer.controls[name]:9.3f}" for name in controls))
    if controls:
        print("(total variation of a query's weights against the eager run's, the mean over heads and queries)")
    print()
    for each in verdict.checks:
        print(f"{'ok  ' if each.passed else 'FAIL'}  {each.name}: {each.found}")
    print(f"\n{'passed' if verdict.passed else 'FAILED'}")


def show(options: argparse.Namespace) -> int:
    """Print a view of a profile, or of a model that is run for it."""
    from laminar_tui.profile.density import find_estimator
    from laminar_tui.profile.parts import population_parts
    from laminar_tui.render.columns import Look
    from laminar_tui.render.palette import SCALES
    from laminar_tui.render.rows import to_ansi
    from laminar_tui.render.views import VIEWS, Page, Place

    population_parts(options.population, options.sink)
    find_estimator(options.estimator)
    ramp = make_terminal_ramp(options)
    name = options.view or ("overview" if options.layer is None else "layer" if options.head is None else "head")
    if name not in VIEWS:
        raise UsageError(f"there is no view '{name}'", f"choose one of: {', '.join(VIEWS)}")
    if options.head is not None and options.layer is None:
        raise UsageError("--head needs a --layer", "for example --layer 2 --head 3")
    profile = _open(options)
    if options.layer is not None:
        profile.layer(options.layer)
        if options.head is not None:
            profile.check_head(options.layer, options.head)
    if options.json:
        from laminar_tui.export import profile_summary

        print(profile_summary(profile))
        return int(ExitCode.DONE)
    look = Look(options.population, options.sink, options.estimator, SCALES[0])
    width = options.width or shutil.get_terminal_size((80, 24)).columns
    page = Page(max(20, width), max(8, options.height or 24), ramp, options.ascii)
    rows = VIEWS[name](profile, look, Place(options.layer, options.head), page)
    sys.stdout.write(to_ansi(rows, ramp.depth))
    return _trust(profile)


def tail(options: argparse.Namespace) -> int:
    """Follow a capture that another process is running."""
    from laminar_tui.tail import print_growth

    if sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty() and not options.plain:
        from laminar_tui.ui.start import start_tail

        return start_tail(options)
    return _trust(print_growth(as_path(options.source)))


def export(options: argparse.Namespace) -> int:
    """Write a profile in another format."""
    from laminar_tui.export import export_profile
    from laminar_tui.profile.profile import Profile

    profile = Profile.load(options.source)
    export_profile(
        profile,
        options.to,
        options.output if options.output == "-" else as_path(options.output),
        estimator=options.estimator,
        n_grid=options.n_grid,
        population=options.population,
        sink=options.sink,
        layer=options.layer,
    )
    return int(ExitCode.DONE)


def report_claims(options: argparse.Namespace) -> int:
    """Put the claims about a profile to the numbers."""
    from laminar_tui.profile.report import make_report, report_json, report_markdown

    formats = {"markdown": report_markdown, "json": report_json}
    _check_format(options.format, formats)
    _check_target(options.output)
    profile, nulls = _open_with_nulls(options)
    text = formats[options.format](make_report(profile, nulls))
    _put_out(text if text.endswith("\n") else text + "\n", options.output)
    return _trust(profile)


def _open_with_nulls(options: argparse.Namespace) -> "tuple[Profile, dict[str, Profile]]":
    """Load a profile or run a model, and the nulls that were asked for, on one model in memory."""
    from dataclasses import replace

    from laminar_tui.profile.profile import Profile
    from laminar_tui.run import Session

    if _names_profile(options.source):
        needs_model = [null for null in options.null if not _names_profile(null)]
        if needs_model or options.roles:
            what = f"the null '{needs_model[0]}' needs" if needs_model else "roles need"
            raise UsageError(f"{what} the model, not a profile of it", "name the model, or capture it beforehand")
        profile = Profile.load(as_path(options.source))
    named = {name: Profile.load(as_path(name)) for name in options.null if _names_profile(name)}
    nulls = {
        f"{null.origin.recipe.removeprefix('null: ')} ({as_path(name).name})": null for name, null in named.items()
    }
    if not _names_profile(options.source):
        session, request = Session(), make_request(options)
        with _narrated(options.quiet) as narrate:
            profile = session.run(request, narrate, lambda: False)
            for name in options.null:
                if name not in named:
                    null = session.run(replace(request, null=name, roles=False), narrate, lambda: False)
                    nulls[null.origin.recipe.removeprefix("null: ")] = null
    return profile, nulls


def _check_format(name: str, formats: Mapping[str, object]) -> None:
    if name not in formats:
        raise UsageError(f"there is no format '{name}'", f"choose one of: {', '.join(formats)}")


def _put_out(text: str, output: str | None) -> None:
    """Print lines, or write them to a file; no character of a prompt or a name reaches the terminal as it is."""
    from laminar_tui.files import write_bytes
    from laminar_tui.render.text import visible

    harmless = "".join(f"{visible(line)}\n" for line in text.split("\n")[:-1])
    if output and output != "-":
        write_bytes(as_path(output), harmless.encode())
    else:
        sys.stdout.write(harmless)


def compare_profiles(options: argparse.Namespace) -> int:
    """Say what changed between two profiles."""
    from laminar_tui.profile.compare import compare, comparison_json, comparison_text
    from laminar_tui.profile.profile import Profile

    formats = {"text": comparison_text, "json": comparison_json}
    _check_format(options.format, formats)
    one, other = (Profile.load(as_path(name)) for name in (options.source, options.other))
    text = formats[options.format](compare(one, other, options.population, options.sink))
    _put_out(text if text.endswith("\n") else text + "\n", None)
    return int(ExitCode.DONE)


def sweep(options: argparse.Namespace) -> int:
    """Show a model over its training."""
    from dataclasses import replace

    from laminar_tui.profile.density import find_estimator
    from laminar_tui.profile.parts import population_parts
    from laminar_tui.profile.sweep import Place, make_sweep, name_profiles, read_step, sweep_json

    population_parts(options.population, options.sink)
    find_estimator(options.estimator)
    make_terminal_ramp(options)
    if options.head is not None and options.layer is None:
        raise UsageError("--head needs a --layer", "for example --layer 2 --head 3")
    place = Place(options.layer, options.head, options.population, options.sink)
    steps = [read_step(profile, name, place) for name, profile in _sweep_profiles(options)]
    names = [step.name for step in steps]
    if options.revisions is None:
        names = name_profiles([step.origin for step in steps], names)
    found = make_sweep([replace(step, name=name) for step, name in zip(steps, names, strict=True)], place)
    if options.json:
        print(sweep_json(found))
    else:
        _print_sweep(found, options)
    return max(_trust(step) for step in found.steps)


def _sweep_profiles(options: argparse.Namespace) -> "Iterator[tuple[str, Profile]]":
    """Load the profiles that were named, or read a model at each revision; one at a time, with a name for each."""
    from laminar_tui.profile.profile import Profile
    from laminar_tui.sweep_run import SweepRequest, capture_sweep, parse_revisions

    if options.revisions is None:
        for name in options.sources:
            if not _names_profile(name):
                raise UsageError(f"{name} is no profile", "a model is read at several revisions: --revisions R,R")
            yield as_path(name).stem, Profile.load(as_path(name))
        return
    if len(options.sources) > 1 or _names_profile(options.sources[0]):
        raise UsageError("--revisions are of one model", "name the model alone, or profiles without --revisions")
    if options.revision:
        raise UsageError("--revision and --revisions are two things", "leave one of them out")
    options.source = options.sources[0]
    revisions = parse_revisions(options.revisions)
    folder = None if options.output is None else as_path(options.output)
    with _only_results(), _narrated(options.quiet) as narrate:
        profiles = capture_sweep(SweepRequest(make_request(options), revisions, folder), narrate, lambda: False)
        yield from zip(revisions, profiles, strict=True)


def _print_sweep(found: "Sweep", options: argparse.Namespace) -> None:
    from laminar_tui.render.columns import Look
    from laminar_tui.render.palette import SCALES
    from laminar_tui.render.rows import to_ansi
    from laminar_tui.render.sweep import draw_sweep
    from laminar_tui.render.views import Page

    ramp = make_terminal_ramp(options)
    width = options.width or shutil.get_terminal_size((80, 24)).columns
    page = Page(max(20, width), max(8, options.height or 24), ramp, options.ascii)
    look = Look(options.population, options.sink, options.estimator, SCALES[0])
    sys.stdout.write(to_ansi(draw_sweep(found, look, page), ramp.depth))


COMMANDS: dict[str, tuple[Callable[[], argparse.ArgumentParser], Command]] = {
    "": (_explore_parser, explore),
    "capture": (_capture_parser, capture),
    "show": (_show_parser, show),
    "export": (_export_parser, export),
    "report": (_report_parser, report_claims),
    "compare": (_compare_parser, compare_profiles),
    "sweep": (_sweep_parser, sweep),
    "tail": (_tail_parser, tail),
    "check": (_check_parser, check),
}


# -- what the commands share -----------------------------------------------------------------------------------------


def _open(options: argparse.Namespace) -> "Profile":
    """Load a profile, or run the model that was named."""
    from laminar_tui.profile.file import SUFFIX, looks_like_profile
    from laminar_tui.profile.profile import Profile

    path = as_path(options.source)
    if options.source and (path.suffix == SUFFIX or looks_like_profile(path)):
        return Profile.load(path)
    return _run(options, quiet=False)


def _run(options: argparse.Namespace, *, quiet: bool, record: "Record | None" = None) -> "Profile":
    """Run the model that was asked for; what is read on the way goes into a record."""
    from laminar_tui.record import Record
    from laminar_tui.run import run

    narrate = (lambda _event: None) if quiet else _Narrator()
    request = make_request(options) if record is None else record.request
    kept = record or Record(request)

    def listen(event: "Event") -> None:
        kept.take(event)
        narrate(event)

    try:
        with _only_results():
            profile = run(request, listen)
        kept.end(profile)
    except BaseException as error:
        kept.fail(error)
        if isinstance(error, CancelledError):
            raise KeyboardInterrupt from None
        raise
    finally:
        if isinstance(narrate, _Narrator):
            narrate.close()
    return profile


def _names_profile(name: str) -> bool:
    """Whether a name is that of a saved profile."""
    from laminar_tui.profile.file import SUFFIX, looks_like_profile

    path = as_path(name)
    return bool(name) and (path.suffix == SUFFIX or looks_like_profile(path))


@contextmanager
def _narrated(quiet: bool) -> "Iterator[Callable[[Event], None]]":
    """Tell what is going on unless that is not wanted; a cancelled run is an interrupted command."""
    narrate = _Narrator()
    try:
        yield (lambda _event: None) if quiet else narrate
    except CancelledError:
        raise KeyboardInterrupt from None
    finally:
        narrate.close()


@contextmanager
def _only_results() -> Iterator[None]:
    """Keep what libraries print during a run, C code included, out of standard output: that is for the result."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


class _Narrator:
    """Tells on standard error what is going on: one line that is rewritten on a terminal, few lines elsewhere."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._is_terminal = sys.stderr.isatty()
        self._last = ""
        self._told_at = 0.0

    def __call__(self, event: "Event") -> None:
        from laminar_tui.render.text import visible
        from laminar_tui.run import Step

        if not isinstance(event, Step):
            return
        name = visible(event.name)
        progress = f" {event.done} of {event.total}" if event.total else ""
        now = time.monotonic()
        if self._is_terminal:
            if name == self._last and event.done < event.total and now - self._told_at < 0.25:
                return
            elapsed = now - self._started
            print(f"\r\x1b[K{name}{progress}  {elapsed:.1f} s", end="", file=sys.stderr, flush=True)
        elif name != self._last:
            print(name, file=sys.stderr, flush=True)
        self._last, self._told_at = name, now

    def close(self) -> None:
        """End the line."""
        if self._is_terminal and self._last:
            print(file=sys.stderr)

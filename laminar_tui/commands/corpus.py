"""`laminar-tui capture --corpus`: every window of many texts, in one process or several."""

import argparse
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from laminar_tui.commands.arguments import positive, seconds
from laminar_tui.commands.narration import narrated
from laminar_tui.commands.results import shown, tell, tell_trust
from laminar_tui.errors import ExitCode, UsageError
from laminar_tui.options import make_request
from laminar_tui.source import as_path


def add_corpus_options(parser: argparse.ArgumentParser) -> None:
    """Let `capture` read a corpus in place of a prompt."""
    group = parser.add_argument_group(
        "corpus",
        "Each text is cut into windows of the model's context, or of --max-tokens. Start it with torchrun to "
        "share the windows out to several processes or GPUs. A text file's last line break is left out. Ctrl+C pauses: "
        "what was read is kept in FILE.progress, and the same command with --resume goes on there. `laminar-tui tail "
        "FILE` shows the counts so far.",
    )
    group.add_argument("--corpus", metavar="FILE", help="a text file, a folder of them, or a .jsonl file")
    group.add_argument("--field", metavar="NAME", help="the field of a .jsonl line with the text (text or prompt)")
    group.add_argument("--limit", type=positive, metavar="N", help="read N windows at most")
    group.add_argument("--resume", action="store_true", help="go on with what an interrupted run has kept")
    group.add_argument(
        "--save-every", type=seconds, default=30.0, metavar="S", help="keep what was read every S seconds (30)"
    )
    group.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="use N threads of a CPU in each process (default: as torch finds it, or as the run had that goes on)",
    )


def capture_corpus(options: argparse.Namespace) -> int:
    """Read every window of a corpus; of several processes one writes and tells."""
    from laminar_tui.corpus_run import CorpusRequest, Process, find_finished
    from laminar_tui.corpus_run import capture_corpus as run_corpus

    if options.prompt is not None or options.prompt_file is not None:
        raise UsageError("a prompt and a corpus are two runs", "leave one of them out")
    if not options.output or options.output == "-":
        raise UsageError("there is nowhere to put the profile", "name a file with -o FILE.laminar")
    if options.chat:
        raise UsageError("--chat is not read on a corpus", "capture a prompt with --chat, and the corpus without")
    request = CorpusRequest(
        make_request(options),
        options.corpus,
        as_path(options.output),
        options.field,
        options.limit,
        options.resume,
        options.save_every,
        options.threads,
    )
    is_quiet = options.quiet or Process.from_environment().rank > 0
    finished = profile = find_finished(request)
    if finished is None:
        with narrated(is_quiet) as narrate, _signals_heard() as is_cancelled:
            profile = run_corpus(request, narrate, is_cancelled)
    if profile is None or Process.from_environment().rank > 0:
        return int(ExitCode.DONE)
    if not options.quiet:
        n_prompts, n_tokens = profile.origin.n_prompts, profile.total_tokens
        prompts = f"{n_prompts:,} {'prompt' if n_prompts == 1 else 'prompts'}"
        size = f"{prompts}, {n_tokens:,} tokens"
        if finished is None:
            tell(f"wrote {shown(options.output)}: {size}")
        else:
            tell(f"{shown(options.output)} is complete: nothing to go on with ({size})")
    if options.json:
        from laminar_tui.export import profile_summary

        print(profile_summary(profile))
    return tell_trust(profile)


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

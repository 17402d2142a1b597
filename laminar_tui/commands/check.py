"""`laminar-tui check`: prove on a model that what is read is what it uses."""

import argparse
from typing import TYPE_CHECKING

from laminar_tui.commands.arguments import add_log_options, add_model_options
from laminar_tui.commands.narration import narrated, only_results
from laminar_tui.errors import ExitCode
from laminar_tui.options import make_request

if TYPE_CHECKING:
    from laminar_tui.model.check import Verdict


def make_parser() -> argparse.ArgumentParser:
    """Give the words that it takes."""
    parser = argparse.ArgumentParser(
        "laminar-tui check",
        description="Compare every weight that is read with the model's own eager run, layer by layer, on a short "
        "prompt (at most 128 tokens), and with readings that are known to be wrong.",
    )
    parser.add_argument("source", nargs="?", default="", metavar="SOURCE", help="hub id, folder or .gguf file")
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on standard error")
    add_model_options(parser)
    add_log_options(parser)
    return parser


def check(options: argparse.Namespace) -> int:
    """Prove on a model that what is read is what it uses."""
    from laminar_tui.run import check as check_source

    with only_results(), narrated(options.quiet) as narrate:
        verdict = check_source(make_request(options), narrate)
    if options.json:
        import dataclasses

        from laminar_tui.export import dump_json

        print(dump_json({"passed": verdict.passed, **dataclasses.asdict(verdict)}))
    else:
        _print_verdict(verdict)
    return int(ExitCode.DONE if verdict.passed else ExitCode.UNTRUSTED)


def _print_verdict(verdict: "Verdict") -> None:
    from laminar_tui.render.numbers import number

    controls = list(verdict.layers[0].controls) if verdict.layers else []
    print("layer  max difference  total variation" + "".join(f"  {name:>9}" for name in controls))
    for layer in verdict.layers:
        row = f"{layer.layer:5}  {number(layer.max_difference):>14}  {number(layer.total_variation):>15}"
        print(row + "".join(f"  {layer.controls[name]:9.3f}" for name in controls))
    if controls:
        print("(total variation of a query's weights against the eager run's, the mean over heads and queries)")
    print()
    for each in verdict.checks:
        print(f"{'ok  ' if each.passed else 'FAIL'}  {each.name}: {each.found}")
    print(f"\n{'passed' if verdict.passed else 'FAILED'}")

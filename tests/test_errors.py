"""What a user can do something about: the hint is told on the command line once, in the log, and to a script."""

import traceback
from pathlib import Path

import pytest

from laminar_tui.cli import main
from laminar_tui.errors import LaminarError, UsageError
from laminar_tui.log import start_log, stop_log
from laminar_tui.record import Record
from laminar_tui.run import SAMPLE_PROFILE, Request


def test_a_scripts_traceback_ends_with_the_hint() -> None:
    lines = traceback.format_exception(UsageError("there is no layer 9", "take another one"))
    assert [line.strip() for line in lines[-2:]] == [
        "laminar_tui.errors.UsageError: there is no layer 9",
        "take another one",
    ]
    assert "".join(traceback.format_exception(LaminarError("what"))).strip().endswith("LaminarError: what")


def test_the_command_line_tells_the_hint_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(SAMPLE_PROFILE), "--layer", "99"]) == 2
    assert capsys.readouterr().err.count("has layers 0 to 29") == 1


def test_the_log_has_the_hint_once(tmp_path: Path) -> None:
    start_log(tmp_path / "here.log")
    try:
        Record(Request(prompt="abcdef")).fail(UsageError("no", "take another one"))
    finally:
        stop_log()
    assert (tmp_path / "here.log").read_text().count("take another one") == 1

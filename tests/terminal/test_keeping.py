"""What is kept when a run is cut off in any way, what its end leaves of the terminal, and how it is offered again."""

import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from emulator import SLOW, assert_given_back, clean_environment, program

from laminar_tui.profile.journal import Journal, partial_path, read_journal
from laminar_tui.profile.profile import Profile

pytestmark = pytest.mark.terminal

Emulate = Callable[..., Any]
SECRET = "the eagle lands at noon"
N_LAYERS = 4
TERMINAL_IS_LATE = 5.0
"""Seconds for what takes half of one on a quiet machine."""


class Scripted:
    """The explorer on a run whose layers are read when the test says so."""

    def __init__(self, emulate: Emulate, profile: Path, folder: Path) -> None:
        self._emulate, self._profile, self._folder = emulate, profile, folder
        self.gate = folder / "gate"
        self.gate.mkdir()
        self.n_open = 0

    def words(self, behaviour: str, *words: str) -> list[str]:
        script = Path(__file__).parent / "scripted.py"
        return [sys.executable, str(script), str(self._profile), str(self.gate), behaviour, *words]

    def start(self, behaviour: str = "plain", *words: str, n_layers: int = 0, runs: bool = True, **options: Any) -> Any:
        prompt = ["--prompt", SECRET] if runs else []  # which is refused beside a profile
        emulator = self._emulate(command=self.words(behaviour, *prompt, *words), **options)
        self.read(n_layers)
        if n_layers:
            emulator.until("not saved" if n_layers == N_LAYERS else f"layer {n_layers} of")
        return emulator

    def read(self, n_layers: int) -> None:
        for index in range(self.n_open, self.n_open + n_layers):
            (self.gate / str(index)).touch()
        self.n_open += n_layers

    @property
    def journals(self) -> list[Path]:
        return sorted((self._folder / "state" / "laminar_tui" / "runs").glob("*.journal"))

    @property
    def log(self) -> str:
        return (self._folder / "state" / "laminar_tui" / "laminar.log").read_text(errors="replace")


@pytest.fixture
def scripted(emulate: Emulate, small_profile: Profile, tmp_path: Path) -> Scripted:
    """The explorer on a scripted run of four layers, the second of them without attention."""
    path = tmp_path / "source.laminar"
    small_profile.save(path)
    return Scripted(emulate, path, tmp_path)


def wait_until(holds: Callable[[], bool], what: str, timeout: float = SLOW) -> None:
    end = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.02)


# -- cut off ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGKILL, 137)],
    ids=["TERM", "HUP", "INT", "KILL"],
)
def test_a_signal_during_a_forward_keeps_what_was_read(scripted: Scripted, number: int, code: int) -> None:
    emulator = scripted.start("deaf", n_layers=3)
    (journal,) = scripted.journals
    began = time.monotonic()
    emulator.signal(number)
    assert emulator.exit_code() == code
    assert time.monotonic() - began < TERMINAL_IS_LATE
    if number != signal.SIGKILL:
        assert_given_back(emulator.received)
        assert f"leaving on signal {int(number)}" in scripted.log
    assert read_journal(journal).n_read == 2
    assert SECRET not in scripted.log


def test_a_closed_terminal_keeps_what_was_read(scripted: Scripted) -> None:
    emulator = scripted.start("deaf", n_layers=3)
    emulator.hang_up()
    assert emulator._wait_for_end(time.monotonic() + SLOW) == 129
    assert read_journal(scripted.journals[0]).n_read == 2


def test_a_terminal_closed_without_any_signal_leaves_no_busy_process(scripted: Scripted, tmp_path: Path) -> None:
    # The shell leads the session, so it alone is told of the hang-up; it does not listen, nor does what it starts.
    line = f"trap '' HUP; {shlex.join(scripted.words('deaf', '--prompt', SECRET))}; echo $? > {tmp_path / 'code'}"
    emulator = scripted._emulate(command=["/bin/sh", "-c", line])
    scripted.read(3)
    emulator.until("layer 3 of")
    emulator.hang_up()
    wait_until((tmp_path / "code").exists, "the process ends")
    wait_until(lambda: (tmp_path / "code").read_text() == "129\n", "its exit code")
    assert read_journal(scripted.journals[0]).n_read == 2


def test_quitting_during_a_forward_is_quick_and_keeps_nothing(scripted: Scripted) -> None:
    emulator = scripted.start("busy", n_layers=3)
    began = time.monotonic()
    emulator.type("q")
    assert emulator.exit_code() == 0
    assert time.monotonic() - began < TERMINAL_IS_LATE
    assert_given_back(emulator.received)
    assert scripted.journals == [], "who quits without writing goes without it"


def test_a_run_that_is_written_needs_no_journal_and_one_that_is_not_keeps_it(
    scripted: Scripted, tmp_path: Path
) -> None:
    emulator = scripted.start(n_layers=N_LAYERS)
    assert len(scripted.journals) == 1
    emulator.type("w")
    emulator.until("Enter writes")
    emulator.type("\r")
    emulator.until("saved as model.laminar")
    assert scripted.journals == []
    emulator.signal(signal.SIGTERM)
    assert emulator.exit_code() == 143
    assert (tmp_path / "model.laminar").exists()


# -- offered again ---------------------------------------------------------------------------------------------------


@pytest.fixture
def cut_off(scripted: Scripted) -> Scripted:
    """A run was killed after two layers."""
    emulator = scripted.start(n_layers=3)
    emulator.signal(signal.SIGKILL)
    assert emulator.exit_code() == 137
    return scripted


def test_the_next_start_offers_it_and_enter_opens_it(cut_off: Scripted, tmp_path: Path) -> None:
    emulator = cut_off.start()
    emulator.until("was cut off after 2 of 4")
    assert re.search(r"a run of tiny/model from .* was cut off", emulator.text)
    emulator.until("Enter opens it")
    emulator.type("\r")
    emulator.until("not checked as a whole")
    emulator.type("l")
    emulator.until("2 of 4 layers")
    emulator.type("w")
    emulator.until("Enter writes")
    emulator.type("\r")
    emulator.until("saved as model.laminar")
    assert cut_off.journals == []
    assert Profile.load(tmp_path / "model.laminar").n_read == 2
    emulator.type("q")
    assert emulator.exit_code() == 0


def test_what_was_typed_while_the_program_started_is_no_answer(cut_off: Scripted) -> None:
    emulator = cut_off.start()
    emulator.type("\r\rq\r")
    emulator.until("was cut off")
    emulator.type("\rq")
    emulator.until("Enter opens it")
    assert "was cut off after 2 of 4" in emulator.text
    assert len(cut_off.journals) == 1
    emulator.type("q")
    assert emulator.exit_code() == 0


def test_esc_forgets_it_and_begins_the_run(cut_off: Scripted) -> None:
    emulator = cut_off.start()
    emulator.until("was cut off")
    (old,) = cut_off.journals
    emulator.until("Esc forgets it")
    emulator.type("\x1b")
    emulator.until("layer 3 of 4")
    wait_until(lambda: len(cut_off.journals) == 1 and cut_off.journals[0] != old, "the new run has a journal")
    emulator.type("q")
    assert emulator.exit_code() == 0


def test_quitting_leaves_it_for_later_and_once_it_was_opened_it_is_listed_but_not_offered(cut_off: Scripted) -> None:
    for keys, shows in (("q", ""), ("\r", "not checked as a whole")):
        emulator = cut_off.start()
        emulator.until("q quits and leaves it")
        assert len(cut_off.journals) == 1
        emulator.type(keys)
        if shows:
            emulator.until(shows)
            emulator.type("q")
        assert emulator.exit_code() == 0
    assert cut_off.journals == []
    emulator = cut_off.start()
    emulator.until("layer 3 of 4")
    emulator.type("O")
    emulator.until(".opened")
    emulator.type("\x1b")
    emulator.until("layer 3 of 4")
    emulator.type("q")
    assert emulator.exit_code() == 0


def test_it_is_not_offered_to_one_who_opens_a_profile(
    cut_off: Scripted, tmp_path: Path, small_profile: Profile
) -> None:
    small_profile.save(tmp_path / "named.laminar")
    emulator = cut_off.start("plain", str(tmp_path / "named.laminar"), runs=False)
    emulator.until("of 4 layers")
    assert "cut off" not in emulator.text
    emulator.type("q")
    assert emulator.exit_code() == 0
    assert len(cut_off.journals) == 1


# -- what goes wrong -------------------------------------------------------------------------------------------------


def test_a_bug_in_the_run_is_shown_and_logged(scripted: Scripted) -> None:
    emulator = scripted.start("raise")
    scripted.read(3)
    emulator.until("a bug in laminar_tui: ZeroDivisionError")
    assert "owned" in emulator.text, "it is shown as text"
    emulator.type("`")
    emulator.until("laminar.log")
    emulator.until("ZeroDivisionError: an odd layer ␛[2J")
    emulator.type("`")
    emulator.until(lambda: "a bug in laminar_tui" in emulator.text)
    emulator.type("q")
    assert emulator.exit_code() == 0
    assert "Traceback" in scripted.log
    assert b"\x1b]0;owned" not in emulator.received


def test_a_bug_on_the_screen_gives_the_terminal_back_and_tells_no_secret(scripted: Scripted) -> None:
    emulator = scripted.start("ui", n_layers=3)
    emulator.type("i")
    assert emulator.exit_code() == 1
    assert_given_back(emulator.received)
    after = emulator.received.rsplit(b"\x1b[?1049l")[-1]
    assert b"a bug in laminar_tui: RuntimeError: bad screen" in after
    assert b"laminar.log" in after
    assert b"secret" not in after
    assert b"\x1b]0;owned" not in emulator.received
    assert "Traceback" in scripted.log
    assert "fail_on_screen" in scripted.log
    assert "the secret prompt" not in scripted.log.replace('f"the secret prompt {HOSTILE}"', "")
    assert read_journal(scripted.journals[0]).n_read == 2


def test_what_libraries_write_goes_into_the_log_and_not_over_the_picture(scripted: Scripted) -> None:
    emulator = scripted.start("noise", n_layers=N_LAYERS)
    emulator.quiet()
    assert b"noise" not in emulator.received
    assert b"\x1b]0;owned" not in emulator.received
    for words in ("noise on 1", "noise on 2", "noise printed", "noise printed as an error", "noise in a warning"):
        wait_until(lambda words=words: words in scripted.log, words)
    assert "noise from transformers" in scripted.log
    assert "WARNING" in next(line for line in scripted.log.splitlines() if "py.warnings" in line)
    emulator.type("`")
    emulator.until("laminar.log")
    emulator.until("noise")
    emulator.quiet()
    assert b"\x1b]0;owned" not in emulator.received
    emulator.type("`")
    emulator.until(lambda: "laminar.log" not in emulator.text and "noise" not in emulator.text)
    emulator.type("q")
    assert emulator.exit_code() == 0


@pytest.mark.parametrize("where", ["2> error", "< /dev/null 2> error"], ids=["stderr", "stdin and stderr"])
def test_without_one_of_its_streams_it_names_the_command_that_needs_none(
    where: str, emulate: Emulate, big_profile: Path, tmp_path: Path
) -> None:
    line = f"{shlex.join(program(str(big_profile)))} {where}"
    emulator = emulate(command=["/bin/sh", "-c", line])
    assert emulator.exit_code() == 2
    assert "laminar-tui show" in (tmp_path / "error").read_text()
    assert emulator.received == b""


def test_without_a_keyboard_it_says_so(emulate: Emulate, big_profile: Path) -> None:
    emulator = emulate(command=["/bin/sh", "-c", f"{shlex.join(program(str(big_profile)))} <&-"])
    assert emulator.exit_code() == 2
    assert "the explorer needs a terminal" in emulator.text


def test_colours_are_of_the_terminal_that_is_drawn_on(emulate: Emulate, big_profile: Path, tmp_path: Path) -> None:
    line = f"{shlex.join(program(str(big_profile)))} > {tmp_path / 'output'}"
    emulator = emulate(command=["/bin/sh", "-c", line])
    emulator.until("density, layer 0")
    assert b"38;2;" in emulator.received
    emulator.type("q")
    assert emulator.exit_code() == 0


# -- tail ------------------------------------------------------------------------------------------------------------


def test_tail_follows_another_process_s_capture_to_its_end(
    emulate: Emulate, small_profile: Profile, tmp_path: Path
) -> None:
    output = tmp_path / "out.laminar"
    emulator = emulate("tail", str(output))
    emulator.until("waiting for")
    emulator.quiet()
    before = len(emulator.received)
    emulator.quiet(1.0)
    assert len(emulator.received) == before, "nothing is sent while nothing comes"
    journal = Journal(partial_path(output))
    journal.begin(Profile(small_profile.origin, (None,) * 4))
    journal.add(0, small_profile.layer(0))
    emulator.until("layer 1 of 4")
    emulator.quiet()
    before = len(emulator.received)
    emulator.quiet(1.0)
    assert len(emulator.received) == before, "nothing is sent while nothing comes"
    journal.add(2, small_profile.layer(2))
    emulator.until("layer 3 of 4")
    small_profile.save(output)
    journal.remove()
    emulator.until("3 of 4 layers")
    emulator.until("saved as")
    emulator.type("q")
    assert emulator.exit_code() == 0
    assert_given_back(emulator.received)
    assert output.exists()


def test_esc_stops_following_and_not_what_is_followed(emulate: Emulate, small_profile: Profile, tmp_path: Path) -> None:
    output = tmp_path / "out.laminar"
    journal = Journal(partial_path(output))
    journal.begin(Profile(small_profile.origin, (None,) * 4))
    journal.add(0, small_profile.layer(0))
    emulator = emulate("tail", str(output))
    emulator.until("layer 1 of 4")
    emulator.type("\x1b")
    emulator.until("no longer followed; what writes out.laminar goes on")
    emulator.type("q")
    assert emulator.exit_code() == 0


def test_tail_says_when_the_capture_was_cut_off(emulate: Emulate, small_profile: Profile, tmp_path: Path) -> None:
    output = tmp_path / "out.laminar"
    journal = Journal(partial_path(output))
    journal.begin(Profile(small_profile.origin, (None,) * 4))
    journal.add(0, small_profile.layer(0))
    emulator = emulate("tail", "out.laminar")
    emulator.until("layer 1 of 4")
    journal.close()
    emulator.until("was cut off after 1 of 4 layers")
    emulator.type("q")
    assert emulator.exit_code() == 0
    assert partial_path(output).exists(), "it is not tail's to take away"


def test_ctrl_c_leaves_a_tail_that_waits(emulate: Emulate) -> None:
    emulator = emulate("tail", "--plain", "out.laminar")
    emulator.until("waiting for")
    emulator.type("\x03")
    assert emulator.exit_code() == 130


def test_a_capture_that_is_killed_leaves_what_it_has_read(scripted: Scripted, tmp_path: Path) -> None:
    """The real command, with a real model, stopped by a signal after its first layer."""
    import subprocess

    stop = (
        "import os, signal, sys, laminar_tui.record as record\n"
        "from laminar_tui.cli import main\n"
        "take = record.Record.take\n"
        "def cut(self, event):\n"
        "    take(self, event)\n"
        "    if isinstance(event, record.LayerRead): os.kill(os.getpid(), signal.SIGKILL)\n"
        "record.Record.take = cut\n"
        "main(['capture', '-q', '--prompt', sys.argv[1], '-o', 'out.laminar'])\n"
    )
    environment = clean_environment(tmp_path)
    words = [sys.executable, "-c", stop, SECRET]
    done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "out.laminar").exists()
    assert read_journal(tmp_path / "out.laminar.partial").n_read == 1
    assert os.stat(tmp_path / "out.laminar.partial").st_mode & 0o077 == 0  # noqa: PTH116
    show = program("show", "out.laminar.partial", "--color", "none")
    shown = subprocess.run(show, env=environment, cwd=tmp_path, capture_output=True, timeout=60, check=True)
    assert b"6L" in shown.stdout
    assert scripted.journals == []
